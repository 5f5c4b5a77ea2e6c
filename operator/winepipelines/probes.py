"""Probes of the kubelet, served by the operator: `/healthz` for liveness, `/readyz` for readiness. Made by `handlers`.

Liveness fails where the event loop, which answers it, stands still: a new process helps then. It never depends on how long a
reconcile takes: users could make one take long, and have the operator restarted for everybody. Reconciles have a deadline of
their own. Readiness fails where the API server cannot be reached or refuses the operator: a new process would not help, and
somebody has to know.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from aiohttp import web

ANSWER_SECONDS = 5.0  # that an answer of the API server counts, however often one asks
logger = logging.getLogger(__name__)


class Probes:
    """Serves the probes. `longest_reconcile` is in seconds; `lost` says why the API server is of no use, empty where it is."""

    def __init__(
        self,
        longest_reconcile: Callable[[], float],
        lost: Callable[[], Awaitable[str]],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._longest_reconcile, self._lost, self._now = longest_reconcile, lost, now
        self._asked = asyncio.Lock()
        self._problem, self._as_of = "", float("-inf")
        self._runner: web.AppRunner | None = None

    async def start(self, host: str, port: int) -> None:
        """Serve. Raises OSError where the port cannot be had."""
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
        async with self._asked:
            if self._now() - self._as_of >= ANSWER_SECONDS:
                self._tell(await self._lost())
        return web.json_response({"apiServer": self._problem or "ok"}, status=503 if self._problem else 200)

    def _tell(self, problem: str) -> None:
        """Remember an answer, and log it where it is another than the last one."""
        if problem and problem != self._problem:
            logger.warning("Lost the API server", extra={"fields": {"error": problem}})
        elif self._problem and not problem:
            logger.info("Reached the API server again")
        self._problem, self._as_of = problem, self._now()
