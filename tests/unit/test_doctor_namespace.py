"""Each check of a namespace and of a data host: a misconfiguration fails it, and no other check."""

from collections.abc import Mapping
from dataclasses import replace

from support.survey import BUCKET, GOOD, NAMESPACE, OUTPUTS, RIGHTS, SETTINGS, evaluate, find, observed, only_failure, skipped

from winecontract.reasons import Reason
from winepipelines.api.errors import Refused
from winepipelines.api.observed import KeyState, Presence, Rival, SecretState
from winepipelines.api.sourcesecret import StoreOperation
from winepipelines.doctor.finding import Result
from winepipelines.doctor.observations import (
    BucketView,
    HostView,
    KubeflowView,
    ObjectView,
    Outage,
    PodDefaultsView,
    Reach,
    SourceOfNamespace,
    Survey,
)
from winepipelines.doctor.right import Right


class TestNamespace:
    def test_missing_label_fails(self) -> None:
        finding = only_failure(replace(GOOD, namespace=replace(NAMESPACE, labels={})))
        assert finding.remedy == "kubectl label namespace admin app.kubernetes.io/part-of=kubeflow-profile"

    def test_missing_namespace_fails(self) -> None:
        missing = replace(NAMESPACE, labels=Refused(Reason.NAMESPACE_MISSING, "there is no namespace admin"))
        assert only_failure(replace(GOOD, namespace=missing)).reason == "NamespaceMissing"

    def test_namespace_checks_are_skipped_without_rights(self) -> None:
        seen = replace(GOOD, namespace=replace(NAMESPACE, labels=None, service_account_exists=None))
        assert skipped(seen) == {"namespace is a profile", "service account exists", "mesh admits the operator"}
        assert find(seen, "namespace is a profile").remedy == "kubectl get namespace admin --show-labels"

    def test_missing_service_account_fails_in_multi_user_mode_only(self) -> None:
        seen = replace(GOOD, namespace=replace(NAMESPACE, service_account_exists=False))
        assert only_failure(seen).reason == "ServiceAccountMissing"
        assert evaluate(replace(seen, kubeflow=KubeflowView("2.17.0", multi_user=False))).failures == ()

    def test_artifact_secret_fails_when_missing_or_incomplete(self) -> None:
        name = "mlpipeline-minio-artifact"
        missing = replace(NAMESPACE, artifacts=SecretState("admin", name, False, ("accesskey", "secretkey")))
        assert "kubectl get profile admin" in only_failure(replace(GOOD, namespace=missing)).remedy
        incomplete = replace(NAMESPACE, artifacts=SecretState("admin", name, True, ("secretkey",)))
        finding = only_failure(replace(GOOD, namespace=incomplete))
        assert finding.message.endswith("has no value for secretkey")

    def test_refused_artifact_keys_fail(self) -> None:
        refused = replace(BUCKET, codes=dict.fromkeys(StoreOperation, "InvalidAccessKeyId"))
        finding = only_failure(replace(GOOD, namespace=replace(NAMESPACE, bucket=refused)))
        assert finding.check == "steps can read and write artifacts"
        assert "does not accept the keys of the Secret mlpipeline-minio-artifact in namespace admin" in finding.message

    def test_denied_write_of_artifacts_fails_with_prefix_and_policy(self) -> None:
        view = BucketView("s3://mlpipeline/mlflow", "http://seaweedfs:8333", {StoreOperation.WRITE: "AccessDenied"})
        finding = only_failure(replace(GOOD, namespace=replace(NAMESPACE, bucket=view)))
        assert finding.message == (
            "http://seaweedfs:8333 denies the keys of the Secret mlpipeline-minio-artifact in namespace admin to write below "
            "s3://mlpipeline/mlflow/ (AccessDenied)"
        )
        assert finding.remedy.startswith(
            "Allow these keys s3:PutObject on arn:aws:s3:::mlpipeline/mlflow/* (SeaweedFS: Write:mlpipeline/mlflow/*); or "
        )

    def test_artifacts_that_the_mlflow_server_keeps_need_no_keys_of_the_steps(self) -> None:
        view = replace(BUCKET, codes=dict.fromkeys(StoreOperation, "AccessDenied"))
        seen = replace(GOOD, artifact_address="s3://mlflow/served/0", namespace=replace(NAMESPACE, bucket=view))
        assert only_failure(seen).check == "steps can read and write artifacts"
        assert evaluate(replace(seen, settings=SETTINGS.with_(artifacts_destination="s3://mlflow/served"))).failures == ()

    def test_denied_default_outputs_are_a_warning_with_the_setting(self) -> None:
        denied = replace(OUTPUTS, codes=dict.fromkeys((StoreOperation.READ, StoreOperation.WRITE), "AccessDenied"))
        seen = replace(GOOD, namespace=replace(NAMESPACE, outputs=denied))
        assert evaluate(seen).failures == ()
        finding = find(seen, "steps can write outputs")
        assert finding.result is Result.WARNING
        assert "to read and write below s3://mlpipeline/private/admin/predictions/ (AccessDenied)" in finding.message
        assert "s3:PutObject on arn:aws:s3:::mlpipeline/private/admin/predictions/*" in finding.remedy
        assert "WINE_PREDICTION_OUTPUT_FOLDER (chart value predictions.outputFolder)" in finding.remedy

    def test_store_that_does_not_answer_fails_for_outputs_too(self) -> None:
        outage = Outage("http://minio.kubeflow.svc:9000", Reach.NO_CONNECTION)
        finding = only_failure(replace(GOOD, namespace=replace(NAMESPACE, outputs=outage)))
        assert (finding.check, finding.reason) == ("steps can write outputs", "ObjectStoreUnreachable")

    def test_unmanaged_objects_are_named_with_the_command_to_delete_them(self) -> None:
        foreign = (
            ObjectView("Secret", "seldon-init-container-secret", Presence.NOT_MANAGED),
            ObjectView("PodDefault", "access-minio", Presence.NOT_MANAGED),
        )
        seen = replace(GOOD, namespace=replace(NAMESPACE, objects=foreign))
        assert only_failure(seen).remedy == "kubectl -n admin delete secret seldon-init-container-secret"
        results = [finding.result for finding in evaluate(seen).findings if finding.check == "names are available"]
        assert results == [Result.FAILED, Result.WARNING]

    def test_poddefault_that_has_the_pods_of_steps_refused_fails(self) -> None:
        view = PodDefaultsView(refusal=Rival("all-pods", ("AWS_ACCESS_KEY_ID",)))
        finding = only_failure(observed(pod_defaults=view))
        assert (finding.check, finding.reason) == ("poddefaults admit pods", "PodDefaultConflict")
        assert "all-pods in admin" in finding.message
        single = replace(observed(pod_defaults=view), kubeflow=KubeflowView("2.17.0", multi_user=False))
        assert evaluate(single).failures == (), "steps are elsewhere"

    def test_poddefault_of_the_platform_is_used_and_its_name_is_not_reported(self) -> None:
        view = PodDefaultsView({"mlflow-server-minio": Rival("mlflow-server-minio", ())})
        foreign = (ObjectView("PodDefault", "mlflow-server-minio", Presence.NOT_MANAGED),)
        seen = replace(observed(pod_defaults=view), namespace=replace(NAMESPACE, objects=foreign))
        assert (
            find(seen, "poddefaults admit pods").message == "mlflow-server-minio of the platform is used for mlflow-server-minio"
        )
        assert find(seen, "names are available").result is Result.OK

    def test_conflicting_poddefault_is_a_warning(self) -> None:
        view = PodDefaultsView({"access-minio": Rival("team-minio", ("AWS_ACCESS_KEY_ID",), ("MINIO_ENDPOINT_URL",))})
        finding = find(observed(pod_defaults=view), "poddefaults admit pods")
        assert finding.result is Result.WARNING
        assert finding.remedy == "kubectl -n admin edit poddefault team-minio: add MINIO_ENDPOINT_URL, or delete it"

    def test_poddefaults_are_skipped_when_they_cannot_be_listed(self) -> None:
        seen = observed(pod_defaults=Refused(Reason.CRD_MISSING, "may not list"))
        assert skipped(seen) == {"poddefaults admit pods"}

    def test_secret_that_models_are_copied_with_is_named_with_its_reason(self) -> None:
        own = SourceOfNamespace("admin", "mlpipeline-minio-artifact", "the profile has it")
        finding = find(observed(keys_of_models=own), "models are copied with known keys")
        assert finding.message == "Those of mlpipeline-minio-artifact in admin: the profile has it"
        unknown = observed(keys_of_models=Refused(Reason.PERMISSION_MISSING, "may not read"))
        assert skipped(unknown) == {"models are copied with known keys"}

    def test_unmanaged_deployment_fails(self) -> None:
        foreign = (ObjectView("SeldonDeployment", "mlflow", Presence.NOT_MANAGED, "sdep"),)
        seen = replace(GOOD, namespace=replace(NAMESPACE, objects=foreign))
        assert only_failure(seen).remedy == "kubectl -n admin delete sdep mlflow"

    def test_rights_missing_in_the_namespace_fail(self) -> None:
        pods = Right("", "pods", ("list",))
        view = replace(RIGHTS, missing={**RIGHTS.missing, pods: ("list",)})
        assert only_failure(replace(GOOD, namespace=replace(NAMESPACE, rights=view))).check == "right: pods"

    def test_namespace_forbidden_by_kubeflow_fails(self) -> None:
        access = Refused(Reason.KUBEFLOW_REQUEST_REJECTED, "Unauthorized access", status=403)
        finding = only_failure(replace(GOOD, namespace=replace(NAMESPACE, access=access)))
        assert finding.reason == "KubeflowForbidden"
        assert "RoleBinding in admin" in finding.remedy


class TestSignedModels:
    def test_invalid_model_key_fails(self) -> None:
        key = KeyState("admin", exists=True, problem="the Secret wine-model-key has no key 'current'")
        finding = only_failure(replace(GOOD, namespace=replace(NAMESPACE, key=key)))
        assert (finding.check, finding.reason) == ("model key is usable", "ModelKeyInvalid")
        assert "kubectl -n admin delete secret wine-model-key" in finding.remedy

    def test_missing_model_key_fails_when_the_operator_may_not_create_it(self) -> None:
        view = replace(NAMESPACE, key=KeyState("kubeflow", exists=False), runs_in="kubeflow")
        assert find(replace(GOOD, namespace=view), "model key is usable").result is Result.OK
        limited = SETTINGS.with_(namespaces=("admin",))
        finding = find(replace(GOOD, settings=limited, namespace=view), "model key is usable")
        assert finding.reason == "ModelKeyMissing"

    def test_unsigned_models_are_a_warning(self) -> None:
        finding = find(replace(GOOD, namespace=replace(NAMESPACE, unsigned=("red", "white"))), "models are signed")
        assert finding.result is Result.WARNING
        assert "red, white" in finding.message
        assert "winepipelines.io/retrain" in finding.remedy


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

    def test_host_captured_by_a_search_domain_fails(self) -> None:
        seen = self.view(self.OTHER, self.ITSELF, captured={"svc.cluster.local": self.OTHER})
        finding = only_failure(seen)
        assert finding.reason == "DataHostCaptured"
        assert "svc.cluster.local" in finding.message
        assert finding.remedy == "spec.data.url: http://data.example.org.:8080/wine.csv"
        assert "secret" not in finding.remedy

    def test_host_that_resolves_only_with_a_trailing_dot_fails(self) -> None:
        finding = only_failure(self.view((), self.ITSELF))
        assert finding.reason == "DataHostCaptured"
        assert finding.remedy == "spec.data.url: http://data.example.org.:8080/wine.csv"

    def test_trailing_dot_bypasses_search_domains(self) -> None:
        seen = self.view(self.OTHER, self.ITSELF, dot=True, captured={"svc.cluster.local": self.OTHER})
        assert find(seen, "data host resolves").result is Result.OK

    def test_trailing_dot_fails_for_a_search_domain_name(self) -> None:
        finding = only_failure(self.view(self.OTHER, (), dot=True))
        assert finding.remedy == "spec.data.url: http://data.example.org:8080/wine.csv"

    def test_short_cluster_name_passes(self) -> None:
        seen = self.view(self.OTHER, (), captured={"admin.svc.cluster.local": self.OTHER})
        assert find(seen, "data host resolves").result is Result.OK

    def test_unknown_host_fails(self) -> None:
        assert only_failure(self.view((), ())).reason == "DataHostUnresolved"

    def test_disjoint_answers_are_a_warning(self) -> None:
        assert find(self.view(self.OTHER, self.ITSELF), "data host resolves").result is Result.WARNING

    def test_address_and_bucket_need_no_dns(self) -> None:
        address = replace(GOOD, data_host=HostView("http://192.0.2.1/x", "192.0.2.1", is_address=True))
        assert find(address, "data host resolves").result is Result.OK
        bucket = replace(GOOD, data_host=HostView("s3://bucket/x", ""))
        assert find(bucket, "data host resolves").result is Result.SKIPPED

    def test_answer_names_the_machine_outside_the_cluster(self) -> None:
        finding = find(replace(GOOD, inside=False), "data host resolves")
        assert "as seen from this machine" in finding.message
