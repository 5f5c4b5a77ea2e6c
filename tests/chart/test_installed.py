"""The chart installed, upgraded and removed by Helm on a real API server. There are no nodes: what pods do is not seen here."""

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
    "mlflow": {"url": "http://mlflow"},  # as the manifests below have it
    "objectStore": {"url": "http://minio"},
}
OPERATOR = "system:serviceaccount:kubeflow:wine"
NAMESPACE = "admin"
OWN = [manifest for _, manifest in rendered()]
SET_FILES = sorted(SETS.glob("*/*.yaml"))
SET_NAMES = [f"{path.parent.name}-{path.stem}" for path in SET_FILES]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A control plane, without the platform."""
    others = {"minio", "mlflow", "data", "kubeflow", "seldon", "operator"}
    with Sandbox(f"chart-{os.getpid()}", without=others) as sandbox:
        yield Cluster(sandbox)


@pytest.mark.parametrize("values", SET_FILES, ids=SET_NAMES)
def test_the_api_server_takes_every_manifest_and_knows_every_field(cluster: Cluster, values: Path) -> None:
    """It checks more than schemas say."""
    manifests = _rendered(values)
    made = [one["metadata"]["name"] for one in manifests if one["kind"] == "Namespace"]
    for namespace in {one["metadata"].get("namespace", "kubeflow") for one in manifests} | {*made}:
        cluster.namespace(namespace)
    for pod in (one for one in manifests if one["kind"] == "Pod"):
        del pod["spec"]["serviceAccountName"]  # an account that must be there: a dry run leaves none behind
    _dry_run(cluster, manifests)


@pytest.fixture(scope="module")
def kubeconform(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Kubeconform:
    """By the schemas that the API server serves itself, the CRDs' too."""
    return Kubeconform(lambda path: cluster.sandbox.kubectl("get", "--raw", path), tmp_path_factory.mktemp("schemas"))


@pytest.mark.parametrize("values", SET_FILES, ids=SET_NAMES)
def test_kubeconform_finds_nothing(kubeconform: Kubeconform, values: Path) -> None:
    manifests = _rendered(values)
    assert kubeconform.findings(manifests) == []


def _rendered(values: Path) -> list[Object]:
    """Render a chart with a set of values, without the kinds of other people's CRDs, which are not here."""
    manifests = helm.template(yaml.safe_load(values.read_text()), chart=helm.CHARTS / values.parent.name)
    return [one for one in manifests if not one["apiVersion"].partition("/")[0].endswith(FOREIGN)]


def test_a_field_that_no_schema_has_is_noticed(cluster: Cluster, kubeconform: Kubeconform) -> None:
    (deployment,) = (one for one in helm.template() if one["kind"] == "Deployment")
    deployment["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}
    with pytest.raises(KubectlError, match="readinesProbe"):
        _dry_run(cluster, [deployment])
    assert "readinesProbe" in "".join(kubeconform.findings([deployment]))


@pytest.mark.parametrize("example", sorted((helm.CHARTS.parent / "examples").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_api_server_takes_every_example(cluster: Cluster, example: Path) -> None:
    _dry_run(cluster, list(yaml.safe_load_all(example.read_text())))


def _dry_run(cluster: Cluster, manifests: list[Object]) -> None:
    """Have the API server check manifests as if they were applied; it refuses a field that it does not know."""
    asked = ("apply", "--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict", "-f", "-")
    cluster.sandbox.kubectl(*asked, stdin=yaml.safe_dump_all(manifests))


@pytest.fixture(scope="module")
def installed(cluster: Cluster) -> Cluster:
    """The chart is there; it has taken over the CRD that the sandbox had applied."""
    _helm(cluster, "install", "--take-ownership")
    return cluster


def _helm(cluster: Cluster, verb: str, *options: str, values: Object | None = None) -> None:
    files = [str(helm.CHART), "--values", "-"] if verb != "uninstall" else []
    said = yaml.safe_dump({**VALUES, **(values or {})})
    helm.run(verb, "wine", *files, "--namespace", "kubeflow", *options, stdin=said, kubeconfig=str(cluster.info.kubeconfig))


def _write(cluster: Cluster, user: str, manifest: Object) -> str:
    """Apply a manifest as somebody, without leaving it there; give the refusal, or nothing."""
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
    asked = ("auth", "can-i", verb, resource, f"--subresource={subresource}")
    try:
        return cluster.sandbox.kubectl("--as", user, "-n", namespace, *asked).strip() == "yes"
    except KubectlError:
        return False


@pytest.mark.parametrize("manifest", OWN, ids=lambda one: f"{one['kind']} {one['metadata']['name']}")
def test_the_operator_may_write_what_it_makes(installed: Cluster, manifest: Object) -> None:
    assert _write(installed, OPERATOR, manifest) == ""


def test_the_operator_may_not_write_another_secret(installed: Cluster) -> None:
    secret = next(manifest for manifest in OWN if manifest["kind"] == "Secret")
    token = {**secret, "type": "kubernetes.io/service-account-token"}
    token["metadata"] = {**secret["metadata"], "annotations": {"kubernetes.io/service-account.name": "default"}}
    eventually(lambda: "the operator writes no service account's token" in _write(installed, OPERATOR, token))
    other = {**secret, "metadata": {**secret["metadata"], "name": "planted"}}
    assert "forbidden" in _write(installed, OPERATOR, other)  # it may not patch one of that name, and applying is patching
    with pytest.raises(KubectlError, match="the operator writes no other Secret"):
        installed.sandbox.kubectl("--as", OPERATOR, "-n", NAMESPACE, "create", "secret", "generic", "planted", "--dry-run=server")


def test_the_operator_may_not_deploy_another_image(installed: Cluster) -> None:
    deployment = json.loads(json.dumps(next(manifest for manifest in OWN if manifest["kind"] == "SeldonDeployment")))
    deployment["spec"]["predictors"][0]["componentSpecs"][0]["spec"]["containers"][0]["image"] = "evil"
    eventually(lambda: "has an image that it was installed with" in _write(installed, OPERATOR, deployment))


def test_what_a_user_has_added_to_a_poddefault_stays_and_does_not_stop_the_operator(installed: Cluster) -> None:
    manifest = json.loads(json.dumps(next(one for one in OWN if one["kind"] == "PodDefault")))
    manifest["metadata"] |= {"namespace": NAMESPACE, "ownerReferences": []}
    manifest["spec"]["volumes"] = [{"name": "mine", "emptyDir": {}}]
    assert "sets variables of the platform, and nothing else" in _write(installed, OPERATOR, manifest)
    by_user = ("apply", "--server-side", "--field-manager=user", "-f", "-")
    installed.sandbox.kubectl(*by_user, stdin=json.dumps(manifest))
    assert _write(installed, OPERATOR, manifest) == ""
    manifest["spec"]["volumes"][0] = {"name": "mine", "hostPath": {"path": "/"}}
    assert "sets variables of the platform, and nothing else" in _write(installed, OPERATOR, manifest)


def test_a_user_with_edit_rights_has_pipelines_but_not_their_status(installed: Cluster) -> None:
    for role in ("view", "edit"):
        installed.sandbox.kubectl("-n", NAMESPACE, "create", "rolebinding", role, f"--clusterrole={role}", f"--user={role}or")
    eventually(lambda: _may(installed, "editor", "create", "winepipelines"))
    eventually(lambda: _may(installed, "viewor", "get", "winepipelines"))
    assert _may(installed, "editor", "deletecollection", "winepipelines")
    assert not _may(installed, "viewor", "create", "winepipelines")
    assert _may(installed, OPERATOR, "update", "winepipelines", subresource="status")
    for verb in ("update", "patch"):
        assert not _may(installed, "editor", verb, "winepipelines", subresource="status")


def test_resources_survive_an_upgrade_a_removal_and_a_new_installation(installed: Cluster) -> None:
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


def test_with_namespaces_the_operator_has_rights_in_no_other(installed: Cluster) -> None:
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
    """The operator as the chart would run it for one namespace, but as a process: its settings, its rights. Gives its log."""
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
    # In a pod the ports are the pod's own; here they are the machine's, which may have a server there.
    free = {f"WINE_{name.upper()}_PORT": str(port) for name, port in ports.choose(("probe", "metrics"), {}).items()}
    here = {"KUBECONFIG": str(kubeconfig), "WINE_KFP_TOKEN_FILE": str(token_file), **free}
    here["WINE_KFP_URL"] = "http://127.0.0.1:1"  # nobody there, and no name to look up
    environment = {**base_environment(), **python_environment("operator"), **given, **here}
    command = [sys.executable, "-m", "winepipelines", "run"]
    with log.open("wb") as out, subprocess.Popen(command, env=environment, stdout=out, stderr=out) as process:
        yield log
        process.terminate()
        assert process.wait(30) == 0, log.read_text()


def test_in_its_namespaces_the_operator_gets_as_far_as_its_platform_and_no_other_is_touched(
    installed: Cluster, operator: Path
) -> None:
    installed.namespace("team-c")
    for namespace in ("team-c", NAMESPACE):
        installed.apply(installed.resource(namespace, "red", url="http://data/wine.csv"))

    def condition(kind: str) -> Object:
        resource = installed.get("winepipeline", NAMESPACE, "red") or {}
        return next((one for one in resource.get("status", {}).get("conditions", []) if one["type"] == kind), {})

    eventually(
        lambda: condition("Prepared").get("status") == "True", 90
    )  # it has started, and is past the guard, with the rights of a Role
    eventually(lambda: condition("Ready").get("reason") == "KubeflowUnavailable")  # there is no platform
    assert {one["metadata"]["name"] for one in installed.objects("poddefaults", NAMESPACE)} >= {"access-minio"}
    other = installed.get("winepipeline", "team-c", "red")
    assert other is not None
    assert "status" not in other
    assert "finalizers" not in other["metadata"]
    said = operator.read_text()
    assert "forbidden" not in said.lower()
    assert "permission" not in said.lower()
