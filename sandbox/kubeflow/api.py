"""The routes of the API. `experiments` and `runs` handle every request in a thread.

Source: the `google.api.http` options in backend/api/v2beta1/*.proto, and the grpc-gateway's way with what it does not know.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from .auth import Caller
from .errors import ApiError
from .experiments import Experiments
from .runs import Runs

_BASE = "/apis/v2beta1"
_RUN, _EXPERIMENT = f"{_BASE}/runs/{{id:[^/:]+}}", f"{_BASE}/experiments/{{id:[^/:]+}}"
_LARGEST_REQUEST = 32 * 2**20  # bytes
log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Answer = dict[str, Any]


def application(runs: Runs, experiments: Experiments, multi_user: bool) -> web.Application:
    """Return the web application."""
    health = {"commit_sha": "unknown", "tag_name": "2.17.0", "multi_user": multi_user, "pipeline_store": "database"}

    def answering(work: Callable[[web.Request, Caller, bytes], Answer]) -> Handler:
        async def handler(request: web.Request) -> web.Response:
            caller = Caller(request.headers.getall("Authorization", []))
            body = await request.read()
            return web.json_response(await asyncio.to_thread(work, request, caller, body))

        return handler

    async def healthz(_: web.Request) -> web.Response:
        return web.json_response(health)

    def by_id(method: Callable[..., Answer], *more: str) -> Handler:
        return answering(lambda request, caller, _: method(caller, request.match_info["id"], *more))

    app = web.Application(client_max_size=_LARGEST_REQUEST, middlewares=[_errors, *([_mesh] if multi_user else [])])
    app.add_routes(
        [
            web.get(f"{_BASE}/healthz", healthz),
            web.post(f"{_BASE}/runs", answering(lambda _, caller, body: runs.create(caller, body))),
            web.get(f"{_BASE}/runs", answering(lambda request, caller, _: runs.list(caller, request.query))),
            web.get(_RUN, by_id(runs.get)),
            web.delete(_RUN, by_id(runs.delete)),
            web.post(f"{_RUN}:terminate", by_id(runs.terminate)),
            web.post(f"{_RUN}:retry", by_id(runs.retry)),
            web.post(f"{_RUN}:archive", by_id(runs.store_away, "archive")),
            web.post(f"{_RUN}:unarchive", by_id(runs.store_away, "unarchive")),
            web.post(f"{_BASE}/experiments", answering(lambda _, caller, body: experiments.create(caller, body))),
            web.get(f"{_BASE}/experiments", answering(lambda request, caller, _: experiments.list(caller, request.query))),
            web.get(_EXPERIMENT, by_id(experiments.get)),
        ]
    )
    return app


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every error in the gateway's form."""
    try:
        return await handler(request)
    except ApiError as error:
        log.info("%s %s: %s", request.method, request.path, error.internal)
        return web.json_response(error.message(), status=error.status)
    except web.HTTPNotFound:
        return web.json_response({"code": 5, "message": "Not Found"}, status=404)
    except web.HTTPMethodNotAllowed:
        return web.json_response({"code": 12, "message": "Method Not Allowed"}, status=501)
    except web.HTTPException:
        raise
    except Exception as error:
        log.exception("%s %s", request.method, request.path)
        return web.json_response({"code": 13, "message": f"Internal error: {error}"}, status=500)


@web.middleware
async def _mesh(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Reject the user header, as Istio does in multi-user mode: only the gateway may set it."""
    if "kubeflow-userid" in request.headers:
        return web.Response(text="RBAC: access denied", status=403)
    return await handler(request)
