"""The deployment modes of KServe, and their names, which 0.16 changed."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from winepipelines.api.pipeline import WinePipeline
from winepipelines.serving.kserve.releases import FIRST_WITH_STANDARD

ANNOTATION = "serving.kserve.io/deploymentMode"


class Mode(StrEnum):
    """How KServe runs an InferenceService."""

    STANDARD = "Standard"
    """By a Deployment and a Service of Kubernetes."""
    KNATIVE = "Knative"
    """By a Service of Knative, which makes a revision per change and splits traffic between them."""


EARLIER = {Mode.STANDARD: "RawDeployment", Mode.KNATIVE: "Serverless"}
"""Their names up to 0.15. Later releases know them too, but 0.16 rejects every update of an object that has one."""
MODES = {name: mode for mode in Mode for name in (mode.value, EARLIER[mode])}


def recorded_name(service: Mapping[str, Any] | None) -> str:
    """Return the name of the mode of an InferenceService that exists: KServe's record of it, else the annotation."""
    status, metadata = ((service or {}).get(part) or {} for part in ("status", "metadata"))
    names = (status.get("deploymentMode"), (metadata.get("annotations") or {}).get(ANNOTATION))
    return next((name for name in names if name in MODES), "")


def mode_of(service: Mapping[str, Any] | None, chosen: Mode) -> Mode:
    """Return the mode of an InferenceService: KServe refuses to change it, so one that exists keeps its mode."""
    return MODES.get(recorded_name(service), chosen)


def name_of(mode: Mode, service: Mapping[str, Any] | None, minor: int | None) -> str:
    """Choose the name of a mode for an annotation.

    An InferenceService that exists keeps its name: an annotation that changes replaces pods, and 0.16 rejects an update with
    another name than it recorded. A new one gets the name that its release, 0.`minor`, knows; an unknown release counts as later.
    """
    recorded = recorded_name(service)
    if recorded and MODES[recorded] is mode:
        return recorded
    return EARLIER[mode] if minor is not None and minor < FIRST_WITH_STANDARD else mode.value


def with_canonical_mode(annotations: Mapping[str, Any]) -> dict[str, Any]:
    """Replace an earlier name of the mode by the present one, as later releases do by themselves."""
    name = annotations.get(ANNOTATION)
    return {**annotations, ANNOTATION: MODES[name].value} if name in MODES else dict(annotations)


def scaling_problem(pipeline: WinePipeline, mode: Mode, chosen: Mode) -> str:
    """Describe why models in a mode are not scaled to zero although the spec requires it; `chosen` is that of new objects."""
    autoscaling = pipeline.spec.serving.autoscaling
    if mode is Mode.KNATIVE or autoscaling is None or autoscaling.min_replicas:
        return ""
    problem = "It scales models to zero only in Knative mode. Set spec.serving.autoscaling.minReplicas to 1 or more"
    if chosen is not Mode.KNATIVE:
        return f"{problem}, or ask the platform's administrator to set kserve.mode to Knative."
    where, name = pipeline.namespace, pipeline.name
    return (
        f"{problem}, or delete InferenceService {where}/{name}, which is in Standard mode and keeps it (kubectl -n {where} "
        f"delete isvc {name}): it is made again in Knative mode, and requests fail until it is ready."
    )
