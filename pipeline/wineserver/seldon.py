"""The Seldon protocol's routes, for `create_application`. `/predict` is what Seldon's executor calls.

Messages: seldon-core 1.18, `proto/prediction.proto` in its JSON form. MLServer's `@custom_handler` would put them
behind FastAPI's body model and answer its errors; plain Starlette routes are shorter and faster.
"""

from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from wineserver.problems import json_response
from wineserver.rows import Matrix, Schema
from wineserver.runtime import WineRuntime


def routes(runtime: WineRuntime) -> list[BaseRoute]:
    """Return the routes of a loaded runtime."""

    async def predict(request: Request) -> Response:
        body = await request.body()
        data = _data(runtime.model.schema, body)
        values = (await runtime.compute(_matrix(runtime.model.schema, data))).tolist()
        if "tensor" in data:
            answer: dict[str, Any] = {"tensor": {"shape": [len(values)], "values": values}}
        else:
            answer = {"ndarray": values}
        return json_response({"data": {"names": [], **answer}, "meta": {}})

    async def ping(_: Request) -> Response:
        return Response("pong", media_type="text/plain")

    async def status(_: Request) -> Response:
        # The server starts to listen when its model is loaded, so that answering at all means being ready.
        return json_response({"data": {"names": [], "ndarray": []}, "meta": {}})

    return [
        Route("/predict", predict, methods=["POST"]),
        Route("/api/v1.0/predictions", predict, methods=["POST"]),
        Route("/health/ping", ping),
        Route("/health/status", status),
    ]


def _data(schema: Schema, body: bytes) -> dict[str, Any]:
    if not body:
        raise schema.refuse('the body is empty, not {"data": {"names": [...], "ndarray": [[...]]}}')
    try:
        message = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise schema.refuse(f"the body is not JSON ({error})") from None
    data = message.get("data") if isinstance(message, dict) else None
    if not isinstance(data, dict) or ("ndarray" in data) == ("tensor" in data):
        raise schema.refuse('the body is not {"data": {"names": [...], "ndarray": [[...]]}} (or a "tensor")')
    return data


def _matrix(schema: Schema, data: dict[str, Any]) -> Matrix:
    if "ndarray" in data:
        return schema.from_rows(data["ndarray"], data.get("names"))
    tensor = data["tensor"]
    if not isinstance(tensor, dict):
        raise schema.refuse('"tensor" is not {"shape": [...], "values": [...]}')
    return schema.from_tensor(tensor.get("shape"), tensor.get("values"), data.get("names"))
