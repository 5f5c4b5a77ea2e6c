"""Failures of steps, with messages for the user who wrote the resource.

Steps raise `StepFailure`. `reporting` wraps a whole step (see components.py) and records any failure where the operator can read
it, because Kubeflow's API does not report it: in the container's termination message, which Kubernetes and Argo pass on, and in
MLflow, which may itself have failed.
"""

import contextlib
import logging
import os
import re
import traceback
from collections.abc import Iterator
from typing import TypeVar
from urllib.parse import urlsplit, urlunsplit

from winecontract import termination
from winecontract.logs import guard_handlers
from winecontract.reasons import Reason
from winecontract.termination import Failure
from winecontract.text import clean
from winesteps import tracking

MESSAGE_LENGTH = 1000
"""Most characters of a failure's message."""

_QUERY = re.compile(r"\?(?!versionId=[\w.~+/=-]+(?![\w.~+/=&-]))[^\s'\")]*")
"""The query of an address. An object's version is not matched: it is no secret."""

_CREDENTIAL_PREFIXES, _CREDENTIAL_WORDS = ("AWS_", "MLFLOW_", "WINE_DATA_", "WINE_MODEL_"), ("KEY", "SECRET", "TOKEN", "PASSWORD")
_USERINFO = re.compile(r"(\w://)[^\s/@]*@")
_ADDRESS_QUERY = re.compile(rf"((?:\w://|url: /)[^\s?'\"]*+)(?:{_QUERY.pattern})?")
"""An address, with or without its query. The possessive `*+` keeps the search linear in the length of the text."""
T = TypeVar("T")

log = logging.getLogger(__name__)


class StepFailure(Exception):
    """A step cannot do its work.

    The message is one or two sentences: what was observed, where, and what to do. It is redacted and shortened here.
    """

    def __init__(self, reason: Reason, message: str) -> None:
        self.reason = reason
        self.message = clean(redact(message), MESSAGE_LENGTH)
        super().__init__(f"{reason}: {self.message}")

    @property
    def permanent(self) -> bool:
        """Tell whether only a change by the user helps."""
        return self.reason.permanent


_QUOTING = {
    Reason.DATA_NOT_CSV: "it is not a CSV file",
    Reason.DATA_NOT_PARQUET: "it is not a parquet file",
    Reason.COLUMN_MISSING: "a column is missing",
    Reason.DATA_INVALID: "a row, a column or the header is invalid",
    Reason.TOO_FEW_ROWS: "it has too few rows, or none",
    Reason.ALL_ROWS_REJECTED: "none of its rows can be scored",
}
"""Reasons whose messages can quote the file, and a message for each that quotes nothing."""


@contextlib.contextmanager
def unquoted(redirected: bool) -> Iterator[None]:
    """Replace messages that quote a file if its address redirected to another host.

    Otherwise an attacker could redirect a step to an internal host, and read its answer in the message.
    """
    try:
        yield
    except Exception as error:
        if not redirected:
            raise
        where = "The address redirects to another host, whose content is not quoted"
        if not isinstance(error, StepFailure):
            raise StepFailure(Reason.UNEXPECTED_ERROR, f"{where}: {type(error).__name__}.") from None
        if error.reason not in _QUOTING:
            raise
        advice = "For the complete message, set the address that it redirects to."
        raise StepFailure(error.reason, f"The file cannot be used: {_QUOTING[error.reason]}. {where}. {advice}") from None


def without_templates(value: T) -> T:
    """Separate double braces in a text or a list of texts: Kubeflow passes it on in Argo's manifests, which expand templates."""
    if isinstance(value, str):
        return re.sub(r"\{(?=\{)|\}(?=\})", lambda brace: f"{brace[0]} ", value)  # type: ignore[return-value]
    if isinstance(value, list):
        return [without_templates(item) for item in value]  # type: ignore[return-value]
    return value


def redact_url(url: str) -> str:
    """Remove userinfo, query and fragment from an address, since they can be secret. Keep the key of an object as is."""
    if url[:5].lower() == "s3://":
        bucket, slash, key = url[5:].partition("/")
        return f"s3://{bucket.rpartition('@')[2]}{slash}{_QUERY.sub('', key)}"
    try:
        parts = urlsplit(url)
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
    except ValueError:
        return url.partition("?")[0].rpartition("@")[2]


def redact(text: str) -> str:
    """Remove from a text the values of credentials in the environment, and userinfo and query of addresses."""
    named = {value for name, value in os.environ.items() if value and _names_credential(name)}
    secrets = named | {value.strip() for value in named if value.strip()}  # libraries may quote a value without its line break
    for value in sorted(secrets, key=len, reverse=True):  # one may contain another
        text = text.replace(value, "***")
    text = _USERINFO.sub(r"\1", text)
    return _ADDRESS_QUERY.sub(r"\1", text)


def _names_credential(name: str) -> bool:
    """Tell whether a variable holds a credential. AWS_MAX_ATTEMPTS=1 does not: redacting every `1` would spoil messages."""
    return name.startswith(_CREDENTIAL_PREFIXES) and any(word in name for word in _CREDENTIAL_WORDS)


def shorten(text: str) -> str:
    """Shorten a text to `MESSAGE_LENGTH` characters."""
    return text if len(text) <= MESSAGE_LENGTH else text[: MESSAGE_LENGTH - 1] + "…"


def text_of(error: BaseException) -> str:
    """Return an exception's text, or its type if `str` fails."""
    try:
        return str(error)
    except Exception:
        return type(error).__name__


def describe(error: BaseException) -> str:
    """Return the type and the first line of an exception, redacted."""
    first_line = next(iter(text_of(error).strip().splitlines()), "")
    return redact(f"{type(error).__name__}: {first_line}" if first_line else type(error).__name__)


class Attempt:
    """One execution of a step. `run_id` is the MLflow run that it started, to which a failure is written."""

    run_id: str | None = None


@contextlib.contextmanager
def reporting(step: str, record: "tracking.Record") -> Iterator[Attempt]:
    """Run a step's body. If it fails, write the failure to the termination message and to MLflow, and raise `StepFailure`.

    If MLflow cannot be reached, the original failure is still raised. Tracebacks are logged redacted, and the raised exception
    has no cause, since Python would print the cause unredacted.
    """
    attempt = Attempt()
    guard_handlers()
    try:
        yield attempt
        return
    except StepFailure as error:
        failure = error
    except Exception as error:  # the step ends in any case, and its failure is recorded
        log.error("%s failed", step, extra={"details": redact("".join(traceback.format_exception(error)))})
        message = f"The step {step} failed with an unexpected error, see its log: {describe(error)}"
        failure = StepFailure(Reason.UNEXPECTED_ERROR, message)
    termination.write(Failure(step, failure.reason, failure.message, permanent=failure.permanent))
    try:
        tracking.record_failure(record, step, failure.reason, failure.message, permanent=failure.permanent, run_id=attempt.run_id)
    except Exception as error:
        log.warning("writing the failure to MLflow failed: %s", describe(error))
    raise failure from None
