"""The check step: whether the bytes at an address are still those that are known. Called by the `check` component.

An entity tag that is known spares the transfer. Without one, or where it differs, the bytes are hashed as they come and not kept.
"""

import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from winesteps import tracking
from winesteps.credentials import Credentials
from winesteps.download import drain, persistent
from winesteps.failures import Attempt, Reason, StepFailure, describe, redact_url
from winesteps.model import set_tags
from winesteps.sources import open_source
from winesteps.trackingerrors import tracking_errors

if TYPE_CHECKING:
    from mlflow import MlflowClient

DELETED = 100
"""Most earlier checks that one check removes."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checked:
    """The outcome: whether the bytes differ from the known ones, their SHA-256 in hexadecimal, their entity tag, if any."""

    changed: bool
    sha256: str
    etag: str


def look(
    url: str,
    *,
    known_sha256: str = "",
    known_etag: str = "",
    max_bytes: int = 1024**3,
    s3_endpoint_url: str = "",
    credentials: Credentials | None = None,
    wait: Callable[[float], None] = time.sleep,
) -> Checked:
    """Compare the bytes at `url` with the known ones. Where none are known nothing has changed: there is only a first look.

    Raises:
        StepFailure: as `download` does, but for a checksum.

    """
    if known_sha256 and not re.fullmatch("[0-9a-f]{64}", known_sha256):
        raise StepFailure(Reason.PARAMETERS_INVALID, "known_sha256 must be 64 hexadecimal digits, or empty.")
    known_etag = known_etag if known_sha256 else ""

    def ask() -> Checked:
        with open_source(url, s3_endpoint_url, known_etag, credentials) as source:
            if source.unchanged or (known_etag and source.etag == known_etag):
                return Checked(changed=False, sha256=known_sha256, etag=known_etag)
            found = drain(source, redact_url(url), max_bytes, lambda _chunk: None)
        return Checked(changed=found.sha256 != (known_sha256 or found.sha256), sha256=found.sha256, etag=found.etag)

    return persistent(ask, wait)


def report(checked: Checked, record: tracking.Record, attempt: Attempt) -> None:
    """Write the outcome to a run of its own in MLflow, its tags last and at once, and remove the runs of earlier checks.

    Raises:
        StepFailure: TrackingUnavailable or TrackingRefused.

    """
    tags = {"data-sha256": checked.sha256, "data-etag": checked.etag, "data-changed": str(checked.changed).lower()}
    with tracking_errors(record.tracking_uri):
        client = tracking.connect(record)
        attempt.run_id = tracking.start_run(client, record)
        client.set_terminated(attempt.run_id, "FINISHED")
        set_tags(client, attempt.run_id, {tracking.PREFIX + name: value for name, value in tags.items() if value})
    log.info("the data %s, SHA-256 %s", "has changed" if checked.changed else "is what it was", checked.sha256)
    try:
        _remove_earlier(client, record, attempt.run_id)
    except Exception as error:  # the outcome stands; the next check tries again
        log.warning("the runs of earlier checks could not be removed: %s", describe(error))


def _remove_earlier(client: "MlflowClient", record: tracking.Record, run_id: str) -> None:
    for run in tracking.runs_of_owner(client, record, f"attributes.run_name = '{tracking.CHECK_NAME}'", DELETED):
        if run.info.run_id != run_id:
            client.delete_run(run.info.run_id)
