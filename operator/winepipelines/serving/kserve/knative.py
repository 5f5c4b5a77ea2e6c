"""Knative mode: one InferenceService, of which Knative makes a revision per change and splits the traffic between two of them.

The candidate is the newest revision with a share of the traffic (`canaryTrafficPercent`), at first 0. Its tag `latest` and the
served model's tag `prev` have addresses of their own. What KServe reports of revisions is believed only as far as their
Deployments agree, whose pod templates name the model: right after a change it still reports the revisions from before.
"""

import hashlib
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from winecontract.reasons import Reason
from winecontract.text import clean
from winepipelines.api.observed import DeploymentView, Presence
from winepipelines.api.rollout import Rollout
from winepipelines.platform.kubernetes import DEPLOYMENTS, PODS, Body, Kubernetes
from winepipelines.platform.manifests import Manifest
from winepipelines.platform.workloads import is_complete, trimmed
from winepipelines.serving.kserve.manifest import annotations_of, storage_uri
from winepipelines.serving.kserve.naming import OBJECT_LABEL, SOURCE_ANNOTATION
from winepipelines.serving.kserve.rollout import Service, is_wanted, view_of_incomplete

API = "/apis/serving.knative.dev"
LATEST, PREVIOUS = "latest", "prev"  # tags that KServe gives the newest revision, and the one that had all traffic before
NOT_INSTALLED = (
    "Knative Serving is not installed, and Knative mode needs it. Ask the platform's administrator to install it and to restart "
    "KServe's controller, or to set kserve.mode to Standard."
)
LONGEST, DIGEST = 63, 32  # of a name, and of the digest in one that would be longer
DEPLOYMENT = "-deployment"
POD_LIMIT = 200
MOST_TARGETS = 8


@dataclass(frozen=True)
class Target:
    """A share of the traffic."""

    revision: str
    percent: int
    tag: str


@dataclass(frozen=True)
class Revisions:
    """What KServe reports of an InferenceService's revisions."""

    created: str = ""
    ready: str = ""
    traffic: tuple[Target, ...] = ()

    @classmethod
    def of(cls, live: Body) -> "Revisions":
        """Read the status of an InferenceService."""
        status = ((live.get("status") or {}).get("components") or {}).get("predictor") or {}
        targets = [
            Target(str(target.get("revisionName") or ""), int(target.get("percent") or 0), str(target.get("tag") or ""))
            for target in (status.get("traffic") or [])[:MOST_TARGETS]
        ]
        return cls(str(status.get("latestCreatedRevision") or ""), str(status.get("latestReadyRevision") or ""), tuple(targets))

    def percent_of(self, revision: str) -> int:
        """Add up the shares of a revision."""
        return sum(target.percent for target in self.traffic if target.revision == revision)

    def tagged(self, tag: str) -> str:
        """Return the revision that has a tag; empty if none has."""
        return next((target.revision for target in self.traffic if target.tag == tag), "")


def deployment_name(revision: str) -> str:
    """Name the Deployment of a revision as Knative does (`kmeta.ChildName`)."""
    if len(revision) > LONGEST - len(DEPLOYMENT):
        digest = hashlib.md5(revision.encode(), usedforsecurity=False).hexdigest()
        revision = revision[: LONGEST - DIGEST - len(DEPLOYMENT)] + digest
    return revision + DEPLOYMENT


async def is_installed(kubernetes: Kubernetes) -> bool:
    """Tell whether the API server serves Knative's kinds, which needs no right."""
    return await kubernetes.ask("get", API) is not None


async def percent(kubernetes: Kubernetes, live: Body | None, rollout: Rollout) -> int | None:
    """Return the share of the newest revision; None sends it all traffic as soon as it is ready.

    When a candidate ends without a promotion, the served model becomes a newest revision again. Until that is ready, the newest
    ready one is the candidate's: it must get nothing.
    """
    if rollout.canary is not None:
        return rollout.weight
    if live is None or (live.get("spec") or {}).get("predictor", {}).get("canaryTrafficPercent") is None:
        return None
    revisions = Revisions.of(live)
    newest = await _deployment(kubernetes, live, revisions.created)
    served = newest is not None and _source(newest) == storage_uri(rollout.model)
    return None if served and revisions.ready == revisions.created else 0


async def observe(kubernetes: Kubernetes, live: Body, wanted: Manifest, rollout: Rollout) -> DeploymentView:
    """Observe whether the newest revision is that of the rollout and ready, and how the traffic is shared."""
    revisions = Revisions.of(live)
    newest = await _deployment(kubernetes, live, revisions.created)
    service = Service(wanted, live, [] if newest is None else [newest])
    ready, idle = newest is not None and is_wanted(service, newest) and revisions.ready == revisions.created, False
    if ready and newest is not None and not (is_complete(newest, 1) and _available(newest)):
        ready = idle = await _is_idle(kubernetes, service)
    is_canary = rollout.canary is not None
    canary_rolled_out = is_canary and ready and revisions.tagged(LATEST) == revisions.created
    share = rollout.weight if is_canary else 100
    if ready and revisions.percent_of(revisions.created) == share and (canary_rolled_out or not is_canary):
        if is_canary:
            pinned = await _deployment(kubernetes, live, revisions.tagged(PREVIOUS))
            if problem := _pinned_problem(pinned, revisions, rollout):
                return DeploymentView(Presence.CURRENT, owned=True, reason=Reason.DEPLOYMENT_FAILED, message=problem)
            idle = idle or not (wanted["spec"]["predictor"]["minReplicas"] or _available(pinned))
        return DeploymentView(
            Presence.CURRENT, rolled_out=True, canary_rolled_out=canary_rolled_out, scaled_to_zero=idle, owned=True
        )
    if newest is None and not await is_installed(kubernetes):
        return DeploymentView(Presence.CURRENT, owned=True, reason=Reason.SERVERLESS_MODE_REJECTED, message=NOT_INSTALLED)
    if not ready and (rejected := _rejection(live)):
        return DeploymentView(Presence.CURRENT, owned=True, reason=Reason.DEPLOYMENT_FAILED, message=rejected)
    service = replace(service, pods=await _pods(kubernetes, live))
    return replace(view_of_incomplete([service], canary_rolled_out=canary_rolled_out), scaled_to_zero=idle)


async def _is_idle(kubernetes: Kubernetes, service: Service) -> bool:
    """Tell whether a revision that was ready may have no pod: it is scaled to zero, or a request starts one without a problem.

    Knative keeps such a revision ready, and its Deployment has no replicas, or unavailable ones.
    """
    [deployment] = service.deployments
    if service.wanted["spec"]["predictor"]["minReplicas"] or _available(deployment):
        return False
    if deployment["spec"].get("replicas") == 0:
        return True
    service = replace(service, pods=await _pods(kubernetes, service.live))
    return not view_of_incomplete([service], canary_rolled_out=False).reason


def _available(deployment: Body | None) -> int:
    """Count the available pods of a revision; those of a Deployment without replicas are ending."""
    if deployment is None or not deployment["spec"].get("replicas"):
        return 0
    return int((deployment.get("status") or {}).get("availableReplicas") or 0)


def _pinned_problem(deployment: Body | None, revisions: Revisions, rollout: Rollout) -> str:
    """Describe why the rest of the traffic does not go to the served model; empty if it does.

    KServe takes an earlier revision for the one that had all traffic if it reads Knative's new traffic before the new revision.
    """
    pinned = revisions.tagged(PREVIOUS)
    if deployment is not None and _source(deployment) == storage_uri(rollout.model):
        return ""
    other = f"Knative's revision {pinned}" if pinned else "no revision"
    return (
        f"KServe sends {100 - rollout.weight} % of the traffic to {other} and not to that of the served model. Cancel the "
        "revision (winepipelines.io/cancel) or remove spec.serving.canary: all traffic then goes to the served model"
    )


def _rejection(live: Body) -> str:
    """Read why KServe or Knative made no revision of an InferenceService; empty if they did not say."""
    for condition in ((live.get("status") or {}).get("conditions") or [])[:MOST_TARGETS]:
        if condition.get("type") == "Ready" and condition.get("reason") == "ReconcileFailed":
            return clean(f"KServe reports: {condition.get('message') or 'ReconcileFailed'}", 1000)
    return ""


async def _deployment(kubernetes: Kubernetes, live: Body, revision: str) -> Body | None:
    """Read the Deployment that Knative made of a revision. One that it did not make does not count."""
    if not revision:
        return None
    metadata = live["metadata"]
    deployment = await kubernetes.get(DEPLOYMENTS, metadata["namespace"], deployment_name(revision))
    if deployment is None or not _is_of(deployment["metadata"], revision, metadata["name"]):
        return None
    return trimmed(deployment, (SOURCE_ANNOTATION,))


def _is_of(metadata: dict[str, Any], revision: str, name: str) -> bool:
    owners = [
        (owner.get("kind"), owner.get("name")) for owner in metadata.get("ownerReferences") or [] if owner.get("controller")
    ]
    return owners == [("Revision", revision)] and (metadata.get("labels") or {}).get(OBJECT_LABEL) == name


async def _pods(kubernetes: Kubernetes, live: Body) -> list[Body]:
    metadata = live["metadata"]
    selector = f"{OBJECT_LABEL}={metadata['name']}"
    keep = partial(trimmed, annotations=(SOURCE_ANNOTATION,))
    return await kubernetes.list(PODS, metadata["namespace"], keep, POD_LIMIT, label_selector=selector)


def _source(deployment: Body) -> str:
    template = deployment["spec"].get("template") or {"metadata": {}}
    return str(annotations_of(template).get(SOURCE_ANNOTATION) or "")
