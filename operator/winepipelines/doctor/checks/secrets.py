"""The platform's Secrets: the one that Seldon copies models with, and the one with credentials for MLflow."""

from urllib.parse import urlsplit

from winepipelines.doctor.finding import Finding, failed, ok, skipped
from winepipelines.doctor.observations import Survey
from winepipelines.resource.errors import PlatformError, Refused
from winepipelines.resource.observed import SecretState


def source_secret_is_complete(survey: Survey) -> Finding:
    """It is there and has what rclone needs."""
    settings, source = survey.settings, survey.source
    where = f"the Secret {settings.source_secret} in namespace {settings.platform_namespace}"
    get = f"kubectl -n {settings.platform_namespace} describe secret {settings.source_secret}"
    if isinstance(source, Refused):
        return skipped(f"whoever runs this may not read {where}: see the rights above", get)
    if isinstance(source, PlatformError):
        return skipped(f"{where} could not be read: {source.message}", get)
    if not source.state.exists:
        mend = (
            f"kubectl -n {settings.platform_namespace} create secret generic {settings.source_secret} "
            "--from-env-file=<file with RCLONE_CONFIG_S3_… lines>, or name another in WINE_SOURCE_SECRET"
        )
        return failed("SourceSecretMissing", f"{where} does not exist", mend)
    if source.state.missing_keys:
        keys = source.state.missing_keys
        patch = ", ".join(f'"{key}": "…"' for key in keys)
        mend = (
            f"kubectl -n {settings.platform_namespace} patch secret {settings.source_secret} --type=merge "
            f"-p '{{\"stringData\": {{{patch}}}}}'"
        )
        return failed("SourceSecretIncomplete", f"{where} has no value for {', '.join(keys)}", mend)
    parts = urlsplit(source.endpoint)
    if source.type != "s3":
        says = f"RCLONE_CONFIG_S3_TYPE of {where} is not s3"
        return failed("SourceSecretIncomplete", says, "RCLONE_CONFIG_S3_TYPE=s3")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        says = f"RCLONE_CONFIG_S3_ENDPOINT of {where} is no http:// or https:// address"
        return failed("SourceSecretIncomplete", says, f"RCLONE_CONFIG_S3_ENDPOINT={settings.s3_endpoint_url}")
    return ok(f"{settings.source_secret} in {settings.platform_namespace}, for {parts.scheme}://{parts.netloc}")


def mlflow_secret_is_complete(survey: Survey) -> Finding:
    """The one with credentials for MLflow is there, if one is named, and has a user and a password, or a token."""
    settings, secret = survey.settings, survey.mlflow_secret
    if secret is None:
        return ok("none is named: WINE_MLFLOW_SECRET is not set")
    name = secret.name if isinstance(secret, SecretState) else settings.mlflow_secret
    where = f"the Secret {name} in namespace {settings.platform_namespace}"
    get = f"kubectl -n {settings.platform_namespace} describe secret {name}"
    if isinstance(secret, Refused):
        return skipped(f"whoever runs this may not read {where}: see the rights above", get)
    if isinstance(secret, PlatformError):
        return skipped(f"{where} could not be read: {secret.message}", get)
    if not secret.exists:
        mend = (
            f"kubectl -n {settings.platform_namespace} create secret generic {name} "
            "--from-env-file=<file with MLFLOW_TRACKING_… lines>, or unset WINE_MLFLOW_SECRET where MLflow asks for none"
        )
        return failed("MlflowSecretMissing", f"{where} does not exist", mend)
    if secret.missing_keys:
        keys = ", ".join(secret.missing_keys)
        says = f"{where} has no value for {keys}"
        return failed("MlflowSecretIncomplete", says, f"{get}; set {keys}, or MLFLOW_TRACKING_TOKEN")
    names = dict.fromkeys(filter(None, (settings.mlflow_secret, settings.steps_mlflow_secret)))
    return ok(f"{' and '.join(names)} in {settings.platform_namespace}")
