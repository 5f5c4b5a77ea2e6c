"""The command line: `python -m sandbox.kserve --gateway-port PORT --state DIR --kubeconfig FILE --initializer-python FILE`.

Started by the sandbox. SIGTERM and SIGINT end the model servers too. When it is killed they go on, and the next one finds them.
"""

import argparse
import asyncio
import functools
import logging
import signal
from pathlib import Path

import uvloop

from sandbox.kserve.gateway import PredictorGateway
from sandbox.kserve.knative import Knative
from sandbox.kserve.pod import PredictorPod
from sandbox.seldon.api import Api
from sandbox.seldon.node import Node
from sandbox.seldon.servers import warm_up

LABEL = "serving.kserve.io/inferenceservice"


def main() -> None:
    """Run until a signal comes."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.kserve", description="The node and the Services of KServe's pods")
    parser.add_argument("--gateway-port", type=int, required=True, help="port of the gateway, on the loopback interface")
    parser.add_argument("--state", type=Path, required=True, help="folder for models, logs and what a restart needs")
    parser.add_argument("--kubeconfig", type=Path, required=True, help="how to reach the API server")
    parser.add_argument("--initializer-python", type=Path, required=True, help="interpreter with the package kserve-storage")
    parser.add_argument("--knative", action="store_true", help="stand in for Knative's autoscaler and ingress")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    warm_up()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(
            run(
                arguments.gateway_port,
                arguments.state.absolute(),
                arguments.kubeconfig,
                str(arguments.initializer_python),
                knative=arguments.knative,
            )
        )


async def run(port: int, state: Path, kubeconfig: Path, python: str, *, knative: bool) -> None:
    """Run pods and hand requests on until a signal comes."""
    over = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, over.set)
    api, gateway = Api.connect(kubeconfig), PredictorGateway()
    node = Node(api, gateway, state, functools.partial(PredictorPod, python), labels=LABEL, fields="")
    work, stopped = asyncio.create_task(node.run()), asyncio.create_task(over.wait())
    synced = asyncio.create_task(node.synced.wait())
    routing = asyncio.create_task(Knative(api, gateway).run()) if knative else asyncio.create_task(over.wait())
    try:
        await asyncio.wait([work, synced, stopped], return_when=asyncio.FIRST_COMPLETED)
        if synced.done():
            await gateway.start(port)
            await asyncio.wait([work, stopped, routing], return_when=asyncio.FIRST_COMPLETED)
        for task in (work, routing):
            if task.done():
                task.result()
    finally:
        for task in (work, stopped, synced, routing):
            task.cancel()
        await gateway.stop()
        await node.close(stop=over.is_set())
        await api.close()


if __name__ == "__main__":
    main()
