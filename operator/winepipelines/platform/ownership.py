"""Whose an object in the cluster is: the resource's own, or that of somebody else. Pure."""

from winepipelines.api.naming import MANAGED_BY, MANAGED_BY_LABEL, PIPELINE_LABEL
from winepipelines.api.observed import Presence
from winepipelines.api.pipeline import WinePipeline
from winepipelines.platform.kubernetes import Body


def owners_of(live: Body) -> set[str]:
    """List the uids of an object's owners."""
    return {owner["uid"] for owner in live["metadata"].get("ownerReferences") or []}


def is_managed(live: Body) -> bool:
    """Tell whether the operator made an object, for any resource."""
    return label_of(live, MANAGED_BY_LABEL) == MANAGED_BY


def presence_of(pipeline: WinePipeline, live: Body | None) -> Presence:
    """Tell whether an object exists and, if it does, whether it is the resource's.

    An object without owners is: it was retained when an earlier resource of this name was deleted.
    """
    if live is None:
        return Presence.ABSENT
    ours = is_managed(live) and label_of(live, PIPELINE_LABEL) == pipeline.name
    if not ours or (owners_of(live) and pipeline.uid not in owners_of(live)):
        return Presence.NOT_MANAGED
    return Presence.CURRENT


def without_owner(pipeline: WinePipeline, live: Body) -> Body:
    """Build the merge patch that removes the resource from the owners of an object, if nobody changes the object meanwhile."""
    others = [owner for owner in live["metadata"].get("ownerReferences", []) if owner["uid"] != pipeline.uid]
    return {"metadata": {"ownerReferences": others, "resourceVersion": live["metadata"]["resourceVersion"]}}


def label_of(live: Body, name: str) -> str:
    """Return the value of a label; empty where there is none."""
    return str((live["metadata"].get("labels") or {}).get(name) or "")
