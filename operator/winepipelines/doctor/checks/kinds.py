"""The kinds of objects that must be served, and the webhook behind one of them."""

from winepipelines.doctor.finding import Finding, failed, ok, skipped, warning
from winepipelines.doctor.observations import PODDEFAULTS, SELDONDEPLOYMENTS, WINEPIPELINES, ApiKind, Survey
from winepipelines.resource.errors import PlatformError

APPLY_CRD = "kubectl apply --server-side -f crds/"
WEBHOOK_PATH = "/apply-poddefault"
SHOWN = 5  # missing fields that are named
LIST_WEBHOOKS = "kubectl get mutatingwebhookconfigurations"


def winepipelines_are_served(survey: Survey) -> Finding:
    """The operator's own resource."""
    return _served(survey, WINEPIPELINES, failed("KindMissing", _absence(survey, WINEPIPELINES), APPLY_CRD))


def winepipeline_schema_is_current(survey: Survey) -> Finding:
    """The installed CRD has every field that this operator reads and writes: fields that it lacks are dropped silently."""
    missing = survey.missing_fields
    if isinstance(missing, PlatformError):
        return skipped(f"the schema could not be read: {missing.message}", "kubectl explain winepipeline --recursive")
    if missing:
        named = ", ".join(missing[:SHOWN]) + (f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else "")
        return failed("SchemaOutdated", f"the installed CRD is older than this operator: it lacks {named}", APPLY_CRD)
    return ok("the installed CRD has every field that this operator knows")


def seldondeployments_are_served(survey: Survey) -> Finding:
    """What models are served with."""
    mend = "install Seldon Core 1 (1.17.1 is the last release under Apache-2.0)"
    return _served(survey, SELDONDEPLOYMENTS, failed("ServingPlatformMissing", _absence(survey, SELDONDEPLOYMENTS), mend))


def poddefaults_are_served(survey: Survey) -> Finding:
    """What notebooks get their variables from; runs do without."""
    says = f"{_absence(survey, PODDEFAULTS)}: PodDefaults for notebooks are left out, runs do not need them"
    return _served(survey, PODDEFAULTS, warning(says, "install Kubeflow's admission webhook"))


def poddefaults_act_on_pods(survey: Survey) -> Finding:
    """The webhook that puts PodDefaults into pods is registered."""
    webhooks = survey.webhooks
    if not _is_served(survey, PODDEFAULTS):
        return skipped("this cluster has no PodDefaults")
    if webhooks is None:
        return skipped("whoever runs this may not list webhooks: an administrator may", LIST_WEBHOOKS)
    if isinstance(webhooks, PlatformError):
        return skipped(f"webhooks could not be listed: {webhooks.message}", LIST_WEBHOOKS)
    found = [webhook for webhook in webhooks if webhook.path == WEBHOOK_PATH]
    if not found:
        says = f"no mutating webhook calls {WEBHOOK_PATH}: PodDefaults change no pod, so notebooks get no variables"
        return warning(says, "install Kubeflow's admission webhook")
    return ok(f"{found[0].configuration} calls {found[0].service}")


def _served(survey: Survey, kind: ApiKind, absence: Finding) -> Finding:
    view = survey.kinds[kind]
    if isinstance(view, PlatformError):
        return skipped(f"the API server does not tell: {view.message}", f"kubectl api-resources --api-group={kind.group}")
    return ok(f"{kind.group}/{kind.version}") if view.served else absence


def _is_served(survey: Survey, kind: ApiKind) -> bool:
    view = survey.kinds[kind]
    return not isinstance(view, PlatformError) and view.served


def _absence(survey: Survey, kind: ApiKind) -> str:
    view = survey.kinds[kind]
    versions = () if isinstance(view, PlatformError) else view.versions
    there = f" (served of that group: {', '.join(versions)})" if versions else ""
    return f"the API server does not know {kind.plural} of {kind.group}/{kind.version}{there}"
