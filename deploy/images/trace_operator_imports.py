"""Import what the operator's image runs, for compile_bytecode.py. No server can be reached during the image build."""

import contextlib
import importlib
import io
import os
import pkgutil
import sys
from pathlib import Path

import jsonschema  # noqa: F401 - imported late where it is used
from aiohttp import web  # noqa: F401 - the probe's server, which kopf imports when it starts

import winepipelines.__main__

NOWHERE = "http://127.0.0.1:1"


def main() -> None:
    """Run each command except `run`; raise SystemExit if the image cannot."""
    for module in pkgutil.walk_packages(winepipelines.__path__, "winepipelines."):
        importlib.import_module(module.name)
    os.environ |= dict.fromkeys(("WINE_KFP_URL", "WINE_MLFLOW_URL", "WINE_S3_ENDPOINT_URL"), NOWHERE)
    example = str(Path(__file__).with_name("wine.yaml"))
    if _command("render", "-f", example) != 0:
        raise SystemExit("render fails")
    if _command("doctor", "-f", example, "--timeout", "1") != 1:  # the platform does not answer
        raise SystemExit("doctor does not work")


def _command(*arguments: str) -> int:
    sys.argv = ["winepipelines", *arguments]
    with contextlib.redirect_stdout(io.StringIO()):
        return winepipelines.__main__.main()


main()
