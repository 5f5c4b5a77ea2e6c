"""Whether Istio's policies in a user's namespace admit the operator to the pods of models, before it refuses a check."""

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from winepipelines.api.errors import PlatformError
from winepipelines.doctor.finding import Finding, ok, skipped, warning
from winepipelines.doctor.observations import RightsView, Survey
from winepipelines.doctor.probing import SERVICE_ACCOUNT, Prober
from winepipelines.doctor.rights import ROLE

GROUP, PLURAL = "security.istio.io", "authorizationpolicies"
MOST = 100  # policies of a namespace that are read
Policy = Mapping[str, Any]


async def observe_mesh_policies(prober: Prober) -> tuple[Policy, ...] | None:
    """List the AuthorizationPolicies of the checked namespace; None where they may not be listed."""
    namespace = prober.targets.namespace
    if not await prober.cluster.may("list", GROUP, PLURAL, namespace):
        return None
    listed = await prober.kubernetes.ask("get", f"/apis/{GROUP}/v1/namespaces/{namespace}/{PLURAL}", limit=MOST)
    return tuple((listed or {}).get("items") or ())


def mesh_admits_the_operator(survey: Survey) -> Finding:
    """No policy of the namespace foresees that the mesh refuses the operator's check of a model. It is an estimate."""
    policies, namespace = survey.observed(observe_mesh_policies), survey.namespace
    assert namespace is not None, "this check is run for a namespace"
    command = f"kubectl -n {namespace.name} get {PLURAL}"
    if namespace.labels is None or isinstance(namespace.labels, PlatformError):
        return skipped(f"Whether {namespace.name} is in a mesh is unknown: its labels could not be read", command)
    if not is_in_mesh(namespace.labels):
        return ok(f"{namespace.name} has no label of Istio")
    if policies is None:
        return skipped(f"This account may not list AuthorizationPolicies of {namespace.name}: ask an administrator", command)
    if isinstance(policies, PlatformError):
        return skipped(f"AuthorizationPolicies could not be listed: {policies.message}", command)
    allowing = {_name(policy): policy for policy in policies if _spec(policy).get("action", "ALLOW") == "ALLOW"}
    if not allowing:
        return ok(f"No AuthorizationPolicy of {namespace.name} limits who may reach its pods")
    account = account_of_the_operator(survey)
    if (name := next((name for name, policy in allowing.items() if admits(policy, *account)), None)) is not None:
        return ok(f"AuthorizationPolicy {name} admits {'/'.join(account)}")
    message = (
        f"{namespace.name} is in Istio's mesh, and none of its AuthorizationPolicies ({', '.join(sorted(allowing)[:5])}) admits "
        f"{'/'.join(account)}: the check of a new model may be refused (MeshAccessDenied)"
    )
    return warning(message, f"Set the chart's mesh.authorizationPolicy: {{create: true, namespaces: [{namespace.name}]}}")


def is_in_mesh(labels: Mapping[str, str]) -> bool:
    """Whether pods of a namespace with these labels get a sidecar, or are in ambient mode."""
    return (
        labels.get("istio-injection") == "enabled"
        or bool(labels.get("istio.io/rev"))
        or labels.get("istio.io/dataplane-mode") == "ambient"
    )


def account_of_the_operator(survey: Survey) -> tuple[str, str]:
    """Return namespace and name of the operator's service account: the one whose rights are reviewed, or the chart's."""
    if isinstance(survey.rights, RightsView) and survey.rights.account.startswith(SERVICE_ACCOUNT):
        namespace, _, name = survey.rights.account.removeprefix(SERVICE_ACCOUNT).partition(":")
        return namespace, name
    return survey.settings.platform_namespace, ROLE


def admits(policy: Policy, namespace: str, name: str) -> bool:
    """Whether a policy names this service account, or selects all pods and admits everybody or its namespace.

    Rules with further conditions, such as a header of a user, admit nobody here. Selectors of other policies are not evaluated.
    """
    for_all_pods = not _spec(policy).get("selector")
    for rule in _mappings(_spec(policy).get("rules")):
        if rule.get("when") or rule.get("to"):
            continue
        sources = [_mapping(each.get("source")) for each in _mappings(rule.get("from"))]
        if for_all_pods and not sources:
            return True
        for source in sources:
            if any(_matches(f"cluster.local/ns/{namespace}/sa/{name}", value) for value in _texts(source.get("principals"))):
                return True
            if for_all_pods and any(_matches(namespace, value) for value in _texts(source.get("namespaces"))):
                return True
    return False


def _matches(value: str, pattern: str) -> bool:
    """Compare as Istio does, in any trust domain: `*` at the start or the end stands for any text."""
    if "/ns/" in pattern:
        pattern, value = pattern[pattern.index("/ns/") :], value[value.index("/ns/") :] if "/ns/" in value else value
    return fnmatchcase(value, pattern.replace("[", "[[]").replace("?", "[?]"))


def _name(policy: Policy) -> str:
    return str(_mapping(policy.get("metadata")).get("name", ""))


def _spec(policy: Policy) -> Policy:
    return _mapping(policy.get("spec"))


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _mappings(value: object) -> Iterator[Mapping[str, Any]]:
    for item in value if isinstance(value, Sequence) and not isinstance(value, str) else ():
        yield _mapping(item)


def _texts(value: object) -> Iterator[str]:
    for item in value if isinstance(value, Sequence) and not isinstance(value, str) else ():
        yield str(item)
