"""The administrator's settings: where the platform is, limits and timeouts. Read once from `WINE_*` variables.

A resource cannot change any of it: neither the operator nor the credentials that it holds can be pointed at another host.
"""

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator

from winepipelines import __version__
from winepipelines.api.timeouts import Timeouts
from winepipelines.environment import EnvironmentSettings
from winepipelines.validation import (
    Chart,
    Image,
    Names,
    Namespace,
    Namespaces,
    Networks,
    OptionalName,
    OptionalS3Address,
    OptionalSecretName,
    OptionalServiceAccount,
    OptionalUrl,
    Port,
    Quantity,
    RequiredText,
    S3Folder,
    Seconds,
    ServerUrl,
    Text,
    Url,
)

AUTO = "auto"
REPOSITORY = Path(__file__).resolve().parents[2]
KFP_EXAMPLE = "http://ml-pipeline.kubeflow.svc.cluster.local:8888"
MLFLOW_EXAMPLE = "http://mlflow-server.kubeflow.svc.cluster.local:5000"
STORE_EXAMPLE = "http://minio.kubeflow.svc.cluster.local:9000"


class Settings(EnvironmentSettings):
    """Settings of the operator. Addresses are URLs without a trailing slash.

    `serving_backend` names the backend that serves the models of resources without a choice of their own, by its key in the
    registry of backends; `auto` is the first one that is installed. `serving_backends` are those that resources may choose.
    """

    judged_by_doctor: ClassVar = frozenset({"kfp_url", "mlflow_url", "s3_endpoint_url", "steps_image", "server_image"})

    kfp_url: Annotated[Url, Chart("kubeflow.url"), Field(examples=[KFP_EXAMPLE])]
    mlflow_url: Annotated[Url, Chart("mlflow.url"), Field(examples=[MLFLOW_EXAMPLE])]
    s3_endpoint_url: Annotated[ServerUrl, Chart("objectStore.url"), Field(examples=[STORE_EXAMPLE])]
    kfp_ui_url: Annotated[OptionalUrl, Chart("kubeflow.uiUrl"), Field(examples=["https://kubeflow.example.org/pipeline"])] = ""
    kfp_token_file: Annotated[Text, Chart("kubeflow.token")] = ""
    kfp_ca_file: Annotated[Text, Chart("kubeflow.ca")] = ""
    kfp_service_account: Annotated[OptionalServiceAccount, Chart("kubeflow.serviceAccount")] = ""
    steps_mlflow_url: Annotated[OptionalUrl, Chart("mlflow.stepsUrl"), Field(examples=[MLFLOW_EXAMPLE])] = ""
    mlflow_secret: Annotated[OptionalSecretName, Chart("mlflow.secret")] = ""
    steps_mlflow_secret: Annotated[OptionalSecretName, Chart("mlflow.stepsSecret")] = ""  # empty: the operator's own
    mlflow_ca_file: Annotated[Text, Chart("mlflow.ca")] = ""
    artifacts_destination: Annotated[OptionalS3Address, Chart("mlflow.artifactsDestination")] = ""
    prediction_output_folder: Annotated[S3Folder, Chart("predictions.outputFolder")] = "s3://mlpipeline/private"
    platform_namespace: Annotated[Namespace, Chart("platformNamespace")] = "kubeflow"
    serving_backend: Annotated[OptionalName, Chart("serving.backend")] = AUTO
    serving_backends: Annotated[Names, Chart("serving.backends")] = ()  # none: `serving_backend`, or all with `auto`
    unsigned_models: Annotated[Literal["refuse", "serve"], Chart("models.unsigned")] = "refuse"
    steps_image: Annotated[Image, Chart("image.steps")] = f"winepipelines/steps:{__version__}"
    server_image: Annotated[Image, Chart("image.server")] = f"winepipelines/server:{__version__}"
    templates: RequiredText = str(REPOSITORY / "templates")
    crds: Text = str(REPOSITORY / "crds")
    max_data_bytes: Annotated[int, Field(ge=1, le=1 << 60), Chart("limits.maxDataBytes")] = 1 << 30
    data_private_networks: Annotated[Literal["direct", "allow", "refuse"], Chart("data.privateNetworks")] = "direct"
    data_allowed_networks: Annotated[Networks, Chart("data.allowedNetworks")] = ()  # allowed whatever the line above says
    step_cpu_request: Annotated[Quantity, Chart("steps.cpuRequest")] = "100m"  # where the resource does not set one
    step_memory_request: Annotated[Quantity, Chart("steps.memoryRequest")] = "256Mi"
    step_memory_limit: Annotated[Quantity, Chart("steps.memoryLimit")] = "4Gi"
    poll_seconds: Annotated[Seconds, Chart("timeouts.pollSeconds")] = 10.0  # between two lists of runs that no watch covers
    poll_fallback_seconds: Annotated[Seconds, Chart("timeouts.pollFallbackSeconds")] = 120.0  # and of those that one covers
    request_seconds: Annotated[Seconds, Chart("limits.requestSeconds")] = 20.0
    workers: Annotated[int, Field(ge=1, le=1000), Chart("limits.workers")] = 10
    probe_host: RequiredText = "0.0.0.0"  # noqa: S104 - a kubelet probes a pod from outside
    probe_port: Port = 0
    metrics_host: RequiredText = "0.0.0.0"  # noqa: S104 - and a Prometheus scrapes it from outside
    metrics_port: Annotated[Port, Chart("metrics.port")] = 0
    doctor_seconds: Annotated[Seconds, Chart("timeouts.doctorSeconds")] = 300.0  # between two checks of the platform
    reconcile_seconds: Annotated[Seconds, Chart("limits.reconcileSeconds")] = 120.0  # a longer reconcile is canceled
    namespaces: Annotated[Namespaces, Chart("namespaces")] = ()  # to watch; none: all
    log_level: Annotated[Literal["debug", "info", "warning", "error"], Chart("logging.level")] = "info"
    log_format: Annotated[Literal["text", "json"], Chart("logging.format")] = "text"
    timeouts: Annotated[Timeouts, Chart("timeouts")] = Timeouts()

    @field_validator("metrics_port")
    @classmethod
    def _not_the_probe_port(cls, port: int, info: ValidationInfo) -> int:
        if port and port == info.data.get("probe_port"):
            raise ValueError(f"{port} is the probe's port; choose another")
        return port

    @property
    def mlflow_url_in_steps(self) -> str:
        """MLflow's address as the steps see it."""
        return self.steps_mlflow_url or self.mlflow_url

    @property
    def mlflow_secret_of_steps(self) -> str:
        """Name of the Secret with the steps' credentials for MLflow; empty where they need none."""
        return self.steps_mlflow_secret or self.mlflow_secret

    @property
    def serves_unsigned(self) -> bool:
        """Whether a model without a signed record may be served anew."""
        return self.unsigned_models == "serve"
