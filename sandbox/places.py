"""Locations: the repository, the cache folder and the two Python environments."""

import os
import subprocess
from pathlib import Path

from sandbox.errors import BuildError

ROOT = Path(__file__).resolve().parent.parent


def cache_folder() -> Path:
    """Return the cache folder: `$WINE_CACHE`, else the user's cache folder. `dev/environment` uses the same one."""
    if chosen := os.environ.get("WINE_CACHE"):
        return Path(chosen).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "wine-operator"


def interpreter(environment: str) -> str:
    """Return the path of an environment's Python. Installs the environment on first use, with progress on stderr.

    Raises BuildError when that failed; the reason stands on stderr.
    """
    script = ROOT / "dev" / "environment"
    done = subprocess.run(["bash", str(script), environment], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise BuildError(f"the Python environment '{environment}' could not be installed; the output above shows why")
    return done.stdout.strip()
