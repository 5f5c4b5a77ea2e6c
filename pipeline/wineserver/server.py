"""The process: read the environment, load the model, serve until SIGTERM. Called by __main__ and by the sandbox.

It listens when the model is loaded and not before: Seldon's readiness probe on a model container only opens the port.
"""

import asyncio
import gc
import logging
import os
import signal
import sys
from types import FrameType

# MLflow would send usage data to its makers when imported.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import uvicorn

from wineserver.application import create_application
from wineserver.environment import Environment, EnvironmentInvalidError
from wineserver.model import ModelFolderError

log = logging.getLogger("wineserver")
KEEP_ALIVE = 120  # seconds; longer than Seldon's executor keeps an idle connection (90), which then never meets a closed one
GRACE = 15  # seconds for requests in flight; Seldon kills after 20


def main() -> int:
    """Serve; return the exit code: 0 after SIGTERM or SIGINT, 1 where the model or the environment is of no use."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)  # while loading; and uvicorn raises the signal again when it has shut down
    try:
        asyncio.run(_serve(Environment.read(os.environ)))
    except (ModelFolderError, EnvironmentInvalidError) as error:
        sys.stderr.write(f"wineserver: {error}\n")
        return 1
    return 0


async def _serve(environment: Environment) -> None:
    application = await create_application(environment)
    gc.freeze()  # packages and model stay for good: what is collected from here on is what requests leave
    gc.enable()
    config = uvicorn.Config(
        application,
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
    await uvicorn.Server(config).serve()


def _leave(_number: int, _frame: FrameType | None) -> None:
    sys.exit(0)
