"""The model that serves, measured on the new held-out rows: both models' numbers are then about the same rows. Called by `train`.

That it cannot be measured is no failure: the new model may be wanted for that very reason. So what goes wrong here is said, not
raised. Nothing of it is loaded before its files have the digest that the operator verified.
"""

import math
import re
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from winesteps import estimator, model, tracking
from winesteps.failures import describe, shorten

if TYPE_CHECKING:
    from mlflow import MlflowClient


class _Unmeasurable(Exception):
    """Why, in a sentence."""


@dataclass(frozen=True)
class Served:
    """The model that serves: its MLflow run and the digest of its folder. `allow_unsigned`: it may be loaded without a digest."""

    run_id: str = ""
    digest: str = ""
    allow_unsigned: bool = False


def measure(
    client: "MlflowClient", served: Served, record: tracking.Record, split: estimator.Split, target: str
) -> tuple[dict[str, float], str]:
    """Measure the model that serves: `served_r2`, `served_rmse` and `served_mae`, or none and a sentence that says why.

    Without a run there is neither.
    """
    run_id = served.run_id
    if not run_id:
        return {}, ""
    try:
        return {f"served_{name}": value for name, value in _measured(client, served, record, split, target).items()}, ""
    except (_Unmeasurable, model.ModelRefusedError) as error:
        why = str(error)
    except Exception as error:  # whatever it is: of the served model, not of this one
        why = f"it could not be loaded and asked: {describe(error)}"
    return {}, shorten(f"The model of MLflow run {run_id[:64]}, which serves, has no numbers on the new data: {why}")


def _measured(
    client: "MlflowClient", served: Served, record: tracking.Record, split: estimator.Split, target: str
) -> dict[str, float]:
    run_id = served.run_id
    if not re.fullmatch("[A-Za-z0-9_-]{1,64}", run_id):
        raise _Unmeasurable("that is no run's id.")
    run = client.get_run(run_id)
    if run.data.tags.get(f"{tracking.PREFIX}uid", "") != record.uid:  # loading a model runs its code
        raise _Unmeasurable("the run is of another resource, whose models are not loaded here.")
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
