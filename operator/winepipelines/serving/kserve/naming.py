"""Names of and in KServe's objects, and which names of resources KServe can serve."""

from winepipelines.api.pipeline import WinePipeline
from winepipelines.doctor.observations import ApiKind, ServingKind

KIND = ServingKind("serving.kserve.io", "v1beta1", "inferenceservices", "InferenceService", "isvc", "KServe")
RUNTIME_KIND = ApiKind(KIND.group, "v1alpha1", "servingruntimes")
RUNTIME = "wine-model-server"
MODEL_FORMAT = "winepipelines"
CONTAINER = "kserve-container"
COPY_SECRET = "wine-model-store"
PREDICTOR = "-predictor"
CANDIDATE = "-candidate"
OBJECT_LABEL = "serving.kserve.io/inferenceservice"
SOURCE_ANNOTATION = "internal.serving.kserve.io/storage-initializer-sourceuri"
LONGEST_HOST = 63
"""KServe composes a host name, `<name>-predictor-<namespace>`, whose length DNS limits."""


def candidate_name(pipeline: WinePipeline) -> str:
    """Name the InferenceService of a candidate."""
    return f"{pipeline.name}{CANDIDATE}"


def name_problem(pipeline: WinePipeline) -> str:
    """Describe why KServe can serve no model of a resource of this name; empty if it can."""
    if not pipeline.name[:1].isalpha() or "." in pipeline.name:
        return (
            f"The name {pipeline.name} is not valid for an InferenceService, which starts with a letter and has no dots. "
            "Rename the WinePipeline."
        )
    host = f"{candidate_name(pipeline)}{PREDICTOR}-{pipeline.namespace}"
    if (excess := len(host) - LONGEST_HOST) > 0:
        return (
            f"KServe composes the host name {host} of the names of resource and namespace, and it has {len(host)} characters, "
            f"{excess} more than DNS allows. Use a shorter name for the WinePipeline or for its namespace."
        )
    return ""
