"""Decide what to do next for a WinePipeline, from its spec, its status and what was observed. Pure.

The stages run in order. The first check that does not hold gives reason, message and actions. A check that lacks an answer raises
its query, so that only what the current stage needs is observed.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from winecontract.reasons import Reason
from winepipelines.api.clock_skew import without_future
from winepipelines.api.errors import PlatformError
from winepipelines.api.pipeline import GROUP, WinePipeline
from winepipelines.api.status import ConditionType, Run, Status
from winepipelines.api.timeouts import Timeouts
from winepipelines.engine.decision import Answers, Decision
from winepipelines.pipelines.actions import Action
from winepipelines.pipelines.background.aliases import update_challenger, update_champion
from winepipelines.pipelines.background.data_check import BackgroundResult, check_data
from winepipelines.pipelines.conditions import summarize, with_pending_retrain
from winepipelines.pipelines.context import Done, NotReady, ReconcileContext, UnansweredQueryError
from winepipelines.pipelines.finalize import finalize
from winepipelines.pipelines.history import run_is_over, shortened
from winepipelines.pipelines.queries import GetPlatformHealth
from winepipelines.pipelines.rollout.candidates import current_candidate
from winepipelines.pipelines.rollout.migration import MoveResult, judge_move
from winepipelines.pipelines.rollout.serving_previous import judge_served, ready_meanwhile
from winepipelines.pipelines.rollout.traffic import with_traffic
from winepipelines.pipelines.stage import ConditionSubject, StagesResult, run_stages
from winepipelines.pipelines.stages.table import STAGES
from winepipelines.pipelines.stages.verify import check_interval
from winepipelines.pipelines.triggers import retrain_is_pending

Conditions = Mapping[ConditionType, Done | NotReady]
BACKGROUND = (
    (check_data, "data_check"),
    (update_challenger, "challenger"),
    (update_champion, "served"),
)
"""Tasks beside the stages, each with the status field that it writes. Their failures change no condition."""


def decide(
    pipeline: WinePipeline,
    answers: Answers,
    failures: Mapping[Action, PlatformError],
    now: datetime,
    timeouts: Timeouts | None = None,
) -> Decision[Status, Action]:
    """Decide what to do next for a resource.

    `answers` has the answers so far, `failures` the actions of this reconcile that failed. A decision with a query needs its
    answer first.
    """
    context = ReconcileContext(pipeline, without_future(pipeline.status, now), answers, now, timeouts or Timeouts(), failures)
    try:
        if pipeline.deleted_at is not None:
            return _finalize(context)
        result = run_stages(context, STAGES)
        after = replace(context, status=result.status)
        move = judge_move(after) if result.done else MoveResult()
        watched = (judge_served(after) if result.spec.judges_served else {}) | _judge_platform(context)
        not_ready = result.not_ready if result.spec.keeps_ready else None
        meanwhile = ready_meanwhile(after, watched, not_ready) if not_ready is not None else None
        background = tuple(task(after) for task, _ in BACKGROUND) if result.done else ()
        stale = _stale_conditions(after) if result.done else frozenset()
        pending = _pending_request(after, result)
    except UnansweredQueryError as error:
        return Decision(status=pipeline.status, query=error.query)

    outcome = result.result
    if isinstance(outcome, NotReady):
        outcome = outcome.after_failures(failures, context.timeouts)
    status = _with_conditions(context, result, outcome, {**watched, **move.conditions}, meanwhile)
    status = with_traffic(shortened(_with_background(status, result.status, background), context.spec))
    kept = tuple(condition for condition in status.conditions if condition.type not in stale)
    status = with_pending_retrain(status.with_(conditions=kept), pending, pipeline.generation, now)
    return Decision(
        status=status,
        actions=(*_actions(result, outcome, background), *move.actions),
        requeue_at=_requeue_at(context, status, (outcome, *watched.values()), (*background, move)),
        follow=_run_to_follow(status),
        decided_by=result.decided_by,
    )


def _with_conditions(
    context: ReconcileContext,
    result: StagesResult,
    outcome: Done | NotReady,
    watched: Conditions,
    meanwhile: Done | None,
) -> Status:
    """Write stage and conditions into the status, unless an action is retried that failed before."""
    status = (result.not_ready and result.not_ready.status) or result.status
    condition = (outcome.condition if isinstance(outcome, NotReady) else None) or result.spec.condition
    if isinstance(outcome, NotReady) and outcome.is_retry_of(context.current_condition(condition)):
        return status
    conditions: dict[ConditionType, Done | NotReady] = {**result.done, **watched}
    if condition is not ConditionType.READY:
        conditions[condition] = outcome
    stage = (meanwhile and meanwhile.stage) or outcome.stage or result.spec.stage
    return summarize(status.with_(stage=stage), conditions, meanwhile or outcome, context.pipeline.generation, context.now)


def _stale_conditions(context: ReconcileContext) -> frozenset[ConditionType]:
    """List the conditions that describe an earlier model, while the current revision has none."""
    if current_candidate(context) is not None:
        return frozenset()
    serves = context.status.served is not None
    stale = {ConditionSubject.CANDIDATE} if serves else {ConditionSubject.CANDIDATE, ConditionSubject.MODEL}
    return frozenset(spec.condition for spec in STAGES if spec.subject in stale)


def _pending_request(context: ReconcileContext, result: StagesResult) -> Done | None:
    """Describe what a requested retraining waits for. None if none is pending."""
    if not retrain_is_pending(context):
        return None
    request = f"The annotation {GROUP}/retrain requests a new revision. It begins"
    if context.spec.suspend:
        return Done(Reason.SUSPENDED, f"{request} when spec.suspend is false.")
    if result.spec.blocks_requests or (result.not_ready is not None and result.not_ready.stalled):
        return Done(Reason.CORRECTION_REQUIRED, f"{request} when the problem that Ready reports is corrected.")
    return Done(Reason.REVISION_IN_PROGRESS, f"{request} when revision {context.status.revision} has ended.")


def _with_background(status: Status, before: Status, background: tuple[BackgroundResult, ...]) -> Status:
    """Write what the background tasks changed into the status that the stages made."""
    for (_, field), result in zip(BACKGROUND, background, strict=False):
        if getattr(result.status, field) != getattr(before, field):
            status = status.with_(**{field: getattr(result.status, field)})
    return status


def _actions(result: StagesResult, outcome: Done | NotReady, background: tuple[BackgroundResult, ...]) -> tuple[Action, ...]:
    """List the actions: those of done stages, of background tasks, and of the check that does not hold."""
    return (
        *(action for done in result.done.values() for action in done.actions),
        *(action for task in background for action in task.actions),
        *(outcome.actions if isinstance(outcome, NotReady) else ()),
    )


def _requeue_at(
    context: ReconcileContext,
    status: Status,
    outcomes: tuple[Done | NotReady, ...],
    background: tuple[BackgroundResult | MoveResult, ...],
) -> datetime | None:
    """Return the time of the next reconcile. None waits for events."""
    delays = [outcome.requeue_after for outcome in (*outcomes, *background) if outcome.requeue_after is not None]
    if status.served or isinstance(outcomes[0], Done):
        delays.append(check_interval(status, context.timeouts, context.now))
    return min([*(context.now + delay for delay in delays), *_schedule_times(context, status)], default=None)


def _schedule_times(context: ReconcileContext, status: Status) -> list[datetime]:
    """List when schedules are due. An overdue one waits for something else to end."""
    schedules = (status.schedule, status.data_check.schedule if status.data_check else None)
    if context.spec.suspend:
        return []
    return [item.next_time for item in schedules if item is not None and item.next_time > context.now]


def _judge_platform(context: ReconcileContext) -> dict[ConditionType, Done | NotReady]:
    """Report the result of the platform checks. It changes no other condition: a model that serves is Ready."""
    verdict = context.observe(GetPlatformHealth())
    if verdict is None:
        return {}
    kind = Done if verdict.ready else NotReady
    return {ConditionType.PLATFORM_READY: kind(verdict.reason, verdict.message)}


def _finalize(context: ReconcileContext) -> Decision[Status, Action]:
    not_ready = finalize(context)
    if not_ready is None:
        return Decision(status=context.status, decided_by="finalize")
    outcome = not_ready.after_failures(context.failures, context.timeouts)
    ready = NotReady(Reason.DELETING, outcome.message, waiting=True)
    return Decision(
        status=with_pending_retrain(
            summarize(context.status, {}, ready, context.pipeline.generation, context.now),
            None,
            context.pipeline.generation,
            context.now,
        ),
        actions=outcome.actions,
        requeue_at=context.now + outcome.requeue_after if outcome.requeue_after else None,
        decided_by=not_ready.decided_by("finalize"),
    )


def _run_to_follow(status: Status) -> Run | None:
    """Name the run whose changes trigger a reconcile: that of a data check, or of a revision that has no model yet."""
    run, check = status.run, status.data_check.run if status.data_check else None
    if check is not None and check.id:
        return Run(name=check.name, id=check.id)
    return None if run is None or not run.id or run_is_over(status) else run
