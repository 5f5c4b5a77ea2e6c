"""Where things are: the repository, the cache folder and the two Python environments. Used by every other module here."""

import os
import subprocess
from pathlib import Path

from sandbox.errors import BuildError

ROOT = Path(__file__).resolve().parent.parent


def cache_folder() -> Path:
    """The folder for what is made once: `$WINE_CACHE`, else the user's cache folder. `dev/environment` uses the same one."""
    if chosen := os.environ.get("WINE_CACHE"):
        return Path(chosen).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "wine-operator"


def interpreter(environment: str) -> str:
    """The path of an environment's Python; installs the environment on first use, which it shows on stderr.

    Raises BuildError when that failed; the reason stands on stderr.
    """
    script = ROOT / "dev" / "environment"
    done = subprocess.run(["bash", str(script), environment], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise BuildError(f"the Python environment '{environment}' could not be made, see above")
    return done.stdout.strip()
