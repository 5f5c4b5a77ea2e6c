"""What someone who may edit a namespace might try: to have the operator, or the credentials it holds, go elsewhere."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from aiohttp import web

from winepipelines.platform.manifests import Manifests
from winepipelines.platform.records import Example
from winepipelines.platform.seldon import Seldon
from winepipelines.resource.pipeline import WinePipeline
from winepipelines.resource.spec import Spec
from winepipelines.resource.status import Status
from winepipelines.settings import Settings

CRD = yaml.safe_load((Path(__file__).parents[2] / "crds" / "winepipelines.yaml").read_text())
NOBODY: Any = None
PIPELINE = WinePipeline(
    "admin", "mlflow", "0123456789ab", 1, "1", Spec.model_validate({"data": {"url": "http://data/wine.csv"}}), Status()
)
FREE_TEXT = {
    "data.url",  # fetched by the run, in the user's own namespace, with the user's own credentials
    "data.sha256",
    "data.separator",
    "data.target",
    "training.experiment",
    "training.registeredModel",
    "training.timeout",
    "training.schedule",
    "training.timeZone",  # looked up among the known zones, never opened as a path
    "data.checkSchedule",
    "data.credentialsSecret",  # of the resource's own namespace, read by the run that its owner may start there anyway
    "gate.metric",
    "serving.canary.pause",
}


def _texts(schema: dict[str, Any], path: str = "") -> Iterator[str]:
    """List the fields that take any text."""
    for name, field in schema.get("properties", {}).items():
        here = f"{path}.{name}" if path else name
        if field.get("type") == "string" and "enum" not in field:
            yield here
        yield from _texts(field, here)
        yield from _texts(field.get("items", {}), here)


def test_no_field_but_the_datas_address_names_a_place() -> None:
    """A new field that takes any text must be looked at with an attacker's eyes before it is added here."""
    [version] = CRD["spec"]["versions"]
    spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    assert set(_texts(spec)) == FREE_TEXT


@pytest.fixture
async def trap() -> AsyncIterator[tuple[str, list[str]]]:
    """A model's server that leads on to another place; what was asked there."""
    asked: list[str] = []

    async def lead_on(request: web.Request) -> web.Response:
        raise web.HTTPTemporaryRedirect(f"http://{request.host}/elsewhere")

    async def elsewhere(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.json_response({"data": {"ndarray": [5.0]}})

    app = web.Application()
    app.router.add_route("*", "/elsewhere", elsewhere)
    app.router.add_route("*", "/{path:.*}", lead_on)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    yield f"http://{host}:{port}/{{namespace}}/{{name}}", asked
    await runner.cleanup()


async def test_a_model_cannot_lead_the_operator_elsewhere(trap: tuple[str, list[str]]) -> None:
    template, asked = trap
    settings = Settings(kfp_url="http://kfp", mlflow_url="http://mlflow", s3_endpoint_url="http://s3", endpoint_template=template)
    async with aiohttp.ClientSession() as session:
        seldon = Seldon(NOBODY, Manifests(settings.templates), settings, session)
        check = await seldon.predict(PIPELINE, Example(["a"], [[1.0]], [5.0]))
    assert not check.passed
    assert check.reason == "PredictionRefused"
    assert asked == []
