"""`doctor` on a real platform: without a failure, then with one failure at a time."""

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
from support.doctor import BreakablePlatform, Diagnosis
from support.proxy import Proxy
from support.survey import OPERATOR
from support.webhooks import webhook_down

from sandbox.manifests import ARTIFACT_SECRET, SOURCE_SECRET
from winepipelines.serving.seldon.naming import COPY_SECRET

ROOT = Path(__file__).parents[2]
NO_DEPLOYMENT = "seldon controller runs"  # in a sandbox it is a process
Break = Callable[["BreakablePlatform"], AbstractContextManager[None]]


@pytest.fixture(scope="module")
def profile(breakable: BreakablePlatform) -> str:
    """Create a user's namespace with the objects that Kubeflow's profile controller creates."""
    name = breakable.cluster.namespace("profile")
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default-editor", "namespace": name}}
    breakable.cluster.apply(account)
    return name


def until(breakable: BreakablePlatform, failed: set[str], *arguments: str, **options: Any) -> Diagnosis:
    """Repeat `doctor` until exactly these checks fail: the API server caches rights for a short time."""
    for _ in range(5):
        diagnosis = breakable.doctor.diagnose(*arguments, **options)
        if diagnosis.of("failed") == failed:
            return diagnosis
    assert diagnosis.of("failed") == failed, diagnosis.findings
    return diagnosis


# -- no failure --


def test_doctor_reports_no_failure_as_the_operator(breakable: BreakablePlatform) -> None:
    diagnosis = breakable.doctor.diagnose()
    assert diagnosis.of("failed") == set()
    assert diagnosis.of("warning") == set()
    assert diagnosis.of("skipped") == {"poddefaults act on pods", NO_DEPLOYMENT}
    assert diagnosis.status == 0
    assert f"as {OPERATOR}" in diagnosis.findings["kubernetes answers"]["message"]
    assert diagnosis.findings["kubeflow answers"]["message"] == "Kubeflow Pipelines 2.17.0, multi-user mode"
    assert diagnosis.findings["kubeflow token is usable"]["message"] == f"{OPERATOR}, for pipelines.kubeflow.org"


def test_doctor_checks_more_as_an_administrator(breakable: BreakablePlatform, profile: str, tmp_path: Path) -> None:
    resource = breakable.cluster.resource(profile)
    path = tmp_path / "wine.yaml"
    path.write_text(yaml.safe_dump(resource))
    diagnosis = breakable.doctor.diagnose("-f", str(path), administrator=True)
    assert diagnosis.of("failed") == set()
    assert diagnosis.of("skipped") == {NO_DEPLOYMENT}
    assert diagnosis.of("warning") == {"poddefaults act on pods"}, "a sandbox has no webhook"
    assert diagnosis.status == 0
    assert diagnosis.findings["right: pods"]["message"] == f"{OPERATOR} may list", (
        "the operator's rights, not the administrator's"
    )
    assert diagnosis.findings["service account exists"]["message"] == "default-editor"


def test_doctor_finds_the_webhook_by_its_service(breakable: BreakablePlatform) -> None:
    webhook = {
        "name": "poddefaults.example.org",
        "clientConfig": {"service": {"name": "admission-webhook", "namespace": "kubeflow", "path": "/apply-poddefault"}},
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}],
        "namespaceSelector": {"matchLabels": {"example.org/nowhere": "true"}},
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
    }
    kind = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration"}
    breakable.cluster.apply({**kind, "metadata": {"name": "admission-webhook"}, "webhooks": [webhook]})
    try:
        finding = breakable.doctor.diagnose(administrator=True).findings["poddefaults act on pods"]
    finally:
        breakable.sandbox.kubectl("delete", "mutatingwebhookconfiguration", "admission-webhook")
    assert finding["result"] == "ok"
    assert finding["message"] == "admission-webhook calls admission-webhook.kubeflow"


def test_doctor_skips_checks_of_a_namespace_that_the_operator_has_no_right_for(
    breakable: BreakablePlatform, profile: str
) -> None:
    diagnosis = breakable.doctor.diagnose("-n", profile)
    assert diagnosis.of("failed") == set()
    assert diagnosis.of("skipped") == {
        "poddefaults act on pods",
        "namespace is a profile",
        "service account exists",
        "mesh admits the operator",
        NO_DEPLOYMENT,
    }
    assert diagnosis.findings["namespace is a profile"]["remedy"] == f"kubectl get namespace {profile} --show-labels"


def test_doctor_prints_a_table(breakable: BreakablePlatform) -> None:
    status, text = breakable.doctor.run()
    assert status == 0
    assert text.splitlines()[0].split() == ["CHECK", "RESULT", "DETAILS"]
    assert text.splitlines()[-1].endswith("ok, 2 skipped")


def test_doctor_prints_no_credential(breakable: BreakablePlatform, profile: str) -> None:
    info = breakable.cluster.info
    token = (info.folder / "kfp.token").read_text().strip()
    for arguments in (("-n", profile), ("-n", profile, "-o", "json")):
        _, text = breakable.doctor.run(*arguments)
        for secret in (info.s3_secret_key, info.s3_access_key, token, token.split(".")[2]):
            assert secret not in text


# -- one failure at a time --


def without_key(key: str) -> Callable[[Body], None]:
    return lambda secret: secret["data"].__delitem__(key)


def with_value(key: str, value: str) -> Callable[[Body], None]:
    return lambda secret: secret["data"].__setitem__(key, base64.b64encode(value.encode()).decode())


def without_rule(resource: str, verb: str = "") -> Callable[[Body], None]:
    """Remove a rule from a role, or one verb of it."""

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
    "store stopped": (lambda p: p.stopped("store"), {"seldon can read artifacts"}, "RCLONE_CONFIG_S3_ENDPOINT"),
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
        "Put valid keys into the Secret",
    ),
    "source secret with a wrong password": (
        lambda p: p.changed("secret", SOURCE_SECRET, with_value("RCLONE_CONFIG_S3_SECRET_ACCESS_KEY", "wrong-password")),
        {"seldon can read artifacts"},
        "Put valid keys into the Secret",
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
        {"right: experiments.pipelines.kubeflow.org", "kubeflow authorizes the operator"},
        "resources: [experiments], verbs: [list]}",
    ),
    "no right to the source secret": (
        lambda p: p.absent("rolebinding", "wine-operator"),
        {SOURCE_RIGHT},
        f"resourceNames: [{SOURCE_SECRET}], verbs: [get, list, watch]}}",
    ),
}


@pytest.mark.parametrize("name", BREAKS)
def test_doctor_reports_the_failure_and_its_remedy(breakable: BreakablePlatform, name: str) -> None:
    breaks, failed, remedy = BREAKS[name]
    with breaks(breakable):
        diagnosis = until(breakable, failed)
    assert diagnosis.status == 1
    assert diagnosis.of("warning") == set()
    assert any(remedy in diagnosis.findings[check]["remedy"] for check in failed), diagnosis.findings
    for check in diagnosis.of("skipped"):
        finding = diagnosis.findings[check]
        assert finding["message"].startswith("Needs: ") or finding["remedy"]


def test_doctor_reports_no_failure_after_the_repairs(breakable: BreakablePlatform) -> None:
    assert until(breakable, set()).status == 0


def test_doctor_reports_a_missing_right_of_the_operator_as_an_administrator(breakable: BreakablePlatform) -> None:
    with breakable.changed("clusterrole", "wine-operator", without_rule("pods")):
        diagnosis = until(breakable, {"right: pods"}, administrator=True)
    assert diagnosis.findings["right: pods"]["message"] == f"{OPERATOR} may not list"


def test_doctor_accepts_two_spellings_of_one_store(breakable: BreakablePlatform) -> None:
    spelling = breakable.cluster.info.s3_endpoint.replace("127.0.0.1", "localhost")
    finding = breakable.doctor.diagnose(changes={"WINE_S3_ENDPOINT_URL": spelling}).findings["seldon can read artifacts"]
    assert finding["result"] == "ok", finding


def test_doctor_recognizes_one_store_at_two_addresses_by_its_content(breakable: BreakablePlatform) -> None:
    info = breakable.cluster.info
    store = Minio(info.s3_endpoint.removeprefix("http://"), info.s3_access_key, info.s3_secret_key, secure=False)
    store.put_object("mlflow", "a-file-of-the-doctors-test", BytesIO(b"x"), 1)
    with Proxy(info.s3_endpoint, keep_host=True) as proxy:
        finding = breakable.doctor.diagnose(changes={"WINE_S3_ENDPOINT_URL": proxy.url}).findings["seldon can read artifacts"]
    assert finding["result"] == "ok", finding
    assert "unknown whether" not in finding["message"]


def test_doctor_reports_a_token_of_another_audience(breakable: BreakablePlatform, tmp_path: Path) -> None:
    fixed = ("-n", "kubeflow", "create", "token", "wine-operator", "--audience")
    path = tmp_path / "token"
    path.write_text(breakable.sandbox.kubectl(*fixed, "https://kubernetes.default.svc"))
    diagnosis = breakable.doctor.diagnose(changes={"WINE_KFP_TOKEN_FILE": str(path)})
    assert diagnosis.of("failed") == {"kubeflow token is usable"}


def test_doctor_distinguishes_a_missing_token_from_an_unauthorized_one(breakable: BreakablePlatform, tmp_path: Path) -> None:
    unknown = breakable.doctor.diagnose(changes={"WINE_KFP_TOKEN_FILE": ""}).findings["kubeflow authorizes the operator"]
    assert unknown["reason"] == "KubeflowUnauthenticated"
    unauthorized = breakable.sandbox.kubectl("-n", "admin", "create", "token", "default", "--audience", "pipelines.kubeflow.org")
    (tmp_path / "token").write_text(unauthorized)
    forbidden = breakable.doctor.diagnose(changes={"WINE_KFP_TOKEN_FILE": str(tmp_path / "token")}).findings[
        "kubeflow authorizes the operator"
    ]
    assert forbidden["reason"] == "KubeflowForbidden"


def test_doctor_reports_a_host_name_that_mlflow_rejects(breakable: BreakablePlatform) -> None:
    url = breakable.cluster.info.mlflow_url.replace("127.0.0.1", "0.0.0.0")
    diagnosis = breakable.doctor.diagnose(changes={"WINE_MLFLOW_URL": url})
    assert diagnosis.of("failed") == {"mlflow authorizes the operator"}
    finding = diagnosis.findings["mlflow authorizes the operator"]
    assert f"MLFLOW_SERVER_ALLOWED_HOSTS={url.removeprefix('http://')}" in finding["remedy"]


def test_doctor_reports_another_server_at_mlflows_address(breakable: BreakablePlatform) -> None:
    diagnosis = breakable.doctor.diagnose(changes={"WINE_MLFLOW_URL": breakable.cluster.info.kfp_url})
    assert diagnosis.findings["mlflow authorizes the operator"]["reason"] == "MlflowNotFound"


def test_doctor_warns_of_a_pod_that_cannot_pull_the_image(breakable: BreakablePlatform, profile: str) -> None:
    container = {"name": "step", "image": "winepipelines/steps:0.1.0"}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "step", "namespace": profile},
        "spec": {"containers": [container]},
    }
    waiting = {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}
    state = {**container, "imageID": "", "ready": False, "restartCount": 0, "state": {"waiting": waiting}}
    breakable.cluster.apply(pod)
    patch = json.dumps({"status": {"containerStatuses": [state]}})
    breakable.sandbox.kubectl("-n", profile, "patch", "pod", "step", "--subresource=status", "--type=merge", "-p", patch)
    try:
        diagnosis = breakable.doctor.diagnose()
    finally:
        breakable.cluster.delete("pod", profile, "step", "--force", "--grace-period=0")
    assert diagnosis.status == 0, "one user's pod is not a failure of the platform"
    assert diagnosis.of("warning") == {"images can be pulled"}
    assert f"step in {profile}" in diagnosis.findings["images can be pulled"]["message"]


@pytest.mark.parametrize(
    ("name", "reason", "owner"),
    [
        ("v1.vseldondeployment.kb.io", "ServingBackendUnavailable", "Seldon's controller is down or unreachable"),
        ("limits.example.org", "AdmissionUnavailable", 'the admission webhook "limits.example.org" (https://127.0.0.1:1)'),
    ],
)
def test_doctor_names_the_owner_of_an_unavailable_webhook(
    breakable: BreakablePlatform, name: str, reason: str, owner: str
) -> None:
    with webhook_down(breakable.cluster, name):
        diagnosis = until(breakable, {"seldon webhooks answer"})
    finding = diagnosis.findings["seldon webhooks answer"]
    assert finding["reason"] == reason
    assert owner in finding["message"]
    assert "kubectl" in finding["remedy"]


def test_doctor_reports_a_controller_without_a_pod(breakable: BreakablePlatform) -> None:
    labels = {"control-plane": "seldon-controller-manager"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "manager", "image": "seldon"}]}}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "seldon-controller-manager", "namespace": "kubeflow", "labels": labels},
        "spec": {"replicas": 0, "selector": {"matchLabels": labels}, "template": template},
    }
    breakable.cluster.apply(deployment)
    try:
        diagnosis = until(breakable, {NO_DEPLOYMENT})
    finally:
        breakable.cluster.delete("deployment", "kubeflow", "seldon-controller-manager")
    assert "--replicas=1" in diagnosis.findings[NO_DEPLOYMENT]["remedy"]


# -- a user's namespace --


def test_doctor_reports_a_namespace_without_the_profile_label(breakable: BreakablePlatform, profile: str) -> None:
    label = "app.kubernetes.io/part-of"
    breakable.sandbox.kubectl("label", "namespace", profile, f"{label}-")
    try:
        diagnosis = breakable.doctor.diagnose("-n", profile, administrator=True)
    finally:
        breakable.sandbox.kubectl("label", "namespace", profile, f"{label}=kubeflow-profile")
    assert diagnosis.of("failed") == {"namespace is a profile"}
    assert diagnosis.findings["namespace is a profile"]["remedy"] == f"kubectl label namespace {profile} {label}=kubeflow-profile"


def test_doctor_reports_a_missing_namespace(breakable: BreakablePlatform) -> None:
    diagnosis = breakable.doctor.diagnose("-n", "nowhere", administrator=True)
    assert diagnosis.findings["namespace is a profile"]["reason"] == "NamespaceMissing"


def test_doctor_reports_wrong_keys_in_a_namespace(breakable: BreakablePlatform, profile: str) -> None:
    with breakable.changed("secret", ARTIFACT_SECRET, without_key("accesskey"), profile):
        incomplete = breakable.doctor.diagnose("-n", profile)
    assert incomplete.of("failed") == {"artifact secret is complete"}
    with breakable.changed("secret", ARTIFACT_SECRET, with_value("secretkey", "wrong-password"), profile):
        refused = breakable.doctor.diagnose("-n", profile)
    assert refused.of("failed") == {"steps can read and write artifacts"}


def test_doctor_reports_objects_of_others_in_a_namespace(breakable: BreakablePlatform, profile: str) -> None:
    foreign = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": COPY_SECRET, "namespace": profile}}
    breakable.cluster.apply(foreign)
    try:
        diagnosis = breakable.doctor.diagnose("-n", profile)
    finally:
        breakable.cluster.delete("secret", profile, COPY_SECRET)
    assert diagnosis.of("failed") == {"names are available"}
    assert diagnosis.findings["names are available"]["remedy"] == f"kubectl -n {profile} delete secret {COPY_SECRET}"
