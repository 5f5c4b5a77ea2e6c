"""The observations of `doctor` on a healthy platform, of which tests change one."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from winepipelines.api.observed import KeyState, Presence, SecretState
from winepipelines.doctor import runner
from winepipelines.doctor.checks import images, kinds, mesh, platform_checks, poddefaults, secrets
from winepipelines.doctor.finding import Finding, Report, Result
from winepipelines.doctor.observations import (
    KINDS,
    AdmissionView,
    ApiKind,
    BucketView,
    ControllerView,
    HostView,
    KindView,
    KubeflowView,
    MlflowView,
    NamespaceView,
    ObjectView,
    PodDefaultsView,
    RightsView,
    SourceOfNamespace,
    SourceView,
    Survey,
    TokenView,
    Webhook,
)
from winepipelines.doctor.rights import PIPELINES, rights
from winepipelines.serving.seldon import checks as serving
from winepipelines.serving.seldon.backend import SeldonBackend
from winepipelines.serving.seldon.naming import KIND
from winepipelines.settings import Settings

NOW = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
OPERATOR = "system:serviceaccount:kubeflow:wine-operator"
SETTINGS = Settings(
    kfp_url="http://ml-pipeline.kubeflow.svc:8888",
    mlflow_url="http://mlflow.kubeflow.svc:5000",
    s3_endpoint_url="http://minio.kubeflow.svc:9000",
    kfp_token_file="/var/run/kfp/token",
)
BACKEND = SeldonBackend(SETTINGS)
PLATFORM = platform_checks(BACKEND.checks)
ALL_KINDS = (*KINDS, KIND)
RIGHTS = RightsView(OPERATOR, True, dict.fromkeys(rights(SETTINGS, BACKEND), ()))
TOKEN = TokenView(OPERATOR, (PIPELINES,), NOW + timedelta(hours=1))
BUCKET = BucketView("s3://mlflow", "http://minio.kubeflow.svc:9000")
OUTPUTS = BucketView("s3://mlpipeline/private/admin/predictions", "http://minio.kubeflow.svc:9000")
NAMESPACE = NamespaceView(
    name="admin",
    labels={"app.kubernetes.io/part-of": "kubeflow-profile"},
    service_account_exists=True,
    artifacts=SecretState("admin", "mlpipeline-minio-artifact", True),
    bucket=BUCKET,
    outputs=OUTPUTS,
    objects=(ObjectView("Secret", "seldon-init-container-secret", Presence.ABSENT),),
    rights=RIGHTS,
    key=KeyState("admin", exists=True),
)
HOST = HostView("http://data.example.org/wine.csv", "data.example.org", ("192.0.2.1",), ("192.0.2.1",))
GOOD = Survey(
    settings=SETTINGS,
    backend_settings=BACKEND.settings,
    inside=True,
    now=NOW,
    kubernetes="v1.36.3",
    identity=OPERATOR,
    kinds=dict.fromkeys(ALL_KINDS, KindView(served=True)),
    rights=RIGHTS,
    source=SourceView(SecretState("kubeflow", BACKEND.source.name, True), {serving.TYPE: "s3"}, "http://minio.kubeflow.svc:9000"),
    kubeflow=KubeflowView("2.17.0", multi_user=True),
    token=TOKEN,
    access=None,
    mlflow=MlflowView("3.17.2", 200, '{"experiment": {"artifact_location": "s3://mlflow/0"}}'),
    bucket=BUCKET,
    same_store=True,
    namespaces=frozenset({"kubeflow"}),
    artifact_address="s3://mlflow/0",
    namespace=NAMESPACE,
    data_host=HOST,
    observations={
        kinds.observe_missing_fields: (),
        kinds.observe_webhooks: (Webhook("admission-webhook", "/apply-poddefault", "admission-webhook-service.kubeflow"),),
        serving.observe_controllers: (ControllerView("seldon-system", "seldon-controller-manager", 1, 1),),
        serving.observe_admission: AdmissionView("kubeflow"),
        images.observe_pulls: (),
        poddefaults.observe_pod_defaults: PodDefaultsView(),
        mesh.observe_mesh_policies: (),
        secrets.observe_keys_of_models: SourceOfNamespace("kubeflow", BACKEND.source.name, "the administrator named it"),
    },
)


def evaluate(survey: Survey) -> Report:
    """Evaluate all checks."""
    return runner.evaluate(survey, BACKEND.checks)


def observed(**views: object) -> Survey:
    """Build the survey of a healthy platform with other results of some coroutines `observe_<name>`."""
    changed = {observe: views.pop(observe.__name__.removeprefix("observe_"), view) for observe, view in GOOD.observations.items()}
    assert not views, f"no check observes {list(views)}"
    return replace(GOOD, observations=changed)


def find(survey: Survey, check: str) -> Finding:
    """Evaluate all checks; return the finding of one."""
    return next(finding for finding in evaluate(survey).findings if finding.check == check)


def only_failure(survey: Survey) -> Finding:
    """Evaluate all checks, of which exactly one must fail; return its finding."""
    [finding] = evaluate(survey).failures
    return finding


def skipped(survey: Survey) -> set[str]:
    """Return the names of the skipped checks."""
    return {finding.check for finding in evaluate(survey).findings if finding.result is Result.SKIPPED}


def without(kind: ApiKind, *versions: str) -> Mapping[ApiKind, KindView]:
    """Describe an API server with all kinds except one, which serves only these versions of its group."""
    return {**dict.fromkeys(ALL_KINDS, KindView(served=True)), kind: KindView(False, versions)}
