"""The table of all paths: which service answers it, by which method. docs/reference/model-server.md shows it to users.

All paths are known once the model's name is: a route is found in a table, and nothing that a caller sends becomes a metric's
label. Source of the paths: seldon-core 1.18, `executor/api/rest/server.go` and `python/seldon_core/wrapper.py`, and the Open
Inference Protocol.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.responses import Response

from wineserver import bodies, openinference, seldon
from wineserver.environment import Environment
from wineserver.metrics import Metrics
from wineserver.model import WineModel
from wineserver.problems import RequestRefusedError, json_response, refusal
from wineserver.rows import InputError

PREDICT = "/api/v1.0/predictions"
OTHER_COMPONENTS = {"transform-input", "transform-output", "route", "aggregate", "generate", "infer_stream", "generate_stream"}


@dataclass
class Call:
    """A request with all of its body. `puid` is the request's id, the caller's own or a new one."""

    method: str
    path: str
    headers: Headers
    body: bytes
    puid: str


Handler = Callable[[Call], Response]
"""Answers in the event loop, or in a thread where the request is large."""


@dataclass(frozen=True)
class Route:
    """A path: its handlers by method, and how it is counted.

    `service` is the executor's word for it in the metrics ("" is not counted), `model_path` the path by which the executor would
    have called the model.
    """

    handlers: Mapping[str, Handler]
    service: str = ""
    model_path: str = ""

    @property
    def methods(self) -> str:
        """What the header Allow says."""
        return ", ".join(sorted({*self.handlers, "OPTIONS"}))


class Routes:
    """All that the server answers about a loaded model."""

    def __init__(self, model: WineModel, environment: Environment, metrics: Metrics) -> None:
        self.draining = False
        self._model = model
        self._name = environment.name
        self._predictor = environment.identity.predictor
        self._request_path = {environment.name: image} if (image := environment.identity.image) else {}
        self._metrics = metrics
        self._infer = f"/v2/models/{environment.name}/infer"
        metrics_route = Route({"GET": self._exposition})
        self._table = {environment.metrics_path: metrics_route, "/prometheus": metrics_route, **self._all()}

    def find(self, path: str) -> Route:
        """Return a path's route. Raises RequestRefusedError (404), which says what to ask instead."""
        if route := self._table.get(path):
            return route
        raise RequestRefusedError(404, self._unknown(path))

    def _all(self) -> dict[str, Route]:
        name, v1, v2 = self._name, "/api/v1.0", "/v2/models"
        predict = Route({"POST": self._predict}, "predictions", "/predict")
        infer = Route({"POST": self._infer_tensors}, "predictions", self._infer)
        feedback = Route({"POST": self._feedback}, "feedback")
        ready = Route({"GET": self._ready}, "status")
        described = Route({"GET": self._describe}, "metadata")
        graph = Route({"GET": self._describe_graph}, "metadata")
        tensors = Route({"GET": self._describe_tensors}, "metadata")
        alive = Route({"GET": self._alive})
        return {
            **dict.fromkeys((PREDICT, "/api/v0.1/predictions", "/predict"), predict),
            **dict.fromkeys((self._infer, f"{v2}/infer"), infer),
            **dict.fromkeys((f"{v1}/feedback", "/api/v0.1/feedback", "/send-feedback"), feedback),
            **dict.fromkeys((f"{v1}/status", f"{v1}/status/{name}", f"/api/v0.1/status/{name}", f"{v1}/health/status"), ready),
            **dict.fromkeys(("/v2/health/ready", f"{v2}/{name}/ready"), ready),
            **dict.fromkeys(("/ready", "/health/status"), Route({"GET": self._ready})),
            **dict.fromkeys(("/live", "/health/ping", "/v2/health/live"), alive),
            **dict.fromkeys((f"{v1}/metadata/{name}", f"/api/v0.1/metadata/{name}", "/metadata"), described),
            f"{v1}/metadata": graph,
            f"{v2}/{name}": tensors,
            "/v2": Route({"GET": self._describe_server}),
        }

    def _predict(self, call: Call) -> Response:
        message = bodies.from_form(self._model.schema, call.body, call.headers, seldon.FORM)
        request = seldon.read(self._model.schema, message, self._infer)
        values = self._model.predict(request.matrix)
        if "seldon-puid" not in call.headers:
            call.puid = request.meta.get("puid") or call.puid
        return json_response(seldon.answer(request, values, call.puid, self._request_path))

    def _infer_tensors(self, call: Call) -> Response:
        if bodies.BINARY_HEADER in call.headers:
            raise InputError(openinference.BINARY)
        payload = bodies.load(self._model.schema, call.body, call.headers.get("content-type", ""), openinference.FORM)
        values = self._model.predict(openinference.read(self._model.schema, payload, PREDICT))
        return json_response(openinference.answer(payload, values, self._name, call.puid))

    def _feedback(self, call: Call) -> Response:
        message = bodies.from_form(self._model.schema, call.body, call.headers, '{"request": ..., "reward": 1.0}')
        self._metrics.count_feedback(seldon.reward(self._model.schema, message))
        info = "counted in the metrics; the model does not learn from feedback"
        return json_response({"status": {"status": "SUCCESS", "code": 200, "info": info}, "meta": {"puid": call.puid}})

    def _ready(self, call: Call) -> Response:
        # The server starts to listen when its model is loaded, so that answering at all means being ready.
        if self.draining:
            return refusal(call.path, 503, "the server is shutting down")
        if call.path.startswith("/v2"):
            return Response()
        return json_response({"data": {"names": [], "ndarray": []}, "meta": {}})

    def _alive(self, _: Call) -> Response:
        return Response("pong", media_type="text/plain")

    def _describe(self, _: Call) -> Response:
        return json_response(seldon.metadata(self._model, self._name))

    def _describe_graph(self, _: Call) -> Response:
        return json_response(seldon.graph_metadata(self._model, self._name, self._predictor))

    def _describe_tensors(self, _: Call) -> Response:
        return json_response(openinference.metadata(self._model, self._name))

    def _describe_server(self, _: Call) -> Response:
        return json_response({"name": "wineserver", "version": "", "extensions": []})

    def _exposition(self, _: Call) -> Response:
        text, media_type = self._metrics.exposition()
        return Response(text, headers={"Content-Type": media_type})

    def _unknown(self, path: str) -> str:
        """Why there is nothing at a path."""
        here = f"predictions are at POST {PREDICT} and POST {self._infer}"
        match path.rstrip("/").split("/")[1:]:
            case ["v2", "models", name, *_] if name != self._name:
                return f"there is no model {name[:60]!r}, this server has {self._name!r}; {here}"
            case ["api", _, "metadata" | "status", name] if name != self._name:
                return f"there is no model {name[:60]!r}, this server has {self._name!r}"
            case ["v2", "models", _, "versions", *_]:
                return f"the model has no versions here; {here}"
            case ["v1", "models" | "models:predict", *_]:
                return f"the TensorFlow protocol is not served; {here}"
            case ["api", _, "doc" | "docs", *_] | ["v2", "docs", *_] | ["seldon.json"]:
                return f"there is no page about the API; GET /api/v1.0/metadata describes the model; {here}"
            case [*_, last] if "explain" in last:
                return f"explanations are not served, this server has no explainer; {here}"
            case [*_, last] if last in OTHER_COMPONENTS:
                return f"the server has a model for predictions only; {here}"
            case [*_, "invocations"]:
                return f"this is no MLflow server; {here}"
        return f"there is no such path; {here}"
