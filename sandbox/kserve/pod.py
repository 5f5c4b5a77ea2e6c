"""One pod of KServe's, run as a kubelet would: the storage initializer's process, then the model server's."""

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sandbox.places import ROOT
from sandbox.seldon.api import Api
from sandbox.seldon.pod import PASSED_ON, Pod
from sandbox.seldon.podstatus import model_container
from sandbox.seldon.storage import CopyError

Object = dict[str, Any]

INITIALIZER = ROOT / "sandbox" / "kserve" / "initializer.py"
MODELS = "/mnt/models"
LOG_BYTES = 2048  # of a log, for terminationMessagePolicy FallbackToLogsOnError
DEFAULT_PROBE = "/v2/health/ready"
OWN_PACKAGES = ("PYTHONPATH", "PYTHONSAFEPATH")


class PredictorPod(Pod):
    """A pod of an InferenceService. `python` is the interpreter with the storage initializer's packages."""

    def __init__(self, python: str, item: Object, folder: Path, log_file: Path, api: Api, changed: Callable[[], object]) -> None:
        super().__init__(item, folder, log_file, api, changed)
        self._python = python

    async def _copy(self, container: Object, variables: dict[str, str]) -> None:
        """Run the storage initializer. Raises CopyError with the end of its log."""
        models, temporary = self.folder / "models", self.folder / "initializer"
        await asyncio.to_thread(shutil.rmtree, models, ignore_errors=True)
        for folder in (models, temporary):
            folder.mkdir(exist_ok=True)
        arguments = [argument.replace(MODELS, str(models)) for argument in container["args"]]
        environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ and name not in OWN_PACKAGES}
        environment |= {"HOME": str(temporary), "TMPDIR": str(temporary), **variables}
        log = temporary / "log"
        command = [self._python, str(INITIALIZER), *arguments]
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *command, env=environment, stdout=output, stderr=output, start_new_session=True
            )
        try:
            code = await process.wait()
        except asyncio.CancelledError:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
            raise
        text = log.read_text(errors="replace").replace(str(models), MODELS)
        with self.log_file.open("a") as merged:
            merged.write(text)
        if code:
            raise CopyError(text[-LOG_BYTES:].strip(), code)

    def _probe_path(self) -> str:
        probe = model_container(self.item).get("readinessProbe", {})
        return str(probe.get("httpGet", {}).get("path", DEFAULT_PROBE))

    def _environment(self) -> dict[str, str]:
        """The container's variables, with this machine's folder and port instead of a pod's."""
        ours = super()._environment()
        return {name: value for name, value in ours.items() if not name.startswith("PREDICTIVE_UNIT_")}
