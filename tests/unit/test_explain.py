"""`explain`: the check that decided, and its facts, from a dump of the resource."""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.prediction_world import PredictionWorld
from support.world import World

from winecontract.reasons import Reason
from winepipelines.api.errors import Unavailable
from winepipelines.api.observed import RunState, SecretState
from winepipelines.api.pipeline import API_VERSION, KIND, WinePipeline
from winepipelines.api.prediction import PREDICTION_KIND, WinePrediction
from winepipelines.api.status import Run, Stage, Status
from winepipelines.explain import command
from winepipelines.explain.core import Explanation, Finding, explain
from winepipelines.explain.reads import Reads, reading, unwatched
from winepipelines.pipelines.queries import ListRuns


def body_of(resource: WinePipeline | WinePrediction) -> dict[str, Any]:
    """Write a resource as `kubectl get -o yaml` prints it."""
    metadata = {
        "name": resource.name,
        "namespace": resource.namespace,
        "uid": resource.uid,
        "generation": resource.generation,
        "resourceVersion": "1",
        "finalizers": list(resource.finalizers),
    }
    return {
        "apiVersion": API_VERSION,
        "kind": KIND if isinstance(resource, WinePipeline) else PREDICTION_KIND,
        "metadata": metadata,
        "spec": resource.spec.model_dump(by_alias=True, mode="json", exclude_unset=True),
        "status": resource.status.to_body(),
    }


def dump(resource: WinePipeline | WinePrediction) -> WinePipeline | WinePrediction:
    """Read a resource back from its dump."""
    return type(resource).from_body(body_of(resource))


def explained(world: World | PredictionWorld) -> Explanation:
    """Explain the dump of a world's resource."""
    return explain(dump(world.resource), world.now, world.timeouts)


def decided(world: World | PredictionWorld) -> str:
    """Name the check that decided the last reconcile."""
    assert world.decision is not None
    return world.decision.decided_by


def pending() -> World:
    """The run waits for its first step."""
    world = World()
    world.reconcile()
    return world


def rolling_out() -> World:
    """The model's pods start."""
    world = pending()
    world.succeed()
    world.reconcile()
    return world


def serving() -> World:
    """The model serves."""
    world = World()
    world.serve()
    return world


def failed() -> World:
    """The run failed for good."""
    world = pending()
    world.fail(permanent=True)
    world.reconcile()
    return world


def gate_failed() -> World:
    """The model failed its gate."""
    world = World()
    world.change(gate=[{"metric": "r2", "atLeast": 0.9}])
    world.reconcile()
    world.succeed()
    world.reconcile()
    return world


def suspended() -> World:
    """The spec changed while it is suspended."""
    world = serving()
    world.change(suspend=True, training={"seed": 9})
    world.reconcile()
    return world


def invalid_schedule() -> World:
    """The schedule is never due."""
    world = World()
    world.change(training={"schedule": "0 0 30 2 *"})
    world.reconcile()
    return world


def wrong_prediction() -> World:
    """The served model returns wrong predictions, after its probation."""
    world = serving()
    world.pass_time(hours=1)
    world.wrong_answers = {1}
    world.reconcile()
    return world


@pytest.mark.parametrize(
    ("make", "check"),
    [
        (pending, "train/run_has_succeeded/run_is_in_time"),
        (rolling_out, "deploy/rollout_is_complete"),
        (serving, "serve"),
        (failed, "train/revision_has_not_failed"),
        (gate_failed, "gate/metrics_pass_the_gate"),
        (suspended, "train/revision_is_begun"),
        (invalid_schedule, "train/schedules_are_set"),
        (wrong_prediction, "verify/prediction_matches"),
    ],
)
def test_explain_names_the_check_that_decided(make: Any, check: str) -> None:
    """The dump alone leads to the same decision."""
    world = make()
    world.reconcile()
    assert decided(world) == explained(world).decided_by == check


@pytest.mark.parametrize("make", [pending, rolling_out, failed, gate_failed, suspended, invalid_schedule, wrong_prediction])
def test_explain_gives_the_recorded_reason(make: Any) -> None:
    """Reason and message of the result are those of the condition that is not True."""
    world = make()
    result = explained(world)
    conditions = {(condition.reason, condition.message) for condition in world.status.conditions if condition.status == "False"}
    assert (result.reason, result.message) in conditions or result.message in world.ready_condition().message


def test_explain_marks_every_check_of_the_chain() -> None:
    """Checks before the deciding one hold; those after it were not reached."""
    findings = [report.finding for report in explained(pending()).checks]
    position = findings.index(Finding.DECIDES)
    assert set(findings[:position]) == {Finding.HOLDS}
    assert set(findings[position + 1 :]) == {Finding.NOT_REACHED}


def test_explain_lists_the_facts_of_the_deciding_check() -> None:
    """Fields that the check read, with their values, and answers with their source; no field that it did not read."""
    report = next(report for report in explained(pending()).checks if report.finding is Finding.DECIDES)
    assert report.facts["spec.training.timeout"] == "30m"
    assert report.facts["status.run.id"] == "run-1"
    assert report.answers["ListRuns"] == "status.run"
    assert not any(path.startswith(("spec.gate", "spec.serving.replicas", "status.history")) for path in report.facts)


def test_explain_names_the_query_when_the_dump_cannot_tell() -> None:
    """The run succeeded, and MLflow was not reached: what it recorded is in no status."""
    world = pending()
    world.move_run(RunState.SUCCEEDED)
    world.pipeline = replace(world.pipeline, status=world.status.with_(run=(world.status.run or Run()).with_(state="SUCCEEDED")))
    result = explained(world)
    assert (result.decided_by, result.query, result.reason) == ("train/model_is_logged", "GetRecords", "")
    assert [report.name for report in result.checks if report.finding is Finding.UNKNOWN] == ["train/model_is_logged"]


def test_explain_leaves_the_namespace_open_when_it_is_not_prepared() -> None:
    """Which Secret is missing is in the condition, not in the answers that stand in."""
    world = World(source=SecretState("kubeflow", "source", exists=False))
    world.reconcile()
    result = explained(world)
    assert result.query == "GetChildren"
    assert result.recorded is not None
    assert result.recorded.reason == "SourceSecretMissing"


def test_explain_of_a_new_resource_starts_with_its_finalizer() -> None:
    """The operator has not reconciled it."""
    result = explained(World())
    assert (result.decided_by, result.recorded, result.actions) == ("prepare/finalizer_is_set", None, ("AddFinalizer",))


def test_explain_follows_a_canary_until_its_comparison() -> None:
    """How the canary answers is in no status."""
    world = serving()
    world.pass_time(hours=1)
    world.change(training={"seed": 9})
    world.reconcile()
    world.succeed()
    world.reconcile()
    assert explained(world).decided_by == decided(world) == "deploy/canary_has_passed"


def test_explain_names_what_keeps_a_deleted_resource() -> None:
    """The run has not ended."""
    world = pending()
    world.down = {ListRuns: Unavailable(Reason.KUBEFLOW_UNAVAILABLE, "answered 503")}
    world.delete()
    world.reconcile()
    result = explain(replace(world.pipeline, deleted_at=world.now), world.now, world.timeouts)
    assert result.decided_by == "finalize/run_has_ended" == decided(world)


def test_explain_covers_a_prediction() -> None:
    """A WinePrediction has one chain of checks."""
    world = PredictionWorld()
    world.reconcile()
    assert explained(world).decided_by == decided(world) == "score/run_has_succeeded/run_is_in_time"
    world.succeed()
    world.reconcile()
    world.reconcile()
    assert explained(world).decided_by == decided(world) == "score/prediction_has_not_ended"


class TestCommand:
    """The command line."""

    def run(self, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
        """Run it; return exit status and output."""
        parser = argparse.ArgumentParser()
        command.add_arguments(parser)
        status = command.run(parser.parse_args([*arguments, "--at", "2026-01-05T12:00:00Z"]), {})
        return status, *capsys.readouterr()

    @pytest.fixture
    def file(self, tmp_path: Path) -> str:
        """A list of two resources, as `kubectl get -o yaml` prints it."""
        items = [body_of(pending().pipeline), body_of(replace(serving().pipeline, name="other"))]
        path = tmp_path / "dump.yaml"
        path.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "List", "items": items}))
        return str(path)

    def test_command_explains_every_resource_of_a_list(self, capsys: pytest.CaptureFixture[str], file: str) -> None:
        """Text names the check, the facts, and what was not reached."""
        status, out, _ = self.run(capsys, "-f", file)
        assert status == 0
        assert "WinePipeline admin/mlflow" in out
        assert "WinePipeline admin/other" in out
        assert "Decided by: train/run_has_succeeded/run_is_in_time" in out
        assert 'spec.training.timeout = "30m"' in out
        assert "Decided by: serve" in out

    def test_command_explains_the_named_resource(self, capsys: pytest.CaptureFixture[str], file: str) -> None:
        """`--name` selects one."""
        _, out, _ = self.run(capsys, "-f", file, "--name", "other")
        assert "admin/other" in out
        assert "admin/mlflow" not in out

    def test_command_prints_json(self, capsys: pytest.CaptureFixture[str], file: str) -> None:
        """For programs."""
        _, out, _ = self.run(capsys, "-f", file, "-o", "json")
        first = json.loads(out)[0]
        assert first["decided_by"] == "train/run_has_succeeded/run_is_in_time"
        assert {check["finding"] for check in first["checks"]} == {"holds", "decides", "not reached"}

    @pytest.mark.parametrize(
        ("text", "problem"),
        [("a: [", "is not YAML"), ("kind: Pod", "has no WinePipeline"), ("- 1", "where an object is expected")],
    )
    def test_command_fails_when_the_file_has_no_resource(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, problem: str
    ) -> None:
        """The message says why."""
        path = tmp_path / "dump.yaml"
        path.write_text(text)
        status, _, error = self.run(capsys, "-f", str(path))
        assert status == 1
        assert problem in error

    def test_command_fails_when_no_resource_has_the_name(self, capsys: pytest.CaptureFixture[str], file: str) -> None:
        """A typing error is reported."""
        status, _, error = self.run(capsys, "-f", file, "--name", "mistyped")
        assert status == 1
        assert "'mistyped'" in error


class TestReads:
    """Models whose reads are noted."""

    STATUS = Status(stage=Stage.TRAINING, run=Run(name="a", id="1"), revision=2)

    def test_reads_note_only_what_is_read(self) -> None:
        """A field that is passed on the way to a deeper one is not a fact."""
        reads = Reads()
        watched = reads.watch(self.STATUS, "status")
        token = reading.set(reads)
        assert watched.run is not None
        assert watched.run.id == "1"
        reading.reset(token)
        assert reads.values == {"status.run.id": "1"}

    def test_watched_models_equal_the_originals(self) -> None:
        """In either direction, and after a change."""
        watched = Reads().watch(self.STATUS, "status")
        assert watched == self.STATUS
        assert watched == self.STATUS
        assert watched.with_(revision=3) == self.STATUS.with_(revision=3)
        assert watched != self.STATUS.with_(revision=3)

    def test_unwatched_models_have_the_original_types(self) -> None:
        """At every depth."""
        original = unwatched(Reads().watch(self.STATUS, "status").with_(revision=3))
        assert type(original) is Status
        assert type(original.run) is Run
        assert original == self.STATUS.with_(revision=3)
