"""One `up` or `down` of a sandbox at a time."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Lock a sandbox's folder against changes by other processes, which wait. The lock file is deleted with the folder."""
    folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder.with_name(f".{folder.name}.lock")
    while True:
        with path.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists() or path.stat().st_ino != os.fstat(lock.fileno()).st_ino:
                continue  # the previous holder removed the file, so this lock does not exclude others
            try:
                yield
            finally:
                if not folder.exists():
                    path.unlink()
            return
