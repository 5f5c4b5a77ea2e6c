"""The check step: find out whether the file at an address has changed.

If the known entity tag still holds, nothing is transferred. Otherwise the bytes are hashed as they arrive, and not kept.
"""

import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from winecontract.reasons import Reason
from winecontract.tags import FALSE, TRUE, Tag
from winesteps import tracking
from winesteps.credentials import Credentials
from winesteps.download import drain, persistent
from winesteps.failures import Attempt, StepFailure, describe, redact_url
from winesteps.model import set_tags
from winesteps.sources import open_source
from winesteps.trackingerrors import tracking_errors

if TYPE_CHECKING:
    from mlflow import MlflowClient

DELETED = 100
"""Most runs of earlier checks that one check deletes."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checked:
    """The result: whether the file has changed, its SHA-256 in hexadecimal, and its entity tag, if any."""

    changed: bool
    sha256: str
    etag: str


def compare(
    url: str,
    *,
    known_sha256: str = "",
    known_etag: str = "",
    max_bytes: int = 1024**3,
    s3_endpoint_url: str = "",
    credentials: Credentials | None = None,
    wait: Callable[[float], None] = time.sleep,
) -> Checked:
    """Compare the file at `url` with the known digest. If none is known, the file counts as unchanged.

    Raises:
        StepFailure: as `download` does, except ChecksumMismatch.

    """
    if known_sha256 and not re.fullmatch("[0-9a-f]{64}", known_sha256):
        raise StepFailure(Reason.PARAMETERS_INVALID, "known_sha256 must be 64 hexadecimal digits, or empty.")
    known_etag = known_etag if known_sha256 else ""

    def fetch() -> Checked:
        with open_source(url, s3_endpoint_url, known_etag, credentials) as source:
            if source.unchanged or (known_etag and source.etag == known_etag):
                return Checked(changed=False, sha256=known_sha256, etag=known_etag)
            found = drain(source, redact_url(url), max_bytes, lambda _chunk: None)
        return Checked(changed=found.sha256 != (known_sha256 or found.sha256), sha256=found.sha256, etag=found.etag)

    return persistent(fetch, wait)


def report(checked: Checked, record: tracking.Record, attempt: Attempt) -> None:
    """Write the result to an MLflow run, its tags last and in one request, and delete the runs of earlier checks.

    Raises:
        StepFailure: TrackingUnavailable or TrackingRejected.

    """
    changed = TRUE if checked.changed else FALSE
    tags = {Tag.DATA_SHA256: checked.sha256, Tag.DATA_ETAG: checked.etag, Tag.DATA_CHANGED: changed}
    with tracking_errors(record.tracking_uri):
        client = tracking.connect(record)
        attempt.run_id = tracking.start_run(client, record)
        client.set_terminated(attempt.run_id, "FINISHED")
        set_tags(client, attempt.run_id, {tag: value for tag, value in tags.items() if value})
    log.info("checked data changed=%s sha256=%s", changed, checked.sha256)
    try:
        _remove_earlier(client, record, attempt.run_id)
    except Exception as error:  # the result is recorded; the next check deletes them
        log.warning("deleting the runs of earlier checks failed: %s", describe(error))


def _remove_earlier(client: "MlflowClient", record: tracking.Record, run_id: str) -> None:
    for run in tracking.runs_of_owner(client, record, f"attributes.run_name = '{tracking.CHECK_NAME}'", DELETED):
        if run.info.run_id != run_id:
            client.delete_run(run.info.run_id)
