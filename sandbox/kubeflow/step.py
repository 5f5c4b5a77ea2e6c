"""The steps of a run, each a process of its own.

A step is not forked from the worker, which has threads, connections and other steps' secrets, but from a nursery: a fork of
the worker from before it had any. For each step the nursery forks a guardian, which forks the step, waits for it and tells
the worker its exit code; what the step is to do goes to the step alone.

A compiled lightweight component is a shell command that writes the component's source into a file and runs
`kfp.dsl.executor_main` on it. A step does just that without the shell; a command that does more (installs packages) is run
as it is.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import runpy
import select
import signal
import socket
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

_PROGRAM = '"$program_path/ephemeral_component.py"'


class Nursery:
    """Forks steps. Create it before the process has threads or connections."""

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if os.fork() == 0:
            self._control.close()
            _as_process(_fork_steps, theirs)
        theirs.close()

    def run(self, command: Sequence[str], environment: Mapping[str, str], folder: Path, log: Path, limit: int | None) -> int:
        """Run a step to its end. Thread-safe.

        Args:
            command: the container's command and arguments, placeholders resolved.
            environment: all of its variables. They are handed over in memory: never in a file or on a command line.
            folder: its working folder and home, made if need be.
            log: where its output goes, after what is there.
            limit: seconds after which it is killed; None for no limit.

        Returns:
            Its exit code; negative where a signal ended it.

        """
        folder.mkdir(parents=True, exist_ok=True)
        log.parent.mkdir(parents=True, exist_ok=True)
        request = {"command": [*command], "environment": {**environment}, "folder": str(folder), "log": str(log)}
        ours, theirs = socket.socketpair()
        with ours:
            socket.send_fds(self._control, [str(limit or 0).encode()], [theirs.fileno()])
            theirs.close()
            ours.sendall(json.dumps(request).encode())
            ours.shutdown(socket.SHUT_WR)
            return int(_received(ours) or -signal.SIGKILL)


def _received(connection: socket.socket) -> bytes:
    """Read until the other end closes."""
    return b"".join(iter(lambda: connection.recv(2**16), b""))


def _as_process(work: Callable[..., int], *arguments: object) -> NoReturn:
    """Call a function in a forked process, and exit with its result. Does not return."""
    code = 1
    try:
        code = work(*arguments)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _fork_steps(control: socket.socket) -> int:
    """The process that forks guardians."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # guardians are reaped by the kernel
    while True:
        limit, connections, _, _ = socket.recv_fds(control, 64, 1)
        if not limit:  # the worker has ended, so its steps end
            os.killpg(0, signal.SIGKILL)
        connection = socket.socket(fileno=connections[0])
        if os.fork() == 0:
            control.close()
            _as_process(_guard, connection, int(limit))
        connection.close()


def _guard(connection: socket.socket, limit: int) -> int:
    """The process that supervises one step."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    step = os.fork()
    if step == 0:
        _as_process(_step, connection)
    if limit:
        ended = select.poll()
        ended.register(os.pidfd_open(step), select.POLLIN)
        if not ended.poll(limit * 1000):
            os.kill(step, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(step, 0)[1])
    connection.sendall(str(code).encode())
    return 0


def _step(connection: socket.socket) -> int:
    """The step's process: of its ancestors' state it keeps only the imported packages."""
    request = json.loads(_received(connection))
    output = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    connection.detach()  # already closed
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    os.environ["HOME"] = request["folder"]
    _start_afresh()
    code = _exit_code(request["command"])
    # done by the interpreter at its end but not by `os._exit`; neither has a public name
    threading._shutdown()  # type: ignore[attr-defined]  # waits for the step's threads
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def _start_afresh() -> None:
    """Reset output, logging and random numbers as in a new interpreter. `random` resets itself after a fork."""
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    root = logging.getLogger()
    root.handlers.clear()
    root.setLevel(logging.WARNING)
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed()


def _exit_code(command: Sequence[str]) -> int:
    """Run the program. Return the exit code of the interpreter."""
    try:
        _run_program(command)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _run_program(command: Sequence[str]) -> None:
    """Execute the command, in this process if it is only a component."""
    script = command[2] if len(command) > 3 and command[:2] == ["sh", "-ec"] else ""
    if _PROGRAM not in script or "kfp.dsl.executor_main" not in script:
        os.execvp(command[0], [*command])
    program = Path(tempfile.mkdtemp(prefix="component-", dir=os.environ.get("HOME"))) / "ephemeral_component.py"
    program.write_text(command[3])
    os.environ["_KFP_RUNTIME"] = "true"
    sys.argv = ["executor_main", "--component_module_path", str(program), *command[4:]]
    # a module that is already imported would prevent running it as the main module
    sys.modules.pop("kfp.dsl.executor_main", None)
    runpy.run_module("kfp.dsl.executor_main", run_name="__main__", alter_sys=True)
