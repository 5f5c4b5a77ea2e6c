"""Start, find, await and stop the processes of model servers, which are forked from a warm process.

A real node has the server's image and file cache; importing MLflow and scikit-learn anew for each pod would
cost two and a half seconds instead. multiprocessing's forkserver imports them once (`warm`) and then only forks.
"""

import asyncio
import contextlib
import fcntl
import logging
import multiprocessing
import multiprocessing.forkserver
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from sandbox import ports
from sandbox.seldon import process

log = logging.getLogger("seldon.servers")
PRELOADED = ["sandbox.seldon.warm"]
GRACE = 20.0  # seconds between SIGTERM and SIGKILL, Seldon's terminationGracePeriodSeconds
_context = multiprocessing.get_context("forkserver")


def warm_up() -> None:
    """Start the forkserver, which imports the servers' packages. Returns at once."""
    _context.set_forkserver_preload(PRELOADED)
    multiprocessing.forkserver.ensure_running()


@dataclass(frozen=True)
class Server:
    """A running server process. `child` is None if an earlier stand-in started it."""

    folder: Path
    pid: int
    port: int
    child: ForkServerProcess | None = None

    @classmethod
    async def start(cls, folder: Path, environment: dict[str, str], log_file: Path) -> "Server":
        """Start `python -m wineserver`, without its imports. PORT in `environment` values becomes a free port."""
        port = ports.choose(["server"], {})["server"]
        made = {name: value.replace("{PORT}", str(port)) for name, value in environment.items()}
        child = _context.Process(target=process.run, args=(folder, port, made, log_file))
        await asyncio.to_thread(child.start)  # waits until the forkserver has imported everything
        return cls(folder, child.pid or 0, port, child)

    @classmethod
    def find(cls, folder: Path) -> "Server | None":
        """Return the running process of a pod's folder, whoever started it, or None."""
        if not _locked(folder):
            return None
        try:
            pid, port = (folder / process.LOCK).read_text().split()
        except FileNotFoundError:  # its pod was removed since
            return None
        return cls(folder, int(pid), int(port))

    async def wait(self) -> int | None:
        """Wait for the process to end. Return its exit code, negative for a signal, None if it is unknown."""
        if self.child:
            await _readable(self.child.sentinel)
            # If the forkserver has died, the exit code is unknown and the process may continue.
            if not _locked(self.folder):
                self.child.join()
                return self.child.exitcode
        await _unlocked(self.folder)
        return None

    async def stop(self) -> None:
        """Terminate the process, kill it after `GRACE`, and wait for its end."""
        self._signal(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.wait(), GRACE)
            return
        log.warning("process %d did not end within %.0f s: killed", self.pid, GRACE)
        self._signal(signal.SIGKILL)
        await self.wait()

    def _signal(self, number: signal.Signals) -> None:
        if not (_locked(self.folder) or (self.child and self.child.is_alive())):
            return  # the id may belong to another process by now
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[int | None]:
    try:
        descriptor = os.open(folder / process.LOCK, os.O_RDWR)
    except FileNotFoundError:
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _locked(folder: Path) -> bool:
    with _opened(folder) as descriptor:
        if descriptor is None:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


async def _unlocked(folder: Path) -> None:
    """Wait for the lock in a daemon thread: nothing else reports the end of another process's child."""
    loop, free = asyncio.get_running_loop(), asyncio.Event()

    def wait() -> None:
        with _opened(folder) as descriptor:
            if descriptor is not None:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
        with contextlib.suppress(RuntimeError):  # the loop ended before the process
            loop.call_soon_threadsafe(free.set)

    threading.Thread(target=wait, daemon=True).start()
    await free.wait()


async def _readable(descriptor: int) -> None:
    """Wait until a descriptor is readable. Several callers may wait for the same one."""
    loop, copy, ready = asyncio.get_running_loop(), os.dup(descriptor), asyncio.Event()
    loop.add_reader(copy, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(copy)
        os.close(copy)
