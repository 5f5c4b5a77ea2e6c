"""The objects that serve a model on KServe, and which changes replace their pods."""

import base64
import copy
import json
from dataclasses import replace
from typing import Any

import pytest
from support.backends import kserve_backend
from support.kserve import PIPELINE, SETTINGS, serving
from support.rollouts import model, one

from winecontract.protocols import Protocol
from winecontract.text import clean
from winepipelines.api.naming import TEMPLATE_ANNOTATION
from winepipelines.api.pipeline import WinePipeline
from winepipelines.api.rollout import Rollout
from winepipelines.api.spec import Runtime
from winepipelines.environment import SettingsError
from winepipelines.platform.manifests import Manifest, Manifests
from winepipelines.platform.namespace import Namespace
from winepipelines.serving.backends import backends_of
from winepipelines.serving.kserve.backend import KServeBackend
from winepipelines.serving.kserve.manifest import template_of
from winepipelines.serving.kserve.rollout import is_applied, was_applied
from winepipelines.serving.kserve.settings import KServeSettings
from winepipelines.serving.kserve.source import StorageSecret

URI = "s3://mlflow/1/abc/artifacts/model"
HOSTILE = '"}}\n---\nkind: ClusterRoleBinding # {{ 7 * 7 }} {% raw %}'
DIGEST = f"sha256:{'0' * 64}"
MODE = "serving.kserve.io/deploymentMode"
NOBODY: Any = None  # building uses no server


def service(backend: KServeBackend | None = None, rollout: Rollout | None = None, live: Manifest | None = None) -> Manifest:
    backend = backend or kserve_backend(SETTINGS)
    manifests = backend.manifests(PIPELINE, rollout or one(3, URI), live)
    return next(manifest for manifest in manifests if manifest["metadata"]["name"] == PIPELINE.name)


def stored(manifest: Manifest) -> Manifest:
    """Return an InferenceService as the API server has it: with what KServe adds."""
    live: Manifest = json.loads(json.dumps(manifest))
    live["metadata"]["annotations"]["modelFormat"] = "winepipelines"
    live["spec"]["predictor"]["model"] |= {"name": "", "resources": {"requests": {"cpu": "1", "memory": "262144Ki"}}}
    return live


def test_rollout_has_a_serving_runtime_before_the_inference_service() -> None:
    runtime, served = kserve_backend(SETTINGS).manifests(PIPELINE, one(3, URI))
    assert (runtime["kind"], runtime["metadata"]["name"]) == ("ServingRuntime", "wine-model-server")
    assert (served["kind"], served["metadata"]["name"]) == ("InferenceService", "mlflow")
    assert served["spec"]["predictor"]["model"]["runtime"] == "wine-model-server"
    assert served["metadata"]["ownerReferences"][0]["uid"] == PIPELINE.uid


def test_candidate_is_an_inference_service_of_its_own() -> None:
    rollout = Rollout(3, model(3, URI), canary=model(4, "s3://mlflow/4/model"))
    _, served, candidate = kserve_backend(SETTINGS).manifests(PIPELINE, rollout)
    assert candidate["metadata"]["name"] == "mlflow-candidate"
    assert candidate["metadata"]["labels"] == served["metadata"]["labels"]
    assert candidate["spec"]["predictor"]["model"]["storageUri"] == "s3://mlflow/4/model/"
    assert served == service()


@pytest.mark.parametrize("uri", [URI, f"{URI}/"])
def test_model_address_ends_with_one_slash(uri: str) -> None:
    assert service(rollout=one(3, uri))["spec"]["predictor"]["model"]["storageUri"] == f"{URI}/"


def test_pods_are_restricted_and_report_why_they_end() -> None:
    predictor = service()["spec"]["predictor"]
    server = predictor["model"]
    assert predictor["automountServiceAccountToken"] is False
    assert predictor["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert server["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    assert server["terminationMessagePolicy"] == "FallbackToLogsOnError"
    wait = int(server["lifecycle"]["preStop"]["exec"]["command"][1])
    assert 0 < wait < predictor["terminationGracePeriodSeconds"]
    assert server["ports"][0]["containerPort"] == 8080
    assert {"name": "MLSERVER_HTTP_PORT", "value": "8080"} in server["env"]


def test_server_compares_the_digest_of_a_signed_model_only() -> None:
    signed = service(rollout=Rollout(3, model(3, URI, digest=DIGEST)))["spec"]["predictor"]["model"]["env"]
    assert {"name": "MODEL_DIGEST", "value": DIGEST} in signed
    assert "MODEL_DIGEST" not in [variable["name"] for variable in service()["spec"]["predictor"]["model"]["env"]]


def test_hostile_values_stay_values() -> None:
    server = service(rollout=one(1, HOSTILE))["spec"]["predictor"]["model"]
    assert server["storageUri"] == f"{clean(HOSTILE)}/"


@pytest.mark.parametrize(
    ("version", "mode"), [("0.15", "RawDeployment"), ("0.15.2", "RawDeployment"), ("v0.16.0", "Standard"), ("", "Standard")]
)
def test_mode_annotation_has_the_name_of_the_release(version: str, mode: str) -> None:
    annotations = service(kserve_backend(SETTINGS, kserve_version=version))["metadata"]["annotations"]
    assert annotations["serving.kserve.io/deploymentMode"] == mode


@pytest.mark.parametrize(("before", "after"), [("0.15", "0.20"), ("0.20", "0.15")])
def test_another_release_of_kserve_replaces_no_pods(before: str, after: str) -> None:
    live = stored(service(kserve_backend(SETTINGS, kserve_version=before)))
    later = service(kserve_backend(SETTINGS, kserve_version=after), live=live)
    assert later["metadata"]["annotations"] == service(kserve_backend(SETTINGS, kserve_version=before))["metadata"]["annotations"]
    assert is_applied(live, later)


def test_mode_that_kserve_renames_is_no_difference() -> None:
    earlier = service(kserve_backend(SETTINGS, kserve_version="0.15"))
    live = stored(earlier)
    live["metadata"]["annotations"][MODE] = "Standard"  # as 0.17 and later do
    live["status"] = {"deploymentMode": "RawDeployment"}  # until KServe has reconciled it
    later = service(live=live)
    assert is_applied(live, later)
    assert later["metadata"]["annotations"][TEMPLATE_ANNOTATION] == earlier["metadata"]["annotations"][TEMPLATE_ANNOTATION]


def test_name_of_the_mode_is_the_one_that_kserve_recorded() -> None:
    """KServe 0.16 rejects every update of an object whose annotation has another name than its status."""
    live = stored(service(kserve_backend(SETTINGS, kserve_version="0.15")))
    live["status"] = {"deploymentMode": "Standard"}
    assert service(kserve_backend(SETTINGS, kserve_version="0.15"), live=live)["metadata"]["annotations"][MODE] == "Standard"


def test_replicas_are_fixed_unless_autoscaling_is_set() -> None:
    backend = kserve_backend(SETTINGS)
    fixed = backend.manifests(serving(replicas=3), one(1, URI))[1]
    assert fixed["metadata"]["annotations"]["serving.kserve.io/autoscalerClass"] == "none"
    assert fixed["spec"]["predictor"]["minReplicas"] == 3
    scaled = backend.manifests(serving(autoscaling={"minReplicas": 2, "maxReplicas": 5}), one(1, URI))[1]
    assert scaled["metadata"]["annotations"]["serving.kserve.io/autoscalerClass"] == "hpa"
    found = {name: scaled["spec"]["predictor"][name] for name in ("minReplicas", "maxReplicas", "scaleMetric", "scaleTarget")}
    assert found == {"minReplicas": 2, "maxReplicas": 5, "scaleMetric": "cpu", "scaleTarget": 70}
    assert scaled["spec"]["predictor"]["model"]["resources"]["requests"]["cpu"] == "250m"


def test_cluster_runtime_replaces_the_one_of_the_namespace() -> None:
    [served] = kserve_backend(SETTINGS, kserve_runtime="platform").manifests(PIPELINE, one(1, URI))
    assert served["spec"]["predictor"]["model"]["runtime"] == "platform"


def test_revision_and_replicas_do_not_change_the_pods() -> None:
    backend, first = kserve_backend(SETTINGS), service()
    later = backend.manifests(serving(replicas=4, protocol="v2"), one(9, URI))[1]
    assert later["metadata"]["annotations"] == first["metadata"]["annotations"]


@pytest.mark.parametrize(
    ("pipeline", "rollout"),
    [
        (PIPELINE, one(4, "s3://mlflow/2/model")),
        (PIPELINE, one(3, URI, image="registry/server:2")),
        (PIPELINE, Rollout(3, model(3, URI, digest=DIGEST))),
        (serving(resources={"limits": {"memory": "3Gi"}}), one(3, URI)),
        (serving(autoscaling={"maxReplicas": 2}), one(3, URI)),
    ],
)
def test_what_runs_changes_the_template(pipeline: WinePipeline, rollout: Rollout) -> None:
    changed = kserve_backend(SETTINGS).manifests(pipeline, rollout, stored(service()))[1]
    assert changed["metadata"]["annotations"][TEMPLATE_ANNOTATION] != service()["metadata"]["annotations"][TEMPLATE_ANNOTATION]


def test_additions_of_kserve_are_no_difference() -> None:
    live = stored(service())
    assert is_applied(live, service(live=live))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("metadata", "labels", "app.kubernetes.io/managed-by"), "me"),
        (("metadata", "ownerReferences"), []),
        (("metadata", "annotations", "serving.kserve.io/storageSecretName"), "mine"),
        (("spec", "predictor", "model", "storageUri"), "s3://others/model/"),
        (("spec", "predictor", "model", "image"), "evil:1"),
        (("spec", "predictor", "model", "lifecycle", "preStop", "exec", "command"), ["sh"]),
        (("spec", "predictor", "automountServiceAccountToken"), True),
        (("spec", "predictor", "minReplicas"), 7),
        (("spec", "predictor", "maxReplicas"), 7),
    ],
)
def test_change_by_others_is_a_difference(path: tuple[str, ...], value: object) -> None:
    live = stored(service())
    *parents, last = path
    target = live
    for name in parents:
        target = target[name]
    target[last] = value
    assert not is_applied(live, service(live=live))


def test_change_by_others_differs_from_a_new_spec() -> None:
    live = stored(service())
    live["spec"]["predictor"]["automountServiceAccountToken"] = True
    assert was_applied(live, service(live=live))
    assert not was_applied(live, service(rollout=one(4, "s3://mlflow/2/model"), live=live))
    more = kserve_backend(SETTINGS).manifests(serving(replicas=4), one(3, URI), live)[1]
    assert not was_applied(live, more)


def earlier_release() -> Manifest:
    """Return what a release with another probe applied."""
    manifest = copy.deepcopy(service())
    manifest["spec"]["predictor"]["model"]["startupProbe"]["failureThreshold"] = 90
    manifest["metadata"]["annotations"][TEMPLATE_ANNOTATION] = template_of(manifest)
    return stored(manifest)


def test_upgrade_keeps_the_pods_of_a_served_model() -> None:
    live = earlier_release()
    assert is_applied(live, service(live=live))
    newer = kserve_backend(SETTINGS, server_image="registry/server:2")
    assert is_applied(live, service(newer, live=live))


def test_upgrade_corrects_what_others_changed() -> None:
    live = earlier_release()
    live["spec"]["predictor"]["model"]["startupProbe"]["failureThreshold"] = 91
    assert not is_applied(live, service(live=live))
    assert service(live=live) == service()


def test_names_are_refused_where_kserve_makes_no_host_name_of_them() -> None:
    backend = kserve_backend(SETTINGS)
    longest = "a" * (63 - len("-candidate-predictor-admin"))
    assert backend.problem(replace(PIPELINE, name=longest)) == ""
    assert "has 64 characters, 1 more than DNS allows" in backend.problem(replace(PIPELINE, name=f"{longest}a"))
    assert "starts with a letter and has no dots" in backend.problem(replace(PIPELINE, name="1st"))
    assert "starts with a letter and has no dots" in backend.problem(replace(PIPELINE, name="a.b"))
    assert "does not serve runtime mlflowserver" in backend.problem(serving(runtime="mlflowserver"))


def test_endpoints_are_the_services_of_both_objects() -> None:
    backend = kserve_backend(SETTINGS)
    found = backend.endpoints(PIPELINE)
    assert found.stable == found.served
    assert found.stable.url == "http://mlflow-predictor.admin.svc.cluster.local/api/v1.0/predictions"
    assert found.candidate.url == "http://mlflow-candidate-predictor.admin.svc.cluster.local/api/v1.0/predictions"
    v2 = backend.endpoints(serving(protocol="v2")).candidate
    assert (v2.protocol, v2.url) == (
        Protocol.V2,
        "http://mlflow-candidate-predictor.admin.svc.cluster.local/v2/models/mlflow/infer",
    )


@pytest.mark.parametrize(
    "data", [{"accesskey": "YQ==", "secretkey": "Yg=="}, {"AWS_ACCESS_KEY_ID": "YQ==", "AWS_SECRET_ACCESS_KEY": "Yg=="}]
)
def test_copy_of_the_secret_has_the_keys_and_the_address_that_kserve_reads(data: dict[str, str]) -> None:
    source = StorageSecret(("source",), "http://minio:9000")
    namespace = Namespace(NOBODY, Manifests(SETTINGS.templates), SETTINGS, source)
    secret = namespace.wanted(PIPELINE, {"data": {**data, "LD_PRELOAD": "eA=="}})[-1]
    assert secret["metadata"]["name"] == "wine-model-store"
    assert secret["data"] == {"AWS_ACCESS_KEY_ID": "YQ==", "AWS_SECRET_ACCESS_KEY": "Yg=="}
    assert secret["metadata"]["annotations"] == {
        "serving.kserve.io/s3-endpoint": "minio:9000",
        "serving.kserve.io/s3-region": "us-east-1",
        "serving.kserve.io/s3-usehttps": "0",
        "serving.kserve.io/s3-verifyssl": "0",
    }


def test_address_in_the_secret_precedes_the_steps_own() -> None:
    source = StorageSecret(("source",), "http://minio:9000")
    values = {"accesskey": "a", "secretkey": "b", "AWS_ENDPOINT_URL": "https://store", "AWS_DEFAULT_REGION": "eu-1"}
    access = source.access(values)
    assert (access.endpoint, access.access_key, access.secret_key, access.region) == ("https://store", "a", "b", "eu-1")
    encoded = {name: base64.b64encode(value.encode()).decode() for name, value in values.items()}
    assert source.annotations(encoded)["serving.kserve.io/s3-endpoint"] == "store"
    assert source.annotations(encoded)["serving.kserve.io/s3-usehttps"] == "1"


def test_required_keys_are_those_of_the_secrets_form() -> None:
    source = StorageSecret(("source",), "http://minio:9000")
    assert source.required_keys(()) == ("accesskey", "secretkey")
    assert source.required_keys(("AWS_ACCESS_KEY_ID",)) == ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


def test_backend_is_chosen_by_the_setting() -> None:
    [chosen] = backends_of(SETTINGS.with_(serving_backend="kserve"), {"WINE_KSERVE_VERSION": "0.16"}).enabled
    assert isinstance(chosen, KServeBackend)
    assert (chosen.name, chosen.settings.kserve_version) == ("KServe", "0.16")
    assert chosen.capabilities.protocols == {Runtime.BUNDLED: tuple(Protocol)}


@pytest.mark.parametrize("version", ["0.14", "latest", "1.0"])
def test_unsupported_release_is_refused(version: str) -> None:
    with pytest.raises(SettingsError, match=r"WINE_KSERVE_VERSION \(chart value kserve.version\)"):
        KServeSettings.from_environment({"WINE_KSERVE_VERSION": version})
