"""MLflow: does it answer us, and are its artifacts where Seldon can copy them?"""

from urllib.parse import urlsplit

from winepipelines.doctor.checks.systems import does_not_answer
from winepipelines.doctor.finding import SETTINGS_REASON, Finding, failed, ok, skipped, warning
from winepipelines.doctor.observations import Survey
from winepipelines.resource.errors import PlatformError
from winepipelines.validation import EXAMPLES, named

SYSTEM = "MLflow"
HOST_REFUSED = "Invalid Host header"
UNKNOWN_BUCKET = "NoSuchBucket"


def mlflow_answers(survey: Survey) -> Finding:
    """It says which version it is."""
    if not survey.settings.mlflow_url:
        return skipped("WINE_MLFLOW_URL is not set")
    view = survey.mlflow
    if isinstance(view, PlatformError):
        if view.reason == SETTINGS_REASON:
            return failed(SETTINGS_REASON, view.message, f"WINE_MLFLOW_URL={EXAMPLES['WINE_MLFLOW_URL']}")
        namespace = survey.settings.platform_namespace
        mend = f"kubectl -n {namespace} get endpoints,pods; is WINE_MLFLOW_URL its address?"
        return does_not_answer(survey, SYSTEM, view, "MlflowUnreachable", mend)
    return ok(f"{SYSTEM} {view.version or 'of a version that it does not tell'}")


def mlflow_lets_the_operator_in(survey: Survey) -> Finding:
    """The smallest request of its API passes."""
    view, settings = survey.mlflow, survey.settings
    url = settings.mlflow_url
    assert not isinstance(view, PlatformError), "mlflow_answers comes first"
    if view.status == 403 and HOST_REFUSED in view.text:
        host = urlsplit(url).netloc
        says = f"{SYSTEM} refuses requests that name it {host} (its guard against DNS rebinding)"
        return failed(
            "MlflowHostRefused", says, f"on the server: MLFLOW_SERVER_ALLOWED_HOSTS={host}, beside the names that it has"
        )
    if view.status in (401, 403):
        secret = settings.mlflow_secret
        if not secret:
            says = f"{SYSTEM} answered {view.status}: it asks for credentials"
            return failed(
                "MlflowUnauthorized", says, "a Secret with them in the platform's namespace, named in WINE_MLFLOW_SECRET"
            )
        why = "does not know the credentials" if view.status == 401 else "shows no experiments to the user"
        says = f"{SYSTEM} answered {view.status}: it {why} of the Secret {secret} in namespace {settings.platform_namespace}"
        return failed(
            "MlflowUnauthorized", says, f"kubectl -n {settings.platform_namespace} edit secret {secret}; or the user's rights"
        )
    if view.status == 404 and "RESOURCE_DOES_NOT_EXIST" not in view.text:
        says = f"what answers at {url} is not the API of {SYSTEM} (404)"
        return failed("MlflowNotFound", says, "WINE_MLFLOW_URL with the server's path prefix, if it has one")
    if view.status not in (200, 404):
        return failed("MlflowUnwell", f"{SYSTEM} answered {view.status}", "the server's log; is its database there?")
    return ok("the default experiment is shown")


def artifacts_are_in_the_store(survey: Survey) -> Finding:
    """The address of the default experiment's artifacts is one that rclone copies from."""
    address, destination = survey.artifact_address, survey.settings.artifacts_destination
    if not address:
        return skipped("the default experiment is gone, so that nothing shows the artifact root")
    parts = urlsplit(address)
    if parts.scheme == "s3" and parts.netloc:
        return ok(f"artifacts go to {address}")
    says = f"artifacts go to {address}, which Seldon's rclone cannot copy"
    if parts.scheme == "mlflow-artifacts":
        says = f"artifacts go through the server ({address}), and nothing says where it keeps them"
        return failed(
            "ArtifactRootUnusable", says, "WINE_ARTIFACTS_DESTINATION=s3://<bucket>, the server's --artifacts-destination"
        )
    more = " (WINE_ARTIFACTS_DESTINATION does not help here)" if destination else ""
    mend = f"mlflow server --no-serve-artifacts --default-artifact-root s3://<bucket>{more}; experiments keep the one they have"
    return failed("ArtifactRootUnusable", says, mend)


def seldon_can_read_artifacts(survey: Survey) -> Finding:
    """The store lets the source Secret's credentials list and read there."""
    view, settings = survey.bucket, survey.settings
    if view is None:
        return skipped("nothing shows the artifact root")
    secret = f"the Secret {settings.source_secret} in namespace {settings.platform_namespace}"
    if isinstance(view, PlatformError):
        mend = f"kubectl -n {settings.platform_namespace} get endpoints; is RCLONE_CONFIG_S3_ENDPOINT of {secret} its address?"
        return does_not_answer(survey, "the object store", view, "StoreUnreachable", mend)
    bucket = urlsplit(view.uri).netloc
    if view.code == UNKNOWN_BUCKET:
        return failed("BucketMissing", f"{view.endpoint} has no bucket {bucket}", f"mc mb <alias>/{bucket}")
    if view.code:
        says = f"{view.endpoint} refuses {view.uri} to the credentials of {secret} ({view.code})"
        return failed("StoreAccessDenied", says, f"credentials in {secret} that may list and read bucket {bucket}")
    if survey.same_store is False:
        says = (
            f"Seldon reads {view.uri} at {view.endpoint}, steps write at {settings.s3_endpoint_url}: they seem to be two stores"
        )
        or_so = f"RCLONE_CONFIG_S3_ENDPOINT={settings.s3_endpoint_url} in {secret}"
        mend = f"{named('WINE_S3_ENDPOINT_URL')}={view.endpoint}, or {or_so}"
        return warning(says, mend)
    unsure = "" if survey.same_store else f"; whether that is {settings.s3_endpoint_url} cannot be told from here"
    return ok(f"{view.uri} at {view.endpoint}{unsure}")
