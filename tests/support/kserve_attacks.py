"""Changes of what the operator applies for KServe that the guard rejects: each gives an attacker with its token more."""

import copy
from typing import Any

Object = dict[str, Any]
Path = tuple[str | int, ...]
MODEL = ("spec", "predictor", "model")

SERVICE: list[tuple[Path, object]] = [
    (("metadata", "annotations", "serving.kserve.io/storageSecretName"), "another"),
    (("metadata", "annotations", "serving.kserve.io/deploymentMode"), "ModelMesh"),
    (("metadata", "annotations", "sidecar.istio.io/inject"), "false"),
    (("metadata", "labels", "winepipelines.io/pipeline"), "another"),
    (("metadata", "labels", "networking.kserve.io/visibility"), "exposed"),
    (("metadata", "ownerReferences", 0, "kind"), "Secret"),
    (("metadata", "finalizers"), ["mine"]),
    (("spec", "transformer"), {"containers": [{"name": "kserve-container", "image": "evil:1"}]}),
    (("spec", "predictor", "serviceAccountName"), "default-editor"),
    (("spec", "predictor", "containers"), [{"name": "sidecar", "image": "evil:1"}]),
    (("spec", "predictor", "volumes"), [{"name": "keys", "secret": {"secretName": "keys"}}]),
    (("spec", "predictor", "automountServiceAccountToken"), True),
    (("spec", "predictor", "securityContext"), {"runAsUser": 0}),
    (("spec", "predictor", "minReplicas"), 1000),
    (("spec", "predictor", "hostNetwork"), True),
    ((*MODEL, "image"), "evil:1"),
    ((*MODEL, "image"), "registry/server-of-others:1"),
    ((*MODEL, "storageUri"), "s3://mlflow/1/../2/"),
    ((*MODEL, "storageUri"), "pvc://keys/model/"),
    ((*MODEL, "runtime"), "another"),
    ((*MODEL, "command"), ["sh"]),
    ((*MODEL, "env"), [{"name": "LD_PRELOAD", "value": "/mnt/models/evil.so"}]),
    ((*MODEL, "env", 0), {"name": "MODEL_DIGEST", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "x"}}}),
    ((*MODEL, "envFrom"), [{"secretRef": {"name": "keys"}}]),
    ((*MODEL, "volumeMounts"), [{"name": "keys", "mountPath": "/keys"}]),
    ((*MODEL, "securityContext", "privileged"), True),
    ((*MODEL, "lifecycle", "preStop", "exec", "command"), ["sh", "-c", "true"]),
    ((*MODEL, "livenessProbe", "httpGet", "host"), "elsewhere"),
    ((*MODEL, "livenessProbe"), {"exec": {"command": ["sh"]}}),
    ((*MODEL, "ports", 0, "hostPort"), 80),
]
RUNTIME: list[tuple[Path, object]] = [
    (("metadata", "name"), "another"),
    (("spec", "containers", 0, "image"), "evil:1"),
    (("spec", "containers", 0, "command"), ["sh"]),
    (("spec", "volumes"), [{"name": "keys", "secret": {"secretName": "keys"}}]),
    (("spec", "supportedModelFormats", 0, "autoSelect"), True),
    (("spec", "annotations"), {"a": "b"}),
]
SECRET: list[tuple[Path, object]] = [
    (("data", "LD_PRELOAD"), "eA=="),
    (("metadata", "annotations", "serving.kserve.io/s3-cabundle"), "x"),
    (("metadata", "annotations", "serving.kserve.io/s3-endpoint"), "http://elsewhere/"),
    (("type",), "example.org/other"),
]


def with_value(manifest: Object, path: Path, value: object) -> Object:
    """Return a copy of a manifest with another value at a path."""
    changed = copy.deepcopy(manifest)
    target: Any = changed
    for name in path[:-1]:
        target = target[name]
    target[path[-1]] = value
    return changed
