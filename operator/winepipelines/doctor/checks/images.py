"""The images of steps and model servers.

Only a node's attempt shows whether it can pull an image. The operator has no right to list nodes, so this reads the
pods that wait.
"""

from winecontract.reasons import Reason
from winepipelines.api.errors import PlatformError, Refused
from winepipelines.doctor.finding import Finding, failed, ok, skipped, warning
from winepipelines.doctor.observations import ImagePullProblem, Survey
from winepipelines.doctor.probing import Prober
from winepipelines.validation import IMAGE

PULL_TEST = "kubectl run pull-test --rm -it --restart=Never --command --image={image} -- true"
PULL_PROBLEMS = (
    Reason.ERR_IMAGE_PULL,
    "ImagePullBackOff",
    Reason.INVALID_IMAGE_NAME,
    Reason.ERR_IMAGE_NEVER_PULL,
    Reason.REGISTRY_UNAVAILABLE,
)


async def observe_pulls(prober: Prober) -> tuple[ImagePullProblem, ...]:
    """List the pods that cannot pull one of the operator's images, in the namespace that is checked or in all."""
    settings, targets = prober.settings, prober.targets
    images = (settings.steps_image, settings.server_image)
    namespaces = (targets.namespace,) if targets.namespace else settings.namespaces or ("",)
    found = []
    for namespace in namespaces:
        for pod in await prober.cluster.pending_pods(namespace):
            status, metadata = pod.get("status") or {}, pod["metadata"]
            for container in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
                reason = ((container.get("state") or {}).get("waiting") or {}).get("reason", "")
                if reason in PULL_PROBLEMS and container.get("image", "") in images:
                    found.append(ImagePullProblem(metadata["namespace"], metadata["name"], container["image"], reason))
    return tuple(found)


def image_names_are_valid(survey: Survey) -> Finding:
    """The names of the images are valid, and refer to the same image tomorrow."""
    for variable, image in _images(survey).items():
        match = IMAGE.match(image)
        if match is None:
            return failed(
                Reason.IMAGE_NAME_INVALID, f"{variable} is not the name of an image: {image}", f"{variable}=registry/name:tag"
            )
        if match["digest"] is None and match["tag"] in (None, ":latest"):
            return warning(f"{image} may be a different image tomorrow", f"Set {variable} with a tag or a digest")
    return ok(", ".join(_images(survey).values()))


def images_can_be_pulled(survey: Survey) -> Finding:
    """No pod waits for one of the images. A warning: the cause may lie in one namespace."""
    pulls, test = survey.observed(observe_pulls), PULL_TEST.format(image=survey.settings.steps_image)
    if isinstance(pulls, Refused):
        return skipped("This account may not list pods: see the rights above", test)
    if isinstance(pulls, PlatformError):
        return skipped(f"Pods could not be listed: {pulls.message}", test)
    if not pulls:
        return ok("No pod waits for one of the images; only a node's attempt shows whether it can pull them")
    first = pulls[0]
    message = f"{len(pulls)} pods cannot pull their image: {first.pod} in {first.namespace}, {first.image}: {first.reason}"
    remedy = (
        f"kubectl -n {first.namespace} describe pod {first.pod}; push the image, or add imagePullSecrets to its service account"
    )
    return warning(message, remedy)


def _images(survey: Survey) -> dict[str, str]:
    return {"WINE_STEPS_IMAGE": survey.settings.steps_image, "WINE_SERVER_IMAGE": survey.settings.server_image}
