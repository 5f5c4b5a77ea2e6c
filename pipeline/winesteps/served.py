"""Measure the served model on the new held-out rows, so that its metrics and those of the new model can be compared.

If it cannot be measured, the step still succeeds: that may be why a new model is needed. Problems are therefore returned as a
sentence, not raised. Nothing of the model is loaded before its files have the digest that the operator verified.
"""

import math
import re
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from winecontract.tags import SERVED, Tag
from winesteps import estimator, model, tracking
from winesteps.failures import describe, shorten

if TYPE_CHECKING:
    from mlflow import MlflowClient


class _Unmeasurable(Exception):
    """The served model cannot be measured; the text says why, as a sentence."""


@dataclass(frozen=True)
class Served:
    """The served model: its MLflow run and the digest of its folder. With `allow_unsigned` it is loaded without a digest too."""

    run_id: str = ""
    digest: str = ""
    allow_unsigned: bool = False


def measure(
    client: "MlflowClient", served: Served, record: tracking.Record, split: estimator.Split, target: str
) -> tuple[dict[str, float], str]:
    """Measure the served model: return `served_r2`, `served_rmse` and `served_mae`, or a sentence that says why there are none.

    Without a run, both are empty.
    """
    run_id = served.run_id
    if not run_id:
        return {}, ""
    try:
        return {f"{SERVED}{name}": value for name, value in _measured(client, served, record, split, target).items()}, ""
    except (_Unmeasurable, model.ModelRefusedError) as error:
        why = str(error)
    except Exception as error:  # the served model's, not the new one's
        why = f"it could not be loaded or did not predict: {describe(error)}"
    return {}, shorten(f"The served model (MLflow run {run_id[:64]}) could not be measured on the new data: {why}")


def _measured(
    client: "MlflowClient", served: Served, record: tracking.Record, split: estimator.Split, target: str
) -> dict[str, float]:
    run_id = served.run_id
    if not re.fullmatch("[A-Za-z0-9_-]{1,64}", run_id):
        raise _Unmeasurable("the id is not valid.")
    run = client.get_run(run_id)
    if run.data.tags.get(Tag.UID, "") != record.uid:  # loading a model runs its code
        raise _Unmeasurable("the run belongs to another resource, whose models are not loaded here.")
    if (predicts := run.data.params.get("target", target)) != target:
        raise _Unmeasurable(f"it predicts {predicts!r}, not {target!r}.")
    with tempfile.TemporaryDirectory() as folder:
        fetched = model.fetch(run, folder, record.tracking_uri)
        model.verify(fetched, served.digest, allow_unsigned=served.allow_unsigned)
        loaded = model.load(fetched)
        if missing := set(model.columns(loaded)) - set(split.x_test.columns):
            raise _Unmeasurable(f"it needs columns that the data no longer has: {', '.join(sorted(missing))}.")
        predicted = [float(value) for value in loaded.predict(split.x_test)]
    if not all(map(math.isfinite, predicted)):
        raise _Unmeasurable("it predicts values that are not finite.")
    return estimator.evaluate(split.y_test, predicted)
