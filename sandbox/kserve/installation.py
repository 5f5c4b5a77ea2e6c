"""What KServe's release installs, from the module that its controller is built from."""

import json
import tempfile
import zlib
from pathlib import Path
from typing import Any

import yaml

from sandbox import programs
from sandbox.gobuild import Report

Manifest = dict[str, Any]

NAMESPACE = "kserve"
FOLDERS = ("config/crd/full", "config/crd/full/clusterstoragecontainer", "config/configmap", "config/webhook")
WEBHOOKS = ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration")
KINDS = ("CustomResourceDefinition", "ConfigMap", *WEBHOOKS)
SETTINGS: dict[str, Manifest] = {
    "deploy": {"defaultDeploymentMode": "Standard"},
    "ingress": {"disableIngressCreation": True, "disableIstioVirtualHost": True},
}
"""What differs from the configuration that KServe ships: neither Knative nor a gateway of Istio's is needed."""


def released(manager: Path, report: Report) -> list[Manifest]:
    """Read what the release installs, as JSON beside the controller's program: that takes a tenth of the time of YAML.

    Raises BuildError.
    """
    copy = manager.with_name(f"installation-{zlib.crc32(repr((FOLDERS, KINDS)).encode()):08x}.json")
    if not copy.exists():
        module = programs.module_folder(programs.kserve_of(manager))
        report("copying KServe's CRDs, configuration and webhooks from its module")
        files = [file for folder in FOLDERS for file in sorted((module / folder).glob("*.yaml"))]
        documents = [document for file in files for document in yaml.load_all(file.read_bytes(), yaml.CSafeLoader)]
        with tempfile.NamedTemporaryFile("w", dir=copy.parent, delete=False) as part:
            json.dump([document for document in documents if document and document["kind"] in KINDS], part)
        Path(part.name).replace(copy)
    found: list[Manifest] = json.loads(copy.read_text())
    return found


def manifests(release: list[Manifest], webhooks: str | Manifest, authority: str) -> list[Manifest]:
    """Return the objects of an installation: namespace, kinds, configuration and webhooks.

    `webhooks` is the address of the controller's webhook server, where it runs on this machine, or a reference to its Service.
    `authority` is the base64 PEM of who signed the server's certificate.
    """
    made = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}]
    for item in release:
        if item["kind"] == "ConfigMap":
            item["metadata"]["namespace"] = NAMESPACE
            for key, changes in SETTINGS.items():
                item["data"][key] = json.dumps(json.loads(item["data"][key]) | changes)
        for webhook in item.get("webhooks", ()) if item["kind"] in WEBHOOKS else ():
            path = webhook["clientConfig"]["service"]["path"]
            where = {"url": webhooks + path} if isinstance(webhooks, str) else {"service": {**webhooks, "path": path}}
            webhook["clientConfig"] = {**where, "caBundle": authority}
        item["metadata"].pop("creationTimestamp", None)
        item.pop("status", None)  # an empty one, which would replace the API server's
        made.append(item)
    return made


def link_certificate(certificate: Path, temporary: Path) -> None:
    """Give the webhook server a certificate (`.crt` and `.key`) where it looks for one in its folder of temporary files."""
    folder = temporary / "k8s-webhook-server" / "serving-certs"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for ending in (".crt", ".key"):
        link = folder / f"tls{ending}"
        link.unlink(missing_ok=True)
        link.symlink_to(certificate.with_suffix(ending))
