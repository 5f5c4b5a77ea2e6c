"""The PodDefaults of a user's namespace: the operator's own, for notebooks, and those that others made there."""

from kubernetes.aio.dynamic.exceptions import NotFoundError

from winepipelines.api.naming import MANAGED_BY, MANAGED_BY_LABEL
from winepipelines.platform.kubernetes import PODDEFAULTS, Body
from winepipelines.platform.manifests import Manifest, Manifests
from winepipelines.platform.sharedreads import Reads
from winepipelines.settings import Settings

MOST = 200  # PodDefaults of others that are compared with the operator's


def pod_defaults(manifests: Manifests, settings: Settings, namespace: str, owner: Body) -> list[Manifest]:
    """Build the operator's PodDefaults of a namespace."""
    return manifests.render(
        "poddefaults.yaml.j2",
        mlflow_url=settings.mlflow_url_in_steps,
        s3_endpoint_url=settings.s3_endpoint_url,
        namespace=namespace,
        owner=owner,
    )


async def pod_defaults_of_others(reads: Reads, namespace: str) -> list[Body]:
    """List the PodDefaults that the operator did not create, by name and spec; none if the API server does not serve the kind."""
    try:
        return await reads.list(PODDEFAULTS, namespace, _name_and_spec, MOST, label_selector=f"{MANAGED_BY_LABEL}!={MANAGED_BY}")
    except NotFoundError:
        return []


def _name_and_spec(found: Body) -> Body:
    return {"metadata": {"name": found["metadata"]["name"]}, "spec": found.get("spec") or {}}
