"""Decisions about a WinePrediction: its model, output, result and time to live."""

from dataclasses import replace
from datetime import timedelta

import pytest
from support.memory import START
from support.prediction_world import MODEL, OUTPUT, SERVING, SPEC, PredictionWorld, serving

from winecontract.reasons import Reason
from winepipelines.api.errors import Refused, Unavailable
from winepipelines.api.observed import RunState
from winepipelines.api.prediction import Input, PredictionStage, default_output
from winepipelines.api.scoring import OutputClaim, OutputUse, PipelineView, PredictionRecords
from winepipelines.api.status import ConditionType
from winepipelines.predictions.actions import DeleteResource, SubmitPrediction

NAME = "scores-89abcdef-batch"


@pytest.fixture
def world() -> PredictionWorld:
    return PredictionWorld()


class TestLifecycle:
    def test_prediction_goes_from_apply_to_scored(self, world: PredictionWorld) -> None:
        decision = world.reconcile()
        assert world.created == [NAME]
        assert world.status.stage is PredictionStage.SCORING
        assert (world.status.model, world.status.revision, world.status.pipeline_uid) == (MODEL, 3, "0123456789ab")
        assert world.condition().reason == Reason.RUN_PENDING
        assert world.condition(ConditionType.RECONCILING).status == "True"
        assert decision.follow is not None
        assert decision.follow.name == NAME

        world.pass_time(seconds=83)
        world.succeed(rows=1000, MissingValue=20, FieldCount=3)
        decision = world.reconcile()
        assert world.status.stage is PredictionStage.SUCCEEDED
        assert (world.status.rows, world.status.duration) == (1000, "1m23s")
        assert (world.status.output, world.status.report) == (OUTPUT, f"{OUTPUT}.report.json")
        rejected = world.status.rejected
        assert rejected is not None
        assert rejected.model_dump() == {
            "rows": 23,
            "reasons": ({"reason": "MissingValue", "rows": 20}, {"reason": "FieldCount", "rows": 3}),
        }
        assert world.condition().status == "True"
        assert world.condition().message.startswith("Scored 977 of 1,000 rows with revision 3 (version 3) in 1m23s: s3://scores/")
        assert "Rejected 23 (MissingValue 20, FieldCount 3); see" in world.condition().message
        assert [condition.type for condition in world.status.conditions] == ["Ready"]
        assert decision.follow is None
        assert decision.requeue_at is None

    def test_finished_prediction_causes_no_write(self, world: PredictionWorld) -> None:
        world.reconcile()
        world.succeed()
        world.reconcile()
        writes, calls = world.writes, len(world.calls)
        world.pass_time(days=30)
        world.reconcile()
        assert (world.writes, len(world.calls)) == (writes, calls)

    def test_transition_records_one_event(self, world: PredictionWorld) -> None:
        for _ in range(3):
            world.reconcile()
        world.succeed()
        for _ in range(3):
            world.reconcile()
        reasons = [event.reason for event in world.events]
        assert len(reasons) == len(set(reasons))
        assert reasons[-1] == Reason.SCORED


class TestModel:
    @pytest.mark.parametrize(
        ("view", "reason"),
        [
            (PipelineView(exists=False), Reason.PIPELINE_MISSING),
            (PipelineView(exists=True), Reason.NOTHING_SERVED),
        ],
    )
    def test_prediction_waits_when_no_model_is_served(self, world: PredictionWorld, view: PipelineView, reason: str) -> None:
        world.pipeline = view
        decision = world.reconcile()
        assert world.status.stage is PredictionStage.WAITING
        assert world.condition().reason == reason
        assert world.condition(ConditionType.RECONCILING).status == "True"
        assert decision.requeue_at is not None
        assert world.created == []
        world.pipeline = SERVING
        world.reconcile()
        assert world.created == [NAME]

    def test_model_is_that_served_at_submission_when_another_is_served_later(self, world: PredictionWorld) -> None:
        world.down[SubmitPrediction] = Unavailable(Reason.KUBEFLOW_UNAVAILABLE, "no answer")
        world.reconcile()
        world.pipeline = serving(4, "def")
        world.down.clear()
        world.pass_time(minutes=5)
        world.reconcile()
        assert world.scored_with == {NAME: MODEL}
        world.pipeline = PipelineView(exists=False)
        world.succeed()
        world.reconcile()
        assert (world.status.model, world.status.revision, world.status.pipeline_uid) == (MODEL, 3, "0123456789ab")
        assert world.status.stage is PredictionStage.SUCCEEDED


class TestDefaultOutput:
    CHOSEN = "s3://mlpipeline/private/admin/predictions/scores-89abcdef.csv"

    @pytest.fixture(autouse=True)
    def leave_out_the_output(self, world: PredictionWorld) -> None:
        world.prediction = replace(world.prediction, spec=SPEC.with_(output=""))

    def test_output_is_chosen_before_the_run_is_submitted(self, world: PredictionWorld) -> None:
        world.reconcile()
        assert world.status.output == self.CHOSEN
        assert world.written_to == {NAME: self.CHOSEN}

    def test_chosen_output_stays_when_the_administrator_changes_the_folder(self, world: PredictionWorld) -> None:
        world.down[SubmitPrediction] = Unavailable(Reason.KUBEFLOW_UNAVAILABLE, "no answer")
        world.reconcile()
        world.output_address = "s3://elsewhere/scores.csv"
        world.down.clear()
        world.pass_time(minutes=5)
        world.reconcile()
        world.succeed()
        world.reconcile()
        assert world.written_to == {NAME: self.CHOSEN}
        assert (world.status.output, world.status.report) == (self.CHOSEN, f"{self.CHOSEN}.report.json")
        assert self.CHOSEN in world.condition().message

    def test_prediction_is_rejected_when_the_chosen_output_is_the_input(self, world: PredictionWorld) -> None:
        world.prediction = replace(world.prediction, spec=SPEC.with_(output="", input=Input(url=self.CHOSEN)))
        world.reconcile()
        assert world.created == []
        assert world.condition(ConditionType.STALLED).reason == Reason.OUTPUT_IS_SOURCE

    def test_prediction_is_rejected_when_an_earlier_one_claims_the_chosen_output(self, world: PredictionWorld) -> None:
        world.output_use = OutputUse((OutputClaim("admin", "first", "0000", START, PredictionStage.SCORING, begun=True),))
        world.reconcile()
        assert world.created == []
        assert self.CHOSEN in world.condition().message

    @pytest.mark.parametrize(
        ("source", "suffix"),
        [
            ({"url": "s3://data/new.csv"}, "csv"),
            ({"url": "https://data/new"}, "csv"),
            ({"url": "https://data/new.Parquet?versionId=3"}, "parquet"),
            ({"url": "https://data/new", "format": "parquet"}, "parquet"),
            ({"url": "https://data/new.parquet", "format": "csv"}, "csv"),
        ],
    )
    def test_default_output_has_the_format_of_the_input(self, source: dict[str, str], suffix: str) -> None:
        address = default_output("s3://b/private", "team", "scores", "89abcdef0123", Input.model_validate(source))
        assert address == f"s3://b/private/team/predictions/scores-89abcdef.{suffix}"


class TestOutput:
    OTHER = OutputClaim("admin", "first", "0000", START, PredictionStage.SCORING, begun=True)

    def assert_rejected(self, world: PredictionWorld, reason: str) -> str:
        world.reconcile()
        assert world.created == []
        assert world.status.stage is PredictionStage.FAILED
        assert world.condition(ConditionType.STALLED).reason == reason
        assert "Create another WinePrediction with another output." in world.condition().message
        return world.condition().message

    @pytest.mark.parametrize(
        ("url", "problem"),
        [
            (OUTPUT, "The output s3://scores/red.parquet is the input itself"),
            ("s3://scores//red.parquet", "The output s3://scores/red.parquet is the input itself"),
            (
                "http://minio.kubeflow:9000/scores/red%2Eparquet?X-Amz-Signature=1",
                "The output s3://scores/red.parquet is the input itself",
            ),
            ("s3://scores/red.parquet?versionId=1", "The output s3://scores/red.parquet is the input itself"),
            (f"{OUTPUT}.report.json", "The report s3://scores/red.parquet.report.json is the input itself"),
        ],
    )
    @pytest.mark.parametrize("overwrite", [False, True])
    def test_output_is_rejected_when_it_is_the_input(
        self, world: PredictionWorld, url: str, problem: str, overwrite: bool
    ) -> None:
        world.change(input={"url": url}, overwrite=overwrite)
        message = self.assert_rejected(world, Reason.OUTPUT_IS_SOURCE)
        assert message.startswith(problem)
        assert "Signature" not in message

    @pytest.mark.parametrize("overwrite", [False, True])
    def test_output_is_rejected_when_a_pipeline_trains_on_it(self, world: PredictionWorld, overwrite: bool) -> None:
        world.change(overwrite=overwrite)
        world.output_use = OutputUse(trained_on=("admin/red", "admin/white"))
        assert "the training data of WinePipeline admin/red, admin/white" in self.assert_rejected(world, Reason.OUTPUT_IS_SOURCE)

    @pytest.mark.parametrize("overwrite", [False, True])
    @pytest.mark.parametrize("stage", [None, PredictionStage.WAITING, PredictionStage.SCORING])
    def test_output_is_rejected_when_an_earlier_prediction_claims_it(
        self, world: PredictionWorld, stage: PredictionStage | None, overwrite: bool
    ) -> None:
        world.prediction = replace(world.prediction, created_at=START + timedelta(seconds=1))
        world.change(overwrite=overwrite)
        world.output_use = OutputUse((replace(self.OTHER, stage=stage, begun=stage is PredictionStage.SCORING),))
        message = self.assert_rejected(world, Reason.OUTPUT_CLAIMED)
        assert message.startswith(f"WinePrediction admin/first also writes its output to {OUTPUT} and was created first.")

    def test_output_is_rejected_when_a_later_prediction_has_begun(self, world: PredictionWorld) -> None:
        world.prediction = replace(world.prediction, created_at=START)
        world.output_use = OutputUse((replace(self.OTHER, created_at=START + timedelta(seconds=1)),))
        self.assert_rejected(world, Reason.OUTPUT_CLAIMED)

    def test_output_is_accepted_when_a_later_prediction_waits(self, world: PredictionWorld) -> None:
        world.prediction = replace(world.prediction, created_at=START)
        world.output_use = OutputUse((replace(self.OTHER, created_at=START + timedelta(seconds=1), stage=None, begun=False),))
        world.reconcile()
        assert world.created == [NAME]

    def test_output_is_accepted_for_one_of_two_predictions_created_in_the_same_second(self, world: PredictionWorld) -> None:
        world.prediction = replace(world.prediction, created_at=START)
        for uid, created in (("ffff", 1), ("0000", 0)):
            other = replace(world.prediction, uid=uid)
            claim = OutputClaim("admin", "other", uid, START)
            this, competitor = PredictionWorld(prediction=world.prediction), PredictionWorld(prediction=other)
            this.output_use = OutputUse((claim,))
            competitor.output_use = OutputUse((OutputClaim("admin", "scores", world.prediction.uid, START),))
            this.reconcile()
            competitor.reconcile()
            assert (len(this.created), len(competitor.created)) == (created, 1 - created)

    def test_output_is_replaced_only_when_overwrite_is_true(self, world: PredictionWorld) -> None:
        world.output_use = OutputUse((replace(self.OTHER, stage=PredictionStage.SUCCEEDED),))
        assert "Set spec.overwrite: true" in self.assert_rejected(world, Reason.OUTPUT_CLAIMED)
        again = PredictionWorld(output_use=world.output_use)
        again.change(overwrite=True)
        again.reconcile()
        assert again.created == [NAME]

    def test_output_is_accepted_when_the_other_prediction_failed(self, world: PredictionWorld) -> None:
        world.output_use = OutputUse((replace(self.OTHER, stage=PredictionStage.FAILED),))
        world.reconcile()
        assert world.created == [NAME]

    def test_prediction_waits_when_the_other_prediction_is_being_deleted(self, world: PredictionWorld) -> None:
        world.output_use = OutputUse((replace(self.OTHER, deleting=True),))
        decision = world.reconcile()
        assert world.condition().reason == Reason.OUTPUT_CLAIMED
        assert world.status.stage is PredictionStage.WAITING
        assert decision.requeue_at is not None
        world.output_use = OutputUse()
        world.reconcile()
        assert world.created == [NAME]

    def test_output_is_not_checked_again_when_the_run_exists(self, world: PredictionWorld) -> None:
        world.reconcile()
        world.output_use = OutputUse((self.OTHER,))
        world.reconcile()
        assert world.status.stage is PredictionStage.SCORING
        world.succeed()
        world.reconcile()
        assert world.status.stage is PredictionStage.SUCCEEDED

    def test_rejected_prediction_is_deleted_after_its_time_to_live(self, world: PredictionWorld) -> None:
        world.change(input={"url": OUTPUT}, ttlAfterFinished="1h")
        world.reconcile()
        world.pass_time(hours=1)
        world.reconcile()
        assert "DeleteResource" in world.calls


class TestResult:
    def test_prediction_waits_for_the_result_and_then_fails(self, world: PredictionWorld) -> None:
        world.reconcile()
        world.move_run(RunState.SUCCEEDED)
        world.reconcile()
        assert world.condition().reason == Reason.RESULT_PENDING
        world.pass_time(minutes=1)
        world.reconcile()
        assert world.condition().reason == Reason.RESULT_NOT_RECORDED
        assert world.status.stage is PredictionStage.FAILED

    def test_prediction_fails_when_the_result_is_refused(self, world: PredictionWorld) -> None:
        world.reconcile()
        world.move_run(RunState.SUCCEEDED)
        world.records["run-1"] = PredictionRecords(refused="the rows do not add up")
        world.reconcile()
        assert world.condition().reason == Reason.RESULT_REJECTED
        assert world.condition().message.startswith("the rows do not add up")


class TestTimeToLive:
    @pytest.mark.parametrize("good", [True, False])
    def test_prediction_is_deleted_when_its_time_to_live_is_over_and_not_before(self, world: PredictionWorld, good: bool) -> None:
        world.change(ttlAfterFinished="1h")
        world.reconcile()
        world.succeed() if good else world.fail(permanent=True)
        decision = world.reconcile()
        assert decision.requeue_at is not None
        world.pass_time(minutes=59)
        decision = world.reconcile()
        assert "DeleteResource" not in world.calls
        world.now = decision.requeue_at  # type: ignore[assignment] # it is set
        world.reconcile()
        assert world.calls.count("DeleteResource") == 1
        if world.exists:
            world.reconcile()
        assert not world.exists

    def test_time_to_live_can_be_set_after_the_end(self, world: PredictionWorld) -> None:
        world.reconcile()
        world.succeed()
        world.reconcile()
        world.pass_time(hours=2)
        world.change(ttlAfterFinished="3h")
        decision = world.reconcile()
        assert decision.requeue_at is not None
        assert world.status.observed_generation == world.prediction.generation
        assert world.status.stage is PredictionStage.SUCCEEDED
        assert world.condition().status == "True"
        world.change(ttlAfterFinished="1h")
        world.reconcile()
        assert "DeleteResource" in world.calls

    def test_status_keeps_the_result_when_the_deletion_is_refused(self, world: PredictionWorld) -> None:
        world.change(ttlAfterFinished="0s")
        world.down[DeleteResource] = Refused(Reason.KUBERNETES_REQUEST_REJECTED, "no rights")
        world.reconcile()
        world.succeed()
        decision = world.reconcile()
        assert world.status.stage is PredictionStage.SUCCEEDED
        assert world.condition().status == "True"
        assert decision.requeue_at is not None
