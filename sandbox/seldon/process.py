"""The process of a container: it takes its lock, log and environment, and then serves.

Called in a fork of `servers`' forkserver, which has imported the model server before. Imports nothing at its top that
a container would not have.
"""

import fcntl
import os
import sys
from pathlib import Path

LOCK = "process"  # in the pod's folder; holds `pid port` and is locked as long as the process lives


def run(folder: Path, port: int, environment: dict[str, str], log: Path) -> None:
    """Serve the model as `python -m wineserver` with `environment`. Ends the process with the exit code."""
    os.setsid()  # signals to the stand-in do not end its containers
    lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    os.pwrite(lock, f"{os.getpid()} {port}\n".encode().ljust(20), 0)  # first: whoever finds it locked reads it
    fcntl.flock(lock, fcntl.LOCK_EX)
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    from wineserver.server import main

    sys.exit(main())
