"""The administrator's settings of the Seldon backend."""

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from winepipelines.environment import EnvironmentSettings
from winepipelines.validation import IMAGE, Chart, Image, SecretName, Switch, Text, address_template


def _endpoint(template: str) -> str:
    if template.endswith("/predictions"):
        raise ValueError("leave out /api/v1.0/predictions; the path follows the protocol")
    return address_template(template, ("name",), ("namespace",))


def _predictor(template: str) -> str:
    return address_template(template, ("name", "predictor"), ("namespace",))


class SeldonSettings(EnvironmentSettings):
    """Settings of the Seldon backend.

    `source_secret` names the platform's Secret that models are copied with; `auto` takes the first known one.
    `endpoint_template` is the address of a resource's predictions, up to the path, which the protocol gives; it has the fields
    `{namespace}` and `{name}`. `predictor_template` is the same for one `{predictor}`, whatever its share of the traffic.
    `seldon_executor` serves new models of the bundled runtime behind Seldon's executor. `mlflowserver_version` is the Seldon
    release of `mlflowserver_image` and defaults to the image's tag.
    """

    judged_by_doctor: ClassVar = frozenset({"endpoint_template"})

    source_secret: Annotated[SecretName, Chart("seldon.sourceSecret")] = "mlflow-server-seldon-init-container-s3-credentials"
    endpoint_template: Annotated[Text, AfterValidator(_endpoint), Chart("seldon.endpointTemplate")] = (
        "http://{name}-wine-super-model.{namespace}.svc.cluster.local:8000"
    )
    predictor_template: Annotated[Text, AfterValidator(_predictor), Chart("seldon.predictorTemplate")] = (
        "http://{name}-{predictor}.{namespace}.svc.cluster.local:8000"
    )
    seldon_executor: Annotated[Switch, Chart("seldon.executor")] = False
    traffic_splitting: Annotated[Literal["none", "istio", "ambassador"], Chart("seldon.trafficSplitting")] = "none"
    mlflowserver_image: Annotated[Image, Chart("seldon.mlflowserver.image")] = "docker.io/seldonio/mlflowserver:1.18.2"
    mlflowserver_version: Annotated[Text, Field(validate_default=True), Chart("seldon.mlflowserver.version")] = ""

    @field_validator("mlflowserver_version")
    @classmethod
    def _default_to_tag(cls, version: str, info: ValidationInfo) -> str:
        image = IMAGE.match(info.data.get("mlflowserver_image", ""))
        if version or image is None:
            return version
        tag = (image["tag"] or "").removeprefix(":")
        if image["digest"] and not tag:
            raise ValueError(
                f"not set, and a digest alone does not tell Seldon's release: set it, or add the tag to "
                f"{cls.named('WINE_MLFLOWSERVER_IMAGE')}"
            )
        return tag
