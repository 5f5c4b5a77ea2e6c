"""The chart installed, upgraded and removed by Helm on a real API server. The cluster has no nodes, so no pod runs."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.cluster import Cluster, eventually
from support.kubeconform import Kubeconform

from dev import helm
from dev.lint_chart import SETS
from dev.lint_manifests import FOREIGN, rendered
from sandbox import ports
from sandbox.components import base_environment, python_environment
from sandbox.errors import KubectlError
from sandbox.kubeconfigs import Access
from sandbox.plan import load
from sandbox.platform import Sandbox

Object = dict[str, Any]
VALUES: Object = {
    "fullnameOverride": "wine",
    "metrics": {"dashboard": {"enabled": True}},
    "mlflow": {"url": "http://mlflow"},  # the values of the manifests below
    "objectStore": {"url": "http://minio"},
}
OPERATOR = "system:serviceaccount:kubeflow:wine"
NAMESPACE = "admin"
OWN = [manifest for _, manifest in rendered(["seldon"])]  # the API server has no kinds of others
SET_FILES = sorted(SETS.glob("*/*.yaml"))
SET_NAMES = [f"{path.parent.name}-{path.stem}" for path in SET_FILES]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Run a control plane without the platform."""
    others = {"store", "mlflow", "data", "kubeflow", "seldon", "operator"}
    with Sandbox(f"chart-{os.getpid()}", without=others) as sandbox:
        yield Cluster(sandbox)


@pytest.mark.parametrize("values", SET_FILES, ids=SET_NAMES)
def test_api_server_accepts_every_manifest_and_field(cluster: Cluster, values: Path) -> None:
    """The API server validates more than the schemas express."""
    manifests = _rendered(values)
    made = [one["metadata"]["name"] for one in manifests if one["kind"] == "Namespace"]
    for namespace in {one["metadata"].get("namespace", "kubeflow") for one in manifests} | {*made}:
        cluster.namespace(namespace)
    for pod in (one for one in manifests if one["kind"] == "Pod"):
        del pod["spec"]["serviceAccountName"]  # the account would have to exist, and a dry run creates none
    _dry_run(cluster, manifests)


@pytest.fixture(scope="module")
def kubeconform(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Kubeconform:
    """Use the schemas that the API server serves, those of the CRDs included."""
    return Kubeconform(lambda path: cluster.sandbox.kubectl("get", "--raw", path), tmp_path_factory.mktemp("schemas"))


@pytest.mark.parametrize("values", SET_FILES, ids=SET_NAMES)
def test_kubeconform_reports_no_finding(kubeconform: Kubeconform, values: Path) -> None:
    manifests = _rendered(values)
    assert kubeconform.findings(manifests) == []


def _rendered(values: Path) -> list[Object]:
    """Render a chart with a set of values, without the kinds whose CRDs are not installed."""
    manifests = helm.template(yaml.safe_load(values.read_text()), chart=helm.CHARTS / values.parent.name)
    return [one for one in manifests if not one["apiVersion"].partition("/")[0].endswith(FOREIGN)]


def test_unknown_field_is_reported(cluster: Cluster, kubeconform: Kubeconform) -> None:
    (deployment,) = (one for one in helm.template() if one["kind"] == "Deployment")
    deployment["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}
    with pytest.raises(KubectlError, match="readinesProbe"):
        _dry_run(cluster, [deployment])
    assert "readinesProbe" in "".join(kubeconform.findings([deployment]))


@pytest.mark.parametrize("example", sorted((helm.CHARTS.parent / "examples").glob("*.yaml")), ids=lambda path: path.stem)
def test_api_server_accepts_every_example(cluster: Cluster, example: Path) -> None:
    _dry_run(cluster, list(yaml.safe_load_all(example.read_text())))


def _dry_run(cluster: Cluster, manifests: list[Object]) -> None:
    """Have the API server check manifests as if they were applied; it refuses a field that it does not know."""
    asked = ("apply", "--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict", "-f", "-")
    cluster.sandbox.kubectl(*asked, stdin=yaml.safe_dump_all(manifests))


@pytest.fixture(scope="module")
def installed(cluster: Cluster) -> Cluster:
    """Install the chart; it takes ownership of the CRDs that the sandbox applied."""
    _helm(cluster, "install", "--take-ownership")
    return cluster


def _helm(cluster: Cluster, verb: str, *options: str, values: Object | None = None) -> None:
    files = [str(helm.CHART), "--values", "-"] if verb != "uninstall" else []
    merged = yaml.safe_dump({**VALUES, **(values or {})})
    helm.run(verb, "wine", *files, "--namespace", "kubeflow", *options, stdin=merged, kubeconfig=str(cluster.info.kubeconfig))


def _write(cluster: Cluster, user: str, manifest: Object) -> str:
    """Apply a manifest as a user, in a dry run. Return the refusal, or an empty string."""
    manifest = {**manifest, "metadata": {**manifest["metadata"], "namespace": NAMESPACE}}
    try:
        cluster.sandbox.kubectl(
            *("--as", user, "apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", "-"),
            stdin=json.dumps(manifest),
        )
    except KubectlError as error:
        return str(error)
    return ""


def _may(cluster: Cluster, user: str, verb: str, resource: str, namespace: str = NAMESPACE, subresource: str = "") -> bool:
    question = ("auth", "can-i", verb, resource, f"--subresource={subresource}")
    try:
        return cluster.sandbox.kubectl("--as", user, "-n", namespace, *question).strip() == "yes"
    except KubectlError:
        return False


@pytest.mark.parametrize("manifest", OWN, ids=lambda one: f"{one['kind']} {one['metadata']['name']}")
def test_operator_may_write_its_objects(installed: Cluster, manifest: Object) -> None:
    assert _write(installed, OPERATOR, manifest) == ""


def test_operator_may_not_write_another_secret(installed: Cluster) -> None:
    secret = next(manifest for manifest in OWN if manifest["kind"] == "Secret")
    token = {**secret, "type": "kubernetes.io/service-account-token"}
    token["metadata"] = {**secret["metadata"], "annotations": {"kubernetes.io/service-account.name": "default"}}
    eventually(lambda: "the operator writes no service account's token" in _write(installed, OPERATOR, token))
    other = {**secret, "metadata": {**secret["metadata"], "name": "planted"}}
    assert "forbidden" in _write(installed, OPERATOR, other)  # apply is a patch, and RBAC allows no patch of that name
    with pytest.raises(KubectlError, match="the operator writes no other Secret"):
        installed.sandbox.kubectl("--as", OPERATOR, "-n", NAMESPACE, "create", "secret", "generic", "planted", "--dry-run=server")


def test_operator_may_not_deploy_another_image(installed: Cluster) -> None:
    deployment = json.loads(json.dumps(next(manifest for manifest in OWN if manifest["kind"] == "SeldonDeployment")))
    deployment["spec"]["predictors"][0]["componentSpecs"][0]["spec"]["containers"][0]["image"] = "evil"
    eventually(lambda: "has an image that it was installed with" in _write(installed, OPERATOR, deployment))


def test_operator_may_write_a_poddefault_when_a_user_added_fields(installed: Cluster) -> None:
    manifest = json.loads(json.dumps(next(one for one in OWN if one["kind"] == "PodDefault")))
    manifest["metadata"] |= {"namespace": NAMESPACE, "ownerReferences": []}
    manifest["spec"]["volumes"] = [{"name": "mine", "emptyDir": {}}]
    assert "sets variables of the platform, and nothing else" in _write(installed, OPERATOR, manifest)
    by_user = ("apply", "--server-side", "--field-manager=user", "-f", "-")
    installed.sandbox.kubectl(*by_user, stdin=json.dumps(manifest))
    assert _write(installed, OPERATOR, manifest) == ""
    manifest["spec"]["volumes"][0] = {"name": "mine", "hostPath": {"path": "/"}}
    assert "sets variables of the platform, and nothing else" in _write(installed, OPERATOR, manifest)


def test_editor_may_write_pipelines_but_not_their_status(installed: Cluster) -> None:
    for role in ("view", "edit"):
        installed.sandbox.kubectl("-n", NAMESPACE, "create", "rolebinding", role, f"--clusterrole={role}", f"--user={role}or")
    eventually(lambda: _may(installed, "editor", "create", "winepipelines"))
    eventually(lambda: _may(installed, "viewor", "get", "winepipelines"))
    assert _may(installed, "editor", "deletecollection", "winepipelines")
    assert not _may(installed, "viewor", "create", "winepipelines")
    assert _may(installed, OPERATOR, "update", "winepipelines", subresource="status")
    for verb in ("update", "patch"):
        assert not _may(installed, "editor", verb, "winepipelines", subresource="status")


def test_resources_survive_upgrade_uninstall_and_reinstall(installed: Cluster) -> None:
    installed.apply(installed.resource(NAMESPACE, url="http://data/wine.csv"))
    before = installed.get("winepipeline", NAMESPACE, "mlflow")
    assert before is not None

    def survives() -> bool:
        now = installed.get("winepipeline", NAMESPACE, "mlflow")
        return now is not None and now["metadata"]["uid"] == before["metadata"]["uid"]

    _helm(installed, "upgrade", values={"logging": {"level": "debug"}})
    deployment = installed.get("deployment", "kubeflow", "wine")
    assert deployment is not None
    assert {"name": "WINE_LOG_LEVEL", "value": "debug"} in deployment["spec"]["template"]["spec"]["containers"][0]["env"]
    assert survives()

    _helm(installed, "uninstall")
    assert installed.get("deployment", "kubeflow", "wine") is None
    assert not _may(installed, OPERATOR, "list", "winepipelines")
    assert survives()

    _helm(installed, "install")
    assert _may(installed, OPERATOR, "list", "winepipelines")
    assert survives()


def test_operator_has_no_rights_outside_its_namespaces(installed: Cluster) -> None:
    installed.namespace("team-b")
    _helm(installed, "upgrade", values={"namespaces": [NAMESPACE]})
    eventually(lambda: not _may(installed, OPERATOR, "list", "winepipelines", "team-b"))
    assert _may(installed, OPERATOR, "list", "winepipelines")
    assert _may(installed, OPERATOR, "create", "seldondeployments.machinelearning.seldon.io")
    source = "secrets/mlflow-server-seldon-init-container-s3-credentials"
    assert _may(installed, OPERATOR, "watch", source, "kubeflow")
    assert not _may(installed, OPERATOR, "get", "secrets/other", "kubeflow")
    assert not _may(installed, OPERATOR, "list", "customresourcedefinitions.apiextensions.k8s.io")
    for manifest in OWN:
        assert _write(installed, OPERATOR, manifest) == ""


@pytest.fixture
def operator(installed: Cluster, tmp_path: Path) -> Iterator[Path]:
    """Run the operator as a process, with the chart's settings and rights for one namespace. Yield the path of its log."""
    _helm(installed, "upgrade", values={"namespaces": [NAMESPACE]})
    plan = load(installed.sandbox.folder)
    deployment = installed.get("deployment", "kubeflow", "wine")
    assert plan is not None
    assert deployment is not None
    token = installed.sandbox.kubectl("-n", "kubeflow", "create", "token", "wine").strip()
    kubeconfig, token_file, log = tmp_path / "kubeconfig", tmp_path / "token", tmp_path / "log"
    Access.read(plan.kubeconfig).with_token(token).write(kubeconfig)
    token_file.write_text("for-kubeflow-pipelines")
    given = {one["name"]: one["value"] for one in deployment["spec"]["template"]["spec"]["containers"][0]["env"]}
    # A process shares the ports with the machine, so the default ports may be in use.
    free = {f"WINE_{name.upper()}_PORT": str(port) for name, port in ports.choose(("probe", "metrics"), {}).items()}
    here = {"KUBECONFIG": str(kubeconfig), "WINE_KFP_TOKEN_FILE": str(token_file), **free}
    here["WINE_KFP_URL"] = "http://127.0.0.1:1"  # nothing listens there, and no DNS lookup is needed
    environment = {**base_environment(), **python_environment("operator"), **given, **here}
    command = [sys.executable, "-m", "winepipelines", "run"]
    with log.open("wb") as out, subprocess.Popen(command, env=environment, stdout=out, stderr=out) as process:
        yield log
        process.terminate()
        assert process.wait(30) == 0, log.read_text()


def test_operator_works_in_its_namespaces_and_leaves_others_alone(installed: Cluster, operator: Path) -> None:
    installed.namespace("team-c")
    for namespace in ("team-c", NAMESPACE):
        installed.apply(installed.resource(namespace, "red", url="http://data/wine.csv"))

    def condition(kind: str) -> Object:
        resource = installed.get("winepipeline", NAMESPACE, "red") or {}
        return next((one for one in resource.get("status", {}).get("conditions", []) if one["type"] == kind), {})

    # The operator has started, and a Role and the admission policies let it write its objects.
    eventually(lambda: condition("Prepared").get("status") == "True", 90)
    eventually(lambda: condition("Ready").get("reason") == "KubeflowUnavailable")  # no platform runs
    assert {one["metadata"]["name"] for one in installed.objects("poddefaults", NAMESPACE)} >= {"access-minio"}
    other = installed.get("winepipeline", "team-c", "red")
    assert other is not None
    assert "status" not in other
    assert "finalizers" not in other["metadata"]
    log = operator.read_text().lower()
    assert "forbidden" not in log
    assert "permission" not in log
