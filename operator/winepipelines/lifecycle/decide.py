"""The decision: from what is asked and what is seen to what is done next. Pure; called by `reconciler`.

The stages are run in order, and the first that does not pass says what is wrong and what is done. A stage that lacks an answer
asks for it, so that nothing is looked up which the present stage does not need.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from winepipelines.lifecycle import reasons
from winepipelines.lifecycle.actions import Action
from winepipelines.lifecycle.aliases import look_at_challenger, look_at_champion
from winepipelines.lifecycle.candidates import current_candidate
from winepipelines.lifecycle.conditions import summarize, with_note
from winepipelines.lifecycle.datacheck import Aside, look_at_data
from winepipelines.lifecycle.decision import Decision
from winepipelines.lifecycle.deploy import deploy
from winepipelines.lifecycle.finalize import finalize
from winepipelines.lifecycle.gate import gate
from winepipelines.lifecycle.history import run_is_over, shortened
from winepipelines.lifecycle.keep import judge_served, keep_serving, ready_meanwhile
from winepipelines.lifecycle.look import Answers, Held, Look, Outcome, Passed, Record, UnansweredError, failed
from winepipelines.lifecycle.prepare import prepare
from winepipelines.lifecycle.questions import Platform
from winepipelines.lifecycle.serve import serve
from winepipelines.lifecycle.setback import without_future
from winepipelines.lifecycle.traffic import with_traffic
from winepipelines.lifecycle.train import train
from winepipelines.lifecycle.triggers import retrain_is_pending
from winepipelines.lifecycle.verify import check_interval, verify
from winepipelines.resource.errors import PlatformError
from winepipelines.resource.pipeline import WinePipeline
from winepipelines.resource.policy import Policy
from winepipelines.resource.status import ConditionType, Run, Stage, Status

StageFunction = Callable[[Look], Outcome]

STAGES: tuple[tuple[Stage, ConditionType, StageFunction], ...] = (
    (Stage.PREPARING, ConditionType.PREPARED, prepare),  # the namespace has what is needed
    (Stage.TRAINING, ConditionType.TRAINED, train),  # this spec has a model
    (Stage.GATING, ConditionType.ACCEPTED, gate),  # which has shown what it must
    (Stage.DEPLOYING, ConditionType.DEPLOYED, deploy),  # which is rolled out
    (Stage.VERIFYING, ConditionType.ANSWERING, verify),  # which answers
    (Stage.SERVING, ConditionType.READY, serve),  # which is what the status says
)
OF_A_MODEL = (ConditionType.ACCEPTED, ConditionType.DEPLOYED, ConditionType.ANSWERING)


@dataclass(frozen=True)
class _Said:
    """What all stages said together."""

    status: Status
    stage: Stage
    passed: Mapping[ConditionType, Passed | Held]
    last: Passed | Held


def decide(
    pipeline: WinePipeline,
    answers: Answers,
    failures: Mapping[Action, PlatformError],
    now: datetime,
    policy: Policy | None = None,
) -> Decision[Status, Action]:
    """Decide what is next for a resource.

    `answers` holds what has been asked so far, `failures` the actions of this look that failed.
    """
    look = Look(pipeline, without_future(pipeline.status, now), answers, now, policy or Policy(), failures)
    try:
        if pipeline.deleted_at is not None:
            return _leave(look)
        said = _run_stages(look)
        after = replace(look, status=said.status)
        watched = ({} if said.stage in (Stage.PREPARING, Stage.SERVING) else judge_served(after)) | _judge_platform(look)
        held = said.last if isinstance(said.last, Held) and said.stage not in (Stage.PREPARING, Stage.VERIFYING) else None
        meanwhile = ready_meanwhile(after, watched, held) if held is not None else None
        asides = _asides(after) if said.passed else ()
        stale = _of_earlier_model(after) if said.passed else frozenset()
        pending = _pending_request(after, said)
    except UnansweredError as error:
        return Decision(status=pipeline.status, question=error.question)

    last, status = said.last, said.status
    if isinstance(last, Held):
        status = last.status or status
        last = _after_failures(last, look)
    current = next(kind for stage, kind, _ in STAGES if stage is said.stage)
    if isinstance(last, Held) and last.condition is not None:
        current = last.condition
    if not (isinstance(last, Held) and _is_tried_again(last, current, look)):
        conditions = {**said.passed, **watched}
        if current is not ConditionType.READY:
            conditions[current] = last
        stage = (last.stage if isinstance(last, Held) else None) or said.stage
        if meanwhile is not None and stage in (Stage.FAILED, Stage.SUSPENDED):
            stage = Stage.SERVING
        status = summarize(status.with_(stage=stage), conditions, meanwhile or last, pipeline.generation, now)
    status = shortened(_merge(status, said.status, asides), look.spec)
    status = with_traffic(status)
    kept = tuple(condition for condition in status.conditions if condition.type not in stale)
    status = status.with_(conditions=with_note(kept, pending))
    waits = [*_waits(last, *watched.values()), *(aside.wake_in for aside in asides if aside.wake_in is not None)]
    if status.served or isinstance(last, Passed):
        waits.append(check_interval(status, look.policy, now))
    return Decision(
        status=status,
        actions=(
            *_by_the_way(said.passed),
            *(action for aside in asides for action in aside.actions),
            *(last.actions if isinstance(last, Held) else ()),
        ),
        wake_at=min([*(now + wait for wait in waits), *_ticks(look, status)], default=None),
        follow=_follow(status),
    )


def _of_earlier_model(look: Look) -> frozenset[ConditionType]:
    """List the conditions that can only be about an earlier revision's model, because the present one has none yet."""
    if current_candidate(look) is not None:
        return frozenset()
    return frozenset({ConditionType.ACCEPTED} if look.status.served is not None else OF_A_MODEL)


def _pending_request(look: Look, said: _Said) -> str:
    """Say of a retraining that was asked for and has not begun what it waits for; "" where there is none."""
    if not retrain_is_pending(look):
        return ""
    if look.spec.suspend:
        return "spec.suspend is true"
    is_blocked = said.stage is Stage.PREPARING or (isinstance(said.last, Held) and said.last.stalled)
    return "this has to be corrected first" if is_blocked else f"revision {look.status.revision} has to end first"


def _asides(look: Look) -> tuple[Aside, ...]:
    """Look at what is no stage's concern. A failure there changes nothing of what the stages say."""
    return look_at_data(look), look_at_challenger(look), look_at_champion(look)


def _merge(status: Status, before: Status, asides: tuple[Aside, ...]) -> Status:
    """Write what was looked at beside the stages into the status that these have made."""
    for name in ("data_check", "challenger", "served"):
        for aside in asides:
            if getattr(aside.status, name) != getattr(before, name):
                status = status.with_(**{name: getattr(aside.status, name)})
    return status


def _waits(*said: Passed | Held) -> list[timedelta]:
    return [outcome.wake_in for outcome in said if outcome.wake_in is not None]


def _ticks(look: Look, status: Status) -> list[datetime]:
    """List when schedules are due. One that is overdue waits for something else to end."""
    clocks = (status.clock, status.data_check.clock if status.data_check else None)
    if look.spec.suspend:
        return []
    return [clock.due for clock in clocks if clock is not None and clock.due > look.now]


def _by_the_way(passed: Mapping[ConditionType, Passed | Held]) -> tuple[Action, ...]:
    """List what stages that have passed have done all the same."""
    return tuple(action for outcome in passed.values() if isinstance(outcome, Passed) for action in outcome.actions)


def _run_stages(look: Look) -> _Said:
    """Run the stages; each thing that becomes known starts them anew."""
    while True:
        passed: dict[ConditionType, Passed | Held] = {}
        result: Outcome | None = None
        for stage, kind, function in STAGES:
            result = _run_stage(look, stage, function)
            if not isinstance(result, Passed):
                break
            passed[kind] = result
        if isinstance(result, Record):
            look = replace(look, status=result.status)
            continue
        assert result is not None
        return _Said(look.status, stage, passed, result)


def _run_stage(look: Look, stage: Stage, function: StageFunction) -> Outcome:
    try:
        if stage is Stage.TRAINING and (held := keep_serving(look)) is not None:
            return replace(held, condition=ConditionType.DEPLOYED)
        return function(look)
    except PlatformError as error:
        return failed(error, look.policy)


def _judge_platform(look: Look) -> dict[ConditionType, Passed | Held]:
    """Say of the platform what its checks said last. It changes nothing else: the model that answers is Ready."""
    verdict = look.at(Platform())
    if verdict is None:
        return {}
    kind = Passed if verdict.ready else Held
    return {ConditionType.PLATFORM_READY: kind(verdict.reason, verdict.message)}


def _leave(look: Look) -> Decision[Status, Action]:
    held = finalize(look)
    if held is None:
        return Decision(status=look.status)
    held = _after_failures(held, look)
    ready = Held(reasons.DELETING, held.message, waiting=True)
    return Decision(
        status=summarize(look.status, {}, ready, look.pipeline.generation, look.now),
        actions=held.actions,
        wake_at=look.now + held.wake_in if held.wake_in else None,
    )


def _after_failures(held: Held, look: Look) -> Held:
    """Say of what was tried and failed that it failed, rather than try it again at once."""
    error = next((look.failures[action] for action in held.actions if action in look.failures), None)
    return held if error is None else failed(error, look.policy)


def _is_tried_again(held: Held, kind: ConditionType, look: Look) -> bool:
    """Tell whether something is done that has failed before: until it succeeds, what was said of it stands.

    An outage is then one condition and one Event, however often the operator tries.
    """
    said = look.status.condition(kind)
    current = said is not None and said.status == "False" and said.observed_generation == look.pipeline.generation
    return bool(held.actions) and current and said is not None and said.reason in reasons.PLATFORM_FAILURES


def _follow(status: Status) -> Run | None:
    """Name the run to follow: that of a revision without a model and without an end, or one that looks at the data."""
    run, check = status.run, status.data_check
    if check is not None and check.name and check.run:
        return Run(name=check.name, id=check.run)
    return None if run is None or not run.id or run_is_over(status) else run
