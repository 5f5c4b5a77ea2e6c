"""Stage prepare: the namespace has the Secrets and PodDefaults that runs and servers need."""

from dataclasses import replace

from winecontract.reasons import Reason
from winecontract.signatures import CURRENT, SECRET
from winepipelines.api.messages import sentences
from winepipelines.api.observed import Child, ChildrenView, Presence, SecretState
from winepipelines.api.pipeline import FINALIZER
from winepipelines.api.status import ConditionType
from winepipelines.pipelines.actions import ApplyChildren
from winepipelines.pipelines.context import Done, NotReady, ReconcileContext
from winepipelines.pipelines.queries import GetChildren
from winepipelines.runs.actions import AddFinalizer

ESSENTIAL = "Secret"
STALE = (Presence.ABSENT, Presence.DIFFERS, Presence.OUTDATED, Presence.SUPERFLUOUS)


def finalizer_is_set(context: ReconcileContext) -> NotReady | None:
    """The resource has the finalizer, so that a deletion can clean up."""
    if FINALIZER in context.pipeline.finalizers:
        return None
    return NotReady(Reason.APPLYING_RESOURCES, "Adding the finalizer.", actions=(AddFinalizer(),))


def backend_is_enabled(context: ReconcileContext) -> NotReady | None:
    """The administrator has enabled the serving backend that the spec names, and the one that the model is served on."""
    enabled, wanted = context.backends.enabled, context.wanted_backend
    if (unusable := next((name for name in (wanted, context.backend) if name not in enabled), None)) is None:
        return None
    what = "spec.serving.backend names" if unusable == wanted else f"Revision {context.status.revision} is served by"
    message = (
        f"{what} {unusable}, which is not enabled on this platform. Set spec.serving.backend to {' or '.join(enabled)}, or ask "
        f"the platform administrator to add {unusable} to the chart value serving.backends."
    )
    if unusable != wanted:
        message = (
            f"{what} {unusable}, which is not enabled on this platform any more. Ask the platform administrator to add it to the "
            "chart value serving.backends."
        )
    return NotReady(Reason.SERVING_BACKEND_DISABLED, message, stalled=True, requeue_after=context.timeouts.retry_interval)


def source_secret_is_complete(context: ReconcileContext) -> NotReady | None:
    """The administrator's Secret with the object store settings of the servers is complete."""
    return _secret_is_complete(context, _children(context).source, Reason.SOURCE_SECRET_MISSING, Reason.SOURCE_SECRET_INCOMPLETE)


def artifact_secret_is_complete(context: ReconcileContext) -> NotReady | None:
    """The Secret with the object store's keys is complete where steps run: in the profile, or in Kubeflow's own namespace."""
    secret = _children(context).artifacts
    if secret is None:
        return None
    return _secret_is_complete(context, secret, Reason.ARTIFACT_SECRET_MISSING, Reason.ARTIFACT_SECRET_INCOMPLETE)


def mlflow_secret_is_complete(context: ReconcileContext) -> NotReady | None:
    """The administrator's Secret with credentials for MLflow is complete, if one is configured."""
    secret = _children(context).mlflow
    if secret is None:
        return None
    return _secret_is_complete(context, secret, Reason.MLFLOW_SECRET_MISSING, Reason.MLFLOW_SECRET_INCOMPLETE)


def model_key_is_usable(context: ReconcileContext) -> NotReady | None:
    """The key that steps sign models with is valid. The operator creates a missing one if it may, and never changes one."""
    view = _children(context)
    key = view.key
    if key is None:
        return None
    where = f"Secret {key.namespace}/{SECRET}"
    if key.problem:
        command = f"kubectl -n {key.namespace} delete secret {SECRET}"
        message = f"{where} is not usable: {key.problem}. Correct it, or let the operator create another key: {command}"
        return NotReady(Reason.MODEL_KEY_INVALID, message, stalled=True, requeue_after=context.timeouts.retry_interval)
    if not key.exists and SECRET not in {child.name for child in view.children}:
        command = f"kubectl -n {key.namespace} create secret generic {SECRET} --from-literal={CURRENT}=$(openssl rand -hex 32)"
        message = sentences(
            f"{where} does not exist, and the operator has no right to create it",
            f"Ask the platform administrator to create it: {command}",
        )
        return NotReady(Reason.MODEL_KEY_MISSING, message, stalled=True, requeue_after=context.timeouts.retry_interval)
    return None


def secret_is_ours(context: ReconcileContext) -> NotReady | None:
    """No Secret of someone else has the name of one of ours. It is reported, not changed."""
    for child in _children(context).children:
        if child.kind == ESSENTIAL and child.presence is Presence.NOT_MANAGED:
            return NotReady(
                Reason.NOT_MANAGED,
                f"Secret {context.pipeline.namespace}/{child.name} exists but is not managed by this operator. Rename or delete "
                f"it: kubectl -n {context.pipeline.namespace} delete secret {child.name}",
                stalled=True,
                requeue_after=context.timeouts.retry_interval,
            )
    return None


def steps_are_admitted(context: ReconcileContext) -> NotReady | None:
    """No PodDefault of others sets a variable of the steps to something else: Kubeflow's webhook would refuse their pods."""
    refusal = _children(context).refusal
    if refusal is None:
        return None
    message = sentences(
        f"PodDefault {refusal.name} selects the pods of steps and sets {', '.join(refusal.conflicts)} from another source than "
        "they do, so Kubeflow's webhook refuses these pods",
        f"Give it a selector that only notebooks match: kubectl -n {context.pipeline.namespace} edit poddefault {refusal.name}",
    )
    return NotReady(Reason.POD_DEFAULT_CONFLICT, message, stalled=True, requeue_after=context.timeouts.retry_interval)


def children_are_current(context: ReconcileContext) -> NotReady | None:
    """The objects are applied. Later changes are `drift_is_corrected`'s."""
    stale = [child for child in _stale(context) if not child.backend]  # a move to another backend does not delay anything
    if not stale or context.was_true(ConditionType.PREPARED):
        return None
    actions = (ApplyChildren(backends=_backends(context)),)
    removed = [child for child in stale if child.presence is Presence.SUPERFLUOUS]
    applied = [child for child in stale if child not in removed]
    messages = [f"{verb} {_names(each)}." for verb, each in (("Applying", applied), ("Deleting", removed)) if each]
    return NotReady(Reason.APPLYING_RESOURCES, " ".join(messages), actions=actions)


def drift_is_corrected(context: ReconcileContext) -> NotReady | None:
    """Applying an edited or deleted object again does not fail."""
    correction = _correction(context)
    error = context.failures.get(correction) if correction is not None else None
    return None if error is None else NotReady.from_error(error, context.timeouts)


CHECKS = (
    finalizer_is_set,  # a deletion can clean up
    backend_is_enabled,  # the administrator permits where the spec wants to serve
    source_secret_is_complete,  # the source of the copy that servers use
    artifact_secret_is_complete,  # the credentials of the steps for the object store
    mlflow_secret_is_complete,  # and those for MLflow
    model_key_is_usable,  # the key that steps sign models with
    secret_is_ours,  # objects of others are not changed
    steps_are_admitted,  # Kubeflow's webhook admits the pods of steps
    children_are_current,  # all objects are applied
    drift_is_corrected,  # and applied again after an edit
)


def prepared(context: ReconcileContext) -> Done:
    """Describe the objects. Apply edited or outdated ones again in passing: the model serves meanwhile."""
    correction = _correction(context)
    return replace(_in_place(context), actions=() if correction is None else (correction,))


def _backends(context: ReconcileContext) -> tuple[str, ...]:
    """Name the serving backends whose Secrets the resource needs: where its model serves, and where it moves to."""
    return tuple(dict.fromkeys((context.backend, context.wanted_backend)))


def _children(context: ReconcileContext) -> ChildrenView:
    return context.observe(GetChildren(_backends(context)))


def _stale(context: ReconcileContext) -> list[Child]:
    return [child for child in _children(context).children if child.presence in STALE]


def _correction(context: ReconcileContext) -> ApplyChildren | None:
    """Apply what someone has edited or deleted, and what follows a changed source or setting."""
    stale = _stale(context)
    if not stale:
        return None
    new = [child for child in stale if child.backend and child.presence is Presence.ABSENT]
    edited = [child for child in stale if child.presence in (Presence.ABSENT, Presence.DIFFERS) and child not in new]
    outdated = [child for child in stale if child.presence is Presence.OUTDATED]
    removed = [f"Deleted PodDefault {child.name}: {_why(child)}" for child in stale if child.rival is not None]
    sources = "the platform's Secrets, its settings and the resources that share them"
    updated = [f"Updated {_names(outdated)} to match {sources}."] if outdated else []
    changes = ", ".join(
        f"{child.kind} {child.name} {'was deleted' if child.presence is Presence.ABSENT else 'was changed'}" for child in edited
    )
    return ApplyChildren(
        drift_corrected=f"Corrected drift: {changes}." if edited else "",
        updated=" ".join((*updated, *removed)),
        backends=_backends(context),
    )


def _secret_is_complete(context: ReconcileContext, secret: SecretState, missing: str, incomplete: str) -> NotReady | None:
    where = f"Secret {secret.namespace}/{secret.name}"
    if not secret.exists:
        others = f", nor does {' or '.join(secret.others)}" if secret.others else ""
        message = f"{where} does not exist{others}. Ask the platform administrator to create it."
        return NotReady(missing, message, stalled=True, requeue_after=context.timeouts.retry_interval)
    if secret.missing_keys:
        message = f"{where} has no value for {', '.join(secret.missing_keys)}. Ask the platform administrator to add it."
        return NotReady(incomplete, message, stalled=True, requeue_after=context.timeouts.retry_interval)
    return None


def _in_place(context: ReconcileContext) -> Done:
    children = _children(context).children
    unknown = [child for child in children if child.presence is Presence.KIND_MISSING]
    foreign = [child for child in children if child.presence is Presence.NOT_MANAGED]
    withheld = [(child, child.rival) for child in children if child.rival is not None]
    conflicting = [child for child, rival in withheld if rival.lacks]
    if unknown:
        return Done(
            Reason.POD_DEFAULTS_SKIPPED,
            f"Skipped {_names(unknown)}: this cluster has no PodDefault kind. Runs do not need PodDefaults.",
        )
    if conflicting:
        reported = " ".join(
            f"{child.kind} {child.name} is not created: {_why(child)} {_remedy(context, child)}" for child in conflicting
        )
        return Done(Reason.POD_DEFAULT_CONFLICT, f"{reported} Runs do not need PodDefaults.")
    if foreign:
        removals = " && ".join(
            f"kubectl -n {context.pipeline.namespace} delete {child.kind.lower()} {child.name}" for child in foreign
        )
        message = f"{_names(foreign)} not managed by this operator. Runs do not need them. To let the operator create them: "
        return Done(Reason.NOT_MANAGED, message + removals)
    used = "".join(
        f"Uses PodDefault {rival.name} of the platform{_instead(child.name, rival.name)}. " for child, rival in withheld
    )
    ours = [child for child in children if child.rival is None]
    source = _children(context).source
    keys = f" Models are copied with the keys of Secret {source.name} of this namespace." if _is_here(context, source) else ""
    return Done(Reason.PREPARED, f"{used}{_names(ours)} {'is' if len(ours) == 1 else 'are'} up to date.{keys}")


def _is_here(context: ReconcileContext, secret: SecretState) -> bool:
    return secret.namespace == context.pipeline.namespace


def _instead(ours: str, other: str) -> str:
    return "" if ours == other else f" instead of {ours}"


def _why(child: Child) -> str:
    """Say why a PodDefault of ours cannot exist beside that of others."""
    assert child.rival is not None
    rival = child.rival
    if not rival.lacks:
        return f"PodDefault {rival.name} of the platform gives the same variables."
    conflicts = ", ".join(rival.conflicts)
    return (
        f"PodDefault {rival.name} selects the same pods and sets {conflicts} from another source, and Kubeflow's webhook refuses "
        "pods with both."
    )


def _remedy(context: ReconcileContext, child: Child) -> str:
    assert child.rival is not None
    namespace, rival = context.pipeline.namespace, child.rival
    delete = f"kubectl -n {namespace} delete poddefault {rival.name}"
    return f"Add {', '.join(rival.lacks)} to PodDefault {rival.name}, or delete it: {delete}."


def _names(children: tuple[Child, ...] | list[Child]) -> str:
    return ", ".join(f"{child.kind} {child.name}" for child in children)
