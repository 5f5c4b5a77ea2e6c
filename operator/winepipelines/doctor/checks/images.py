"""The images of steps and model servers.

Whether a node can pull them shows only when one does: listing nodes is a right that the operator does not need, so it asks the
pods that wait.
"""

from winepipelines.doctor.finding import Finding, failed, ok, skipped, warning
from winepipelines.doctor.observations import Survey
from winepipelines.resource.errors import PlatformError, Refused
from winepipelines.validation import IMAGE

ELSEWHERE = "kubectl run pull-test --rm -it --restart=Never --command --image={image} -- true"


def images_are_well_named(survey: Survey) -> Finding:
    """Their names are names, and mean the same image tomorrow."""
    for variable, image in _images(survey).items():
        match = IMAGE.match(image)
        if match is None:
            return failed("ImageNameInvalid", f"{variable} is no name of an image: {image}", f"{variable}=registry/name:tag")
        if match["digest"] is None and match["tag"] in (None, ":latest"):
            return warning(f"{image} may be another image tomorrow", f"{variable} with a tag or a digest")
    return ok(", ".join(_images(survey).values()))


def images_can_be_pulled(survey: Survey) -> Finding:
    """No pod waits for one of them. A namespace may have reasons of its own, so this is no failure of the platform."""
    pulls = survey.pulls
    if isinstance(pulls, Refused):
        return skipped(
            "whoever runs this may not list pods: see the rights above", ELSEWHERE.format(image=survey.settings.steps_image)
        )
    if isinstance(pulls, PlatformError):
        return skipped(f"pods could not be listed: {pulls.message}", ELSEWHERE.format(image=survey.settings.steps_image))
    if not pulls:
        return ok("no pod waits for one of them now; whether a node can pull them shows when one does")
    first = pulls[0]
    says = f"{len(pulls)} pods cannot get them: {first.pod} in {first.namespace}, {first.image}: {first.reason}"
    mend = f"kubectl -n {first.namespace} describe pod {first.pod}; push the image, or imagePullSecrets for its service account"
    return warning(says, mend)


def _images(survey: Survey) -> dict[str, str]:
    return {"WINE_STEPS_IMAGE": survey.settings.steps_image, "WINE_SERVER_IMAGE": survey.settings.server_image}
