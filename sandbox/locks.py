"""One `up` or `down` of a sandbox at a time. Called by `platform`."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Be the only process that changes a sandbox's folder; others wait. The lock's file goes with the folder."""
    folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder.with_name(f".{folder.name}.lock")
    while True:
        with path.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists() or path.stat().st_ino != os.fstat(lock.fileno()).st_ino:
                continue  # whoever had it before us removed the file: what we hold is no one else's lock
            try:
                yield
            finally:
                if not folder.exists():
                    path.unlink()
            return
