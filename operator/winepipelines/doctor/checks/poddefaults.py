"""PodDefaults of others in a user's namespace, beside those of the operator."""

from winecontract.reasons import Reason
from winepipelines.api.errors import PlatformError
from winepipelines.api.poddefaults import find_refusal, find_rival
from winepipelines.doctor.finding import Finding, failed, ok, skipped, warning
from winepipelines.doctor.observations import PodDefaultsView, Survey
from winepipelines.doctor.probing import Prober


async def observe_pod_defaults(prober: Prober) -> PodDefaultsView:
    """Compare the PodDefaults of others with those of the operator, and with the variables of steps."""
    namespace = prober.targets.namespace
    ours, others = await prober.pod_defaults(namespace)
    rivals = {one["metadata"]["name"]: rival for one in ours if (rival := find_rival(one, others)) is not None}
    return PodDefaultsView(rivals, find_refusal(others) if namespace != prober.settings.platform_namespace else None)


def poddefaults_admit_pods(survey: Survey) -> list[Finding] | Finding:
    """No PodDefault of others makes Kubeflow's webhook refuse pods of steps, or pods of notebooks beside the operator's own."""
    view, namespace = survey.observed(observe_pod_defaults), survey.namespace.name if survey.namespace else ""
    if isinstance(view, PlatformError):
        return skipped(f"PodDefaults could not be listed: {view.message}", f"kubectl -n {namespace} get poddefaults")
    if view.refusal is not None and not _single_user(survey):
        conflicts = ", ".join(view.refusal.conflicts)
        message = (
            f"PodDefault {view.refusal.name} in {namespace} selects the pods of steps and sets {conflicts} "
            "from another source than they do: the webhook refuses these pods"
        )
        remedy = f"kubectl -n {namespace} edit poddefault {view.refusal.name}: give it a selector that only notebooks match"
        return failed(Reason.POD_DEFAULT_CONFLICT, message, remedy)
    partial = [
        warning(
            f"PodDefault {rival.name} in {namespace} sets {', '.join(rival.conflicts)} from another source than {name}: the "
            f"webhook refuses pods with both, so the operator does not create {name}",
            f"kubectl -n {namespace} edit poddefault {rival.name}: add {', '.join(rival.lacks)}, or delete it",
        )
        for name, rival in view.rivals.items()
        if rival.lacks
    ]
    used = ", ".join(f"{rival.name} of the platform is used for {name}" for name, rival in view.rivals.items())
    return partial or ok(used or "No PodDefault of others conflicts with the operator's, or with steps")


def _single_user(survey: Survey) -> bool:
    """Whether steps run in the platform's namespace, in which the webhook changes no pod."""
    return not isinstance(survey.kubeflow, PlatformError) and not survey.kubeflow.multi_user
