"""The doctor on a real platform: all is well, then one thing at a time is not."""

import base64
import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import yaml
from minio import Minio
from support.cluster import Body
from support.doctor import Diagnosis, Patient
from support.proxy import Proxy
from support.survey import OPERATOR
from support.webhooks import webhook_down

from sandbox.manifests import ARTIFACT_SECRET, SOURCE_SECRET
from winepipelines.resource.naming import SELDON_SECRET

ROOT = Path(__file__).parents[2]
NO_DEPLOYMENT = "seldon controller runs"  # in a sandbox it is a process
Break = Callable[["Patient"], AbstractContextManager[None]]


@pytest.fixture(scope="module")
def profile(patient: Patient) -> str:
    """A user's namespace with all that Kubeflow's profile controller makes."""
    name = patient.cluster.namespace("profile")
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default-editor", "namespace": name}}
    patient.cluster.apply(account)
    return name


def until(patient: Patient, failed: set[str], *arguments: str, **how: Any) -> Diagnosis:
    """Ask again until exactly these checks fail: rights take a moment to be forgotten."""
    for _ in range(5):
        diagnosis = patient.doctor.diagnose(*arguments, **how)
        if diagnosis.of("failed") == failed:
            return diagnosis
    assert diagnosis.of("failed") == failed, diagnosis.findings
    return diagnosis


# -- all is well --


def test_as_the_operator_all_is_well(patient: Patient) -> None:
    diagnosis = patient.doctor.diagnose()
    assert diagnosis.of("failed") == set()
    assert diagnosis.of("warning") == set()
    assert diagnosis.of("skipped") == {"poddefaults act on pods", NO_DEPLOYMENT}
    assert diagnosis.status == 0
    assert f"as {OPERATOR}" in diagnosis.findings["kubernetes answers"]["says"]
    assert diagnosis.findings["kubeflow answers"]["says"] == "Kubeflow Pipelines 2.17.0, multi-user mode"
    assert diagnosis.findings["kubeflow token is usable"]["says"] == f"{OPERATOR}, for pipelines.kubeflow.org"


def test_as_an_administrator_more_can_be_seen(patient: Patient, profile: str, tmp_path: Path) -> None:
    resource = patient.cluster.resource(profile)
    path = tmp_path / "wine.yaml"
    path.write_text(yaml.safe_dump(resource))
    diagnosis = patient.doctor.diagnose("-f", str(path), administrator=True)
    assert diagnosis.of("failed") == set()
    assert diagnosis.of("skipped") == {NO_DEPLOYMENT}
    assert diagnosis.of("warning") == {"poddefaults act on pods"}, "there is no webhook in a sandbox"
    assert diagnosis.status == 0
    assert diagnosis.findings["right: pods"]["says"] == f"{OPERATOR} may list", "the operator's rights, not the administrator's"
    assert diagnosis.findings["service account is there"]["says"] == "default-editor"


def test_the_webhook_is_found_by_what_it_calls(patient: Patient) -> None:
    webhook = {
        "name": "poddefaults.example.org",
        "clientConfig": {"service": {"name": "admission-webhook", "namespace": "kubeflow", "path": "/apply-poddefault"}},
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}],
        "namespaceSelector": {"matchLabels": {"example.org/nowhere": "true"}},
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
    }
    kind = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration"}
    patient.cluster.apply({**kind, "metadata": {"name": "admission-webhook"}, "webhooks": [webhook]})
    try:
        finding = patient.doctor.diagnose(administrator=True).findings["poddefaults act on pods"]
    finally:
        patient.sandbox.kubectl("delete", "mutatingwebhookconfiguration", "admission-webhook")
    assert finding["result"] == "ok"
    assert finding["says"] == "admission-webhook calls admission-webhook.kubeflow"


def test_in_a_namespace_the_operator_says_what_it_may_not_see(patient: Patient, profile: str) -> None:
    diagnosis = patient.doctor.diagnose("-n", profile)
    assert diagnosis.of("failed") == set()
    assert diagnosis.of("skipped") == {
        "poddefaults act on pods",
        "namespace is a profile",
        "service account is there",
        NO_DEPLOYMENT,
    }
    assert diagnosis.findings["namespace is a profile"]["mend"] == f"kubectl get namespace {profile} --show-labels"


def test_the_command_prints_a_table(patient: Patient) -> None:
    status, text = patient.doctor.run()
    assert status == 0
    assert text.splitlines()[0].split() == ["CHECK", "RESULT", "WHAT", "IS", "SO"]
    assert text.splitlines()[-1].endswith("ok, 2 skipped")


def test_no_credential_is_printed(patient: Patient, profile: str) -> None:
    info = patient.cluster.info
    token = (info.folder / "kfp.token").read_text().strip()
    for arguments in (("-n", profile), ("-n", profile, "-o", "json")):
        _, text = patient.doctor.run(*arguments)
        for secret in (info.s3_secret_key, info.s3_access_key, token, token.split(".")[2]):
            assert secret not in text


# -- one thing at a time --


def without_key(key: str) -> Callable[[Body], None]:
    return lambda secret: secret["data"].__delitem__(key)


def with_value(key: str, value: str) -> Callable[[Body], None]:
    return lambda secret: secret["data"].__setitem__(key, base64.b64encode(value.encode()).decode())


def without_rule(resource: str, verb: str = "") -> Callable[[Body], None]:
    """Take a rule from a role, or one verb of it."""

    def change(role: Body) -> None:
        for rule in list(role["rules"]):
            if resource in rule["resources"]:
                role["rules"].remove(rule)
                if verb:
                    role["rules"].append({**rule, "verbs": [each for each in rule["verbs"] if each != verb]})

    return change


def without_field(crd: Body) -> None:
    del crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["historyLimit"]


SOURCE_RIGHT = f"right: secrets {SOURCE_SECRET} in kubeflow"
BREAKS: dict[str, tuple[Break, set[str], str]] = {
    "kubeflow stopped": (lambda p: p.stopped("kubeflow"), {"kubeflow answers"}, "kubectl -n kubeflow get endpoints,pods"),
    "mlflow stopped": (lambda p: p.stopped("mlflow"), {"mlflow answers"}, "kubectl -n kubeflow get endpoints,pods"),
    "store stopped": (lambda p: p.stopped("minio"), {"seldon can read artifacts"}, "RCLONE_CONFIG_S3_ENDPOINT"),
    "source secret deleted": (
        lambda p: p.absent("secret", SOURCE_SECRET),
        {"source secret is complete"},
        f"kubectl -n kubeflow create secret generic {SOURCE_SECRET}",
    ),
    "source secret without an endpoint": (
        lambda p: p.changed("secret", SOURCE_SECRET, without_key("RCLONE_CONFIG_S3_ENDPOINT")),
        {"source secret is complete"},
        '"RCLONE_CONFIG_S3_ENDPOINT"',
    ),
    "source secret with unknown keys": (
        lambda p: p.changed("secret", SOURCE_SECRET, with_value("RCLONE_CONFIG_S3_ACCESS_KEY_ID", "nobody")),
        {"seldon can read artifacts"},
        "that may list and read bucket mlflow",
    ),
    "source secret with a wrong password": (
        lambda p: p.changed("secret", SOURCE_SECRET, with_value("RCLONE_CONFIG_S3_SECRET_ACCESS_KEY", "wrong-password")),
        {"seldon can read artifacts"},
        "that may list and read bucket mlflow",
    ),
    "artifacts on the server's disk": (
        lambda p: p.artifacts_at("/mlflow/0"),
        {"artifacts are in the store"},
        "--default-artifact-root s3://",
    ),
    "artifacts behind the server": (
        lambda p: p.artifacts_at("mlflow-artifacts:/0"),
        {"artifacts are in the store"},
        "WINE_ARTIFACTS_DESTINATION=s3://",
    ),
    "no bucket": (lambda p: p.artifacts_at("s3://none/0"), {"seldon can read artifacts"}, "mc mb <alias>/none"),
    "CRD of an earlier release": (
        lambda p: p.changed("crd", "winepipelines.winepipelines.io", without_field),
        {"winepipeline schema is current"},
        "kubectl apply --server-side -f crds/",
    ),
    "no right to list pods": (
        lambda p: p.changed("clusterrole", "wine-operator", without_rule("pods")),
        {"right: pods"},
        '{apiGroups: [""], resources: [pods], verbs: [list]}',
    ),
    "no right to delete deployments": (
        lambda p: p.changed("clusterrole", "wine-operator", without_rule("seldondeployments", "delete")),
        {"right: seldondeployments.machinelearning.seldon.io"},
        "resources: [seldondeployments], verbs: [delete]}",
    ),
    "no right to terminate runs": (
        lambda p: p.changed("clusterrole", "wine-operator", without_rule("runs", "terminate")),
        {"right: runs.pipelines.kubeflow.org"},
        "resources: [runs], verbs: [terminate]}",
    ),
    "no right to list experiments": (
        lambda p: p.changed("clusterrole", "wine-operator", without_rule("experiments", "list")),
        {"right: experiments.pipelines.kubeflow.org", "kubeflow lets the operator in"},
        "resources: [experiments], verbs: [list]}",
    ),
    "no right to the source secret": (
        lambda p: p.absent("rolebinding", "wine-operator"),
        {SOURCE_RIGHT},
        f"resourceNames: [{SOURCE_SECRET}], verbs: [get, list, watch]}}",
    ),
}


@pytest.mark.parametrize("name", BREAKS)
def test_one_thing_is_wrong(patient: Patient, name: str) -> None:
    breaks, failed, mend = BREAKS[name]
    with breaks(patient):
        diagnosis = until(patient, failed)
    assert diagnosis.status == 1
    assert diagnosis.of("warning") == set()
    assert any(mend in diagnosis.findings[check]["mend"] for check in failed), diagnosis.findings
    for check in diagnosis.of("skipped"):
        finding = diagnosis.findings[check]
        assert finding["says"].startswith("stands on: ") or finding["mend"]


def test_afterwards_all_is_well_again(patient: Patient) -> None:
    assert until(patient, set()).status == 0


def test_a_missing_right_of_the_operator_is_seen_by_an_administrator(patient: Patient) -> None:
    with patient.changed("clusterrole", "wine-operator", without_rule("pods")):
        diagnosis = until(patient, {"right: pods"}, administrator=True)
    assert diagnosis.findings["right: pods"]["says"] == f"{OPERATOR} may not list"


def test_two_spellings_of_one_store_are_no_warning(patient: Patient) -> None:
    spelled = patient.cluster.info.s3_endpoint.replace("127.0.0.1", "localhost")
    finding = patient.doctor.diagnose(changes={"WINE_S3_ENDPOINT_URL": spelled}).findings["seldon can read artifacts"]
    assert finding["result"] == "ok", finding


def test_one_store_behind_two_addresses_is_known_by_what_is_in_it(patient: Patient) -> None:
    info = patient.cluster.info
    store = Minio(info.s3_endpoint.removeprefix("http://"), info.s3_access_key, info.s3_secret_key, secure=False)
    store.put_object("mlflow", "a-file-of-the-doctors-test", BytesIO(b"x"), 1)
    with Proxy(info.s3_endpoint, keep_host=True) as proxy:
        finding = patient.doctor.diagnose(changes={"WINE_S3_ENDPOINT_URL": proxy.url}).findings["seldon can read artifacts"]
    assert finding["result"] == "ok", finding
    assert "cannot be told" not in finding["says"]


def test_a_token_of_another_audience(patient: Patient, tmp_path: Path) -> None:
    fixed = ("-n", "kubeflow", "create", "token", "wine-operator", "--audience")
    path = tmp_path / "token"
    path.write_text(patient.sandbox.kubectl(*fixed, "https://kubernetes.default.svc"))
    diagnosis = patient.doctor.diagnose(changes={"WINE_KFP_TOKEN_FILE": str(path)})
    assert diagnosis.of("failed") == {"kubeflow token is usable"}


def test_no_token_and_a_strangers_token_are_told_apart(patient: Patient, tmp_path: Path) -> None:
    unknown = patient.doctor.diagnose(changes={"WINE_KFP_TOKEN_FILE": ""}).findings["kubeflow lets the operator in"]
    assert unknown["reason"] == "KubeflowUnauthenticated"
    stranger = patient.sandbox.kubectl("-n", "admin", "create", "token", "default", "--audience", "pipelines.kubeflow.org")
    (tmp_path / "token").write_text(stranger)
    forbidden = patient.doctor.diagnose(changes={"WINE_KFP_TOKEN_FILE": str(tmp_path / "token")}).findings[
        "kubeflow lets the operator in"
    ]
    assert forbidden["reason"] == "KubeflowForbidden"


def test_mlflow_refuses_the_name_that_it_is_asked_under(patient: Patient) -> None:
    url = patient.cluster.info.mlflow_url.replace("127.0.0.1", "0.0.0.0")
    diagnosis = patient.doctor.diagnose(changes={"WINE_MLFLOW_URL": url})
    assert diagnosis.of("failed") == {"mlflow lets the operator in"}
    finding = diagnosis.findings["mlflow lets the operator in"]
    assert f"MLFLOW_SERVER_ALLOWED_HOSTS={url.removeprefix('http://')}" in finding["mend"]


def test_another_server_under_mlflows_address(patient: Patient) -> None:
    diagnosis = patient.doctor.diagnose(changes={"WINE_MLFLOW_URL": patient.cluster.info.kfp_url})
    assert diagnosis.findings["mlflow lets the operator in"]["reason"] == "MlflowNotFound"


def test_a_pod_that_cannot_get_our_image(patient: Patient, profile: str) -> None:
    container = {"name": "step", "image": "winepipelines/steps:0.1.0"}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "step", "namespace": profile},
        "spec": {"containers": [container]},
    }
    waiting = {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}
    state = {**container, "imageID": "", "ready": False, "restartCount": 0, "state": {"waiting": waiting}}
    patient.cluster.apply(pod)
    patch = json.dumps({"status": {"containerStatuses": [state]}})
    patient.sandbox.kubectl("-n", profile, "patch", "pod", "step", "--subresource=status", "--type=merge", "-p", patch)
    try:
        diagnosis = patient.doctor.diagnose()
    finally:
        patient.cluster.delete("pod", profile, "step", "--force", "--grace-period=0")
    assert diagnosis.status == 0, "a namespace may have reasons of its own"
    assert diagnosis.of("warning") == {"images can be pulled"}
    assert f"step in {profile}" in diagnosis.findings["images can be pulled"]["says"]


@pytest.mark.parametrize(
    ("name", "reason", "who"),
    [
        ("v1.vseldondeployment.kb.io", "ServingPlatformUnavailable", "Seldon's controller is down or unreachable"),
        ("limits.example.org", "AdmissionUnavailable", 'the admission webhook "limits.example.org" (https://127.0.0.1:1)'),
    ],
)
def test_a_webhook_that_is_down_is_named_by_whose_it_is(patient: Patient, name: str, reason: str, who: str) -> None:
    with webhook_down(patient.cluster, name):
        diagnosis = until(patient, {"seldon webhooks answer"})
    finding = diagnosis.findings["seldon webhooks answer"]
    assert finding["reason"] == reason
    assert who in finding["says"]
    assert "kubectl" in finding["mend"]


def test_a_controller_without_a_pod_is_a_failure(patient: Patient) -> None:
    labels = {"control-plane": "seldon-controller-manager"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "manager", "image": "seldon"}]}}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "seldon-controller-manager", "namespace": "kubeflow", "labels": labels},
        "spec": {"replicas": 0, "selector": {"matchLabels": labels}, "template": template},
    }
    patient.cluster.apply(deployment)
    try:
        diagnosis = until(patient, {NO_DEPLOYMENT})
    finally:
        patient.cluster.delete("deployment", "kubeflow", "seldon-controller-manager")
    assert "--replicas=1" in diagnosis.findings[NO_DEPLOYMENT]["mend"]


# -- a user's namespace --


def test_a_namespace_without_the_label(patient: Patient, profile: str) -> None:
    label = "app.kubernetes.io/part-of"
    patient.sandbox.kubectl("label", "namespace", profile, f"{label}-")
    try:
        diagnosis = patient.doctor.diagnose("-n", profile, administrator=True)
    finally:
        patient.sandbox.kubectl("label", "namespace", profile, f"{label}=kubeflow-profile")
    assert diagnosis.of("failed") == {"namespace is a profile"}
    assert diagnosis.findings["namespace is a profile"]["mend"] == f"kubectl label namespace {profile} {label}=kubeflow-profile"


def test_a_namespace_that_is_not_there(patient: Patient) -> None:
    diagnosis = patient.doctor.diagnose("-n", "nowhere", administrator=True)
    assert diagnosis.findings["namespace is a profile"]["reason"] == "NamespaceMissing"


def test_a_namespace_with_wrong_keys(patient: Patient, profile: str) -> None:
    with patient.changed("secret", ARTIFACT_SECRET, without_key("accesskey"), profile):
        incomplete = patient.doctor.diagnose("-n", profile)
    assert incomplete.of("failed") == {"artifact secret is complete"}
    with patient.changed("secret", ARTIFACT_SECRET, with_value("secretkey", "wrong-password"), profile):
        refused = patient.doctor.diagnose("-n", profile)
    assert refused.of("failed") == {"steps can read artifacts"}


def test_a_namespace_with_others_objects(patient: Patient, profile: str) -> None:
    foreign = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": SELDON_SECRET, "namespace": profile}}
    patient.cluster.apply(foreign)
    try:
        diagnosis = patient.doctor.diagnose("-n", profile)
    finally:
        patient.cluster.delete("secret", profile, SELDON_SECRET)
    assert diagnosis.of("failed") == {"names are free"}
    assert diagnosis.findings["names are free"]["mend"] == f"kubectl -n {profile} delete secret {SELDON_SECRET}"
