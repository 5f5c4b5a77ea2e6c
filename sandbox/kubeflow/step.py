"""One step of a run: a fork of the worker that becomes the step's container. Called by `worker`.

A compiled lightweight component is a shell command that writes the component's source into a file and runs
`kfp.dsl.executor_main` on it. Its fork does just that without the shell; a command that does more (installs packages) is
run as it is.
"""

from __future__ import annotations

import atexit
import logging
import os
import runpy
import select
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Mapping, Sequence
from concurrent.futures import thread
from pathlib import Path
from typing import NoReturn

_PROGRAM = '"$program_path/ephemeral_component.py"'


def run(command: Sequence[str], environment: Mapping[str, str], folder: Path, log: Path, limit: int | None) -> int:
    """Run a step to its end.

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
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        _become_step(command, environment, folder, log)
    if limit:
        _kill_after(pid, limit)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _kill_after(pid: int, seconds: int) -> None:
    ended = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(ended, select.POLLIN)
        if not poll.poll(seconds * 1000):
            os.kill(pid, signal.SIGKILL)
    finally:
        os.close(ended)


def _become_step(command: Sequence[str], environment: Mapping[str, str], folder: Path, log: Path) -> NoReturn:
    """In the fork: nothing of the worker stays, but the imported packages. Its exit code is a process's own."""
    code = 1
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))  # the worker's connections among them
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        os.environ["HOME"] = str(folder)
        sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
        sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
        code = _exit_code(command)
        _end_interpreter()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)  # whatever happens: past this line the fork would be a second worker


def _exit_code(command: Sequence[str]) -> int:
    """Run the program to its end; what the interpreter would exit with."""
    try:
        return _run_program(command)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1


def _end_interpreter() -> None:
    """What the interpreter does at its end, and `os._exit` does not."""
    thread._threads_queues.clear()  # type: ignore[attr-defined]  # the worker's pools, whose threads are not here
    threading._shutdown()  # type: ignore[attr-defined]  # no public name for: wait for the program's threads
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()


def _run_program(command: Sequence[str]) -> int:
    """Do what the command says, here if it is only a component."""
    script = command[2] if len(command) > 3 and command[:2] == ["sh", "-ec"] else ""
    if _PROGRAM not in script or "kfp.dsl.executor_main" not in script:
        shell = [part.replace("python3", sys.executable) if _PROGRAM in part else part for part in command]
        os.execvp(shell[0], shell)
    _forget_the_workers_settings()
    program = Path(tempfile.mkdtemp(prefix="component-")) / "ephemeral_component.py"
    program.write_text(command[3])
    os.environ["_KFP_RUNTIME"] = "true"
    sys.argv = ["executor_main", "--component_module_path", str(program), *command[4:]]
    # a module that is imported already must not be found in the way of running it as the main one
    sys.modules.pop("kfp.dsl.executor_main", None)
    runpy.run_module("kfp.dsl.executor_main", run_name="__main__", alter_sys=True)
    return 0


def _forget_the_workers_settings() -> None:
    """Random numbers and logging as a new interpreter has them; `random` itself sees to its own after a fork."""
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed()
    root = logging.getLogger()
    root.handlers.clear()
    root.setLevel(logging.WARNING)
