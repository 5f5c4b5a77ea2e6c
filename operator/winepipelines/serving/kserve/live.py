"""Read the objects of a resource that exist, and tell whose they are."""

from collections.abc import Iterable
from dataclasses import dataclass

from winepipelines.api.observed import Presence
from winepipelines.api.pipeline import WinePipeline
from winepipelines.platform.kubernetes import CORE_SERVICES, DEPLOYMENTS, Body, Kind, KindMissing, Kubernetes
from winepipelines.platform.manifests import Manifest, covers
from winepipelines.platform.namespace import is_others_doing
from winepipelines.platform.ownership import is_managed, presence_of
from winepipelines.serving.kserve import naming
from winepipelines.serving.kserve.naming import PREDICTOR, RUNTIME, candidate_name

SERVICES = Kind(f"{naming.KIND.group}/{naming.KIND.version}", naming.KIND.plural)
SERVING_RUNTIMES = Kind(f"{naming.RUNTIME_KIND.group}/{naming.RUNTIME_KIND.version}", naming.RUNTIME_KIND.plural)


@dataclass(frozen=True)
class Found:
    """The InferenceService that serves, that of the candidate, and the namespace's ServingRuntime."""

    presence: Presence
    served: Body | None = None
    candidate_presence: Presence = Presence.ABSENT
    candidate: Body | None = None
    runtime: Body | None = None

    @property
    def runtime_is_foreign(self) -> bool:
        """Whether the ServingRuntime was made by somebody else."""
        return self.runtime is not None and not is_managed(self.runtime)

    @property
    def runtime_was_changed(self) -> bool:
        """Whether another client changed the ServingRuntime last."""
        return self.runtime is not None and is_others_doing(self.runtime["metadata"])

    @property
    def candidate_is_in_place(self) -> bool:
        """Whether the resource has a candidate that is not being deleted."""
        candidate = self.candidate
        return (
            candidate is not None
            and self.candidate_presence is Presence.CURRENT
            and "deletionTimestamp" not in candidate["metadata"]
        )

    def runtime_is(self, wanted: Manifest | None) -> bool:
        """Tell whether the ServingRuntime is the desired one, where one is desired."""
        return wanted is None or covers(self.runtime, wanted)

    def obstacle(self, pipeline: WinePipeline, *, candidate: bool) -> str:
        """Describe an object of somebody else that the rollout would have to change; empty if there is none."""
        if candidate and self.candidate_presence is Presence.NOT_MANAGED:
            return _obstacle(pipeline, naming.KIND.kind, naming.KIND.short_name, candidate_name(pipeline))
        if self.runtime_is_foreign:
            return _obstacle(pipeline, "ServingRuntime", "servingruntime", RUNTIME)
        return ""


async def find(kubernetes: Kubernetes, pipeline: WinePipeline) -> Found:
    """Read the objects of a resource."""
    try:
        served = await kubernetes.get(SERVICES, pipeline.namespace, pipeline.name)
        candidate = await kubernetes.get(SERVICES, pipeline.namespace, candidate_name(pipeline))
        runtime = await kubernetes.get(SERVING_RUNTIMES, pipeline.namespace, RUNTIME)
    except KindMissing:
        return Found(Presence.KIND_MISSING)
    return Found(presence_of(pipeline, served), served, presence_of(pipeline, candidate), candidate, runtime)


async def foreign_predictor(kubernetes: Kubernetes, pipeline: WinePipeline, names: Iterable[str]) -> str:
    """Describe a Deployment or Service of somebody else that KServe would overwrite for InferenceServices of these names.

    What KServe made for an earlier InferenceService of that name is not foreign: it is being deleted. Empty if there is none.
    """
    for name in names:
        for kind, word in ((DEPLOYMENTS, "Deployment"), (CORE_SERVICES, "Service")):
            live = await kubernetes.get(kind, pipeline.namespace, f"{name}{PREDICTOR}")
            owners = [] if live is None else live["metadata"].get("ownerReferences") or []
            if live is not None and not any(owner["kind"] == naming.KIND.kind and owner["name"] == name for owner in owners):
                taken = _obstacle(pipeline, word, word.lower(), f"{name}{PREDICTOR}")
                return f"{taken} Or rename the WinePipeline: KServe overwrites the {word} of this name."
    return ""


def _obstacle(pipeline: WinePipeline, kind: str, resource: str, name: str) -> str:
    where = pipeline.namespace
    return (
        f"{kind} {where}/{name} exists but is not managed by this operator for this WinePipeline. Delete it (kubectl -n {where} "
        f"delete {resource} {name})."
    )
