"""The cluster as a whole: version, kinds, rights, and lists that only an administrator may read.

Discovery and reviews of rights need no other right than every authenticated user has.
"""

from winepipelines.platform.kubernetes import DEPLOYMENTS, PODS, Body, Kubernetes
from winepipelines.platform.workloads import trimmed

PENDING_PODS = 200  # that are listed at most
CONTROLLERS = 20  # Deployments that are listed at most


class Cluster:
    """Queries about the cluster as a whole."""

    def __init__(self, kubernetes: Kubernetes) -> None:
        """Use this adapter."""
        self._kubernetes = kubernetes

    async def version(self) -> str:
        """Return the version of Kubernetes."""
        return str((await self._get("/version") or {}).get("gitVersion", ""))

    async def whoami(self) -> str:
        """Return our own user name; empty before Kubernetes 1.28, which has no such review."""
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        answer = await self._post("/apis/authentication.k8s.io/v1/selfsubjectreviews", body)
        return str(answer["status"].get("userInfo", {}).get("username", ""))

    async def versions(self, group: str) -> tuple[str, ...]:
        """List the versions in which a group is served; empty if it is not served."""
        answer = await self._get(f"/apis/{group}") or {}
        return tuple(version["version"] for version in answer.get("versions", []))

    async def resources(self, group: str, version: str) -> frozenset[str]:
        """List the plural names of a group's kinds in a version."""
        answer = await self._get(f"/apis/{group}/{version}") or {}
        return frozenset(resource["name"] for resource in answer.get("resources", []))

    async def schemas(self, group: str, version: str) -> Body:
        """Read the OpenAPI 3 schemas of a group's kinds in a version."""
        answer = await self._get(f"/openapi/v3/apis/{group}/{version}") or {}
        return dict(answer.get("components", {}).get("schemas", {}))

    async def may(self, verb: str, group: str, resource: str, namespace: str = "", name: str = "", user: str = "") -> bool:
        """Review whether we, or a service account, have a right; an empty namespace means all namespaces."""
        resource, _, subresource = resource.partition("/")
        wanted = {
            "verb": verb,
            "group": group,
            "resource": resource,
            "subresource": subresource,
            "namespace": namespace,
            "name": name,
        }
        kind = "SubjectAccessReview" if user else "SelfSubjectAccessReview"
        spec: Body = {"resourceAttributes": {key: value for key, value in wanted.items() if value}}
        if user:
            spec |= {"user": user, "groups": _groups(user)}
        body = {"apiVersion": "authorization.k8s.io/v1", "kind": kind, "spec": spec}
        answer = await self._post(f"/apis/authorization.k8s.io/v1/{kind.lower()}s", body)
        return bool(answer["status"].get("allowed"))

    async def mutating_webhooks(self) -> list[Body]:
        """List the mutating webhook configurations."""
        path = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
        return list((await self._get(path) or {}).get("items", []))

    async def pending_pods(self, namespace: str = "") -> list[Body]:
        """List the pending pods of a namespace, or of all namespaces."""
        return await self._kubernetes.list(PODS, namespace, trimmed, PENDING_PODS, field_selector="status.phase=Pending")

    async def deployments(self, label_selector: str) -> list[Body]:
        """List the Deployments of all namespaces with a label."""
        return await self._kubernetes.list(DEPLOYMENTS, "", trimmed, CONTROLLERS, label_selector=label_selector)

    async def dry_run(self, path: str, body: Body) -> None:
        """Create an object with `dryRun: All`, so that the API server and its webhooks validate it.

        Raises PlatformError if one of them rejects it.
        """
        await self._kubernetes.ask("post", path, body=body, dry_run="All")

    async def labels(self, namespace: str) -> dict[str, str] | None:
        """Read a namespace's labels; None if the namespace does not exist."""
        answer = await self._get(f"/api/v1/namespaces/{namespace}")
        return None if answer is None else dict(answer["metadata"].get("labels") or {})

    async def has_service_account(self, namespace: str, name: str) -> bool:
        """Whether a service account exists."""
        return await self._get(f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}") is not None

    async def _get(self, path: str, **query: object) -> Body | None:
        return await self._kubernetes.ask("get", path, **query)

    async def _post(self, path: str, body: Body) -> Body:
        return await self._kubernetes.ask("post", path, body=body) or {"status": {}}


def _groups(user: str) -> list[str]:
    """List the groups of a service account."""
    namespace = user.split(":")[2]
    return ["system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"]
