"""With what a candidate is served before it has answered, and when one that was rejected is tried again. Called by the rollout.

A model keeps the server image that it has answered with. Until then it has the platform's present one, so that a corrected chart
value reaches a rollout that cannot come up. With another image or `spec.serving` a rollout has its full time again, and what was
rejected is tried again; not what was rolled back after it had taken over.
"""

import hashlib
import json

from winepipelines.lifecycle.candidates import is_in_charge
from winepipelines.lifecycle.history import entry_of
from winepipelines.lifecycle.look import Look, Record
from winepipelines.lifecycle.questions import Server
from winepipelines.resource.status import Candidate, Outcome


def attempt_is_current(look: Look, candidate: Candidate) -> Record | None:
    """The candidate is tried, or was rejected, with the present image and the present settings."""
    if is_in_charge(look.status, candidate) or _was_rolled_back(look, candidate):
        return None
    image, executor = _present_server(look, candidate)
    settings = _settings_hash(look, image, executor)
    if settings == candidate.settings_hash or (candidate.rejected and not candidate.settings_hash):
        return None
    tried = candidate.with_(image=image, executor=executor, settings_hash=settings)
    if candidate.settings_hash or (image, executor) != (candidate.image, candidate.executor):
        tried = tried.with_(deploying_since=None)
        if candidate.rejected or not _has_answered(candidate):
            tried = tried.with_(trial=None, verifying_since=None, rejected="", rejected_message="")
    return Record(look.status.with_(candidate=tried))


def _settings_hash(look: Look, image: str, executor: bool) -> str:
    """Hash what decides whether a model's pods can start, beside the model itself."""
    serving = look.spec.serving.model_dump(mode="json", exclude={"canary", "runtime"})
    return hashlib.sha256(json.dumps([image, executor, serving], sort_keys=True).encode()).hexdigest()[:16]


def _present_server(look: Look, candidate: Candidate) -> tuple[str, bool]:
    """Choose the server's image, and whether Seldon's executor stands in front of it."""
    served = look.status.served
    if served is not None and served.uri == candidate.uri:
        return served.image, served.executor
    if _has_answered(candidate) and not candidate.rejected:
        return candidate.image, candidate.executor
    server = look.at(Server(candidate.runtime))
    return server.image or candidate.image, server.executor


def _has_answered(candidate: Candidate) -> bool:
    """Tell whether a model has answered with its image: on trial, or as an earlier revision's."""
    trial = candidate.trial
    return candidate.origin is not None or (trial is not None and (trial.step > 0 or trial.passed))


def _was_rolled_back(look: Look, candidate: Candidate) -> bool:
    entry = entry_of(look.status, candidate.revision)
    return entry is not None and entry.outcome is Outcome.ROLLED_BACK
