"""Fields of resources that documents, charts and messages name exist in the CRDs."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "deploy/charts/*/values.yaml", "deploy/gitops/**/*.yaml", "deploy/examples/*.yaml")
    for path in ROOT.glob(pattern)
    if path.name != "CHANGELOG.md"  # has fields of earlier releases
)
FIELD = re.compile(r"(?<![\w./-])\.?((?:spec|status)(?:\.[a-zA-Z][a-zA-Z0-9]{0,50}){1,8})")
OF_OTHER_KINDS = {
    *("status.address", "status.conditions.exists"),  # Seldon's, and a CEL expression
    *(
        "spec.canary",
        "spec.predictor.model",
        "spec.predictor.storageUris",
        "status.deploymentMode",
        "status.components.predictor",
    ),  # KServe's
}


def _schemas() -> Iterator[dict[str, Any]]:
    for path in (ROOT / "crds").glob("*.yaml"):
        [version] = yaml.safe_load(path.read_text())["spec"]["versions"]
        yield version["schema"]["openAPIV3Schema"]


def _exists(field: str, schema: dict[str, Any]) -> bool:
    for name in field.split("."):
        schema = schema.get("items", schema)
        if "additionalProperties" in schema or schema.get("x-kubernetes-preserve-unknown-fields"):
            return True
        if name not in schema.get("properties", {}):
            return False
        schema = schema["properties"][name]
    return True


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_field_that_a_page_names_exists(page: Path) -> None:
    schemas = list(_schemas())
    named = set(FIELD.findall(page.read_text())) - OF_OTHER_KINDS
    assert {field for field in named if not any(_exists(field, schema) for schema in schemas)} == set()
