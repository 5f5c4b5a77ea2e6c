"""The process: read the environment, load the model, serve until SIGTERM. Called by __main__ and by the sandbox.

It listens when the model is loaded and has answered its own example, and not before: Seldon's readiness probe on a model
container only opens the port.
"""

import asyncio
import gc
import logging
import os
import signal
import sys
import time
from types import FrameType

# MLflow would send usage data to its makers when imported.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import uvicorn

from winecontract.logs import guard_handlers
from winecontract.text import clean
from wineserver.application import Application
from wineserver.connections import Connection
from wineserver.environment import Environment, EnvironmentInvalidError
from wineserver.model import ModelFolderError, load

log = logging.getLogger("wineserver")
TERMINATION_LOG = "WINE_TERMINATION_LOG"
"""Names the file of the termination message where it is not Kubernetes' default."""
TERMINATION_BYTES = 4096
"""The kubelet reads so much of it."""
KEEP_ALIVE = 120  # seconds; longer than Seldon's executor keeps an idle connection (90), which then never meets a closed one
IDLE = 2  # seconds after draining in which connections that are kept open are ended by an answer, not between two requests
TICKS = 10  # of which uvicorn has as many a second
GRACE = 13  # seconds for requests in flight after that


class Server(uvicorn.Server):
    """A uvicorn server that goes on answering for a while after SIGTERM.

    A pod that is ending still gets requests where no other one is ready: kube-proxy falls back on endpoints that terminate but
    pass their readiness probe. So the server fails that probe first, and takes requests until every node has heard of it.
    Callers may also hold connections, and one that is closed while the next request is on its way loses that request. So each
    is closed by the header of its next answer, and those that stay idle when `IDLE` is over.
    """

    def __init__(self, config: uvicorn.Config, application: Application, drain: int) -> None:
        super().__init__(config)
        self._application = application
        self._drain = drain
        self._drained_at = 0.0

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain at the first SIGTERM; end at once on SIGINT, and on a second signal."""
        if sig == signal.SIGTERM and not self._application.draining:
            self._application.drain()
            self._drained_at = time.monotonic() + self._drain
            self._captured_signals.append(sig)
            return
        super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        """Whether to end; uvicorn asks ten times a second."""
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
    """Serve; return the exit code: 0 after SIGTERM or SIGINT, 1 where the model or the environment is of no use."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    guard_handlers()
    sys.dont_write_bytecode = True  # beside a model's own code, where the folder would not have its digest at the next start
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)  # while loading; and uvicorn raises the signal again when it has shut down
    try:
        environment = Environment.read(os.environ)
        _serve(environment, Application(load(environment.folder, environment.digest), environment))
    except (ModelFolderError, EnvironmentInvalidError) as error:
        sys.stderr.write(f"wineserver: {clean(error)}\n")
        _write_termination_message(clean(error))
        return 1
    return 0


def _write_termination_message(text: str) -> None:
    """Say why the process ends where Kubernetes shows it in the pod's status; the file is the kubelet's to make."""
    try:
        descriptor = os.open(os.environ.get(TERMINATION_LOG, "/dev/termination-log"), os.O_WRONLY | os.O_TRUNC)
        with os.fdopen(descriptor, "wb") as file:
            file.write(text.encode(errors="replace")[:TERMINATION_BYTES])
    except OSError as problem:
        log.debug("no termination message: %s", problem)


def _serve(environment: Environment, application: Application) -> None:
    gc.freeze()  # packages and model stay for good: what is collected from here on is what requests leave
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
    log.info("serving %s as %r on port %d", environment.folder, environment.name, environment.port)
    asyncio.run(Server(config, application, environment.drain).serve())


def _leave(_number: int, _frame: FrameType | None) -> None:
    sys.exit(0)
