"""An operator process that tests start, kill and restart, with timeouts of seconds instead of minutes."""

import signal
import subprocess
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from support.cluster import eventually

from sandbox.components import base_environment, components
from sandbox.plan import load
from sandbox.platform import Sandbox

QUICK = {
    "WINE_POLL_SECONDS": "0.5",
    "WINE_SUBMIT_GRACE_SECONDS": "3",
    "WINE_ATTEMPT_BACKOFF_SECONDS": "1",
    "WINE_TERMINATE_GRACE_SECONDS": "6",
    "WINE_RECORDS_GRACE_SECONDS": "5",
    "WINE_EXPLAIN_GRACE_SECONDS": "2",
    "WINE_PROGRESS_DEADLINE_SECONDS": "40",
    "WINE_VERIFY_WINDOW_SECONDS": "5",
    "WINE_RETRY_INTERVAL_SECONDS": "1",
    "WINE_CHECK_INTERVAL_SECONDS": "20",
    "WINE_DELETE_BOUND_SECONDS": "8",
    "WINE_REQUEST_SECONDS": "5",
}


class OperatorProcess:
    """The operator as the sandbox starts it, with `changes` to its environment."""

    def __init__(self, sandbox: Sandbox, changes: Mapping[str, str] | None = None) -> None:
        plan = load(sandbox.folder)
        assert plan is not None, "the sandbox is not running"
        component = components(plan)["operator"]
        self._command = component.command
        self._environment = {**base_environment(), **component.environment, **QUICK, **(changes or {})}
        self._ready = component.ready
        self.log = plan.logs / "operator-under-test.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def start(self) -> None:
        """Start the process unless it is running, and wait until its probe answers."""
        if self.alive():
            return
        self._process = self._spawn()
        eventually(lambda: self.alive() and self._ready(), 90)

    def launch(self) -> None:
        """Start the process without waiting. It is started again when it ends by itself, as the kubelet would."""
        self._process = process = self._spawn()
        threading.Thread(target=self._restart, args=(process,), daemon=True).start()

    def _spawn(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(self._command, env=self._environment, stdout=log, stderr=log)

    def _restart(self, process: subprocess.Popen[bytes]) -> None:
        """Start the process again when it has ended, unless it was killed or stopped."""
        process.wait()
        with self._lock:
            if self._process is process:
                self.launch()

    def kill(self) -> None:
        """Kill the process with SIGKILL."""
        with self._lock:
            process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def stop(self) -> int:
        """Terminate the process with SIGTERM; return its exit status."""
        with self._lock:
            process, self._process = self._process, None
        assert process is not None
        process.send_signal(signal.SIGTERM)
        return process.wait(30)

    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The id of the process."""
        assert self._process is not None
        return self._process.pid

    @property
    def resident_kilobytes(self) -> int:
        """The resident memory of the process."""
        assert self._process is not None
        done = subprocess.run(["ps", "-o", "rss=", "-p", str(self._process.pid)], capture_output=True, text=True, check=True)
        return int(done.stdout)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.kill()
