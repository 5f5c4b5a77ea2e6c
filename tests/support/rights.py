"""The operator's rights one by one: granted, taken away, and as the API server's audit log says that they were used."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from support.cluster import Body, eventually

from sandbox.errors import KubectlError
from sandbox.platform import Sandbox

MANIFEST = Path(__file__).parents[2] / "deploy" / "operator" / "rbac.yaml"
ACCOUNT = "system:serviceaccount:kubeflow:wine-operator"
ANYONES = "authorization.k8s.io"  # whoever has a token may ask for his own rights


@dataclass(frozen=True, order=True)
class Right:
    """One verb on one resource of a group; `name` and `namespace` are empty where any will do."""

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
        """The rule that grants it and nothing else."""
        names = {"resourceNames": [self.name]} if self.name else {}
        return {"apiGroups": [self.group], "resources": [self.resource], "verbs": [self.verb], **names}


def granted() -> list[Right]:
    """List what the manifest grants, in its order."""
    return [
        Right(group, resource, verb, name, manifest["metadata"].get("namespace", ""))
        for manifest in yaml.safe_load_all(MANIFEST.read_text())
        for rule in manifest.get("rules", ())
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for name in rule.get("resourceNames", [""])
        for verb in rule["verbs"]
    ]


def grant(sandbox: Sandbox, rights: Iterable[Right], namespaces: Iterable[str] = ()) -> None:
    """Let the operator have these rights and no other: in the cluster, or as the chart does it for a list of namespaces."""
    chosen = list(rights)
    wide = [right.rule for right in chosen if not right.namespace]
    near = [right.rule for right in chosen if right.namespace]
    places = list(namespaces)
    items = [
        _role("ClusterRole", "", [] if places else wide),
        _role("Role", "kubeflow", near),
        *(_role("Role", place, wide) for place in places),
        *(_binding(place) for place in places),
    ]
    body = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    sandbox.kubectl("apply", "--server-side", "--force-conflicts", "--field-manager=sandbox", "-f", "-", stdin=body)


def await_absence(sandbox: Sandbox, right: Right) -> None:
    """Wait until the API server's authorizer has heard that a right is gone."""
    resource, _, subresource = right.resource.partition("/")
    what = f"{resource}.{right.group}" if right.group else resource
    options = [f"--subresource={subresource}"] if subresource else []
    where = ["-n", right.namespace or "default"]

    def refused() -> bool:
        try:
            sandbox.kubectl("auth", "can-i", right.verb, f"{what}/{right.name}".rstrip("/"), *options, *where, f"--as={ACCOUNT}")
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
class Asked:
    """A right that the operator has made use of, or was refused."""

    right: Right
    allowed: bool


class Audit:
    """The audit log from here on."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._begin = log.stat().st_size if log.exists() else 0

    def asked(self) -> Iterator[Asked]:
        """Say what was asked since. `name` and `namespace` are those of the request."""
        with self._log.open("rb") as log:
            log.seek(self._begin)
            for line in log:
                yield from _asked(json.loads(line))

    def used(self, rights: Iterable[Right]) -> set[Right]:
        """Choose the rights that were made use of."""
        asked = {one.right for one in self.asked() if one.allowed}
        return {right for right in rights if any(_covers(right, one) for one in asked)}

    def refused(self) -> set[Right]:
        """List what was asked in vain."""
        return {one.right for one in self.asked() if not one.allowed}


def _asked(event: dict[str, Any]) -> Iterator[Asked]:
    reference = event.get("objectRef") or {}
    if reference.get("resource") == "subjectaccessreviews":  # Kubeflow Pipelines asks what the operator may do there
        spec, status = event["requestObject"]["spec"], (event.get("responseObject") or {}).get("status") or {}
        wanted = spec.get("resourceAttributes")
        if spec.get("user") == ACCOUNT and wanted:
            right = Right(wanted["group"], wanted["resource"], wanted["verb"], "", wanted.get("namespace", ""))
            yield Asked(right, bool(status.get("allowed")))
        return
    if event["user"]["username"] != ACCOUNT or not reference or reference.get("apiGroup") == ANYONES:
        return
    resource = "/".join(part for part in (reference["resource"], reference.get("subresource")) if part)
    place = (reference.get("name", ""), reference.get("namespace", ""))
    code = (event.get("responseStatus") or {}).get("code", 200)
    yield Asked(Right(reference.get("apiGroup", ""), resource, event["verb"], *place), code not in (401, 403))
    if event["verb"] == "patch" and code == 201:  # what is applied where nothing is has to be created, too
        yield Asked(Right(reference.get("apiGroup", ""), resource, "create", *place), allowed=True)


def _covers(right: Right, asked: Right) -> bool:
    same = (right.group, right.resource, right.verb) == (asked.group, asked.resource, asked.verb)
    return same and right.name in ("", asked.name) and right.namespace in ("", asked.namespace)
