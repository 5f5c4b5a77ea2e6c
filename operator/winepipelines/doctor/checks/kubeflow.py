"""Kubeflow Pipelines: it answers, accepts the operator's token and authorizes what the operator does."""

from winecontract.reasons import Reason
from winepipelines.api.errors import PlatformError, Unavailable
from winepipelines.doctor.checks.kubernetes import evaluate_rights
from winepipelines.doctor.checks.systems import does_not_answer
from winepipelines.doctor.finding import SETTINGS_REASON, Finding, failed, ok, skipped, warning
from winepipelines.doctor.observations import PROFILES, Survey
from winepipelines.doctor.rights import PIPELINES

SYSTEM = "Kubeflow Pipelines"
PROJECTED = (
    "Mount a projected volume into the operator's pod, {serviceAccountToken: {path: token, audience: " + PIPELINES + "}}, "
    "and set WINE_KFP_TOKEN_FILE to the file"
)


def kubeflow_token_is_usable(survey: Survey) -> Finding:
    """The token is there, for Kubeflow Pipelines, and has not expired. It is decoded, not verified, and never shown."""
    path, token = survey.settings.kfp_token_file, survey.token
    if token is None:
        return ok("The operator sends no token: WINE_KFP_TOKEN_FILE is not set")
    if token.problem:
        return failed(Reason.KUBEFLOW_TOKEN_UNUSABLE, f"{path}: {token.problem}", PROJECTED)
    if PIPELINES not in token.audiences:
        message = f"The token in {path} is for {', '.join(token.audiences) or 'no audience'}, not for {PIPELINES}"
        return failed(Reason.KUBEFLOW_TOKEN_UNUSABLE, message, PROJECTED)
    if token.expires_at is not None and token.expires_at <= survey.now:
        message = f"The token in {path} has expired"
        return failed(Reason.KUBEFLOW_TOKEN_UNUSABLE, message, f"{PROJECTED}; the kubelet renews such a token")
    return ok(f"{token.subject or 'a token'}, for {PIPELINES}")


def kubeflow_answers(survey: Survey) -> Finding:
    """The health endpoint answers."""
    if not survey.settings.kfp_url:
        return skipped("WINE_KFP_URL is not set")
    view = survey.kubeflow
    if isinstance(view, PlatformError):
        if view.reason == SETTINGS_REASON:
            return failed(SETTINGS_REASON, view.message, "Set WINE_TEMPLATES to the folder templates of this release")
        namespace = survey.settings.platform_namespace
        remedy = f"kubectl -n {namespace} get endpoints,pods -l app=ml-pipeline; check WINE_KFP_URL"
        return does_not_answer(survey, SYSTEM, view, Reason.KUBEFLOW_UNREACHABLE, remedy)
    mode = "multi-user" if view.multi_user else "single-user"
    return ok(f"{SYSTEM} {view.version}, {mode} mode")


def kubeflow_authorizes_the_operator(survey: Survey) -> Finding:
    """The smallest request that needs authorization passes."""
    view, access = survey.kubeflow, survey.access
    assert not isinstance(view, PlatformError), "kubeflow_answers comes first"
    status = None if access is None else access.status
    if status == 401:
        return failed(Reason.KUBEFLOW_UNAUTHENTICATED, f"{SYSTEM} does not accept the operator's token (401)", PROJECTED)
    if status == 403:
        message = f"{SYSTEM} refuses the operator in namespace {survey.settings.platform_namespace} (403)"
        return failed(
            Reason.KUBEFLOW_FORBIDDEN,
            message,
            "kubectl apply -f deploy/operator/rbac.yaml, or check the mesh's policies",
        )
    if access is not None:
        reason = Reason.KUBEFLOW_UNAVAILABLE if isinstance(access, Unavailable) else Reason.KUBEFLOW_REQUEST_REJECTED
        return failed(reason, access.message, f"kubectl -n {survey.settings.platform_namespace} logs deploy/ml-pipeline")
    profiles = survey.kinds[PROFILES]
    if not view.multi_user and not isinstance(profiles, PlatformError) and profiles.served:
        message = f"{SYSTEM} is in single-user mode on a cluster with profiles: every user can see and terminate all runs"
        return warning(message, "Set MULTIUSER=true for ml-pipeline if users must not see each other's runs")
    if view.multi_user and survey.token is None:
        return warning(
            f"{SYSTEM} is in multi-user mode and accepts requests without a token: every client has all rights", PROJECTED
        )
    return ok("Experiments can be listed")


def kubeflow_rights_are_granted(survey: Survey) -> list[Finding] | Finding:
    """The operator has the rights that Kubeflow Pipelines checks with the API server in multi-user mode."""
    assert not isinstance(survey.kubeflow, PlatformError), "kubeflow_answers comes first"
    if not survey.kubeflow.multi_user:
        return skipped("Single-user mode needs no rights")
    if isinstance(survey.rights, PlatformError):
        return skipped(f"Rights could not be reviewed: {survey.rights.message}", "kubectl auth can-i --list")
    return evaluate_rights(survey.rights, [right for right in survey.rights.missing if right.group == PIPELINES])
