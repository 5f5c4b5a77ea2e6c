"""The Secret with credentials for MLflow."""

from winecontract.reasons import Reason
from winepipelines.api.errors import PlatformError, Refused
from winepipelines.api.observed import SecretState
from winepipelines.doctor.finding import Finding, failed, ok, skipped
from winepipelines.doctor.observations import SourceOfNamespace, Survey
from winepipelines.doctor.probing import Prober


def mlflow_secret_is_complete(survey: Survey) -> Finding:
    """The Secret with credentials for MLflow exists, if one is set, and has a user name and a password, or a token."""
    settings, secret = survey.settings, survey.mlflow_secret
    if secret is None:
        return ok("MLflow needs no credentials: WINE_MLFLOW_SECRET is not set")
    name = secret.name if isinstance(secret, SecretState) else settings.mlflow_secret
    where = f"The Secret {name} in namespace {settings.platform_namespace}"
    get = f"kubectl -n {settings.platform_namespace} describe secret {name}"
    if isinstance(secret, PlatformError):
        return not_read(where, secret, get)
    if not secret.exists:
        remedy = (
            f"kubectl -n {settings.platform_namespace} create secret generic {name} "
            "--from-env-file=<file with MLFLOW_TRACKING_… lines>, or unset WINE_MLFLOW_SECRET if MLflow requires none"
        )
        return failed(Reason.MLFLOW_SECRET_MISSING, f"{where} does not exist", remedy)
    if secret.missing_keys:
        keys = ", ".join(secret.missing_keys)
        message = f"{where} has no value for {keys}"
        return failed(Reason.MLFLOW_SECRET_INCOMPLETE, message, f"{get}; set {keys}, or MLFLOW_TRACKING_TOKEN")
    names = dict.fromkeys(filter(None, (settings.mlflow_secret, settings.steps_mlflow_secret)))
    return ok(f"{' and '.join(names)} in {settings.platform_namespace}")


async def observe_keys_of_models(prober: Prober) -> SourceOfNamespace:
    """Find the Secret that models of the checked namespace are copied with."""
    found = await prober.source_of(prober.targets.namespace)
    return SourceOfNamespace(found.namespace, found.source.name, found.why)


def models_are_copied_with_known_keys(survey: Survey) -> Finding:
    """Which Secret has the keys that models of the namespace are copied with, and why."""
    view = survey.observed(observe_keys_of_models)
    if isinstance(view, PlatformError):
        return skipped(f"The Secrets could not be read: {view.message}")
    return ok(f"Those of {view.name} in {view.namespace}: {view.why}")


def not_read(where: str, error: PlatformError, command: str) -> Finding:
    """Report a Secret that was not read, so that nothing is known of it; `where` names it."""
    if isinstance(error, Refused):
        return skipped(f"{where} may not be read by this account: see the rights above", command)
    return skipped(f"{where} could not be read: {error.message}", command)
