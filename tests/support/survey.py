"""A platform where all is well, as `doctor` sees it; tests break one thing of it."""

from datetime import UTC, datetime, timedelta

from winepipelines.doctor.observations import (
    KINDS,
    AdmissionView,
    BucketView,
    ControllerView,
    HostView,
    KindView,
    KubeflowView,
    MlflowView,
    NamespaceView,
    ObjectView,
    RightsView,
    SourceView,
    Survey,
    TokenView,
    Webhook,
)
from winepipelines.doctor.rights import PIPELINES, rights
from winepipelines.resource.observed import KeyState, Presence, SecretState
from winepipelines.settings import Settings

NOW = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
OPERATOR = "system:serviceaccount:kubeflow:wine-operator"
SETTINGS = Settings(
    kfp_url="http://ml-pipeline.kubeflow.svc:8888",
    mlflow_url="http://mlflow.kubeflow.svc:5000",
    s3_endpoint_url="http://minio.kubeflow.svc:9000",
    kfp_token_file="/var/run/kfp/token",
)
RIGHTS = RightsView(OPERATOR, True, dict.fromkeys(rights(SETTINGS), ()))
TOKEN = TokenView(OPERATOR, (PIPELINES,), NOW + timedelta(hours=1))
BUCKET = BucketView("s3://mlflow/0", "http://minio.kubeflow.svc:9000")
NAMESPACE = NamespaceView(
    name="admin",
    labels={"app.kubernetes.io/part-of": "kubeflow-profile"},
    service_account_exists=True,
    artifacts=SecretState("admin", "mlpipeline-minio-artifact", True),
    bucket=BUCKET,
    objects=(ObjectView("Secret", "seldon-init-container-secret", Presence.ABSENT),),
    rights=RIGHTS,
    key=KeyState("admin", exists=True),
)
HOST = HostView("http://data.example.org/wine.csv", "data.example.org", ("192.0.2.1",), ("192.0.2.1",))
GOOD = Survey(
    settings=SETTINGS,
    inside=True,
    now=NOW,
    kubernetes="v1.36.3",
    identity=OPERATOR,
    kinds=dict.fromkeys(KINDS, KindView(served=True)),
    missing_fields=(),
    rights=RIGHTS,
    webhooks=(Webhook("admission-webhook", "/apply-poddefault", "admission-webhook-service.kubeflow"),),
    source=SourceView(
        SecretState("kubeflow", SETTINGS.source_secret, True), type="s3", endpoint="http://minio.kubeflow.svc:9000"
    ),
    kubeflow=KubeflowView("2.17.0", multi_user=True),
    token=TOKEN,
    access=None,
    mlflow=MlflowView("3.17.2", 200, '{"experiment": {"artifact_location": "s3://mlflow/0"}}'),
    bucket=BUCKET,
    pulls=(),
    controllers=(ControllerView("seldon-system", "seldon-controller-manager", 1, 1),),
    admission=AdmissionView("kubeflow"),
    same_store=True,
    namespaces=frozenset({"kubeflow"}),
    artifact_address="s3://mlflow/0",
    namespace=NAMESPACE,
    data_host=HOST,
)
