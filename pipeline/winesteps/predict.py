"""The predict step: a file of any length, scored with a model of MLflow's, as a file in the object store beside a small report.

The file is fetched to disk first: its checksum is known before a row is scored, and an interrupted transfer is retried. Then
`scoring` scores it. The tags that report success to the operator are written last, in one request.
"""

import contextlib
import json
import logging
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pyarrow as pa

from winecontract.addresses import AddressError, HttpAddress, S3Address, may_be_object, parse
from winecontract.reasons import Reason
from winecontract.tags import Tag
from winesteps import model, tracking
from winesteps.chosen import Chosen, find, load
from winesteps.credentials import from_environment
from winesteps.download import Downloaded, download
from winesteps.failures import Attempt, StepFailure, redact_url, unquoted
from winesteps.outputs import Claim, Owner, Place, Store, Upload
from winesteps.reading import Columns, Options, Rejection, Source, Wanted, expanded, is_parquet, open_csv, open_parquet
from winesteps.scoring import PREDICTION, ROW, Sink, Tally, score_all
from winesteps.sources import address_of
from winesteps.trackingerrors import tracking_errors
from winesteps.writers import Writer, open_writer

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

ATTEMPTS_KNOWN = 20
"""Most earlier attempts whose unfinished uploads are removed."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task:
    """Settings of a prediction.

    `input_format` is csv, parquet or empty; empty means that the content decides. `columns` has `drop` or `only`. `mlflow_run` is
    the MLflow run of the model. If set, `pipeline_uid` must be the resource that owns the model, and `model_version` its version.
    The model's folder must have `model_digest`; a model without a signed digest is loaded only with `allow_unsigned`. With
    `overwrite` the output may replace an object, unless that is the input or the model's training data. `escape_formulas`
    prevents spreadsheets from running formulas in CSV. `data_secret` is the Secret with credentials for http and https.
    """

    input_url: str
    output: str
    mlflow_run: str
    input_sha256: str = ""
    input_format: str = ""
    separator: str = ";"
    decimal: str = "."
    columns: Mapping[str, Any] = field(default_factory=dict)
    max_bytes: int = 1024**3
    model_version: str = ""
    pipeline_uid: str = ""
    model_digest: str = ""
    allow_unsigned: bool = False
    overwrite: bool = False
    escape_formulas: bool = True
    data_secret: str = ""
    credentials_over_http: bool = False


@dataclass(frozen=True)
class Predicted:
    """The result: addresses of the output and of its report, and the report's content."""

    output: str
    report: str
    content: Mapping[str, Any]


def predict(task: Task, s3_endpoint_url: str, record: tracking.Record, attempt: Attempt) -> Predicted:
    """Fetch a file, score it, and write the output and its report.

    Args:
        task: settings of the prediction.
        s3_endpoint_url: the object store, for the output and for s3 addresses of the input.
        record: the MLflow server, and the owner of the run.
        attempt: gets the id of the MLflow run when it has started, so that a failure is written to that run.

    Raises:
        StepFailure: for the input as in the training (UrlInvalid to DataInvalid, ColumnMissing, TooFewRows), DataNotParquet,
            ParametersInvalid, AllRowsRejected, ModelUnusable, ModelUnsigned, ModelTampered, OutputIsSource, OutputExists,
            OutputRejected or OutputUnavailable, TrackingUnavailable.

    """
    began = time.monotonic()
    place, source_address = Place.of(task.output), address_of(task.input_url)
    credentials = from_environment(task.data_secret, task.credentials_over_http)
    options = _options(task)
    _check_source(place, source_address, "the input itself")
    with tempfile.TemporaryDirectory() as folder, terminable():
        root = Path(folder)
        client, earlier = _start(record, attempt)
        store = Store(s3_endpoint_url, owner_of(record))
        for upload_id in {run.data.tags[Tag.PREDICTION_UPLOAD] for run in earlier if Tag.PREDICTION_UPLOAD in run.data.tags}:
            store.abort(place, upload_id)
        claim, report = (store.claim(one, overwrite=task.overwrite) for one in (place, place.report))
        chosen = Chosen(task.mlflow_run, task.model_version, task.pipeline_uid, task.model_digest, task.allow_unsigned)
        run = find(client, chosen, record.tracking_uri)
        _check_training_data(place, run)
        loaded, features = load(run, chosen, root, record.tracking_uri)
        file = root / "input"
        downloaded = download(
            task.input_url,
            file,
            sha256=task.input_sha256,
            max_bytes=task.max_bytes,
            s3_endpoint_url=s3_endpoint_url,
            text=False,  # the reader reports what the file is
            credentials=credentials,
        )
        _check_download(claim, downloaded)
        fetched = time.monotonic()

        def begun(upload: Upload) -> None:
            _record_upload(client, attempt, upload, record.tracking_uri)

        with unquoted(downloaded.redirected):
            source = _open(task, options, file, features)
            tally = score_all(source, loaded, features, lambda: Sink(store, claim, _opener(task, source), begun))
    ended = time.monotonic()
    content = _report(task, place, downloaded, tally, ended - began, ended - fetched)
    store.put_json(report, content)
    _record(client, attempt.run_id, task, content, str(report.place), record.tracking_uri)
    log.info("Scored %s of %s rows in %.1f s: %s", f"{tally.scored:,}", f"{tally.rows:,}", ended - began, place)
    return Predicted(str(place), str(report.place), content)


def _start(record: tracking.Record, attempt: Attempt) -> "tuple[MlflowClient, list[Run]]":
    """Start the MLflow run; return its client and the unfinished runs of earlier attempts."""
    with tracking_errors(record.tracking_uri):
        client = tracking.connect(record)
        attempt.run_id = tracking.start_run(client, record)
        return client, tracking.runs_of_owner(client, record, "attributes.status != 'FINISHED'", ATTEMPTS_KNOWN)


def _opener(task: Task, source: Source) -> Callable[[Upload, str, pa.Schema], Writer]:
    separator = source.separator or task.separator
    return lambda upload, suffix, schema: open_writer(upload, suffix, schema, separator, escape_formulas=task.escape_formulas)


def _report(
    task: Task, place: Place, downloaded: Downloaded, tally: Tally, seconds: float, scoring_seconds: float
) -> dict[str, Any]:
    """Build the report that is stored beside the output. `scoring_seconds` are those after the download."""
    return {
        "rows": tally.rows,
        "scored": tally.scored,
        "rejected": [{**counted, "firstRows": tally.examples[Rejection(counted["reason"])]} for counted in tally.reasons],
        "model": {"mlflowRun": task.mlflow_run, "version": task.model_version},
        "input": {"url": redact_url(task.input_url), "bytes": downloaded.size, "sha256": downloaded.sha256},
        "output": str(place),
        "seconds": round(seconds, 3),
        "rowsPerSecond": round(tally.rows / max(scoring_seconds, 1e-3)),
    }


def _options(task: Task) -> Options:
    if task.input_format not in {"", "csv", "parquet"}:
        raise StepFailure(Reason.PARAMETERS_INVALID, f"input.format is {task.input_format[:40]!r}. Set it to csv or parquet.")
    options = Options(task.separator, task.decimal, Columns.of(task.columns, "input"), task.max_bytes, section="input")
    options.check()
    return options


def _open(task: Task, options: Options, file: Path, features: Sequence[str]) -> Source:
    wanted = Wanted(tuple(features), ", which the model needs", frozenset(features))
    plain, _ = expanded(file, file.parent, options.max_bytes)
    as_parquet = task.input_format == "parquet" or (not task.input_format and is_parquet(plain))
    source = (open_parquet if as_parquet else open_csv)(plain, options, wanted, file.parent)
    if taken := {ROW, PREDICTION} & set(source.columns):
        message = f"The file has a column {taken.pop()!r}, which the output adds. Rename it in the file"
        raise StepFailure(Reason.DATA_INVALID, f"{message}, or drop it with input.columns.drop.")
    return source


def owner_of(record: tracking.Record) -> Owner:
    """Return the writer of the output: the resource, or the Kubeflow run if the pipeline is run by hand."""
    named = "/".join(str(record.owner[part]) for part in ("namespace", "name") if part in record.owner)
    if record.uid:
        return Owner(record.uid, f"WinePrediction {named}")
    return Owner(f"run {record.kfp_run}" if record.kfp_run else "", f"Kubeflow run {record.kfp_run}")


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Turn SIGTERM, which a pod gets when its run is terminated, into an exception, so that the step cleans up."""

    def end(*_: object) -> NoReturn:
        raise SystemExit(128 + signal.SIGTERM)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _check_source(place: Place, address: S3Address | HttpAddress, source: str) -> None:
    """Refuse an output or report that would overwrite the input or the training data."""
    for written, named in ((place, "The output"), (place.report, "The report")):
        if may_be_object(address, written.bucket, written.key):
            message = f"{named} {written} is {source}, {redact_url(str(address))}."
            raise StepFailure(Reason.OUTPUT_IS_SOURCE, f"{message} Create another WinePrediction with another output.")


def _check_download(claim: Claim, downloaded: Downloaded) -> None:
    """Refuse to replace the input if only the answer reveals it: after a redirect, or behind a gateway."""
    if downloaded.location:
        with contextlib.suppress(AddressError):
            _check_source(claim.place, parse(downloaded.location), "the input itself")
    if claim.found is not None and downloaded.etag and claim.found.etag == downloaded.etag:
        message = f"{claim.place} is the input itself or a copy of it: both have the entity tag {downloaded.etag}. "
        raise StepFailure(Reason.OUTPUT_IS_SOURCE, f"{message}Create another WinePrediction with another output.")


def _check_training_data(place: Place, run: "Run") -> None:
    """Refuse an output that would overwrite the model's training data, if its run has the address."""
    with contextlib.suppress(AddressError):
        _check_source(place, parse(run.data.params.get("data_url", "")), "the model's training data")


def _record_upload(client: "MlflowClient", attempt: Attempt, upload: Upload, tracking_uri: str) -> None:
    """Record the id of a started upload before it has parts, so that a later attempt can remove it."""
    assert attempt.run_id is not None, "the run was started"
    with tracking_errors(tracking_uri):
        client.set_tag(attempt.run_id, Tag.PREDICTION_UPLOAD, upload.id)


def _record(
    client: "MlflowClient", run_id: str | None, task: Task, content: Mapping[str, Any], report: str, tracking_uri: str
) -> None:
    """Report the result to the operator in the tags of the run."""
    from mlflow.entities import Metric

    assert run_id is not None, "the run was started"
    rejected = [{"reason": counted["reason"], "rows": counted["rows"]} for counted in content["rejected"]]
    numbers = {"rows": content["rows"], "scored": content["scored"], "seconds": content["seconds"]}
    tags: dict[str, str] = {
        Tag.PREDICTION_OUTPUT: content["output"],
        Tag.PREDICTION_REPORT: report,
        Tag.PREDICTION_ROWS: str(content["rows"]),
        Tag.PREDICTION_SCORED: str(content["scored"]),
        Tag.PREDICTION_REJECTED: json.dumps(rejected, separators=(",", ":")),
        Tag.PREDICTION_MODEL: task.mlflow_run,
    }
    with tracking_errors(tracking_uri):
        now = int(time.time() * 1000)
        client.log_batch(run_id, metrics=[Metric(name, float(value), now, 0) for name, value in numbers.items()])
        client.set_terminated(run_id, "FINISHED")
        model.set_tags(client, run_id, tags)
