"""The administrator's settings of the KServe backend."""

import re
from typing import Annotated, ClassVar

from pydantic import AfterValidator

from winepipelines.environment import EnvironmentSettings
from winepipelines.serving.kserve.naming import PREDICTOR
from winepipelines.validation import SUBDOMAIN, Chart, SecretName, Text, address_template, matches

RELEASE = re.compile(r"0\.(\d{1,3})(?:\.\d{1,3})?")
FIRST_SUPPORTED, FIRST_WITH_STANDARD = 15, 16


def _version(text: str) -> str:
    match = RELEASE.fullmatch(text.removeprefix("v"))
    if match is None or int(match[1]) < FIRST_SUPPORTED:
        raise ValueError(f"{text[:100]!r} is not a supported release; set it to 0.{FIRST_SUPPORTED} or later, such as 0.20")
    return text


def _endpoint(template: str) -> str:
    return address_template(template, ("name",), ("namespace",))


class KServeSettings(EnvironmentSettings):
    """Settings of the KServe backend.

    `kserve_version` is the release of KServe in the cluster: the name of the deployment mode depends on it.
    `kserve_endpoint_template` is the address of an InferenceService, up to the path, with the fields `{namespace}` and `{name}`.
    `kserve_runtime` names a ClusterServingRuntime that is used instead of a ServingRuntime in each namespace.
    """

    judged_by_doctor: ClassVar = frozenset({"kserve_endpoint_template"})

    kserve_version: Annotated[Text, AfterValidator(_version), Chart("kserve.version")] = "0.20"
    kserve_source_secret: Annotated[SecretName, Chart("kserve.sourceSecret")] = "mlpipeline-minio-artifact"
    kserve_endpoint_template: Annotated[Text, AfterValidator(_endpoint), Chart("kserve.endpointTemplate")] = (
        f"http://{{name}}{PREDICTOR}.{{namespace}}.svc.cluster.local"
    )
    kserve_runtime: Annotated[
        Text, matches(SUBDOMAIN, "the name of a ClusterServingRuntime", optional=True), Chart("kserve.clusterRuntime")
    ] = ""

    @property
    def deployment_mode(self) -> str:
        """The name of the mode without Knative, which 0.16 changed: it rejects updates of objects with the earlier name."""
        release = RELEASE.fullmatch(self.kserve_version.removeprefix("v"))
        assert release is not None, "validated"
        return "Standard" if int(release[1]) >= FIRST_WITH_STANDARD else "RawDeployment"
