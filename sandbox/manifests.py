"""What the platform finds in the cluster: kinds, namespaces, Secrets, the operator's rights. Called by `platform`."""

import json
import subprocess
from collections.abc import Iterable
from typing import Any

from sandbox.certificates import write_kubeconfig, write_secret
from sandbox.components import base_environment
from sandbox.errors import KubectlError
from sandbox.places import ROOT
from sandbox.plan import MLFLOW_SECRET, PLATFORM_NAMESPACE, USER_NAMESPACE, Plan

SOURCE_SECRET = "mlflow-server-seldon-init-container-s3-credentials"
ARTIFACT_SECRET = "mlpipeline-minio-artifact"
SERVICE_ACCOUNT = "wine-operator"
PIPELINES_AUDIENCE = "pipelines.kubeflow.org"
TOKEN_LIFE = "720h"  # a sandbox may stay up for weeks

Manifest = dict[str, Any]


def kubectl(plan: Plan, *arguments: str, stdin: str | None = None, as_operator: bool = False) -> str:
    """Run kubectl as the administrator, or with the operator's token; return what it printed.

    Raises KubectlError.
    """
    config = plan.operator_kubeconfig if as_operator else plan.kubeconfig
    done = subprocess.run(
        [str(plan.programs["kubectl"]), "--cache-dir", str(plan.folder / "kubectl"), *arguments],
        env={**base_environment(), "KUBECONFIG": str(config)},
        input=stdin if stdin is not None else "",
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise KubectlError(done.stderr.strip())
    return done.stdout


def apply_platform(plan: Plan) -> None:
    """Apply everything that is there from the start, and wait until the API server serves the new kinds."""
    files = [ROOT / "sandbox" / "manifests", ROOT / "crds", ROOT / "deploy" / "operator" / "rbac.yaml"]
    names = [argument for file in files for argument in ("-f", str(file))]
    secrets = _as_list([source_secret(plan), artifact_secret(plan, USER_NAMESPACE), *mlflow_secret(plan)])
    _apply(plan, *names, "-f", "-", stdin=secrets)
    kubectl(plan, "wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")


def add_namespaces(plan: Plan, names: Iterable[str]) -> None:
    """Make users' namespaces as Kubeflow's profiles do: the label, and the object store's credentials."""
    objects = [part for name in names for part in (namespace(name), artifact_secret(plan, name))]
    _apply(plan, "-f", "-", stdin=_as_list(objects))


def write_operator_tokens(plan: Plan) -> None:
    """Get tokens of the operator's service account: one in its kubeconfig, one for Kubeflow Pipelines if that asks for it."""

    def token(*arguments: str) -> str:
        fixed = ("create", "token", SERVICE_ACCOUNT, "--namespace", PLATFORM_NAMESPACE, "--duration", TOKEN_LIFE)
        return kubectl(plan, *fixed, *arguments).strip()

    write_kubeconfig(plan.operator_kubeconfig, plan.certificates, plan.url("apiserver", "https"), token=token())
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
        "ENDPOINT": plan.url("minio"),
    }
    return _secret(SOURCE_SECRET, PLATFORM_NAMESPACE, {f"RCLONE_CONFIG_S3_{key}": value for key, value in values.items()})


def mlflow_secret(plan: Plan) -> list[Manifest]:
    """The platform's Secret with credentials for MLflow, where that asks for some."""
    info = plan.info()
    values = {"MLFLOW_TRACKING_USERNAME": info.mlflow_user, "MLFLOW_TRACKING_PASSWORD": info.mlflow_password}
    return [_secret(MLFLOW_SECRET, PLATFORM_NAMESPACE, values)] if info.mlflow_user else []


def artifact_secret(plan: Plan, where: str) -> Manifest:
    """The Secret of a user's namespace that pipeline steps reach the object store with."""
    return _secret(ARTIFACT_SECRET, where, {"accesskey": plan.access_key, "secretkey": plan.secret_key})


def _secret(name: str, where: str, values: dict[str, str]) -> Manifest:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": where}, "stringData": values}


def _as_list(objects: list[Manifest]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})


def _apply(plan: Plan, *arguments: str, stdin: str) -> None:
    kubectl(
        plan,
        "apply",
        "--server-side",
        "--force-conflicts",
        "--field-manager=sandbox",
        "--request-timeout=30s",
        *arguments,
        stdin=stdin,
    )
