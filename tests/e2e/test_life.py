"""The operator's life cycle in real pods: install, use with edit rights only, upgrade, eviction, uninstall and reinstall.

The tests run in order: each starts from the state that the one before left. A client sends ten requests a second to a model with
one replica, during a promotion, a change of settings, a rollback, an upgrade and evictions. No request may fail.
"""

import pytest
import yaml
from e2e.conftest import PLATFORM, USER, Archives
from e2e.life import SELDON, TABLE, evict, install_operator, operator_pod, platform_passes_checks, run_helm
from support.cluster import eventually
from support.kube import Kube, KubeError
from support.nodes import ROOT

from dev.version import version

READY_SECONDS = 15  # from `helm install` to the operator's pod ready


@pytest.fixture(autouse=True)
def _images(images: None) -> None:
    """Load the images for every test."""


def test_platform_is_installed_in_a_namespace_with_restricted_pod_security(administrator: Kube, archives: Archives) -> None:
    administrator("create", "namespace", PLATFORM)
    administrator("label", "namespace", PLATFORM, "pod-security.kubernetes.io/enforce=restricted")
    run_helm(administrator, "install", "wine-sandbox", str(archives.sandbox), "--wait", "--timeout", "5m")


def test_previous_release_of_the_operator_is_ready_in_time(administrator: Kube, archives: Archives) -> None:
    assert install_operator(administrator, archives.previous) <= READY_SECONDS


def test_platform_passes_the_operators_checks(administrator: Kube) -> None:
    platform_passes_checks(administrator)


def test_user_with_edit_rights_gets_a_served_model(person: Kube) -> None:
    for forbidden in (("get", "nodes"), ("get", "pods", "-n", PLATFORM), ("get", "rolebindings", "-n", "default")):
        with pytest.raises(KubeError, match="forbidden"):
            person(*forbidden)
    person.apply(SELDON.resource("mlflow", url=TABLE))
    SELDON.ready(person, "mlflow")
    (image,) = SELDON.servers(person).values()
    assert image.startswith("winepipelines/server:")


def test_client_starts_sending_requests(person: Kube) -> None:
    SELDON.start_visitors(person)
    SELDON.no_request_failed(person)
    assert all(3 < value < 9 for value in SELDON.load(person).values)  # the quality of a wine


def test_upgrade_during_a_run_loses_no_state_and_no_request(administrator: Kube, person: Kube, archives: Archives) -> None:
    SELDON.settled(person, "mlflow")
    before, runs, servers = SELDON.record(person, "mlflow"), SELDON.runs(administrator), SELDON.servers(person, "mlflow")
    person.apply(SELDON.resource("red", url="http://data.admin.svc.cluster.local:8080/winequality-red.csv"))
    run = SELDON.running_run(person, "red")

    options = ("--reset-then-reuse-values", "--wait", "--timeout", "2m")
    run_helm(administrator, "upgrade", "wine-operator", str(archives.operator), *options)
    [container] = operator_pod(administrator)["spec"]["containers"]
    assert container["image"] == f"winepipelines/operator:{version()}"
    columns = administrator.get("customresourcedefinition", "winepipelines.winepipelines.io")["spec"]["versions"][0]
    shipped = yaml.safe_load((ROOT / "crds/winepipelines.yaml").read_text())["spec"]["versions"][0]
    assert columns["additionalPrinterColumns"] == shipped["additionalPrinterColumns"]
    assert SELDON.status(person, "red")["run"]["state"] == "RUNNING", "the run must still be running"

    SELDON.release_data(person)
    SELDON.ready(person, "mlflow")
    assert SELDON.servers(person, "mlflow") == servers, "a served model keeps its pods and its server image"
    assert SELDON.record(person, "mlflow") == before
    SELDON.ready(person, "red")
    status = SELDON.status(person, "red")
    assert (status["run"]["id"], status["revision"], len(status["history"])) == (run, 1, 1)
    images = set(SELDON.servers(person, "red").values())
    assert images == {f"winepipelines/server:{version()}"}, "a new model has the new server image"
    assert len(SELDON.runs(administrator)) == len(runs) + 1, "the new operator does not start the run again"
    SELDON.no_request_failed(person)


def test_eviction_of_the_operator_during_a_run_loses_no_state(administrator: Kube, person: Kube) -> None:
    SELDON.settled(person, "mlflow", "red")
    before, runs = SELDON.record(person, "mlflow"), SELDON.runs(administrator)
    served, servers = SELDON.record(person, "red")["served"], SELDON.servers(person, "mlflow")
    SELDON.change(person, "red", training={"seed": 7})
    run = SELDON.running_run(person, "red")

    old = operator_pod(administrator)["metadata"]
    evict(administrator, PLATFORM, old["name"])
    administrator("-n", PLATFORM, "wait", f"pod/{old['name']}", "--for=delete", "--timeout=60s")
    administrator("-n", PLATFORM, "rollout", "status", "deployment/wine-operator", "--timeout=60s")
    assert operator_pod(administrator)["metadata"]["uid"] != old["uid"]
    assert SELDON.status(person, "red")["run"]["state"] == "RUNNING", "the run must still be running"
    assert SELDON.status(person, "red")["served"] == served

    SELDON.release_data(person)
    SELDON.ready(person, "red")
    status = SELDON.status(person, "red")
    assert (status["run"]["id"], status["revision"], len(status["history"])) == (run, 2, 2)
    assert len(SELDON.runs(administrator)) == len(runs) + 1
    assert SELDON.record(person, "mlflow") == before
    assert SELDON.servers(person, "mlflow") == servers
    SELDON.no_request_failed(person)


def test_promotion_loses_no_request(person: Kube) -> None:
    SELDON.promote(person, "mlflow", 2, 0.01)


def test_change_of_settings_loses_no_request(administrator: Kube, person: Kube, archives: Archives) -> None:
    servers, runs = SELDON.servers(person, "mlflow"), SELDON.runs(administrator)
    options = ("--reset-then-reuse-values", "--wait", "--timeout", "2m", "--set", "timeouts.progressDeadlineSeconds=800")
    run_helm(administrator, "upgrade", "wine-operator", str(archives.operator), *options)
    SELDON.ready(person, "mlflow")
    SELDON.settled(person, "mlflow")
    assert SELDON.servers(person, "mlflow") == servers, "a timeout replaces no pod"
    SELDON.change(person, "mlflow", serving={"resources": {"requests": {"cpu": "15m"}}})
    eventually(lambda: not SELDON.servers(person, "mlflow").keys() & servers.keys(), 120)
    SELDON.serves(person, "mlflow", 2)
    assert SELDON.runs(administrator) == runs, "no model is trained"
    SELDON.no_request_failed(person)


def test_rollback_loses_no_request(person: Kube) -> None:
    SELDON.roll_back(person, "mlflow", 1, 3)
    SELDON.promote(person, "mlflow", 4, 0.1)  # another spec ends the rollback


def test_eviction_of_the_serving_pod_loses_no_request(administrator: Kube, person: Kube) -> None:
    SELDON.evict_server(administrator, person, "mlflow")


def test_new_installation_adopts_resources_without_a_run_or_a_rollout(
    administrator: Kube, person: Kube, archives: Archives
) -> None:
    SELDON.survives_a_new_installation(administrator, person, archives.operator, "mlflow", "red")


def test_deletion_removes_the_model_of_that_resource_only(administrator: Kube, person: Kube) -> None:
    person("-n", USER, "delete", "winepipeline", "red", "--timeout=60s")
    person("-n", USER, "wait", "pod", "--selector=seldon-deployment-id=red", "--for=delete", "--timeout=60s")
    SELDON.no_request_failed(person)


def test_no_request_failed_in_total(person: Kube) -> None:
    SELDON.no_request_failed_in_total(person)
