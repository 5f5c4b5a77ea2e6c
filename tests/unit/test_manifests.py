"""Manifests and run requests: no value changes their structure, and fields that others add are not a difference."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.backends import SOURCE, seldon_backend
from support.rollouts import one
from support.settings import SETTINGS as DEFAULTS

from winecontract.text import clean
from winepipelines.api.errors import Refused
from winepipelines.api.pipeline import WinePipeline
from winepipelines.api.spec import Runtime, Spec
from winepipelines.api.status import Status
from winepipelines.platform.compiled import template_in
from winepipelines.platform.kubeflow import Kubeflow
from winepipelines.platform.manifests import Manifests, covers
from winepipelines.platform.namespace import Namespace
from winepipelines.platform.runrequests import RunRequests
from winepipelines.serving.seldon.rollout import is_applied
from winepipelines.serving.seldon.settings import SeldonSettings

SETTINGS = DEFAULTS.with_(steps_image="registry/steps:1", server_image="s:1")
MANIFESTS = Manifests(SETTINGS.templates)
NO_CLUSTER: Any = None  # building a manifest sends no request
SPEC = Spec.model_validate({"data": {"url": "http://data/wine.csv"}})
PIPELINE = WinePipeline("admin", "mlflow", "0123456789ab", 1, "1", SPEC, Status())
MLFLOWSERVER = Runtime.MLFLOWSERVER
HOSTILE = '"}}\n---\nkind: ClusterRoleBinding # {{ 7 * 7 }} {% raw %}'


def test_deployment_has_the_model_secret_and_image() -> None:
    manifest = seldon_backend(SETTINGS).manifest(PIPELINE, one(3, "s3://mlflow/1/abc/artifacts/model"))
    [predictor] = manifest["spec"]["predictors"]
    assert predictor["name"] == "wine-super-model"
    assert predictor["graph"]["name"] == "classifier"
    assert predictor["graph"]["modelUri"] == "s3://mlflow/1/abc/artifacts/model"
    assert predictor["graph"]["envSecretRefName"] == "seldon-init-container-secret"
    [container] = predictor["componentSpecs"][0]["spec"]["containers"]
    assert (container["name"], container["image"]) == ("classifier", "s:1")
    assert manifest["metadata"]["ownerReferences"][0]["uid"] == PIPELINE.uid


def test_manifest_keeps_hostile_values_as_strings() -> None:
    manifest = seldon_backend(SETTINGS).manifest(PIPELINE, one(1, HOSTILE))
    assert manifest["spec"]["predictors"][0]["graph"]["modelUri"] == clean(HOSTILE)
    children = Namespace(NO_CLUSTER, MANIFESTS, SETTINGS, SOURCE).wanted(PIPELINE, {"data": {"RCLONE_CONFIG_S3_REGION": HOSTILE}})
    assert [child["kind"] for child in children] == ["PodDefault", "PodDefault", "Secret"]
    assert children[2]["data"] == {"RCLONE_CONFIG_S3_REGION": HOSTILE}


def test_secret_of_steps_has_mlflow_credentials_only() -> None:
    settings = SETTINGS.with_(mlflow_secret="mlflow-tracking-credentials")
    encoded = {
        "MLFLOW_TRACKING_TOKEN": "dG9rZW4K",
        "database-password": "c2VjcmV0",
        "MLFLOW_TRACKING_USERNAME": "",
    }  # "token" and a line break
    *_, secret = Namespace(NO_CLUSTER, MANIFESTS, settings, SOURCE).wanted(PIPELINE, {"data": {}}, {"data": encoded})
    assert secret["metadata"]["name"] == "wine-mlflow-credentials"
    assert secret["metadata"]["ownerReferences"][0]["uid"] == PIPELINE.uid
    assert secret["data"] == {"MLFLOW_TRACKING_TOKEN": "dG9rZW4="}


def test_secret_of_the_initializer_has_object_store_settings_only() -> None:
    """The whole Secret is the environment of rclone, which runs the command in RCLONE_PASSWORD_COMMAND."""
    source = {
        "RCLONE_CONFIG_S3_TYPE": "czM=",
        "RCLONE_PASSWORD_COMMAND": "aWQ=",
        "LD_PRELOAD": "eA==",
        "RCLONE_CONFIG_S3_": "eA==",
    }
    *_, secret = Namespace(NO_CLUSTER, MANIFESTS, SETTINGS, SOURCE).wanted(PIPELINE, {"data": source})
    assert secret["data"] == {"RCLONE_CONFIG_S3_TYPE": "czM="}


def test_is_applied_is_false_when_a_pod_restriction_was_removed() -> None:
    wanted = seldon_backend(SETTINGS).manifest(PIPELINE, one(1, "s3://mlflow/1"))
    for change in ("automountServiceAccountToken", "securityContext"):
        live = yaml.safe_load(yaml.safe_dump(wanted))
        del live["spec"]["predictors"][0]["componentSpecs"][0]["spec"][change]
        assert not is_applied(live, wanted)
    live = yaml.safe_load(yaml.safe_dump(wanted))
    live["spec"]["predictors"][0]["componentSpecs"][0]["spec"]["containers"][0]["securityContext"] = {"privileged": True}
    assert not is_applied(live, wanted)


def test_manifest_is_deterministic() -> None:
    seldon = seldon_backend(SETTINGS)
    first, second = (seldon.manifest(PIPELINE, one(1, "s3://mlflow/1")) for _ in range(2))
    assert first == second
    assert is_applied(first, second)
    assert not is_applied(first, seldon.manifest(PIPELINE, one(2, "s3://mlflow/2")))


def test_is_applied_ignores_added_fields_and_detects_edits() -> None:
    seldon = seldon_backend(SETTINGS)
    wanted = seldon.manifest(PIPELINE, one(1, "s3://mlflow/1"))
    live = yaml.safe_load(yaml.safe_dump(wanted))
    live["spec"]["predictors"][0]["graph"]["logger"] = {"mode": "all"}  # fields that a webhook adds are ignored
    assert is_applied(live, wanted)
    live["spec"]["predictors"][0]["graph"]["modelUri"] = "s3://elsewhere"
    assert not is_applied(live, wanted)


def test_is_applied_is_false_when_the_no_engine_annotation_was_removed() -> None:
    """Executor and server would both listen on port 8000."""
    wanted = seldon_backend(SETTINGS).manifest(PIPELINE, one(1, "s3://mlflow/1"))
    live = yaml.safe_load(yaml.safe_dump(wanted))
    live["spec"]["predictors"][0]["annotations"]["mine"] = "yes"
    assert is_applied(live, wanted)
    del live["spec"]["predictors"][0]["annotations"]["seldon.io/no-engine"]
    assert not is_applied(live, wanted)


def _served(**serving: Any) -> WinePipeline:
    return replace(PIPELINE, spec=Spec.model_validate({"data": {"url": "http://data/wine.csv"}, "serving": serving}))


AUTOSCALING = {"minReplicas": 2, "maxReplicas": 5, "targetCPUUtilization": 60}


def test_autoscaled_deployment_has_no_replicas() -> None:
    seldon = seldon_backend(SETTINGS)
    wanted = seldon.manifest(_served(replicas=3, autoscaling=AUTOSCALING), one(1, "s3://mlflow/1"))
    [predictor] = wanted["spec"]["predictors"]
    assert "replicas" not in predictor
    live = yaml.safe_load(yaml.safe_dump(wanted))
    live["spec"]["predictors"][0]["replicas"] = 4
    assert is_applied(live, wanted)
    live["spec"]["predictors"][0]["componentSpecs"][0]["hpaSpec"]["maxReplicas"] = 50
    assert not is_applied(live, wanted)


def test_autoscaled_deployment_has_a_cpu_request() -> None:
    seldon = seldon_backend(SETTINGS)

    def part(**serving: Any) -> dict[str, Any]:
        [predictor] = seldon.manifest(_served(**serving), one(1, "s3://m"))["spec"]["predictors"]
        return dict(predictor["componentSpecs"][0])

    autoscaled = part(autoscaling=AUTOSCALING)
    assert (autoscaled["hpaSpec"]["minReplicas"], autoscaled["hpaSpec"]["maxReplicas"]) == (2, 5)
    [metric] = autoscaled["hpaSpec"]["metricsv2"]
    assert metric == {
        "type": "Resource",
        "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 60}},
    }
    assert autoscaled["spec"]["containers"][0]["resources"]["requests"] == {"cpu": "250m", "memory": "256Mi"}
    for specified in ({"requests": {"cpu": "2"}}, {"limits": {"cpu": "2"}}):  # a limit without a request counts as the request
        resources = part(autoscaling=AUTOSCALING, resources=specified)["spec"]["containers"][0]["resources"]
        assert "250m" not in resources["requests"].values()
    assert "hpaSpec" not in part()
    assert part()["spec"]["containers"][0]["resources"] == {"requests": {"memory": "256Mi"}, "limits": {"memory": "2Gi"}}
    larger = part(resources={"limits": {"memory": "8Gi"}})["spec"]["containers"][0]["resources"]
    assert larger == {"requests": {}, "limits": {"memory": "8Gi"}}


def test_template_annotation_changes_only_when_pods_change() -> None:
    seldon = seldon_backend(SETTINGS)

    def template(revision: int = 1, uri: str = "s3://mlflow/1", **serving: Any) -> str:
        manifest = seldon.manifest(_served(**serving), one(revision, uri))
        metadata = manifest["spec"]["predictors"][0]["componentSpecs"][0]["metadata"]
        return str(metadata["annotations"]["winepipelines.io/template"])

    assert template(replicas=4) == template()
    assert template(revision=2) == template()
    for other in ({"uri": "s3://mlflow/2"}, {"protocol": "v2"}, {"resources": {"limits": {"cpu": "1"}}}):
        assert template(**other) != template(), other


def test_mlflowserver_has_its_image_and_a_longer_deadline() -> None:
    manifest = seldon_backend(SETTINGS).manifest(_served(runtime="mlflowserver"), one(1, "s3://mlflow/1", "mlflowserver"))
    [predictor] = manifest["spec"]["predictors"]
    [container] = predictor["componentSpecs"][0]["spec"]["containers"]
    assert container["image"] == SeldonSettings().mlflowserver_image
    probe = container["startupProbe"]
    assert probe["initialDelaySeconds"] == 80
    assert (
        probe["initialDelaySeconds"] + probe["failureThreshold"] * probe["periodSeconds"] > predictor["progressDeadlineSeconds"]
    )
    assert predictor["progressDeadlineSeconds"] == 1800
    assert predictor["graph"]["parameters"] == [{"name": "xtype", "type": "STRING", "value": "DataFrame"}]


def test_served_model_keeps_its_server_while_one_for_another_runtime_is_trained() -> None:
    seldon = seldon_backend(SETTINGS)
    pipeline = _served(runtime="bundled", protocol="v2")
    manifest = seldon.manifest(pipeline, one(1, "s3://mlflow/1", Runtime.MLFLOWSERVER))
    assert manifest == seldon.manifest(_served(runtime="mlflowserver"), one(1, "s3://mlflow/1", MLFLOWSERVER))
    assert seldon.endpoints(pipeline, Runtime.MLFLOWSERVER).stable.url.endswith("/api/v1.0/predictions")
    assert seldon.endpoints(pipeline).stable.url.endswith("/v2/models/classifier/infer")


@pytest.mark.parametrize(
    ("version", "known"),
    [("1.18.2", True), ("1.15", True), ("1.14.0", True), ("1.13.1", False), ("1.20.0", False), ("latest", False)],
)
def test_unknown_mlflowserver_version_is_a_problem(version: str, known: bool) -> None:
    backend = seldon_backend(SETTINGS, mlflowserver_version=version)
    view = backend.server(Runtime.MLFLOWSERVER)
    assert view.version == version
    assert (view.problem == "") is known
    assert known or "WINE_MLFLOWSERVER_VERSION" in view.problem
    assert backend.server(Runtime.BUNDLED).problem == ""


def test_run_has_the_version_of_its_model_server() -> None:
    backend = seldon_backend(SETTINGS, mlflowserver_version="1.17.1")
    requests = RunRequests(SETTINGS, lambda runtime: backend.server(runtime).version)
    assert requests.training_parameters(PIPELINE, 1)["server_version"] == ""
    assert requests.training_parameters(_served(runtime="mlflowserver"), 1)["server_version"] == "1.17.1"


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
def test_covers_compares_the_wanted_fields(live: object, wanted: object, covered: bool) -> None:
    assert covers(live, wanted) is covered


def test_run_has_the_configured_image_and_addresses_and_no_credential() -> None:
    requests = RunRequests(SETTINGS)
    specification = requests.training_specification(PIPELINE)
    executors = specification["pipeline_spec"]["deploymentSpec"]["executors"]
    assert {executor["container"]["image"] for executor in executors.values()} == {"registry/steps:1"}
    assert set(specification["platform_spec"]) == {"platforms"}
    parameters = requests.training_parameters(PIPELINE, 7)
    assert parameters["mlflow_tracking_uri"] == "http://mlflow"
    assert parameters["owner"] == {"namespace": "admin", "name": "mlflow", "uid": PIPELINE.uid, "revision": 7}
    assert not [name for name in parameters if "key" in name or "token" in name or "password" in name]
    declared = specification["pipeline_spec"]["root"]["inputDefinitions"]["parameters"]
    assert set(parameters) <= set(declared)
    assert {name for name, declaration in declared.items() if not declaration.get("isOptional")} <= set(parameters)


def test_run_has_the_algorithm_its_parameters_and_the_search() -> None:
    guide = RunRequests(SETTINGS).training_parameters(PIPELINE, 1)
    assert (guide["algorithm"], guide["parameters"], guide["search"]) == ("ElasticNet", {"alpha": 0.5, "l1_ratio": 0.5}, {})
    training = {"algorithm": "RandomForest", "parameters": {"n_estimators": 9}, "search": {"max_depth": [3, 6]}}
    pipeline = WinePipeline("admin", "mlflow", "0123456789ab", 1, "1", SPEC.with_(training=training), Status())
    forest = RunRequests(SETTINGS).training_parameters(pipeline, 1)
    assert (forest["algorithm"], forest["parameters"]) == ("RandomForest", {"n_estimators": 9})
    assert json.loads(json.dumps(forest["search"])) == {"max_depth": [3, 6]}


def test_run_has_the_options_for_reading_data() -> None:
    plain = RunRequests(SETTINGS).training_parameters(PIPELINE, 1)
    assert (plain["decimal"], plain["columns"], plain["missing"]) == (".", {}, "refuse")
    data = {"url": "http://data/wine.csv", "decimal": ",", "columns": {"drop": ["Id", 1]}, "missing": "dropRows"}
    pipeline = WinePipeline("admin", "mlflow", "0123456789ab", 1, "1", SPEC.with_(data=data), Status())
    read = RunRequests(SETTINGS).training_parameters(pipeline, 1)
    assert (read["decimal"], read["columns"], read["missing"]) == (",", {"drop": ["Id", 1]}, "dropRows")
    json.dumps(read)


def test_data_check_has_the_known_digest_and_its_owner() -> None:
    request = RunRequests(SETTINGS).data_check(PIPELINE, "mlflow-check-3", "3", "a" * 64, '"etag"', "experiment-1")
    assert (request["display_name"], request["experiment_id"]) == ("mlflow-check-3", "experiment-1")
    specification = request["pipeline_spec"]["pipeline_spec"]
    assert specification["deploymentSpec"]["executors"]["exec-check"]["container"]["image"] == "registry/steps:1"
    parameters = request["runtime_config"]["parameters"]
    assert parameters["owner"] == {"namespace": "admin", "name": "mlflow", "uid": PIPELINE.uid, "check": "3"}
    assert (parameters["known_sha256"], parameters["known_etag"]) == ("a" * 64, '"etag"')
    declared = specification["root"]["inputDefinitions"]["parameters"]
    assert set(parameters) <= set(declared)
    assert {name for name, declaration in declared.items() if not declaration.get("isOptional")} <= set(parameters)


@pytest.mark.parametrize(("runtime", "expected_run"), [("bundled", "abc"), ("mlflowserver", "")])
def test_run_has_the_served_model_only_for_the_bundled_runtime(runtime: str, expected_run: str) -> None:
    assert RunRequests(SETTINGS).training_parameters(PIPELINE, 1)["served_run"] == ""
    served = {"revision": 1, "model": {"uri": "s3://mlflow/1", "mlflowRun": "abc", "runtime": runtime}}
    serving = PIPELINE.with_status(Status.model_validate({"served": served}))
    assert RunRequests(SETTINGS).training_parameters(serving, 2)["served_run"] == expected_run


def test_training_step_has_the_requested_resources() -> None:
    spec = SPEC.with_(training={"resources": {"requests": {"cpu": "500m"}, "limits": {"memory": "2Gi"}}})
    pipeline = WinePipeline("admin", "mlflow", "0123456789ab", 1, "1", spec, Status())
    executors = RunRequests(SETTINGS).training_specification(pipeline)["pipeline_spec"]["deploymentSpec"]["executors"]
    assert executors["exec-train"]["container"]["resources"] == {
        "resourceCpuRequest": "500m",
        "resourceMemoryRequest": "256Mi",
        "resourceMemoryLimit": "2Gi",
    }


def test_steps_have_default_resources() -> None:
    executors = RunRequests(SETTINGS).training_specification(PIPELINE)["pipeline_spec"]["deploymentSpec"]["executors"]
    assert len(executors) == 3
    for executor in executors.values():
        assert executor["container"]["resources"] == {
            "resourceCpuRequest": "100m",
            "resourceMemoryRequest": "256Mi",
            "resourceMemoryLimit": "4Gi",
        }


@pytest.mark.parametrize(
    ("resources", "memory"),
    [
        ({"requests": {"memory": "8Gi"}}, ("8Gi", "8Gi")),
        ({"limits": {"memory": "100Mi"}}, ("100Mi", "100Mi")),
        ({"requests": {"memory": "1Gi"}, "limits": {"memory": "2Gi"}}, ("1Gi", "2Gi")),
    ],
)
def test_default_memory_request_does_not_exceed_the_limit(resources: dict[str, dict[str, str]], memory: tuple[str, str]) -> None:
    pipeline = WinePipeline("admin", "mlflow", "0123456789ab", 1, "1", SPEC.with_(training={"resources": resources}), Status())
    executors = RunRequests(SETTINGS).training_specification(pipeline)["pipeline_spec"]["deploymentSpec"]["executors"]
    container = executors["exec-train"]["container"]["resources"]
    assert (container["resourceMemoryRequest"], container["resourceMemoryLimit"]) == memory


@pytest.mark.parametrize(
    ("value", "expected_path"),
    [
        ({"data_url": "http://data/{{workflow.name}}"}, "data_url"),
        ({"seed": 1, "columns": {"drop": [1, "a", "}}"]}}, "columns.drop"),
        ({"owner": {"{{x}}": 1}}, "owner.{{x}}"),
        ({"columns": {"only": [{"deep": [["{{"]]}]}}, "columns.only.deep"),
        ({"data_url": "http://data/{a}", "parameters": {"alpha": 0.5}, "search": {}}, ""),
    ],
)
def test_template_in_finds_argo_templates_at_any_depth(value: object, expected_path: str) -> None:
    assert template_in(value) == expected_path


async def test_run_with_an_argo_template_is_not_submitted() -> None:
    spec = SPEC.with_(data=SPEC.data.with_(url="http://data/{{workflow.uid}}"))
    pipeline = WinePipeline("admin", "mlflow", "0123456789ab", 1, "1", spec, Status())
    kubeflow = Kubeflow(SETTINGS)  # no server answers at its URL
    with pytest.raises(Refused, match=r"data_url has \{\{ or \}\}"):
        await kubeflow.submit(RunRequests(SETTINGS).training(pipeline, "mlflow-0123-1", 1, "experiment"))


def test_data_check_drops_an_entity_tag_with_an_argo_template() -> None:
    requests = RunRequests(SETTINGS)
    for etag, passed in (('"{{workflow.name}}"', ""), ('"5d4-{a}"', '"5d4-{a}"')):
        request = requests.data_check(PIPELINE, "check", "1", "0" * 64, etag, "experiment")
        assert request["runtime_config"]["parameters"]["known_etag"] == passed


def test_steps_have_the_allowed_networks_for_data() -> None:
    settings = SETTINGS.with_(data_allowed_networks=("10.1.0.0/16", "10.2.0.0/16"), data_private_networks="refuse")
    executors = RunRequests(settings).training_specification(PIPELINE)["pipeline_spec"]["deploymentSpec"]["executors"]
    for executor in executors.values():
        assert executor["container"]["env"] == [
            {"name": "WINE_DATA_PRIVATE_NETWORKS", "value": "refuse"},
            {"name": "WINE_DATA_ALLOWED_NETWORKS", "value": "10.1.0.0/16,10.2.0.0/16"},
        ]


def test_data_url_is_a_parameter_of_the_downloading_step_only() -> None:
    """The URL may be signed. Kubeflow stores inputs of each step in its database and logs them."""
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
