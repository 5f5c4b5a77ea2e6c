"""The operator's rights with KServe as backend, as the chart grants them; `deploy/operator/rbac.yaml` has those for Seldon."""

from typing import Any

import yaml

from sandbox.places import ROOT

Manifest = dict[str, Any]

BACKENDS = ROOT / "deploy" / "charts" / "wine-operator" / "files" / "backends.yaml"
SOURCES = {"mlflow-server-seldon-init-container-s3-credentials": "mlpipeline-minio-artifact"}


def with_kserve(manifest: Manifest) -> Manifest:
    """Return a manifest of the operator's rights; its rules for Seldon become those for KServe."""
    if manifest["kind"] not in ("ClusterRole", "Role"):
        return manifest
    backends = yaml.safe_load(BACKENDS.read_text())
    seldon, kserve = backends["seldon"], backends["kserve"]
    names = SOURCES | {seldon["copy"]: kserve["copy"]}
    rules: list[Manifest] = []
    for rule in manifest["rules"]:
        if rule == seldon["rules"][0]:
            rules += kserve["rules"]
        elif rule not in seldon["rules"]:
            renamed = [names.get(name, name) for name in rule.get("resourceNames", [])]
            rules.append(rule | ({"resourceNames": renamed} if renamed else {}))
    return manifest | {"rules": rules}
