"""What KServe makes of an InferenceService in Standard mode, before any pod runs."""

import json
from typing import Any

import pytest
from contract.kserve.target import (
    CONTAINER,
    INITIALIZER,
    NAME,
    PREFIX,
    RUNTIME,
    SECRET,
    SERVICE_LABEL,
    SERVICES,
    SOURCE,
    STANDARD_ONLY,
    Body,
    Cluster,
    condition,
    model_status,
    source,
)
from kubernetes.aio import client, config
from support.kubectl import Refused

from winepipelines.platform.kubernetes import Kubernetes
from winepipelines.serving.kserve.releases import Detection

pytestmark = STANDARD_ONLY

URI, OTHER = "s3://no-such-bucket/model/", "s3://no-such-bucket/other/"
PREDICTOR = f"{NAME}-predictor"
HASH = "pod-template-hash"


def _hash(cluster: Cluster) -> str:
    """Wait for the pod of the present template; return the template's hash."""
    generation = cluster.live("deployments", PREDICTOR)["metadata"]["generation"]
    cluster.wait("deployments", lambda item: item.get("status", {}).get("observedGeneration", 0) >= generation, PREDICTOR)
    newest = max(cluster.pods(), key=lambda pod: int(pod["metadata"]["resourceVersion"]))
    return str(newest["metadata"]["labels"][HASH])


def test_deployment_and_service_have_the_names_labels_and_owner_of_the_predictor(cluster: Cluster) -> None:
    stored = cluster.serve(URI)
    deployment = cluster.deployment(URI)
    service = cluster.live("services", PREDICTOR)
    labels = {"app": f"isvc.{PREDICTOR}", "component": "predictor", SERVICE_LABEL: NAME}
    for made in (deployment, service):
        assert made["metadata"]["labels"].items() >= labels.items()
        [owner] = made["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["name"], owner["uid"]) == ("InferenceService", NAME, stored["metadata"]["uid"])
    [port] = service["spec"]["ports"]
    assert (port["port"], port["targetPort"]) == (80, 8080)
    assert service["spec"]["selector"] == {"app": labels["app"]}
    assert deployment["spec"]["template"]["metadata"]["labels"].items() >= labels.items()
    assert deployment["spec"]["progressDeadlineSeconds"] == 600
    assert cluster.get("horizontalpodautoscalers", PREDICTOR) is None


def test_template_names_the_model_and_only_pods_have_the_initializer(cluster: Cluster) -> None:
    cluster.serve(URI)
    template = cluster.deployment(URI)["spec"]["template"]
    assert template["metadata"]["annotations"][SOURCE] == URI
    assert not template["spec"].get("initContainers")
    pod = cluster.wait("pods", lambda item: item, f"{SERVICE_LABEL}={NAME}")
    [initializer] = pod["spec"]["initContainers"]
    assert (initializer["name"], initializer["args"]) == (INITIALIZER, [URI, "/mnt/models"])
    assert initializer["terminationMessagePolicy"] == "FallbackToLogsOnError"
    assert initializer.get("securityContext") == _restrictions_of_the_storage_container(cluster)
    keys = [each["valueFrom"]["secretKeyRef"] for each in initializer["env"] if "valueFrom" in each]
    assert keys == [{"name": SECRET, "key": "AWS_ACCESS_KEY_ID"}, {"name": SECRET, "key": "AWS_SECRET_ACCESS_KEY"}]
    assert "AWS_ENDPOINT_URL" in {each["name"] for each in initializer["env"]}


def _restrictions_of_the_storage_container(cluster: Cluster) -> Body | None:
    """Return the security context in the ClusterStorageContainer for s3://, if there is one; KServe has no other source of it."""
    found = json.loads(cluster.run("get", "clusterstoragecontainers", "--output=json"))["items"]
    specs = [item["spec"] for item in found if {"prefix": "s3://"} in item["spec"]["supportedUriFormats"]]
    return specs[0]["container"].get("securityContext") if specs else None


def test_container_of_the_pod_is_the_runtimes_with_the_models_changes(cluster: Cluster) -> None:
    probe: Body = {
        "httpGet": {"path": "/health/status", "port": 8080, "scheme": "HTTP"},
        "periodSeconds": 2,
        "failureThreshold": 4,
    }
    model: dict[str, Any] = {
        "image": "wine.invalid/server:2",
        "env": [{"name": "MODEL_DIGEST", "value": "d1"}],
        "startupProbe": probe,
        "securityContext": {"allowPrivilegeEscalation": False},
    }
    cluster.serve(URI, **model)
    [container] = cluster.deployment(URI)["spec"]["template"]["spec"]["containers"]
    assert (container["name"], container["image"]) == (CONTAINER, "wine.invalid/server:2")
    assert {each["name"] for each in container["env"]} >= {"MODEL_DIGEST", "MLSERVER_HTTP_PORT", "MLSERVER_MODEL_NAME"}
    assert container["startupProbe"].items() >= probe.items()
    assert container["securityContext"] == {"allowPrivilegeEscalation": False}
    assert container["lifecycle"]["preStop"] == {"exec": {"command": ["sleep", "5"]}}
    assert container["terminationMessagePolicy"] == "FallbackToLogsOnError"


def test_controller_adds_little_to_the_object_and_keeps_its_spec(cluster: Cluster) -> None:
    cluster.serve(URI)
    cluster.deployment(URI)
    live = cluster.wait(SERVICES, lambda item: item["metadata"].get("finalizers"), NAME)
    if cluster.target.is_latest:
        assert live["metadata"]["annotations"]["modelFormat"] == "winepipelines"
    assert live["metadata"]["finalizers"] == ["inferenceservice.finalizers"]
    model = live["spec"]["predictor"]["model"]
    added = {"name": "", "resources": {}}
    assert {key: value for key, value in model.items() if key not in added} == {
        "modelFormat": {"name": "winepipelines"},
        "runtime": RUNTIME,
        "storageUri": URI,
    }
    assert {key: model[key] for key in added} == added
    assert live["spec"]["predictor"].keys() - {"automountServiceAccountToken"} == {"minReplicas", "model"}


def test_earlier_name_of_the_mode_is_rewritten_or_rejected_in_updates(cluster: Cluster) -> None:
    cluster.serve(URI, annotations={"deploymentMode": "RawDeployment"})
    cluster.deployment(URI)
    live = cluster.wait(SERVICES, lambda item: (item.get("status") or {}).get("deploymentMode"), NAME)
    assert live["status"]["deploymentMode"] == "Standard"
    if cluster.target.is_latest:
        cluster.serve(OTHER, annotations={"deploymentMode": "RawDeployment"})
    else:
        with pytest.raises(Refused, match="deploymentMode"):
            cluster.serve(OTHER, annotations={"deploymentMode": "RawDeployment"})
        cluster.serve(OTHER)  # with the name that KServe recorded
    cluster.deployment(OTHER)


async def test_schema_of_the_crd_tells_the_release(cluster: Cluster) -> None:
    """Read as the operator does, with the schema's real size."""
    configuration = client.Configuration()
    await config.load_kube_config(str(cluster.target.kubeconfig), client_configuration=configuration)
    kubernetes = Kubernetes(client.ApiClient(configuration))
    try:
        found = await Detection().releases(kubernetes)
    finally:
        await kubernetes.close()
    assert str(found) == ("0.20 or later" if cluster.target.is_latest else "0.16 to 0.19")


def test_observed_generation_is_that_of_the_deployment(cluster: Cluster) -> None:
    cluster.serve(URI)
    cluster.deployment(URI)
    cluster.patch(SERVICES, NAME, {"spec": {"predictor": {"minReplicas": 2}}})
    cluster.patch(SERVICES, NAME, {"spec": {"predictor": {"minReplicas": 1}}})
    cluster.serve(OTHER)
    deployment = cluster.deployment(OTHER)
    generation = deployment["metadata"]["generation"]
    live = cluster.wait(SERVICES, lambda item: (item.get("status") or {}).get("observedGeneration", 0) >= generation, NAME)
    newest = cluster.live("deployments", PREDICTOR)["metadata"]["generation"]
    assert live["status"]["observedGeneration"] <= newest
    assert live["metadata"]["generation"] == 4


def test_address_is_set_before_anything_serves(cluster: Cluster) -> None:
    cluster.serve(URI)
    live = cluster.wait(SERVICES, lambda item: (item.get("status") or {}).get("address"), NAME)
    assert live["status"]["address"]["url"] == f"http://{PREDICTOR}.{cluster.namespace}.svc.cluster.local"
    assert condition(live, "Ready")["status"] != "True"


@pytest.mark.parametrize("part", ["annotations", "labels"])
def test_metadata_reaches_the_template_and_replaces_pods(cluster: Cluster, part: str) -> None:
    cluster.serve(URI)
    cluster.deployment(URI)
    before = _hash(cluster)
    cluster.patch(SERVICES, NAME, {"metadata": {part: {"winepipelines.io/example": "changed"}}})
    changed = cluster.wait(
        "deployments", lambda item: "winepipelines.io/example" in item["spec"]["template"]["metadata"].get(part, {}), PREDICTOR
    )
    assert source(changed) == URI
    cluster.wait("pods", lambda item: item["metadata"]["labels"][HASH] != before, f"{SERVICE_LABEL}={NAME}")


def test_changed_runtime_replaces_the_pods_of_its_users(cluster: Cluster) -> None:
    cluster.serve(URI)
    cluster.deployment(URI)
    before = _hash(cluster)
    cluster.runtime(env=[{"name": "MLSERVER_HTTP_PORT", "value": "8080"}, {"name": "ANOTHER", "value": "1"}])
    cluster.wait("pods", lambda item: item["metadata"]["labels"][HASH] != before, f"{SERVICE_LABEL}={NAME}")


def test_changes_to_the_deployment_are_undone(cluster: Cluster) -> None:
    cluster.serve(URI)
    first = cluster.deployment(URI)
    cluster.run("scale", "deployment", PREDICTOR, "--replicas=3")
    cluster.wait("deployments", lambda item: item["metadata"]["generation"] > 2 and item["spec"]["replicas"] == 1, PREDICTOR)
    cluster.run("delete", "deployment", PREDICTOR, "--wait=false")
    again = cluster.wait("deployments", lambda item: item["metadata"]["uid"] != first["metadata"]["uid"], PREDICTOR)
    assert source(again) == URI


def test_autoscaler_is_made_on_request_and_owns_the_replicas(cluster: Cluster) -> None:
    cluster.serve(URI)
    cluster.deployment(URI)
    before = _hash(cluster)
    scaling = {"minReplicas": 2, "maxReplicas": 4, "scaleMetric": "cpu", "scaleTarget": 60}
    cluster.patch(
        SERVICES, NAME, {"metadata": {"annotations": {PREFIX + "autoscalerClass": "hpa"}}, "spec": {"predictor": scaling}}
    )
    autoscaler = cluster.wait("horizontalpodautoscalers", lambda item: item, PREDICTOR)
    assert (autoscaler["spec"]["minReplicas"], autoscaler["spec"]["maxReplicas"]) == (2, 4)
    [metric] = autoscaler["spec"]["metrics"]
    assert metric["resource"] == {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 60}}
    cluster.wait("pods", lambda item: item["metadata"]["labels"][HASH] != before, f"{SERVICE_LABEL}={NAME}")
    cluster.run("scale", "deployment", PREDICTOR, "--replicas=3")
    cluster.patch(SERVICES, NAME, {"spec": {"predictor": {"maxReplicas": 5}}})
    cluster.wait("horizontalpodautoscalers", lambda item: item["spec"]["maxReplicas"] == 5, PREDICTOR)
    assert cluster.live("deployments", PREDICTOR)["spec"]["replicas"] == 3


def test_stop_annotation_deletes_deployment_and_service(cluster: Cluster) -> None:
    cluster.serve(URI)
    cluster.deployment(URI)
    cluster.patch(SERVICES, NAME, {"metadata": {"annotations": {PREFIX + "stop": "true"}}})
    cluster.wait(SERVICES, lambda item: condition(item, "Stopped")["status"] == "True", NAME)
    cluster.run("wait", "--for=delete", f"deployment/{PREDICTOR}", f"service/{PREDICTOR}", "--timeout=30s")


def test_deleted_service_takes_its_objects_along(cluster: Cluster) -> None:
    cluster.serve(URI)
    cluster.deployment(URI)
    cluster.run("delete", SERVICES, NAME, "--timeout=30s")
    cluster.run("wait", "--for=delete", f"deployment/{PREDICTOR}", f"service/{PREDICTOR}", "--timeout=60s")


def test_mode_cannot_change_later(cluster: Cluster) -> None:
    cluster.serve(URI)
    cluster.wait(SERVICES, lambda item: (item.get("status") or {}).get("deploymentMode"), NAME)
    with pytest.raises(Refused, match="deploymentMode"):
        cluster.serve(URI, annotations={"deploymentMode": "Serverless"})


@pytest.mark.parametrize("name", ["1wine", "wine.red"])
def test_name_that_is_not_a_dns_label_is_rejected(cluster: Cluster, name: str) -> None:
    with pytest.raises(Refused, match="is invalid"):
        cluster.serve(URI, name)


@pytest.mark.parametrize("excess", [0, 1])
def test_host_name_of_the_predictor_has_at_most_63_characters(cluster: Cluster, excess: int) -> None:
    length = 63 - len("-predictor-") - len(cluster.namespace) + excess
    name = "w" * length
    cluster.serve(URI, name)
    if not excess:
        assert source(cluster.deployment(URI, name)) == URI
        return
    too_long = "must be no more than 63 characters"
    if cluster.target.is_latest:
        live = cluster.wait(SERVICES, lambda item: condition(item, "Ready").get("reason") == "ReconcileFailed", name)
        assert too_long in condition(live, "Ready")["message"]
    else:  # the status does not say it, an Event does
        cluster.wait("events", lambda item: item["involvedObject"]["name"] == name and too_long in item["message"])
    assert cluster.get("deployments", f"{name}-predictor") is None


def test_unknown_field_of_the_spec_is_rejected(cluster: Cluster) -> None:
    with pytest.raises(Refused, match="not declared in schema"):
        cluster.serve(URI, noSuchField=1)


def test_missing_runtime_is_an_invalid_spec_and_makes_no_deployment(cluster: Cluster) -> None:
    cluster.serve(URI, runtime="missing")
    live = cluster.wait(SERVICES, lambda item: model_status(item)[0] == "InvalidSpec", NAME)
    assert model_status(live) == ("InvalidSpec", "FailedToLoad", "RuntimeNotRecognized")
    assert condition(live, "Ready")["status"] == ("Unknown" if cluster.target.is_latest else "")
    assert cluster.get("deployments", PREDICTOR) is None
