"""The operator's RBAC rights: grant them, remove them, and find in the API server's audit log which are used."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.cluster import Body, eventually

from sandbox.errors import KubectlError
from sandbox.platform import Sandbox
from sandbox.rights import manifests

ACCOUNT = "system:serviceaccount:kubeflow:wine-operator"
ANYONES = "authorization.k8s.io"  # anyone who has a token may query his own rights


@dataclass(frozen=True, order=True)
class Right:
    """A verb on a resource. An empty `name` or `namespace` means any."""

    group: str
    resource: str
    verb: str
    name: str = ""
    namespace: str = ""

    def __str__(self) -> str:
        where = f" in {self.namespace}" if self.namespace else ""
        return f"{self.verb} {self.resource}{'.' + self.group if self.group else ''}{' ' + self.name if self.name else ''}{where}"

    @property
    def rule(self) -> Body:
        """The RBAC rule that grants this right only."""
        names = {"resourceNames": [self.name]} if self.name else {}
        return {"apiGroups": [self.group], "resources": [self.resource], "verbs": [self.verb], **names}


def granted(backend: str = "seldon") -> list[Right]:
    """List the rights that the manifest grants for a serving backend, in its order."""
    return [
        Right(group, resource, verb, name, manifest["metadata"].get("namespace", ""))
        for manifest in manifests([backend])
        for rule in manifest.get("rules", ())
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for name in rule.get("resourceNames", [""])
        for verb in rule["verbs"]
    ]


def grant(sandbox: Sandbox, rights: Iterable[Right], namespaces: Iterable[str] = ()) -> None:
    """Grant the operator exactly these rights: in the cluster or, as the chart does, in a list of namespaces."""
    selected = list(rights)
    anywhere = [right.rule for right in selected if not right.namespace]
    own_namespace = [right.rule for right in selected if right.namespace]
    watched = list(namespaces)
    items = [
        _role("ClusterRole", "", [] if watched else anywhere),
        _role("Role", "kubeflow", own_namespace),
        *(_role("Role", namespace, anywhere) for namespace in watched),
        *(_binding(namespace) for namespace in watched),
    ]
    body = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    sandbox.kubectl("apply", "--server-side", "--force-conflicts", "--field-manager=sandbox", "-f", "-", stdin=body)


def await_absence(sandbox: Sandbox, right: Right) -> None:
    """Wait until the API server's authorizer no longer allows a right."""
    resource, _, subresource = right.resource.partition("/")
    target = f"{resource}.{right.group}" if right.group else resource
    options = [f"--subresource={subresource}"] if subresource else []
    where = ["-n", right.namespace or "default"]

    def refused() -> bool:
        try:
            sandbox.kubectl(
                "auth", "can-i", right.verb, f"{target}/{right.name}".rstrip("/"), *options, *where, f"--as={ACCOUNT}"
            )
        except KubectlError:
            return True
        return False

    eventually(refused, 15)


def _role(kind: str, namespace: str, rules: list[Body]) -> Body:
    where = {"namespace": namespace} if namespace else {}
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": kind,
        "metadata": {"name": "wine-operator", **where},
        "rules": rules,
    }


def _binding(namespace: str) -> Body:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "wine-operator", "namespace": namespace},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "wine-operator"},
        "subjects": [{"kind": "ServiceAccount", "name": "wine-operator", "namespace": "kubeflow"}],
    }


@dataclass(frozen=True)
class Request:
    """A right that the operator has requested, and whether it was allowed."""

    right: Right
    allowed: bool


class Audit:
    """The entries of the audit log since this object was made."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._begin = log.stat().st_size if log.exists() else 0

    def requests(self) -> Iterator[Request]:
        """List the operator's requests. `name` and `namespace` of a right are those of the request."""
        for event in self._events():
            yield from _requests_of(event)

    def kind_is_missed(self) -> bool:
        """Whether kopf has noticed that the operator's CRD is gone: it discovers kinds again, or its list request got 404.

        After a watch that got 404 it lists again, which would find a CRD that is back.
        """
        return any(
            event["user"]["username"] == ACCOUNT
            and event["userAgent"].startswith("kopf/")  # doctor discovers kinds, too
            and event["requestURI"].startswith("/apis/winepipelines.io")
            and (
                not event.get("objectRef", {}).get("resource")
                or (event["verb"], (event.get("responseStatus") or {}).get("code")) == ("list", 404)
            )
            for event in self._events()
        )

    def _events(self) -> Iterator[dict[str, Any]]:
        with self._log.open("rb") as log:
            log.seek(self._begin)
            yield from (json.loads(line) for line in log if line.endswith(b"\n"))

    def used(self, rights: Iterable[Right]) -> set[Right]:
        """Return those of the rights that the operator has used."""
        allowed = {one.right for one in self.requests() if one.allowed}
        return {right for right in rights if any(_covers(right, one) for one in allowed)}

    def refused(self) -> set[Right]:
        """Return the rights that the operator has requested and not been granted."""
        return {one.right for one in self.requests() if not one.allowed}


def _requests_of(event: dict[str, Any]) -> Iterator[Request]:
    reference = event.get("objectRef") or {}
    if reference.get("resource") == "subjectaccessreviews":  # Kubeflow Pipelines checks the operator's rights
        spec, status = event["requestObject"]["spec"], (event.get("responseObject") or {}).get("status") or {}
        attributes = spec.get("resourceAttributes")
        if spec.get("user") == ACCOUNT and attributes:
            right = Right(attributes["group"], attributes["resource"], attributes["verb"], "", attributes.get("namespace", ""))
            yield Request(right, bool(status.get("allowed")))
        return
    if event["user"]["username"] != ACCOUNT or not reference or reference.get("apiGroup") == ANYONES:
        return
    resource = "/".join(part for part in (reference["resource"], reference.get("subresource")) if part)
    target = (reference.get("name", ""), reference.get("namespace", ""))
    code = (event.get("responseStatus") or {}).get("code", 200)
    yield Request(Right(reference.get("apiGroup", ""), resource, event["verb"], *target), code not in (401, 403))
    if event["verb"] == "patch" and code == 201:  # a server-side apply of a new object needs the right to create it as well
        yield Request(Right(reference.get("apiGroup", ""), resource, "create", *target), allowed=True)


def _covers(right: Right, requested: Right) -> bool:
    same = (right.group, right.resource, right.verb) == (requested.group, requested.resource, requested.verb)
    return same and right.name in ("", requested.name) and right.namespace in ("", requested.namespace)
