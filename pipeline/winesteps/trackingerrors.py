"""Classify the errors of MLflow and its artifact store by cause, and by who can correct it.

Failures that pass by themselves are TrackingUnavailable, which does not count as an attempt. Failures that a person must correct
have a reason that ends the run at once, and a message that names the correction.
"""

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlsplit

from winecontract.reasons import Reason
from winesteps.credentials import MLFLOW_SECRET
from winesteps.failures import StepFailure, describe, redact_url, text_of

PASSING_CODES = re.compile(
    r"SlowDown|ServiceUnavailable|InternalError|RequestTimeout|Throttling\w*|TooManyRequests\w*|OperationAborted|BadGateway"
    r"|GatewayTimeout|XMinioServerNotInitialized|XMinioReadQuorum|XMinioWriteQuorum|5\d\d|429|408"
)
"""Error codes of object stores after which a retry can succeed."""

LONGEST_TEXT = 16_384
"""Characters of an error's text that are searched: the text can quote whole answers."""


@dataclass(frozen=True)
class Cause:
    """A kind of failure: the pattern that recognizes it, its reason, and what to do. `{bucket}` and `{host}` are filled in."""

    words: re.Pattern[str]
    reason: Reason
    advice: str


CAUSES = (
    Cause(
        re.compile(r"NoSuchBucket"),
        Reason.BUCKET_MISSING,
        "The bucket{bucket} that MLflow keeps the artifacts of this experiment in does not exist. Create it, or name an "
        "experiment whose artifact location exists.",
    ),
    Cause(
        re.compile(
            r"QuotaExceeded|XMinioStorageFull|StorageFull|InsufficientStorage|error code 507\b|\b507 |No space left on device"
        ),
        Reason.OBJECT_STORE_FULL,
        "The object store has no room left{bucket}. Free some, or raise its quota.",
    ),
    Cause(
        re.compile(r"registered artifact repository|Invalid artifact URI|Unsupported artifact URI"),
        Reason.ARTIFACT_LOCATION_INVALID,
        "Steps cannot write to the artifact location of the experiment. Name an experiment whose artifact location "
        "begins with s3://.",
    ),
    Cause(
        re.compile("Invalid Host header"),
        Reason.TRACKING_REJECTED,
        "Add {host} to MLFLOW_SERVER_ALLOWED_HOSTS of the tracking server.",
    ),
    Cause(
        re.compile(r"SignatureDoesNotMatch|InvalidAccessKeyId|AccessDenied|AllAccessDisabled|ExpiredToken|InvalidToken"),
        Reason.TRACKING_REJECTED,
        "The keys in the Secret mlpipeline-minio-artifact may not write to the object store{bucket}. Correct the keys, "
        "or the policy of their user.",
    ),
    Cause(
        re.compile(r"error code 401\b|\b401 Client Error|not authenticated"),
        Reason.TRACKING_REJECTED,
        f"MLflow does not accept the credentials of this step. Correct the Secret {MLFLOW_SECRET} in the namespace of "
        "the run; the operator copies it from the Secret that the administrator set for MLflow.",
    ),
    Cause(
        re.compile(r"error code 403\b|\b403 Client Error|Permission denied|PERMISSION_DENIED"),
        Reason.TRACKING_REJECTED,
        f"The MLflow user in the Secret {MLFLOW_SECRET} in the namespace of the run may not write there. Grant that user "
        "the permission to edit, or set another user.",
    ),
    Cause(
        re.compile(r"error code 404\b.{0,500}<", re.DOTALL),
        Reason.TRACKING_REJECTED,
        "There is no MLflow API at {address}. Correct the address; it must include the path under which the server answers.",
    ),
)


@contextlib.contextmanager
def tracking_errors(tracking_uri: str = "") -> Iterator[None]:
    """Turn what MLflow and its artifact store raise into `StepFailure`, by its cause."""
    import requests
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (MlflowException, Boto3Error, BotoCoreError, ClientError, requests.RequestException, OSError) as error:
        reason, advice = classify(error, tracking_uri)
        message = f"MLflow or its artifact store could not be used: {describe(error)}"
        raise StepFailure(
            reason, f"{advice} ({message})" if reason in NAMED else f"{message}{f' {advice}' if advice else ''}"
        ) from None


NAMED = (Reason.BUCKET_MISSING, Reason.OBJECT_STORE_FULL, Reason.ARTIFACT_LOCATION_INVALID)
"""Reasons whose advice comes first in the message."""


def classify(error: Exception, tracking_uri: str = "") -> tuple[Reason, str]:
    """Return the reason of a failure, and what to do about it, if that is known."""
    text = text_of(error)[:LONGEST_TEXT]
    for cause in CAUSES:
        if cause.words.search(text):
            host = urlsplit(tracking_uri).netloc.rpartition("@")[2]
            return cause.reason, cause.advice.format(bucket=_bucket(text), host=host, address=redact_url(tracking_uri))
    return (Reason.TRACKING_UNAVAILABLE if _may_pass(error, text) else Reason.TRACKING_REJECTED), ""


def _may_pass(error: Exception, text: str) -> bool:
    """Tell whether a retry can succeed: there was no answer, or its status says so."""
    from mlflow.exceptions import MlflowException

    if (code := re.search(r"An error occurred \(([\w.]+)\)", text)) is not None:  # an object store's, as boto3 writes it
        return PASSING_CODES.fullmatch(code[1]) is not None
    status = re.search(r"error code (\d{3})\b|\b(\d{3}) (?:Client|Server) Error", text)
    if status is not None:
        return _is_passing(int(status[1] or status[2]))
    if isinstance(error, MlflowException):
        return _is_passing(int(error.get_http_status_code()))
    return True


def _is_passing(status: int) -> bool:
    return status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.REQUEST_TIMEOUT)


def _bucket(text: str) -> str:
    """Return the bucket of a failed upload from boto3's message; empty if it has none."""
    named = re.search(r"Failed to upload [^\n]{1,500}? to ([a-z0-9][a-z0-9.-]{1,62})/", text)
    return f" {named[1]}" if named else ""
