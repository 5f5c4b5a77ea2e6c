"""A random history of one WinePipeline, and the rules that must hold after each step.

`History.step` applies a random event and reconciles. `check_status` is an independent oracle: it has the inputs of each run and
the metrics of each model, and calls no code under test.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any, Self

from support.memory import Crash
from support.world import revision_of

from simulation import faults
from simulation.events import GOOD, TOO_MANY, URLS, WRONG_SCHEDULE, Events, TrainedRun
from winepipelines.api.modelrecord import ModelRecord
from winepipelines.api.observed import (
    RunState,
    TrainingRecords,
)
from winepipelines.api.status import ConditionType, RevisionOutcome
from winepipelines.pipelines import actions
from winepipelines.pipelines.actions import Action, ApplyDeployment, CreateDataCheck, CreateRun
from winepipelines.pipelines.history import entry_of
from winepipelines.runs.actions import AddFinalizer, RemoveFinalizer

BOUND = 60  # reconciles, a minute apart, until a repaired platform must lead to Ready
FINAL = {
    RevisionOutcome.FAILED,
    RevisionOutcome.CANCELED,
    RevisionOutcome.GATE_FAILED,
    RevisionOutcome.REJECTED,
    RevisionOutcome.ROLLED_BACK,
}
STATUS_LIMIT = 64 * 1024  # bytes


class History(Events):
    """A history of one WinePipeline, from a seed, with its rules."""

    # -- rules ----------------------------------------------------------------------------------------------------

    def check_action(self, action: Action) -> None:
        """Assert that an action is allowed."""
        world = self.world
        assert not any(url in repr(action) for url in self.urls), f"rule 5: {action}"
        if isinstance(action, ApplyDeployment | actions.DeleteDeployment):
            assert not world.deployment(action.backend).foreign, f"rule 6: {action}"
        if isinstance(action, CreateRun):
            live = [run.name for run in world.runs if run.live and "-data-" not in run.name]
            assert not live, f"rule 1: {action} while {live}"
            assert action.revision not in self.trained or self._may_submit_again(action), f"rule 1: {action} again"
            self.trained[action.revision] = TrainedRun(world.pipeline.spec)
            if world.status.trigger == "DataChange":
                assert world.status.data_check is not None
                assert world.data_checks[world.status.data_check.count].changed, "no check has found other data"
        if isinstance(action, CreateDataCheck):
            self.known_data[action.count] = action.sha256
        if isinstance(action, ApplyDeployment):
            self._may_serve(action.rollout.model)
            if action.rollout.canary is not None:
                self._passes_gate(action.rollout.canary)
                assert action.rollout.canary.revision not in world.wrong_answers or not self._is_next_step(action), "rule 2"

    def _may_submit_again(self, action: CreateRun) -> bool:
        """Return whether the run of this name is gone: a deleted run is created again."""
        return not any(run.name == action.name for run in self.world.runs)

    def _is_next_step(self, action: ApplyDeployment) -> bool:
        """Return whether the canary gets more traffic than before."""
        applied = self.world.applied
        return action.rollout.weight > (applied.weight if applied and applied.canary else 0)

    def _may_serve(self, model: ModelRecord) -> None:
        """Assert that a model passes the gate or has served before."""
        status = self.world.status
        holders = [item for item in (status.served, status.previous, *status.history) if item is not None]
        if any(item.model is not None and item.model.uri == model.uri for item in holders):
            return
        self._passes_gate(model)

    def _passes_gate(self, model: ModelRecord) -> None:
        trained, spec, served = self.trained.get(model.revision), self.world.pipeline.spec, self.world.status.served
        if trained is None or self.world.status.trigger == "Rollback":
            return  # the model of an earlier revision, by request
        if served is not None and served.model.uri == model.uri:
            return
        for rule in spec.gate:
            value = trained.metrics.get(rule.metric, math.nan)
            assert math.isfinite(value), f"rule 2: {model} has no {rule.metric}"
            assert rule.at_least is None or value >= rule.at_least, f"rule 2: {model}"
            assert rule.at_most is None or value <= rule.at_most, f"rule 2: {model}"
            if rule.no_worse_than_served is not None and served is not None:
                other = trained.metrics.get(f"served_{rule.metric}", math.nan)
                assert value >= other - rule.no_worse_than_served, f"rule 2: {model}"

    def check_status(self) -> None:
        """Assert that the status is correct after a complete reconcile."""
        world, status = self.world, self.world.status
        assert all(most <= 1 for most in world.most_live.values()), "rule 1"
        if world.ready():
            self._ready_is_correct()
        numbers = [entry.revision for entry in status.history]
        assert numbers == sorted(set(numbers), reverse=True), f"history {numbers}"
        assert len(numbers) <= world.pipeline.spec.history_limit, f"history {numbers}"
        assert len(repr(status.to_body())) < STATUS_LIMIT
        kinds = {condition.type for condition in status.conditions if condition.status == "True"}
        assert not {"Ready", "Stalled"} <= kinds
        assert not {"Ready", "Reconciling"} <= kinds
        self._accepted_is_of_this_revision()
        if world.pipeline.requests.retrain not in ("", status.handled.retrain):
            assert "RetrainPending" in kinds, "a pending request is not reported"
        due = status.schedule.next_time if status.schedule is not None else world.now
        if world.decision is not None and due > world.now:
            assert world.pipeline.spec.suspend or (world.decision.requeue_at or world.now) <= due, (
                "no reconcile is due at the scheduled time"
            )

    def _accepted_is_of_this_revision(self) -> None:
        accepted, status = self.world.status.condition(ConditionType.ACCEPTED), self.world.status
        if accepted is not None and accepted.observed_generation == self.world.pipeline.generation:
            names_revision = f" revision {status.revision} " in f" {accepted.message.lower()}"
            assert names_revision, f"Accepted is not of revision {status.revision}: {accepted}"

    def _ready_is_correct(self) -> None:
        world, status = self.world, self.world.status
        served, condition = status.served, world.ready_condition()
        assert condition.observed_generation == world.pipeline.generation, "rule 3: Ready of another generation"
        assert served is not None, "rule 3"
        trained = self.trained.get(served.model.revision)
        if trained is not None:
            assert trained.spec.inputs == world.pipeline.spec.inputs, "rule 3: Ready with the model of another spec"
        verified = next(item for item in status.conditions if item.type == "EndpointVerified")
        assert verified.status == "True", "rule 3: Ready, but the last prediction failed"

    # -- recovery -------------------------------------------------------------------------------------------------

    def copy_for_recovery(self) -> Self:
        """Return a copy in which all faults are corrected."""
        unchanging = [*self.world.down.values()]
        self.recovery = copy.deepcopy(self, {id(error): error for error in unchanging})
        return self.recovery

    def recover(self) -> None:
        """Correct all faults: the pipeline must become and stay Ready, with the help in docs/how-to/troubleshoot.md only."""
        world = self.world
        self.log.append("all faults are corrected")
        faults.correct(world)
        self._correct_spec()
        world.pipeline = replace(world.pipeline, requests=replace(world.pipeline.requests, cancel=""))
        self._run_without_faults(BOUND, world.ready)
        if not world.ready():
            self._needs_a_request()
            world.annotate(retrain=f"after {world.now}", rollback=world.pipeline.requests.rollback)
            self.log.append("a user requests another revision")
            self._run_without_faults(BOUND, world.ready)
        assert world.ready(), f"does not recover: {world.ready_condition()}"
        self._stays_ready()

    def _correct_spec(self) -> None:
        """Correct the errors in the spec only."""
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

    def _needs_a_request(self) -> None:
        """Assert that only another revision can recover, that the status reports it, and that no write happens meanwhile."""
        world, status = self.world, self.world.status
        kinds = {condition.type for condition in status.conditions}
        ready = world.ready_condition()
        assert "Reconciling" not in kinds, f"still reconciling: {ready}"
        entry = entry_of(status, status.revision)
        models = [item.model for item in (status.candidate, status.served) if item is not None]
        lost = any(model.uri in world.lost_models or model.mlflow_run in world.lost_examples for model in models)
        unread = ready.reason == "ModelMissing"
        chosen = ready.reason == "RolledBack"
        assert lost or unread or chosen or (entry is not None and entry.outcome in FINAL), f"needs undocumented help: {ready}"
        assert chosen or "Stalled" in kinds, f"not reported as Stalled: {ready}"
        if entry is not None and entry.outcome is RevisionOutcome.REJECTED and status.candidate is not None:
            assert status.candidate.model.server.image == world.server.server.image, (
                f"the corrected image is not applied: {ready}"
            )
        if not (world.pipeline.spec.training.schedule or world.pipeline.spec.data.check_schedule):
            writes = world.writes
            self._run_without_faults(3)
            assert world.writes == writes, "a status was written while a user must act"

    def _stays_ready(self) -> None:
        """Assert that a settled pipeline causes no write and no action."""
        world, spec = self.world, self.world.pipeline.spec
        training = spec.training.with_(schedule="").model_dump(by_alias=True)
        world.change(training=training, data=spec.data.with_(check_schedule="").model_dump(by_alias=True))
        self._run_without_faults(BOUND)
        assert world.ready(), f"did not stay Ready: {world.ready_condition()}"
        self._has_moved()
        before = world.writes, world.applied, len(world.created)
        for _ in range(5):
            world.now += timedelta(minutes=20)
            world.reconcile()
        assert (world.writes, world.applied, len(world.created)) == before, "a settled pipeline was written"

    def _has_moved(self) -> None:
        """Assert that the model serves on the backend of the spec, and nowhere else, unless it cannot be verified anywhere."""
        world, status = self.world, self.world.status
        served = status.served
        assert served is not None
        if served.model.mlflow_run in world.lost_examples or served.model.uri in world.lost_models:
            return
        assert status.migration is None, f"does not move: {status.condition(ConditionType.MIGRATED)}"
        assert world.home == (world.pipeline.spec.serving.backend or world.home)
        others = [name for name, deployment in world.deployments.items() if deployment.applied and name != world.home]
        assert not others, f"a deployment is left on {others}"

    # -- end ------------------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Repair everything: the model of the spec must serve."""
        world = self.world
        self.repair_platform()
        world.change(suspend=False, gate=[], training={}, serving={}, data={"url": URLS[0]})
        world.annotate(retrain="at last")
        self._run_without_faults(60)
        assert world.ready(), f"does not settle: {world.ready_condition()}"
        writes, applied = world.writes, world.applied
        world.reconcile()
        assert (world.writes, world.applied) == (writes, applied), "a settled pipeline was written"
        self._detects_changed_data()

    def _detects_changed_data(self) -> None:
        """Assert that data checks start no revision for the same data, and one for changed data."""
        world, revision = self.world, self.world.status.revision
        world.change(data={"url": URLS[0], "checkSchedule": "*/10 * * * *"})
        self._run_without_faults(25)
        assert world.status.revision == revision, f"revision without changed data: {world.status.trigger}"
        self.change_data()
        self._run_without_faults(25)
        served = world.status.served
        assert world.ready()
        assert served is not None
        assert (served.revision, served.model.data.sha256) == (revision + 1, self.data), "changed data must start one revision"

    def _run_without_faults(self, minutes: int, until: Callable[[], bool] | None = None) -> None:
        """Let each run and rollout succeed, and reconcile each minute."""
        world = self.world
        for _ in range(minutes):
            for position, run in enumerate(world.runs):
                if run.id in self.orphans:
                    continue
                if run.state is RunState.CANCELING:
                    world.runs[position] = replace(run, state=RunState.FAILED, finished_at=world.now)
                elif run.live and "-data-" in run.name:
                    self._record_check(position, self._check_result(position))
                elif run.live and run.id not in self.stuck:
                    revision = revision_of(run.name)
                    world.runs[position] = replace(run, state=RunState.SUCCEEDED, finished_at=world.now)
                    world.records[revision] = TrainingRecords(self._model(revision, GOOD))
                    self.trained[revision].metrics = GOOD
            self.finish_rollout()
            world.now += timedelta(seconds=61)
            world.reconcile()
            self.check_status()
            if until is not None and until():
                return

    def delete(self) -> None:
        """Delete the pipeline: it must end within a bounded time, and leave no run and no deployment if the platform works."""
        world = self.world
        if self.random.random() < 0.5:
            self.break_system()
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
            assert not [run for run in world.runs if run.live], "rule 7: a run is left"
            left = [name for name, deployment in world.deployments.items() if deployment.applied is not None]
            assert not left, f"rule 7: a deployment is left on {left}"
        assert not world.pipeline.finalizers or {AddFinalizer, RemoveFinalizer} & world.down.keys()
