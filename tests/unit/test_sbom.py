"""The bill of materials of an image lists its contents, is valid CycloneDX, and is reproducible."""

import json
from datetime import UTC, datetime
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from dev import pins, sbom
from dev.version import version

BASE = "docker.io/library/python:3.11-slim-bookworm"
NOW = datetime(2026, 11, 25, tzinfo=UTC)
HASH = "0" * 64
INSTALLED = {str(canonicalize_name(found.metadata["Name"])): found for found in distributions()}


def _operator_bill() -> str:
    """Build the bill of the operator's image, whose packages are installed in this environment as well."""
    pinned = pins.read("operator")
    return sbom.text(sbom.of_image("operator", BASE, pinned, INSTALLED, list(pins.direct("operator")), NOW))


@pytest.fixture(scope="module")
def bill() -> Any:
    return json.loads(_operator_bill())


def test_bill_is_valid_cyclonedx(bill: Any) -> None:
    validator = JsonStrictValidator(SchemaVersion.V1_6)
    assert validator.validate_str(json.dumps(bill)) is None
    assert validator.validate_str(json.dumps({**bill, "components": [{"name": "without a type"}]})) is not None


def test_bill_has_each_pin_with_purl_hashes_and_licence(bill: Any) -> None:
    packages = {one["name"]: one for one in bill["components"] if one["type"] == "library"}
    assert packages.keys() == pins.read("operator").keys()
    for name, pin in pins.read("operator").items():
        assert packages[name]["purl"] == f"pkg:pypi/{name}@{pin.version}"
        [files] = packages[name]["externalReferences"]
        assert sorted(one["content"] for one in files["hashes"]) == list(pin.hashes)
        assert packages[name]["licenses"]


def test_image_depends_on_its_base_and_on_its_direct_requirements(bill: Any) -> None:
    image = bill["metadata"]["component"]
    assert (image["name"], image["version"]) == ("docker.io/winepipelines/operator", version())
    dependencies = {one["ref"]: one.get("dependsOn", []) for one in bill["dependencies"]}
    [base] = [one["bom-ref"] for one in bill["components"] if one["type"] == "container"]
    names = {one.partition("@")[0].removeprefix("pkg:pypi/") for one in dependencies[image["bom-ref"]] if one != base}
    assert base in dependencies[image["bom-ref"]]
    assert names == {canonicalize_name(one.name) for one in pins.direct("operator")}


def test_bill_is_reproducible(bill: Any) -> None:
    assert json.loads(_operator_bill()) == bill
    assert bill["metadata"]["timestamp"] == NOW.isoformat()


def test_serial_number_differs_when_the_contents_differ() -> None:
    def serial(pinned: str) -> object:
        return sbom.of_image("operator", BASE, {"kopf": pins.Pin("kopf", pinned, (HASH,))}, INSTALLED, [kopf], NOW).serial_number

    kopf = Requirement("kopf")
    assert serial("1.45.2") == serial("1.45.2") != serial("1.45.3")


def test_needed_assigns_requirements_of_an_extra_to_the_package_that_requires_it() -> None:
    requires = {
        "kfp": ["docker", 'kfp-kubernetes ; extra == "kubernetes"', 'pywin32 ; sys_platform == "win32"'],
        "docker": [],
        "kfp-kubernetes": ["kfp"],
    }
    assert sbom.needed([Requirement("kfp")], requires).keys() == {"", "kfp", "docker"}
    with_extra = sbom.needed([Requirement("kfp[kubernetes]")], requires)
    assert with_extra == {"": {"kfp"}, "kfp": {"docker", "kfp-kubernetes"}, "docker": set(), "kfp-kubernetes": {"kfp"}}


def test_bill_is_refused_when_a_pin_is_not_needed_or_not_installed() -> None:
    pinned = {name: pins.Pin(name, "1", (HASH,)) for name in ("pyyaml", "jinja2")}
    with pytest.raises(sbom.SbomError, match="needed by nothing: jinja2"):
        sbom.of_image("operator", BASE, pinned, INSTALLED, [Requirement("pyyaml")], NOW)
    with pytest.raises(sbom.SbomError, match="not installed: absent"):
        sbom.of_image("operator", BASE, {"absent": pins.Pin("absent", "1", (HASH,))}, INSTALLED, [], NOW)


def test_base_image_is_that_of_the_dockerfile_unless_the_environment_sets_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pins, "ROOT", tmp_path)
    monkeypatch.delenv("BASE_IMAGE", raising=False)
    with pytest.raises(sbom.SbomError, match="BASE_IMAGE"):
        sbom.base_image()
    (tmp_path / "Dockerfile").write_text(f"# syntax\nARG BASE_IMAGE={BASE}\nFROM ${{BASE_IMAGE}} AS base\n")
    assert sbom.base_image() == BASE
    monkeypatch.setenv("BASE_IMAGE", "registry.example.org:5000/python")
    assert sbom.base_image() == "registry.example.org:5000/python"


@pytest.mark.parametrize(
    ("image", "name", "tag"),
    [
        (BASE, "docker.io/library/python", "3.11-slim-bookworm"),
        ("registry.example.org:5000/python", "registry.example.org:5000/python", ""),
        (f"{BASE}@sha256:{HASH}", "docker.io/library/python", "3.11-slim-bookworm"),
    ],
)
def test_container_has_name_tag_and_digest_of_the_image(image: str, name: str, tag: str) -> None:
    component = sbom._container(image)
    assert (component.name, component.version) == (name, tag)
    assert [one.content for one in component.hashes] == ([HASH] if "@" in image else [])


class TestPins:
    def test_parse_evaluates_markers(self) -> None:
        text = f"a==1 ; sys_platform == 'win32' \\\n    --hash=sha256:{HASH}\nb==2 \\\n    --hash=sha256:{HASH}\n"
        assert [pin.name for pin in pins.parse(text, pins.IN_IMAGES)] == ["b"]
        assert [pin.name for pin in pins.parse(text)] == ["a", "b"]

    @pytest.mark.parametrize("line", ["a", "a>=1", "a==1", f"a==1,!=2 --hash=sha256:{HASH}", "a==1 --hash=sha256:12"])
    def test_parse_raises_when_a_line_is_not_a_pin_with_hashes(self, line: str) -> None:
        with pytest.raises(ValueError, match="pin"):
            list(pins.parse(line))
