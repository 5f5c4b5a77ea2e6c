"""Choose a container engine of this machine. `dev/images` runs this module as a program.

An installed command is not enough: `docker` is often there without an engine behind it, and is sometimes Podman by another name.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence

from sandbox.errors import EngineError

FOR_KIND = ("docker", "podman", "nerdctl")
FOR_IMAGES = ("docker", "podman", "buildah")
BOTH = tuple(engine for engine in FOR_KIND if engine in FOR_IMAGES)  # kind's nodes get the images that it builds
KIND_VARIABLE = "KIND_EXPERIMENTAL_PROVIDER"  # kind's own variable
BUILDER_VARIABLE = "BUILDER"
SECONDS = 30  # timeout of an engine's answer; Podman's first start is slow
NEEDS_NO_ENGINE = {"buildah": "version"}  # `info` would require rights that it does not need


def choose(engines: Sequence[str], named: str = "") -> str:
    """Return the named engine, or else the first one that works.

    Raises EngineError; the message has what each of them answered.
    """
    if named and named not in engines:
        raise EngineError(f"'{named}' cannot be used here. Name one of {_listed(engines)}.")
    found = {}
    for engine in [named] if named else engines:
        problem = why_not(engine)
        if not problem:
            return engine
        found[engine] = problem
    reasons = "\n".join(f"  {engine}: {problem}" for engine, problem in found.items())
    advice = "Start Docker, or install Podman (on Debian: apt-get install podman)"
    advice = f"Start {next(iter(found))}, or install it." if len(found) == 1 else f"{advice}; {_listed(engines)} will do."
    raise EngineError(f"No container engine works here.\n{reasons}\n{advice}")


def why_not(engine: str) -> str:
    """Explain why an engine cannot be used. Return an empty string if it can."""
    program = shutil.which(engine)
    if program is None:
        return "is not installed"
    if engine == "docker" and "podman" in _ask(program, "--version")[1].lower():
        return "is Podman by another name: use podman"
    works, output = _ask(program, NEEDS_NO_ENGINE.get(engine, "info"))
    return "" if works else output or "does not answer"


def for_kind(environment: Mapping[str, str] = os.environ, engines: Sequence[str] = FOR_KIND) -> str:
    """Choose the engine for kind, which has its own variable for the choice.

    Raises EngineError.
    """
    return choose(engines, environment.get(KIND_VARIABLE, ""))


def for_images(environment: Mapping[str, str] = os.environ) -> str:
    """Choose the program that builds images.

    Raises EngineError.
    """
    return choose(FOR_IMAGES, environment.get(BUILDER_VARIABLE, ""))


def _ask(program: str, question: str) -> tuple[bool, str]:
    """Run a program with one argument. Return whether it succeeded, and the last line of its errors or else of its output."""
    try:
        done = subprocess.run([program, question], capture_output=True, text=True, errors="replace", check=False, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return False, f"did not answer within {SECONDS} s"
    except OSError as error:
        return False, f"cannot be started: {error.strerror}"
    lines = [line for line in (done.stderr.strip() or done.stdout.strip()).splitlines() if line.strip()]
    return done.returncode == 0, lines[-1].strip()[:300] if lines else ""


def _listed(engines: Sequence[str]) -> str:
    if len(engines) == 1:
        return engines[0]
    return ", ".join(engines[:-1]) + f" or {engines[-1]}"


def main() -> int:
    """Print the program that builds images. Return the exit status."""
    try:
        sys.stdout.write(f"{for_images()}\n")
    except EngineError as error:
        sys.stderr.write(f"images: {error}\nTo choose one yourself: {BUILDER_VARIABLE}=podman make images\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
