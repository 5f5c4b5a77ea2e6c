"""The platform's objects in the cluster: kinds, namespaces, Secrets and the operator's RBAC."""

import base64
import json
from collections.abc import Iterable
from functools import partial
from typing import Any

import yaml

from sandbox import ownership, rights
from sandbox.certificates import write_secret
from sandbox.kserve import installation as kserve
from sandbox.kserve import knative
from sandbox.kubeconfigs import Access
from sandbox.kubectl import await_kinds, kubectl
from sandbox.ownership import LABEL
from sandbox.places import ROOT
from sandbox.plan import BOTH, BUILTIN, KSERVE, MLFLOW_SECRET, PLATFORM_NAMESPACE, SELDON, USER_NAMESPACE, Plan

SOURCE_SECRET = "mlflow-server-seldon-init-container-s3-credentials"
ARTIFACT_SECRET = "mlpipeline-minio-artifact"
SERVICE_ACCOUNT = "wine-operator"
PIPELINES_AUDIENCE = "pipelines.kubeflow.org"
TOKEN_LIFE = "720h"  # a sandbox may stay up for weeks

Manifest = dict[str, Any]


def platform(plan: Plan) -> list[Manifest]:
    """Everything that is there from the start: namespaces first, as others stand in them."""
    kinds = [file for folder in ("sandbox/manifests", "crds") for file in sorted((ROOT / folder).glob("*.yaml"))]
    read = [manifest for file in kinds for manifest in yaml.load_all(file.read_bytes(), yaml.CSafeLoader) if manifest]
    read += rights.manifests((SELDON, KSERVE) if plan.backend == BOTH else (plan.backend,))
    return [*read, source_secret(plan), artifact_secret(plan, USER_NAMESPACE), *mlflow_secret(plan), *_kserve(plan)]


def _kserve(plan: Plan) -> list[Manifest]:
    """KServe's own objects, and the platform's Secret with the keys of the object store.

    The certificate of the webhooks is that of the control plane, which names the loopback address.
    """
    if not plan.has_kserve:
        return []
    authority = base64.b64encode((plan.certificates / "ca.crt").read_bytes()).decode()
    release = kserve.released(plan.programs["kserve-manager"], lambda _: None)
    installed = kserve.manifests(release, plan.url("kserve-webhooks", "https"), authority)
    if plan.has_knative:
        installed = [*knative.manifests(knative.released(plan.programs["knative-controller"], lambda _: None)), *installed]
    return [*installed, artifact_secret(plan, PLATFORM_NAMESPACE)]


def apply_platform(plan: Plan) -> None:
    """Apply all of it, and wait until the API server serves the new kinds."""
    _apply(plan, platform(plan))
    await_kinds(partial(kubectl, plan), "crd", f"--selector={LABEL}={plan.mark}")


def add_namespaces(plan: Plan, names: Iterable[str]) -> None:
    """Make users' namespaces as Kubeflow's profiles do: the label, and the object store's credentials.

    Raises ClusterError where one is someone else's.
    """
    made = [part for name in names for part in (namespace(name), artifact_secret(plan, name))]
    if plan.cluster != BUILTIN:
        ownership.check(plan, made)
    _apply(plan, made)


def write_operator_tokens(plan: Plan) -> None:
    """Get tokens of the operator's service account: one in its kubeconfig, one for Kubeflow Pipelines if it requires one."""

    def token(*arguments: str) -> str:
        fixed = ("create", "token", SERVICE_ACCOUNT, "--namespace", PLATFORM_NAMESPACE, "--duration", TOKEN_LIFE)
        return kubectl(plan, *fixed, *arguments).strip()

    Access.read(plan.kubeconfig).with_token(token()).write(plan.operator_kubeconfig)
    if plan.authenticate:
        write_secret(plan.kfp_token, token("--audience", PIPELINES_AUDIENCE).encode())


def namespace(name: str) -> Manifest:
    """A user's namespace."""
    labels = {"app.kubernetes.io/part-of": "kubeflow-profile"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def source_secret(plan: Plan) -> Manifest:
    """The platform's Secret that Seldon's init containers copy models with."""
    values = {
        "TYPE": "s3",
        "PROVIDER": "minio",
        "ENV_AUTH": "false",
        "ACCESS_KEY_ID": plan.access_key,
        "SECRET_ACCESS_KEY": plan.secret_key,
        "ENDPOINT": plan.url("store"),
    }
    return _secret(SOURCE_SECRET, PLATFORM_NAMESPACE, {f"RCLONE_CONFIG_S3_{key}": value for key, value in values.items()})


def mlflow_secret(plan: Plan) -> list[Manifest]:
    """The platform's Secret with credentials for MLflow, if it requires any."""
    info = plan.info()
    values = {"MLFLOW_TRACKING_USERNAME": info.mlflow_user, "MLFLOW_TRACKING_PASSWORD": info.mlflow_password}
    return [_secret(MLFLOW_SECRET, PLATFORM_NAMESPACE, values)] if info.mlflow_user else []


def artifact_secret(plan: Plan, where: str) -> Manifest:
    """The Secret of a user's namespace that pipeline steps reach the object store with."""
    return _secret(ARTIFACT_SECRET, where, {"accesskey": plan.access_key, "secretkey": plan.secret_key})


def _secret(name: str, where: str, values: dict[str, str]) -> Manifest:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": where}, "stringData": values}


def _apply(plan: Plan, manifests: list[Manifest]) -> None:
    items = [ownership.marked(plan, manifest) for manifest in manifests]
    how = ("--server-side", "--force-conflicts", "--field-manager=sandbox", "--request-timeout=30s")
    kubectl(plan, "apply", *how, "--filename=-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
