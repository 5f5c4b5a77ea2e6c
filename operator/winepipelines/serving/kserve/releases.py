"""Which release of KServe a cluster has, as far as its CRD tells.

The published OpenAPI has the schema of the CRD: every authenticated user may read it, so no right is needed. KServe's minimal
CRDs have no schema, and then only the administrator's setting tells.
"""

import re
from dataclasses import dataclass
from typing import Any

from winepipelines.api.errors import Refused
from winepipelines.platform.bodies import PAGE_VALUES
from winepipelines.platform.kubernetes import JSON, Body, Kubernetes
from winepipelines.serving.kserve.naming import KIND

INDEX = "/openapi/v3"
GROUP_VERSION = f"apis/{KIND.group}/{KIND.version}"
SCHEMA_BYTES = 32 << 20  # 0.20 has 1.3 MB
KIND_NAME = re.compile(r"(?:.*\.)?InferenceService")
KEPT = frozenset({"components", "schemas", "properties", "spec", "predictor", "canary", "storageUris"})
FIRST_SUPPORTED = 15
FIRST_WITH_STANDARD = 16
"""The release that renamed the modes: `RawDeployment` to `Standard`, and `Serverless` to `Knative`."""
FIRST_WITH_CANARY = 20
RELEASE = re.compile(r"0\.(\d{1,3})(?:\.\d{1,3})?")


def minor_of(version: str) -> int | None:
    """Read the minor version of a release such as v0.16.0; None if the text is empty."""
    match = RELEASE.fullmatch(version.removeprefix("v"))
    return int(match[1]) if match else None


@dataclass(frozen=True)
class Releases:
    """Releases by minor version, `first` to `last`; None is any later one."""

    first: int
    last: int | None = None

    def __str__(self) -> str:
        """Name them as KServe does."""
        if self.last is None:
            return f"0.{self.first} or later"
        return f"0.{self.first}" if self.first == self.last else f"0.{self.first} to 0.{self.last}"

    def __contains__(self, minor: int) -> bool:
        """Tell whether a release is one of them."""
        return self.first <= minor and (self.last is None or minor <= self.last)


def releases_of(document: Body) -> Releases | None:
    """Tell releases by the fields of the CRD: an OpenAPI document of its group. None if the CRD has no schema."""
    schemas: dict[str, Any] = (document.get("components") or {}).get("schemas") or {}
    service: Body = next((schema for name, schema in schemas.items() if KIND_NAME.fullmatch(name)), {})
    spec = _properties(_properties(service).get("spec"))
    predictor = spec.get("predictor") or {}
    if "canary" in spec:
        return Releases(FIRST_WITH_CANARY)
    if "storageUris" in _properties(predictor):
        return Releases(FIRST_WITH_STANDARD, FIRST_WITH_CANARY - 1)
    return Releases(FIRST_SUPPORTED, FIRST_WITH_STANDARD - 1) if "properties" in predictor else None


def _properties(schema: object) -> dict[str, Any]:
    found = schema.get("properties") if isinstance(schema, dict) else None
    return found if isinstance(found, dict) else {}


def _keep(found: Body) -> Body:
    """Keep the names of fields on the way to those that tell the release: the schema has some 100,000 values."""
    return {name: value for name, value in found.items() if name in KEPT or KIND_NAME.fullmatch(name)}


class Detection:
    """Reads the release from the API server, again whenever the CRD has changed."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._address = ""
        self._releases: Releases | None = None

    async def releases(self, kubernetes: Kubernetes) -> Releases | None:
        """Tell the cluster's release; None if the CRD does not. Raises Unavailable if the API server does not answer."""
        try:
            index = await kubernetes.ask("get", INDEX) or {}
            entry = (index.get("paths") or {}).get(GROUP_VERSION) or {}
            address = str(entry.get("serverRelativeURL") or "")  # has a hash of the schema
            if address != self._address:
                self._releases = releases_of(await self._document(kubernetes)) if address else None
                self._address = address
        except Refused:  # the cluster's administrator has removed everybody's right to discovery
            return None
        return self._releases

    @staticmethod
    async def _document(kubernetes: Kubernetes) -> Body:
        response = await kubernetes.open(f"{INDEX}/{GROUP_VERSION}", JSON)
        return await kubernetes.parsed(response, SCHEMA_BYTES, _keep, PAGE_VALUES)
