"""The command line: `python -m sandbox.seldon --gateway-port PORT --state DIR --kubeconfig FILE`. Started by the sandbox.

SIGTERM and SIGINT end the model servers too. When it is killed they go on, and the next one finds them again.
"""

import argparse
import asyncio
import logging
import signal
from pathlib import Path

import uvloop

from sandbox.seldon.api import Api
from sandbox.seldon.controller import Controller
from sandbox.seldon.gateway import Gateway
from sandbox.seldon.node import Node, place
from sandbox.seldon.servers import warm_up


def main() -> None:
    """Run until a signal."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.seldon", description="Seldon Core 1, stood in for")
    parser.add_argument("--gateway-port", type=int, required=True, help="port of the gateway, on the loopback interface")
    parser.add_argument("--state", type=Path, required=True, help="folder for models, logs and what a restart needs")
    parser.add_argument("--kubeconfig", type=Path, required=True, help="how to reach the API server")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    warm_up()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # a third more requests a second than asyncio's own
        runner.run(run(arguments.gateway_port, arguments.state.absolute(), arguments.kubeconfig))


async def run(port: int, state: Path, kubeconfig: Path) -> None:
    """Run controller and gateway until a signal."""
    over = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, over.set)
    api, gateway = Api.connect(kubeconfig), Gateway()
    controller, node = Controller(api, gateway, place), Node(api, gateway, state)
    work = [asyncio.create_task(controller.run()), asyncio.create_task(node.run())]
    stopped = asyncio.create_task(over.wait())
    synced = asyncio.create_task(_both(controller.synced, node.synced))
    try:
        # Models that were served before are routed from the first request on.
        await asyncio.wait([*work, synced, stopped], return_when=asyncio.FIRST_COMPLETED)
        if synced.done():
            await gateway.start(port)
            await asyncio.wait([*work, stopped], return_when=asyncio.FIRST_COMPLETED)
        for part in work:
            if part.done():
                part.result()
    finally:
        for task in (*work, stopped, synced):
            task.cancel()
        await gateway.stop()
        controller.close()
        await node.close(stop=over.is_set())
        await api.close()


async def _both(first: asyncio.Event, second: asyncio.Event) -> None:
    await first.wait()
    await second.wait()


if __name__ == "__main__":
    main()
