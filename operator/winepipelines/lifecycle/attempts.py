"""With what a candidate is served before it has answered, and when one that was rejected is tried again. Called by the rollout.

A model keeps the server image that it has answered with. Until then it has the platform's present one, so that a corrected chart
value reaches a rollout that cannot come up. A rejected one is tried again as soon as the image or `spec.serving` is another.
"""

import hashlib
import json

from winepipelines.lifecycle.candidates import is_in_charge
from winepipelines.lifecycle.look import Look, Record
from winepipelines.lifecycle.questions import Server
from winepipelines.resource.status import Candidate


def attempt_is_current(look: Look, candidate: Candidate) -> Record | None:
    """The candidate is tried with the present image, and was not rejected with other settings than the present ones."""
    if is_in_charge(look.status, candidate):
        return None
    image = _present_image(look, candidate)
    if candidate.rejected:
        if candidate.rejected_with in ("", settings_hash(look, image)):
            return None
    elif image == candidate.image:
        return None
    return Record(look.status.with_(candidate=_afresh(candidate).with_(image=image)))


def settings_hash(look: Look, image: str) -> str:
    """Hash what decides whether a model's pods can start, beside the model itself."""
    serving = look.spec.serving.model_dump(mode="json", exclude={"canary", "runtime"})
    return hashlib.sha256(json.dumps([image, serving], sort_keys=True).encode()).hexdigest()[:16]


def _present_image(look: Look, candidate: Candidate) -> str:
    served, trial = look.status.served, candidate.trial
    if served is not None and served.uri == candidate.uri:
        return served.image
    has_answered = candidate.origin is not None or (trial is not None and (trial.step > 0 or trial.passed))
    if has_answered and not candidate.rejected:
        return candidate.image
    return look.at(Server(candidate.runtime)).image or candidate.image


def _afresh(candidate: Candidate) -> Candidate:
    return candidate.with_(
        trial=None, deploying_since=None, verifying_since=None, rejected="", rejected_message="", rejected_with=""
    )
