"""The executor in front of a model server in its pod: `python -m sandbox.pods.executor ARGUMENTS`, as for Seldon's executor.

Requests go on to the container beside it, by the same rules as in the sandbox's gateway. It speaks no gRPC.
"""

import argparse
import asyncio
import logging
import signal

from aiohttp import web

from sandbox.seldon.containers import HTTP
from sandbox.seldon.gateway import Gateway, Key, Route

HEALTH = {"seldon": "ready", "v2": "v2/health/ready"}


class Executor(Gateway):
    """The executor of one predictor. Its model server is at `server`."""

    def __init__(self, predictor: str, protocol: str, server: str) -> None:
        super().__init__()
        deployment: Key = ("", predictor)
        self._route = Route(predictor, protocol, 100, deployment)
        self.set_addresses(deployment, [server])

    def _find(self, raw: str) -> tuple[Route, str]:
        path = raw.lstrip("/")
        return self._route, HEALTH.get(self._route.protocol, path) if path == "ready" else path

    async def _handle(self, request: web.BaseRequest) -> web.Response:
        if request.path == "/live":  # for the executor only: the server has a probe of its own
            return web.Response(text="live")
        return await super()._handle(request)


def main() -> None:
    """Serve until a signal. Later requests are refused, as by Seldon's executor, which has no preStop hook."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.pods.executor", description="Seldon's executor, stood in for")
    parser.add_argument("--predictor", required=True)
    parser.add_argument("--protocol", choices=sorted(HEALTH), default="seldon")
    parser.add_argument("--http_port", type=int, required=True)
    arguments, _ = parser.parse_known_args()  # the other arguments are for features that it lacks
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    asyncio.run(run(Executor(arguments.predictor, arguments.protocol, f"http://127.0.0.1:{HTTP}"), arguments.http_port))


async def run(executor: Executor, port: int) -> None:
    """Start the executor and serve."""
    over = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, over.set)
    await executor.start(port, host="0.0.0.0")  # noqa: S104 - in a pod
    await over.wait()
    await executor.stop()


if __name__ == "__main__":
    main()
