"""KServe's Knative mode: revisions and their shares of the traffic, from the first model to a promotion or a rejection."""

from typing import Any

import pytest
from support.backends import kserve_backend
from support.knative import KnativeCluster
from support.kserve import PIPELINE, SETTINGS, Object, serving
from support.rollouts import model, one

from winecontract.reasons import Reason
from winepipelines.api.errors import Refused
from winepipelines.api.observed import DeploymentView, Presence
from winepipelines.api.pipeline import WinePipeline
from winepipelines.api.rollout import Rollout
from winepipelines.platform.kubernetes import DEPLOYMENTS
from winepipelines.serving.kserve.backend import KServeBackend
from winepipelines.serving.kserve.knative import deployment_name
from winepipelines.serving.kserve.live import SERVICES
from winepipelines.serving.port import CandidateExposure, Promotion

FIRST, SECOND = one(1, "s3://mlflow/1/model"), one(2, "s3://mlflow/2/model")
CANDIDATE = model(2, "s3://mlflow/2/model")


def backend(**settings: str) -> KServeBackend:
    return kserve_backend(SETTINGS, **{"kserve_mode": "Knative", **settings})


BACKEND = backend()


def canary(weight: int) -> Rollout:
    return Rollout(1, FIRST.model, canary=CANDIDATE, weight=weight)


IDLE = serving(autoscaling={"minReplicas": 0, "maxReplicas": 2})


async def observe(cluster: Any, rollout: Rollout, pipeline: WinePipeline = PIPELINE) -> DeploymentView:
    return await BACKEND.observe(cluster, pipeline, rollout)


async def apply(cluster: Any, rollout: Rollout, pipeline: WinePipeline = PIPELINE) -> None:
    """Apply a rollout; KServe passes a new share of the traffic on to Knative at once."""
    await BACKEND.apply(cluster, pipeline, rollout)


def predictor(cluster: KnativeCluster) -> Object:
    found: Object = cluster.live(SERVICES, "mlflow")["spec"]["predictor"]
    return found


def state(view: DeploymentView) -> tuple[Presence, bool, bool]:
    return view.presence, view.rolled_out, view.canary_rolled_out


DONE, WAITS, DIFFERS = (
    (Presence.CURRENT, True, False),
    (Presence.CURRENT, False, False),
    (Presence.DIFFERS, False, False),
)


async def served() -> KnativeCluster:
    """Make a cluster in which the first model serves."""
    cluster = KnativeCluster()
    await apply(cluster, FIRST)
    cluster.revise()
    return cluster


async def with_candidate(weight: int = 0) -> KnativeCluster:
    """Make a cluster in which the second model is the candidate, with a share of the traffic."""
    cluster = await served()
    await apply(cluster, canary(weight))
    cluster.revise()
    return cluster


def test_knative_mode_splits_traffic_and_keeps_the_candidates_pods() -> None:
    capabilities = BACKEND.capabilities
    assert capabilities.splits_traffic
    assert (capabilities.candidate, capabilities.promotion) == (CandidateExposure.REVISION_ADDRESS, Promotion.SHIFT)
    standard = kserve_backend(SETTINGS).capabilities
    assert not standard.splits_traffic
    assert kserve_backend(SETTINGS, kserve_mode="auto").capabilities == standard


def test_candidate_and_served_model_have_the_addresses_of_knatives_tags() -> None:
    endpoints = BACKEND.endpoints(PIPELINE)
    assert endpoints.stable.url.startswith("http://mlflow-predictor.admin.svc.cluster.local/")
    assert endpoints.candidate.url.startswith("http://latest-mlflow-predictor.admin.svc.cluster.local/")
    assert endpoints.served.url.startswith("http://prev-mlflow-predictor.admin.svc.cluster.local/")


def test_manifest_has_only_fields_that_knative_accepts() -> None:
    """Knative rejects a lifecycle, a grace period and a security context of the pod, and names of ports but http1 and h2c."""
    _, service = BACKEND.manifests(PIPELINE, FIRST)
    found = service["spec"]["predictor"]
    assert found.keys() == {"minReplicas", "maxReplicas", "automountServiceAccountToken", "model"}
    server = found["model"]
    assert "lifecycle" not in server
    assert server["ports"] == [{"name": "http1", "containerPort": 8080, "protocol": "TCP"}]
    assert server["securityContext"]["runAsNonRoot"] is True
    assert server["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    annotations = service["metadata"]["annotations"]
    assert annotations["serving.kserve.io/deploymentMode"] == "Knative"
    assert annotations["serving.kserve.io/enable-tag-routing"] == "true"
    assert "serving.kserve.io/autoscalerClass" not in annotations


def test_mode_has_its_earlier_name_in_0_15() -> None:
    _, service = backend(kserve_version="0.15").manifests(PIPELINE, FIRST)
    assert service["metadata"]["annotations"]["serving.kserve.io/deploymentMode"] == "Serverless"


def test_autoscaling_is_knatives_own() -> None:
    _, service = BACKEND.manifests(serving(autoscaling={"minReplicas": 1, "maxReplicas": 5}), FIRST)
    found = service["spec"]["predictor"]
    assert (found["minReplicas"], found["maxReplicas"]) == (1, 5)
    assert "scaleMetric" not in found


def test_candidate_is_the_newest_revision_of_the_one_service() -> None:
    _, service = BACKEND.manifests(PIPELINE, canary(10))
    assert service["metadata"]["name"] == "mlflow"
    assert service["spec"]["predictor"]["canaryTrafficPercent"] == 10
    assert service["spec"]["predictor"]["model"]["storageUri"] == "s3://mlflow/2/model/"


async def test_first_model_serves_when_its_revision_is_ready_and_has_all_traffic() -> None:
    cluster = KnativeCluster()
    await apply(cluster, FIRST)
    assert state(await observe(cluster, FIRST)) == WAITS
    revision = cluster.revise(ready=False)
    assert state(await observe(cluster, FIRST)) == WAITS
    cluster.make_ready(revision)
    assert state(await observe(cluster, FIRST)) == DONE
    assert "canaryTrafficPercent" not in predictor(cluster)


async def test_nothing_is_written_at_rest() -> None:
    cluster = await served()
    cluster.writes.clear()
    assert (await observe(cluster, FIRST)).rolled_out
    assert cluster.writes == []


async def test_candidate_gets_no_traffic_before_its_first_step() -> None:
    cluster = await served()
    assert state(await observe(cluster, canary(0))) == DIFFERS
    await apply(cluster, canary(0))
    assert predictor(cluster)["canaryTrafficPercent"] == 0
    assert state(await observe(cluster, canary(0))) == WAITS  # the newest revision is still that of the served model
    revision = cluster.revise(ready=False)
    cluster.route()
    assert state(await observe(cluster, canary(0))) == WAITS
    cluster.make_ready(revision)
    assert state(await observe(cluster, canary(0))) == (Presence.CURRENT, True, True)


async def test_canary_step_changes_the_share_and_makes_no_revision() -> None:
    cluster = await with_candidate()
    assert state(await observe(cluster, canary(10))) == DIFFERS
    await apply(cluster, canary(10))
    assert state(await observe(cluster, canary(10))) == (Presence.CURRENT, False, True)  # Knative has not changed the shares yet
    cluster.route()
    assert state(await observe(cluster, canary(10))) == (Presence.CURRENT, True, True)


async def test_promotion_sends_all_traffic_to_the_candidates_revision() -> None:
    cluster = await with_candidate(50)
    assert state(await observe(cluster, SECOND)) == DIFFERS
    await apply(cluster, SECOND)
    assert "canaryTrafficPercent" not in predictor(cluster)
    assert state(await observe(cluster, SECOND)) == WAITS
    cluster.route()
    assert state(await observe(cluster, SECOND)) == DONE


async def test_rejected_candidate_gets_no_traffic_until_the_served_model_has_a_new_revision() -> None:
    cluster = await with_candidate(50)
    assert state(await observe(cluster, FIRST)) == DIFFERS
    await apply(cluster, FIRST)
    assert predictor(cluster)["canaryTrafficPercent"] == 0
    assert predictor(cluster)["model"]["storageUri"] == "s3://mlflow/1/model/"
    cluster.route()
    assert state(await observe(cluster, FIRST)) == WAITS
    revision = cluster.revise(ready=False)
    assert state(await observe(cluster, FIRST)) == WAITS
    cluster.make_ready(revision)
    assert state(await observe(cluster, FIRST)) == DIFFERS
    await apply(cluster, FIRST)
    assert "canaryTrafficPercent" not in predictor(cluster)
    cluster.route()
    assert state(await observe(cluster, FIRST)) == DONE


async def test_traffic_that_kserve_sends_to_an_earlier_model_is_reported() -> None:
    cluster = await with_candidate()
    cluster.live(SERVICES, "mlflow")["status"]["components"]["predictor"]["traffic"][1]["revisionName"] = "mlflow-predictor-00000"
    view = await observe(cluster, canary(0))
    assert (view.rolled_out, view.reason) == (False, Reason.DEPLOYMENT_FAILED)
    assert "100 % of the traffic to Knative's revision mlflow-predictor-00000" in view.message


async def test_candidate_that_crashes_is_reported_and_gets_no_traffic() -> None:
    cluster = await served()
    await apply(cluster, canary(0))
    revision = cluster.revise(ready=False)
    crash(cluster, revision)
    view = await observe(cluster, canary(0))
    assert (view.canary_rolled_out, view.reason) == (False, Reason.CRASH_LOOP_BACK_OFF)
    assert "container kserve-container ended with exit code 1: no such file" in view.message


async def scaled_to_zero() -> KnativeCluster:
    """Make a cluster in which the first model serves and has no pod, because no requests came."""
    cluster = KnativeCluster()
    await apply(cluster, FIRST, IDLE)
    cluster.scale(cluster.revise(), 0)
    return cluster


def crash(cluster: KnativeCluster, revision: str) -> None:
    template = cluster.live(DEPLOYMENTS, deployment_name(revision))["spec"]["template"]["metadata"]
    ended = {"terminated": {"exitCode": 1, "reason": "Error", "message": "no such file"}}
    status = {"containerStatuses": [{"name": "kserve-container", "ready": False, "lastState": ended}]}
    labels = {"serving.kserve.io/inferenceservice": "mlflow"}
    cluster.pods.append({"metadata": {"name": "x", "labels": labels, "annotations": template["annotations"]}, "status": status})


async def test_revision_that_is_scaled_to_zero_is_rolled_out() -> None:
    cluster = await scaled_to_zero()
    assert predictor(cluster)["minReplicas"] == 0
    view = await observe(cluster, FIRST, IDLE)
    assert (state(view), view.scaled_to_zero, view.reason) == (DONE, True, "")


async def test_revision_whose_first_pod_starts_after_a_request_is_rolled_out() -> None:
    cluster = await scaled_to_zero()
    cluster.scale("mlflow-predictor-00001", 1, available=0)
    view = await observe(cluster, FIRST, IDLE)
    assert (state(view), view.scaled_to_zero) == (DONE, True)
    cluster.scale("mlflow-predictor-00001", 1)
    view = await observe(cluster, FIRST, IDLE)
    assert (state(view), view.scaled_to_zero) == (DONE, False)


async def test_revision_whose_pod_crashes_when_a_request_starts_it_is_reported() -> None:
    cluster = await scaled_to_zero()
    cluster.scale("mlflow-predictor-00001", 1, available=0)
    crash(cluster, "mlflow-predictor-00001")
    view = await observe(cluster, FIRST, IDLE)
    assert (state(view), view.scaled_to_zero, view.reason) == (WAITS, False, Reason.CRASH_LOOP_BACK_OFF)


async def test_revision_that_was_never_ready_is_not_scaled_to_zero() -> None:
    cluster = KnativeCluster()
    await apply(cluster, FIRST, IDLE)
    cluster.scale(cluster.revise(ready=False), 0)
    view = await observe(cluster, FIRST, IDLE)
    assert (state(view), view.scaled_to_zero) == (WAITS, False)


async def test_revision_without_pods_is_not_rolled_out_when_the_spec_requires_one() -> None:
    cluster = await served()
    cluster.scale("mlflow-predictor-00001", 0)
    assert state(await observe(cluster, FIRST)) == WAITS


async def test_canary_beside_a_served_model_that_is_scaled_to_zero_says_so() -> None:
    cluster = await scaled_to_zero()
    await apply(cluster, canary(0), IDLE)
    cluster.revise()
    view = await observe(cluster, canary(0), IDLE)
    assert (state(view), view.scaled_to_zero) == ((Presence.CURRENT, True, True), True)
    cluster.scale("mlflow-predictor-00001", 1)
    assert not (await observe(cluster, canary(0), IDLE)).scaled_to_zero


async def test_served_model_that_lost_its_pods_beside_a_canary_is_not_scaled_to_zero() -> None:
    cluster = await with_candidate()
    cluster.scale("mlflow-predictor-00001", 1, available=0)
    assert not (await observe(cluster, canary(0))).scaled_to_zero


def test_scaling_to_zero_needs_knative_mode() -> None:
    assert BACKEND.scaling_problem(IDLE) == ""
    problem = kserve_backend(SETTINGS).scaling_problem(IDLE)
    assert "Set spec.serving.autoscaling.minReplicas to 1 or more, or ask the platform's administrator" in problem
    assert kserve_backend(SETTINGS).scaling_problem(serving(autoscaling={"maxReplicas": 2})) == ""


async def test_service_that_exists_in_standard_mode_is_not_scaled_to_zero_and_keeps_serving() -> None:
    cluster: Any = KnativeCluster()
    await kserve_backend(SETTINGS).apply(cluster, PIPELINE, FIRST)
    cluster.deploy("mlflow")
    cluster.writes.clear()
    knative = backend()
    view = await knative.observe(cluster, IDLE, FIRST)
    assert (view.presence, view.rolled_out, view.reason) == (Presence.CURRENT, False, Reason.SCALE_TO_ZERO_UNSUPPORTED)
    assert "delete InferenceService admin/mlflow, which is in Standard mode" in view.message
    assert knative.scaling_problem(IDLE) == view.message
    assert cluster.writes == []


async def test_deployment_that_knative_did_not_make_does_not_count() -> None:
    cluster = await served()
    deployment = cluster.live(DEPLOYMENTS, deployment_name("mlflow-predictor-00001"))
    deployment["metadata"]["ownerReferences"] = []
    assert not (await observe(cluster, FIRST)).rolled_out


async def test_missing_knative_is_reported_with_the_fix_and_makes_nothing() -> None:
    cluster = KnativeCluster(installed=False)
    with pytest.raises(Refused, match="Knative Serving is not installed") as caught:
        await apply(cluster, FIRST)
    assert caught.value.reason == Reason.SERVERLESS_MODE_REJECTED
    assert cluster.writes == ["apply servingruntimes wine-model-server"]


async def test_knative_that_was_removed_is_reported() -> None:
    cluster = KnativeCluster()
    await apply(cluster, FIRST)
    cluster.installed = False
    view = await observe(cluster, FIRST)
    assert (view.rolled_out, view.reason) == (False, Reason.SERVERLESS_MODE_REJECTED)


async def test_service_that_knative_rejects_is_reported() -> None:
    cluster = KnativeCluster()
    await apply(cluster, FIRST)
    message = 'admission webhook "validation.webhook.serving.knative.dev" denied the request'
    conditions = [{"type": "Ready", "status": "False", "reason": "ReconcileFailed", "message": message}]
    cluster.live(SERVICES, "mlflow")["status"] = {"conditions": conditions}
    view = await observe(cluster, FIRST)
    assert (view.reason, view.message) == (Reason.DEPLOYMENT_FAILED, f"KServe reports: {message}")


async def test_service_that_exists_keeps_its_mode() -> None:
    cluster: Any = KnativeCluster()
    standard = kserve_backend(SETTINGS)
    await standard.apply(cluster, PIPELINE, FIRST)
    cluster.deploy("mlflow")
    knative = backend()
    assert (await knative.observe(cluster, PIPELINE, FIRST)).rolled_out
    assert knative.endpoints(PIPELINE).candidate.url.startswith("http://mlflow-candidate-predictor.admin.")
    view = await knative.observe(cluster, PIPELINE, canary(10))
    assert view.reason == Reason.DEPLOYMENT_FAILED
    assert "is in Standard mode, which splits no traffic" in view.message


@pytest.mark.parametrize(
    ("revision", "name"),
    [
        ("mlflow-predictor-00001", "mlflow-predictor-00001-deployment"),
        ("w" * 52, "w" * 52 + "-deployment"),
        ("w" * 53, "w" * 20 + "9233aecef2d03410f7d759691eca4002-deployment"),
    ],
)
def test_deployment_of_a_revision_is_named_as_knative_does(revision: str, name: str) -> None:
    assert deployment_name(revision) == name
