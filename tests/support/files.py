"""Files of processes that are running: each of them can disappear at any moment."""

import os
from collections.abc import Iterator
from pathlib import Path


def contents(folder: Path) -> Iterator[tuple[Path, bytes, int]]:
    """Read every file below a folder that is still there; give its path, content and mode."""
    for where, _, names in os.walk(folder):  # unlike Path.rglob it passes over folders that are gone
        for path in (Path(where, name) for name in names):
            try:
                mode = path.stat().st_mode
                content = path.read_bytes() if path.is_file() else None
            except FileNotFoundError:
                continue
            if content is not None:
                yield path, content, mode
