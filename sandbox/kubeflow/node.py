"""The node: a process that has imported the packages of steps, and forks a worker for each attempt of a run.

Started by `execution` as `python -m sandbox.kubeflow.node`, with the server's socket as standard input. A cluster's node has
the image in its cache, and its pods start on a warm disk; here importing pandas, scikit-learn and MLflow for every step
would cost seconds that a cluster does not spend. Each step is still a process of its own, with its own environment, folder
and log. Nothing is computed before a fork, and no thread is started: neither survives it.

When the server has gone, its runs go on, as they do on a cluster. Where no other server has come within
`--orphan-seconds`, the platform is taken to be gone, and the node ends its workers and itself.
"""

from __future__ import annotations

import argparse
import fcntl
import gc
import importlib
import json
import logging
import os
import selectors
import signal
import socket
import sys
import time
from pathlib import Path

from . import worker

#: what a worker needs itself
_WORKER_PACKAGES = ["kfp.local", "kfp.dsl.executor_main", "kubernetes.client", "kubernetes.watch", "kubernetes.config"]
#: what the steps of a wine pipeline import
_STEP_PACKAGES = [
    *("pandas", "pyarrow.parquet", "pyarrow.csv", "pyarrow.dataset", "sklearn.linear_model", "sklearn.ensemble"),
    *("sklearn.model_selection", "sklearn.metrics", "sklearn.pipeline", "sklearn.preprocessing"),
    *("mlflow", "mlflow.sklearn", "mlflow.tracking", "mlflow.models", "skops.io", "boto3", "requests"),
    *("matplotlib.figure", "matplotlib.backends.backend_agg"),
]
log = logging.getLogger("sandbox.kubeflow.node")


def main() -> None:
    """Serve the server at standard input until it ends."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.kubeflow.node", description=__doc__)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--kubeconfig", type=Path)
    parser.add_argument("--orphan-seconds", type=float, default=20)
    parser.add_argument("--cold", action="store_true")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    began = time.monotonic()
    for package in [*_WORKER_PACKAGES, *([] if options.cold else _STEP_PACKAGES)]:
        try:
            importlib.import_module(package)
        except ImportError as error:
            log.warning("not warm: %s", error)  # a step that needs it will report it
    gc.freeze()  # keeps imported modules on memory pages that the forks share
    log.info("warm after %.1f s", time.monotonic() - began)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # workers are reaped by the kernel
    Node(socket.socket(fileno=os.dup(0)), options.state, options.kubeconfig, options.orphan_seconds).serve()


class Node:
    """Reads the server's orders, and forks workers."""

    def __init__(self, server: socket.socket, state: Path, kubeconfig: Path | None, orphan_seconds: float) -> None:
        self._server = server
        self._state = state
        self._kubeconfig = kubeconfig
        self._orphan_seconds = orphan_seconds
        self._workers: dict[int, int] = {}  # pidfd -> pid
        self._selector = selectors.DefaultSelector()

    def serve(self) -> None:
        """Fork until the server has ended, and then wait for its workers."""
        self._selector.register(self._server, selectors.EVENT_READ)
        orphaned_at = None
        while True:
            left = None if orphaned_at is None else max(0.0, orphaned_at + self._orphan_seconds - time.monotonic())
            for key, _ in self._selector.select(left):
                if key.fd in self._workers:
                    self._forget(key.fd)
                elif not self._obey():
                    self._selector.unregister(self._server)
                    orphaned_at = time.monotonic()
            if orphaned_at is not None and not self._workers:
                return
            if orphaned_at is not None and time.monotonic() >= orphaned_at + self._orphan_seconds:
                if not self._has_server():
                    log.warning("no server for %s s: ending %s workers", self._orphan_seconds, len(self._workers))
                    for pid in self._workers.values():
                        os.killpg(pid, signal.SIGKILL)
                    return
                orphaned_at = float("inf")  # the new server has found them; only waiting is left

    def _forget(self, pidfd: int) -> None:
        self._selector.unregister(pidfd)
        os.close(pidfd)
        del self._workers[pidfd]

    def _has_server(self) -> bool:
        with (self._state / "server.lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def _obey(self) -> bool:
        """Execute one order. Return False if the server has ended."""
        try:
            order = self._server.recv(65536)
        except ConnectionError:
            order = b""
        if not order:
            return False
        wanted = json.loads(order)
        pid = os.fork()
        if pid == 0:
            self._become_worker(wanted["run_id"], wanted["attempt"])
        pidfd = os.pidfd_open(pid)
        self._workers[pidfd] = pid
        self._selector.register(pidfd, selectors.EVENT_READ)
        try:
            self._server.send(json.dumps({**wanted, "pid": pid}).encode())
        except OSError:
            log.info("the server has gone")  # the worker has recorded its identity in the store
        return True

    def _become_worker(self, run_id: str, attempt: int) -> None:
        """Run the worker in the forked process, without the node's state. Does not return."""
        code = 1
        try:
            os.setsid()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            folder = self._state / "runs" / run_id
            folder.mkdir(parents=True, exist_ok=True)
            output = os.open(folder / "worker.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            nothing = os.open(os.devnull, os.O_RDONLY)
            os.dup2(nothing, 0)
            os.dup2(output, 1)
            os.dup2(output, 2)
            os.closerange(3, os.sysconf("SC_OPEN_MAX"))
            os.chdir(folder)
            worker.work(self._state, run_id, attempt, self._kubeconfig)
            code = 0
        except BaseException:
            log.exception("the worker of run %s", run_id)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)


if __name__ == "__main__":
    main()
