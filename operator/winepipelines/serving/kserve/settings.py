"""The administrator's settings of the KServe backend."""

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator

from winepipelines.environment import EnvironmentSettings
from winepipelines.serving.kserve.modes import Mode
from winepipelines.serving.kserve.naming import PREDICTOR
from winepipelines.serving.kserve.releases import FIRST_SUPPORTED, minor_of
from winepipelines.validation import SUBDOMAIN, Chart, SecretName, Text, address_template, matches


def _version(text: str) -> str:
    minor = minor_of(text)
    if text and (minor is None or minor < FIRST_SUPPORTED):
        raise ValueError(f"{text[:100]!r} is not a supported release; set it to 0.{FIRST_SUPPORTED} or later, such as 0.20")
    return text


def _endpoint(template: str) -> str:
    return address_template(template, ("name",), ("namespace",))


class KServeSettings(EnvironmentSettings):
    """Settings of the KServe backend.

    `kserve_version` is the release of KServe in the cluster, on which the name of the deployment mode depends; empty where the
    CRD tells. `kserve_mode` is the mode of new InferenceServices: `auto` is Standard, which every installation has.
    `kserve_endpoint_template` is the address of an InferenceService, up to the path, with the fields `{namespace}` and `{name}`.
    `kserve_source_secret` names the platform's Secret that models are copied with; `auto` takes the first known one.
    `kserve_runtime` names a ClusterServingRuntime that is used instead of a ServingRuntime in each namespace.
    """

    judged_by_doctor: ClassVar = frozenset({"kserve_endpoint_template"})

    kserve_version: Annotated[Text, AfterValidator(_version), Chart("kserve.version")] = ""
    kserve_mode: Annotated[Literal["auto", "Standard", "Knative"], Chart("kserve.mode")] = "auto"
    kserve_source_secret: Annotated[SecretName, Chart("kserve.sourceSecret")] = "mlpipeline-minio-artifact"
    kserve_endpoint_template: Annotated[Text, AfterValidator(_endpoint), Chart("kserve.endpointTemplate")] = (
        f"http://{{name}}{PREDICTOR}.{{namespace}}.svc.cluster.local"
    )
    kserve_runtime: Annotated[
        Text, matches(SUBDOMAIN, "the name of a ClusterServingRuntime", optional=True), Chart("kserve.clusterRuntime")
    ] = ""

    @property
    def mode(self) -> Mode:
        """The deployment mode of new InferenceServices."""
        return Mode.STANDARD if self.kserve_mode == "auto" else Mode(self.kserve_mode)

    @property
    def minor(self) -> int | None:
        """The minor version that the administrator names; None if the CRD is to tell."""
        return minor_of(self.kserve_version)
