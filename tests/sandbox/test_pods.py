"""The programs that replace Seldon's in real pods: the executor and the copier."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from sandbox.places import ROOT
from sandbox.pods import executor as module
from sandbox.pods.executor import Executor
from sandbox.pods.seldon import stand_in
from sandbox.ports import choose
from sandbox.seldon import objects, storage

SDEP: dict[str, Any] = {
    "metadata": {"name": "mlflow", "namespace": "admin", "uid": "1"},
    "spec": {
        "predictors": [
            {
                "name": "wine-super-model",
                "graph": {
                    "name": "classifier",
                    "implementation": "MLFLOW_SERVER",
                    "modelUri": "s3://mlflow/1",
                    "envSecretRefName": "keys",
                },
                "componentSpecs": [{"spec": {"containers": [{"name": "classifier", "image": "winepipelines/server:0.1.0"}]}}],
            }
        ]
    },
}


def test_seldons_images_are_replaced_and_the_server_keeps_its_image() -> None:
    [predictor] = objects.predictors(SDEP)
    [wanted] = objects.predictors(SDEP)
    stand_in(predictor.deployment, "winepipelines/sandbox:0.1.0")
    pod, real = (made.deployment["spec"]["template"]["spec"] for made in (predictor, wanted))
    [initializer], [server, engine] = pod["initContainers"], pod["containers"]
    assert initializer["command"] == ["python", "-m", "sandbox.pods.copier"]
    assert engine["command"] == ["python", "-m", "sandbox.pods.executor"]
    for ours, seldons in ((initializer, real["initContainers"][0]), (engine, real["containers"][1])):
        assert ours["image"] == "winepipelines/sandbox:0.1.0"
        assert {key: ours[key] for key in ours.keys() - {"image", "command"}} == {
            key: seldons[key] for key in seldons.keys() - {"image"}
        }
    assert server == real["containers"][0]
    assert "schedulerName" not in pod


async def _serve(answer: Any) -> tuple[web.ServerRunner, str]:
    port = choose(["it"], {})["it"]
    runner = web.ServerRunner(web.Server(answer, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    return runner, f"http://127.0.0.1:{port}"


@pytest.mark.parametrize(
    ("protocol", "asked", "reaches"),
    [
        ("seldon", "/api/v1.0/predictions", "/predict"),
        ("seldon", "/ready", "/health/status"),
        ("v2", "/v2/models/classifier/infer", "/v2/models/classifier/infer"),
        ("v2", "/ready", "/v2/health/ready"),
    ],
)
async def test_executor_forwards_requests_by_its_protocol(protocol: str, asked: str, reaches: str) -> None:
    async def echo(request: web.BaseRequest) -> web.Response:
        return web.json_response({"path": request.path, "body": (await request.content.read()).decode()})

    server, address = await _serve(echo)
    executor = Executor("wine-super-model", protocol, address)
    port = choose(["it"], {})["it"]
    await executor.start(port)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session, session.post(asked, data="wine") as answer:
        assert (answer.status, await answer.json()) == (200, {"path": reaches, "body": "wine"})
    await executor.stop()
    await server.cleanup()


async def test_executor_is_live_but_not_ready_without_its_server() -> None:
    executor = Executor("wine-super-model", "seldon", f"http://127.0.0.1:{choose(['it'], {})['it']}")
    port = choose(["it"], {})["it"]
    await executor.start(port)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        async with session.get("/live") as answer:
            assert answer.status == 200
        async with session.get("/ready") as answer:
            assert answer.status == 503
    await executor.stop()


async def test_ending_executor_refuses_new_requests_at_once() -> None:
    async def fine(_: web.BaseRequest) -> web.Response:
        return web.Response(text="fine")

    server, address = await _serve(fine)
    port = choose(["it"], {})["it"]
    running = asyncio.create_task(module.run(Executor("wine-super-model", "seldon", address), port))
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        while True:
            try:
                async with session.post("/api/v1.0/predictions") as answer:
                    assert await answer.text() == "fine"
                    break
            except aiohttp.ClientConnectorError:
                await asyncio.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(running, 10)
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.post("/api/v1.0/predictions")
    await server.cleanup()


def test_copier_fails_with_rclones_message(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sandbox.pods.copier", "s3://mlflow/1", str(tmp_path)]
    done = subprocess.run(command, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith('Failed to create file system for "s3:"')


def test_volume_is_emptied_but_not_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Store:
        def get_paginator(self, _: str) -> "Store":
            return self

        def paginate(self, **_: str) -> list[Any]:
            return [{"Contents": [{"Key": "1/MLmodel"}]}]

        def download_file(self, bucket: str, key: str, target: str) -> None:
            Path(target).write_text(json.dumps([bucket, key]))

    def empty(folder: Path, ignore_errors: bool) -> None:
        """Empty the folder but keep it, as for a mount point."""
        for one in folder.iterdir():
            one.unlink()

    (tmp_path / "left").write_text("by an attempt before")
    monkeypatch.setattr("shutil.rmtree", empty)
    monkeypatch.setattr(storage, "_client", lambda *_: Store())
    assert storage.copy("s3://mlflow/1", {}, tmp_path) == 1
    assert [one.name for one in tmp_path.iterdir()] == ["MLmodel"]
