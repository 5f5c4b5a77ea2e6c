"""WinePipelines with the statuses that the operator writes, as the API server stores them, for tests of status consumers."""

from collections.abc import Callable
from typing import Any

from support.world import World

from winecontract.reasons import Reason
from winepipelines.api.errors import Refused, Unavailable
from winepipelines.api.observed import SecretState
from winepipelines.api.pipeline import API_VERSION, KIND
from winepipelines.api.status import Status
from winepipelines.pipelines.queries import ListRuns, ProbeEndpoint

Body = dict[str, Any]


def _untouched(world: World) -> None:
    """The resource was just applied."""


def _training(world: World) -> None:
    world.reconcile()


def _deploying(world: World) -> None:
    world.reconcile()
    world.succeed()
    world.reconcile()


def _serving(world: World) -> None:
    world.serve()


def _changed(world: World) -> None:
    world.serve()
    world.change(data={"url": "http://data/better.csv"})


def _training_again(world: World) -> None:
    _changed(world)
    world.reconcile()


def _bad_data(world: World) -> None:
    world.reconcile()
    world.fail(permanent=True)
    world.reconcile()


def _source_secret_missing(world: World) -> None:
    world.source = SecretState("kubeflow", "source", False)
    world.reconcile()


def _suspended(world: World) -> None:
    world.change(suspend=True)
    world.reconcile()


def _serving_suspended(world: World) -> None:
    world.serve()
    world.change(suspend=True)
    world.reconcile()


def _rolled_back(world: World) -> None:
    """A user has requested the rollback to the model of an earlier spec."""
    promoted(world)
    world.annotate(rollback="1")
    world.reconcile()
    world.roll_out()


def _rolled_back_automatically(world: World) -> None:
    """The operator has rolled back a model whose prediction check failed."""
    promoted(world)
    world.wrong_answers.add(2)
    world.reconcile()
    world.pass_time(minutes=1)
    world.roll_out()


def _kubeflow_down(world: World) -> None:
    world.down[ListRuns] = Unavailable(Reason.KUBEFLOW_UNAVAILABLE, "no answer")
    world.reconcile()


def _kubeflow_refuses(world: World) -> None:
    world.down[ListRuns] = Refused(Reason.KUBEFLOW_REQUEST_REJECTED, "not you")
    world.reconcile()


def _answers_wrongly(world: World) -> None:
    world.serve()
    world.wrong_answers.add(1)
    world.pass_time(hours=1)
    world.reconcile()


def _deleted(world: World) -> None:
    world.serve()
    world.delete()
    world.down[ProbeEndpoint] = Unavailable(Reason.ENDPOINT_UNREACHABLE, "no answer")


def promoted(world: World) -> None:
    """Serve revision 1, then revision 2 of another spec."""
    _changed(world)
    world.serve()


SITUATIONS: dict[str, Callable[[World], None]] = {
    name.removeprefix("_"): situation
    for name, situation in list(globals().items())
    if getattr(situation, "__module__", "") == __name__ and name.startswith("_")
}


def resource(situation: str) -> Body:
    """Build the resource in a situation."""
    world = World()
    SITUATIONS[situation](world)
    pipeline = world.pipeline
    metadata: Body = {"name": pipeline.name, "namespace": pipeline.namespace, "generation": pipeline.generation}
    if pipeline.deleted_at is not None:
        metadata["deletionTimestamp"] = pipeline.deleted_at.isoformat()
    body: Body = {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata}
    body["spec"] = pipeline.spec.model_dump(by_alias=True, mode="json", exclude_none=True)
    # The API server has no status until the first is written.
    return {**body, "status": pipeline.status.to_body()} if pipeline.status != Status() else body
