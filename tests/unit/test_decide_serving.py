"""The served model: its runtime and server, its endpoint, and drift of its deployment."""

from typing import ClassVar

from support.world import World

from winecontract.reasons import Reason
from winepipelines.api.errors import Unavailable
from winepipelines.api.modelrecord import ModelServer
from winepipelines.api.observed import ServerView
from winepipelines.api.spec import Runtime
from winepipelines.api.status import ConditionType
from winepipelines.pipelines.queries import ProbeEndpoint

READY, ENDPOINT_VERIFIED = ConditionType.READY, ConditionType.ENDPOINT_VERIFIED
EXECUTOR = {"executor": "true"}


class TestRuntime:
    MLFLOWSERVER: ClassVar[dict[str, str]] = {"runtime": "mlflowserver"}

    def test_no_run_is_created_for_an_unsupported_server(self, world: World) -> None:
        world.server = ServerView("2.0", "release 2.0 is not supported")
        world.change(serving=self.MLFLOWSERVER)
        world.reconcile()
        assert world.condition(READY).reason == Reason.RUNTIME_UNSUPPORTED
        assert world.condition(ConditionType.STALLED).message == "release 2.0 is not supported"
        assert world.created == []
        assert world.status.revision == 0
        world.server = ServerView("1.18.2")
        world.reconcile()
        assert world.created == ["mlflow-01234567-1"]

    def test_new_runtime_or_server_version_starts_a_revision(self, world: World) -> None:
        world.serve()
        world.change(serving=self.MLFLOWSERVER)
        world.serve()
        assert world.status.revision == 2
        assert world.status.served is not None
        assert world.status.served.model.runtime is Runtime.MLFLOWSERVER
        world.server = ServerView("1.17.1")
        world.serve()
        assert world.status.revision == 3

    def test_served_model_keeps_its_runtime_until_a_model_for_the_new_one_is_ready(self, world: World) -> None:
        world.serve()
        world.change(serving=self.MLFLOWSERVER)
        world.reconcile()
        assert world.applied is not None
        assert world.applied.model.runtime is Runtime.BUNDLED
        world.succeed()
        world.reconcile()
        assert world.applied.model.runtime is Runtime.MLFLOWSERVER

    def test_served_model_of_the_bundled_runtime_queries_no_server(self, world: World) -> None:
        world.serve()
        world.calls.clear()
        world.reconcile()
        assert "Server" not in world.calls

    def test_served_model_keeps_its_image_when_the_operator_is_upgraded(self, world: World) -> None:
        world.serve()
        writes = world.writes
        world.server = ServerView("1.18.2", server=ModelServer(image="server:2"))
        world.calls.clear()
        world.reconcile()
        assert world.writes == writes
        assert "ApplyDeployment" not in world.calls
        world.change(serving={"replicas": 2})
        world.reconcile()
        assert world.applied is not None
        assert (world.applied.model.server.image, world.applied.model.revision) == ("server:1", 1)
        world.change(training={"seed": 7}, serving={"replicas": 2})
        world.serve()
        assert world.status.served is not None
        assert world.status.served.model.server.image == "server:2"
        assert world.applied.model.server.image == "server:2"

    def test_served_model_keeps_its_server_options_until_another_model_serves(self, world: World) -> None:
        world.server = ServerView("1.18.2", server=ModelServer(image="server:1", options=EXECUTOR))
        world.serve()
        world.server = ServerView("1.18.2", server=ModelServer(image="server:2"))
        writes = world.writes
        world.reconcile()
        assert world.writes == writes
        world.change(training={"seed": 7})
        world.reconcile()
        world.succeed()
        world.reconcile()
        assert world.applied is not None
        assert world.applied.canary is not None
        assert (world.applied.model.server.options, world.applied.canary.server.options) == (EXECUTOR, {})
        world.serve()
        assert (world.applied.model.server.options, world.applied.canary) == ({}, None)
        assert world.status.served is not None
        latest = world.status.history[0].model
        assert latest is not None
        assert (world.status.served.model.server.options, latest.server.options) == ({}, {})
        first = world.status.history[1].model
        assert first is not None
        assert first.server.options == EXECUTOR

    def test_rollback_restores_the_image_and_options_of_the_earlier_server(self, world: World) -> None:
        world.server = ServerView("1.18.2", server=ModelServer(image="server:1", options=EXECUTOR))
        world.serve()
        world.server = ServerView("1.18.2", server=ModelServer(image="server:2"))
        world.change(training={"seed": 7})
        world.serve()
        world.annotate(rollback="1")
        world.rolled_out = True
        world.reconcile()
        assert world.applied is not None
        assert (world.applied.model.server.image, world.applied.model.server.options) == ("server:1", EXECUTOR)

    def test_rejected_candidate_does_not_change_the_image_of_the_served_model(self, world: World) -> None:
        world.serve()
        world.server = ServerView("1.18.2", server=ModelServer(image="server:2"))
        world.change(training={"seed": 7})
        world.wrong_answers = {2}
        world.reconcile()
        world.succeed()
        world.reconcile()
        assert world.applied is not None
        assert world.applied.canary is not None
        assert world.applied.canary.server.image == "server:2"
        world.rolled_out = True
        world.reconcile()
        world.pass_time(minutes=1)
        world.reconcile()
        assert (world.applied.model.server.image, world.applied.model.revision) == ("server:1", 1)

    def test_served_model_without_a_recorded_server_keeps_its_image(self, world: World) -> None:
        world.serve()
        status = world.status
        assert status.served is not None
        assert status.candidate is not None
        served, candidate = (
            item.with_(model=item.model.with_(server=ModelServer())) for item in (status.served, status.candidate)
        )
        world.pipeline = world.pipeline.with_status(status.with_(served=served, candidate=candidate))
        world.server = ServerView("1.18.2", server=ModelServer(image="server:2"))
        writes = world.writes
        world.reconcile()
        assert world.writes == writes
        world.change(serving={"replicas": 2})
        world.reconcile()
        assert world.applied is not None
        assert (world.applied.model.server.image, world.replicas) == ("server:1", 2)


class TestServing:
    def test_pipeline_is_not_ready_when_predictions_of_the_served_model_differ(self, world: World) -> None:
        world.serve()
        world.pass_time(minutes=1)
        world.wrong_answers = {1}
        world.reconcile()
        assert not world.ready()
        assert world.condition(ENDPOINT_VERIFIED).reason == "PredictionMismatch"
        world.wrong_answers = set()
        world.pass_time(seconds=30)
        world.reconcile()
        assert world.ready()
        assert world.status.last_prediction is not None
        assert world.status.last_prediction.time == world.now

    def test_pipeline_stays_ready_during_an_mlflow_outage(self, world: World) -> None:
        world.serve()
        world.down[ProbeEndpoint] = Unavailable(Reason.MLFLOW_UNAVAILABLE, "down")
        writes = world.writes
        world.reconcile()
        assert world.ready()
        assert world.writes == writes

    def test_deleted_deployment_is_applied_again(self, world: World) -> None:
        world.serve()
        world.applied, world.rolled_out = None, False
        world.reconcile()
        assert world.applied is not None
        assert not world.ready()
        assert world.drift_corrected == ["Deployment admin/mlflow was deleted. Applied it again for revision 1."]

    def test_serving_change_is_not_reported_as_drift(self, world: World) -> None:
        world.serve()
        world.change(serving={"replicas": 2})
        world.reconcile()
        assert world.replicas == 2
        assert world.drift_corrected == []

    def test_edited_deployment_is_corrected_and_reported(self, world: World) -> None:
        world.serve()
        world.replicas = 5
        world.reconcile()
        assert world.replicas == 1
        assert world.drift_corrected == [
            "Deployment admin/mlflow drifted from the desired state. Applied it again for revision 1."
        ]

    def test_unmanaged_deployment_is_not_changed(self, world: World) -> None:
        world.foreign = True
        world.reconcile()
        world.succeed()
        world.reconcile()
        assert world.condition(READY).reason == Reason.NOT_MANAGED
        assert world.applied is None
