"""A model that serves, on the server that it was made for."""

from typing import ClassVar

import pytest
from support.world import World

from winepipelines.lifecycle import reasons
from winepipelines.lifecycle.questions import Answer
from winepipelines.resource.errors import Unavailable
from winepipelines.resource.observed import ServerView
from winepipelines.resource.spec import Runtime
from winepipelines.resource.status import ConditionType, Status

READY, ANSWERING = ConditionType.READY, ConditionType.ANSWERING


@pytest.fixture
def world() -> World:
    return World()


class TestRuntime:
    MLFLOWSERVER: ClassVar[dict[str, str]] = {"runtime": "mlflowserver"}

    def test_nothing_is_trained_for_a_server_that_could_not_read_it(self, world: World) -> None:
        world.server = ServerView("2.0", "nobody knows what 2.0 reads")
        world.change(serving=self.MLFLOWSERVER)
        world.reconcile()
        assert world.condition(READY).reason == reasons.RUNTIME_UNSUPPORTED
        assert world.condition(ConditionType.STALLED).message == "nobody knows what 2.0 reads"
        assert world.created == []
        assert world.status.revision == 0
        world.server = ServerView("1.18.2")
        world.reconcile()
        assert world.created == ["mlflow-01234567-1"]

    def test_another_runtime_or_version_of_its_server_is_another_revision(self, world: World) -> None:
        world.serve()
        world.change(serving=self.MLFLOWSERVER)
        world.serve()
        assert world.status.revision == 2
        assert world.status.served is not None
        assert world.status.served.runtime is Runtime.MLFLOWSERVER
        world.server = ServerView("1.17.1")
        world.serve()
        assert world.status.revision == 3

    def test_what_serves_keeps_its_runtime_until_there_is_a_model_for_the_new_one(self, world: World) -> None:
        world.serve()
        world.change(serving=self.MLFLOWSERVER)
        world.reconcile()
        assert world.applied is not None
        assert world.applied.model.runtime is Runtime.BUNDLED
        world.succeed()
        world.reconcile()
        assert world.applied.model.runtime is Runtime.MLFLOWSERVER

    def test_a_bundled_model_that_serves_asks_for_no_server(self, world: World) -> None:
        world.serve()
        world.calls.clear()
        world.reconcile()
        assert "Server" not in world.calls

    def test_what_serves_keeps_its_image_when_the_operator_comes_with_another(self, world: World) -> None:
        world.serve()
        writes = world.writes
        world.server = ServerView("1.18.2", image="server:2")
        world.calls.clear()
        world.reconcile()
        assert world.writes == writes
        assert "ApplyDeployment" not in world.calls
        world.change(serving={"replicas": 2})
        world.reconcile()
        assert world.applied is not None
        assert (world.applied.model.image, world.applied.model.revision) == ("server:1", 1)
        world.change(training={"seed": 7}, serving={"replicas": 2})
        world.serve()
        assert world.status.served is not None
        assert world.status.served.image == "server:2"
        assert world.applied.model.image == "server:2"

    def test_what_serves_keeps_seldons_executor_until_there_is_another_model(self, world: World) -> None:
        world.server = ServerView("1.18.2", image="server:1", executor=True)
        world.serve()
        older = world.status.model_dump(by_alias=True, mode="json")
        for model in ("candidate", "served"):
            older[model].pop("executor")  # as the operator of before wrote it
        world.pipeline = world.pipeline.with_status(Status.model_validate(older))
        world.server = ServerView("1.18.2", image="server:2")
        writes = world.writes
        world.reconcile()
        assert world.writes == writes
        world.change(training={"seed": 7})
        world.reconcile()
        world.succeed()
        world.reconcile()
        assert world.applied is not None
        assert world.applied.trial is not None
        assert (world.applied.model.executor, world.applied.trial.executor) == (True, False)
        world.serve()
        assert (world.applied.model.executor, world.applied.trial) == (False, None)
        assert world.status.served is not None
        assert (world.status.served.executor, world.status.history[0].executor) == (False, False)
        assert world.status.history[1].executor

    def test_a_rollback_to_a_model_of_before_has_its_executor(self, world: World) -> None:
        world.server = ServerView("1.18.2", image="server:1", executor=True)
        world.serve()
        world.server = ServerView("1.18.2", image="server:2")
        world.change(training={"seed": 7})
        world.serve()
        world.ask(rollback="1")
        world.rolled_out = True
        world.reconcile()
        assert world.applied is not None
        assert (world.applied.model.image, world.applied.model.executor) == ("server:1", True)

    def test_what_is_rejected_leaves_the_earlier_model_its_image(self, world: World) -> None:
        world.serve()
        world.server = ServerView("1.18.2", image="server:2")
        world.change(training={"seed": 7})
        world.wrong_answers = {2}
        world.reconcile()
        world.succeed()
        world.reconcile()
        assert world.applied is not None
        assert world.applied.trial is not None
        assert world.applied.trial.image == "server:2"
        world.rolled_out = True
        world.reconcile()
        world.pass_time(minutes=1)
        world.reconcile()
        assert (world.applied.model.image, world.applied.model.revision) == ("server:1", 1)

    def test_a_status_of_before_images_were_written_keeps_the_one_that_serves(self, world: World) -> None:
        world.serve()
        status = world.status
        assert status.served is not None
        assert status.candidate is not None
        older = status.with_(served=status.served.with_(image=""), candidate=status.candidate.with_(image=""))
        world.pipeline = world.pipeline.with_status(older)
        world.server = ServerView("1.18.2", image="server:2")
        writes = world.writes
        world.reconcile()
        assert world.writes == writes
        world.change(serving={"replicas": 2})
        world.reconcile()
        assert world.applied is not None
        assert (world.applied.model.image, world.replicas) == ("server:1", 2)


class TestServing:
    def test_a_served_model_that_stops_answering_is_not_ready(self, world: World) -> None:
        world.serve()
        world.pass_time(minutes=1)
        world.wrong_answers = {1}
        world.reconcile()
        assert not world.ready()
        assert world.condition(ANSWERING).reason == "PredictionDiffers"
        world.wrong_answers = set()
        world.pass_time(seconds=30)
        world.reconcile()
        assert world.ready()
        assert world.status.prediction is not None
        assert world.status.prediction.at == world.now

    def test_mlflow_down_does_not_speak_against_a_served_model(self, world: World) -> None:
        world.serve()
        world.down[Answer] = Unavailable("MlflowUnavailable", "down")
        writes = world.writes
        world.reconcile()
        assert world.ready()
        assert world.writes == writes

    def test_a_deleted_deployment_is_made_again(self, world: World) -> None:
        world.serve()
        world.applied, world.rolled_out = None, False
        world.reconcile()
        assert world.applied is not None
        assert not world.ready()
        assert world.mended == ["the SeldonDeployment was gone: deploying revision 1"]

    def test_a_serving_change_is_no_drift(self, world: World) -> None:
        world.serve()
        world.change(serving={"replicas": 2})
        world.reconcile()
        assert world.replicas == 2
        assert world.mended == []

    def test_an_edited_deployment_is_mended_and_told(self, world: World) -> None:
        world.serve()
        world.replicas = 5
        world.reconcile()
        assert world.replicas == 1
        assert world.mended == ["the SeldonDeployment was not as it should be: deploying revision 1"]

    def test_a_foreign_deployment_is_left_alone(self, world: World) -> None:
        world.foreign = True
        world.reconcile()
        world.succeed()
        world.reconcile()
        assert world.condition(READY).reason == reasons.FOREIGN_OBJECT
        assert world.applied is None
