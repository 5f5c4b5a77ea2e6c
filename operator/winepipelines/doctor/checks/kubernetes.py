"""The API server: it answers, and grants what the operator needs. See also `rights`."""

from winecontract.reasons import Reason
from winepipelines.api.errors import PlatformError
from winepipelines.doctor.finding import Finding, failed, ok, skipped, warning
from winepipelines.doctor.observations import RightsView, Survey
from winepipelines.doctor.right import Right
from winepipelines.doctor.rights import PIPELINES, ROLE

MANIFEST = "deploy/operator/rbac.yaml"


def kubernetes_answers(survey: Survey) -> Finding:
    """The API server answers and identifies the caller."""
    if isinstance(survey.kubernetes, PlatformError):
        remedy = "kubectl version; outside the cluster, set KUBECONFIG to the file with its address"
        return failed(Reason.KUBERNETES_UNREACHABLE, survey.kubernetes.message, remedy)
    if isinstance(survey.identity, PlatformError):
        return warning(f"Kubernetes {survey.kubernetes}; it does not report the caller's identity", "kubectl auth whoami")
    return ok(
        f"Kubernetes {survey.kubernetes}, as {survey.identity or 'an unknown identity (the API server is older than 1.28)'}"
    )


def rights_are_granted(survey: Survey) -> list[Finding] | Finding:
    """Each right of the manifest is granted, except those that Kubeflow Pipelines checks."""
    if isinstance(survey.rights, PlatformError):
        return skipped(f"Rights could not be reviewed: {survey.rights.message}", "kubectl auth can-i --list")
    return evaluate_rights(survey.rights, [right for right in survey.rights.missing if right.group != PIPELINES])


def evaluate_rights(view: RightsView, rights: list[Right]) -> list[Finding]:
    """Evaluate some rights, one finding each."""
    return [_evaluate(view, right) for right in rights]


def _evaluate(view: RightsView, right: Right) -> Finding:
    missing = view.missing[right]
    if isinstance(missing, PlatformError):
        return _named(
            right, skipped(missing.message, f"kubectl auth can-i {right.verbs[0]} {right.resource} --as {view.account}")
        )
    if not missing:
        return _named(right, ok(f"{view.account} may {', '.join(right.verbs)}"))
    message = f"{view.account} may not {', '.join(missing)}"
    if not view.own and not view.account.startswith("system:serviceaccount:"):
        return _named(
            right, warning(f"{message}; these are your rights, not the operator's", "Run this command in the operator's pod")
        )
    holder = f"the Role {ROLE} in {right.namespace}" if right.namespace else f"the ClusterRole {ROLE}"
    return _named(
        right,
        failed(Reason.PERMISSION_MISSING, message, f"kubectl apply -f {MANIFEST}, or add to {holder}: {right.rule(missing)}"),
    )


def _named(right: Right, finding: Finding) -> Finding:
    return Finding(finding.result, finding.message, finding.remedy, finding.reason, f"right: {right}")
