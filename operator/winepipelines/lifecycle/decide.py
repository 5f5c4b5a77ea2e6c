"""The decision: from what is asked and what is seen to what is done next. Pure; called by `reconciler`.

The stages are run in order, and the first that does not pass says what is wrong and what is done. A stage that lacks an answer
asks for it, so that nothing is looked up which the present stage does not need.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from winepipelines.lifecycle import reasons
from winepipelines.lifecycle.actions import Action
from winepipelines.lifecycle.conditions import summarize
from winepipelines.lifecycle.deploy import deploy, keep_serving
from winepipelines.lifecycle.finalize import finalize
from winepipelines.lifecycle.history import run_is_over
from winepipelines.lifecycle.look import Answers, Held, Look, Outcome, Passed, Record, UnansweredError, failed
from winepipelines.lifecycle.prepare import prepare
from winepipelines.lifecycle.questions import Platform, Question
from winepipelines.lifecycle.serve import serve
from winepipelines.lifecycle.train import train
from winepipelines.lifecycle.verify import served_answers, verify
from winepipelines.resource.errors import PlatformError
from winepipelines.resource.pipeline import WinePipeline
from winepipelines.resource.policy import Policy
from winepipelines.resource.status import ConditionType, Run, Stage, Status

StageFunction = Callable[[Look], Outcome]

STAGES: tuple[tuple[Stage, ConditionType, StageFunction], ...] = (
    (Stage.PREPARING, ConditionType.PREPARED, prepare),  # the namespace has what is needed
    (Stage.TRAINING, ConditionType.TRAINED, train),  # this spec has a model
    (Stage.DEPLOYING, ConditionType.DEPLOYED, deploy),  # which is rolled out
    (Stage.VERIFYING, ConditionType.ANSWERING, verify),  # which answers
    (Stage.SERVING, ConditionType.READY, serve),  # which is what the status says
)


@dataclass(frozen=True)
class Decision:
    """What is next. With `question` set nothing else is decided yet.

    `status` is to be written before `actions` are carried out; `wake_at` is when to look again if nothing happens. `follow`
    names the run whose moves wake the resource.
    """

    status: Status
    question: Question[object] | None = None
    actions: tuple[Action, ...] = ()
    wake_at: datetime | None = None
    follow: Run | None = None


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
) -> Decision:
    """Decide what is next for a resource.

    `answers` holds what has been asked so far, `failures` the actions of this look that failed.
    """
    look = Look(pipeline, pipeline.status, answers, now, policy or Policy(), failures)
    try:
        if pipeline.deleted_at is not None:
            return _leave(look)
        said = _run_stages(look)
        watched = _watch_served(replace(look, status=said.status), said.stage) | _judge_platform(look)
    except UnansweredError as error:
        return Decision(status=pipeline.status, question=error.question)

    last = said.last
    status = said.status
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
        status = summarize(status.with_(stage=stage), conditions, last, pipeline.generation, now)
    return Decision(
        status=status,
        actions=(*_by_the_way(said.passed), *(last.actions if isinstance(last, Held) else ())),
        wake_at=_wake_at(last, look, served=status.served is not None),
        follow=_follow(status),
    )


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


def _watch_served(look: Look, stage: Stage) -> dict[ConditionType, Passed | Held]:
    """Say of the earlier model whether it still answers."""
    if stage in (Stage.PREPARING, Stage.SERVING):
        return {}
    said = served_answers(look)
    return {} if said is None else {ConditionType.ANSWERING: said}


def _judge_platform(look: Look) -> dict[ConditionType, Passed | Held]:
    """Say of the platform what its checks said last. It changes nothing else: the model that answers is Ready."""
    verdict = look.at(Platform())
    if verdict is None:
        return {}
    kind = Passed if verdict.ready else Held
    return {ConditionType.PLATFORM_READY: kind(verdict.reason, verdict.message)}


def _leave(look: Look) -> Decision:
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


def _wake_at(last: Passed | Held, look: Look, *, served: bool) -> datetime | None:
    waits = [last.wake_in] if last.wake_in is not None else []
    if served or isinstance(last, Passed):
        waits.append(look.policy.check_interval)
    return look.now + min(waits) if waits else None


def _follow(status: Status) -> Run | None:
    """Name the run to follow: that of a revision without a model and without an end."""
    run = status.run
    return None if run is None or not run.id or run_is_over(status) else run
