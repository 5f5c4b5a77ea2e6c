"""The life cycle with KServe: its real controller and storage initializer, in a namespace with restricted Pod Security.

They run after test_life.py, on its platform, and in order. A client sends ten requests a second to a model with one replica. No
request may fail.
"""

import json
from urllib.parse import urlsplit

import pytest
from e2e.conftest import PLATFORM, USER, Archives
from e2e.life import (
    KSERVE,
    SELDON,
    TABLE,
    install_operator,
    operator_pod,
    platform_passes_checks,
    run_helm,
    uninstall_operator,
)
from support.cluster import eventually
from support.kserve_attacks import RUNTIME, SERVICE, with_value
from support.kube import Kube, Object
from support.writes import Writes

from dev.version import version
from sandbox.kserve.cluster import NAME, installation
from sandbox.kserve.installation import NAMESPACE
from sandbox.kubeconfigs import Access

BACKEND = ("--set", "serving.backend=kserve")
ARTIFACTS = "mlpipeline-minio-artifact"
INITIALIZER = "storage-initializer"


@pytest.fixture(autouse=True)
def _images(images: None) -> None:
    """Load the images for every test."""


@pytest.fixture(scope="module", autouse=True)
def _platform(administrator: Kube, images: None, archives: Archives) -> None:
    """Use the platform that test_life.py left, without its operator and its models; or install it."""
    there = {one["metadata"]["name"] for one in administrator.items("deployments", "-n", PLATFORM)}
    if "ml-pipeline" not in there:
        options = ("--create-namespace", "--wait", "--timeout", "5m")
        run_helm(administrator, "install", "wine-sandbox", str(archives.sandbox), *options)
    if "wine-operator" in there:
        administrator("-n", USER, "delete", "winepipelines", "--all", "--timeout=60s")
        administrator("-n", USER, "wait", "pod", f"--selector={SELDON.pods}", "--for=delete", "--timeout=60s")
        administrator("-n", USER, "delete", "pod", "visitors", "--ignore-not-found", "--wait=false")
        uninstall_operator(administrator)


def test_kserve_is_installed_in_a_namespace_with_restricted_pod_security(administrator: Kube) -> None:
    *objects, container = installation(f"winepipelines/kserve:{version()}", print)
    _apply(administrator, *objects)
    administrator("-n", NAMESPACE, "rollout", "status", f"deployment/{NAME}", "--timeout=2m")
    _apply(administrator, container)


def test_profile_has_restricted_pod_security(administrator: Kube, person: Kube) -> None:
    labels = {"app.kubernetes.io/part-of": "kubeflow-profile", "pod-security.kubernetes.io/enforce": "restricted"}
    administrator.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": KSERVE.namespace, "labels": labels}})
    keys = administrator.get("-n", PLATFORM, "secret", "minio")["data"]
    for namespace in (PLATFORM, KSERVE.namespace):
        metadata = {"name": ARTIFACTS, "namespace": namespace}
        administrator.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": keys})
    account = f"--serviceaccount={USER}:person"
    administrator("-n", KSERVE.namespace, "create", "rolebinding", "person", "--clusterrole=edit", account)
    assert "pods" in person("-n", KSERVE.namespace, "auth", "can-i", "--list")


def test_platform_passes_the_checks_of_the_previous_release(administrator: Kube, archives: Archives) -> None:
    install_operator(administrator, archives.previous, *BACKEND)
    platform_passes_checks(administrator)


def test_user_with_edit_rights_gets_a_model_that_kserve_serves(person: Kube) -> None:
    person.apply(KSERVE.resource("mlflow", url=TABLE))
    KSERVE.ready(person, "mlflow")
    [pod] = KSERVE.serving_pods(person, "mlflow")
    [initializer] = pod["spec"]["initContainers"]
    assert (initializer["name"], initializer["args"][1]) == (INITIALIZER, "/mnt/models")
    assert initializer["args"][0].startswith("s3://")
    assert initializer["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    [container] = pod["spec"]["containers"]
    assert (container["name"], container["image"].partition(":")[0]) == (KSERVE.container, "winepipelines/server")


def test_client_starts_sending_requests_to_the_endpoint_in_the_status(person: Kube) -> None:
    url = urlsplit(KSERVE.status(person, "mlflow")["endpoint"]["url"])
    assert url.path == "/api/v1.0/predictions"
    KSERVE.start_visitors(person, f"{url.hostname}.:{url.port or 80}")
    KSERVE.no_request_failed(person)
    assert all(3 < value < 9 for value in KSERVE.load(person).values)  # the quality of a wine


def test_upgrade_loses_no_state_and_no_request(administrator: Kube, person: Kube, archives: Archives) -> None:
    KSERVE.settled(person, "mlflow")
    before, servers, objects = KSERVE.record(person, "mlflow"), KSERVE.servers(person), KSERVE.generations(administrator)
    options = ("--reset-then-reuse-values", "--wait", "--timeout", "2m")
    run_helm(administrator, "upgrade", "wine-operator", str(archives.operator), *options)
    [container] = operator_pod(administrator)["spec"]["containers"]
    assert container["image"] == f"winepipelines/operator:{version()}"
    KSERVE.ready(person, "mlflow")
    KSERVE.settled(person, "mlflow")
    assert KSERVE.servers(person) == servers, "a served model keeps its pods and its server image"
    assert KSERVE.record(person, "mlflow") == before
    deployments = {name: number for name, number in objects.items() if name.startswith("Deployment")}
    assert deployments.items() <= KSERVE.generations(administrator).items()
    KSERVE.no_request_failed(person)


def test_promotion_loses_no_request(person: Kube) -> None:
    KSERVE.promote(person, "mlflow", 2, 0.01)


def test_rollback_loses_no_request(person: Kube) -> None:
    KSERVE.roll_back(person, "mlflow", 1, 3)
    KSERVE.promote(person, "mlflow", 4, 0.1)  # another spec ends the rollback


def test_eviction_of_the_serving_pod_loses_no_request(administrator: Kube, person: Kube) -> None:
    KSERVE.evict_server(administrator, person, "mlflow")


def test_guard_rejects_what_an_attacker_with_the_operators_token_applies(administrator: Kube) -> None:
    token = administrator("-n", PLATFORM, "create", "token", "wine-operator", "--duration=1h").strip()
    writes = Writes(Access.read(administrator.kubeconfig), token)
    for kind, name, attacks in (("inferenceservice", "mlflow", SERVICE), ("servingruntime", "wine-model-server", RUNTIME)):
        live = _applied(administrator.get("-n", KSERVE.namespace, kind, name))
        assert writes.apply(live) == "", "what the operator applied is accepted"
        accepted = [path for path, value in attacks if not writes.apply(with_value(live, path, value))]
        assert accepted == []


def test_new_installation_adopts_resources_without_a_run_or_a_rollout(
    administrator: Kube, person: Kube, archives: Archives
) -> None:
    KSERVE.survives_a_new_installation(administrator, person, archives.operator, "mlflow", options=BACKEND)


def test_no_request_failed_in_total(person: Kube) -> None:
    KSERVE.no_request_failed_in_total(person)


def test_deletion_removes_the_model_and_its_objects(administrator: Kube, person: Kube) -> None:
    person("-n", KSERVE.namespace, "delete", "winepipeline", "mlflow", "--timeout=60s")
    person("-n", KSERVE.namespace, "wait", "pod", f"--selector={KSERVE.pods}", "--for=delete", "--timeout=60s")
    kinds = f"{KSERVE.objects},deployments,secrets,poddefaults"
    eventually(lambda: _left(administrator, kinds) == {ARTIFACTS}, 60)


def _left(kube: Kube, kinds: str) -> set[str]:
    return {item["metadata"]["name"] for item in kube.items("-n", KSERVE.namespace, kinds)}


def _applied(live: Object) -> Object:
    """Leave out of an object what the API server and KServe added to what the operator applied."""
    metadata = {
        key: live["metadata"][key]
        for key in ("name", "namespace", "labels", "annotations", "ownerReferences")
        if key in live["metadata"]
    }
    return {key: live[key] for key in ("apiVersion", "kind", "spec")} | {"metadata": metadata}


def _apply(kube: Kube, *objects: Object) -> None:
    """Apply objects server-side: KServe's CRDs are too large for the annotation of a client-side one."""
    body = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
    kube("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=body)
    names = [item["metadata"]["name"] for item in objects if item["kind"] == "CustomResourceDefinition"]
    # `kubectl wait` fails on a CRD that has no conditions yet, as large ones have none for a second.
    for state in ("jsonpath={.status.acceptedNames.kind}", "condition=Established"):
        for name in names:
            kube("wait", f"--for={state}", f"crd/{name}", "--timeout=60s")
