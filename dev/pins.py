"""What requirements/*.txt pin, and what of it the images hold. Used by `sbom`, `licences` and `audit`."""

import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import Distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
REQUIREMENTS = ROOT / "requirements"
IMAGES = {"operator": "operator", "steps": "pipeline", "server": "pipeline"}
"""Each image's environment."""

IN_IMAGES = {
    "implementation_name": "cpython",
    "implementation_version": "3.11.0",
    "os_name": "posix",
    "platform_machine": "x86_64",
    "platform_python_implementation": "CPython",
    "platform_system": "Linux",
    "python_full_version": "3.11.0",
    "python_version": "3.11",
    "sys_platform": "linux",
}
"""Markers' values in an image, whatever runs this."""


@dataclass(frozen=True)
class Pin:
    """A package's one version, and the SHA-256 of each file that it may be installed from."""

    name: str
    version: str
    hashes: tuple[str, ...]


def read(environment: str, values: Mapping[str, str] | None = IN_IMAGES) -> dict[str, Pin]:
    """Read an environment's pins by name, those whose marker holds for `values`; None: all, of which the last one counts.

    Raises ValueError where a line is no pin with hashes.
    """
    return {pin.name: pin for pin in parse((REQUIREMENTS / f"{environment}.txt").read_text(), values)}


def parse(text: str, values: Mapping[str, str] | None = None) -> Iterator[Pin]:
    """Read the pins of a file that `uv pip compile --generate-hashes` has made.

    Raises ValueError.
    """
    for line in re.sub(r"\\\n", " ", text).splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        said, *options = line.split("--hash=")
        requirement = Requirement(said.strip())
        [*specifiers] = requirement.specifier
        hashes = tuple(sorted(option.strip().removeprefix("sha256:") for option in options))
        if len(specifiers) != 1 or specifiers[0].operator != "==" or not all(re.fullmatch("[0-9a-f]{64}", one) for one in hashes):
            raise ValueError(f"not a pin: {said.strip()}")
        if not hashes:
            raise ValueError(f"a pin without hashes: {said.strip()}")
        if values is None or requirement.marker is None or requirement.marker.evaluate({**values}):
            yield Pin(canonicalize_name(requirement.name), specifiers[0].version, hashes)


def direct(environment: str) -> Iterator[Requirement]:
    """List what is asked for by name."""
    for line in (REQUIREMENTS / f"{environment}.in").read_text().splitlines():
        said = line.partition("#")[0].strip()
        if said and not said.startswith("-"):
            yield Requirement(said)


def installed(environment: str) -> dict[str, Distribution]:
    """Read the metadata of an environment's packages by name; makes the environment first if need be.

    Raises subprocess.CalledProcessError where it cannot be made.
    """
    command = [str(ROOT / "dev/environment"), environment]
    python = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()  # noqa: S603 - our own
    [packages] = (Path(python).parents[1] / "lib").glob("python*/site-packages")
    return {canonicalize_name(found.metadata["Name"]): found for found in distributions(path=[str(packages)])}
