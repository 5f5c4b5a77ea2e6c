"""Random events of one WinePipeline: triggers, outcomes, faults, crashes and clock jumps."""

import math
import random
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Self

from support.memory import Crash
from support.world import KSERVE, SELDON, World, digest_of, revision_of

from simulation import faults
from winecontract.reasons import Reason
from winepipelines.api.errors import Refused, Unavailable
from winepipelines.api.modelrecord import ModelRecord, TrainingData
from winepipelines.api.observed import (
    CanaryComparison,
    DataCheckResult,
    Presence,
    RunState,
    StepFailure,
    StepsView,
    TrainingRecords,
)
from winepipelines.api.spec import Spec
from winepipelines.engine.decision import Query
from winepipelines.pipelines import actions
from winepipelines.pipelines.actions import Action
from winepipelines.pipelines.queries import (
    CheckArtifact,
    CompareCanary,
    GetAlias,
    GetChildren,
    GetDataCheck,
    GetDeployment,
    GetRecords,
    GetSteps,
    ListRuns,
    ProbeEndpoint,
)
from winepipelines.runs.actions import DeleteRun, TerminateRun

QUERIES = (
    GetAlias,
    ProbeEndpoint,
    GetChildren,
    GetDataCheck,
    GetDeployment,
    GetRecords,
    ListRuns,
    GetSteps,
    CheckArtifact,
    CompareCanary,
)
ACTIONS = (
    actions.ApplyChildren,
    actions.ApplyDeployment,
    actions.CreateDataCheck,
    actions.CreateRun,
    actions.DeleteDeployment,
    DeleteRun,
    actions.RemoveAlias,
    actions.SetAlias,
    TerminateRun,
)
GOOD = {"r2": 0.5, "rmse": 0.6, "served_r2": 0.4, "served_rmse": 0.7}  # metrics of a good model
WRONG_SCHEDULE, TOO_MANY = "99 * * * *", 50
GATES: tuple[list[dict[str, Any]], ...] = (
    [],
    [{"metric": "r2", "atLeast": 0.3}],
    [{"metric": "r2", "noWorseThanServed": 0.05}, {"metric": "rmse", "atMost": 0.9}],
    [{"metric": "missing", "atLeast": 0}],
)
DATA = ("a" * 64, "b" * 64, "c" * 64)  # SHA-256 digests of data behind a URL
URLS = ("http://data/wine.csv", "http://data/other.csv", "http://data/third.csv")


@dataclass
class TrainedRun:
    """Inputs and results of a run, recorded without the operator."""

    spec: Spec
    metrics: dict[str, float] = field(default_factory=dict)


class CheckedWorld(World):
    """A world that checks each action of the operator."""

    history: "Events"

    def _answer(self, query: Query[object]) -> object:
        answer = super()._answer(query)
        if isinstance(query, GetSteps) and isinstance(answer, StepsView):
            return self.history.steps(query.run_id, answer)
        return answer

    def _perform(self, action: Action) -> None:
        self.history.check_action(action)
        super()._perform(action)


class Events(ABC):
    """Random events of one WinePipeline, from a seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.world = CheckedWorld(broken_images={faults.WRONG_IMAGE})
        self.world.history = self
        self.moves = seed % 2 == 1  # between serving backends
        self.trained: dict[int, TrainedRun] = {}  # revision: its run
        self.data = DATA[0]
        self.known_data: dict[int, str] = {}  # count of a data check: digest of the known data
        self.urls: set[str] = set(URLS)
        self.stuck: dict[str, str] = {}  # id of a run that makes no progress: reason of its pods, if any
        self.orphans: set[str] = set()  # ids of runs whose Workflow was deleted
        self.log: list[str] = []
        self.recovery: Self | None = None  # the copy of this history in which all faults are corrected
        self.event: Callable[[], None]

    @abstractmethod
    def check_action(self, action: Action) -> None:
        """Assert that an action is allowed."""

    @abstractmethod
    def check_status(self) -> None:
        """Assert that the status is correct."""

    # -- events ---------------------------------------------------------------------------------------------------

    def step(self) -> None:
        """Apply a random event, then reconcile; the operator may crash."""
        world, chance = self.world, self.random
        events = (
            *((self.advance_runs,) * 5),
            *((self.finish_rollout,) * 5),
            *((self.pass_time,) * 4),
            self.stop_idle_pods,
            self.change_spec,
            self.annotate_requests,
            self.break_system,
            self.break_system,
            self.misconfigure_platform,
            self.upgrade_operator,
            self.repair_platform,
            self.degrade_model,
            self.change_data,
            self.change_data,
            self.delete_objects,
            self.delete_objects,
        )
        self.event = chance.choice(events)
        self.event()
        self.log.append(f"{self.event.__name__} at {world.now:%d %H:%M:%S}")
        if chance.random() < 0.1:
            world.crash_in = chance.randrange(12)
        try:
            world.reconcile()
        except Crash:
            self.log.append("the operator crashed")
            return
        finally:
            world.crash_in = None
        self.check_status()
        world.calls.clear()

    def advance_runs(self) -> None:
        """Start, finish, fail or delete runs."""
        world, chance = self.world, self.random
        for position, run in enumerate(world.runs):
            if not run.live:
                continue
            if run.id in self.orphans:
                continue
            if run.state is RunState.CANCELING:
                world.runs[position] = replace(run, state=RunState.FAILED, finished_at=world.now)
            elif "-data-" in run.name:
                self._finish_check(position)
            elif run.id in self.stuck or chance.random() < 0.08:
                self.stuck.setdefault(run.id, chance.choice(("", "ErrImagePull", "CreateContainerConfigError", "Unschedulable")))
                self.orphans |= {run.id} if chance.random() < 0.1 else set()
            elif chance.random() < 0.1:
                world.runs.pop(position)
                return
            elif chance.random() < 0.5:
                self._finish_training(position)
            else:
                world.runs[position] = replace(run, state=RunState.RUNNING)

    def _finish_training(self, position: int) -> None:
        world, chance = self.world, self.random
        run = world.runs[position]
        revision = revision_of(run.name)
        if chance.random() < 0.4:
            reason = chance.choice(("DataUnreachable", "DataNotCsv", "TrackingUnavailable", "UnexpectedError"))
            failure = StepFailure("download", reason, "no good", reason == "DataNotCsv", world.now)
            world.runs[position] = replace(run, state=RunState.FAILED, finished_at=world.now, failed_step="download")
            world.records[revision] = TrainingRecords(failure=failure)
            return
        if chance.random() < 0.06:
            reason = chance.choice((Reason.MODEL_UNSIGNED, Reason.MODEL_TAMPERED))
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
        self.trained[revision].metrics = known
        model = self._model(revision, known)
        current = status.served
        # Cache hit: the run returns the served model.
        if current is not None and current.model.data.sha256 == self.data and chance.random() < 0.1:
            identity = {"uri", "mlflow_run", "version", "digest"}
            model = model.with_(**current.model.model_dump(include=identity))
        world.runs[position] = replace(run, state=RunState.SUCCEEDED, finished_at=world.now)
        world.records[revision] = TrainingRecords(model)

    def _model(self, revision: int, metrics: dict[str, float]) -> ModelRecord:
        return ModelRecord(
            uri=f"s3://mlflow/{revision}/model",
            mlflow_run=f"mlflow-{revision}",
            version=str(revision),
            metrics=metrics,
            digest=digest_of(revision),
            data=TrainingData(sha256=self.data),
        )

    def _finish_check(self, position: int) -> None:
        world, chance = self.world, self.random
        failure = StepFailure("check", "DataUnreachable", "no host", False, world.now)
        self._record_check(
            position,
            chance.choice((self._check_result(position), self._check_result(position), DataCheckResult(failure=failure), None)),
        )

    def _check_result(self, position: int) -> DataCheckResult:
        """Compare the data with the digest that the check got. Without a digest, the data are unchanged."""
        return DataCheckResult(self.known_data[self._check_count(position)] not in ("", self.data), self.data)

    def _record_check(self, position: int, result: DataCheckResult | None) -> None:
        world = self.world
        world.runs[position] = replace(world.runs[position], state=RunState.SUCCEEDED, finished_at=world.now)
        if result is not None:
            world.data_checks[self._check_count(position)] = result

    def _check_count(self, position: int) -> int:
        return int(self.world.runs[position].name.rsplit("-", 1)[1])

    def steps(self, run_id: str, view: StepsView) -> StepsView:
        """Return the steps of a run that makes no progress: its pods cannot start, or its Workflow was deleted."""
        if run_id in self.orphans:
            return replace(view, workflow="")
        reason = self.stuck.get(run_id)
        return replace(view, problem=StepFailure("download", reason, "no such image", False, self.world.now)) if reason else view

    def finish_rollout(self) -> None:
        """Finish the rollout of what is applied, on every serving backend."""
        for deployment in self.world.deployments.values():
            deployment.rolled_out = True
            deployment.scaled_to_zero = False

    def stop_idle_pods(self) -> None:
        """Scale what is rolled out to zero, on every serving backend: nothing answers until pods start again."""
        for deployment in self.world.deployments.values():
            deployment.scaled_to_zero = deployment.rolled_out

    def pass_time(self) -> None:
        """Advance the clock by seconds or weeks, or set it back."""
        seconds = self.random.choice((1, 5, 31, 61, 400, 1000, 3600, 90_000, 700_000, -1, -30, -5000))
        self.world.now += timedelta(seconds=seconds)

    def change_spec(self) -> None:
        """Apply another spec."""
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
                "backend": chance.choice(("", SELDON, KSERVE)) if self.moves else "",
                "runtime": chance.choice((*("bundled",) * 9, "mlflowserver")),
            },
            suspend=chance.random() < 0.15,
            historyLimit=chance.choice((1, 3, 10)),
        )

    def annotate_requests(self) -> None:
        """Set the annotations that request a retrain, a rollback or a cancellation."""
        chance, status = self.random, self.world.status
        known = [str(entry.revision) for entry in status.history] or ["1"]
        self.world.annotate(
            retrain=chance.choice(("", "a", "b", str(chance.random()))),
            rollback=chance.choice(("", "", *known, "999", "rubbish")),
            cancel=chance.choice(("", "", str(status.revision), str(status.revision + 1))),
        )

    def break_system(self) -> None:
        """Make a query or an action fail: unavailable or rejected."""
        chance = self.random
        error = chance.choice(
            (Unavailable(Reason.KUBEFLOW_UNAVAILABLE, "away"), Refused(Reason.KUBERNETES_REQUEST_REJECTED, "no rights"))
        )
        self.world.down[chance.choice((*QUERIES, *ACTIONS))] = error

    def repair_platform(self) -> None:
        """Correct all faults of the platform and of models."""
        faults.correct(self.world)

    def misconfigure_platform(self) -> None:
        """Misconfigure the platform until it is repaired."""
        faults.misconfigure(self.world, self.random)
        self.world.settings = f"settings {self.random.randrange(3)}"

    def upgrade_operator(self) -> None:
        """Upgrade the operator to another server image, which may not exist. The earlier release may not have signed records."""
        faults.install(self.world, self.random.choice((*faults.GOOD_IMAGES, faults.WRONG_IMAGE)), self.random)
        if self.random.random() < 0.3:
            faults.forget_signatures(self.world)

    def degrade_model(self) -> None:
        """Make a model answer wrongly or slowly, or keep its pods from starting."""
        chance, revision = self.random, self.world.status.revision
        match chance.randrange(4):
            case 0:
                self.world.wrong_answers = {max(1, revision - chance.randrange(2))}
            case 1:
                self.world.canaries[revision] = CanaryComparison(20, milliseconds=500, served_milliseconds=4)
            case 2:
                self.world.canaries[revision] = CanaryComparison(20, 9, reason="EndpointUnreachable", message="no answer")
            case 3:
                self.world.pod_problem = chance.choice(
                    (("ErrImagePull", "no such image"), (Reason.MODEL_TAMPERED, "other bytes"))
                )

    def change_data(self) -> None:
        """Change the data behind the URL."""
        self.data = self.random.choice([other for other in DATA if other != self.data])

    def delete_objects(self) -> None:
        """Delete objects of the operator or of a run."""
        match self.random.randrange(5):
            case 0 | 1:
                self.world.applied, self.world.rolled_out = None, False
            case 2 | 3:
                self.world.children = Presence.ABSENT
            case _:
                faults.lose(self.world, self.random)
