"""Manifests are data: no value can become structure, and what others add to an object is no difference."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.rollouts import one

from winepipelines.platform.answers import _predictions, _request
from winepipelines.platform.compiled import template_in
from winepipelines.platform.kubeflow import Kubeflow
from winepipelines.platform.manifests import Manifests, covers
from winepipelines.platform.namespace import Namespace
from winepipelines.platform.records import Example
from winepipelines.platform.seldon import Seldon, _is_applied
from winepipelines.resource.errors import Refused
from winepipelines.resource.pipeline import WinePipeline
from winepipelines.resource.spec import Protocol, Runtime, Spec
from winepipelines.resource.status import Status
from winepipelines.settings import Settings

SETTINGS = Settings(
    kfp_url="http://kfp",
    mlflow_url="http://mlflow",
    s3_endpoint_url="http://minio",
    steps_image="registry/steps:1",
    server_image="s:1",
)
MANIFESTS = Manifests(SETTINGS.templates)
NOBODY: Any = None  # building asks no server
SPEC = Spec.model_validate({"data": {"url": "http://data/wine.csv"}})
PIPELINE = WinePipeline("admin", "mlflow", "0123456789ab", 1, "1", SPEC, Status())
OWN = Runtime.MLFLOWSERVER
HOSTILE = '"}}\n---\nkind: ClusterRoleBinding # {{ 7 * 7 }} {% raw %}'


def test_the_deployment_is_the_guides() -> None:
    manifest = Seldon(NOBODY, MANIFESTS, SETTINGS, NOBODY).manifest(PIPELINE, one(3, "s3://mlflow/1/abc/artifacts/model"))
    [predictor] = manifest["spec"]["predictors"]
    assert predictor["name"] == "wine-super-model"
    assert predictor["graph"]["name"] == "classifier"
    assert predictor["graph"]["modelUri"] == "s3://mlflow/1/abc/artifacts/model"
    assert predictor["graph"]["envSecretRefName"] == "seldon-init-container-secret"
    [container] = predictor["componentSpecs"][0]["spec"]["containers"]
    assert (container["name"], container["image"]) == ("classifier", "s:1")
    assert manifest["metadata"]["ownerReferences"][0]["uid"] == PIPELINE.uid


def test_hostile_values_stay_values() -> None:
    manifest = Seldon(NOBODY, MANIFESTS, SETTINGS, NOBODY).manifest(PIPELINE, one(1, HOSTILE))
    assert manifest["spec"]["predictors"][0]["graph"]["modelUri"] == HOSTILE
    children = Namespace(NOBODY, MANIFESTS, SETTINGS).wanted(PIPELINE, {"data": {"RCLONE_CONFIG_S3_REGION": HOSTILE}})
    assert [child["kind"] for child in children] == ["PodDefault", "PodDefault", "Secret"]
    assert children[2]["data"] == {"RCLONE_CONFIG_S3_REGION": HOSTILE}


def test_the_steps_secret_has_mlflows_credentials_and_nothing_else() -> None:
    settings = replace(SETTINGS, mlflow_secret="mlflow-tracking-credentials")
    encoded = {
        "MLFLOW_TRACKING_TOKEN": "dG9rZW4K",
        "database-password": "c2VjcmV0",
        "MLFLOW_TRACKING_USERNAME": "",
    }  # "token" and a line's end
    *_, secret = Namespace(NOBODY, MANIFESTS, settings).wanted(PIPELINE, {"data": {}}, {"data": encoded})
    assert secret["metadata"]["name"] == "wine-mlflow-credentials"
    assert secret["metadata"]["ownerReferences"][0]["uid"] == PIPELINE.uid
    assert secret["data"] == {"MLFLOW_TRACKING_TOKEN": "dG9rZW4="}


def test_only_settings_of_the_object_store_are_copied_for_the_initializer() -> None:
    """It has the whole Secret as its environment, and rclone runs the command of RCLONE_PASSWORD_COMMAND."""
    source = {
        "RCLONE_CONFIG_S3_TYPE": "czM=",
        "RCLONE_PASSWORD_COMMAND": "aWQ=",
        "LD_PRELOAD": "eA==",
        "RCLONE_CONFIG_S3_": "eA==",
    }
    *_, secret = Namespace(NOBODY, MANIFESTS, SETTINGS).wanted(PIPELINE, {"data": source})
    assert secret["data"] == {"RCLONE_CONFIG_S3_TYPE": "czM="}


def test_restrictions_that_somebody_has_taken_away_differ() -> None:
    wanted = Seldon(NOBODY, MANIFESTS, SETTINGS, NOBODY).manifest(PIPELINE, one(1, "s3://mlflow/1"))
    for change in ("automountServiceAccountToken", "securityContext"):
        live = yaml.safe_load(yaml.safe_dump(wanted))
        del live["spec"]["predictors"][0]["componentSpecs"][0]["spec"][change]
        assert not _is_applied(live, wanted)
    live = yaml.safe_load(yaml.safe_dump(wanted))
    live["spec"]["predictors"][0]["componentSpecs"][0]["spec"]["containers"][0]["securityContext"] = {"privileged": True}
    assert not _is_applied(live, wanted)


def test_the_same_resource_makes_the_same_manifest() -> None:
    seldon = Seldon(NOBODY, MANIFESTS, SETTINGS, NOBODY)
    first, second = (seldon.manifest(PIPELINE, one(1, "s3://mlflow/1")) for _ in range(2))
    assert first == second
    assert _is_applied(first, second)
    assert not _is_applied(first, seldon.manifest(PIPELINE, one(2, "s3://mlflow/2")))


def test_an_edited_deployment_differs() -> None:
    seldon = Seldon(NOBODY, MANIFESTS, SETTINGS, NOBODY)
    wanted = seldon.manifest(PIPELINE, one(1, "s3://mlflow/1"))
    live = yaml.safe_load(yaml.safe_dump(wanted))
    live["spec"]["predictors"][0]["graph"]["logger"] = {"mode": "all"}  # what a webhook adds is no difference
    assert _is_applied(live, wanted)
    live["spec"]["predictors"][0]["graph"]["modelUri"] = "s3://elsewhere"
    assert not _is_applied(live, wanted)


def test_a_deployment_that_was_given_an_executor_differs() -> None:
    """Executor and server would both listen on port 8000."""
    wanted = Seldon(NOBODY, MANIFESTS, SETTINGS, NOBODY).manifest(PIPELINE, one(1, "s3://mlflow/1"))
    live = yaml.safe_load(yaml.safe_dump(wanted))
    live["spec"]["predictors"][0]["annotations"]["mine"] = "yes"
    assert _is_applied(live, wanted)
    del live["spec"]["predictors"][0]["annotations"]["seldon.io/no-engine"]
    assert not _is_applied(live, wanted)


def _served(**serving: Any) -> WinePipeline:
    return replace(PIPELINE, spec=Spec.model_validate({"data": {"url": "http://data/wine.csv"}, "serving": serving}))


AUTOSCALING = {"minReplicas": 2, "maxReplicas": 5, "targetCPUUtilization": 60}


def test_replicas_that_an_autoscaler_owns_are_neither_applied_nor_compared() -> None:
    seldon = Seldon(NOBODY, MANIFESTS, SETTINGS, NOBODY)
    wanted = seldon.manifest(_served(replicas=3, autoscaling=AUTOSCALING), one(1, "s3://mlflow/1"))
    [predictor] = wanted["spec"]["predictors"]
    assert "replicas" not in predictor
    live = yaml.safe_load(yaml.safe_dump(wanted))
    live["spec"]["predictors"][0]["replicas"] = 4
    assert _is_applied(live, wanted)
    live["spec"]["predictors"][0]["componentSpecs"][0]["hpaSpec"]["maxReplicas"] = 50
    assert not _is_applied(live, wanted)


def test_autoscaling_is_a_utilization_of_what_the_container_requests() -> None:
    seldon = Seldon(NOBODY, MANIFESTS, SETTINGS, NOBODY)

    def part(**serving: Any) -> dict[str, Any]:
        found: dict[str, Any] = seldon.manifest(_served(**serving), one(1, "s3://m"))["spec"]["predictors"][0]["componentSpecs"][
            0
        ]
        return found

    autoscaled = part(autoscaling=AUTOSCALING)
    assert (autoscaled["hpaSpec"]["minReplicas"], autoscaled["hpaSpec"]["maxReplicas"]) == (2, 5)
    [metric] = autoscaled["hpaSpec"]["metricsv2"]
    assert metric == {
        "type": "Resource",
        "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 60}},
    }
    assert autoscaled["spec"]["containers"][0]["resources"]["requests"] == {"cpu": "250m", "memory": "256Mi"}
    for wished in ({"requests": {"cpu": "2"}}, {"limits": {"cpu": "2"}}):  # a limit is a request where none is named
        resources = part(autoscaling=AUTOSCALING, resources=wished)["spec"]["containers"][0]["resources"]
        assert "250m" not in resources["requests"].values()
    assert "hpaSpec" not in part()
    assert part()["spec"]["containers"][0]["resources"] == {"requests": {"memory": "256Mi"}, "limits": {"memory": "2Gi"}}
    named = part(resources={"limits": {"memory": "8Gi"}})["spec"]["containers"][0]["resources"]
    assert named == {"requests": {}, "limits": {"memory": "8Gi"}}


def test_only_what_changes_pods_makes_another_template() -> None:
    seldon = Seldon(NOBODY, MANIFESTS, SETTINGS, NOBODY)

    def template(revision: int = 1, uri: str = "s3://mlflow/1", **serving: Any) -> str:
        manifest = seldon.manifest(_served(**serving), one(revision, uri))
        metadata = manifest["spec"]["predictors"][0]["componentSpecs"][0]["metadata"]
        return str(metadata["annotations"]["winepipelines.io/template"])

    assert template(replicas=4) == template()
    assert template(revision=2) == template()
    for other in ({"uri": "s3://mlflow/2"}, {"protocol": "v2"}, {"resources": {"limits": {"cpu": "1"}}}):
        assert template(**other) != template(), other


def test_seldons_own_server_has_its_image_and_patience() -> None:
    manifest = Seldon(NOBODY, MANIFESTS, SETTINGS, NOBODY).manifest(
        _served(runtime="mlflowserver"), one(1, "s3://mlflow/1", "mlflowserver")
    )
    [predictor] = manifest["spec"]["predictors"]
    [container] = predictor["componentSpecs"][0]["spec"]["containers"]
    assert container["image"] == SETTINGS.mlflowserver_image
    probe = container["startupProbe"]
    assert probe["initialDelaySeconds"] == 80
    assert (
        probe["initialDelaySeconds"] + probe["failureThreshold"] * probe["periodSeconds"] > predictor["progressDeadlineSeconds"]
    )
    assert predictor["progressDeadlineSeconds"] == 1800
    assert predictor["graph"]["parameters"] == [{"name": "xtype", "type": "STRING", "value": "DataFrame"}]


def test_a_model_that_serves_keeps_its_server_while_another_is_trained_for_another() -> None:
    seldon = Seldon(NOBODY, MANIFESTS, SETTINGS, NOBODY)
    asked = _served(runtime="bundled", protocol="v2")
    manifest = seldon.manifest(asked, one(1, "s3://mlflow/1", Runtime.MLFLOWSERVER))
    assert manifest == seldon.manifest(_served(runtime="mlflowserver"), one(1, "s3://mlflow/1", OWN))
    assert seldon.endpoint(asked, Runtime.MLFLOWSERVER).endswith("/api/v1.0/predictions")
    assert seldon.endpoint(asked).endswith("/v2/models/classifier/infer")


@pytest.mark.parametrize(
    ("version", "known"),
    [("1.18.2", True), ("1.15", True), ("1.14.0", True), ("1.13.1", False), ("1.20.0", False), ("latest", False)],
)
def test_a_server_that_nothing_is_known_of_is_refused(version: str, known: bool) -> None:
    settings = replace(SETTINGS, mlflowserver_version=version)
    view = Seldon(NOBODY, MANIFESTS, settings, NOBODY).server(Runtime.MLFLOWSERVER)
    assert view.version == version
    assert (view.problem == "") is known
    assert known or "WINE_MLFLOWSERVER_VERSION" in view.problem
    assert Seldon(NOBODY, MANIFESTS, settings, NOBODY).server(Runtime.BUNDLED).problem == ""


def test_a_run_writes_its_model_for_the_server_that_shall_read_it() -> None:
    kubeflow = Kubeflow(SETTINGS)
    assert kubeflow.parameters(PIPELINE, 1)["server_version"] == ""
    assert kubeflow.parameters(_served(runtime="mlflowserver"), 1)["server_version"] == SETTINGS.mlflowserver_version


def test_a_prediction_is_asked_with_the_models_own_columns_in_either_protocol() -> None:
    example = Example(["ph", "alcohol"], [[3.5, 9.4], [3.2, 9.8]], [5.0, 6.0])
    assert _request(Protocol.SELDON, example) == {"data": {"names": ["ph", "alcohol"], "ndarray": [[3.5, 9.4], [3.2, 9.8]]}}
    assert _request(Protocol.V2, example) == {
        "inputs": [
            {"name": "ph", "datatype": "FP64", "shape": [2, 1], "data": [3.5, 3.2]},
            {"name": "alcohol", "datatype": "FP64", "shape": [2, 1], "data": [9.4, 9.8]},
        ]
    }


@pytest.mark.parametrize(
    ("live", "wanted", "covered"),
    [
        ({"a": 1, "b": 2}, {"a": 1}, True),
        ({"a": 1}, {"a": 2}, False),
        ({}, {"a": None}, False),
        ([{"name": "x", "extra": 1}, {"name": "y"}], [{"name": "y"}], True),
        ([{"name": "x"}], [{"name": "y"}], False),
        ("text", {"a": 1}, False),
    ],
)
def test_covers(live: object, wanted: object, covered: bool) -> None:
    assert covers(live, wanted) is covered


def test_a_run_has_the_administrators_image_and_addresses_and_no_credential() -> None:
    kubeflow = Kubeflow(SETTINGS)
    specification = kubeflow.pipeline_spec(PIPELINE)
    executors = specification["pipeline_spec"]["deploymentSpec"]["executors"]
    assert {executor["container"]["image"] for executor in executors.values()} == {"registry/steps:1"}
    assert set(specification["platform_spec"]) == {"platforms"}
    parameters = kubeflow.parameters(PIPELINE, 7)
    assert parameters["mlflow_tracking_uri"] == "http://mlflow"
    assert parameters["owner"] == {"namespace": "admin", "name": "mlflow", "uid": PIPELINE.uid, "revision": 7}
    assert not [name for name in parameters if "key" in name or "token" in name or "password" in name]
    declared = specification["pipeline_spec"]["root"]["inputDefinitions"]["parameters"]
    assert set(parameters) <= set(declared)
    assert {name for name, declaration in declared.items() if not declaration.get("isOptional")} <= set(parameters)


def test_a_run_is_told_the_algorithm_its_parameters_and_what_to_search_for() -> None:
    guide = Kubeflow(SETTINGS).parameters(PIPELINE, 1)
    assert (guide["algorithm"], guide["parameters"], guide["search"]) == ("ElasticNet", {"alpha": 0.5, "l1_ratio": 0.5}, {})
    training = {"algorithm": "RandomForest", "parameters": {"n_estimators": 9}, "search": {"max_depth": [3, 6]}}
    pipeline = WinePipeline("admin", "mlflow", "0123456789ab", 1, "1", SPEC.with_(training=training), Status())
    forest = Kubeflow(SETTINGS).parameters(pipeline, 1)
    assert (forest["algorithm"], forest["parameters"]) == ("RandomForest", {"n_estimators": 9})
    assert json.loads(json.dumps(forest["search"])) == {"max_depth": [3, 6]}


def test_a_run_is_told_how_the_data_are_read() -> None:
    plain = Kubeflow(SETTINGS).parameters(PIPELINE, 1)
    assert (plain["decimal"], plain["columns"], plain["missing"]) == (".", {}, "refuse")
    data = {"url": "http://data/wine.csv", "decimal": ",", "columns": {"drop": ["Id", 1]}, "missing": "dropRows"}
    pipeline = WinePipeline("admin", "mlflow", "0123456789ab", 1, "1", SPEC.with_(data=data), Status())
    read = Kubeflow(SETTINGS).parameters(pipeline, 1)
    assert (read["decimal"], read["columns"], read["missing"]) == (",", {"drop": ["Id", 1]}, "dropRows")
    json.dumps(read)


def test_a_check_of_the_data_knows_what_is_known_and_whose_it_is() -> None:
    request = Kubeflow(SETTINGS).check_request(PIPELINE, "mlflow-check-3", "3", "a" * 64, '"etag"', "experiment-1")
    assert (request["display_name"], request["experiment_id"]) == ("mlflow-check-3", "experiment-1")
    specification = request["pipeline_spec"]["pipeline_spec"]
    assert specification["deploymentSpec"]["executors"]["exec-check"]["container"]["image"] == "registry/steps:1"
    parameters = request["runtime_config"]["parameters"]
    assert parameters["owner"] == {"namespace": "admin", "name": "mlflow", "uid": PIPELINE.uid, "check": "3"}
    assert (parameters["known_sha256"], parameters["known_etag"]) == ("a" * 64, '"etag"')
    declared = specification["root"]["inputDefinitions"]["parameters"]
    assert set(parameters) <= set(declared)
    assert {name for name, declaration in declared.items() if not declaration.get("isOptional")} <= set(parameters)


@pytest.mark.parametrize(("runtime", "named"), [("bundled", "abc"), ("mlflowserver", "")])
def test_the_model_that_serves_is_measured_again_where_a_step_can_load_it(runtime: str, named: str) -> None:
    assert Kubeflow(SETTINGS).parameters(PIPELINE, 1)["served_run"] == ""
    served = {"revision": 1, "uri": "s3://mlflow/1", "mlflowRun": "abc", "runtime": runtime}
    serving = PIPELINE.with_status(Status.model_validate({"served": served}))
    assert Kubeflow(SETTINGS).parameters(serving, 2)["served_run"] == named


def test_wished_resources_go_to_the_training_step() -> None:
    spec = SPEC.with_(training={"resources": {"requests": {"cpu": "500m"}, "limits": {"memory": "2Gi"}}})
    pipeline = WinePipeline("admin", "mlflow", "0123456789ab", 1, "1", spec, Status())
    executors = Kubeflow(SETTINGS).pipeline_spec(pipeline)["pipeline_spec"]["deploymentSpec"]["executors"]
    assert executors["exec-train"]["container"]["resources"] == {
        "resourceCpuRequest": "500m",
        "resourceMemoryRequest": "256Mi",
        "resourceMemoryLimit": "2Gi",
    }


def test_steps_are_limited_where_the_resource_does_not_say() -> None:
    executors = Kubeflow(SETTINGS).pipeline_spec(PIPELINE)["pipeline_spec"]["deploymentSpec"]["executors"]
    assert len(executors) == 3
    for executor in executors.values():
        assert executor["container"]["resources"] == {
            "resourceCpuRequest": "100m",
            "resourceMemoryRequest": "256Mi",
            "resourceMemoryLimit": "4Gi",
        }


@pytest.mark.parametrize(
    ("wished", "memory"),
    [
        ({"requests": {"memory": "8Gi"}}, ("8Gi", "8Gi")),
        ({"limits": {"memory": "100Mi"}}, ("100Mi", "100Mi")),
        ({"requests": {"memory": "1Gi"}, "limits": {"memory": "2Gi"}}, ("1Gi", "2Gi")),
    ],
)
def test_no_default_puts_a_request_above_its_limit(wished: dict[str, dict[str, str]], memory: tuple[str, str]) -> None:
    pipeline = WinePipeline("admin", "mlflow", "0123456789ab", 1, "1", SPEC.with_(training={"resources": wished}), Status())
    executors = Kubeflow(SETTINGS).pipeline_spec(pipeline)["pipeline_spec"]["deploymentSpec"]["executors"]
    resources = executors["exec-train"]["container"]["resources"]
    assert (resources["resourceMemoryRequest"], resources["resourceMemoryLimit"]) == memory


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ({"data_url": "http://data/{{workflow.name}}"}, "data_url"),
        ({"seed": 1, "columns": {"drop": [1, "a", "}}"]}}, "columns.drop"),
        ({"owner": {"{{x}}": 1}}, "owner.{{x}}"),
        ({"columns": {"only": [{"deep": [["{{"]]}]}}, "columns.only.deep"),
        ({"data_url": "http://data/{a}", "parameters": {"alpha": 0.5}, "search": {}}, ""),
    ],
)
def test_a_template_of_argo_is_found_in_any_parameter(value: object, found: str) -> None:
    assert template_in(value) == found


async def test_a_run_with_a_template_is_not_submitted() -> None:
    spec = SPEC.with_(data=SPEC.data.with_(url="http://data/{{workflow.uid}}"))
    pipeline = WinePipeline("admin", "mlflow", "0123456789ab", 1, "1", spec, Status())
    kubeflow = Kubeflow(SETTINGS)  # nothing answers at its address
    with pytest.raises(Refused, match=r"data_url has \{\{ or \}\}"):
        await kubeflow._submit(kubeflow.request(pipeline, "mlflow-0123-1", 1, "experiment"))


def test_an_entity_tag_with_a_template_is_not_passed_on() -> None:
    kubeflow = Kubeflow(SETTINGS)
    for etag, passed in (('"{{workflow.name}}"', ""), ('"5d4-{a}"', '"5d4-{a}"')):
        request = kubeflow.check_request(PIPELINE, "check", "1", "0" * 64, etag, "experiment")
        assert request["runtime_config"]["parameters"]["known_etag"] == passed


def test_steps_are_told_where_data_may_come_from() -> None:
    settings = replace(SETTINGS, data_allowed_networks=("10.1.0.0/16", "10.2.0.0/16"), data_private_networks="refuse")
    executors = Kubeflow(settings).pipeline_spec(PIPELINE)["pipeline_spec"]["deploymentSpec"]["executors"]
    for executor in executors.values():
        assert executor["container"]["env"] == [
            {"name": "WINE_DATA_PRIVATE_NETWORKS", "value": "refuse"},
            {"name": "WINE_DATA_ALLOWED_NETWORKS", "value": "10.1.0.0/16,10.2.0.0/16"},
        ]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        (b'{"data": {"ndarray": [5.7, 6]}}', [5.7, 6.0]),
        (b'{"data": {"ndarray": [[5.7], [6]]}}', [5.7, 6.0]),
        (b'{"data": {"tensor": {"shape": [1], "values": [5.7]}}}', [5.7]),
        (b'{"outputs": [{"name": "predict", "shape": [2, 1], "datatype": "FP64", "data": [5.7, 6]}]}', [5.7, 6.0]),
        (b'{"outputs": []}', "it is JSON of another form"),
        (b'{"data": {"ndarray": ["red"]}}', "it is a list of other values than numbers"),
        (b'{"data": {"ndarray": ["5.7"]}}', "it is a list of other values than numbers"),
        (b'{"data": {}}', "it is JSON of another form"),
        (b"<html>", "it is not JSON"),
        (b"[]", "it is JSON, but not an object"),
    ],
)
def test_predictions_of_an_answer_in_either_protocol(text: bytes, values: list[float] | str) -> None:
    assert _predictions(text) == values


def test_a_signed_address_reaches_only_the_step_that_fetches() -> None:
    """Kubeflow keeps each step's inputs in its database and in the step's log."""
    for pipeline, url, fetching in (
        ("wine-training", "data_url", "download"),
        ("wine-data-check", "data_url", "check"),
        ("wine-prediction", "input_url", "predict"),
    ):
        compiled = next(yaml.safe_load_all(Path(SETTINGS.templates, "pipelines", f"{pipeline}.yaml").read_text()))
        tasks = compiled["root"]["dag"]["tasks"]
        given = {
            name
            for name, task in tasks.items()
            for source in task["inputs"]["parameters"].values()
            if source.get("componentInputParameter") == url
        }
        assert given == {fetching}
    training = next(yaml.safe_load_all(Path(SETTINGS.templates, "pipelines", "wine-training.yaml").read_text()))
    source = training["root"]["dag"]["tasks"]["train"]["inputs"]["parameters"]["data_url"]["taskOutputParameter"]
    assert source == {"outputParameterKey": "source", "producerTask": "download"}
