"""Beside the stages: the served model moves to the serving backend that the spec names.

    status.migration:    the model is rolled out on the other backend, then its endpoint there is probed
      the probe passes ─► status.served.backend and status.endpoint switch
    status.retiring:     the earlier deployment stays for spec.serving.migrationGrace, then it is deleted

The served model answers at the backend that it leaves until the switch. A move that fails is not given up: the operator keeps
checking, so that it succeeds once the platform is corrected. Naming the earlier backend again ends it. While a revision is being
rolled out, the move waits; a revision that is promoted meanwhile is the one that moves.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from winecontract.reasons import Reason
from winepipelines.api.errors import PlatformError
from winepipelines.api.messages import capitalized, sentences
from winepipelines.api.modelrecord import ModelRecord
from winepipelines.api.observed import PredictionCheck, Presence
from winepipelines.api.rollout import Rollout
from winepipelines.api.status import (
    Candidate,
    ConditionType,
    Endpoint,
    Migration,
    Prediction,
    RetiringDeployment,
    ServedModel,
    Status,
)
from winepipelines.pipelines.actions import Action, ApplyDeployment, DeleteDeployment
from winepipelines.pipelines.context import Done, NotReady, ReconcileContext, StatusUpdate
from winepipelines.pipelines.queries import GetDeployment, GetServer, ProbeEndpoint
from winepipelines.pipelines.rollout.candidates import current_candidate, has_no_eligible_candidate, is_serving
from winepipelines.pipelines.rollout.rollout import deployment_can_be_applied

GONE = (Presence.ABSENT, Presence.KIND_MISSING, Presence.NOT_MANAGED)


@dataclass(frozen=True)
class MoveResult:
    """What is reported and done about a move: at most one condition, the actions, and the delay until the next reconcile."""

    conditions: Mapping[ConditionType, Done | NotReady] = field(default_factory=dict)
    actions: tuple[Action, ...] = ()
    requeue_after: timedelta | None = None


def move_is_recorded(context: ReconcileContext) -> StatusUpdate | None:
    """The status says where the served model moves to, where it serves, and which deployment is left."""
    recorded = _recorded(context)
    return None if recorded == context.status else StatusUpdate(recorded)


def judge_move(context: ReconcileContext) -> MoveResult:
    """Report how far a move is, and carry it on."""
    migration, served = context.status.migration, context.status.served
    if migration is not None and served is not None:
        result = _move(context, migration, served)
        failed = result.after_failures(context.failures, context.timeouts)
        known = context.status.condition(ConditionType.MIGRATED)
        shown = {} if result.is_retry_of(known) else {ConditionType.MIGRATED: failed}
        return MoveResult(shown, failed.actions, failed.requeue_after)
    cleanup = _delete_retiring(context)
    if context.status.condition(ConditionType.MIGRATED) is None or served is None:
        return cleanup
    done = Done(Reason.MIGRATION_COMPLETE, _completion(context))
    return MoveResult({ConditionType.MIGRATED: done}, cleanup.actions, cleanup.requeue_after)


def _recorded(context: ReconcileContext) -> Status:
    status, served, migration = context.status, context.status.served, context.status.migration
    if served is None:
        return _without_deleted(context)
    wanted = context.wanted_backend
    if migration is not None and migration.backend != wanted:
        conditions = tuple(one for one in status.conditions if one.type != ConditionType.MIGRATED)
        left = RetiringDeployment(backend=migration.backend)
        return status.with_(migration=None, retiring=left, conditions=conditions)
    if wanted == context.backend:
        return _without_deleted(context)
    if migration is None or migration.revision != served.revision:
        begun = Migration(backend=wanted, revision=served.revision, started_at=context.now)
        retiring = None if status.retiring is not None and status.retiring.backend == wanted else status.retiring
        return status.with_(migration=begun, retiring=retiring)
    return _switched(context, migration, served)


def _without_deleted(context: ReconcileContext) -> Status:
    """Forget a deployment that is deleted, or that serves again."""
    status, retiring = context.status, context.status.retiring
    if retiring is None or (retiring.backend != context.backend and not _is_gone(context, retiring)):
        return status
    return status.with_(retiring=None)


def _is_gone(context: ReconcileContext, retiring: RetiringDeployment) -> bool:
    if _remaining(context, retiring) > timedelta():
        return False
    try:
        return context.observe(GetDeployment(None, retiring.backend)).presence in GONE
    except PlatformError:
        return False


def _remaining(context: ReconcileContext, retiring: RetiringDeployment) -> timedelta:
    """Return how long a deployment that was left stays. One that never served goes at once."""
    if retiring.since is None:
        return timedelta()
    return retiring.since + context.spec.serving.migration_grace_duration - context.now


def _delete_retiring(context: ReconcileContext) -> MoveResult:
    retiring = context.status.retiring
    if retiring is None:
        return MoveResult()
    if (remaining := _remaining(context, retiring)) > timedelta():
        return MoveResult(requeue_after=remaining)
    deletion, again = DeleteDeployment(retiring.backend), context.timeouts.retry_interval
    try:
        view = context.observe(GetDeployment(None, retiring.backend))
    except PlatformError:
        return MoveResult(requeue_after=again)
    waits = view.deleting or view.presence in GONE or deletion in context.failures
    return MoveResult(actions=() if waits else (deletion,), requeue_after=again)


def _completion(context: ReconcileContext) -> str:
    retiring, moved = context.status.retiring, f"The served model has moved to {context.backend}."
    if retiring is None:
        return moved
    if retiring.since is None:
        return sentences(moved, f"The deployment on {retiring.backend} is being deleted.")
    until = retiring.since + context.spec.serving.migration_grace_duration
    return sentences(moved, f"The deployment on {retiring.backend} is deleted at {until:%H:%M:%S} UTC.")


def _moved_model(context: ReconcileContext, migration: Migration, served: ServedModel) -> ModelRecord:
    """Return the served model with the server that the other backend serves new models with."""
    return served.model.with_(server=context.observe(GetServer(served.model.runtime, migration.backend)).server)


def _is_busy(context: ReconcileContext) -> bool:
    """Tell whether the current revision is being rolled out."""
    candidate = current_candidate(context)
    return (
        candidate is not None and not is_serving(context.status, candidate) and not has_no_eligible_candidate(context, candidate)
    )


def _switched(context: ReconcileContext, migration: Migration, served: ServedModel) -> Status:
    """Record that the model serves on the other backend, once it is rolled out there and answers."""
    status = context.status
    try:
        if _move(context, migration, served).reason != Reason.MIGRATION_COMPLETE:
            return status
        model = _moved_model(context, migration, served)
        check = context.observe(ProbeEndpoint(model, migration.backend))
    except PlatformError:
        return status
    left = RetiringDeployment(backend=context.backend, since=context.now)
    return status.with_(
        served=served.with_(model=model, backend=migration.backend),
        candidate=_moved_candidate(status, model, migration.backend),
        endpoint=Endpoint(url=check.url, protocol=check.protocol),
        last_prediction=Prediction(
            time=check.at, revision=served.revision, value=check.value, latency_milliseconds=check.milliseconds
        ),
        migration=None,
        retiring=left,
    )


def _moved_candidate(status: Status, model: ModelRecord, backend: str) -> Candidate | None:
    candidate = status.candidate
    if candidate is None or not is_serving(status, candidate):
        return candidate
    return candidate.with_(model=candidate.model.with_(server=model.server), backend=backend)


def _move(context: ReconcileContext, migration: Migration, served: ServedModel) -> NotReady:
    """Return the first step of a move that is not done. The reason MigrationComplete says that all are."""
    try:
        return _next_step(context, migration, served)
    except PlatformError as error:
        return NotReady.from_error(error, context.timeouts)


def _next_step(context: ReconcileContext, migration: Migration, served: ServedModel) -> NotReady:
    backend, interval, retry = migration.backend, context.timeouts.rollout_interval, context.timeouts.retry_interval
    moving = f"Moving revision {served.revision} from {context.backend} to {backend}"
    if _is_busy(context):
        message = f"Revision {served.revision} moves to {backend} when revision {context.status.revision} has been rolled out."
        return NotReady(Reason.MIGRATION_IN_PROGRESS, message)
    server = context.observe(GetServer(served.model.runtime, backend))
    if server.problem:
        return NotReady(server.problem_reason, _failed(context, served, server.problem), stalled=True, requeue_after=retry)
    model = _moved_model(context, migration, served)
    rollout = Rollout(served.revision, model)
    view = context.observe(GetDeployment(rollout, backend))
    if (obstacle := deployment_can_be_applied(context, view)) is not None:
        return obstacle
    if view.presence is not Presence.CURRENT:
        action = ApplyDeployment(rollout, backend=backend)
        return NotReady(Reason.MIGRATION_IN_PROGRESS, f"{moving}.", actions=(action,), requeue_after=interval)
    late = context.now >= migration.started_at + context.timeouts.progress_deadline_of(model.runtime)
    if not view.rolled_out:
        problem = capitalized(view.message) or "The serving backend is rolling the model out"
        if not late:
            reason = view.reason or Reason.MIGRATION_IN_PROGRESS
            return NotReady(reason, sentences(moving, problem), requeue_after=interval)
        reason = view.reason or Reason.PROGRESS_DEADLINE_EXCEEDED
        return NotReady(reason, _failed(context, served, capitalized(view.passing) or problem), stalled=True, requeue_after=retry)
    check = context.observe(ProbeEndpoint(model, backend))
    if check.passed:
        return NotReady(Reason.MIGRATION_COMPLETE, _answers(check))
    reason = check.reason if late else Reason.MIGRATION_IN_PROGRESS
    problem = _failed(context, served, check.message) if late else f"{moving}. Waiting for an answer from {check.url}"
    return NotReady(reason, problem, stalled=late, requeue_after=retry if late else interval)


def _failed(context: ReconcileContext, served: ServedModel, problem: str) -> str:
    """Describe why a move has not succeeded, and that the model serves meanwhile."""
    keeps = f"Revision {served.revision} keeps serving on {context.backend}. Set spec.serving.backend to it to end the move."
    return sentences(capitalized(problem), keeps)


def _answers(check: PredictionCheck) -> str:
    return f"The model answers at {check.url}"
