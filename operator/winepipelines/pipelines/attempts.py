"""Which server image a candidate is deployed with, and when a rejected candidate is tried again.

A model keeps the server image that it has passed a check with. Until then it has the platform's current one, so that a corrected
chart value reaches a rollout that cannot start. With another image, backend or `spec.serving`, a rollout has its full progress
deadline again, and a rejected model is tried again, unless it was rolled back after its promotion.
"""

import hashlib
import json

from winepipelines.api.modelrecord import ModelServer
from winepipelines.api.observed import Presence
from winepipelines.api.status import Candidate, RetiringDeployment, RevisionOutcome
from winepipelines.pipelines.context import ReconcileContext, StatusUpdate
from winepipelines.pipelines.history import entry_of
from winepipelines.pipelines.queries import GetDeployment, GetServer
from winepipelines.pipelines.rollout.candidates import is_serving


def attempt_is_current(context: ReconcileContext, candidate: Candidate) -> StatusUpdate | None:
    """The candidate is tried, or was rejected, with the current image and the current settings."""
    if is_serving(context.status, candidate) or _was_rolled_back(context, candidate):
        return None
    server, backend = _present_server(context, candidate), context.backend
    serving_hash = _serving_hash(context, server)
    begun = context.backends.named(candidate.backend) if candidate.serving_hash else backend
    if begun == backend and (serving_hash == candidate.serving_hash or (candidate.rejection and not candidate.serving_hash)):
        return None
    tried = candidate.with_(model=candidate.model.with_(server=server), serving_hash=serving_hash, backend=backend)
    if candidate.serving_hash or server != candidate.model.server:
        tried = tried.with_(rollout_started_at=None)
        if candidate.rejection or not _has_answered(candidate):
            tried = tried.with_(canary=None, verification_started_at=None, rejection=None)
    return StatusUpdate(context.status.with_(candidate=tried, retiring=_left_over(context, backend)))


def _left_over(context: ReconcileContext, backend: str) -> RetiringDeployment | None:
    """Find what an earlier attempt, perhaps of an earlier revision, rolled out on another backend, before anything serves."""
    if context.status.served is not None:
        return context.status.retiring
    others = (name for name in context.backends.enabled if name != backend)
    left = (name for name in others if context.observe(GetDeployment(None, name)).presence is Presence.CURRENT)
    return next((RetiringDeployment(backend=name) for name in left), None)


def _serving_hash(context: ReconcileContext, server: ModelServer) -> str:
    """Hash what determines whether a model's pods can start, apart from the model."""
    serving = context.spec.serving.model_dump(mode="json", exclude={"canary", "runtime", "backend", "migration_grace"})
    return hashlib.sha256(json.dumps([server.model_dump(), serving], sort_keys=True).encode()).hexdigest()[:16]


def _present_server(context: ReconcileContext, candidate: Candidate) -> ModelServer:
    """Choose the server that the candidate is rolled out with."""
    served = context.status.served
    if served is not None and served.model.uri == candidate.model.uri:
        return served.model.server
    if _has_answered(candidate) and not candidate.rejection:
        return candidate.model.server
    server = context.observe(GetServer(candidate.model.runtime, context.backend)).server
    return server.with_(image=server.image or candidate.model.server.image)


def _has_answered(candidate: Candidate) -> bool:
    """Tell whether a model has passed a check with its image: as a canary, or as an earlier revision."""
    canary = candidate.canary
    return candidate.model.revision != candidate.revision or (canary is not None and (canary.step > 0 or canary.passed))


def _was_rolled_back(context: ReconcileContext, candidate: Candidate) -> bool:
    entry = entry_of(context.status, candidate.revision)
    return entry is not None and entry.outcome is RevisionOutcome.ROLLED_BACK
