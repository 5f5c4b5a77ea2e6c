"""MLflow: it answers and authorizes the operator, and its artifacts are where the serving backend can copy them."""

from urllib.parse import urlsplit

from winecontract.reasons import Reason
from winepipelines.api.errors import PlatformError
from winepipelines.doctor.checks.systems import does_not_answer
from winepipelines.doctor.finding import SETTINGS_REASON, Finding, failed, ok, skipped
from winepipelines.doctor.observations import Survey
from winepipelines.settings import Settings

SYSTEM = "MLflow"
HOST_REFUSED = "Invalid Host header"


def mlflow_answers(survey: Survey) -> Finding:
    """MLflow reports its version."""
    if not survey.settings.mlflow_url:
        return skipped("WINE_MLFLOW_URL is not set")
    view = survey.mlflow
    if isinstance(view, PlatformError):
        if view.reason == SETTINGS_REASON:
            return failed(SETTINGS_REASON, view.message, f"WINE_MLFLOW_URL={Settings.example('WINE_MLFLOW_URL')}")
        namespace = survey.settings.platform_namespace
        remedy = f"kubectl -n {namespace} get endpoints,pods; check WINE_MLFLOW_URL"
        return does_not_answer(survey, SYSTEM, view, Reason.MLFLOW_UNREACHABLE, remedy)
    return ok(f"{SYSTEM} {view.version or 'of an unknown version'}")


def mlflow_authorizes_the_operator(survey: Survey) -> Finding:
    """The smallest API request passes."""
    view, settings = survey.mlflow, survey.settings
    url = settings.mlflow_url
    assert not isinstance(view, PlatformError), "mlflow_answers comes first"
    if view.status == 403 and HOST_REFUSED in view.text:
        host = urlsplit(url).netloc
        message = f"{SYSTEM} rejects the host name {host} (its protection against DNS rebinding)"
        return failed(
            Reason.MLFLOW_HOST_REJECTED,
            message,
            f"Add it on the server: MLFLOW_SERVER_ALLOWED_HOSTS={host}, beside the present names",
        )
    if view.status in (401, 403):
        secret = settings.mlflow_secret
        if not secret:
            message = f"{SYSTEM} answered {view.status}: it requires credentials"
            return failed(
                Reason.MLFLOW_UNAUTHORIZED,
                message,
                "Create a Secret with them in the platform's namespace, and set WINE_MLFLOW_SECRET to its name",
            )
        why = "does not accept the credentials" if view.status == 401 else "denies the user access to experiments"
        message = f"{SYSTEM} answered {view.status}: it {why} of the Secret {secret} in namespace {settings.platform_namespace}"
        return failed(
            Reason.MLFLOW_UNAUTHORIZED,
            message,
            f"kubectl -n {settings.platform_namespace} edit secret {secret}; or grant the user access",
        )
    if view.status == 404 and "RESOURCE_DOES_NOT_EXIST" not in view.text:
        message = f"The server at {url} is not {SYSTEM}'s API (404)"
        return failed(Reason.MLFLOW_NOT_FOUND, message, "Set WINE_MLFLOW_URL with the server's path prefix, if it has one")
    if view.status not in (200, 404):
        return failed(Reason.MLFLOW_UNHEALTHY, f"{SYSTEM} answered {view.status}", "Check the server's log and its database")
    return ok("The default experiment can be read")


def artifacts_are_in_the_store(survey: Survey) -> Finding:
    """The default experiment's artifacts are in the object store, which the serving backend copies models from."""
    address, destination = survey.artifact_address, survey.settings.artifacts_destination
    if not address:
        return skipped("The default experiment was deleted, so the artifact root is unknown")
    parts = urlsplit(address)
    if parts.scheme == "s3" and parts.netloc:
        return ok(f"Artifacts go to {address}")
    message = f"Artifacts go to {address}, which the serving backend cannot copy models from"
    if parts.scheme == "mlflow-artifacts":
        message = f"Artifacts go through the server ({address}), and WINE_ARTIFACTS_DESTINATION is not set"
        return failed(
            Reason.ARTIFACT_ROOT_UNUSABLE,
            message,
            "WINE_ARTIFACTS_DESTINATION=s3://<bucket>, the value of the server's --artifacts-destination",
        )
    more = " (WINE_ARTIFACTS_DESTINATION does not help here)" if destination else ""
    remedy = f"mlflow server --no-serve-artifacts --default-artifact-root s3://<bucket>{more}; experiments keep their location"
    return failed(Reason.ARTIFACT_ROOT_UNUSABLE, message, remedy)
