"""Stages of a WinePipeline: what a row of the table in `stages/table.py` says, and how the rows are run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import Enum, auto

from winepipelines.api.errors import PlatformError
from winepipelines.api.status import ConditionType, Stage, Status
from winepipelines.pipelines.context import Check, Done, NotReady, ReconcileContext, StatusUpdate


class ConditionSubject(Enum):
    """What the condition of a stage is about. It decides when the condition goes stale."""

    RESOURCE = auto()  # the resource: never stale
    CANDIDATE = auto()  # the candidate: stale while the current revision has no model
    MODEL = auto()  # the candidate or the served model: stale while there is neither


@dataclass(frozen=True)
class StageSpec:
    """A stage of the lifecycle.

    `checks` run in order; the first one that does not hold gives reason, message and actions, and names the decision. `done`
    describes the result once all of them hold. While a check does not hold, the flags apply:

    - `judges_served`: the conditions Deployed and EndpointVerified describe the model that serves meanwhile.
    - `keeps_ready`: Ready may stay True if a model of this spec serves meanwhile.
    - `blocks_requests`: a requested retraining waits until this stage is corrected.
    """

    name: str
    stage: Stage
    condition: ConditionType
    checks: tuple[Check, ...]
    done: Callable[[ReconcileContext], Done]
    subject: ConditionSubject = ConditionSubject.RESOURCE
    judges_served: bool = True
    keeps_ready: bool = True
    blocks_requests: bool = False


@dataclass(frozen=True)
class StagesResult:
    """What the stages decided.

    `spec` is the stage that was reached, `result` its result, `done` the results of the stages before it (and its own, if it is
    done). `decided_by` names stage and check.
    """

    status: Status
    spec: StageSpec
    result: Done | NotReady
    done: Mapping[ConditionType, Done]
    decided_by: str

    @property
    def not_ready(self) -> NotReady | None:
        """The result of the check that does not hold. None if all hold."""
        return self.result if isinstance(self.result, NotReady) else None


def run_stages(context: ReconcileContext, stages: tuple[StageSpec, ...]) -> StagesResult:
    """Run the stages in order up to the first check that does not hold. A status update starts them again.

    Raises UnansweredQueryError.
    """
    while True:
        updated, result = _run_once(context, stages)
        if result is not None:
            return result
        context = replace(context, status=updated)


def _run_once(context: ReconcileContext, stages: tuple[StageSpec, ...]) -> tuple[Status, StagesResult | None]:
    done: dict[ConditionType, Done] = {}
    last: Done | None = None
    for spec in stages:
        check, result = _run_stage(context, spec)
        if isinstance(result, StatusUpdate):
            return result.status, None
        if isinstance(result, NotReady):
            return context.status, StagesResult(context.status, spec, result, done, result.decided_by(spec.name, check))
        done[spec.condition] = last = result
    assert last is not None, "there is a stage"
    return context.status, StagesResult(context.status, spec, last, done, spec.name)


def _run_stage(context: ReconcileContext, spec: StageSpec) -> tuple[str, Done | StatusUpdate | NotReady]:
    """Return the name and the result of the first check that does not hold, else the result of the stage."""
    name = ""
    try:
        for check in spec.checks:
            name = check.__name__
            if (result := check(context)) is not None:
                return name, result
        name = ""
        return name, spec.done(context)
    except PlatformError as error:
        return name, NotReady.from_error(error, context.timeouts)
