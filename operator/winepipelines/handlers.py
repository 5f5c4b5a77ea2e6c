"""kopf wiring: which events reach the operator. The only module that knows kopf, but for the command line.

kopf watches, authenticates and handles signals; everything else is the level-triggered reconcile of `engine`. So there are only
event handlers: kopf keeps no state in annotations, and no handler is lost when a status changes.
"""

from collections.abc import Mapping
from typing import Any

import aiohttp
import kopf

from winepipelines.api.pipeline import GROUP, PLURAL, VERSION
from winepipelines.api.prediction import PREDICTION_PLURAL
from winepipelines.platform import bodies
from winepipelines.process import Operator
from winepipelines.serving.backends import Backends
from winepipelines.settings import Settings

PAGE_SIZE = 4
"""Objects in each page of kopf's lists: users decide how large objects are."""


def register(settings: Settings, backends: Backends) -> kopf.OperatorRegistry:
    """Build the registry of handlers for these settings."""
    registry = kopf.OperatorRegistry()
    running: list[Operator] = []
    _register_start(registry, running, settings, backends)
    _register_events(registry, running)
    _register_login(registry)
    return registry


def _register_start(
    registry: kopf.OperatorRegistry, running: list[Operator], wine_settings: Settings, backends: Backends
) -> None:
    """Start the operator with kopf, and stop it with kopf; `running` holds it meanwhile."""

    @kopf.on.startup(registry=registry)
    async def start(settings: kopf.OperatorSettings, **_: Any) -> None:
        settings.posting.enabled = False  # our Events are transitions, not log lines
        settings.watching.server_timeout = 300
        settings.watching.chunk_size = PAGE_SIZE
        settings.watching.inactivity_timeout = 360
        settings.networking.request_timeout = 30
        settings.scanning.disabled = bool(wine_settings.namespaces)  # the operator then may not list CRDs and namespaces
        try:
            running.append(await Operator.start(wine_settings, backends))
        except Exception as error:
            # kopf would retry for ever, and the pod would look healthy: an operator that cannot start ends.
            raise kopf.PermanentError(str(error)) from error

    @kopf.on.cleanup(registry=registry)
    async def stop(**_: Any) -> None:
        while running:
            await running.pop().stop()


def _register_events(registry: kopf.OperatorRegistry, running: list[Operator]) -> None:
    """Pass watch events on."""

    @kopf.on.event(GROUP, VERSION, PLURAL, registry=registry)
    async def pipeline_changed(event: Mapping[str, Any], body: kopf.Body, **_: Any) -> None:
        for operator in running:
            operator.pipeline_changed(body, deleted=event["type"] == "DELETED")

    @kopf.on.event(GROUP, VERSION, PREDICTION_PLURAL, registry=registry)
    async def prediction_changed(event: Mapping[str, Any], body: kopf.Body, **_: Any) -> None:
        for operator in running:
            operator.prediction_changed(body, deleted=event["type"] == "DELETED")


def _register_login(registry: kopf.OperatorRegistry) -> None:
    """Log in with the service account or the kubeconfig."""
    sessions: dict[str, tuple[kopf.ConnectionInfo, kopf.AiohttpSession]] = {}

    @kopf.on.login(registry=registry)
    async def log_in(**kwargs: Any) -> kopf.AiohttpSession | None:
        info = kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)
        if info is None:
            return None
        known = sessions.get(info.server)
        if known is None or known[0] != info:  # the API server has just rejected the same credentials: kopf must see that
            sessions[info.server] = known = (info, _session(info))
        return known[1]


def _session(info: kopf.ConnectionInfo) -> kopf.AiohttpSession:
    """Make the session that kopf lists and watches with. Answers are bounded."""
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=info.as_ssl_context()),
        headers={**info.as_http_headers(), "Accept-Encoding": "identity"},
        proxy=info.proxy_url,
        trust_env=info.trust_env,
        response_class=bodies.response_class(),
    )
    return kopf.AiohttpSession(aiohttp_session=session, server=info.server, default_namespace=info.default_namespace)
