"""The kinds that the API server must serve, and the webhook of one of them."""

from winecontract.reasons import Reason
from winepipelines.api.errors import PlatformError
from winepipelines.doctor.finding import Finding, failed, ok, skipped, warning
from winepipelines.doctor.observations import PODDEFAULTS, WINEPIPELINES, ApiKind, Survey, Webhook
from winepipelines.doctor.probing import Prober
from winepipelines.doctor.schema import missing_fields

APPLY_CRD = "kubectl apply --server-side -f crds/"
WEBHOOK_PATH = "/apply-poddefault"
SHOWN = 5  # missing fields that a message names
LIST_WEBHOOKS = "kubectl get mutatingwebhookconfigurations"


async def observe_missing_fields(prober: Prober) -> tuple[str, ...]:
    """List the fields that the installed CRDs lack."""
    return missing_fields(await prober.cluster.schemas(WINEPIPELINES.group, WINEPIPELINES.version))


async def observe_webhooks(prober: Prober) -> tuple[Webhook, ...] | None:
    """List the mutating webhooks; None where they may not be listed."""
    if not await prober.cluster.may("list", "admissionregistration.k8s.io", "mutatingwebhookconfigurations"):
        return None
    found = []
    for configuration in await prober.cluster.mutating_webhooks():
        for webhook in configuration.get("webhooks") or []:
            service = (webhook.get("clientConfig") or {}).get("service") or {}
            address = f"{service.get('name', '')}.{service.get('namespace', '')}"
            found.append(Webhook(configuration["metadata"]["name"], service.get("path", ""), address))
    return tuple(found)


def winepipelines_are_served(survey: Survey) -> Finding:
    """The API server serves WinePipelines."""
    return kind_is_served(survey, WINEPIPELINES, failed(Reason.CRD_MISSING, absence(survey, WINEPIPELINES), APPLY_CRD))


def winepipeline_schema_is_current(survey: Survey) -> Finding:
    """The installed CRDs have every field that this operator reads and writes: the API server drops unknown fields silently."""
    missing = survey.observed(observe_missing_fields)
    if isinstance(missing, PlatformError):
        return skipped(f"The schema could not be read: {missing.message}", "kubectl explain winepipeline --recursive")
    if missing:
        named = ", ".join(missing[:SHOWN]) + (f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else "")
        return failed(Reason.CRD_OUTDATED, f"The installed CRD is older than this operator: it lacks {named}", APPLY_CRD)
    return ok("The installed CRD has every field that this operator knows")


def poddefaults_are_served(survey: Survey) -> Finding:
    """The API server serves PodDefaults, which give notebooks their variables. Runs do not need them."""
    message = f"{absence(survey, PODDEFAULTS)}: the operator creates no PodDefaults for notebooks; runs do not need them"
    return kind_is_served(survey, PODDEFAULTS, warning(message, "Install Kubeflow's admission webhook"))


def poddefaults_act_on_pods(survey: Survey) -> Finding:
    """The webhook that applies PodDefaults to pods is registered."""
    webhooks = survey.observed(observe_webhooks)
    if not _is_served(survey, PODDEFAULTS):
        return skipped("This cluster has no PodDefaults")
    if webhooks is None:
        return skipped("This account may not list webhooks: ask an administrator", LIST_WEBHOOKS)
    if isinstance(webhooks, PlatformError):
        return skipped(f"Webhooks could not be listed: {webhooks.message}", LIST_WEBHOOKS)
    found = [webhook for webhook in webhooks if webhook.path == WEBHOOK_PATH]
    if not found:
        message = f"No mutating webhook calls {WEBHOOK_PATH}: PodDefaults change no pod, so notebooks get no variables"
        return warning(message, "Install Kubeflow's admission webhook")
    return ok(f"{found[0].configuration} calls {found[0].service}")


def kind_is_served(survey: Survey, kind: ApiKind, missing: Finding) -> Finding:
    """Evaluate whether the API server serves a kind; `missing` is the finding if it does not."""
    view = survey.kinds[kind]
    if isinstance(view, PlatformError):
        return skipped(
            f"The API server does not list its kinds: {view.message}", f"kubectl api-resources --api-group={kind.group}"
        )
    return ok(f"{kind.group}/{kind.version}") if view.served else missing


def _is_served(survey: Survey, kind: ApiKind) -> bool:
    view = survey.kinds[kind]
    return not isinstance(view, PlatformError) and view.served


def absence(survey: Survey, kind: ApiKind) -> str:
    """Describe that the API server does not serve a kind, and which versions of its group it serves."""
    view = survey.kinds[kind]
    versions = () if isinstance(view, PlatformError) else view.versions
    served = f" (it serves {', '.join(versions)} of that group)" if versions else ""
    return f"The API server does not serve {kind.plural} of {kind.group}/{kind.version}{served}"
