"""The API server: does it answer, and may the operator do what it does? See also `rights`."""

from winepipelines.doctor.finding import Finding, failed, ok, skipped, warning
from winepipelines.doctor.observations import RightsView, Survey
from winepipelines.doctor.rights import PIPELINES, ROLE, Right
from winepipelines.resource.errors import PlatformError

MANIFEST = "deploy/operator/rbac.yaml"


def kubernetes_answers(survey: Survey) -> Finding:
    """It answers, and knows us."""
    if isinstance(survey.kubernetes, PlatformError):
        mend = "kubectl version; outside the cluster KUBECONFIG names the file with its address"
        return failed("KubernetesUnreachable", survey.kubernetes.message, mend)
    if isinstance(survey.identity, PlatformError):
        return warning(f"Kubernetes {survey.kubernetes}; it does not say who we are", "kubectl auth whoami")
    return ok(f"Kubernetes {survey.kubernetes}, as {survey.identity or 'someone whom it cannot name (it is older than 1.28)'}")


def rights_are_granted(survey: Survey) -> list[Finding] | Finding:
    """Each right of the manifest, but those that Kubeflow Pipelines asks for."""
    if isinstance(survey.rights, PlatformError):
        return skipped(f"rights could not be asked for: {survey.rights.message}", "kubectl auth can-i --list")
    return judge_rights(survey.rights, [right for right in survey.rights.missing if right.group != PIPELINES])


def judge_rights(view: RightsView, rights: list[Right]) -> list[Finding]:
    """Judge some rights, each on a line of its own."""
    return [_judge(view, right) for right in rights]


def _judge(view: RightsView, right: Right) -> Finding:
    missing = view.missing[right]
    if isinstance(missing, PlatformError):
        return _named(
            right, skipped(missing.message, f"kubectl auth can-i {right.verbs[0]} {right.resource} --as {view.account}")
        )
    if not missing:
        return _named(right, ok(f"{view.account} may {', '.join(right.verbs)}"))
    says = f"{view.account} may not {', '.join(missing)}"
    if not view.own and not view.account.startswith("system:serviceaccount:"):
        return _named(right, warning(f"{says}: but these are your rights, not the operator's", "run it in the operator's pod"))
    holder = f"the Role {ROLE} in {right.namespace}" if right.namespace else f"the ClusterRole {ROLE}"
    return _named(right, failed("RightMissing", says, f"kubectl apply -f {MANIFEST}, or add to {holder}: {right.rule(missing)}"))


def _named(right: Right, finding: Finding) -> Finding:
    return Finding(finding.result, finding.says, finding.mend, finding.reason, f"right: {right}")
