"""Evaluate the checks of a resource on its dump, and report what each found. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from functools import wraps
from typing import Any

from winepipelines.api.clock_skew import without_future
from winepipelines.api.pipeline import WinePipeline
from winepipelines.api.prediction import WinePrediction
from winepipelines.api.status import Condition, ConditionType
from winepipelines.api.timeouts import Timeouts
from winepipelines.explain.reads import Reads, reading, unwatched
from winepipelines.explain.standins import StandIns
from winepipelines.pipelines.context import NotReady, ReconcileContext, StatusUpdate, UnansweredQueryError
from winepipelines.pipelines.decide import decide as decide_pipeline
from winepipelines.pipelines.stage import run_stages
from winepipelines.pipelines.stages.table import STAGES
from winepipelines.predictions.context import NotReady as PredictionNotReady
from winepipelines.predictions.context import PredictionContext
from winepipelines.predictions.context import StatusUpdate as PredictionStatusUpdate
from winepipelines.predictions.decide import decide as decide_prediction
from winepipelines.predictions.decide import run_checks
from winepipelines.predictions.score import CHECKS
from winepipelines.runs.run import CHECKS as RUN_CHECKS

RESULTS = (NotReady, PredictionNotReady)
UPDATES = (StatusUpdate, PredictionStatusUpdate)


class Finding(StrEnum):
    """What the evaluation of a check found."""

    HOLDS = "holds"
    DECIDES = "decides"
    UNKNOWN = "unknown"  # the status cannot answer its query
    NOT_REACHED = "not reached"


@dataclass(frozen=True)
class CheckReport:
    """A check, what it found, and what it used: fields of the resource, and answers with the field that they come from."""

    name: str
    finding: Finding
    meaning: str = ""
    facts: Mapping[str, object] = field(default_factory=dict)
    answers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Explanation:
    """The decision that follows from a dump.

    `recorded` is the condition Ready in the dump. `query` is what the operator would observe next, if the dump cannot tell;
    `reason` and `message` are empty then. `updates` names the checks that would first record something in the status.
    """

    kind: str
    namespace: str
    name: str
    generation: int
    observed_generation: int | None
    at: datetime
    recorded: Condition | None
    decided_by: str = ""
    reason: str = ""
    message: str = ""
    actions: tuple[str, ...] = ()
    query: str = ""
    updates: tuple[str, ...] = ()
    checks: tuple[CheckReport, ...] = ()


class _Recorder:
    """Wraps checks so that each evaluation is reported."""

    def __init__(self, answers: StandIns) -> None:
        self.answers = answers
        self.reports: list[CheckReport] = []
        self.updates: list[str] = []

    def wrap(self, stage: str, check: Callable[[Any], Any], *, is_check: bool = True) -> Callable[[Any], Any]:
        """Return the check, evaluated on a resource whose reads are recorded.

        The function that describes a done stage is reported only if it needs an answer.
        """

        @wraps(check)
        def evaluated(context: Any) -> Any:
            reads, name = Reads(), f"{stage}/{check.__name__}"
            self.answers.used = {}
            token, result, finding = reading.set(None), None, Finding.UNKNOWN
            try:
                watched = _watch(context, reads)
                reading.set(reads)
                result = check(watched)
                finding = Finding.DECIDES if isinstance(result, RESULTS) else Finding.HOLDS
            finally:
                reading.reset(token)
                if is_check or finding is Finding.UNKNOWN:
                    self.reports.append(CheckReport(name, finding, _meaning(check), reads.values, self.answers.used))
            if isinstance(result, UPDATES):
                self.updates.append(name)
                self.reports.clear()  # the chain starts again
            return replace(result, status=unwatched(result.status)) if isinstance(result, (*RESULTS, *UPDATES)) else result

        return evaluated


def explain(resource: WinePipeline | WinePrediction, now: datetime, timeouts: Timeouts | None = None) -> Explanation:
    """Explain the decision on a resource: evaluate its checks, with the answers that its status records."""
    timeouts, answers = timeouts or Timeouts(), StandIns(resource, now)
    if resource.deleted_at is not None:
        return _deletion(resource, answers, now, timeouts)
    recorder, base = _Recorder(answers), _base(resource, now)
    if isinstance(resource, WinePipeline):
        chain, run = _pipeline(resource, answers, recorder, now, timeouts)
    else:
        chain, run = _prediction(resource, answers, recorder, now, timeouts)
    try:
        decided_by, result = run()
        actions = tuple(type(action).__name__ for action in result.actions)
        base = replace(base, decided_by=decided_by, reason=result.reason, message=result.message, actions=actions)
    except UnansweredQueryError as unanswered:
        base = replace(base, decided_by=recorder.reports[-1].name, query=_named(unanswered.query))
    reached = {report.name for report in recorder.reports}
    rest = tuple(CheckReport(name, Finding.NOT_REACHED, meaning) for name, meaning in chain if name not in reached)
    checks = (*_with_run_checks(recorder.reports, base.decided_by), *rest)
    return replace(base, updates=tuple(dict.fromkeys(recorder.updates)), checks=checks)


Chain = tuple[tuple[str, str], ...]  # name and meaning of each check
Run = Callable[[], tuple[str, Any]]


def _pipeline(
    pipeline: WinePipeline, answers: StandIns, recorder: _Recorder, now: datetime, timeouts: Timeouts
) -> tuple[Chain, Run]:
    context = ReconcileContext(pipeline, without_future(pipeline.status, now), answers, now, timeouts)
    stages = tuple(
        replace(
            spec,
            checks=tuple(recorder.wrap(spec.name, check) for check in spec.checks),
            done=recorder.wrap(spec.name, spec.done, is_check=False),
        )
        for spec in STAGES
    )
    chain = tuple((f"{spec.name}/{check.__name__}", _meaning(check)) for spec in STAGES for check in spec.checks)

    def run() -> tuple[str, Any]:
        result = run_stages(context, stages)
        return result.decided_by, result.result

    return chain, run


def _prediction(
    prediction: WinePrediction, answers: StandIns, recorder: _Recorder, now: datetime, timeouts: Timeouts
) -> tuple[Chain, Run]:
    context = PredictionContext(prediction, answers, now, timeouts).with_(without_future(prediction.status, now))
    checks = tuple(recorder.wrap("score", check) for check in CHECKS)
    chain = tuple((f"score/{check.__name__}", _meaning(check)) for check in CHECKS)

    def run() -> tuple[str, Any]:
        _, decided_by, result = run_checks(context, checks)
        return decided_by, result

    return chain, run


def _deletion(resource: WinePipeline | WinePrediction, answers: StandIns, now: datetime, timeouts: Timeouts) -> Explanation:
    """Explain what keeps a resource that is being deleted."""
    decide: Callable[..., Any] = decide_pipeline if isinstance(resource, WinePipeline) else decide_prediction
    decision = decide(resource, answers, {}, now, timeouts)
    ready = decision.status.condition(ConditionType.READY)
    return replace(
        _base(resource, now),
        decided_by=decision.decided_by or "finalize",
        reason=ready.reason if ready is not None and decision.query is None else "",
        message=ready.message if ready is not None and decision.query is None else "",
        actions=tuple(type(action).__name__ for action in decision.actions),
        query=_named(decision.query) if decision.query is not None else "",
    )


def _base(resource: WinePipeline | WinePrediction, now: datetime) -> Explanation:
    return Explanation(
        kind=type(resource).__name__,
        namespace=resource.namespace,
        name=resource.name,
        generation=resource.generation,
        observed_generation=resource.status.observed_generation,
        at=now,
        recorded=resource.status.condition(ConditionType.READY),
    )


def _watch(context: Any, reads: Reads) -> Any:
    """Copy a context so that reads of its spec and status are noted."""
    if isinstance(context, ReconcileContext):
        pipeline = replace(context.pipeline, spec=reads.watch(context.pipeline.spec, "spec"))
        return replace(context, pipeline=pipeline, status=reads.watch(context.status, "status"))
    prediction = context.prediction
    watched = replace(prediction, spec=reads.watch(prediction.spec, "spec"), status=reads.watch(prediction.status, "status"))
    return replace(context, prediction=watched)


def _with_run_checks(reports: list[CheckReport], decided_by: str) -> tuple[CheckReport, ...]:
    """Insert the checks of the run before the one of the chain that runs them, if one of them decided."""
    found: list[CheckReport] = []
    for report in reports:
        nested = decided_by.removeprefix(f"{report.name}/")
        if report.finding is Finding.DECIDES and nested != decided_by:
            for check in RUN_CHECKS:
                finding = Finding.DECIDES if check.__name__ == nested else Finding.HOLDS
                found.append(CheckReport(f"{report.name}/{check.__name__}", finding, _meaning(check)))
                if finding is Finding.DECIDES:
                    break
            found[-1] = replace(found[-1], facts=report.facts, answers=report.answers)
        else:
            found.append(report)
    return tuple(found)


def _meaning(check: Callable[..., object]) -> str:
    return (check.__doc__ or "").strip().partition("\n")[0]


def _named(query: object) -> str:
    return type(query).__name__
