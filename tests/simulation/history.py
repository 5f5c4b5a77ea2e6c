"""A random history of one resource: triggers, outcomes, faults, crashes and clock jumps, and what must hold all along.

`History.step` does one thing to the world and lets the operator look; `check` is an oracle of its own: it knows what each run was
made of and what each model is worth, and asks the code under test nothing.
"""

import copy
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Self

from support.memory import Crash
from support.world import World, digest_of, revision_of

from simulation import faults
from winepipelines.lifecycle import actions, reasons
from winepipelines.lifecycle.actions import Action, ApplyDeployment, CreateDataCheck, CreateRun
from winepipelines.lifecycle.history import entry_of
from winepipelines.lifecycle.questions import (
    Aliased,
    Answer,
    Children,
    DataChecked,
    Deployment,
    Question,
    Records,
    Runs,
    Steps,
    Stored,
    Tried,
)
from winepipelines.resource.errors import Refused, Unavailable
from winepipelines.resource.observed import (
    DataCheck,
    LoggedModel,
    Presence,
    RunState,
    StepFailure,
    StepsView,
    TrainingRecords,
    TrialView,
)
from winepipelines.resource.rollout import ModelRef
from winepipelines.resource.spec import Spec
from winepipelines.resource.status import ConditionType, Outcome

QUESTIONS = (Aliased, Answer, Children, DataChecked, Deployment, Records, Runs, Steps, Stored, Tried)
ACTIONS = (
    actions.ApplyChildren,
    actions.ApplyDeployment,
    actions.CreateDataCheck,
    actions.CreateRun,
    actions.DeleteDeployment,
    actions.DeleteRun,
    actions.RemoveAlias,
    actions.SetAlias,
    actions.TerminateRun,
)
BOUND = 60  # looks, a minute apart, within which a corrected platform leads to Ready
GOOD = {"r2": 0.5, "rmse": 0.6, "served_r2": 0.4, "served_rmse": 0.7}  # what a good model shows
FINAL = {Outcome.FAILED, Outcome.CANCELED, Outcome.REFUSED, Outcome.REJECTED, Outcome.ROLLED_BACK}
WRONG_SCHEDULE, TOO_MANY = "99 * * * *", 50
STATUS_LIMIT = 64 * 1024  # bytes
GATES: tuple[list[dict[str, Any]], ...] = (
    [],
    [{"metric": "r2", "atLeast": 0.3}],
    [{"metric": "r2", "noWorseThanServed": 0.05}, {"metric": "rmse", "atMost": 0.9}],
    [{"metric": "nobody_logs_it", "atLeast": 0}],
)
DATA = ("a" * 64, "b" * 64, "c" * 64)  # SHA-256 of what may be behind an address
URLS = ("http://data/wine.csv", "http://data/other.csv", "http://data/third.csv")


@dataclass
class Made:
    """What is known of a run from outside the operator."""

    spec: Spec
    metrics: dict[str, float] = field(default_factory=dict)


class Watched(World):
    """A platform that remembers what it was asked to do, and objects to what must never be."""

    history: "History"

    def _answer(self, question: Question[object]) -> object:
        answer = super()._answer(question)
        if isinstance(question, Steps) and isinstance(answer, StepsView):
            return self.history.steps(question.run_id, answer)
        return answer

    def _perform(self, action: Action) -> None:
        self.history.watch(action)
        super()._perform(action)


class History:
    """One resource's life, from a seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.world = Watched(broken_images={faults.WRONG_IMAGE})
        self.world.history = self
        self.made: dict[int, Made] = {}  # revision: its run
        self.data = DATA[0]
        self.told: dict[int, str] = {}  # count of a look at the data: what it was told of those that are known
        self.urls: set[str] = set(URLS)
        self.stuck: dict[str, str] = {}  # ids of runs that do not move: why their pods cannot start, where that can be seen
        self.orphans: set[str] = set()  # ids of runs whose Workflow was deleted
        self.log: list[str] = []
        self.healing: Self | None = None  # another end of this life, while it is told
        self.did: Callable[[], None]

    # -- what may happen ------------------------------------------------------------------------------------------

    def step(self) -> None:
        """Something happens, and the operator looks; it may die at it."""
        world, chance = self.world, self.random
        events = (
            *((self.training_goes_on,) * 5),
            *((self.pods_come_up,) * 5),
            *((self.time_passes,) * 4),
            self.spec_changes,
            self.somebody_asks,
            self.something_breaks,
            self.something_breaks,
            self.somebody_misconfigures,
            self.the_operator_is_upgraded,
            self.all_is_well_again,
            self.models_turn_bad,
            self.data_change,
            self.data_change,
            self.somebody_meddles,
            self.somebody_meddles,
        )
        self.did = chance.choice(events)
        self.did()
        self.log.append(f"{self.did.__name__} at {world.now:%d %H:%M:%S}")
        if chance.random() < 0.1:
            world.crash_in = chance.randrange(12)
        try:
            world.reconcile()
        except Crash:
            self.log.append("the operator died")
            return
        finally:
            world.crash_in = None
        self.check()
        world.calls.clear()

    def training_goes_on(self) -> None:
        """Runs start, end, fail or vanish."""
        world, chance = self.world, self.random
        for position, run in enumerate(world.runs):
            if not run.live:
                continue
            if run.id in self.orphans:
                continue
            if run.state is RunState.CANCELING:
                world.runs[position] = replace(run, state=RunState.FAILED, finished_at=world.now)
            elif "-data-" in run.name:
                self._check_ends(position)
            elif run.id in self.stuck or chance.random() < 0.08:
                self.stuck.setdefault(run.id, chance.choice(("", "ErrImagePull", "CreateContainerConfigError", "Unschedulable")))
                self.orphans |= {run.id} if chance.random() < 0.1 else set()
            elif chance.random() < 0.1:
                world.runs.pop(position)
                return
            elif chance.random() < 0.5:
                self._training_ends(position)
            else:
                world.runs[position] = replace(run, state=RunState.RUNNING)

    def _training_ends(self, position: int) -> None:
        world, chance = self.world, self.random
        run = world.runs[position]
        revision = revision_of(run.name)
        if chance.random() < 0.4:
            reason = chance.choice(("DataUnreachable", "DataNotCsv", "TrackingUnavailable", "Unexpected"))
            failure = StepFailure("download", reason, "no good", reason == "DataNotCsv", world.now)
            world.runs[position] = replace(run, state=RunState.FAILED, finished_at=world.now, failed_step="download")
            world.records[revision] = TrainingRecords(failure=failure)
            return
        if chance.random() < 0.06:
            reason = chance.choice((reasons.MODEL_UNSIGNED, reasons.MODEL_TAMPERED))
            world.runs[position] = replace(run, state=RunState.SUCCEEDED, finished_at=world.now)
            world.records[revision] = TrainingRecords(refused="the model of MLflow run x is not used", refused_reason=reason)
            return
        served, status = {}, world.status
        metrics = {"r2": round(chance.uniform(0, 0.6), 3), "rmse": round(chance.uniform(0.5, 1), 3)}
        if status.served is not None and chance.random() < 0.8:
            served = {"served_r2": round(chance.uniform(0, 0.6), 3)}
        if chance.random() < 0.05:
            metrics["r2"] = math.nan
        known = {name: value for name, value in (metrics | served).items() if math.isfinite(value)}
        self.made[revision].metrics = known
        model = LoggedModel(
            f"s3://mlflow/{revision}/model",
            f"mlflow-{revision}",
            str(revision),
            known,
            digest=digest_of(revision),
            data_sha256=self.data,
        )
        kept = status.served
        # The same data, and the same spec: the model that is there.
        if kept is not None and kept.data_sha256 == self.data and chance.random() < 0.1:
            model = LoggedModel(
                kept.uri, kept.mlflow_run, kept.version, known, reused=True, digest=kept.digest, data_sha256=self.data
            )
        world.runs[position] = replace(run, state=RunState.SUCCEEDED, finished_at=world.now)
        world.records[revision] = TrainingRecords(model)

    def _check_ends(self, position: int) -> None:
        world, chance = self.world, self.random
        failure = StepFailure("check", "DataUnreachable", "no host", False, world.now)
        self._check_says(position, chance.choice((self._seen(position), self._seen(position), DataCheck(failure=failure), None)))

    def _seen(self, position: int) -> DataCheck:
        """Compare the data with what a look was told of them; where it was told nothing, nothing has changed."""
        return DataCheck(self.told[self._count(position)] not in ("", self.data), self.data)

    def _check_says(self, position: int, said: DataCheck | None) -> None:
        world = self.world
        world.runs[position] = replace(world.runs[position], state=RunState.SUCCEEDED, finished_at=world.now)
        if said is not None:
            world.data_checks[self._count(position)] = said

    def _count(self, position: int) -> int:
        return int(self.world.runs[position].name.rsplit("-", 1)[1])

    def steps(self, run_id: str, seen: StepsView) -> StepsView:
        """Show what keeps a run from moving: pods that cannot start, or that it has no Workflow any more."""
        if run_id in self.orphans:
            return replace(seen, workflow="")
        reason = self.stuck.get(run_id)
        return replace(seen, problem=StepFailure("download", reason, "no such image", False, self.world.now)) if reason else seen

    def pods_come_up(self) -> None:
        """Whatever is applied is rolled out."""
        self.world.rolled_out = True

    def time_passes(self) -> None:
        """The clock goes on, by seconds or weeks; sometimes it is set back."""
        seconds = self.random.choice((1, 5, 31, 61, 400, 1000, 3600, 90_000, 700_000, -1, -30, -5000))
        self.world.now += timedelta(seconds=seconds)

    def spec_changes(self) -> None:
        """A person applies another spec."""
        chance, world = self.random, self.world
        canary = {"steps": [10, 50], "pause": "1m"} if chance.random() < 0.5 else None
        training: dict[str, Any] = {"seed": chance.choice((1337, 1337, 7)), "attempts": chance.choice((1, 3))}
        if chance.random() < 0.5:
            training |= {
                "schedule": chance.choice(("*/5 * * * *", "0 3 * * 1")),
                "timeZone": chance.choice(("Etc/UTC", "Europe/Berlin")),
            }
        if chance.random() < 0.03:
            training |= {"schedule": WRONG_SCHEDULE}
        data = {"url": chance.choice((URLS[0], URLS[0], *URLS))}
        if chance.random() < 0.7:
            data["checkSchedule"] = "*/10 * * * *"
        world.change(
            data=data,
            training=training,
            gate=chance.choice(GATES),
            serving={
                "replicas": chance.choice((1, 1, 1, 2, TOO_MANY)),
                "canary": canary,
                "runtime": chance.choice((*("bundled",) * 9, "mlflowserver")),
            },
            suspend=chance.random() < 0.15,
            historyLimit=chance.choice((1, 3, 10)),
        )

    def somebody_asks(self) -> None:
        """A person annotates the resource."""
        chance, status = self.random, self.world.status
        known = [str(entry.revision) for entry in status.history] or ["1"]
        self.world.ask(
            retrain=chance.choice(("", "a", "b", str(chance.random()))),
            rollback=chance.choice(("", "", *known, "999", "rubbish")),
            cancel=chance.choice(("", "", str(status.revision), str(status.revision + 1))),
        )

    def something_breaks(self) -> None:
        """A system is away, or refuses."""
        chance = self.random
        error = chance.choice((Unavailable("KubeflowUnavailable", "away"), Refused("KubernetesRefused", "no rights")))
        self.world.down[chance.choice((*QUESTIONS, *ACTIONS))] = error

    def all_is_well_again(self) -> None:
        """Every system works, and every model answers as it should."""
        faults.correct(self.world)

    def somebody_misconfigures(self) -> None:
        """Something of the platform is wrong until somebody corrects it."""
        faults.misconfigure(self.world, self.random)
        self.world.settings = f"settings {self.random.randrange(3)}"

    def the_operator_is_upgraded(self) -> None:
        """It comes with another server image, which may not exist; the one before may not have known signatures."""
        faults.install(self.world, self.random.choice((*faults.GOOD_IMAGES, faults.WRONG_IMAGE)), self.random)
        if self.random.random() < 0.3:
            faults.forget_signatures(self.world)

    def models_turn_bad(self) -> None:
        """A model answers wrongly, or slowly, or its pods do not start."""
        chance, revision = self.random, self.world.status.revision
        match chance.randrange(4):
            case 0:
                self.world.wrong_answers = {max(1, revision - chance.randrange(2))}
            case 1:
                self.world.trials[revision] = TrialView(20, milliseconds=500, served_milliseconds=4)
            case 2:
                self.world.trials[revision] = TrialView(20, 9, reason="EndpointUnreachable", message="no answer")
            case 3:
                self.world.trouble = chance.choice((("ErrImagePull", "no such image"), (reasons.MODEL_TAMPERED, "other bytes")))

    def data_change(self) -> None:
        """Other bytes are behind the address."""
        self.data = self.random.choice([other for other in DATA if other != self.data])

    def somebody_meddles(self) -> None:
        """Someone deletes what the operator, or a run, has made."""
        match self.random.randrange(5):
            case 0 | 1:
                self.world.applied, self.world.rolled_out = None, False
            case 2 | 3:
                self.world.children = Presence.ABSENT
            case _:
                faults.lose(self.world, self.random)

    # -- what must hold -------------------------------------------------------------------------------------------

    def watch(self, action: Action) -> None:
        """Object to an action that must never be, whatever has happened."""
        world = self.world
        assert not any(url in repr(action) for url in self.urls), f"rule 5: {action}"
        assert not world.foreign or not isinstance(action, ApplyDeployment | actions.DeleteDeployment), f"rule 6: {action}"
        if isinstance(action, CreateRun):
            live = [run.name for run in world.runs if run.live and "-data-" not in run.name]
            assert not live, f"rule 1: {action} while {live}"
            assert action.revision not in self.made or self._may_submit_again(action), f"rule 1: {action} again"
            self.made[action.revision] = Made(world.pipeline.spec)
            if world.status.trigger == "DataChange":
                assert world.status.data_check is not None
                assert world.data_checks[world.status.data_check.count].changed, "nobody has seen other data"
        if isinstance(action, CreateDataCheck):
            self.told[action.count] = action.sha256
        if isinstance(action, ApplyDeployment):
            self._may_serve(action.rollout.model)
            if action.rollout.trial is not None:
                self._passes_gate(action.rollout.trial)
                assert action.rollout.trial.revision not in world.wrong_answers or not self._is_next_step(action), "rule 2"

    def _may_submit_again(self, action: CreateRun) -> bool:
        """A run that was deleted is submitted again, under its own name."""
        return not any(run.name == action.name for run in self.world.runs)

    def _is_next_step(self, action: ApplyDeployment) -> bool:
        """Whether a model on trial gets more of the traffic than it has."""
        applied = self.world.applied
        return action.rollout.weight > (applied.weight if applied and applied.trial else 0)

    def _may_serve(self, model: ModelRef) -> None:
        """A model is put in charge only if it passes the gate, or has served before."""
        status = self.world.status
        before = [item for item in (status.served, status.previous) if item is not None]
        if any(item.uri == model.uri for item in before) or any(entry.uri == model.uri for entry in status.history):
            return
        self._passes_gate(model)

    def _passes_gate(self, model: ModelRef) -> None:
        made, spec, served = self.made.get(model.revision), self.world.pipeline.spec, self.world.status.served
        if made is None or self.world.status.trigger == "Rollback":
            return  # the model of an earlier revision, by request
        if served is not None and served.uri == model.uri:
            return
        for rule in spec.gate:
            value = made.metrics.get(rule.metric, math.nan)
            assert math.isfinite(value), f"rule 2: {model} has no {rule.metric}"
            assert rule.at_least is None or value >= rule.at_least, f"rule 2: {model}"
            assert rule.at_most is None or value <= rule.at_most, f"rule 2: {model}"
            if rule.no_worse_than_served is not None and served is not None:
                other = made.metrics.get(f"served_{rule.metric}", math.nan)
                assert value >= other - rule.no_worse_than_served, f"rule 2: {model}"

    def check(self) -> None:
        """What the status says is so, after a look that came to its end."""
        world, status = self.world, self.world.status
        assert all(most <= 1 for most in world.most_live.values()), "rule 1"
        if world.ready():
            self._ready_is_true()
        numbers = [entry.revision for entry in status.history]
        assert numbers == sorted(set(numbers), reverse=True), f"history {numbers}"
        assert len(numbers) <= world.pipeline.spec.history_limit, f"history {numbers}"
        assert len(repr(status.to_body())) < STATUS_LIMIT
        kinds = {condition.type for condition in status.conditions if condition.status == "True"}
        assert not {"Ready", "Stalled"} <= kinds
        assert not {"Ready", "Reconciling"} <= kinds
        self._names_this_revision()
        if world.pipeline.asks.retrain not in ("", status.asked.retrain):
            assert "retrain waits" in world.condition_of_ready().message, "a request is passed over in silence"
        if status.next_run is not None and world.decision is not None and status.next_run > world.now:
            assert world.pipeline.spec.suspend or (world.decision.wake_at or world.now) <= status.next_run, "nobody wakes it"

    def _names_this_revision(self) -> None:
        accepted, status = self.world.status.condition(ConditionType.ACCEPTED), self.world.status
        if accepted is not None and accepted.observed_generation == self.world.pipeline.generation:
            assert f"revision {status.revision} " in accepted.message, f"of another revision than {status.revision}: {accepted}"

    def _ready_is_true(self) -> None:
        world, status = self.world, self.world.status
        served, condition = status.served, world.condition_of_ready()
        assert condition.observed_generation == world.pipeline.generation, "rule 3: Ready of another generation"
        assert served is not None, "rule 3"
        made = self.made.get(served.origin or served.revision)
        if made is not None and served.origin is not None:
            assert made.spec.inputs == world.pipeline.spec.inputs, "rule 3: Ready with the model of another spec"
        elif made is not None:
            assert self.made[served.revision].spec.inputs == world.pipeline.spec.inputs, "rule 3: the model of another spec"
        answering = next(item for item in status.conditions if item.type == "Answering")
        assert answering.status == "True", "rule 3: Ready, and the last prediction failed"

    # -- no state is final ----------------------------------------------------------------------------------------

    def healed(self) -> Self:
        """Copy this life, for another end of it."""
        unchanging = [*self.world.down.values()]
        self.healing = copy.deepcopy(self, {id(error): error for error in unchanging})
        return self.healing

    def heal(self) -> None:
        """With the causes corrected it becomes Ready and stays so, with no help but what docs/serving.md names."""
        world = self.world
        self.log.append("everything is corrected")
        faults.correct(world)
        self._correct_spec()
        world.pipeline = replace(world.pipeline, asks=replace(world.pipeline.asks, cancel=""))
        self._all_goes_well(BOUND, world.ready)
        if not world.ready():
            self._waits_for_a_request()
            world.ask(retrain=f"after {world.now}", rollback=world.pipeline.asks.rollback)
            self.log.append("a person asks for another revision")
            self._all_goes_well(BOUND, world.ready)
        assert world.ready(), f"no way out: {world.condition_of_ready()}"
        self._stays_ready()

    def _correct_spec(self) -> None:
        """Correct what is wrong with the spec, and nothing that is right."""
        spec, changes = self.world.pipeline.spec, dict[str, Any]()
        if spec.suspend:
            changes["suspend"] = False
        if spec.training.schedule == WRONG_SCHEDULE:
            changes["training"] = spec.training.with_(schedule="").model_dump(by_alias=True)
        if any(rule.metric not in GOOD for rule in spec.gate):
            changes["gate"] = []
        if spec.serving.replicas == TOO_MANY:
            changes["serving"] = spec.serving.with_(replicas=1).model_dump(by_alias=True)
        if changes:
            self.world.change(**changes)

    def _waits_for_a_request(self) -> None:
        """It has come to an end that only another revision leads on from, says so, and does nothing meanwhile."""
        world, status = self.world, self.world.status
        kinds = {condition.type for condition in status.conditions}
        said = world.condition_of_ready()
        assert "Reconciling" not in kinds, f"it does not come to an end: {said}"
        entry = entry_of(status, status.revision)
        models = [model for model in (status.candidate, status.served) if model is not None]
        lost = any(model.uri in world.lost_models or model.mlflow_run in world.lost_examples for model in models)
        unread = said.reason == "ModelMissing"
        chosen = said.reason == "RolledBack"
        assert lost or unread or chosen or (entry is not None and entry.outcome in FINAL), f"it needs help: {said}"
        assert chosen or "Stalled" in kinds, f"nobody is told: {said}"
        if entry is not None and entry.outcome is Outcome.REJECTED and status.candidate is not None:
            assert status.candidate.image == world.server.image, f"the corrected image has not reached it: {said}"
        if not (world.pipeline.spec.training.schedule or world.pipeline.spec.data.check_schedule):
            writes = world.writes
            self._all_goes_well(3)
            assert world.writes == writes, "a resource that waits for a person costs a write"

    def _stays_ready(self) -> None:
        """Once what is under way has come to its end, nothing more is written and nothing more is done."""
        world, spec = self.world, self.world.pipeline.spec
        training = spec.training.with_(schedule="").model_dump(by_alias=True)
        world.change(training=training, data=spec.data.with_(check_schedule="").model_dump(by_alias=True))
        self._all_goes_well(BOUND)
        assert world.ready(), f"it did not stay: {world.condition_of_ready()}"
        before = world.writes, world.applied, len(world.created)
        for _ in range(5):
            world.now += timedelta(minutes=20)
            world.reconcile()
        assert (world.writes, world.applied, len(world.created)) == before, "a settled resource costs a write"

    # -- how it ends ----------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """With everything well, it comes to rest: the spec's model serves, or a person is told why not."""
        world = self.world
        self.all_is_well_again()
        world.change(suspend=False, gate=[], training={}, serving={}, data={"url": URLS[0]})
        world.ask(retrain="at last")
        self._all_goes_well(60)
        assert world.ready(), f"it never came to rest: {world.condition_of_ready()}"
        writes, applied = world.writes, world.applied
        world.reconcile()
        assert (world.writes, world.applied) == (writes, applied), "a settled resource costs a write"
        self._notices_other_data()

    def _notices_other_data(self) -> None:
        """Looks at the data make no revision as long as they are the same, and one as soon as they are not."""
        world, revision = self.world, self.world.status.revision
        world.change(data={"url": URLS[0], "checkSchedule": "*/10 * * * *"})
        self._all_goes_well(25)
        assert world.status.revision == revision, f"the data are the same: {world.status.trigger}"
        self.data_change()
        self._all_goes_well(25)
        served = world.status.served
        assert world.ready()
        assert served is not None
        assert (served.revision, served.data_sha256) == (revision + 1, self.data), "other data make another model, once"

    def _all_goes_well(self, minutes: int, until: Callable[[], bool] | None = None) -> None:
        """Whatever is begun comes to a good end."""
        world = self.world
        for _ in range(minutes):
            for position, run in enumerate(world.runs):
                if run.id in self.orphans:
                    continue
                if run.state is RunState.CANCELING:
                    world.runs[position] = replace(run, state=RunState.FAILED, finished_at=world.now)
                elif run.live and "-data-" in run.name:
                    self._check_says(position, self._seen(position))
                elif run.live and run.id not in self.stuck:
                    revision = revision_of(run.name)
                    world.runs[position] = replace(run, state=RunState.SUCCEEDED, finished_at=world.now)
                    uri, mlflow_run = f"s3://mlflow/{revision}/model", f"mlflow-{revision}"
                    model = LoggedModel(uri, mlflow_run, str(revision), GOOD, digest=digest_of(revision), data_sha256=self.data)
                    world.records[revision] = TrainingRecords(model)
                    self.made[revision].metrics = GOOD
            world.rolled_out = True
            world.now += timedelta(seconds=61)
            world.reconcile()
            self.check()
            if until is not None and until():
                return

    def delete(self) -> None:
        """It goes away in bounded time, whatever is down, and leaves no run and no deployment that it could have ended."""
        world = self.world
        if self.random.random() < 0.5:
            self.something_breaks()
        world.delete()
        for _ in range(20):
            for position, run in enumerate(world.runs):
                if run.state is RunState.CANCELING:
                    world.runs[position] = replace(run, state=RunState.FAILED, finished_at=world.now)
            try:
                world.reconcile()
            except Crash:
                continue
            world.now += timedelta(seconds=15)
        if not world.down:
            assert not [run for run in world.runs if run.live], "rule 7: a run goes on"
            assert world.applied is None, "rule 7: a deployment is left"
        assert not world.pipeline.finalizers or {actions.AddFinalizer, actions.RemoveFinalizer} & world.down.keys()
