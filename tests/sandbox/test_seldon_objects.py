"""The objects that the Seldon stand-in creates, and the specs that it refuses."""

import base64
import copy
import json
from typing import Any

import pytest

from sandbox.seldon import names, objects, validation

Json = dict[str, Any]


def sdep(*predictors: Json, name: str = "mlflow", **spec: Any) -> Json:
    meta = {"name": name, "namespace": "admin", "uid": "1-2-3"}
    return {"metadata": meta, "spec": {"predictors": list(predictors) or [predictor()], **spec}}


def predictor(name: str = "wine-super-model", **more: Any) -> Json:
    graph: Json = {
        "name": "classifier",
        "implementation": "MLFLOW_SERVER",
        "modelUri": "s3://mlflow/1/model",
        "envSecretRefName": "seldon-init-container-secret",
    }
    containers = [{"name": "classifier", "image": "winepipelines/server:0.1.0", "env": [{"name": "A", "value": "b"}]}]
    return {"name": name, "graph": graph, "componentSpecs": [{"spec": {"containers": containers}}], **more}


def built(*arguments: Json, **spec: Any) -> objects.Predictor:
    (found,) = objects.predictors(sdep(*arguments, **spec))
    return found


def template(found: objects.Predictor) -> Json:
    inside: Json = found.deployment["spec"]["template"]["spec"]
    return inside


def variables(container: Json) -> dict[str, str]:
    return {variable["name"]: variable["value"] for variable in container["env"]}


def test_names_follow_seldons_rules() -> None:
    found = built()
    assert found.deployment["metadata"]["name"] == "mlflow-wine-super-model-0-classifier"
    assert [service["metadata"]["name"] for service in found.services] == [
        "mlflow-wine-super-model",
        "mlflow-wine-super-model-classifier",
    ]
    assert [c["name"] for c in template(found)["containers"]] == ["classifier", "seldon-container-engine"]
    assert [c["name"] for c in template(found)["initContainers"]] == ["classifier-model-initializer"]


def test_service_has_the_containers_ports_without_an_executor() -> None:
    spec = predictor(annotations={"seldon.io/no-engine": "true"})
    spec["componentSpecs"][0]["spec"]["containers"][0]["ports"] = [{"name": "http", "containerPort": 8000, "protocol": "TCP"}]
    for protocol in ("seldon", "v2"):
        found = built(copy.deepcopy(spec), protocol=protocol)
        (container,) = template(found)["containers"]
        ports = {port["name"]: port["containerPort"] for port in container["ports"] if port["name"] != "metrics"}
        assert ports == {"http": 8000, "grpc": 9500}
        assert variables(container)["PREDICTIVE_UNIT_HTTP_SERVICE_PORT"] == "8000"
        assert variables(container)["MLSERVER_HTTP_PORT"] == "8000"
        for service in found.services:
            assert {port["name"]: port["targetPort"] for port in service["spec"]["ports"]} == {"http": 8000, "grpc": 9500}
            assert service["metadata"]["annotations"] == {"seldon.io/no-engine": "true"}
        assert "seldon-deployment-contains-svcorch" not in found.deployment["metadata"]["labels"]
        with_executor = built(predictor(), protocol=protocol)
        assert found.deployment["spec"]["selector"] == with_executor.deployment["spec"]["selector"], "it cannot be changed"
        assert found.services[0]["spec"]["selector"] == with_executor.services[0]["spec"]["selector"]


def test_long_names_are_hashed_as_by_seldon() -> None:
    longest = "a" * 46  # with "-wine-super-model" 63 characters
    assert names.service(longest, "wine-super-model") == f"{longest}-wine-super-model"
    seldons_own = "C12345678912345678901234567890123456789012345678901234567890"  # seldondeployment_types_test.go
    assert names.workload("s", seldons_own, 0, ["m"]) == "seldon-10eb0f02cdc303e74043e57c1d8147ab"
    assert names.service(longest + "a", "wine-super-model").startswith("seldon-")
    assert names.seldon_id("b" * 64).startswith("seldon-")
    assert names.suffixed("classifier", "model-initializer") == "classifier-model-initializer"
    assert names.suffixed("c" * 57, "model-initializer") == "c" * 57 + "-model"  # cut to 63, no dash at the end


def test_initializer_copies_the_model_with_the_secret() -> None:
    (initializer,) = template(built())["initContainers"]
    assert initializer["args"] == ["s3://mlflow/1/model", "/mnt/models"]
    assert initializer["envFrom"] == [{"secretRef": {"name": "seldon-init-container-secret"}}]
    mounts = {c["name"]: c["volumeMounts"] for c in template(built())["containers"]}
    shared = {"name": "classifier-provision-location", "mountPath": "/mnt/models", "readOnly": True}
    assert shared in mounts["classifier"]
    assert shared not in mounts["seldon-container-engine"]


def test_container_has_seldons_environment() -> None:
    container = template(built())["containers"][0]
    env = variables(container)
    assert container["image"] == "winepipelines/server:0.1.0"
    assert {"name": "http", "containerPort": 9000, "protocol": "TCP"} in container["ports"]
    assert json.loads(env["PREDICTIVE_UNIT_PARAMETERS"]) == [{"name": "model_uri", "type": "STRING", "value": "/mnt/models"}]
    assert (env["PREDICTIVE_UNIT_ID"], env["PREDICTIVE_UNIT_HTTP_SERVICE_PORT"], env["A"]) == ("classifier", "9000", "b")
    assert (env["MLSERVER_MODEL_NAME"], env["SELDON_DEPLOYMENT_ID"]) == ("classifier", "mlflow")


def test_container_has_mlservers_environment_with_protocol_v2() -> None:
    found = built(protocol="v2")
    env = variables(template(found)["containers"][0])
    assert "PREDICTIVE_UNIT_PARAMETERS" not in env
    assert env["MLSERVER_MODEL_URI"] == "/mnt/models"
    assert env["MLSERVER_MODEL_IMPLEMENTATION"] == "mlserver_mlflow.MLflowRuntime"
    assert found.protocol == "v2"


def test_container_has_mlservers_ports_and_probe_paths_with_protocol_v2() -> None:
    changed = predictor()
    probe = {"httpGet": {"path": "/health/status", "port": 9000}, "periodSeconds": 7}
    changed["componentSpecs"][0]["spec"]["containers"][0]["readinessProbe"] = probe
    container = template(built(changed, protocol="v2"))["containers"][0]
    assert container["readinessProbe"]["httpGet"]["path"] == "/v2/health/ready"
    assert container["readinessProbe"]["periodSeconds"] == 7
    assert [port["name"] for port in container["ports"]] == ["grpc", "http"]


def test_prepackaged_server_gets_its_image() -> None:
    bare = predictor()
    del bare["componentSpecs"]
    found = built(bare)
    assert template(found)["containers"][0]["image"] == "docker.io/seldonio/mlflowserver:1.18.2"
    assert found.deployment["metadata"]["name"] == "mlflow-wine-super-model-0-classifier"


@pytest.mark.parametrize("change", [{"traffic": 100}, {"replicas": 3}])
def test_traffic_and_replicas_do_not_change_the_pods(change: Json) -> None:
    before, after = built(), built(predictor(**change))
    assert template(before) == template(after)


def test_another_model_changes_the_pods() -> None:
    other = predictor()
    other["graph"]["modelUri"] += "2"
    assert template(built()) != template(built(other))
    engine = variables(template(built(other))["containers"][1])["ENGINE_PREDICTOR"]
    assert json.loads(base64.b64decode(engine))["graph"]["modelUri"] == "s3://mlflow/1/model2"


def test_replicas_of_the_innermost_field_apply() -> None:
    assert built().deployment["spec"]["replicas"] == 1
    assert built(replicas=4).deployment["spec"]["replicas"] == 4
    assert built(predictor(replicas=3), replicas=4).deployment["spec"]["replicas"] == 3
    near = predictor(replicas=3)
    near["componentSpecs"][0]["replicas"] = 0
    assert built(near).deployment["spec"]["replicas"] == 0


@pytest.mark.parametrize(
    "metrics",
    [
        {"metrics": [{"type": "Resource", "resource": {"name": "cpu", "targetAverageUtilization": 70}}]},
        {
            "metricsv2": [
                {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}}
            ]
        },
    ],
)
def test_autoscaler_owns_the_replicas(metrics: Json) -> None:
    scaled = predictor()
    scaled["componentSpecs"][0]["hpaSpec"] = {"minReplicas": 1, "maxReplicas": 5, **metrics}
    found = built(scaled)
    assert "replicas" not in found.deployment["spec"]
    assert found.autoscaler
    (metric,) = found.autoscaler["spec"]["metrics"]
    assert metric["resource"]["target"] == {"type": "Utilization", "averageUtilization": 70}
    assert found.autoscaler["metadata"]["name"] == found.deployment["metadata"]["name"]


def test_objects_are_owned_by_the_seldondeployment() -> None:
    found = built()
    for item in (found.deployment, *found.services):
        (owner,) = item["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["name"], owner["uid"], owner["controller"]) == ("SeldonDeployment", "mlflow", "1-2-3", True)
        assert item["metadata"]["labels"]["seldon-deployment-id"] == "mlflow"


def test_services_select_the_pods() -> None:
    found = built()
    labels = found.deployment["spec"]["template"]["metadata"]["labels"]
    for selector in (found.deployment["spec"]["selector"]["matchLabels"], *(s["spec"]["selector"] for s in found.services)):
        assert selector.items() <= labels.items()


def test_building_objects_does_not_change_the_resource() -> None:
    given = sdep(predictor())
    before = copy.deepcopy(given)
    objects.predictors(given)
    assert given == before


def test_only_predictor_gets_all_traffic() -> None:
    assert built().traffic == 100
    two = objects.predictors(sdep(predictor("main", traffic=90), predictor("canary", traffic=10)))
    assert [found.traffic for found in two] == [90, 10]


def without_image(**graph: Any) -> Json:
    bare = predictor()
    del bare["componentSpecs"]
    bare["graph"] |= graph
    return bare


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ({"predictors": [without_image(implementation="NOPE")]}, "No entry in predictors map for NOPE"),
        ({"predictors": [without_image(children=[{"name": "b"}])]}, "the sandbox serves graphs of one node"),
    ],
)
def test_unsupported_spec_is_refused(spec: Any, problem: str) -> None:
    assert any(problem in found for found in validation.problems(spec))


@pytest.mark.parametrize(
    "spec",
    [
        {"predictors": [predictor()]},
        {"predictors": [predictor(traffic=100)]},
        {"predictors": [predictor("a", traffic=90), predictor("b", traffic=10)]},
        {"predictors": [predictor("a", traffic=100), predictor("b", shadow=True)]},
    ],
)
def test_valid_spec_is_accepted(spec: Any) -> None:
    assert validation.problems(spec) == []
