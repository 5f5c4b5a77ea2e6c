"""Start, recognize and stop processes that outlive the command that started them.

A process is known by its id and its birth: an id alone may belong to someone else after a crash or a reboot.
"""

import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

MARK = "WINE_SANDBOX"  # variable in every process of a sandbox and its children: the sandbox's folder
PROC = Path("/proc")
LOOK_EVERY = 0.05  # seconds
_children: dict[int, subprocess.Popen[bytes]] = {}  # children of this process, which must collect their exit codes


@dataclass(frozen=True)
class Process:
    """A process id and what distinguishes it from a later process of the same id."""

    pid: int
    birth: str

    @classmethod
    def read(cls, path: Path) -> "Process | None":
        """Read the process that `write` recorded in this file, alive or not."""
        try:
            pid, birth = path.read_text().split(" ", 1)
        except (FileNotFoundError, ValueError):
            return None
        return cls(int(pid), birth)

    def write(self, path: Path) -> None:
        """Record it in a file for `read`."""
        path.write_text(f"{self.pid} {self.birth}")

    def alive(self) -> bool:
        """Report whether this process is running."""
        if self.pid in _children:
            return _children[self.pid].poll() is None
        return _birth(self.pid) == self.birth


def start(command: Sequence[str], environment: Mapping[str, str], log: Path, mark: Path) -> Process:
    """Start a program in a session of its own, with its output appended to `log`. It outlives this process."""
    with log.open("ab") as output:
        child = subprocess.Popen(
            command,
            env={**environment, MARK: str(mark)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    _children[child.pid] = child
    return Process(child.pid, _birth(child.pid) or "ended at once")


def stop(processes: Iterable[Process], seconds: float, first: signal.Signals = signal.SIGTERM) -> None:
    """End processes with all of their groups: terminate, wait up to `seconds` seconds for all of them together, then kill."""
    living = [process for process in processes if process.alive()]
    for process in living:
        _signal_group(process.pid, first)
    deadline = time.monotonic() + seconds
    while any(process.alive() for process in living) and time.monotonic() < deadline:
        time.sleep(LOOK_EVERY)
    for process in living:  # a group may outlive its leader
        _signal_group(process.pid, signal.SIGKILL)
        while process.alive():
            time.sleep(LOOK_EVERY)
        _children.pop(process.pid, None)


def stop_marked(mark: Path) -> None:
    """Kill all processes with a sandbox's mark, including those in process groups of their own. Linux only."""
    needle = f"{MARK}={mark}".encode()
    for entry in PROC.glob("[0-9]*"):
        pid = int(entry.name)
        try:
            marked = needle in (entry / "environ").read_bytes().split(b"\0")
        except OSError:  # it ended, or belongs to another user
            continue
        if marked and pid != os.getpid():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


def _signal_group(leader: int, number: signal.Signals) -> None:
    try:
        os.killpg(leader, number)
    except (ProcessLookupError, PermissionError):  # macOS answers EPERM for a group of zombies
        return


def _birth(pid: int) -> str | None:
    """Return the process's start time, as a text to compare. None if it does not exist or is a zombie."""
    if PROC.is_dir():
        try:
            # After the name, which may contain any character, the state is the first field and the start time the twentieth.
            fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return None
        boot = (PROC / "sys/kernel/random/boot_id").read_text().strip()
        return None if fields[0] in "ZX" else f"{boot} {fields[19]}"
    shown = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    state, _, began = shown.stdout.strip().partition(" ")
    return None if not state or state.startswith("Z") else began.strip()
