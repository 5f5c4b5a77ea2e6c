"""The processes of the stand-in: the node, and the workers that it forks.

The server orders a worker from the node, and then only waits for its end (a pidfd in the event loop). Node and workers
have sessions of their own and outlive the server; which worker belongs to a run is in the store.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

#: What of the server's environment a pod's image would have too, and the mark by which the sandbox knows its processes.
#: All else stays out: credentials above all.
_IMAGE_VARIABLES = {"PATH", "HOME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "WINE_SANDBOX"}
_IMAGE_VARIABLES |= {"SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "AWS_CA_BUNDLE"}
_IMAGE_VARIABLES |= {"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"}
_IMAGE_PREFIXES = ("PYTHON", "LC_", "OPENBLAS_", "OMP_", "MKL_", "PIP_", "UV_")


def image_environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the initial variables of every step.

    OpenBLAS starts its threads when numpy is imported, and threads do not survive a fork: it gets one.
    """
    kept = {
        name: value for name, value in variables.items() if name.upper() in _IMAGE_VARIABLES or name.startswith(_IMAGE_PREFIXES)
    }
    return {"OPENBLAS_NUM_THREADS": "1"} | kept


def started_at(pid: int) -> int | None:
    """Return a process's start time in clock ticks since boot. With the pid, it identifies the process."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = status.rpartition(")")[2].split()
    return None if fields[0] == "Z" else int(fields[19])


def kill(pid: int | None, started: int | None, sent: signal.Signals) -> None:
    """Send a signal to a worker and all of its steps, if it is still running."""
    if pid and started_at(pid) == started:
        try:
            os.killpg(pid, sent)
        except ProcessLookupError:
            log.debug("worker %s ended by itself", pid)


class Execution:
    """The node and the workers of one server. Create and start it in a running event loop."""

    def __init__(self, state: Path, kubeconfig: Path | None, orphan_seconds: float, *, cold: bool) -> None:
        self._state = state
        self._cold = cold
        self._kubeconfig = kubeconfig
        self._orphan_seconds = orphan_seconds
        self._loop = asyncio.get_running_loop()
        self._node: socket.socket | None = None
        self._unanswered: dict[tuple[str, int], bytes] = {}
        self._ended: Callable[[str, int, int], None] | None = None

    def start(self, ended: Callable[[str, int, int], None]) -> None:
        """Start the node; `ended(run id, attempt, pid)` is called in a thread whenever a worker has ended."""
        self._ended = ended
        self._start_node()

    def _start_node(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-m", "sandbox.kubeflow.node", "--state", str(self._state)]
        command += ["--orphan-seconds", str(self._orphan_seconds)]
        if self._cold:
            command.append("--cold")
        if self._kubeconfig:
            command += ["--kubeconfig", str(self._kubeconfig)]
        with (self._state / "node.log").open("ab") as output, theirs:
            subprocess.Popen(
                command,
                stdin=theirs.fileno(),
                stdout=output,
                stderr=output,
                env=image_environment(os.environ),
                start_new_session=True,
            )
        self._node = ours
        self._loop.add_reader(ours, self._hear, ours)
        for order in self._unanswered.values():
            ours.send(order)

    def _hear(self, node: socket.socket) -> None:
        answer = node.recv(65536)
        if answer:
            worker = json.loads(answer)
            self._unanswered.pop((worker["run_id"], worker["attempt"]), None)
            self._watch(worker["run_id"], worker["attempt"], worker["pid"])
        else:
            log.error("the node is gone: starting another one; see node.log")
            self._loop.remove_reader(node)
            node.close()
            self._start_node()

    def order(self, run_id: str, attempt: int) -> None:
        """Start a worker for an attempt of a run. Returns at once. Thread-safe."""
        order = json.dumps({"run_id": run_id, "attempt": attempt}).encode()
        self._unanswered[run_id, attempt] = order
        self._loop.call_soon_threadsafe(self._send, order)

    def _send(self, order: bytes) -> None:
        if self._node is not None:
            self._node.send(order)

    def watch(self, run_id: str, attempt: int, pid: int) -> None:
        """Watch the end of an existing worker. Thread-safe."""
        self._loop.call_soon_threadsafe(self._watch, run_id, attempt, pid)

    def _watch(self, run_id: str, attempt: int, pid: int) -> None:
        try:
            worker = os.pidfd_open(pid)
        except ProcessLookupError:
            self.in_thread(self._ended, run_id, attempt, pid)
            return
        self._loop.add_reader(worker, self._worker_ended, worker, run_id, attempt, pid)

    def _worker_ended(self, worker: int, run_id: str, attempt: int, pid: int) -> None:
        self._loop.remove_reader(worker)
        os.close(worker)
        self.in_thread(self._ended, run_id, attempt, pid)

    def in_thread(self, work: Callable[..., None] | None, *arguments: Any) -> None:
        """Call a function in a thread, and log its errors."""
        if work is not None:
            self._loop.run_in_executor(None, work, *arguments).add_done_callback(_log_failure)

    def later(self, seconds: float, work: Callable[..., None], *arguments: Any) -> None:
        """Call a function in a thread after a delay. Thread-safe."""
        self._loop.call_soon_threadsafe(self._loop.call_later, seconds, self.in_thread, work, *arguments)


def _log_failure(done: asyncio.Future[None]) -> None:
    if not done.cancelled() and (error := done.exception()):
        log.error("in the background: %s", error, exc_info=error)
