"""KServe in a cluster with kubelets, for tests: prints what `kubectl apply --server-side -f -` installs.

Apply it twice: the last object is of a kind that the first time creates.

    python -m sandbox.kserve.cluster --image IMAGE

`dev/images kserve` builds the image, which has the controller and the storage initializer. CRDs, configuration, webhooks and the
controller's rights are those of the release. All pods meet the restricted Pod Security Standard.
"""

import argparse
import base64
import json
import sys
from typing import Any

import yaml

from sandbox import certificates, programs
from sandbox.gobuild import Report
from sandbox.kserve.installation import NAMESPACE, manifests, released

Manifest = dict[str, Any]

NAME, SERVICE, CERTIFICATE = "kserve-controller-manager", "kserve-webhook-server-service", "kserve-webhook-server-cert"
RIGHTS = ("config/rbac/role.yaml", "config/rbac/leader_election_role.yaml")
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}
METADATA: Manifest = {"name": NAME, "namespace": NAMESPACE, "labels": {"control-plane": NAME}}
RBAC = "rbac.authorization.k8s.io"


def installation(image: str, report: Report) -> list[Manifest]:
    """Return all objects of an installation, in the order in which they are applied.

    Raises BuildError.
    """
    authority, certificate, key = certificates.for_service(f"{SERVICE}.{NAMESPACE}.svc")
    release = released(programs.built(programs.kserve_controller().name, report), report)
    made = manifests(release, {"namespace": NAMESPACE, "name": SERVICE}, base64.b64encode(authority).decode())
    made[0]["metadata"]["labels"] = {"pod-security.kubernetes.io/enforce": "restricted", "control-plane": NAME}
    pair = {"tls.crt": certificate.decode(), "tls.key": key.decode()}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": _metadata(CERTIFICATE), "stringData": pair}
    return [*made, secret, *_rights(), _service(), controller(image), storage_container(image)]


def storage_container(image: str) -> Manifest:
    """Return the storage initializer's container for s3://. Without one, KServe's has no security context at all."""
    container = {
        "name": "storage-initializer",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}},
        "securityContext": {**RESTRICTED, "readOnlyRootFilesystem": False},
    }
    spec = {"container": container, "supportedUriFormats": [{"prefix": "s3://"}], "workloadType": "initContainer"}
    return {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "ClusterStorageContainer",
        "metadata": {"name": "default"},
        "spec": spec,
    }


def _metadata(name: str) -> Manifest:
    return {"name": name, "namespace": NAMESPACE}


def _rights() -> list[Manifest]:
    """Return the controller's account, and the roles of the release bound to it."""
    module = programs.module_folder(programs.kserve_controller())
    found: list[Manifest] = [{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": METADATA}]
    subjects = [{"kind": "ServiceAccount", **_metadata(NAME)}]
    for file in RIGHTS:
        for role in filter(None, yaml.safe_load_all((module / file).read_text())):
            name, kind = role["metadata"]["name"], role["kind"]
            metadata = {"name": name} if kind == "ClusterRole" else _metadata(name)
            reference = {"apiGroup": RBAC, "kind": kind, "name": name}
            binding = {"apiVersion": f"{RBAC}/v1", "kind": f"{kind}Binding", "metadata": metadata}
            found += [role | {"metadata": metadata}, binding | {"roleRef": reference, "subjects": subjects}]
    return found


def _service() -> Manifest:
    spec = {"selector": METADATA["labels"], "ports": [{"port": 443, "targetPort": "webhooks"}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": _metadata(SERVICE), "spec": spec}


def controller(image: str) -> Manifest:
    """Return the controller's Deployment."""
    container = {
        "name": "manager",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["/manager"],
        "args": ["--metrics-addr=0", "--health-probe-addr=:8081"],
        "env": [{"name": "POD_NAMESPACE", "value": NAMESPACE}],
        "ports": [{"name": "webhooks", "containerPort": 9443}],
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": 8081}, "periodSeconds": 1, "failureThreshold": 10},
        "resources": {"requests": {"cpu": "20m", "memory": "96Mi"}, "limits": {"memory": "512Mi"}},
        "securityContext": {**RESTRICTED, "readOnlyRootFilesystem": True},
        "volumeMounts": [
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - in a pod
            {"name": "certificate", "mountPath": "/tmp/k8s-webhook-server/serving-certs", "readOnly": True},  # noqa: S108
        ],
    }
    pod = {
        "serviceAccountName": NAME,
        "enableServiceLinks": False,
        "containers": [container],
        "volumes": [{"name": "tmp", "emptyDir": {}}, {"name": "certificate", "secret": {"secretName": CERTIFICATE}}],
        "securityContext": {"fsGroup": 65532},
    }
    labels = METADATA["labels"]
    template = {"metadata": {"labels": labels}, "spec": pod}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": METADATA,
        "spec": {"replicas": 1, "strategy": {"type": "Recreate"}, "selector": {"matchLabels": labels}, "template": template},
    }


def main() -> None:
    """Print the objects as one list."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.kserve.cluster", description="KServe's objects for a cluster")
    parser.add_argument("--image", required=True, help="image with the controller and the storage initializer")
    items = installation(parser.parse_args().image, lambda line: sys.stderr.write(f"{line}\n"))
    json.dump({"apiVersion": "v1", "kind": "List", "items": items}, sys.stdout)


if __name__ == "__main__":
    main()
