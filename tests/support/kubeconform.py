"""kubeconform with the schemas of an API server: those of Kubernetes and of all installed CRDs."""

import json
import subprocess
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from sandbox.programs import built


class Kubeconform:
    """Validates manifests. `get` reads a path from the API server; schemas are written to `folder`."""

    def __init__(self, get: Callable[[str], str], folder: Path) -> None:
        self._get, self._folder = get, folder

    def findings(self, manifests: list[dict[str, Any]]) -> list[str]:
        """Validate manifests; return the errors. A kind without a schema and an unknown field are errors too."""
        for api_version in {one["apiVersion"] for one in manifests}:
            self._write(api_version, {one["kind"] for one in manifests if one["apiVersion"] == api_version})
        place = f"{self._folder}/{{{{.Group}}}}/{{{{.ResourceAPIVersion}}}}/{{{{.ResourceKind}}}}.json"
        command = (built("kubeconform", print), "-strict", "-output", "json", "-schema-location", place, "-")
        manifest = yaml.safe_dump_all(manifests)
        done = subprocess.run(command, input=manifest, capture_output=True, text=True, check=False)
        report = json.loads(done.stdout)
        return [f"{one['kind']} {one['name']}: {one['msg']}" for one in report["resources"]]

    @cached_property
    def _paths(self) -> dict[str, Any]:
        paths: dict[str, Any] = json.loads(self._get("/openapi/v3"))["paths"]
        return paths

    def _write(self, api_version: str, kinds: set[str]) -> None:
        """Write the schemas of these kinds to the paths where kubeconform expects them."""
        path = self._paths.get(f"apis/{api_version}" if "/" in api_version else f"api/{api_version}")
        if path is None:
            return
        schemas = json.loads(self._get(path["serverRelativeURL"]))["components"]["schemas"]
        components = {"schemas": _closed(schemas)}
        folder = self._folder / (api_version if "/" in api_version else f"{api_version}/{api_version}")
        folder.mkdir(parents=True, exist_ok=True)
        for name, schema in schemas.items():
            for known in schema.get("x-kubernetes-group-version-kind", ()):
                if known["kind"] in kinds:
                    schema_file = {"$ref": f"#/components/schemas/{name}", "components": components}
                    (folder / f"{known['kind'].lower()}.json").write_text(json.dumps(schema_file))


def _closed(schema: Any) -> Any:
    """Reject unknown fields in a schema and its parts, as the API server's strict field validation does."""
    if isinstance(schema, list):
        return [_closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
        closed.setdefault("additionalProperties", False)
    return closed
