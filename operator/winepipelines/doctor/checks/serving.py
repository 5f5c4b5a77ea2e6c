"""The serving platform: does its controller run, and do its webhooks take what the operator applies?"""

from winepipelines.doctor.finding import Finding, failed, ok, skipped, warning
from winepipelines.doctor.observations import AdmissionView, Survey
from winepipelines.resource.errors import PlatformError, Unavailable

LIST = "kubectl get deployments -A -l control-plane=seldon-controller-manager"
UNSUPPORTED = "does not support dry run"


def seldon_controller_runs(survey: Survey) -> Finding:
    """Its Deployment has a ready pod: without one nothing is rolled out, and webhooks refuse what is applied."""
    controllers = survey.controllers
    if controllers is None:
        return skipped("whoever runs this may not list Deployments of all namespaces: an administrator may", LIST)
    if isinstance(controllers, PlatformError):
        return skipped(f"Deployments could not be listed: {controllers.message}", LIST)
    if not controllers:
        return skipped("no Deployment has the label of Seldon's controller: it was installed in another way, or not at all", LIST)
    for controller in controllers:
        if not controller.ready:
            says = f"Deployment {controller.name} in {controller.namespace} has 0 of {controller.wanted} pods ready"
            scale = f"kubectl -n {controller.namespace} scale deployment {controller.name} --replicas=1"
            look = f"kubectl -n {controller.namespace} describe deployment,pods -l control-plane=seldon-controller-manager"
            return failed("ServingPlatformUnavailable", says, look if controller.wanted else scale)
    return ok(", ".join(f"{one.namespace}/{one.name}: {one.ready} of {one.wanted} pods ready" for one in controllers))


def seldon_webhooks_answer(survey: Survey) -> Finding:
    """A dry run of a SeldonDeployment passes admission: the webhooks' Service has endpoints, and their certificate is trusted."""
    view = survey.admission
    look = "kubectl get validatingwebhookconfigurations,mutatingwebhookconfigurations | grep seldon"
    if view is None:
        return skipped("whoever runs this may not create SeldonDeployments: an administrator may", look)
    error = view.error if isinstance(view, AdmissionView) else view
    if error is None:
        return ok("a dry run of a SeldonDeployment passes admission")
    if UNSUPPORTED in error.message:
        return skipped(f"a webhook takes no dry run: {error.message}", look)
    if isinstance(error, Unavailable):
        says, _, mend = error.message.partition(". Start it: ")
        return failed(error.reason, says, mend or look)
    return warning(f"a dry run of a SeldonDeployment is refused: {error.message}", look)
