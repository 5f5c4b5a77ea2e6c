"""Call the model server's ASGI application in this process, with a model that adds up its columns."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wineserver.application import Application
from wineserver.environment import Environment, Identity
from wineserver.model import WineModel
from wineserver.rows import Schema

COLUMNS = ("fixed_acidity", "ph", "alcohol")
SCHEMA = Schema(COLUMNS, (7.4, 3.5, 9.4))
IMAGE = "registry:5000/winepipelines/server:0.1.0"
IDENTITY = Identity("wine", "default", "v1", IMAGE)
LIMIT = 4_000_000
PREDICT, INFER = "/api/v1.0/predictions", "/v2/models/classifier/infer"
ROW = [1.0, 2.0, 4.0]
JSON = {"Content-Type": "application/json"}


class Answer:
    """A response as the server sent it."""

    def __init__(self, messages: list[Any]) -> None:
        self.code: int = messages[0]["status"]
        self.headers = {name.decode().lower(): value.decode() for name, value in messages[0]["headers"]}
        self.text = b"".join(message.get("body", b"") for message in messages[1:]).decode()

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def problem(self) -> str:
        return str(self.json["error"] if "error" in self.json else self.json["status"]["info"])


def make(port: int = 8000, predict: Any = None) -> Application:
    model = WineModel(SCHEMA, ("FP64",) * 3, predict or (lambda matrix: matrix.sum(axis=1)), "a" * 32)
    return Application(model, Environment(Path("/m"), "classifier", port, "0.0.0.0", LIMIT, identity=IDENTITY))


async def ask(
    app: Application, method: str, path: str, body: Any = b"", headers: Mapping[str, str] = JSON, parts: int = 1
) -> Answer:
    content = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else json.dumps(body).encode()
    size = max(1, -(-len(content) // parts))
    chunks = [content[i : i + size] for i in range(0, len(content), size)] or [b""]
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
    scope = {"type": "http", "method": method, "path": path, "headers": raw, "query_string": b""}
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": chunks.pop(0), "more_body": bool(chunks)}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return Answer(sent)


async def post(path: str, body: Any, headers: Mapping[str, str] = JSON) -> Answer:
    return await ask(make(), "POST", path, body, headers)


def seldon(**more: Any) -> dict[str, Any]:
    return {"data": {"ndarray": [ROW]}, **more}


def tensor(**more: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP64", "data": ROW, **more}]}


def multipart(fields: Mapping[str, str], file: str = "") -> tuple[bytes, Mapping[str, str]]:
    parts = [f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{text}\r\n' for name, text in fields.items()]
    if file:
        parts.append(f'--b\r\nContent-Disposition: form-data; name="{file}"; filename="a.csv"\r\n\r\n1,2,4\r\n')
    return "".join([*parts, "--b--\r\n"]).encode(), {"Content-Type": "multipart/form-data; boundary=b"}
