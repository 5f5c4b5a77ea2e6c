"""The server process: read the environment, load the model, serve until SIGTERM.

It listens only after the model has predicted its own input example: Seldon's readiness probe of a model container only connects
to the port.
"""

import asyncio
import gc
import logging
import os
import signal
import sys
import time
from types import FrameType

# MLflow sends usage data when it is imported.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import uvicorn

from winecontract import termination
from winecontract.logs import guard_handlers
from winecontract.termination import Failure
from winecontract.text import clean
from wineserver.application import Application
from wineserver.connections import Connection
from wineserver.environment import Environment, EnvironmentInvalidError
from wineserver.folder import ModelFolderError
from wineserver.model import load

log = logging.getLogger("wineserver")
KEEP_ALIVE = 120  # seconds; longer than Seldon's executor keeps an idle connection (90), so that the executor closes it first
IDLE = 2  # seconds after draining in which a kept-alive connection can still end with an answer
TICKS = 10  # uvicorn's ticks per second
GRACE = 13  # seconds for requests in flight after that


class Server(uvicorn.Server):
    """A uvicorn server that keeps answering for a while after SIGTERM.

    A terminating pod still gets requests if no other pod is ready: kube-proxy falls back to terminating endpoints that pass their
    readiness probe. The server therefore fails that probe first, and accepts requests until every node has updated its endpoints.
    Clients also keep connections open; closing one while a request is in transit loses that request. The server therefore closes
    each connection with a header of its next answer, and idle connections after `IDLE`.
    """

    def __init__(self, config: uvicorn.Config, application: Application, drain: int) -> None:
        super().__init__(config)
        self._application = application
        self._drain = drain
        self._drained_at = 0.0

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Start draining at the first SIGTERM; exit at once on SIGINT and on a second signal."""
        if sig == signal.SIGTERM and not self._application.draining:
            self._application.drain()
            self._drained_at = time.monotonic() + self._drain
            self._captured_signals.append(sig)
            return
        super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        """Tell whether to exit; uvicorn calls this ten times a second."""
        if counter % TICKS == 0:
            now = asyncio.get_running_loop().time()
            for connection in list(self.server_state.connections):
                if isinstance(connection, Connection):
                    connection.end_if_late(now)
        if self._application.draining:
            late = time.monotonic() - self._drained_at
            if late >= 0 and (not self.server_state.connections or late > IDLE):
                return True
        return await super().on_tick(counter)


def main() -> int:
    """Serve; return the exit code: 0 after SIGTERM or SIGINT, 1 if the model or the environment is unusable."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    guard_handlers()
    sys.dont_write_bytecode = True  # bytecode beside the model's code would change the digest of its folder
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)  # while loading, and when uvicorn raises the signal again after its shutdown
    try:
        environment = Environment.read(os.environ)
        _serve(environment, Application(load(environment.folder, environment.digest), environment))
    except (ModelFolderError, EnvironmentInvalidError) as error:
        sys.stderr.write(f"wineserver: {error.reason}: {clean(error)}\n")
        termination.write(Failure("", error.reason, clean(error), permanent=True))
        return 1
    return 0


def _serve(environment: Environment, application: Application) -> None:
    gc.freeze()  # packages and model stay loaded: collect only garbage of requests from here on
    gc.enable()
    config = uvicorn.Config(
        application,
        http=Connection,
        host=environment.host,
        port=environment.port,
        log_config=None,
        log_level="warning",
        access_log=False,
        lifespan="off",
        ws="none",
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=GRACE,
    )
    log.info("serving model=%s name=%r port=%d", environment.folder, environment.name, environment.port)
    asyncio.run(Server(config, application, environment.drain).serve())


def _leave(_number: int, _frame: FrameType | None) -> None:
    sys.exit(0)
