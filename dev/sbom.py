"""Write what each image holds as CycloneDX 1.6: `make sbom`, into dist/sbom/<image>.cdx.json.

Made of the image's pins, its base image, and the installed packages' metadata for licences and for what needs what. The same
commit gives the same bytes: the serial number is of the contents, the time is `SOURCE_DATE_EPOCH`, else the commit's.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib.metadata import Distribution
from uuid import NAMESPACE_URL, uuid5

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, XsUri
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from dev import licences, pins
from dev.version import version

FOLDER = pins.ROOT / "dist/sbom"
REPOSITORY = "docker.io/winepipelines"


class SbomError(Exception):
    """The contents of an image are unknown."""


def main() -> int:
    """Write one file for each image; return the exit status."""
    try:
        base = base_image()
        FOLDER.mkdir(parents=True, exist_ok=True)
        for image, environment in pins.IMAGES.items():
            bom = of_image(
                image, base, pins.read(environment), pins.installed(environment), list(pins.direct(environment)), made_at()
            )
            path = FOLDER / f"{image}.cdx.json"
            path.write_text(text(bom))
            print(f"wrote {path.relative_to(pins.ROOT)}: {len(bom.components)} components")
    except SbomError as error:
        print(f"sbom: {error}", file=sys.stderr)
        return 1
    return 0


def of_image(
    image: str,
    base: str,
    held: Mapping[str, pins.Pin],
    installed: Mapping[str, Distribution],
    direct: Iterable[Requirement],
    made: datetime,
) -> Bom:
    """Build an image's bill: pins by name, metadata by name, requirements by name.

    Raises SbomError where a package is pinned but not installed, or nothing needs it.
    """
    if missing := held.keys() - installed.keys():
        raise SbomError(f"{image}: pinned but not installed: {', '.join(sorted(missing))}")
    needs = needed(list(direct), {name: installed[name].requires or [] for name in held})
    if orphans := held.keys() - needs.keys():
        raise SbomError(f"{image}: pinned but needed by nothing: {', '.join(sorted(orphans))}; compile the pins again")

    bom = Bom()
    bom.metadata.timestamp = made
    bom.metadata.component = root = _container(f"{REPOSITORY}/{image}:{version()}")
    packages = {name: _package(pin, licences.licence(installed[name])) for name, pin in held.items()}
    below = _container(base)
    bom.components.update([below, *packages.values()])
    for name, names in needs.items():
        bom.register_dependency(packages[name] if name else root, [packages[one] for one in sorted(names)])
    bom.register_dependency(root, [below])
    bom.serial_number = uuid5(NAMESPACE_URL, _body(bom))
    return bom


def text(bom: Bom) -> str:
    """Write a bill as JSON. Raises SbomError where CycloneDX's schema refuses it."""
    made = JsonV1Dot6(bom).output_as_string(indent=2) + "\n"
    if problem := JsonStrictValidator(SchemaVersion.V1_6).validate_str(made):
        raise SbomError(f"no CycloneDX: {problem}")
    return made


def needed(direct: list[Requirement], requires: Mapping[str, list[str]]) -> dict[str, set[str]]:
    """List by name what each package needs in an image, with the requested extras; "" is the image itself."""
    needs: dict[str, set[str]] = {"": set()}
    queue = [("", requirement) for requirement in direct]
    seen: set[tuple[str, str]] = set()
    while queue:
        by, requirement = queue.pop()
        name = canonicalize_name(requirement.name)
        if name not in requires:
            continue  # of an extra or a platform that the marker does not tell: what is not pinned is not installed
        needs[by].add(name)
        needs.setdefault(name, set())
        for extra in {"", *requirement.extras} - {extra for known, extra in seen if known == name}:
            seen.add((name, extra))
            queue += [(name, one) for one in map(Requirement, requires[name]) if _holds(one, extra)]
    return needs


def base_image() -> str:
    """Return what the images are built on: `BASE_IMAGE`, else the Dockerfile's default. Raises SbomError."""
    if named := os.environ.get("BASE_IMAGE"):
        return named
    dockerfile = pins.ROOT / "Dockerfile"
    found = re.search(r"^ARG BASE_IMAGE=(\S+)", dockerfile.read_text(), re.MULTILINE) if dockerfile.exists() else None
    if not found:
        raise SbomError("which image is built on? No Dockerfile with ARG BASE_IMAGE=…; make sbom BASE_IMAGE=…")
    return found[1]


def made_at() -> datetime:
    """Return the time that the bills name."""
    seconds = os.environ.get("SOURCE_DATE_EPOCH")
    if not seconds:
        command = ["git", "-C", str(pins.ROOT), "log", "-1", "--format=%ct"]
        seconds = subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603 - our own
    return datetime.fromtimestamp(int(seconds), UTC)


def _holds(requirement: Requirement, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({**pins.IN_IMAGES, "extra": extra})


def _package(pin: pins.Pin, licence: str) -> Component:
    purl = PackageURL("pypi", name=pin.name, version=pin.version)
    files = ExternalReference(
        type=ExternalReferenceType.DISTRIBUTION,
        url=XsUri(str(purl)),
        comment="installed from a file with one of these hashes",
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=one) for one in pin.hashes],
    )
    return Component(
        type=ComponentType.LIBRARY,
        bom_ref=str(purl),
        purl=purl,
        name=pin.name,
        version=pin.version,
        licenses=[LicenseFactory().make_from_string(licence)] if licence else [],
        external_references=[files],
    )


def _container(image: str) -> Component:
    """Describe an image by its name, as in registry/repository:tag@sha256:…"""
    name, _, digest = image.partition("@")
    repository, colon, tag = name.rpartition(":")
    if not colon or "/" in tag:  # a port's colon
        repository, tag = name, ""
    purl = PackageURL(
        "oci", name=repository.rpartition("/")[2], version=digest or None, qualifiers={"repository_url": repository, "tag": tag}
    )
    hashes = [HashType(alg=HashAlgorithm.SHA_256, content=digest.removeprefix("sha256:"))] if digest else []
    return Component(
        type=ComponentType.CONTAINER, bom_ref=str(purl), purl=purl, name=repository, version=tag or digest, hashes=hashes
    )


def _body(bom: Bom) -> str:
    """Write all but the serial number, which is random until it is set."""
    return re.sub(r'"serialNumber": "[^"]*"', "", JsonV1Dot6(bom).output_as_string())


if __name__ == "__main__":
    sys.exit(main())
