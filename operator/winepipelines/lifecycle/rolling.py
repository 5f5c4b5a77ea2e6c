"""Rolling a model out: what is common to a candidate's trial and its taking over. Called by `deploy`, `trial` and `keep`."""

from datetime import datetime, timedelta

from winepipelines.lifecycle import reasons
from winepipelines.lifecycle.actions import ApplyDeployment
from winepipelines.lifecycle.candidates import is_in_charge
from winepipelines.lifecycle.conditions import MESSAGE_LIMIT
from winepipelines.lifecycle.history import ended
from winepipelines.lifecycle.look import Held, Look, Record
from winepipelines.resource.observed import DeploymentView, Presence
from winepipelines.resource.rollout import ModelRef, Rollout
from winepipelines.resource.spec import Runtime
from winepipelines.resource.status import Candidate, ConditionType, Stage, TrainedModel
from winepipelines.resource.status import Outcome as Ending

SETTLING = timedelta(seconds=10)  # after a rollout: from then on, an endpoint that does not answer is reported
PROBE_INTERVAL = timedelta(seconds=0.5)  # meanwhile


def reference(model: TrainedModel) -> ModelRef:
    """Name a model for the serving platform."""
    return ModelRef(
        revision=model.revision,
        uri=model.uri,
        mlflow_run=model.mlflow_run,
        runtime=model.runtime,
        image=model.image,
        executor=model.executor,
        digest=model.digest,
        example_digest=model.example_digest,
    )


def deployment_can_be_made(look: Look, view: DeploymentView) -> Held | None:
    """There is a serving platform, and nobody else's deployment in the way."""
    if view.presence is Presence.KIND_MISSING:
        message = "this cluster has no SeldonDeployment kind; the platform's administrator installs Seldon Core 1"
        return Held(reasons.SERVING_PLATFORM_MISSING, message, stalled=True, wake_in=look.policy.retry_interval)
    if view.presence is Presence.FOREIGN:
        namespace, name = look.pipeline.namespace, look.pipeline.name
        message = (
            f"the SeldonDeployment {name} was not made by this operator for this resource and is left alone; delete it "
            f"(kubectl -n {namespace} delete sdep {name}) or give the WinePipeline another name"
        )
        return Held(reasons.FOREIGN_OBJECT, message, stalled=True, wake_in=look.policy.retry_interval)
    return None


def roll_out(look: Look, candidate: Candidate, view: DeploymentView, rollout: Rollout) -> Held | None:
    """Have the serving platform told what shall serve, where it has not been."""
    if view.presence is Presence.CURRENT:
        return None
    since = candidate.with_(deploying_since=candidate.deploying_since or look.now, verifying_since=None)
    mended = _drift(look, candidate, view)
    return Held(
        reasons.ROLLING_OUT,
        f"{mended or 'deploying'} revision {candidate.revision}",
        actions=(ApplyDeployment(rollout, mended and f"{mended} revision {candidate.revision}"),),
        status=look.status.with_(candidate=since),
        wake_in=look.policy.rollout_interval,
    )


def wait_for_rollout(look: Look, candidate: Candidate, view: DeploymentView) -> Record | Held | None:
    """Have patience with a rollout, up to its deadline; None where it is complete."""
    if view.rolled_out:
        if candidate.deploying_since is None:
            return None
        return Record(look.status.with_(candidate=candidate.with_(deploying_since=None)))
    since = candidate.deploying_since or look.now
    if candidate.deploying_since is None:
        return Record(look.status.with_(candidate=candidate.with_(deploying_since=since)))
    what = _fuller_word(look, view)
    if view.reason == reasons.MODEL_TAMPERED:  # the server has compared the files, and does not load them
        return reject(look, candidate, view.reason, f"revision {candidate.revision}: {what}")
    bundled = candidate.runtime is Runtime.BUNDLED
    patience = look.policy.progress_deadline if bundled else look.policy.slow_progress_deadline
    deadline = since + patience
    if look.now >= deadline:
        minutes = patience.total_seconds() / 60
        message = f"revision {candidate.revision} was not rolled out within {minutes:.3g} minutes: {view.passing or what}"
        return reject(look, candidate, view.reason or reasons.PROGRESS_DEADLINE_EXCEEDED, message)
    wake_in = min(look.policy.rollout_interval, deadline - look.now)
    return Held(view.reason or reasons.ROLLING_OUT, what, wake_in=wake_in)


def settling(look: Look, candidate: Candidate, since: datetime, url: str) -> Held | None:
    """Probe again soon, and say nothing of the answer, right after the rollout of `since`; None where that was a while ago.

    The nodes learn of new pods a moment after Kubernetes calls them ready, and may send requests to the earlier ones till then.
    """
    if look.now >= since + min(SETTLING, look.policy.verify_window / 2):
        return None
    message = f"revision {candidate.revision} is rolled out; waiting for {url} to answer"
    return Held(reasons.ROLLING_OUT, message, wake_in=PROBE_INTERVAL)


def reject(look: Look, candidate: Candidate, reason: str, message: str) -> Record | Held:
    """Give a model up, which ends its revision. Where another one served, that one serves again.

    Where none did, its pods stay to be looked at, and it serves after all if they come up. One in charge stays in charge.
    """
    served = look.status.served
    if served is not None and served.revision == candidate.revision:
        return Held(reason, message, stalled=True, wake_in=look.policy.retry_interval)
    if served is None and candidate.rejected == reason:
        return Held(reason, message, stalled=True, wake_in=look.policy.retry_interval, stage=Stage.FAILED)
    told = f"{message}; revision {served.revision} serves on" if served is not None else message
    rejected = candidate.with_(rejected=reason, rejected_message=told[:MESSAGE_LIMIT])
    status = look.status.with_(candidate=rejected)
    return Record(ended(status, look.spec, Ending.REJECTED, reason, look.now))


def _drift(look: Look, candidate: Candidate, view: DeploymentView) -> str:
    """Say what someone has done to a deployment that was rolled out for this very spec; nothing where it was not."""
    if not (is_in_charge(look.status, candidate) and look.held_true(ConditionType.DEPLOYED)):
        return ""
    if view.presence is Presence.ABSENT:
        return "the SeldonDeployment was gone: deploying"
    return "the SeldonDeployment was not as it should be: deploying" if view.drifted else ""


def _fuller_word(look: Look, view: DeploymentView) -> str:
    """Say what holds the rollout up. A shorter word on the same trouble does not take the place of a fuller one."""
    what = view.message or "the serving platform is rolling it out"
    said = look.status.condition(ConditionType.DEPLOYED)
    same = said is not None and said.reason == view.reason and said.message.startswith(what)
    return said.message if said is not None and same else what
