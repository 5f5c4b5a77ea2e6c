"""The operator's rights with KServe as backend, as the chart grants them; `deploy/operator/rbac.yaml` has those for Seldon."""

from typing import Any

import yaml

from sandbox.places import ROOT

Manifest = dict[str, Any]

BACKENDS = ROOT / "deploy" / "charts" / "wine-operator" / "files" / "backends.yaml"
SOURCES = {"mlflow-server-seldon-init-container-s3-credentials": "mlpipeline-minio-artifact"}


def with_kserve(manifest: Manifest, *, seldon: bool) -> Manifest:
    """Return a manifest of the operator's rights with those for KServe: beside those for Seldon, or else in their place."""
    if manifest["kind"] not in ("ClusterRole", "Role"):
        return manifest
    backends = yaml.safe_load(BACKENDS.read_text())
    replaced, kserve = backends["seldon"], backends["kserve"]
    names = SOURCES | {replaced["copy"]: kserve["copy"]}
    rules: list[Manifest] = []
    for rule in manifest["rules"]:
        if seldon or rule not in replaced["rules"]:
            kept = rule.get("resourceNames", []) if seldon else []
            renamed = dict.fromkeys([*kept, *(names.get(name, name) for name in rule.get("resourceNames", []))])
            rules.append(rule | ({"resourceNames": [*renamed]} if renamed else {}))
        if rule == replaced["rules"][0]:
            rules += kserve["rules"]
    return manifest | {"rules": rules}
