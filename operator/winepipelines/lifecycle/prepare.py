"""First stage: the namespace has what the run and the server need. Called by `decide`."""

from dataclasses import replace

from winecontract.signatures import CURRENT, SECRET
from winepipelines.lifecycle import reasons
from winepipelines.lifecycle.actions import AddFinalizer, ApplyChildren
from winepipelines.lifecycle.look import Held, Look, Outcome, Passed, failed, first
from winepipelines.lifecycle.questions import Children
from winepipelines.resource.observed import Child, Presence, SecretState
from winepipelines.resource.pipeline import FINALIZER
from winepipelines.resource.status import ConditionType

ESSENTIAL = "Secret"
STALE = (Presence.ABSENT, Presence.DIFFERS, Presence.OUTDATED)


def prepare(look: Look) -> Outcome:
    """See to the Secrets and PodDefaults."""
    return first(CHECKS, look) or _mended(look) or _passed(look)


def finalizer_is_set(look: Look) -> Held | None:
    """Nothing is made before its removal is certain."""
    if FINALIZER in look.pipeline.finalizers:
        return None
    return Held(reasons.APPLYING, "taking the resource into care", actions=(AddFinalizer(),))


def source_secret_is_complete(look: Look) -> Held | None:
    """The administrator's Secret with the serving platform's rclone settings."""
    return _secret_is_complete(look, look.at(Children()).source, reasons.SOURCE_SECRET_MISSING, reasons.SOURCE_SECRET_INCOMPLETE)


def artifact_secret_is_complete(look: Look) -> Held | None:
    """The Secret with the object store's keys, where steps run: the profile, or in single-user mode Kubeflow's own namespace."""
    secret = look.at(Children()).artifacts
    if secret is None:
        return None
    return _secret_is_complete(look, secret, reasons.ARTIFACT_SECRET_MISSING, reasons.ARTIFACT_SECRET_INCOMPLETE)


def mlflow_secret_is_complete(look: Look) -> Held | None:
    """The administrator's Secret with credentials for MLflow, where one is named."""
    secret = look.at(Children()).mlflow
    if secret is None:
        return None
    return _secret_is_complete(look, secret, reasons.MLFLOW_SECRET_MISSING, reasons.MLFLOW_SECRET_INCOMPLETE)


def model_key_is_usable(look: Look) -> Held | None:
    """The key that steps sign models with. The operator makes one where it may, and changes none that is there."""
    view = look.at(Children())
    key = view.key
    if key is None:
        return None
    where = f"the Secret {SECRET} in namespace {key.namespace}"
    if key.problem:
        mend = f"kubectl -n {key.namespace} delete secret {SECRET}"
        message = f"{where} is of no use: {key.problem}. Correct it, or have the operator make another key: {mend}"
        return Held(reasons.MODEL_KEY_INVALID, message, stalled=True, wake_in=look.policy.retry_interval)
    if not key.exists and SECRET not in {child.name for child in view.children}:
        make = f"kubectl -n {key.namespace} create secret generic {SECRET} --from-literal={CURRENT}=$(openssl rand -hex 32)"
        message = f"{where} does not exist, and the operator has no right to make it; the platform's administrator does: {make}"
        return Held(reasons.MODEL_KEY_MISSING, message, stalled=True, wake_in=look.policy.retry_interval)
    return None


def secret_is_ours(look: Look) -> Held | None:
    """Objects that others made are reported, not changed."""
    for child in look.at(Children()).children:
        if child.kind == ESSENTIAL and child.presence is Presence.FOREIGN:
            return Held(
                reasons.FOREIGN_OBJECT,
                f"the Secret {child.name} was not made by this operator and is left alone; delete or rename it: "
                f"kubectl -n {look.pipeline.namespace} delete secret {child.name}",
                stalled=True,
                wake_in=look.policy.retry_interval,
            )
    return None


def children_are_current(look: Look) -> Held | None:
    """Apply what is absent or differs, but for what has been in place before."""
    stale = _stale(look)
    if not stale or look.held_true(ConditionType.PREPARED):
        return None
    return Held(reasons.APPLYING, f"applying {_names(stale)}", actions=(ApplyChildren(),))


CHECKS = (
    finalizer_is_set,  # nothing without a way out
    source_secret_is_complete,  # what the copy is made from
    artifact_secret_is_complete,  # what the steps read and write with
    mlflow_secret_is_complete,  # and what they and the operator ask MLflow with
    model_key_is_usable,  # what they sign models with
    secret_is_ours,  # what others made stays
    children_are_current,  # the rest is made
)


def _stale(look: Look) -> list[Child]:
    return [child for child in look.at(Children()).children if child.presence in STALE]


def _mended(look: Look) -> Passed | Held | None:
    """Mend what someone has edited or deleted, and follow the sources, by the way: the model answers all the while."""
    stale = _stale(look)
    if not stale:
        return None
    edited = [child for child in stale if child.presence is not Presence.OUTDATED]
    outdated = [child for child in stale if child.presence is Presence.OUTDATED]
    changes = ", ".join(
        f"{child.kind} {child.name} {'was gone' if child.presence is Presence.ABSENT else 'was not as it should be'}"
        for child in edited
    )
    mend = ApplyChildren(
        mended=f"{changes}: applied again" if edited else "",
        updated=f"Updated {_names(outdated)} after a change of the platform's Secrets or settings." if outdated else "",
    )
    if (error := look.failures.get(mend)) is not None:
        return failed(error, look.policy)
    return replace(_passed(look), actions=(mend,))


def _secret_is_complete(look: Look, secret: SecretState, missing: str, incomplete: str) -> Held | None:
    where = f"the Secret {secret.name} in namespace {secret.namespace}"
    if not secret.exists:
        message = f"{where} does not exist; the platform's administrator makes it"
        return Held(missing, message, stalled=True, wake_in=look.policy.retry_interval)
    if secret.missing_keys:
        message = f"{where} has no value for {', '.join(secret.missing_keys)}; the platform's administrator mends it"
        return Held(incomplete, message, stalled=True, wake_in=look.policy.retry_interval)
    return None


def _passed(look: Look) -> Passed:
    children = look.at(Children()).children
    unknown = [child for child in children if child.presence is Presence.KIND_MISSING]
    foreign = [child for child in children if child.presence is Presence.FOREIGN]
    if unknown:
        return Passed(
            reasons.PODDEFAULTS_LEFT_OUT,
            f"{_names(unknown)} left out: this cluster has no PodDefault kind (runs do not need them)",
        )
    if foreign:
        removals = " && ".join(
            f"kubectl -n {look.pipeline.namespace} delete {child.kind.lower()} {child.name}" for child in foreign
        )
        message = f"{_names(foreign)} left as found: not made by this operator, and runs do not need them; to have them made: "
        return Passed(reasons.FOREIGN_OBJECT, message + removals)
    return Passed(reasons.PREPARED, f"{_names(children)} are in place")


def _names(children: tuple[Child, ...] | list[Child]) -> str:
    return ", ".join(f"{child.kind} {child.name}" for child in children)
