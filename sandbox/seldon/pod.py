"""One pod, run as a kubelet would. Init container (copy the model), server, restarts with backoff, end.

`node` makes a Pod per Pod object, gets every change by a callback, and writes `state` to the status.
"""

import asyncio
import contextlib
import json
import logging
import os
import shutil
import time
from base64 import b64decode
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp

from sandbox.processes import MARK
from sandbox.seldon import containers, storage
from sandbox.seldon.api import SECRET, Api, ApiError
from sandbox.seldon.podstatus import Ended, State, model_container
from sandbox.seldon.servers import Server

Object = dict[str, Any]
log = logging.getLogger("seldon.pod")

# A kubelet waits 10 s and doubles up to five minutes; too long on a laptop.
FIRST_BACKOFF, LONGEST_BACKOFF, FORGET_AFTER = 1.0, 30.0, 60.0  # seconds
PROBE_EVERY = 0.02  # seconds between readiness probes; a real pod's run every five
TERMINATION, TERMINATION_BYTES = "termination-log", 4096  # as a kubelet reads of it
PASSED_ON = ("PATH", "LANG", "LC_ALL", "TZ", "PYTHONPATH", "PYTHONSAFEPATH", "PYTHONDONTWRITEBYTECODE", MARK)


def now() -> str:
    """The time as the API writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class SecretMissingError(Exception):
    """The secret that the init container takes its variables from is not there."""


class Pod:
    """One pod on this machine. `item` is its Pod object; its files are in `folder`, its log in `log_file`."""

    def __init__(self, item: Object, folder: Path, log_file: Path, api: Api, changed: Callable[[], object]) -> None:
        self.item, self.folder, self.log_file = item, folder, log_file
        self._api, self._changed = api, changed
        self.state = State.load(folder) or State(created=now())
        self.server: Server | None = None
        self.retiring = False
        self.last_address: str | None = None  # where it still answers while it terminates
        self._task: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        """The Pod object's name."""
        return str(self.item["metadata"]["name"])

    @property
    def address(self) -> str | None:
        """Where it answers, while it is ready and not terminating."""
        ready = self.state.ready and self.server and not self.retiring
        return f"http://127.0.0.1:{self.server.port}" if ready and self.server else None

    def start(self) -> None:
        """Begin, or go on with the server that an earlier stand-in has left running."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.server = Server.find(self.folder)
        if self.server is None and self.state.server.started:
            self._server_ended(None)
        self._task = asyncio.create_task(self._run())

    async def stop(self, forget: bool = True) -> None:
        """End the server gracefully and forget the pod's files, but the log; or keep all for a start later on."""
        self.retiring = True
        self.detach()
        if self._task:
            await asyncio.wait([self._task])
        if self.server:
            await self.server.stop()
        if forget:
            await asyncio.to_thread(shutil.rmtree, self.folder, ignore_errors=True)

    def detach(self) -> None:
        """Leave the server to itself."""
        if self._task:
            self._task.cancel()

    async def _run(self) -> None:
        try:
            if self.item["spec"].get("initContainers") and not self.state.initialized_at:
                await self._repeat(self._initialize)
            elif not self.state.initialized_at:
                (self.folder / "models").mkdir(exist_ok=True)
                self.state.initialized_at = now()
            await self._repeat(self._serve)
        except Exception:
            log.exception("pod %s", self.name)  # a defect of ours; the pod stands still as it is
            raise

    async def _repeat(self, attempt: Callable[[], Awaitable[bool]]) -> None:
        """Attempt until it says True; the waiting doubles, and starts over after a time without failure."""
        delay = FIRST_BACKOFF
        while True:
            began = time.monotonic()
            if await attempt():
                return
            if time.monotonic() - began > FORGET_AFTER:
                delay = FIRST_BACKOFF
            await asyncio.sleep(delay)
            delay = min(2 * delay, LONGEST_BACKOFF)

    async def _initialize(self) -> bool:
        """Run the init container once."""
        container, state = self.item["spec"]["initContainers"][0], self.state.initializer
        try:
            variables = await self._variables(container)
        except SecretMissingError as error:
            state.started, state.waiting = "", ("CreateContainerConfigError", str(error))
            self._tell()
            return False
        state.started = now()
        self._tell()
        try:
            await self._copy(container, variables)
        except storage.CopyError as error:
            self._log(f"{container['name']}: {error}")
            state.last = Ended(error.exit_code, "Error", str(error), state.started, now())
            state.waiting = ("CrashLoopBackOff", self._back_off(container["name"]))
            state.started, state.restarts = "", state.restarts + 1
            self._tell()
            return False
        state.ended, state.ready = Ended(0, "Completed", "", state.started, now()), True
        self.state.initialized_at = now()
        self._tell()
        return True

    async def _copy(self, container: Object, variables: dict[str, str]) -> None:
        """Copy the model to the pod's folder. Raises storage.CopyError."""
        uri = container["args"][0]
        files = await asyncio.to_thread(storage.copy, uri, variables, self.folder / "models")
        self._log(f"{container['name']}: copied {files} files from {uri}")

    async def _variables(self, container: Object) -> dict[str, str]:
        """The init container's variables: its own, and those of Secrets. Raises SecretMissingError."""
        variables: dict[str, str] = {}
        for source in container.get("envFrom", []):
            variables |= await self._secret(source.get("secretRef", {}).get("name", ""))
        for variable in container.get("env", []):
            if reference := variable.get("valueFrom", {}).get("secretKeyRef"):
                data, key = await self._secret(reference["name"]), reference["key"]
                if key not in data:
                    where = f"{self.item['metadata']['namespace']}/{reference['name']}"
                    raise SecretMissingError(f"couldn't find key {key} in Secret {where}")
                variables[variable["name"]] = data[key]
            else:
                variables[variable["name"]] = variable.get("value", "")
        return variables

    async def _secret(self, name: str) -> dict[str, str]:
        """Read a Secret's values. Raises SecretMissingError."""
        namespace = self.item["metadata"]["namespace"]
        try:
            secret = await self._api.get(SECRET, namespace, name)
        except ApiError as error:
            if error.code != 404:
                raise SecretMissingError(f"failed to get secret {namespace}/{name}: {error}") from error
            raise SecretMissingError(f'secret "{name}" not found') from error
        return {key: b64decode(value).decode(errors="replace") for key, value in (secret.get("data") or {}).items()}

    async def _serve(self) -> bool:
        """Run the server until it ends, which is never a success."""
        state = self.state.server
        if self.server is None:
            if (why := _unpullable(str(model_container(self.item).get("image", "")))) is not None:
                state.started, state.waiting = "", ("ErrImagePull", why)
                self._tell()
                return False
            try:
                (self.folder / TERMINATION).write_bytes(b"")
                self.server = await Server.start(self.folder, self._environment(), self.log_file)
            except OSError as error:  # no process, no descriptor, no forkserver
                state.waiting = ("RunContainerError", str(error))
                self._tell()
                return False
            state.started = now()
            self._tell()
        ended = asyncio.create_task(self.server.wait())
        try:
            if await self._until_ready(ended):
                log.info("pod %s: ready on port %d", self.name, self.server.port)
                state.ready = True
                self.state.ready_at = self.state.ready_at or now()
                self._tell()
            self._server_ended(await ended)
        finally:
            ended.cancel()
        return False

    def _server_ended(self, code: int | None) -> None:
        state = self.state.server
        code = 137 if code is None else code if code >= 0 else 128 - code
        reason = "Completed" if code == 0 else "Error"
        state.last = Ended(code, reason, self._termination_message() or self._last_line(), state.started, now())
        state.waiting = ("CrashLoopBackOff", self._back_off(model_container(self.item)["name"]))
        log.info("pod %s: its server has ended with %d: %s", self.name, code, state.last.message)
        state.started, state.restarts, state.ready = "", state.restarts + 1, False
        self.state.ready_at, self.server = "", None
        self._tell()

    async def _until_ready(self, ended: "asyncio.Task[int | None]") -> bool:
        """Wait until the server answers; False where it ends before."""
        assert self.server is not None
        url = f"http://127.0.0.1:{self.server.port}{self._probe_path()}"
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session:
            while not ended.done():
                with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
                    async with session.get(url) as response:
                        if response.status == 200:
                            return True
                await asyncio.wait([ended], timeout=PROBE_EVERY)
        return False

    def _probe_path(self) -> str:
        """The path of the server that tells whether it is ready."""
        return "/health/status"

    def _environment(self) -> dict[str, str]:
        """The container's variables, with this machine's folder and port instead of a pod's."""
        temporary, models = self.folder / "tmp", str(self.folder / "models")
        temporary.mkdir(exist_ok=True)
        variables = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        variables |= {v["name"]: v["value"] for v in model_container(self.item).get("env", []) if "value" in v}
        parameters = [{"name": "model_uri", "value": models, "type": "STRING"}]
        given = json.loads(variables.get("PREDICTIVE_UNIT_PARAMETERS", "[]"))
        parameters += [item for item in given if item["name"] != "model_uri"]
        return variables | {
            "PREDICTIVE_UNIT_HTTP_SERVICE_PORT": "{PORT}",
            "PREDICTIVE_UNIT_SERVICE_PORT": "{PORT}",
            "MLSERVER_HTTP_PORT": "{PORT}",
            "MLSERVER_HOST": "127.0.0.1",
            "WINE_DRAIN_SECONDS": "0",  # the gateway has let it drain
            "MLSERVER_MODEL_URI": models,
            "PREDICTIVE_UNIT_PARAMETERS": json.dumps(parameters),
            "WINE_TERMINATION_LOG": str(self.folder / TERMINATION),
            "HOME": str(temporary),
            "TMPDIR": str(temporary),
        }

    def _back_off(self, container: str) -> str:
        namespace, uid = self.item["metadata"]["namespace"], self.item["metadata"].get("uid", "")
        return f"back-off restarting failed container={container} pod={self.name}_{namespace}({uid})"

    def _log(self, line: str) -> None:
        log.info("pod %s: %s", self.name, line)
        with self.log_file.open("a") as output:
            output.write(f"{line}\n")

    def _termination_message(self) -> str:
        """What the server has written to the container's terminationMessagePath."""
        try:
            written = (self.folder / TERMINATION).read_bytes()[:TERMINATION_BYTES].decode(errors="replace")
        except FileNotFoundError:  # of a stand-in before this one
            return ""
        return written.replace(str(self.folder / "models"), containers.MODELS)

    def _last_line(self) -> str:
        try:
            with self.log_file.open("rb") as lines:
                lines.seek(max(0, self.log_file.stat().st_size - 4096))
                last = lines.read().decode(errors="replace").strip().rpartition("\n")[2]
        except FileNotFoundError:
            return ""
        return last.replace(str(self.folder / "models"), containers.MODELS)[:1000]

    def _tell(self) -> None:
        self.state.save(self.folder)
        self._changed()


def _unpullable(image: str) -> str | None:
    """Say why no kubelet could pull an image: its registry's name is one that never has an address (RFC 6761)."""
    registry = image.partition("/")[0]
    if not registry.partition(":")[0].endswith(".invalid"):
        return None
    return f'failed to pull and unpack image "{image}": failed to do request: dial tcp: lookup {registry}: no such host'


async def remove_leftover(folder: Path) -> None:
    """End the process of a pod that is gone from the API, and remove its files."""
    if server := Server.find(folder):
        await server.stop()
    await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
