"""Each check, on a platform where one thing is wrong: it fails, nothing else does, and what it says mends it."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta

import pytest
from support.survey import GOOD, NAMESPACE, NOW, OPERATOR, RIGHTS, SETTINGS, TOKEN

from winepipelines.doctor.checks import DATA_HOST, PLATFORM, Judge
from winepipelines.doctor.checks import NAMESPACE as NAMESPACE_CHECKS
from winepipelines.doctor.finding import Finding, Result
from winepipelines.doctor.observations import (
    KINDS,
    PODDEFAULTS,
    PROFILES,
    SELDONDEPLOYMENTS,
    WINEPIPELINES,
    AdmissionView,
    ApiKind,
    BucketView,
    ControllerView,
    HostView,
    KindView,
    KubeflowView,
    MlflowView,
    ObjectView,
    Outage,
    PullTrouble,
    Reach,
    SourceView,
    Survey,
    TokenView,
)
from winepipelines.doctor.rights import Right
from winepipelines.doctor.walk import judge
from winepipelines.resource.errors import Refused, Unavailable
from winepipelines.resource.observed import KeyState, Presence, SecretState


def find(seen: Survey, check: str) -> Finding:
    """Judge, and pick one finding."""
    report = judge(seen)
    return next(finding for finding in report.findings if finding.check == check)


def only_failure(seen: Survey) -> Finding:
    """Judge; exactly one thing has failed."""
    [finding] = judge(seen).failures
    return finding


def skipped(seen: Survey) -> set[str]:
    return {finding.check for finding in judge(seen).findings if finding.result is Result.SKIPPED}


def without(kind: ApiKind, *versions: str) -> Mapping[ApiKind, KindView]:
    return {**dict.fromkeys(KINDS, KindView(served=True)), kind: KindView(False, versions)}


def test_where_all_is_well_every_line_is_ok() -> None:
    report = judge(GOOD)
    assert [finding for finding in report.findings if finding.result is not Result.OK] == []
    assert report.exit_status == 0
    assert {check.name for check in (*PLATFORM, *NAMESPACE_CHECKS, *DATA_HOST)} - {
        finding.check for finding in report.findings
    } == {
        "rights are granted",  # a line for each right instead
        "kubeflow rights are granted",
    }


def test_a_check_stands_on_earlier_ones_only() -> None:
    before: set[Judge] = set()
    for check in (*PLATFORM, *NAMESPACE_CHECKS, *DATA_HOST):
        assert set(check.needs) <= before, check.name
        before.add(check.judge)


class TestSettings:
    def test_a_missing_address_is_named_with_an_example(self) -> None:
        seen = replace(GOOD, settings=replace(SETTINGS, kfp_url=""), kubeflow=Refused("SettingsMissing", "no address"))
        finding = only_failure(seen)
        assert finding.check == "settings are complete"
        assert "WINE_KFP_URL" in finding.says
        assert "WINE_KFP_URL=http://" in finding.mend
        assert judge(seen).exit_status == 2
        assert find(seen, "kubeflow answers").result is Result.SKIPPED
        assert find(seen, "mlflow answers").result is Result.OK

    @pytest.mark.parametrize("url", ["ml-pipeline:8888", "ftp://x", "http://", "http://x:port"])
    def test_what_is_no_address_is_said(self, url: str) -> None:
        finding = only_failure(replace(GOOD, settings=replace(SETTINGS, mlflow_url=url)))
        assert finding.says.startswith("WINE_MLFLOW_URL")

    @pytest.mark.parametrize("template", ["http://{pod}", "http://same-for-all", "http://{namespace"])
    def test_a_template_must_tell_resources_apart(self, template: str) -> None:
        finding = only_failure(replace(GOOD, settings=replace(SETTINGS, endpoint_template=template)))
        assert finding.mend.startswith("WINE_ENDPOINT_TEMPLATE=http://{name}-wine-super-model.{namespace}.svc")


class TestKubernetes:
    def test_without_it_nothing_that_needs_it_is_judged(self) -> None:
        error = Unavailable("KubernetesUnavailable", "the API server cannot be reached")
        seen = replace(GOOD, kubernetes=error, identity=error, rights=error, source=error)
        finding = only_failure(seen)
        assert finding.reason == "KubernetesUnreachable"
        assert "KUBECONFIG" in finding.mend
        assert {"source secret is complete", "rights are granted", "seldon can read artifacts"} <= skipped(seen)
        assert find(seen, "mlflow answers").result is Result.OK
        assert find(seen, "seldondeployments are served").says == "stands on: kubernetes answers"

    def test_an_older_one_does_not_say_who_we_are(self) -> None:
        assert find(replace(GOOD, identity=""), "kubernetes answers").result is Result.OK

    def test_a_missing_right_is_named_with_its_rule(self) -> None:
        pods = Right("", "pods", ("list",))
        finding = only_failure(replace(GOOD, rights=replace(RIGHTS, missing={**RIGHTS.missing, pods: ("list",)})))
        assert finding.check == "right: pods"
        assert finding.says == f"{OPERATOR} may not list"
        assert "kubectl apply -f deploy/operator/rbac.yaml" in finding.mend
        assert '{apiGroups: [""], resources: [pods], verbs: [list]}' in finding.mend

    def test_only_the_missing_verbs_are_in_the_rule(self) -> None:
        secret = next(right for right in RIGHTS.missing if right.namespace)
        finding = only_failure(replace(GOOD, rights=replace(RIGHTS, missing={**RIGHTS.missing, secret: ("watch",)})))
        assert f"resourceNames: [{SETTINGS.source_secret}], verbs: [watch]" in finding.mend
        assert "the Role wine-operator in kubeflow" in finding.mend

    def test_a_persons_own_rights_are_not_the_operators(self) -> None:
        pods = Right("", "pods", ("list",))
        own = replace(RIGHTS, account="jane", own=False, missing={**RIGHTS.missing, pods: ("list",)})
        finding = find(replace(GOOD, identity="jane", rights=own), "right: pods")
        assert finding.result is Result.WARNING
        assert "your rights" in finding.says


class TestKinds:
    def test_the_crd_is_missing(self) -> None:
        seen = replace(GOOD, kinds=without(WINEPIPELINES, "v1"))
        finding = only_failure(seen)
        assert finding.mend == "kubectl apply --server-side -f crds/"
        assert "served of that group: v1" in finding.says
        assert skipped(seen) == {"winepipeline schema is current"}

    def test_the_crd_is_of_an_earlier_release(self) -> None:
        fields = tuple(f"spec.field{number}" for number in range(7))
        finding = only_failure(replace(GOOD, missing_fields=fields))
        assert finding.reason == "SchemaOutdated"
        assert "spec.field4 and 2 more" in finding.says

    def test_seldon_is_missing(self) -> None:
        finding = only_failure(replace(GOOD, kinds=without(SELDONDEPLOYMENTS, "v1alpha2")))
        assert finding.reason == "ServingPlatformMissing"
        assert "v1alpha2" in finding.says

    def test_without_poddefaults_it_works(self) -> None:
        seen = replace(GOOD, kinds=without(PODDEFAULTS))
        assert judge(seen).failures == ()
        assert find(seen, "poddefaults are served").result is Result.WARNING
        assert skipped(seen) == {"poddefaults act on pods"}

    def test_without_their_webhook_notebooks_get_nothing(self) -> None:
        finding = find(replace(GOOD, webhooks=()), "poddefaults act on pods")
        assert finding.result is Result.WARNING
        assert "/apply-poddefault" in finding.says

    def test_who_may_not_list_webhooks_is_told_how_else(self) -> None:
        finding = find(replace(GOOD, webhooks=None), "poddefaults act on pods")
        assert finding.result is Result.SKIPPED
        assert finding.mend == "kubectl get mutatingwebhookconfigurations"


class TestServing:
    CONTROLLER = ControllerView("seldon-system", "seldon-controller-manager", 1, 0)
    DOWN = Unavailable(
        "ServingPlatformUnavailable",
        'Seldon\'s controller is down or unreachable: the admission webhook "v1.vseldondeployment.kb.io" does not answer the API '
        "server (the connection is refused). Start it: kubectl get deployments,pods -A",
    )

    def test_its_controller_has_no_ready_pod(self) -> None:
        finding = only_failure(replace(GOOD, controllers=(self.CONTROLLER,)))
        assert finding.reason == "ServingPlatformUnavailable"
        assert "seldon-controller-manager in seldon-system has 0 of 1 pods ready" in finding.says
        assert "kubectl -n seldon-system describe" in finding.mend

    def test_its_controller_is_scaled_to_nothing(self) -> None:
        finding = only_failure(replace(GOOD, controllers=(replace(self.CONTROLLER, wanted=0),)))
        assert finding.mend == "kubectl -n seldon-system scale deployment seldon-controller-manager --replicas=1"

    def test_its_webhook_does_not_answer(self) -> None:
        finding = only_failure(replace(GOOD, admission=AdmissionView("kubeflow", self.DOWN)))
        assert finding.reason == "ServingPlatformUnavailable"
        assert finding.says.startswith("Seldon's controller is down")
        assert finding.mend == "kubectl get deployments,pods -A"

    def test_a_policy_that_refuses_the_dry_run_is_no_outage(self) -> None:
        error = Refused("AdmissionDenied", "Gatekeeper refuses it: labels")
        seen = replace(GOOD, admission=AdmissionView("kubeflow", error))
        assert judge(seen).failures == ()
        assert find(seen, "seldon webhooks answer").result is Result.WARNING

    def test_what_cannot_be_seen_says_how_else(self) -> None:
        unseen = replace(GOOD, controllers=None, admission=None)
        assert skipped(unseen) == {"seldon controller runs", "seldon webhooks answer"}
        assert find(unseen, "seldon controller runs").mend.startswith("kubectl get deployments")
        other = replace(
            GOOD, controllers=(), admission=AdmissionView("kubeflow", Refused("KubernetesRefused", "does not support dry run"))
        )
        assert skipped(other) == {"seldon controller runs", "seldon webhooks answer"}


class TestSourceSecret:
    def test_it_is_missing(self) -> None:
        state = SecretState("kubeflow", SETTINGS.source_secret, False, ("RCLONE_CONFIG_S3_TYPE",))
        seen = replace(GOOD, source=SourceView(state), bucket=None)
        finding = only_failure(seen)
        assert finding.reason == "SourceSecretMissing"
        assert f"create secret generic {SETTINGS.source_secret}" in finding.mend
        assert skipped(seen) == {"seldon can read artifacts"}

    def test_keys_are_missing(self) -> None:
        state = SecretState("kubeflow", SETTINGS.source_secret, True, ("RCLONE_CONFIG_S3_ENDPOINT",))
        finding = only_failure(replace(GOOD, source=SourceView(state, type="s3"), bucket=None))
        assert finding.says.endswith("has no value for RCLONE_CONFIG_S3_ENDPOINT")
        assert '"RCLONE_CONFIG_S3_ENDPOINT": "…"' in finding.mend

    @pytest.mark.parametrize(("kind", "endpoint"), [("gcs", "http://minio"), ("s3", "ftp://minio:9000")])
    def test_its_values_are_of_another_form(self, kind: str, endpoint: str) -> None:
        state = SecretState("kubeflow", SETTINGS.source_secret, True)
        assert only_failure(replace(GOOD, source=SourceView(state, kind, endpoint))).reason == "SourceSecretIncomplete"

    def test_who_may_not_read_it_is_pointed_at_the_rights(self) -> None:
        seen = replace(GOOD, source=Refused("KubernetesRefused", "403"))
        assert judge(seen).failures == ()
        assert "rights above" in find(seen, "source secret is complete").says


class TestKubeflow:
    def test_it_is_away(self) -> None:
        seen = replace(GOOD, kubeflow=Outage(SETTINGS.kfp_url, Reach.NO_CONNECTION))
        finding = only_failure(seen)
        assert finding.reason == "KubeflowUnreachable"
        assert "refuses the connection" in finding.says
        assert "ml-pipeline" in finding.mend
        assert {"kubeflow lets the operator in", "kubeflow rights are granted"} <= skipped(seen)

    def test_from_a_laptop_a_name_of_the_cluster_is_no_failure(self) -> None:
        seen = replace(GOOD, inside=False, kubeflow=Outage(SETTINGS.kfp_url, Reach.NO_ADDRESS))
        assert judge(seen).failures == ()
        finding = find(seen, "kubeflow answers")
        assert finding.says.endswith("from inside the cluster only")
        assert finding.mend == "kubectl -n kubeflow exec deploy/wine-operator -- python -m winepipelines doctor"

    @pytest.mark.parametrize("host", ["ml-pipeline.kubeflow", "ml-pipeline", "ml-pipeline.other.svc.example.internal"])
    def test_from_a_laptop_every_form_of_a_services_name_is_the_clusters(self, host: str) -> None:
        seen = replace(GOOD, inside=False, kubeflow=Outage(f"http://{host}:8888", Reach.NO_ADDRESS))
        assert judge(seen).failures == ()

    def test_from_a_laptop_another_name_is_a_failure(self) -> None:
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
    def test_the_token_is_of_no_use(self, token: TokenView, words: str) -> None:
        finding = only_failure(replace(GOOD, token=token))
        assert finding.reason == "KubeflowTokenUnusable"
        assert words in finding.says
        assert "audience: pipelines.kubeflow.org" in finding.mend

    def test_unknown_and_forbidden_are_told_apart(self) -> None:
        unknown = Refused("KubeflowRefused", "Kubeflow Pipelines answered 401: Unauthenticated")
        forbidden = Refused("KubeflowRefused", "Kubeflow Pipelines answered 403: Unauthorized access")
        assert only_failure(replace(GOOD, access=unknown)).reason == "KubeflowUnauthenticated"
        finding = only_failure(replace(GOOD, access=forbidden))
        assert finding.reason == "KubeflowForbidden"
        assert "rbac.yaml" in finding.mend

    def test_it_is_not_well(self) -> None:
        access = Unavailable("KubeflowUnavailable", "Kubeflow Pipelines answered 500: Internal error")
        assert only_failure(replace(GOOD, access=access)).reason == "KubeflowUnavailable"

    def test_multi_user_without_a_token_is_told(self) -> None:
        finding = find(replace(GOOD, token=None), "kubeflow lets the operator in")
        assert finding.result is Result.WARNING
        assert "WINE_KFP_TOKEN_FILE" in finding.mend

    def test_single_user_beside_profiles_is_told(self) -> None:
        single = replace(GOOD, kubeflow=KubeflowView("2.17.0", multi_user=False))
        assert find(single, "kubeflow lets the operator in").result is Result.WARNING
        alone = replace(single, kinds=without(PROFILES))
        assert find(alone, "kubeflow lets the operator in").result is Result.OK

    SHARED = replace(GOOD, kubeflow=KubeflowView("2.17.0", multi_user=False), kinds=without(PROFILES))

    def test_in_single_user_mode_runs_need_the_secret_where_they_are(self) -> None:
        missing = SecretState("kubeflow", "mlpipeline-minio-artifact", False)
        finding = only_failure(replace(self.SHARED, shared_artifacts=missing, namespace=None))
        assert finding.reason == "ArtifactSecretMissing"
        assert "kubeflow has no Secret mlpipeline-minio-artifact" in finding.says
        assert finding.mend.startswith("kubectl -n kubeflow create secret generic")
        there = replace(self.SHARED, shared_artifacts=replace(missing, exists=True), namespace=None)
        assert judge(there).failures == ()

    def test_in_single_user_mode_a_namespace_is_judged_by_where_its_runs_are(self) -> None:
        missing = SecretState("kubeflow", "mlpipeline-minio-artifact", False)
        view = replace(NAMESPACE, runs_in="kubeflow", artifacts=missing, bucket=None, service_account_exists=False)
        seen = replace(self.SHARED, namespace=view)
        assert find(seen, "artifact secret is complete").mend.startswith("kubectl -n kubeflow create secret")
        account = find(seen, "service account is there")
        assert account.result is Result.WARNING
        assert account.says.startswith("kubeflow has no service account pipeline-runner")

    def test_its_rights_matter_in_multi_user_mode_only(self) -> None:
        runs = next(right for right in RIGHTS.missing if right.resource == "runs")
        seen = replace(GOOD, rights=replace(RIGHTS, missing={**RIGHTS.missing, runs: ("terminate",)}))
        finding = only_failure(seen)
        assert finding.check == "right: runs.pipelines.kubeflow.org"
        assert "{apiGroups: [pipelines.kubeflow.org], resources: [runs], verbs: [terminate]}" in finding.mend
        assert judge(replace(seen, kubeflow=KubeflowView("2.17.0", multi_user=False))).failures == ()


class TestMlflow:
    def test_it_is_away(self) -> None:
        seen = replace(GOOD, mlflow=Outage(SETTINGS.mlflow_url, Reach.NO_ANSWER), artifact_address="", bucket=None)
        assert only_failure(seen).reason == "MlflowUnreachable"
        assert {"artifacts are in the store", "seldon can read artifacts"} <= skipped(seen)

    @pytest.mark.parametrize(
        ("status", "text", "reason", "mend"),
        [
            (
                403,
                "Invalid Host header - possible DNS rebinding attack detected",
                "MlflowHostRefused",
                "MLFLOW_SERVER_ALLOWED_HOSTS=mlflow.kubeflow.svc:5000",
            ),
            (403, "Permission denied", "MlflowUnauthorized", "WINE_MLFLOW_SECRET"),
            (401, "You are not authenticated", "MlflowUnauthorized", "WINE_MLFLOW_SECRET"),
            (404, "<html>", "MlflowNotFound", "WINE_MLFLOW_URL"),
            (500, "", "MlflowUnwell", "log"),
        ],
    )
    def test_it_answers_otherwise(self, status: int, text: str, reason: str, mend: str) -> None:
        seen = replace(GOOD, mlflow=MlflowView("3.17.2", status, text), artifact_address="", bucket=None)
        finding = only_failure(seen)
        assert finding.reason == reason
        assert mend in finding.mend

    def test_its_secret_is_missing_or_incomplete_or_not_what_it_wants(self) -> None:
        named = replace(GOOD, settings=replace(SETTINGS, mlflow_secret="credentials"))
        missing = replace(named, mlflow_secret=SecretState("kubeflow", "credentials", False, ("MLFLOW_TRACKING_USERNAME",)))
        assert only_failure(missing).reason == "MlflowSecretMissing"
        incomplete = replace(named, mlflow_secret=SecretState("kubeflow", "credentials", True, ("MLFLOW_TRACKING_PASSWORD",)))
        assert "MLFLOW_TRACKING_PASSWORD" in only_failure(incomplete).says
        known = replace(named, mlflow_secret=SecretState("kubeflow", "credentials", True))
        assert judge(known).failures == ()
        refused = replace(known, mlflow=MlflowView("3.17.2", 401, ""), artifact_address="", bucket=None)
        assert "edit secret credentials" in only_failure(refused).mend

    def test_artifacts_on_the_servers_disk_cannot_be_served(self) -> None:
        seen = replace(GOOD, artifact_address="/mlflow/0", bucket=None)
        finding = only_failure(seen)
        assert finding.reason == "ArtifactRootUnusable"
        assert "--default-artifact-root s3://" in finding.mend
        assert skipped(seen) == {"seldon can read artifacts", "steps can read artifacts"}

    def test_artifacts_behind_the_server_need_their_destination(self) -> None:
        finding = only_failure(replace(GOOD, artifact_address="mlflow-artifacts:/0", bucket=None))
        assert finding.mend.startswith("WINE_ARTIFACTS_DESTINATION=s3://")

    @pytest.mark.parametrize(
        ("code", "reason", "mend"),
        [
            ("NoSuchBucket", "BucketMissing", "mc mb <alias>/mlflow"),
            ("AccessDenied", "StoreAccessDenied", "list and read bucket mlflow"),
            ("SignatureDoesNotMatch", "StoreAccessDenied", "credentials in the Secret"),
        ],
    )
    def test_the_store_refuses(self, code: str, reason: str, mend: str) -> None:
        finding = only_failure(replace(GOOD, bucket=BucketView("s3://mlflow/0", "http://minio.kubeflow.svc:9000", code)))
        assert finding.reason == reason
        assert mend in finding.mend

    def test_two_stores_are_told(self) -> None:
        settings = replace(SETTINGS, s3_endpoint_url="http://other.example.org:9000")
        finding = find(replace(GOOD, settings=settings, same_store=False), "seldon can read artifacts")
        assert finding.result is Result.WARNING
        assert "WINE_S3_ENDPOINT_URL (chart value objectStore.url)=http://minio.kubeflow.svc:9000" in finding.mend

    @pytest.mark.parametrize("same", [True, None])
    def test_two_spellings_of_one_store_are_no_warning(self, same: bool | None) -> None:
        settings = replace(SETTINGS, s3_endpoint_url="http://minio.kubeflow.svc.cluster.local:9000")
        finding = find(replace(GOOD, settings=settings, same_store=same), "seldon can read artifacts")
        assert finding.result is Result.OK
        assert ("cannot be told from here" in finding.says) == (same is None)

    def test_the_store_is_away(self) -> None:
        outage = Outage("http://minio.kubeflow.svc:9000", Reach.NO_CONNECTION)
        assert only_failure(replace(GOOD, bucket=outage)).reason == "StoreUnreachable"
        assert judge(replace(GOOD, inside=False, bucket=outage)).failures == ()


class TestImages:
    @pytest.mark.parametrize("image", ["UPPER/case:1", "image:", "http://registry/image:1", "image@sha256:12"])
    def test_what_is_no_image_is_said(self, image: str) -> None:
        finding = only_failure(replace(GOOD, settings=replace(SETTINGS, steps_image=image)))
        assert finding.reason == "ImageNameInvalid"
        assert finding.mend.startswith("WINE_STEPS_IMAGE=")

    @pytest.mark.parametrize(
        ("image", "result"),
        [
            ("registry.example.org:5000/team/wine-server:1.2", Result.OK),
            ("wine@sha256:" + "0" * 64, Result.OK),
            ("wine", Result.WARNING),
            ("wine:latest", Result.WARNING),
        ],
    )
    def test_an_image_that_may_change_is_told(self, image: str, result: Result) -> None:
        assert find(replace(GOOD, settings=replace(SETTINGS, server_image=image)), "images are well named").result is result

    def test_a_pod_that_waits_for_one_is_named(self) -> None:
        pull = PullTrouble("admin", "wine-0", SETTINGS.steps_image, "ImagePullBackOff")
        finding = find(replace(GOOD, pulls=(pull,)), "images can be pulled")
        assert finding.result is Result.WARNING
        assert "wine-0 in admin" in finding.says
        assert finding.mend.startswith("kubectl -n admin describe pod wine-0")


class TestNamespace:
    def test_it_lacks_the_label(self) -> None:
        finding = only_failure(replace(GOOD, namespace=replace(NAMESPACE, labels={})))
        assert finding.mend == "kubectl label namespace admin app.kubernetes.io/part-of=kubeflow-profile"

    def test_it_does_not_exist(self) -> None:
        missing = replace(NAMESPACE, labels=Refused("NamespaceMissing", "there is no namespace admin"))
        assert only_failure(replace(GOOD, namespace=missing)).reason == "NamespaceMissing"

    def test_the_operator_may_not_look_at_it(self) -> None:
        seen = replace(GOOD, namespace=replace(NAMESPACE, labels=None, service_account_exists=None))
        assert skipped(seen) == {"namespace is a profile", "service account is there"}
        assert find(seen, "namespace is a profile").mend == "kubectl get namespace admin --show-labels"

    def test_the_service_account_is_missing(self) -> None:
        seen = replace(GOOD, namespace=replace(NAMESPACE, service_account_exists=False))
        assert only_failure(seen).reason == "ServiceAccountMissing"
        assert judge(replace(seen, kubeflow=KubeflowView("2.17.0", multi_user=False))).failures == ()

    def test_its_secret_is_missing_or_incomplete(self) -> None:
        name = "mlpipeline-minio-artifact"
        missing = replace(NAMESPACE, artifacts=SecretState("admin", name, False, ("accesskey", "secretkey")))
        assert "kubectl get profile admin" in only_failure(replace(GOOD, namespace=missing)).mend
        incomplete = replace(NAMESPACE, artifacts=SecretState("admin", name, True, ("secretkey",)))
        finding = only_failure(replace(GOOD, namespace=incomplete))
        assert finding.says.endswith("has no value for secretkey")

    def test_its_keys_do_not_open_the_store(self) -> None:
        refused = BucketView("s3://mlflow/0", "http://minio.kubeflow.svc:9000", "InvalidAccessKeyId")
        finding = only_failure(replace(GOOD, namespace=replace(NAMESPACE, bucket=refused)))
        assert finding.check == "steps can read artifacts"
        assert "mlpipeline-minio-artifact of admin" in finding.says

    def test_foreign_objects_are_named_with_the_way_out(self) -> None:
        foreign = (
            ObjectView("Secret", "seldon-init-container-secret", Presence.FOREIGN),
            ObjectView("PodDefault", "access-minio", Presence.FOREIGN),
        )
        seen = replace(GOOD, namespace=replace(NAMESPACE, objects=foreign))
        assert only_failure(seen).mend == "kubectl -n admin delete secret seldon-init-container-secret"
        results = [finding.result for finding in judge(seen).findings if finding.check == "names are free"]
        assert results == [Result.FAILED, Result.WARNING]

    def test_a_foreign_deployment_is_in_the_way(self) -> None:
        foreign = (ObjectView("SeldonDeployment", "mlflow", Presence.FOREIGN),)
        seen = replace(GOOD, namespace=replace(NAMESPACE, objects=foreign))
        assert only_failure(seen).mend == "kubectl -n admin delete sdep mlflow"

    def test_rights_that_do_not_reach_it(self) -> None:
        pods = Right("", "pods", ("list",))
        view = replace(RIGHTS, missing={**RIGHTS.missing, pods: ("list",)})
        assert only_failure(replace(GOOD, namespace=replace(NAMESPACE, rights=view))).check == "right: pods"

    def test_kubeflow_refuses_it(self) -> None:
        access = Refused("KubeflowRefused", "Kubeflow Pipelines answered 403: Unauthorized access")
        finding = only_failure(replace(GOOD, namespace=replace(NAMESPACE, access=access)))
        assert finding.reason == "KubeflowForbidden"
        assert "RoleBinding in admin" in finding.mend


class TestDataHost:
    URL = "http://data.example.org:8080/wine.csv?token=secret"
    ITSELF, OTHER = ("192.0.2.1",), ("10.0.0.1",)

    def view(
        self,
        bare: tuple[str, ...],
        absolute: tuple[str, ...],
        *,
        dot: bool = False,
        captured: Mapping[str, tuple[str, ...]] | None = None,
    ) -> Survey:
        host = "data.example.org" + ("." if dot else "")
        return replace(GOOD, data_host=HostView(self.URL, host, bare, absolute, captured or {}))

    def test_a_host_that_a_search_domain_answers_for(self) -> None:
        seen = self.view(self.OTHER, self.ITSELF, captured={"svc.cluster.local": self.OTHER})
        finding = only_failure(seen)
        assert finding.reason == "DataHostCaptured"
        assert "svc.cluster.local" in finding.says
        assert finding.mend == "spec.data.url: http://data.example.org.:8080/wine.csv"
        assert "secret" not in finding.mend

    def test_a_host_that_resolves_only_with_a_dot(self) -> None:
        finding = only_failure(self.view((), self.ITSELF))
        assert finding.reason == "DataHostCaptured"
        assert finding.mend == "spec.data.url: http://data.example.org.:8080/wine.csv"

    def test_with_the_dot_search_domains_do_not_matter(self) -> None:
        seen = self.view(self.OTHER, self.ITSELF, dot=True, captured={"svc.cluster.local": self.OTHER})
        assert find(seen, "data host resolves").result is Result.OK

    def test_a_dot_on_a_name_that_only_a_search_domain_knows(self) -> None:
        finding = only_failure(self.view(self.OTHER, (), dot=True))
        assert finding.mend == "spec.data.url: http://data.example.org:8080/wine.csv"

    def test_a_short_name_of_the_cluster_is_fine(self) -> None:
        seen = self.view(self.OTHER, (), captured={"admin.svc.cluster.local": self.OTHER})
        assert find(seen, "data host resolves").result is Result.OK

    def test_a_host_that_nobody_knows(self) -> None:
        assert only_failure(self.view((), ())).reason == "DataHostUnresolved"

    def test_two_answers_for_no_known_reason_are_told(self) -> None:
        assert find(self.view(self.OTHER, self.ITSELF), "data host resolves").result is Result.WARNING

    def test_an_address_and_a_bucket_need_no_dns(self) -> None:
        address = replace(GOOD, data_host=HostView("http://192.0.2.1/x", "192.0.2.1", is_address=True))
        assert find(address, "data host resolves").result is Result.OK
        bucket = replace(GOOD, data_host=HostView("s3://bucket/x", ""))
        assert find(bucket, "data host resolves").result is Result.SKIPPED

    def test_from_a_laptop_the_answer_is_the_laptops(self) -> None:
        finding = find(replace(GOOD, inside=False), "data host resolves")
        assert "as seen from this machine" in finding.says


class TestSignedModels:
    def test_a_key_of_no_use_is_told(self) -> None:
        key = KeyState("admin", exists=True, problem="the Secret wine-model-key has no key 'current'")
        finding = only_failure(replace(GOOD, namespace=replace(NAMESPACE, key=key)))
        assert (finding.check, finding.reason) == ("model key is usable", "ModelKeyInvalid")
        assert "kubectl -n admin delete secret wine-model-key" in finding.mend

    def test_a_key_is_missing_only_where_the_operator_may_not_make_it(self) -> None:
        view = replace(NAMESPACE, key=KeyState("kubeflow", exists=False), runs_in="kubeflow")
        assert find(replace(GOOD, namespace=view), "model key is usable").result is Result.OK
        limited = replace(SETTINGS, namespaces=("admin",))
        finding = find(replace(GOOD, settings=limited, namespace=view), "model key is usable")
        assert finding.reason == "ModelKeyMissing"

    def test_models_of_before_are_listed(self) -> None:
        finding = find(replace(GOOD, namespace=replace(NAMESPACE, unsigned=("red", "white"))), "models are signed")
        assert finding.result is Result.WARNING
        assert "red, white" in finding.says
        assert "winepipelines.io/retrain" in finding.mend
