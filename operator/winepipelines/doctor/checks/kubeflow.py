"""Kubeflow Pipelines: does it answer, who are we there, and what may we do?"""

from winepipelines.doctor.checks.kubernetes import judge_rights
from winepipelines.doctor.checks.systems import does_not_answer
from winepipelines.doctor.finding import SETTINGS_REASON, Finding, failed, ok, skipped, warning
from winepipelines.doctor.observations import PROFILES, Survey, answered
from winepipelines.doctor.rights import PIPELINES
from winepipelines.resource.errors import PlatformError, Unavailable

SYSTEM = "Kubeflow Pipelines"
PROJECTED = (
    "a projected volume in the operator's pod, {serviceAccountToken: {path: token, audience: " + PIPELINES + "}}, "
    "with WINE_KFP_TOKEN_FILE naming the file"
)


def kubeflow_token_is_usable(survey: Survey) -> Finding:
    """The token is there, for Kubeflow Pipelines, and has not expired. It is decoded, not verified, and never shown."""
    path, token = survey.settings.kfp_token_file, survey.token
    if token is None:
        return ok("none is sent: WINE_KFP_TOKEN_FILE is not set")
    if token.problem:
        return failed("KubeflowTokenUnusable", f"{path}: {token.problem}", PROJECTED)
    if PIPELINES not in token.audiences:
        says = f"the token in {path} is for {', '.join(token.audiences) or 'no audience'}, not for {PIPELINES}"
        return failed("KubeflowTokenUnusable", says, PROJECTED)
    if token.expires_at is not None and token.expires_at <= survey.now:
        says = f"the token in {path} has expired"
        return failed("KubeflowTokenUnusable", says, f"{PROJECTED}: the kubelet then renews it")
    return ok(f"{token.subject or 'a token'}, for {PIPELINES}")


def kubeflow_answers(survey: Survey) -> Finding:
    """Its health endpoint answers."""
    if not survey.settings.kfp_url:
        return skipped("WINE_KFP_URL is not set")
    view = survey.kubeflow
    if isinstance(view, PlatformError):
        if view.reason == SETTINGS_REASON:
            return failed(SETTINGS_REASON, view.message, "WINE_TEMPLATES=<the folder templates of this release>")
        namespace = survey.settings.platform_namespace
        mend = f"kubectl -n {namespace} get endpoints,pods -l app=ml-pipeline; is WINE_KFP_URL its address?"
        return does_not_answer(survey, SYSTEM, view, "KubeflowUnreachable", mend)
    mode = "multi-user" if view.multi_user else "single-user"
    return ok(f"{SYSTEM} {view.version}, {mode} mode")


def kubeflow_lets_the_operator_in(survey: Survey) -> Finding:
    """The smallest request that is authorized passes."""
    view, access = survey.kubeflow, survey.access
    assert not isinstance(view, PlatformError), "kubeflow_answers comes first"
    status = None if access is None else answered(access.message)
    if status == 401:
        return failed("KubeflowUnauthenticated", f"{SYSTEM} does not know who asks (401)", PROJECTED)
    if status == 403:
        says = f"{SYSTEM} refuses the operator in namespace {survey.settings.platform_namespace} (403)"
        return failed(
            "KubeflowForbidden", says, f"kubectl apply -f deploy/operator/rbac.yaml: rights on {PIPELINES}; or the mesh"
        )
    if access is not None:
        reason = "KubeflowUnavailable" if isinstance(access, Unavailable) else "KubeflowRefused"
        return failed(reason, access.message, f"kubectl -n {survey.settings.platform_namespace} logs deploy/ml-pipeline")
    profiles = survey.kinds[PROFILES]
    if not view.multi_user and not isinstance(profiles, PlatformError) and profiles.served:
        says = f"{SYSTEM} is in single-user mode on a cluster with profiles: every user sees and ends everybody's runs"
        return warning(says, "MULTIUSER=true for ml-pipeline, where users must not see each other's runs")
    if view.multi_user and survey.token is None:
        return warning(
            f"{SYSTEM} is in multi-user mode and let us in without a token: whoever reaches it may do anything", PROJECTED
        )
    return ok("a list of experiments is answered")


def kubeflow_rights_are_granted(survey: Survey) -> list[Finding] | Finding:
    """The rights that it asks the API server for, in multi-user mode."""
    assert not isinstance(survey.kubeflow, PlatformError), "kubeflow_answers comes first"
    if not survey.kubeflow.multi_user:
        return skipped("in single-user mode it asks for no rights")
    if isinstance(survey.rights, PlatformError):
        return skipped(f"rights could not be asked for: {survey.rights.message}", "kubectl auth can-i --list")
    return judge_rights(survey.rights, [right for right in survey.rights.missing if right.group == PIPELINES])
