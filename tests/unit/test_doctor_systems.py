"""Each check of Kubeflow Pipelines, MLflow and the object store: an outage or misconfiguration fails it, and no other."""

from dataclasses import replace
from datetime import timedelta

import pytest
from support.survey import (
    BACKEND,
    BUCKET,
    GOOD,
    NAMESPACE,
    NOW,
    RIGHTS,
    SETTINGS,
    TOKEN,
    evaluate,
    find,
    only_failure,
    skipped,
    without,
)

from winecontract.reasons import Reason
from winepipelines.api.errors import Refused, Unavailable
from winepipelines.api.observed import SecretState
from winepipelines.api.sourcesecret import StoreOperation
from winepipelines.doctor.finding import Result
from winepipelines.doctor.observations import (
    PROFILES,
    KubeflowView,
    MlflowView,
    Outage,
    Reach,
    SourceView,
    TokenView,
)
from winepipelines.serving.seldon.checks import TYPE


class TestSourceSecret:
    def test_missing_source_secret_fails(self) -> None:
        state = SecretState("kubeflow", BACKEND.source.name, False, ("RCLONE_CONFIG_S3_TYPE",))
        seen = replace(GOOD, source=SourceView(state), bucket=None)
        finding = only_failure(seen)
        assert finding.reason == "SourceSecretMissing"
        assert f"create secret generic {BACKEND.source.name}" in finding.remedy
        assert skipped(seen) == {"seldon can read artifacts"}

    def test_missing_keys_fail(self) -> None:
        state = SecretState("kubeflow", BACKEND.source.name, True, ("RCLONE_CONFIG_S3_ENDPOINT",))
        finding = only_failure(replace(GOOD, source=SourceView(state, {TYPE: "s3"}), bucket=None))
        assert finding.message.endswith("has no value for RCLONE_CONFIG_S3_ENDPOINT")
        assert '"RCLONE_CONFIG_S3_ENDPOINT": "…"' in finding.remedy

    @pytest.mark.parametrize(("kind", "endpoint"), [("gcs", "http://minio"), ("s3", "ftp://minio:9000")])
    def test_malformed_values_fail(self, kind: str, endpoint: str) -> None:
        state = SecretState("kubeflow", BACKEND.source.name, True)
        assert only_failure(replace(GOOD, source=SourceView(state, {TYPE: kind}, endpoint))).reason == "SourceSecretIncomplete"

    def test_unreadable_source_secret_refers_to_the_rights(self) -> None:
        seen = replace(GOOD, source=Refused(Reason.KUBERNETES_REQUEST_REJECTED, "403"))
        assert evaluate(seen).failures == ()
        assert "rights above" in find(seen, "source secret is complete").message


class TestKubeflow:
    def test_outage_fails(self) -> None:
        seen = replace(GOOD, kubeflow=Outage(SETTINGS.kfp_url, Reach.NO_CONNECTION))
        finding = only_failure(seen)
        assert finding.reason == "KubeflowUnreachable"
        assert "the connection is refused" in finding.message
        assert "ml-pipeline" in finding.remedy
        assert {"kubeflow authorizes the operator", "kubeflow rights are granted"} <= skipped(seen)

    def test_cluster_name_is_skipped_outside_the_cluster(self) -> None:
        seen = replace(GOOD, inside=False, kubeflow=Outage(SETTINGS.kfp_url, Reach.NO_ADDRESS))
        assert evaluate(seen).failures == ()
        finding = find(seen, "kubeflow answers")
        assert finding.message.endswith("from inside the cluster only")
        assert finding.remedy == "kubectl -n kubeflow exec deploy/wine-operator -- python -m winepipelines doctor"

    @pytest.mark.parametrize("host", ["ml-pipeline.kubeflow", "ml-pipeline", "ml-pipeline.other.svc.example.internal"])
    def test_every_form_of_a_service_name_is_recognized_outside_the_cluster(self, host: str) -> None:
        seen = replace(GOOD, inside=False, kubeflow=Outage(f"http://{host}:8888", Reach.NO_ADDRESS))
        assert evaluate(seen).failures == ()

    def test_public_name_fails_outside_the_cluster(self) -> None:
        outage = Outage("https://kubeflow.example.org", Reach.NO_ADDRESS)
        assert only_failure(replace(GOOD, inside=False, kubeflow=outage)).reason == "KubeflowUnreachable"

    @pytest.mark.parametrize(
        ("token", "words"),
        [
            (TokenView(problem="there is no such file"), "no such file"),
            (replace(TOKEN, audiences=("https://kubernetes.default.svc",)), "not for pipelines.kubeflow.org"),
            (replace(TOKEN, expires_at=NOW - timedelta(seconds=1)), "has expired"),
        ],
    )
    def test_unusable_token_fails(self, token: TokenView, words: str) -> None:
        finding = only_failure(replace(GOOD, token=token))
        assert finding.reason == "KubeflowTokenUnusable"
        assert words in finding.message
        assert "audience: pipelines.kubeflow.org" in finding.remedy

    def test_unauthenticated_and_forbidden_have_different_reasons(self) -> None:
        unknown = Refused(Reason.KUBEFLOW_REQUEST_REJECTED, "Unauthenticated", status=401)
        forbidden = Refused(Reason.KUBEFLOW_REQUEST_REJECTED, "Unauthorized access", status=403)
        assert only_failure(replace(GOOD, access=unknown)).reason == "KubeflowUnauthenticated"
        finding = only_failure(replace(GOOD, access=forbidden))
        assert finding.reason == "KubeflowForbidden"
        assert "rbac.yaml" in finding.remedy

    def test_server_error_fails(self) -> None:
        access = Unavailable(Reason.KUBEFLOW_UNAVAILABLE, "Internal error", status=500)
        assert only_failure(replace(GOOD, access=access)).reason == "KubeflowUnavailable"

    def test_multi_user_mode_without_a_token_is_a_warning(self) -> None:
        finding = find(replace(GOOD, token=None), "kubeflow authorizes the operator")
        assert finding.result is Result.WARNING
        assert "WINE_KFP_TOKEN_FILE" in finding.remedy

    def test_single_user_mode_with_profiles_is_a_warning(self) -> None:
        single = replace(GOOD, kubeflow=KubeflowView("2.17.0", multi_user=False))
        assert find(single, "kubeflow authorizes the operator").result is Result.WARNING
        alone = replace(single, kinds=without(PROFILES))
        assert find(alone, "kubeflow authorizes the operator").result is Result.OK

    SHARED = replace(GOOD, kubeflow=KubeflowView("2.17.0", multi_user=False), kinds=without(PROFILES))

    def test_in_single_user_mode_runs_need_the_secret_where_they_are(self) -> None:
        missing = SecretState("kubeflow", "mlpipeline-minio-artifact", False)
        finding = only_failure(replace(self.SHARED, shared_artifacts=missing, namespace=None))
        assert finding.reason == "ArtifactSecretMissing"
        assert "kubeflow has no Secret mlpipeline-minio-artifact" in finding.message
        assert finding.remedy.startswith("kubectl -n kubeflow create secret generic")
        there = replace(self.SHARED, shared_artifacts=replace(missing, exists=True), namespace=None)
        assert evaluate(there).failures == ()

    def test_namespace_of_runs_is_checked_in_single_user_mode(self) -> None:
        missing = SecretState("kubeflow", "mlpipeline-minio-artifact", False)
        view = replace(NAMESPACE, runs_in="kubeflow", artifacts=missing, bucket=None, service_account_exists=False)
        seen = replace(self.SHARED, namespace=view)
        assert find(seen, "artifact secret is complete").remedy.startswith("kubectl -n kubeflow create secret")
        account = find(seen, "service account exists")
        assert account.result is Result.WARNING
        assert account.message.startswith("kubeflow has no service account pipeline-runner")

    def test_rights_are_needed_in_multi_user_mode_only(self) -> None:
        runs = next(right for right in RIGHTS.missing if right.resource == "runs")
        seen = replace(GOOD, rights=replace(RIGHTS, missing={**RIGHTS.missing, runs: ("terminate",)}))
        finding = only_failure(seen)
        assert finding.check == "right: runs.pipelines.kubeflow.org"
        assert "{apiGroups: [pipelines.kubeflow.org], resources: [runs], verbs: [terminate]}" in finding.remedy
        assert evaluate(replace(seen, kubeflow=KubeflowView("2.17.0", multi_user=False))).failures == ()


class TestMlflow:
    def test_outage_fails(self) -> None:
        seen = replace(GOOD, mlflow=Outage(SETTINGS.mlflow_url, Reach.NO_ANSWER), artifact_address="", bucket=None)
        assert only_failure(seen).reason == "MlflowUnreachable"
        assert {"artifacts are in the store", "seldon can read artifacts"} <= skipped(seen)

    @pytest.mark.parametrize(
        ("status", "text", "reason", "remedy"),
        [
            (
                403,
                "Invalid Host header - possible DNS rebinding attack detected",
                "MlflowHostRejected",
                "MLFLOW_SERVER_ALLOWED_HOSTS=mlflow.kubeflow.svc:5000",
            ),
            (403, "Permission denied", "MlflowUnauthorized", "WINE_MLFLOW_SECRET"),
            (401, "You are not authenticated", "MlflowUnauthorized", "WINE_MLFLOW_SECRET"),
            (404, "<html>", "MlflowNotFound", "WINE_MLFLOW_URL"),
            (500, "", "MlflowUnhealthy", "log"),
        ],
    )
    def test_unexpected_answer_fails(self, status: int, text: str, reason: str, remedy: str) -> None:
        seen = replace(GOOD, mlflow=MlflowView("3.17.2", status, text), artifact_address="", bucket=None)
        finding = only_failure(seen)
        assert finding.reason == reason
        assert remedy in finding.remedy

    def test_mlflow_secret_fails_when_missing_incomplete_or_refused(self) -> None:
        named = replace(GOOD, settings=SETTINGS.with_(mlflow_secret="credentials"))
        missing = replace(named, mlflow_secret=SecretState("kubeflow", "credentials", False, ("MLFLOW_TRACKING_USERNAME",)))
        assert only_failure(missing).reason == "MlflowSecretMissing"
        incomplete = replace(named, mlflow_secret=SecretState("kubeflow", "credentials", True, ("MLFLOW_TRACKING_PASSWORD",)))
        assert "MLFLOW_TRACKING_PASSWORD" in only_failure(incomplete).message
        known = replace(named, mlflow_secret=SecretState("kubeflow", "credentials", True))
        assert evaluate(known).failures == ()
        refused = replace(known, mlflow=MlflowView("3.17.2", 401, ""), artifact_address="", bucket=None)
        assert "edit secret credentials" in only_failure(refused).remedy

    def test_artifacts_on_local_disk_fail(self) -> None:
        seen = replace(GOOD, artifact_address="/mlflow/0", bucket=None, namespace=replace(NAMESPACE, bucket=None))
        finding = only_failure(seen)
        assert finding.reason == "ArtifactRootUnusable"
        assert "--default-artifact-root s3://" in finding.remedy
        assert skipped(seen) == {"seldon can read artifacts", "steps can read and write artifacts"}

    def test_proxied_artifacts_need_their_destination(self) -> None:
        finding = only_failure(replace(GOOD, artifact_address="mlflow-artifacts:/0", bucket=None))
        assert finding.remedy.startswith("WINE_ARTIFACTS_DESTINATION=s3://")

    @pytest.mark.parametrize(
        ("code", "reason", "remedy"),
        [
            ("NoSuchBucket", "BucketMissing", "mc mb <alias>/mlflow"),
            ("AccessDenied", "ObjectStoreAccessDenied", "s3:GetObject on arn:aws:s3:::mlflow/*"),
            ("SignatureDoesNotMatch", "ObjectStoreAccessDenied", "Put valid keys into the Secret"),
        ],
    )
    def test_refused_store_access_fails(self, code: str, reason: str, remedy: str) -> None:
        finding = only_failure(replace(GOOD, bucket=replace(BUCKET, codes={StoreOperation.READ: code})))
        assert finding.reason == reason
        assert remedy in finding.remedy

    def test_two_stores_are_a_warning(self) -> None:
        settings = SETTINGS.with_(s3_endpoint_url="http://other.example.org:9000")
        finding = find(replace(GOOD, settings=settings, same_store=False), "seldon can read artifacts")
        assert finding.result is Result.WARNING
        assert "WINE_S3_ENDPOINT_URL (chart value objectStore.url)=http://minio.kubeflow.svc:9000" in finding.remedy

    @pytest.mark.parametrize("same", [True, None])
    def test_two_spellings_of_one_store_pass(self, same: bool | None) -> None:
        settings = SETTINGS.with_(s3_endpoint_url="http://minio.kubeflow.svc.cluster.local:9000")
        finding = find(replace(GOOD, settings=settings, same_store=same), "seldon can read artifacts")
        assert finding.result is Result.OK
        assert ("it is unknown whether" in finding.message) == (same is None)

    def test_unreachable_store_fails_inside_the_cluster_only(self) -> None:
        outage = Outage("http://minio.kubeflow.svc:9000", Reach.NO_CONNECTION)
        assert only_failure(replace(GOOD, bucket=outage)).reason == "ObjectStoreUnreachable"
        assert evaluate(replace(GOOD, inside=False, bucket=outage)).failures == ()
