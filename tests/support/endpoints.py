"""Prediction endpoints by namespace: some respond as the model does, those of an attacker accept and never respond."""

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

from support.cluster import Cluster

from winepipelines.api.pipeline import GROUP, WinePipeline


class Endpoints:
    """A server of the endpoints `/<namespace>/…`."""

    def __init__(self, predictions: list[float], hanging: Collection[str]) -> None:
        """Respond with these predictions, except in the hanging namespaces."""
        self.hanging = set(hanging)
        self.requests: Counter[str] = Counter()
        self._answer = json.dumps({"data": {"ndarray": predictions}}).encode()
        self._port = 0

    @property
    def variables(self) -> dict[str, str]:
        """Environment variables that point the operator to this server."""
        url = f"http://127.0.0.1:{self._port}/{{namespace}}/{{name}}"
        return {"WINE_ENDPOINT_TEMPLATE": url, "WINE_PREDICTOR_TEMPLATE": f"{url}/{{predictor}}"}

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[None]:
        """Serve on a free port within the context."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=500)
        self._port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            head = await reader.readuntil(b"\r\n\r\n")
            namespace = head.split(b" ")[1].split(b"/")[1].decode()
            self.requests[namespace] += 1
            if namespace in self.hanging:
                await reader.read()  # until the operator gives up
            else:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(self._answer), self._answer))
                await writer.drain()
        writer.close()


def predictions_of(cluster: Cluster, trained: WinePipeline) -> list[float]:
    """Read the predictions that a model's run recorded for its input example."""
    assert trained.status.candidate is not None
    run = trained.status.candidate.model.mlflow_run
    found = cluster.http(f"{cluster.info.mlflow_url}/api/2.0/mlflow/runs/get?run_id={run}")["run"]["data"]["tags"]
    [text] = [tag["value"] for tag in found if tag["key"] == f"{GROUP}/prediction"]
    return [float(value) for value in json.loads(text)]
