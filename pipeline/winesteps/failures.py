"""Why a step failed, in words that the operator can pass on to the person who wrote the resource.

The steps raise `StepFailure`; `reporting` wraps a whole step (see components.py), so that whatever ends it is also
written where the operator can read it, since Kubeflow's API does not carry it: to the container's termination message, which
Kubernetes and Argo pass on, and to MLflow, which may itself be what failed.
"""

import contextlib
import json
import logging
import os
import re
import traceback
from collections.abc import Iterator
from enum import StrEnum
from typing import TypeVar
from urllib.parse import urlsplit, urlunsplit

from winesteps import tracking

MESSAGE_LENGTH = 1000
"""Most characters of a failure's message."""

TERMINATION_LOG = "WINE_TERMINATION_LOG"
"""Names the file of the termination message where it is not Kubernetes' default."""
TERMINATION_BYTES = 4000
"""The kubelet reads 4,096 bytes of it."""
_QUERY = re.compile(r"\?(?!versionId=[\w.~+/=-]+(?![\w.~+/=&-]))[^\s'\")]*")
"""A query, but for the version of an object, which is no secret."""

_CREDENTIAL_PREFIXES, _CREDENTIAL_WORDS = ("AWS_", "MLFLOW_", "WINE_DATA_", "WINE_MODEL_"), ("KEY", "SECRET", "TOKEN", "PASSWORD")
_USERINFO = re.compile(r"(\w://)[^\s/@]*@")
_ADDRESS_QUERY = re.compile(rf"((?:\w://|url: /)[^\s?'\"]*+)(?:{_QUERY.pattern})?")
"""An address, with its query or without: one that has none is not looked at again from its second character on."""
T = TypeVar("T")

log = logging.getLogger(__name__)


class Reason(StrEnum):
    """What kind of failure. The values stand in the resource's status: do not rename them."""

    URL_INVALID = "UrlInvalid"
    ADDRESS_REFUSED = "AddressRefused"
    DATA_UNREACHABLE = "DataUnreachable"
    DATA_NOT_FOUND = "DataNotFound"
    CREDENTIALS_MISSING = "CredentialsMissing"
    DATA_ACCESS_DENIED = "DataAccessDenied"
    DATA_TOO_LARGE = "DataTooLarge"
    CHECKSUM_MISMATCH = "ChecksumMismatch"
    DATA_NOT_CSV = "DataNotCsv"
    COLUMN_MISSING = "ColumnMissing"
    DATA_INVALID = "DataInvalid"
    TOO_FEW_ROWS = "TooFewRows"
    PARAMETERS_INVALID = "ParametersInvalid"
    TRAINING_FAILED = "TrainingFailed"
    MODEL_CONSTANT = "ModelConstant"
    DATA_NOT_PARQUET = "DataNotParquet"
    ALL_ROWS_REJECTED = "AllRowsRejected"
    MODEL_UNUSABLE = "ModelUnusable"
    MODEL_UNSIGNED = "ModelUnsigned"
    MODEL_TAMPERED = "ModelTampered"
    MODEL_KEY_INVALID = "ModelKeyInvalid"
    OUTPUT_IS_SOURCE = "OutputIsSource"
    OUTPUT_EXISTS = "OutputExists"
    OUTPUT_REFUSED = "OutputRefused"
    OUTPUT_UNAVAILABLE = "OutputUnavailable"
    STORE_UNAVAILABLE = "StoreUnavailable"
    BUCKET_MISSING = "BucketMissing"
    STORE_FULL = "StoreFull"
    ARTIFACT_LOCATION_INVALID = "ArtifactLocationInvalid"
    EXPERIMENT_DELETED = "ExperimentDeleted"
    TRACKING_UNAVAILABLE = "TrackingUnavailable"
    TRACKING_REFUSED = "TrackingRefused"
    UNEXPECTED = "Unexpected"

    @property
    def permanent(self) -> bool:
        """Whether only a change by the user helps; False: another attempt may pass."""
        return self not in {
            Reason.DATA_UNREACHABLE,
            Reason.MODEL_KEY_INVALID,
            Reason.OUTPUT_UNAVAILABLE,
            Reason.STORE_UNAVAILABLE,
            Reason.STORE_FULL,
            Reason.TRACKING_UNAVAILABLE,
            Reason.TRACKING_REFUSED,
            Reason.UNEXPECTED,
        }


class StepFailure(Exception):
    """A step cannot do its work.

    The message is one or two sentences: what is wrong, where, and what to do. It is redacted and cut on the way in.
    """

    def __init__(self, reason: Reason, message: str) -> None:
        from winecontract.text import clean  # not before: whoever compiles the pipelines needs the steps alone

        self.reason = reason
        self.message = clean(redact(message), MESSAGE_LENGTH)
        super().__init__(f"{reason}: {self.message}")

    @property
    def permanent(self) -> bool:
        """Whether only a change by the user helps."""
        return self.reason.permanent


_QUOTING = {
    Reason.DATA_NOT_CSV: "it is not a CSV file",
    Reason.DATA_NOT_PARQUET: "it is not a parquet file",
    Reason.COLUMN_MISSING: "a column is missing",
    Reason.DATA_INVALID: "a row, a column or the header is not as it must be",
    Reason.TOO_FEW_ROWS: "it has too few rows, or none",
    Reason.ALL_ROWS_REJECTED: "none of its rows can be scored",
}
"""Failures whose messages may quote the file, and what they come to."""


@contextlib.contextmanager
def unquoted(redirected: bool) -> Iterator[None]:
    """Quote nothing of a file that came from another host than the one that its address names.

    Otherwise whoever runs that host could have a message show what only the step's network reaches.
    """
    try:
        yield
    except Exception as error:
        if not redirected:
            raise
        where = "The address redirects to another host, of whose answers nothing is quoted"
        if not isinstance(error, StepFailure):
            raise StepFailure(Reason.UNEXPECTED, f"{where}: {type(error).__name__}.") from None
        if error.reason not in _QUOTING:
            raise
        advice = "Give the address that it redirects to: the message is then complete."
        raise StepFailure(error.reason, f"The file cannot be used: {_QUOTING[error.reason]}. {where}. {advice}") from None


def without_templates(value: T) -> T:
    """Text, or a list of texts, without templates of Argo's: Kubeflow passes it on in Argo's manifests."""
    if isinstance(value, str):
        return re.sub(r"\{(?=\{)|\}(?=\})", lambda brace: f"{brace[0]} ", value)  # type: ignore[return-value]
    if isinstance(value, list):
        return [without_templates(item) for item in value]  # type: ignore[return-value]
    return value


def redact_url(url: str) -> str:
    """The address without what may be secret in it: userinfo, query and fragment. A key of the object store stays as it is."""
    if url[:5].lower() == "s3://":
        bucket, slash, key = url[5:].partition("/")
        return f"s3://{bucket.rpartition('@')[2]}{slash}{_QUERY.sub('', key)}"
    try:
        parts = urlsplit(url)
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
    except ValueError:
        return url.partition("?")[0].rpartition("@")[2]


def redact(text: str) -> str:
    """Text without the values of credentials in the environment, and its addresses without userinfo and query."""
    named = {value for name, value in os.environ.items() if value and _names_credential(name)}
    secrets = named | {value.strip() for value in named if value.strip()}  # a line's end may be shown in another way
    for value in sorted(secrets, key=len, reverse=True):  # one may hold another
        text = text.replace(value, "***")
    text = _USERINFO.sub(r"\1", text)
    return _ADDRESS_QUERY.sub(r"\1", text)


def _names_credential(name: str) -> bool:
    """Settings such as AWS_MAX_ATTEMPTS=1 are none: without their values no message could be read."""
    return name.startswith(_CREDENTIAL_PREFIXES) and any(word in name for word in _CREDENTIAL_WORDS)


def shorten(text: str) -> str:
    """At most `MESSAGE_LENGTH` characters of text."""
    return text if len(text) <= MESSAGE_LENGTH else text[: MESSAGE_LENGTH - 1] + "…"


def text_of(error: BaseException) -> str:
    """An exception's text; its type where it cannot be written."""
    try:
        return str(error)
    except Exception:
        return type(error).__name__


def describe(error: BaseException) -> str:
    """The type and the first line of an exception, redacted."""
    first_line = next(iter(text_of(error).strip().splitlines()), "")
    return redact(f"{type(error).__name__}: {first_line}" if first_line else type(error).__name__)


class Attempt:
    """What one execution of a step has begun, so that a failure is written to the MLflow run that it made."""

    run_id: str | None = None


@contextlib.contextmanager
def reporting(step: str, record: "tracking.Record") -> Iterator[Attempt]:
    """Run a step's body; if it fails, write why to the termination message and to MLflow, and raise `StepFailure`.

    The original failure stands even where MLflow cannot be reached. Tracebacks go to the log redacted, and the exception
    raised has no cause, since Python would print that as it is.
    """
    from winecontract.logs import guard_handlers

    attempt = Attempt()
    guard_handlers()
    try:
        yield attempt
        return
    except StepFailure as error:
        failure = error
    except Exception as error:  # whatever it is: the step ends, and its owner is told
        log.error("%s failed", step, extra={"details": redact("".join(traceback.format_exception(error)))})
        failure = StepFailure(Reason.UNEXPECTED, f"{step} failed unexpectedly, see its log: {describe(error)}")
    _write_termination_message(step, failure)
    try:
        tracking.record_failure(record, step, failure.reason, failure.message, permanent=failure.permanent, run_id=attempt.run_id)
    except Exception as error:
        log.warning("the failure could not be written to MLflow: %s", describe(error))
    raise failure from None


def _write_termination_message(step: str, failure: StepFailure) -> None:
    """Say why the step failed in the container's termination message, where there is one: the file is the kubelet's to make."""
    message = failure.message
    while len(text := _termination_message(step, failure, message)) > TERMINATION_BYTES:
        message = message[: len(message) * 3 // 4]
    try:
        descriptor = os.open(os.environ.get(TERMINATION_LOG, "/dev/termination-log"), os.O_WRONLY | os.O_TRUNC)
        with os.fdopen(descriptor, "wb") as file:
            file.write(text)
    except OSError as error:
        log.debug("no termination message: %s", error)


def _termination_message(step: str, failure: StepFailure, message: str) -> bytes:
    said = {"step": step, "reason": str(failure.reason), "permanent": failure.permanent, "message": message}
    return json.dumps({"failure": said}, ensure_ascii=False).encode(errors="replace")
