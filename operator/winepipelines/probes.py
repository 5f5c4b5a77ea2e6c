"""Serve the kubelet's probes: `/healthz` for liveness, `/readyz` for readiness.

Liveness fails if the event loop, which answers it, hangs: a restart helps. It does not depend on how long a reconcile takes:
users could make one slow, and so restart the operator for everybody. Reconciles have a deadline of their own. Readiness fails if
the API server is unreachable or rejects the operator: a restart does not help, but an administrator must know.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from aiohttp import web

ANSWER_SECONDS = 5.0  # for which a result is reused
logger = logging.getLogger(__name__)


class Probes:
    """Serves the probes. `longest_reconcile` is in seconds; `lost` returns why the API server cannot be used, else empty."""

    def __init__(
        self,
        longest_reconcile: Callable[[], float],
        lost: Callable[[], Awaitable[str]],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._longest_reconcile, self._lost, self._now = longest_reconcile, lost, now
        self._lock = asyncio.Lock()
        self._problem, self._as_of = "", float("-inf")
        self._runner: web.AppRunner | None = None

    async def start(self, host: str, port: int) -> None:
        """Start to serve. Raises OSError if the port cannot be opened."""
        application = web.Application()
        application.add_routes([web.get("/healthz", self._healthz), web.get("/readyz", self._readyz)])
        self._runner = web.AppRunner(application, handle_signals=False, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()

    async def stop(self) -> None:
        """Stop serving."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.json_response({"longestReconcileSeconds": self._longest_reconcile()})

    async def _readyz(self, _: web.Request) -> web.Response:
        async with self._lock:
            if self._now() - self._as_of >= ANSWER_SECONDS:
                self._store(await self._lost())
        return web.json_response({"apiServer": self._problem or "ok"}, status=503 if self._problem else 200)

    def _store(self, problem: str) -> None:
        """Store a result, and log a change."""
        if problem and problem != self._problem:
            logger.warning("Lost the API server", extra={"fields": {"error": problem}})
        elif self._problem and not problem:
            logger.info("Reached the API server again")
        self._problem, self._as_of = problem, self._now()
