"""A candidate is tried beside the model that serves before it takes over. Called by `deploy`.

It comes up as a second predictor and answers on a service of its own: a model that answers wrongly never takes traffic. With
`spec.serving.canary` it then takes its shares of the traffic one after another, where the platform splits traffic; where it does
not, the check on its own service is all there is, and the status says so. Whatever is wrong with it, all traffic is the served
model's again at once.
"""

from datetime import timedelta

from winepipelines.lifecycle import reasons
from winepipelines.lifecycle.candidates import is_on_trial
from winepipelines.lifecycle.look import Held, Look, Record
from winepipelines.lifecycle.questions import Deployment, Server, Tried
from winepipelines.lifecycle.rolling import deployment_can_be_made, reference, reject, roll_out, settling, wait_for_rollout
from winepipelines.resource.errors import PlatformError
from winepipelines.resource.observed import TrialView
from winepipelines.resource.rollout import Rollout
from winepipelines.resource.status import Candidate, ServedModel, Trial

ERROR_RATE = 0.05  # of the predictions of one look
SLOWDOWN = 2.0  # times the median of what serves,
SLACK = timedelta(milliseconds=100)  # and so much above it
UNANSWERED = ("EndpointUnreachable", "PredictionRefused")  # which may be the way there, right after a rollout


def trial_is_passed(look: Look, candidate: Candidate) -> Record | Held | None:
    """See to the trial; None where there is none, or it is over and the candidate takes over."""
    served = look.status.served
    if served is None or not is_on_trial(look, candidate):
        return None
    trial, canary = candidate.trial or Trial(), look.spec.serving.canary
    if trial.passed:
        return _makes_room(look, candidate, served)
    steps = canary.steps if canary is not None and look.at(Server(candidate.runtime)).splits_traffic else ()
    step = min(trial.step, len(steps))
    rollout = Rollout(reference(served), reference(candidate), steps[step - 1] if step else 0)
    view = look.at(Deployment(rollout))
    if (held := deployment_can_be_made(look, view)) is not None:
        return held
    if (waits := roll_out(look, candidate, view, rollout)) is not None:
        return waits
    if not view.trial_rolled_out and (waiting := wait_for_rollout(look, candidate, view)) is not None:
        return waiting
    if candidate.deploying_since is not None:  # its own pods are there, whatever becomes of those of the model that serves
        return Record(look.status.with_(candidate=candidate.with_(deploying_since=None, verifying_since=look.now)))
    if (against := _against(look, candidate, served)) is not None:
        return _fails(look, candidate, step, *against)
    return _goes_on(look, candidate, trial.with_(step=step), steps)


def _makes_room(look: Look, candidate: Candidate, served: ServedModel) -> Record | Held:
    """The pods of the trial go before those start that take over: there may be no room for both beside the ones that serve."""
    rollout = Rollout(reference(served))
    view = look.at(Deployment(rollout))
    if (held := deployment_can_be_made(look, view) or roll_out(look, candidate, view, rollout)) is not None:
        return held
    # Whatever keeps the pods of the served model from starting is no reason to wait for them.
    if not view.reason and (waiting := wait_for_rollout(look, candidate, view)) is not None:
        return waiting
    trial = candidate.trial or Trial()
    return Record(look.status.with_(candidate=candidate.with_(trial=trial.with_(promoted=True))))


def _against(look: Look, candidate: Candidate, served: ServedModel) -> tuple[str, str] | None:
    """Ask both models. One that cannot be asked about has not passed. Raises as `Look.at` does."""
    try:
        return _objection(look.at(Tried(reference(candidate), reference(served))))
    except PlatformError as error:
        if error.reason not in reasons.WITHOUT_EXAMPLE:
            raise
        return error.reason, error.message


def _objection(tried: TrialView) -> tuple[str, str] | None:
    """Say what is against a candidate, in words that do not change from look to look; None where nothing is."""
    if tried.wrong:
        return tried.reason, tried.message
    if tried.failed > ERROR_RATE * tried.asked:
        return tried.reason, f"{tried.failed} of {tried.asked} predictions failed: {tried.message}"
    limit = max(SLOWDOWN * tried.served_milliseconds, tried.served_milliseconds + SLACK / timedelta(milliseconds=1))
    if tried.milliseconds > limit:
        compared = f"{tried.milliseconds:.0f} ms, and {tried.served_milliseconds:.0f} ms by the model that serves"
        return reasons.TRIAL_SLOW, f"a prediction takes {compared}"
    return None


def _fails(look: Look, candidate: Candidate, step: int, reason: str, message: str) -> Record | Held:
    """Give it up at once where it has traffic; without, it has the time that any new model has."""
    if step == 0:
        if candidate.verifying_since is None:
            return Record(look.status.with_(candidate=candidate.with_(verifying_since=look.now)))
        if reason in UNANSWERED and (held := settling(look, candidate, candidate.verifying_since, "its own service")) is not None:
            return held
        deadline = candidate.verifying_since + look.policy.verify_window
        if look.now < deadline:
            return Held(reason, message, wake_in=min(look.policy.retry_interval, look.policy.verify_window / 4))
    return reject(look, candidate, reason, f"revision {candidate.revision} on trial: {message}")


def _goes_on(look: Look, candidate: Candidate, trial: Trial, steps: tuple[int, ...]) -> Record | Held:
    """Take the next step when the present one has been watched for long enough."""
    since = trial.since or look.now
    canary = look.spec.serving.canary
    until = since + canary.pause_duration if canary is not None and trial.step else look.now
    if look.now >= until:
        last = trial.step >= len(steps)
        if last:
            next_trial = Trial(step=trial.step, since=since, passed=True)
        else:
            next_trial = Trial(step=trial.step + 1, weight=steps[trial.step], since=look.now)
        return Record(look.status.with_(candidate=candidate.with_(trial=next_trial, verifying_since=None)))
    share = f"{steps[trial.step - 1]} % of the traffic until {until:%H:%M:%S} UTC (step {trial.step} of {len(steps)})"
    message = f"revision {candidate.revision} is on trial with {share}"
    return Held(reasons.ON_TRIAL, message, wake_in=min(look.policy.trial_interval, until - look.now))
