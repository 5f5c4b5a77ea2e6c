"""Verify that this revision's own train step wrote a model's record in MLflow. Pure.

Whoever may write to MLflow can write a run with any tags, metrics and times. So a record is accepted only if the train step
signed it with the key of its namespace, see `winecontract.signatures`. Nothing depends on an order that a client can choose.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from winecontract import signatures
from winecontract.signatures import Fault, Keys
from winecontract.tags import Tag
from winecontract.text import clean
from winepipelines.api.pipeline import GROUP
from winepipelines.platform.records import WORD_LIMIT, has_model

MOST_RUNS = 200  # that are read; a revision's own run writes one


@dataclass(frozen=True)
class Expected:
    """The expected owner of a record, and the keys of which one must have signed it."""

    namespace: str
    uid: str
    revision: int
    kfp_run: str
    registered_model: str
    keys: Keys


@dataclass(frozen=True)
class Judged:
    """The runs with accepted models, and reason and message for the worst rejected one; empty if none was rejected."""

    signed: tuple[Any, ...] = ()
    unsigned: tuple[Any, ...] = ()
    reason: str = ""
    message: str = ""


def judge(runs: Iterable[Any], expected: Expected, *, takes_unsigned: bool = False) -> Judged:
    """Select the runs of a revision's Kubeflow run whose model is accepted, ordered by id.

    With `takes_unsigned`, runs without a signature are listed too: an earlier version of the steps wrote none.
    """
    signed, unsigned, faults = list[Any](), list[Any](), list[tuple[Fault, str]]()
    for run in sorted(filter(has_model, runs), key=lambda run: str(run.info.run_id)):
        fault = _fault(run, expected)
        if fault is None:
            signed.append(run)
        elif takes_unsigned and not run.data.tags.get(Tag.SIGNATURE):
            unsigned.append(run)
        else:
            faults.append((fault, clean(run.info.run_id, WORD_LIMIT)))
    reason, message = _describe(faults)
    return Judged(tuple(signed), tuple(unsigned), reason, message)


def _fault(run: Any, expected: Expected) -> Fault | None:
    tags = run.data.tags
    statement = signatures.statement(str(run.info.run_id), expected.registered_model, tags, run.data.metrics)
    fault = signatures.verify(statement, str(tags.get(Tag.SIGNATURE, "")), expected.keys)
    if fault is not None:
        return fault
    wanted = {
        Tag.NAMESPACE: expected.namespace,
        Tag.UID: expected.uid,
        Tag.REVISION: str(expected.revision),
        Tag.KFP_RUN: expected.kfp_run,
    }
    # The search matched the last three already, but a database may ignore upper and lower case.
    return None if all(tags.get(tag) == value for tag, value in wanted.items()) else Fault.TAMPERED


def _describe(faults: list[tuple[Fault, str]]) -> tuple[str, str]:
    """Return reason and message for the worst of the rejected records."""
    for fault, problem, advice in (
        (
            Fault.TAMPERED,
            "does not match its signature: someone other than this revision's train step has written or changed it",
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
            return fault.value, f"the model of MLflow run {ids[0]}{more} is not used: its record {problem}. {advice}"
    return "", ""
