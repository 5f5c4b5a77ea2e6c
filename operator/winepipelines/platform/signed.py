"""Whether a model's record in MLflow is the work of this revision's own train step. Pure; called by `mlflow`.

Whoever may write to MLflow can write a run with any tags, metrics and times. So a record counts only if the train step has signed
it with the key of the namespace in which the run ran, see `winecontract.signatures`; no order that a client can choose decides.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from winecontract import signatures
from winecontract.signatures import SIGNATURE_TAG, Fault, Keys
from winecontract.text import clean
from winepipelines.platform.records import WORD_LIMIT, has_model
from winepipelines.resource.pipeline import GROUP

MOST_RUNS = 200  # that are looked at; a revision's own run writes one


@dataclass(frozen=True)
class Expected:
    """Whose record is looked for, and the keys that it must be signed with."""

    namespace: str
    uid: str
    revision: int
    kfp_run: str
    registered_model: str
    keys: Keys


@dataclass(frozen=True)
class Judged:
    """The runs whose models count, and why others do not: a reason and a message, empty where all do."""

    signed: tuple[Any, ...] = ()
    unsigned: tuple[Any, ...] = ()
    reason: str = ""
    message: str = ""


def judge(runs: Iterable[Any], expected: Expected, *, takes_unsigned: bool = False) -> Judged:
    """Tell which of the runs of a revision's Kubeflow run have a model that counts, in the order of their ids.

    With `takes_unsigned` those without any signature are listed too: an earlier version of the steps wrote none.
    """
    signed, unsigned, faults = list[Any](), list[Any](), list[tuple[Fault, str]]()
    for run in sorted(filter(has_model, runs), key=lambda run: str(run.info.run_id)):
        fault = _fault(run, expected)
        if fault is None:
            signed.append(run)
        elif takes_unsigned and not run.data.tags.get(SIGNATURE_TAG):
            unsigned.append(run)
        else:
            faults.append((fault, clean(run.info.run_id, WORD_LIMIT)))
    reason, message = _said(faults)
    return Judged(tuple(signed), tuple(unsigned), reason, message)


def _fault(run: Any, expected: Expected) -> Fault | None:
    tags = run.data.tags
    statement = signatures.statement(str(run.info.run_id), expected.registered_model, tags, run.data.metrics)
    fault = signatures.verify(statement, str(tags.get(SIGNATURE_TAG, "")), expected.keys)
    if fault is not None:
        return fault
    wanted = {
        "namespace": expected.namespace,
        "uid": expected.uid,
        "revision": str(expected.revision),
        "kfp-run": expected.kfp_run,
    }
    # The search has asked for the last three; a database may not tell upper from lower case.
    return None if all(tags.get(f"{GROUP}/{name}") == value for name, value in wanted.items()) else Fault.TAMPERED


def _said(faults: list[tuple[Fault, str]]) -> tuple[str, str]:
    """Say what is wrong with records that do not count, the worst first."""
    for fault, what, advice in (
        (
            Fault.TAMPERED,
            "does not fit its signature: someone else than this revision's train step has written or changed it",
            f"Find out who may write to MLflow, then train again: kubectl annotate … {GROUP}/retrain=<new value>",
        ),
        (
            Fault.UNSIGNED,
            f"has no signature that a key in the Secret {signatures.SECRET} has made: an earlier version of the steps wrote it, "
            "or the key was replaced meanwhile",
            f"Train again: kubectl annotate … {GROUP}/retrain=<new value>",
        ),
    ):
        ids = [run for found, run in faults if found is fault]
        if ids:
            more = f" (and {len(ids) - 1} more)" if len(ids) > 1 else ""
            return fault.value, f"the model of MLflow run {ids[0]}{more} is not used: its record {what}. {advice}"
    return "", ""
