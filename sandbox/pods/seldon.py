"""Seldon's operator in a cluster with kubelets: `python -m sandbox.pods.seldon --image IMAGE --kubeconfig FILE`.

It makes the Deployments and Services that Seldon would, and the cluster runs them. Two of a pod's containers are Seldon's own
programs; here they are this image's: what copies the model, and what stands in front of the server. The server is the image that
the SeldonDeployment names. Weights of traffic mean nothing, as with Seldon where there is neither Istio nor Ambassador.
"""

import argparse
import asyncio
import logging
import signal
from pathlib import Path
from typing import Any

from sandbox.seldon import containers
from sandbox.seldon.api import Api
from sandbox.seldon.controller import Controller
from sandbox.seldon.gateway import Gateway

PROGRAMS = {containers.INITIALIZER_IMAGE: "copier", containers.ENGINE_IMAGE: "executor"}
"""The programs that replace Seldon's images."""


def main() -> None:
    """Run until a signal."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.pods.seldon", description="Seldon Core 1, stood in for")
    parser.add_argument("--image", required=True, help="this image, as pods name it")
    parser.add_argument("--kubeconfig", type=Path, required=True, help="how to reach the API server")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    asyncio.run(run(arguments.image, arguments.kubeconfig))


async def run(image: str, kubeconfig: Path) -> None:
    """Run the controller until a signal."""
    api = Api.connect(kubeconfig)
    controller = Controller(api, Gateway(), lambda deployment: stand_in(deployment, image))
    work = asyncio.create_task(controller.run())
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, work.cancel)
    try:
        await work
    except asyncio.CancelledError:
        logging.info("ended")
    finally:
        controller.close()
        await api.close()


def stand_in(deployment: dict[str, Any], image: str) -> None:
    """Replace Seldon's images in a Deployment's pods by the sandbox's image, with the same arguments."""
    pod = deployment["spec"]["template"]["spec"]
    for container in (*pod.get("initContainers", []), *pod["containers"]):
        if program := PROGRAMS.get(container["image"]):
            container |= {"image": image, "command": ["python", "-m", f"sandbox.pods.{program}"]}


if __name__ == "__main__":
    main()
