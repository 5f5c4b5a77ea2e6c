"""Dry-run writes to an API server with a token, hundreds per second: they return the error and change nothing."""

import json
import ssl
from base64 import b64decode
from typing import Any

import urllib3

from sandbox.kubeconfigs import Access

Object = dict[str, Any]
PLURALS = {
    "Secret": "secrets",
    "PodDefault": "poddefaults",
    "SeldonDeployment": "seldondeployments",
    "InferenceService": "inferenceservices",
    "ServingRuntime": "servingruntimes",
    "WinePipeline": "winepipelines",
}
APPLY, JSON = "application/apply-patch+yaml", "application/json"
MERGE, JSON_PATCH = "application/merge-patch+json", "application/json-patch+json"
REPLACED: Object = {"labels": {}, "annotations": {}, "ownerReferences": [], "finalizers": []}


class Writes:
    """An API server and a token. Safe to use from several threads."""

    def __init__(self, access: Access, token: str) -> None:
        authority = b64decode(access.cluster["certificate-authority-data"]).decode()
        self._server = access.server
        self._headers = {"Authorization": f"Bearer {token}"}
        self._pool = urllib3.PoolManager(maxsize=16, block=True, ssl_context=ssl.create_default_context(cadata=authority))

    def create(self, manifest: Object) -> str:
        """Create an object; return the API server's error message, or an empty string."""
        return self._send("POST", _path(manifest), JSON, manifest)

    def apply(self, manifest: Object, manager: str = "wine-operator") -> str:
        """Apply an object server-side; return the API server's error message, or an empty string."""
        path = f"{_path(manifest)}/{manifest['metadata']['name']}"
        return self._send("PATCH", f"{path}?force=true&fieldManager={manager}", APPLY, manifest)

    def merge(self, manifest: Object, patch: Object) -> str:
        """Merge a patch into an object; return the API server's error message, or an empty string."""
        return self._send("PATCH", f"{_path(manifest)}/{manifest['metadata']['name']}", MERGE, patch)

    def replace(self, manifest: Object) -> str:
        """Replace an object with its labels, annotations, owners and finalizers; return as create does."""
        parts = {f"/{name}": manifest[name] for name in manifest.keys() - {"apiVersion", "kind", "metadata"}}
        parts |= {f"/metadata/{name}": manifest["metadata"].get(name, empty) for name, empty in REPLACED.items()}
        patch = [{"op": "add", "path": path, "value": value} for path, value in parts.items()]
        return self._send("PATCH", f"{_path(manifest)}/{manifest['metadata']['name']}", JSON_PATCH, patch)

    def delete(self, manifest: Object) -> str:
        """Delete an object; return the API server's error message, or an empty string."""
        return self._send("DELETE", f"{_path(manifest)}/{manifest['metadata']['name']}", JSON, {})

    def _send(self, method: str, path: str, content: str, body: object) -> str:
        url = f"{self._server}{path}{'&' if '?' in path else '?'}dryRun=All&fieldValidation=Strict"
        headers = {**self._headers, "Content-Type": content}
        answer = self._pool.request(method, url, body=json.dumps(body), headers=headers, retries=3)
        if answer.status < 300:
            return ""
        return str(answer.json()["message"])


def _path(manifest: Object) -> str:
    version, namespace = manifest["apiVersion"], manifest["metadata"]["namespace"]
    root = "apis" if "/" in version else "api"
    return f"/{root}/{version}/namespaces/{namespace}/{PLURALS[manifest['kind']]}"
