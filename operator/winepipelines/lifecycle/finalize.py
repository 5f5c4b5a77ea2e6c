"""The way out: a deleted resource ends its run and, unless retained, its deployment. Called by `decide`.

Owner references would do for the deployment; runs are outside Kubernetes. Nothing here waits for ever: what an unreachable
platform keeps is named in an Event.
"""

from winepipelines.lifecycle import reasons
from winepipelines.lifecycle.actions import (
    Action,
    DeleteDeployment,
    DeleteRun,
    LeaveModels,
    ReleaseDeployment,
    RemoveFinalizer,
)
from winepipelines.lifecycle.aliases import version_of
from winepipelines.lifecycle.history import run_is_over
from winepipelines.lifecycle.look import Held, Look, held
from winepipelines.lifecycle.questions import Deployment, Runs
from winepipelines.lifecycle.run import end_for_deletion
from winepipelines.resource.errors import PlatformError
from winepipelines.resource.observed import Presence, RunState
from winepipelines.resource.pipeline import FINALIZER
from winepipelines.resource.spec import DeletionPolicy


def finalize(look: Look) -> Held | None:
    """Clean up, then let the resource go. None where it has gone already, as far as this operator is concerned."""
    if FINALIZER not in look.pipeline.finalizers:
        return None
    assert look.pipeline.deleted_at is not None, "only deleted resources are finalized"
    late = look.now >= look.pipeline.deleted_at + look.policy.delete_bound
    last_tries: list[Action] = []
    left_behind: list[str] = []
    for step, what in STEPS:
        try:
            said = step(look)
        except PlatformError as error:
            said = Held(error.reason, error.message, wake_in=look.policy.retry_interval)
        if said is None:
            continue
        if not late:
            return said
        untried = [action for action in said.actions if action not in look.failures]
        last_tries += untried
        if not untried:
            left_behind.append(f"{what} ({_why(said, look)})")
    leaving = _leaving(look)
    if leaving is not None and (why := look.failures.get(leaving)) is not None:
        if not late:
            return Held(why.reason, why.message, wake_in=look.policy.retry_interval)
        left_behind.append(f"a tag on its models in MLflow ({why.message})")
        leaving = None
    actions = (*last_tries, *([leaving] if leaving else []), RemoveFinalizer(tuple(left_behind)))
    return Held(reasons.DELETING, "everything is cleaned up", actions=actions, waiting=False)


def run_has_ended(look: Look) -> Held | None:
    """Kubeflow Pipelines has been told to end the run."""
    is_over = look.status.run is None or run_is_over(look.status)
    return None if is_over else held(look, end_for_deletion(look.run))


def _leaving(look: Look) -> LeaveModels | None:
    """Models and their versions stay in MLflow, where others may use them; it is said of each whose it was."""
    status = look.status
    known = [item for item in (status.candidate, status.served, status.previous, *status.history) if item is not None]
    models = {version_of(look.pipeline, item) for item in known if item.version and item.mlflow_run}
    retired = look.spec.deletion_policy is DeletionPolicy.DELETE
    return LeaveModels(tuple(sorted(models)), retired) if models else None


def data_check_has_ended(look: Look) -> Held | None:
    """No run looks at the data any more."""
    check = look.status.data_check
    if check is None or not check.name:
        return None
    live = [view for view in look.at(Runs(check.name)) if view.live and view.state is not RunState.CANCELING]
    if not live:
        return None
    message, actions = "ending the run that looks at the data", tuple(DeleteRun(view.id) for view in live)
    return Held(reasons.DELETING, message, actions=actions, wake_in=look.policy.retry_interval)


def _why(said: Held, look: Look) -> str:
    return next((look.failures[action].message for action in said.actions if action in look.failures), said.message)


def deployment_is_gone(look: Look) -> Held | None:
    """Nothing is served any more, or what is served is nobody's."""
    view = look.at(Deployment(None))
    if view.presence in (Presence.ABSENT, Presence.KIND_MISSING, Presence.FOREIGN):
        return None
    if look.spec.deletion_policy is DeletionPolicy.DELETE:
        return Held(
            reasons.DELETING,
            "deleting the SeldonDeployment",
            actions=(DeleteDeployment(),),
            wake_in=look.policy.retry_interval,
        )
    if view.owned:
        return Held(reasons.DELETING, "releasing the SeldonDeployment", actions=(ReleaseDeployment(),))
    return None


STEPS = (
    (run_has_ended, "its run"),
    (data_check_has_ended, "the run that looks at its data"),
    (deployment_is_gone, "its SeldonDeployment"),
)
