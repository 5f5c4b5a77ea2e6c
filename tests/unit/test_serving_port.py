"""The serving port: the capabilities that a spec requires, and the view of the backend that decisions get."""

from typing import Any, cast

import pytest
from support import backends
from support.backends import seldon_backend
from support.earlier import SETTINGS
from support.world import World

from winecontract.protocols import Protocol
from winecontract.reasons import Reason
from winepipelines.api.observed import ServerView
from winepipelines.api.pipeline import WinePipeline
from winepipelines.api.spec import Runtime, Serving
from winepipelines.pipelines.observe import Observer
from winepipelines.pipelines.queries import GetServer
from winepipelines.serving.port import CandidateExposure, Capabilities, Promotion

LEAST = Capabilities(
    protocols={Runtime.BUNDLED: (Protocol.V2,)},
    splits_traffic=False,
    candidate=CandidateExposure.REVISION_ADDRESS,
    promotion=Promotion.SHIFT,
    autoscaling=False,
)
UNUSED = cast("Any", None)


class MinimalBackend:
    """A backend with the least capabilities."""

    name = "Least"
    capabilities = LEAST

    def problem(self, pipeline: WinePipeline) -> str:
        return self.capabilities.problem(pipeline.spec.serving)

    def name_problem(self, _: WinePipeline) -> str:
        return ""

    def scaling_problem(self, pipeline: WinePipeline) -> str:
        return self.capabilities.scaling_problem(pipeline.spec.serving)

    def server(self, runtime: Runtime) -> ServerView:
        return ServerView(version="1", problem="" if runtime is Runtime.BUNDLED else "unknown")


async def server(backend: Any, **serving: object) -> ServerView:
    observer = Observer(UNUSED, UNUSED, UNUSED, UNUSED, UNUSED, backends.serving(backend, UNUSED, UNUSED), lambda: None)
    world = World()
    world.change(serving=serving)
    view = await observer.answer(GetServer(world.pipeline.spec.serving.runtime), world.pipeline)
    assert isinstance(view, ServerView)
    return view


@pytest.mark.parametrize(
    ("serving", "problem"),
    [
        ({"protocol": "v2"}, ""),
        ({"protocol": "seldon"}, "Runtime bundled does not speak protocol seldon. Set spec.serving.protocol to v2."),
        ({"runtime": "mlflowserver"}, "It does not serve runtime mlflowserver. Set spec.serving.runtime to bundled."),
        ({"protocol": "v2", "autoscaling": {"maxReplicas": 3}}, "Set spec.serving.replicas instead of spec.serving.autoscaling."),
    ],
)
def test_capabilities_name_what_a_spec_requires_and_the_backend_lacks(serving: dict[str, Any], problem: str) -> None:
    found = LEAST.problem(Serving.model_validate(serving))
    assert found.endswith(problem)
    assert bool(found) == bool(problem)


async def test_scaling_to_zero_is_refused_where_the_backend_lacks_it() -> None:
    view = await server(seldon_backend(SETTINGS), autoscaling={"minReplicas": 0, "maxReplicas": 2})
    assert view.problem_reason == Reason.SCALE_TO_ZERO_UNSUPPORTED
    assert view.problem == (
        "spec.serving.autoscaling.minReplicas is 0, and the serving backend is Seldon. It does not scale models to zero. "
        "Set spec.serving.autoscaling.minReplicas to 1 or more."
    )
    assert (await server(seldon_backend(SETTINGS), autoscaling={"minReplicas": 1, "maxReplicas": 2})).problem == ""


async def test_server_has_a_problem_when_the_backend_lacks_a_capability() -> None:
    view = await server(MinimalBackend(), runtime="mlflowserver")
    assert (
        view.problem
        == "The serving backend is Least. It does not serve runtime mlflowserver. Set spec.serving.runtime to bundled."
    )


async def test_server_view_has_promotion_and_traffic_splitting_of_the_backend() -> None:
    in_place = await server(MinimalBackend(), protocol="v2")
    assert (in_place.promotes_in_place, in_place.splits_traffic, in_place.problem) == (True, False, "")
    replaced = await server(seldon_backend(SETTINGS, traffic_splitting="istio"))
    assert (replaced.promotes_in_place, replaced.splits_traffic) == (False, True)


def test_seldon_names_an_endpoint_for_the_served_model_and_one_for_its_candidate() -> None:
    endpoints = seldon_backend(SETTINGS).endpoints(World().pipeline)
    assert endpoints.stable.url == "http://mlflow-wine-super-model.admin.svc.cluster.local:8000/api/v1.0/predictions"
    assert endpoints.served.url == endpoints.stable.url
    assert endpoints.candidate.url == "http://mlflow-candidate.admin.svc.cluster.local:8000/api/v1.0/predictions"
