"""The operator's life cycle in real pods: install, use with edit rights only, upgrade, eviction, uninstall and reinstall.

The tests run in order: each starts from the state that the one before left. A client sends ten requests a second to a model with
one replica, during a promotion, a change of settings, a rollback, an upgrade and evictions. No request may fail.
"""

import json
import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from e2e.conftest import PLATFORM, USER, Archives, timed
from e2e.load import Load
from support.cluster import eventually
from support.kube import Kube, KubeError, Object
from support.nodes import ROOT

from dev import helm
from dev.version import version
from winepipelines.serving.container import DRAIN_SECONDS

READY_SECONDS = 15  # from `helm install` to the operator's pod ready
TABLE = "s3://wine/winequality-red.csv"
VISITORS = Path(__file__).with_name("visitors.yaml")


@pytest.fixture(autouse=True)
def _images(images: None) -> None:
    """Load the images for every test."""


def _helm(kube: Kube, *arguments: str) -> str:
    return helm.run(*arguments, "--namespace", PLATFORM, kubeconfig=str(kube.kubeconfig))


def _install_operator(kube: Kube, archive: Path) -> None:
    """Install the operator, and check that its pod is ready in time."""
    begun = time.monotonic()
    with timed("  from helm install to the operator's pod ready"):
        _helm(kube, "install", "wine-operator", str(archive), "--wait", "--timeout", "2m")
        kube("-n", PLATFORM, "wait", "pod", "--selector=app.kubernetes.io/component=operator", "--for=condition=Ready")
    assert time.monotonic() - begun <= READY_SECONDS


def _ready(kube: Kube, name: str) -> None:
    kube("-n", USER, "wait", f"winepipeline/{name}", "--for=condition=Ready", "--timeout=5m")


def _resource(name: str, **data: str) -> Object:
    example: Object = yaml.safe_load((ROOT / "deploy/examples/wine.yaml").read_text())
    example["metadata"] |= {"name": name}
    example["spec"]["data"] |= data
    return example


def _status(kube: Kube, name: str) -> Object:
    return dict(kube.get("-n", USER, "winepipeline", name)["status"])


def _record(kube: Kube, name: str) -> Object:
    """Read the parts of a resource that must not be lost."""
    resource = kube.get("-n", USER, "winepipeline", name)
    status = resource["status"]
    return {
        "uid": resource["metadata"]["uid"],
        "spec": resource["spec"],
        **{key: status[key] for key in ("revision", "run", "served", "history", "endpoint")},
    }


def _runs(kube: Kube) -> dict[str, str]:
    """Map every run's Workflow to its creation time."""
    return {item["metadata"]["name"]: item["metadata"]["creationTimestamp"] for item in kube.items("-n", USER, "workflows")}


def _servers(kube: Kube, name: str = "") -> dict[str, str]:
    """Map the uids of serving pods, of all resources or of one, to their server's image. Terminating pods are left out."""
    selector = "seldon.io/model=true" + (f",seldon-deployment-id={name}" if name else "")
    pods = [pod for pod in kube.items("-n", USER, "pods", f"--selector={selector}") if "deletionTimestamp" not in pod["metadata"]]
    servers = [[one["image"] for one in pod["spec"]["containers"] if one["name"] == "classifier"] for pod in pods]
    return {pod["metadata"]["uid"]: image for pod, [image] in zip(pods, servers, strict=True)}


def _operator(kube: Kube) -> Object:
    [pod] = kube.items("-n", PLATFORM, "pods", "--selector=app.kubernetes.io/component=operator")
    return pod


def _running_run(person: Kube, name: str) -> str:
    """Wait until a resource's run waits for the data that are held back. Return its id."""
    person("-n", USER, "wait", f"winepipeline/{name}", "--for=jsonpath={.status.run.state}=RUNNING", "--timeout=2m")
    person("-n", USER, "exec", "visitors", "-c", "data", "--", "python", "/visitors/release.py", "wait")
    return str(_status(person, name)["run"]["id"])


def _release_data(person: Kube) -> None:
    person("-n", USER, "exec", "visitors", "-c", "data", "--", "python", "/visitors/release.py", "release")


def _load(person: Kube) -> Load:
    """Read the client's results."""
    return Load.read(person("-n", USER, "logs", "visitors", "-c", "client").splitlines())


def _no_request_failed(person: Kube) -> None:
    """Check that every request was answered until now, and that the client is still sending."""
    before = _load(person).count
    eventually(lambda: _load(person).count > before + 10)
    load = _load(person)
    assert load.failures == (), str(load)


def _evict(kube: Kube, namespace: str, pod: str) -> None:
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": namespace}}
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}/eviction"
    kube("create", "--raw", path, "-f", "-", stdin=json.dumps(eviction))


def _until_another_stops(kube: Kube, name: str) -> None:
    """Wait until the last terminating pod is about to stop: the worst time to evict the serving one."""
    pods = [pod["metadata"] for pod in kube.items("-n", USER, "pods", f"--selector=seldon-deployment-id={name}")]
    ending = [pod for pod in pods if "deletionTimestamp" in pod]
    deleted = [
        datetime.fromisoformat(pod["deletionTimestamp"]) - timedelta(seconds=pod["deletionGracePeriodSeconds"]) for pod in ending
    ]
    stops = max(deleted, default=datetime.min.replace(tzinfo=UTC)) + timedelta(seconds=DRAIN_SECONDS)
    time.sleep(max(0.0, (stops - datetime.now(UTC)).total_seconds() - 1))


def _change(person: Kube, name: str, **spec: Object) -> None:
    person("-n", USER, "patch", "winepipeline", name, "--type=merge", "--patch", json.dumps({"spec": spec}))


def _serves(person: Kube, name: str, revision: int) -> None:
    """Wait until a revision's model is served and the pods of the earlier one are deleted."""
    person("-n", USER, "wait", f"winepipeline/{name}", f"--for=jsonpath={{.status.served.revision}}={revision}", "--timeout=5m")
    _ready(person, name)
    _settled(person, name)


def test_platform_is_installed_in_a_namespace_with_restricted_pod_security(administrator: Kube, archives: Archives) -> None:
    administrator("create", "namespace", PLATFORM)
    administrator("label", "namespace", PLATFORM, "pod-security.kubernetes.io/enforce=restricted")
    _helm(administrator, "install", "wine-sandbox", str(archives.sandbox), "--wait", "--timeout", "5m")


def test_previous_release_of_the_operator_is_ready_in_time(administrator: Kube, archives: Archives) -> None:
    _install_operator(administrator, archives.previous)


def test_platform_passes_the_operators_checks(administrator: Kube) -> None:
    _helm(administrator, "test", "wine-operator", "--timeout", "3m")
    report = administrator("-n", PLATFORM, "logs", "wine-operator-doctor")
    assert re.search(r"^\d+ ok", report, re.MULTILINE), report
    assert "failed" not in report


def test_user_with_edit_rights_gets_a_served_model(person: Kube) -> None:
    for forbidden in (("get", "nodes"), ("get", "pods", "-n", PLATFORM), ("get", "rolebindings", "-n", "default")):
        with pytest.raises(KubeError, match="forbidden"):
            person(*forbidden)
    person.apply(_resource("mlflow", url=TABLE))
    _ready(person, "mlflow")
    (image,) = _servers(person).values()
    assert image.startswith("winepipelines/server:")


def test_client_starts_sending_requests(person: Kube) -> None:
    person.apply(*yaml.safe_load_all(VISITORS.read_text().replace("IMAGE", f"winepipelines/sandbox:{version()}")))
    person("-n", USER, "wait", "pod/visitors", "--for=condition=Ready", "--timeout=60s")
    eventually(lambda: _load(person).count > 0)
    _no_request_failed(person)
    assert all(3 < value < 9 for value in _load(person).values)  # the quality of a wine


def test_upgrade_during_a_run_loses_no_state_and_no_request(administrator: Kube, person: Kube, archives: Archives) -> None:
    _settled(person, "mlflow")
    before, runs, servers = _record(person, "mlflow"), _runs(administrator), _servers(person, "mlflow")
    person.apply(_resource("red", url="http://data.admin.svc.cluster.local:8080/winequality-red.csv"))
    run = _running_run(person, "red")

    options = ("--reset-then-reuse-values", "--wait", "--timeout", "2m")
    _helm(administrator, "upgrade", "wine-operator", str(archives.operator), *options)
    [container] = _operator(administrator)["spec"]["containers"]
    assert container["image"] == f"winepipelines/operator:{version()}"
    columns = administrator.get("customresourcedefinition", "winepipelines.winepipelines.io")["spec"]["versions"][0]
    shipped = yaml.safe_load((ROOT / "crds/winepipelines.yaml").read_text())["spec"]["versions"][0]
    assert columns["additionalPrinterColumns"] == shipped["additionalPrinterColumns"]
    assert _status(person, "red")["run"]["state"] == "RUNNING", "the run must still be running"

    _release_data(person)
    _ready(person, "mlflow")
    assert _servers(person, "mlflow") == servers, "a served model keeps its pods and its server image"
    assert _record(person, "mlflow") == before
    _ready(person, "red")
    status = _status(person, "red")
    assert (status["run"]["id"], status["revision"], len(status["history"])) == (run, 1, 1)
    assert set(_servers(person, "red").values()) == {f"winepipelines/server:{version()}"}, "a new model has the new server image"
    assert len(_runs(administrator)) == len(runs) + 1, "the new operator does not start the run again"
    _no_request_failed(person)


def test_eviction_of_the_operator_during_a_run_loses_no_state(administrator: Kube, person: Kube) -> None:
    _settled(person, "mlflow", "red")
    before, runs = _record(person, "mlflow"), _runs(administrator)
    served, servers = _record(person, "red")["served"], _servers(person, "mlflow")
    _change(person, "red", training={"seed": 7})
    run = _running_run(person, "red")

    old = _operator(administrator)["metadata"]
    _evict(administrator, PLATFORM, old["name"])
    administrator("-n", PLATFORM, "wait", f"pod/{old['name']}", "--for=delete", "--timeout=60s")
    administrator("-n", PLATFORM, "rollout", "status", "deployment/wine-operator", "--timeout=60s")
    assert _operator(administrator)["metadata"]["uid"] != old["uid"]
    assert _status(person, "red")["run"]["state"] == "RUNNING", "the run must still be running"
    assert _status(person, "red")["served"] == served

    _release_data(person)
    _ready(person, "red")
    status = _status(person, "red")
    assert (status["run"]["id"], status["revision"], len(status["history"])) == (run, 2, 2)
    assert len(_runs(administrator)) == len(runs) + 1
    assert _record(person, "mlflow") == before
    assert _servers(person, "mlflow") == servers
    _no_request_failed(person)


def test_promotion_loses_no_request(person: Kube) -> None:
    servers, before = _servers(person, "mlflow"), _load(person).values[-1]
    _change(person, "mlflow", training={"parameters": {"alpha": 0.01}})
    _serves(person, "mlflow", 2)
    assert not _servers(person, "mlflow").keys() & servers.keys(), "another pod serves"
    eventually(lambda: _load(person).values[-1] != before)
    _no_request_failed(person)


def test_change_of_settings_loses_no_request(administrator: Kube, person: Kube, archives: Archives) -> None:
    servers, runs = _servers(person, "mlflow"), _runs(administrator)
    options = ("--reset-then-reuse-values", "--wait", "--timeout", "2m", "--set", "timeouts.progressDeadlineSeconds=800")
    _helm(administrator, "upgrade", "wine-operator", str(archives.operator), *options)
    _ready(person, "mlflow")
    _settled(person, "mlflow")
    assert _servers(person, "mlflow") == servers, "a timeout replaces no pod"
    _change(person, "mlflow", serving={"resources": {"requests": {"cpu": "15m"}}})
    eventually(lambda: not _servers(person, "mlflow").keys() & servers.keys(), 120)
    _serves(person, "mlflow", 2)
    assert _runs(administrator) == runs, "no model is trained"
    _no_request_failed(person)


def test_rollback_loses_no_request(person: Kube) -> None:
    servers, before = _servers(person, "mlflow"), _load(person).values[-1]
    person("-n", USER, "annotate", "winepipeline", "mlflow", "winepipelines.io/rollback=1")
    person("-n", USER, "wait", "winepipeline/mlflow", "--for=jsonpath={.status.served.revision}=3", "--timeout=5m")
    _settled(person, "mlflow")
    assert _status(person, "mlflow")["served"]["model"]["revision"] == 1, "revision 3 has the model of revision 1"
    assert not _servers(person, "mlflow").keys() & servers.keys()
    eventually(lambda: _load(person).values[-1] != before)
    _no_request_failed(person)
    _change(person, "mlflow", training={"parameters": {"alpha": 0.1}})  # another spec ends the rollback
    _serves(person, "mlflow", 4)
    _no_request_failed(person)


def test_eviction_of_the_serving_pod_loses_no_request(administrator: Kube, person: Kube) -> None:
    _until_another_stops(administrator, "mlflow")
    [uid] = _servers(person, "mlflow")
    pods = administrator.items("-n", USER, "pods", "--selector=seldon-deployment-id=mlflow")  # some may be terminating
    [name] = [pod["metadata"]["name"] for pod in pods if pod["metadata"]["uid"] == uid]
    _evict(administrator, USER, name)
    person("-n", USER, "wait", f"pod/{name}", "--for=delete", "--timeout=120s")
    _settled(person, "mlflow")
    [successor] = _servers(person, "mlflow")
    assert successor != uid
    _no_request_failed(person)


def test_served_models_survive_uninstall(administrator: Kube, person: Kube) -> None:
    _settled(person, "mlflow", "red")
    before, servers = {name: _record(person, name) for name in ("mlflow", "red")}, _servers(person)
    _helm(administrator, "uninstall", "wine-operator", "--wait")
    administrator(
        "-n", PLATFORM, "wait", "pod", "--selector=app.kubernetes.io/component=operator", "--for=delete", "--timeout=60s"
    )
    assert {name: administrator.get("-n", USER, "winepipeline", name)["metadata"]["uid"] for name in before} == {
        name: record["uid"] for name, record in before.items()
    }
    assert _servers(administrator) == servers
    _no_request_failed(person)


def test_reinstall_adopts_resources_without_a_run_or_a_rollout(administrator: Kube, person: Kube, archives: Archives) -> None:
    names = ("mlflow", "red")
    before = {name: administrator.get("-n", USER, "winepipeline", name) for name in names}
    runs, servers, deployments = _runs(administrator), _servers(administrator), _generations(administrator)
    _install_operator(administrator, archives.operator)
    eventually(lambda: _reconciles(administrator) >= len(names))  # each resource was reconciled
    for name in names:
        _ready(person, name)
        assert administrator.get("-n", USER, "winepipeline", name) == before[name], "a settled resource is not written"
    assert (_runs(administrator), _servers(administrator), _generations(administrator)) == (runs, servers, deployments)
    _no_request_failed(person)


def test_deletion_removes_the_model_of_that_resource_only(administrator: Kube, person: Kube) -> None:
    person("-n", USER, "delete", "winepipeline", "red", "--timeout=60s")
    person("-n", USER, "wait", "pod", "--selector=seldon-deployment-id=red", "--for=delete", "--timeout=60s")
    _no_request_failed(person)


def test_no_request_failed_in_total(person: Kube) -> None:
    load = _load(person)
    print(f"\n{load}")
    [begun] = (
        datetime.fromisoformat(one["state"]["running"]["startedAt"])
        for one in person.get("-n", USER, "pod", "visitors")["status"]["containerStatuses"]
        if one["name"] == "client"
    )
    assert load.failures == ()
    assert load.count >= 9 * (datetime.now(UTC) - begun).total_seconds(), "the client must keep its rate"


def _settled(person: Kube, *names: str) -> None:
    """Wait until nothing is left to do: the alias is set, which comes after Ready, and old pods are deleted."""
    for name in names:
        person("-n", USER, "wait", f"winepipeline/{name}", "--for=jsonpath={.status.served.alias}=champion", "--timeout=60s")
    for deployment in person.items("-n", USER, "deployments"):
        person("-n", USER, "rollout", "status", f"deployment/{deployment['metadata']['name']}", "--timeout=2m")
    gone = "--field-selector=status.phase!=Running"
    person("-n", USER, "wait", "pod", "--selector=seldon.io/model=true", gone, "--for=delete", "--timeout=60s")


def _generations(kube: Kube) -> dict[str, int]:
    """Map the serving objects to their generation."""
    return {
        f"{item['kind']} {item['metadata']['name']}": item["metadata"]["generation"]
        for item in kube.items("-n", USER, "deployments,seldondeployments")
    }


def _reconciles(kube: Kube) -> int:
    """Return the number of reconciles, from the operator's metrics."""
    text = kube.says("get", "--raw", f"/api/v1/namespaces/{PLATFORM}/services/wine-operator-metrics:metrics/proxy/metrics")
    found = re.search(r"^winepipelines_reconcile_seconds_count (\S+)", text, re.MULTILINE)
    return int(float(found[1])) if found else 0
