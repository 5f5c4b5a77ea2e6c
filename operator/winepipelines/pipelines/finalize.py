"""Finalize a deleted resource: end its run and, unless it is retained, delete its deployment.

An owner reference would delete the deployment, but runs are outside Kubernetes. Every wait has a bound: an Event names what an
unreachable platform keeps.
"""

from dataclasses import replace

from winecontract.reasons import Reason
from winepipelines.api.errors import PlatformError
from winepipelines.api.observed import Presence, RunState
from winepipelines.api.pipeline import FINALIZER
from winepipelines.api.spec import DeletionPolicy
from winepipelines.pipelines.actions import Action, DeleteDeployment, ReleaseDeployment, TagOrphanedModels
from winepipelines.pipelines.background.aliases import version_of
from winepipelines.pipelines.context import NotReady, ReconcileContext, run_not_ready
from winepipelines.pipelines.history import run_is_over
from winepipelines.pipelines.queries import GetDeployment, ListRuns
from winepipelines.runs.actions import DeleteRun, RemoveFinalizer
from winepipelines.runs.ending import terminate_for_deletion


def finalize(context: ReconcileContext) -> NotReady | None:
    """Clean up, then remove the finalizer. None if the operator's finalizer is removed already."""
    if FINALIZER not in context.pipeline.finalizers:
        return None
    assert context.pipeline.deleted_at is not None, "only deleted resources are finalized"
    late = context.now >= context.pipeline.deleted_at + context.timeouts.delete_bound
    last_tries: list[Action] = []
    left_behind: list[str] = []
    for step, what in STEPS:
        try:
            not_ready = step(context)
        except PlatformError as error:
            not_ready = NotReady.from_error(error, context.timeouts)
        if not_ready is None:
            continue
        if not late:
            return replace(not_ready, check=step.__name__)
        untried = [action for action in not_ready.actions if action not in context.failures]
        last_tries += untried
        if not untried:
            left_behind.append(f"{what} ({_why(not_ready, context)})")
    tagging = _tagging(context)
    if tagging is not None and (why := context.failures.get(tagging)) is not None:
        if not late:
            return NotReady(why.reason, why.message, requeue_after=context.timeouts.retry_interval)
        left_behind.append(f"a tag on its models in MLflow ({why.message})")
        tagging = None
    actions = (*last_tries, *([tagging] if tagging else []), RemoveFinalizer(tuple(left_behind)))
    return NotReady(Reason.DELETING, "Everything is cleaned up.", actions=actions, waiting=False)


def run_has_ended(context: ReconcileContext) -> NotReady | None:
    """The run has ended, or Kubeflow Pipelines is terminating it."""
    is_over = context.status.run is None or run_is_over(context.status)
    return None if is_over else run_not_ready(context, terminate_for_deletion(context.run))


def _tagging(context: ReconcileContext) -> TagOrphanedModels | None:
    """Tag the models and their versions, which stay in MLflow for others, with the resource that they were of."""
    status = context.status
    models = {version_of(context.pipeline, model) for model in status.models if model.version and model.mlflow_run}
    retired = context.spec.deletion_policy is DeletionPolicy.DELETE
    return TagOrphanedModels(tuple(sorted(models)), retired) if models else None


def data_check_has_ended(context: ReconcileContext) -> NotReady | None:
    """No run checks the data any more."""
    check = context.status.data_check.run if context.status.data_check else None
    if check is None:
        return None
    live = [view for view in context.observe(ListRuns(check.name)) if view.live and view.state is not RunState.CANCELING]
    if not live:
        return None
    message, actions = "Ending the run that checks the data.", tuple(DeleteRun(view.id) for view in live)
    return NotReady(Reason.DELETING, message, actions=actions, requeue_after=context.timeouts.retry_interval)


def _why(not_ready: NotReady, context: ReconcileContext) -> str:
    failures = (context.failures[action].message for action in not_ready.actions if action in context.failures)
    return next(failures, not_ready.message)


def deployment_is_deleted(context: ReconcileContext) -> NotReady | None:
    """The objects that serve the models are deleted or, with deletionPolicy Retain, the one that serves has no owner."""
    names = dict.fromkeys((context.backend, *context.backends.enabled))
    return next(filter(None, (_deployment_is_deleted(context, name) for name in names)), None)


def _deployment_is_deleted(context: ReconcileContext, backend: str) -> NotReady | None:
    view = context.observe(GetDeployment(None, backend))
    if view.presence in (Presence.ABSENT, Presence.KIND_MISSING, Presence.NOT_MANAGED):
        return None
    name = f"{view.object.kind} {context.pipeline.namespace}/{context.pipeline.name}"
    if view.deleting:
        return NotReady(Reason.DELETING, f"Waiting until {name} is gone.", requeue_after=context.timeouts.rollout_interval)
    if context.spec.deletion_policy is DeletionPolicy.DELETE or backend != context.backend:
        return NotReady(
            Reason.DELETING,
            f"Deleting {name}.",
            actions=(DeleteDeployment(backend),),
            requeue_after=context.timeouts.retry_interval,
        )
    if view.owned:
        return NotReady(Reason.DELETING, f"Removing the owner of {name}, which stays.", actions=(ReleaseDeployment(backend),))
    return None


STEPS = (
    (run_has_ended, "its run"),
    (data_check_has_ended, "the run that checks its data"),
    (deployment_is_deleted, "its deployment"),
)
