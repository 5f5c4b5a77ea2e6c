"""The operator's rights for some of the serving backends, as the chart grants them."""

from collections.abc import Collection
from typing import Any

import yaml

from sandbox.places import ROOT

Manifest = dict[str, Any]

ALL = ROOT / "deploy" / "operator" / "rbac.yaml"
BACKENDS = ROOT / "deploy" / "charts" / "wine-operator" / "files" / "backends.yaml"
SOURCES = {"seldon": "mlflow-server-seldon-init-container-s3-credentials", "kserve": "mlpipeline-minio-artifact"}
PLATFORM = "Role"  # the kind of the role in the platform's namespace, on the sources of copies


def manifests(backends: Collection[str]) -> list[Manifest]:
    """Return the manifests of the operator's rights, without those of every backend that is not among `backends`."""
    return [_limited(manifest, backends) for manifest in yaml.safe_load_all(ALL.read_text())]


def _limited(manifest: Manifest, backends: Collection[str]) -> Manifest:
    if "rules" not in manifest:
        return manifest
    known = yaml.safe_load(BACKENDS.read_text())
    needed = [rule for name in backends for rule in known[name]["rules"]]
    others = [name for name in known if name not in backends]
    needless = [rule for name in others for rule in known[name]["rules"] if rule not in needed]
    left_out = {known[name]["copy"] for name in others} | (
        {SOURCES[name] for name in others} if manifest["kind"] == PLATFORM else set()
    )
    rules = [_without(rule, left_out) for rule in manifest["rules"] if rule not in needless]
    return manifest | {"rules": [rule for rule in rules if rule.get("resourceNames") != []]}


def _without(rule: Manifest, names: Collection[str]) -> Manifest:
    if "resourceNames" not in rule:
        return rule
    return rule | {"resourceNames": [name for name in rule["resourceNames"] if name not in names]}
