"""Attacks of a namespace's editor: redirecting the operator or its credentials to another host."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from aiohttp import web
from support.backends import seldon_backend
from support.settings import SETTINGS

from winepipelines.api.pipeline import WinePipeline
from winepipelines.api.spec import Spec
from winepipelines.api.status import Status
from winepipelines.platform.records import Example
from winepipelines.serving.probing import EndpointProber, ProbeTarget

CRD = yaml.safe_load((Path(__file__).parents[2] / "crds" / "winepipelines.yaml").read_text())
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
    "serving.migrationGrace",
    "training.schedule",
    "training.timeZone",  # looked up among the known zones, never opened as a path
    "data.checkSchedule",
    "data.credentialsSecret",  # of the resource's own namespace, read by the run that its owner may start there anyway
    "gate.metric",
    "serving.canary.pause",
}


def _texts(schema: dict[str, Any], path: str = "") -> Iterator[str]:
    """List the paths of string fields without an enum."""
    for name, field in schema.get("properties", {}).items():
        field_path = f"{path}.{name}" if path else name
        if field.get("type") == "string" and "enum" not in field:
            yield field_path
        yield from _texts(field, field_path)
        yield from _texts(field.get("items", {}), field_path)


def test_spec_has_no_other_free_text_field() -> None:
    """Review a new string field for attacks (SSRF, path traversal, injection) before you add it here."""
    [version] = CRD["spec"]["versions"]
    spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    assert set(_texts(spec)) == FREE_TEXT


@pytest.fixture
async def trap() -> AsyncIterator[tuple[str, list[str]]]:
    """Serve a redirect; return its URL template and the paths of the redirected requests."""
    followed: list[str] = []

    async def redirect(request: web.Request) -> web.Response:
        raise web.HTTPTemporaryRedirect(f"http://{request.host}/elsewhere")

    async def elsewhere(request: web.Request) -> web.Response:
        followed.append(request.path)
        return web.json_response({"data": {"ndarray": [5.0]}})

    app = web.Application()
    app.router.add_route("*", "/elsewhere", elsewhere)
    app.router.add_route("*", "/{path:.*}", redirect)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    yield f"http://{host}:{port}/{{namespace}}/{{name}}", followed
    await runner.cleanup()


async def test_prober_does_not_follow_a_redirect_of_the_model(trap: tuple[str, list[str]]) -> None:
    template, followed = trap
    endpoint = seldon_backend(SETTINGS, endpoint_template=template).endpoints(PIPELINE).stable
    async with aiohttp.ClientSession() as session:
        check = await EndpointProber(session).probe(ProbeTarget(endpoint.url, endpoint.protocol, Example(["a"], [[1.0]], [5.0])))
    assert not check.passed
    assert check.reason == "PredictionRejected"
    assert followed == []
