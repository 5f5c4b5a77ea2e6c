"""What a stage looks at, and what it can say. Called by every stage."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TypeVar, cast

from winepipelines.lifecycle import reasons
from winepipelines.lifecycle.actions import Action, CreateRun
from winepipelines.lifecycle.questions import Question, Records, Runs, RunSettings, Server, Steps, Stored
from winepipelines.lifecycle.run import RunLook, Waits, Words
from winepipelines.resource.errors import PlatformError, Refused
from winepipelines.resource.naming import run_name
from winepipelines.resource.pipeline import GROUP, WinePipeline
from winepipelines.resource.policy import Policy
from winepipelines.resource.spec import Runtime, Spec
from winepipelines.resource.status import ConditionType, Run, Stage, Status

A = TypeVar("A")
Answers = Mapping[Question[object], object]


@dataclass(frozen=True)
class Passed:
    """A stage has nothing to wait for: its condition is True. `actions` are done by the way.

    `wake_in` is when to look again, where that is sooner than a settled resource is looked at.
    """

    reason: str
    message: str
    actions: tuple[Action, ...] = ()
    wake_in: timedelta | None = None


@dataclass(frozen=True)
class Record:
    """Something became known: decide again with this status."""

    status: Status


@dataclass(frozen=True)
class Held:
    """The first thing that is not as it should be: why, and what is done about it.

    `wake_in` is when to look again if nothing happens; None leaves it to events. `stalled` says that only a person can help.
    """

    reason: str
    message: str
    actions: tuple[Action, ...] = ()
    status: Status | None = None
    wake_in: timedelta | None = None
    stage: Stage | None = None
    condition: ConditionType | None = None
    stalled: bool = False
    waiting: bool = True


Outcome = Passed | Record | Held


class UnansweredError(Exception):
    """A stage needs an answer that is not there yet."""

    def __init__(self, question: Question[object]) -> None:
        super().__init__(repr(question))
        self.question = question


@dataclass(frozen=True)
class Look:
    """One look at the world."""

    pipeline: WinePipeline
    status: Status
    answers: Answers
    now: datetime
    policy: Policy = field(default_factory=Policy)
    failures: Mapping[Action, PlatformError] = field(default_factory=dict)  # actions of this look that failed

    def held_true(self, kind: ConditionType) -> bool:
        """Whether a condition was True of this very spec when the status was last written: what differs now is drift."""
        condition = self.status.condition(kind)
        current = condition is not None and condition.observed_generation == self.pipeline.generation
        return current and condition is not None and condition.status == "True"

    @property
    def spec(self) -> Spec:
        """What is asked for."""
        return self.pipeline.spec

    @property
    def inputs(self) -> str:
        """All that makes the model of this spec: what is asked for, and the server's version where it has to read it.

        Raises as `at` does.
        """
        runtime = self.spec.serving.runtime
        version = "" if runtime is Runtime.BUNDLED else f"-{self.at(Server(runtime)).version[:32]}"
        return self.spec.inputs + version

    @property
    def run(self) -> RunLook:
        """The run of the present revision. Raises as `at` does."""
        revision, training = self.status.revision, self.spec.training
        name = run_name(self.pipeline, revision)
        recorded = self.status.run or Run(name=name)
        return RunLook(
            name=name,
            recorded=recorded,
            views=self.at(Runs(recorded.name)),
            now=self.now,
            policy=self.policy,
            submission=CreateRun(recorded.name, revision),
            failures=self.failures,
            failure=lambda: self.at(Records(revision, recorded.id)).failure,
            steps=lambda: self.at(Steps(recorded.id)),
            settings=lambda: self.at(RunSettings()),
            attempts=training.attempts,
            timeout=training.timeout,
            words=WORDS,
            suspended=self.spec.suspend,
            store=lambda: self.at(Stored(ANY_ADDRESS)),
        )

    def at(self, question: Question[A]) -> A:
        """Look something up.

        Raises UnansweredError where it has not been asked yet, PlatformError where it was asked in vain.
        """
        return answer(self.answers, question)


def answer(answers: Answers, question: Question[A]) -> A:
    """Look an answer up.

    Raises UnansweredError where it has not been asked yet, PlatformError where it was asked in vain.
    """
    if question not in answers:
        raise UnansweredError(question)
    found = answers[question]
    if isinstance(found, PlatformError):
        raise found
    return cast("A", found)


Check = Callable[[Look], Record | Held | None]
ANY_ADDRESS = "s3://wine-operator/any"  # of no object: that the store answers is enough
WORDS = Words(
    pending="the run waits for its first step",
    timeout="spec.training.timeout",
    after_timeout="; raise it, or see",
    after_termination=f"; the annotation {GROUP}/retrain, or a change of spec.data or spec.training, starts a new one",
)


def first(checks: tuple[Check, ...], look: Look) -> Record | Held | None:
    """Run a chain of checks and return what the first one says that does not hold."""
    for check in checks:
        if (said := check(look)) is not None:
            return said
    return None


def failed(error: PlatformError, policy: Policy) -> Held:
    """Say that a system of the platform did not do what was asked; it is asked again."""
    return Held(error.reason, error.message, stalled=isinstance(error, Refused), wake_in=policy.retry_interval)


def held(look: Look, waits: Waits | None) -> Held | None:
    """Say of a resource that its run waits."""
    if waits is None:
        return None
    status = look.status.with_(run=waits.run) if waits.run else None
    said = Held(waits.reason, waits.message, waits.actions, status, waits.wake_in, stalled=waits.stalled)
    return replace(said, stage=Stage.SUSPENDED, waiting=False) if waits.reason == reasons.SUSPENDED else said
