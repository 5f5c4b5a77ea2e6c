"""What differs between the serving backends for a test that runs on each of them."""

from base64 import b64decode
from dataclasses import dataclass, field
from typing import Any

from sandbox.plan import Info

Body = dict[str, Any]
MODEL = {"modelUri": "s3://mlflow/none", "implementation": "MLFLOW_SERVER"}


@dataclass(frozen=True)
class Backend:
    """A serving backend as its users see it. `{name}` in a template is the name of the WinePipeline."""

    name: str
    group: str
    version: str
    plural: str
    kind: str
    short_name: str
    copy: str  # the Secret in a user's namespace that models are copied with
    source: str  # the platform's Secret that it is copied from
    region: str  # key of the source that says in which region the store is
    address: str  # key of the source that says where the store is
    deployment: str  # template of the served model's Deployment
    candidate: str  # template of how the candidate's pods are called
    pods: str  # label of all pods that serve models
    edited: str  # JSON path of a field that somebody changes by hand
    edit: object  # what it is changed to
    base: str  # template of a predictor's path, below which its server's own paths are
    v2_model: str  # template of the model's name in protocol v2
    setting: str  # that says where predictions are answered
    splits_traffic: bool
    default_spec: Body = field(default_factory=dict, repr=False)

    def __str__(self) -> str:
        return self.name

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}"

    def gateway(self, info: Info) -> str:
        """Return the address that the paths of its endpoints are relative to."""
        return info.kserve_url if self is KSERVE else info.gateway_url

    def url(self, info: Info, namespace: str, name: str) -> str:
        """Return the address that answers predictions in Seldon's protocol."""
        return f"{self._predictor(info, namespace, name)}/api/v1.0/predictions"

    def v2_url(self, info: Info, namespace: str, name: str) -> str:
        """Return the address that answers predictions in protocol v2."""
        return f"{self._predictor(info, namespace, name)}/v2/models/{self.v2_model.format(name=name)}/infer"

    def _predictor(self, info: Info, namespace: str, name: str) -> str:
        return self.gateway(info) + self.base.format(namespace=namespace, name=name)

    def foreign(self, namespace: str, name: str) -> Body:
        """Build a minimal object that is not the operator's."""
        metadata = {"name": name, "namespace": namespace}
        return {"apiVersion": self.api_version, "kind": self.kind, "metadata": metadata, "spec": self.default_spec}

    def settings_of(self, secret: Body) -> str:
        """Return all that pods read of a Secret that models are copied with, in one text."""
        annotations = secret["metadata"].get("annotations") or {}
        return "\n".join([*annotations.values(), *(b64decode(value).decode() for value in secret["data"].values())])

    def edited_of(self, item: Body) -> object:
        """Return the present value of the field that somebody changes by hand."""
        value: Any = item
        for key in self.edited.strip("/").split("/"):
            value = value[int(key) if key.isdigit() else key]
        found: object = value
        return found


SELDON = Backend(
    name="Seldon",
    group="machinelearning.seldon.io",
    version="v1",
    plural="seldondeployments",
    kind="SeldonDeployment",
    short_name="sdep",
    copy="seldon-init-container-secret",
    source="mlflow-server-seldon-init-container-s3-credentials",
    region="RCLONE_CONFIG_S3_REGION",
    address="RCLONE_CONFIG_S3_ENDPOINT",
    deployment="{name}-wine-super-model-0-classifier",
    candidate="{name}-candidate-0-classifier",
    pods="seldon-deployment-id",
    edited="/spec/predictors/0/replicas",
    edit=2,
    base="/seldon/{namespace}/{name}",
    v2_model="classifier",
    setting="WINE_ENDPOINT_TEMPLATE",
    splits_traffic=True,
    default_spec={"predictors": [{"name": "mine", "graph": {"name": "mine", **MODEL}}]},
)
KSERVE = Backend(
    name="KServe",
    group="serving.kserve.io",
    version="v1beta1",
    plural="inferenceservices",
    kind="InferenceService",
    short_name="isvc",
    copy="wine-model-store",
    source="mlpipeline-minio-artifact",
    region="AWS_DEFAULT_REGION",
    address="AWS_ENDPOINT_URL",
    deployment="{name}-predictor",
    candidate="{name}-candidate-predictor",
    pods="serving.kserve.io/inferenceservice",
    edited="/spec/predictor/model/storageUri",
    edit="s3://mlflow/none/",
    base="/kserve/{namespace}/{name}",
    v2_model="{name}",
    setting="WINE_KSERVE_ENDPOINT_TEMPLATE",
    splits_traffic=False,
    default_spec={"predictor": {"model": {"modelFormat": {"name": "sklearn"}, "storageUri": "s3://mlflow/none"}}},
)
