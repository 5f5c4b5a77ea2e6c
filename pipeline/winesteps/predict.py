"""The predict step: a file of any length, scored with a model of MLflow's, as a file in the object store beside a small report.

Called by the `predict` component. The file is fetched to disk first: its checksum is known before a row is scored, and a
transfer that breaks off is tried again. Then one chunk of rows at a time is read (reading), scored and sent out (outputs.py),
so that the memory needed does not depend on the file's length. The tags that tell the operator of success are written last, in
one request.
"""

import contextlib
import json
import logging
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import pyarrow as pa

from winesteps import model, tracking
from winesteps.addresses import AddressError, HttpAddress, S3Address, may_be_object, parse
from winesteps.chosen import Chosen, find, load
from winesteps.credentials import from_environment
from winesteps.download import Downloaded, download
from winesteps.failures import Attempt, Reason, StepFailure, redact_url, unquoted
from winesteps.outputs import Claim, Owner, Place, Store, Upload
from winesteps.reading import (
    Chunk,
    Columns,
    Options,
    Problem,
    Rejection,
    Source,
    Wanted,
    expanded,
    is_parquet,
    kinds,
    open_csv,
    open_parquet,
)
from winesteps.sources import address_of
from winesteps.trackingerrors import tracking_errors
from winesteps.writers import Writer, open_writer

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

ROW, PREDICTION = "row", "prediction"
"""Columns that the output has beside the input's own: the first and the last."""
ROWS_SHOWN = 10
"""Rejected rows of each reason that the report names."""
UPLOAD = f"{tracking.PREFIX}prediction-upload"
"""Tag of the MLflow run with the id of the upload that it began, whose parts a later attempt removes."""
ATTEMPTS_KNOWN = 20
"""Most earlier attempts that are cleaned up after."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task:
    """What shall be scored, with which model, and where it goes.

    `input_format` is csv, parquet or empty, which goes by the file's content; `columns` has `drop` or `only`. The model is
    the one that `mlflow_run` logged; it must be of the resource with `pipeline_uid`, and of `model_version`, where these are
    given, and its folder must have `model_digest`, unless `allow_unsigned` lets one be loaded that was not signed. `overwrite`
    lets the output replace what is there already, unless that is the input or the model's training data. `escape_formulas` makes
    CSV harmless to spreadsheets. `data_secret` names the Secret whose keys the step's environment holds, for http and https.
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


@dataclass
class Tally:
    """What became of the rows. `examples` has the numbers of the first ones that were rejected, by reason, `first` the first
    one.
    """

    rows: int = 0
    scored: int = 0
    rejected: dict[Rejection, int] = field(default_factory=dict)
    examples: dict[Rejection, list[int]] = field(default_factory=dict)
    first: dict[Rejection, Problem] = field(default_factory=dict)

    def reject(self, reason: Rejection, numbers: "list[int]") -> None:
        """Count rows that are not scored."""
        self.rejected[reason] = self.rejected.get(reason, 0) + len(numbers)
        shown = self.examples.setdefault(reason, [])
        shown += numbers[: ROWS_SHOWN - len(shown)]

    @property
    def reasons(self) -> list[dict[str, Any]]:
        """Rejected rows by reason, most first."""
        order = sorted(self.rejected, key=lambda reason: (-self.rejected[reason], reason))
        return [{"reason": reason.value, "rows": self.rejected[reason]} for reason in order]


@dataclass(frozen=True)
class Predicted:
    """The outcome: addresses of the output and of its report, and what the report says."""

    output: str
    report: str
    content: Mapping[str, Any]


def predict(task: Task, s3_endpoint_url: str, record: tracking.Record, attempt: Attempt) -> Predicted:
    """Fetch, score, write, report.

    Args:
        task: what shall be scored.
        s3_endpoint_url: the object store, for the output and for s3 addresses of the input.
        record: the MLflow server, and in whose name.
        attempt: gets the MLflow run's id as soon as there is one, so that a failure is written to that run.

    Raises:
        StepFailure: of the input as in the training (UrlInvalid to DataInvalid, ColumnMissing, TooFewRows), DataNotParquet,
            ParametersInvalid, AllRowsRejected, ModelUnusable, ModelUnsigned, ModelTampered, OutputIsSource, OutputExists,
            OutputRefused or OutputUnavailable, TrackingUnavailable.

    """
    began = time.monotonic()
    place, source_address = Place.of(task.output), address_of(task.input_url)
    credentials = from_environment(task.data_secret, task.credentials_over_http)
    options = _options(task)
    _check_source(place, source_address, "the input itself")
    with tempfile.TemporaryDirectory() as folder, terminable():
        root = Path(folder)
        with tracking_errors(record.tracking_uri):
            client = tracking.connect(record)
            attempt.run_id = tracking.start_run(client, record)
            earlier = tracking.runs_of_owner(client, record, "attributes.status != 'FINISHED'", ATTEMPTS_KNOWN)
        store = Store(s3_endpoint_url, owner_of(record))
        for upload_id in {run.data.tags[UPLOAD] for run in earlier if UPLOAD in run.data.tags}:
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
            text=False,  # the reader says what the file is
            credentials=credentials,
        )
        _check_what_came(claim, downloaded)
        fetched = time.monotonic()
        with unquoted(downloaded.redirected):
            source = _open(task, options, file, features)
            if taken := {ROW, PREDICTION} & set(source.columns):
                message = f"The output has a column {taken.pop()!r} of its own: rename the file's"
                raise StepFailure(Reason.DATA_INVALID, f"{message}, or leave it out with input.columns.drop.")
            tally = _score_all(
                source,
                loaded,
                features,
                lambda: Sink(
                    store,
                    claim,
                    lambda upload, suffix, schema: open_writer(
                        upload, suffix, schema, source.separator or task.separator, escape_formulas=task.escape_formulas
                    ),
                    lambda upload: _remember(client, attempt, upload, record.tracking_uri),
                ),
            )
    ended = time.monotonic()
    content = {
        "rows": tally.rows,
        "scored": tally.scored,
        "rejected": [{**counted, "firstRows": tally.examples[Rejection(counted["reason"])]} for counted in tally.reasons],
        "model": {"mlflowRun": task.mlflow_run, "version": task.model_version},
        "input": {"url": redact_url(task.input_url), "bytes": downloaded.size, "sha256": downloaded.sha256},
        "output": str(place),
        "seconds": round(ended - began, 3),
        "rowsPerSecond": round(tally.rows / max(ended - fetched, 1e-3)),
    }
    store.put_json(report, content)
    _record(client, attempt.run_id, task, content, str(report.place), record.tracking_uri)
    log.info("scored %s of %s rows in %.1f s: %s", f"{tally.scored:,}", f"{tally.rows:,}", ended - began, place)
    return Predicted(str(place), str(report.place), content)


def _options(task: Task) -> Options:
    if task.input_format not in {"", "csv", "parquet"}:
        raise StepFailure(Reason.PARAMETERS_INVALID, f"input.format must be csv or parquet, not {task.input_format[:40]!r}.")
    options = Options(task.separator, task.decimal, Columns.of(task.columns, "input"), task.max_bytes, section="input")
    options.check()
    return options


def _open(task: Task, options: Options, file: Path, features: Sequence[str]) -> Source:
    wanted = Wanted(tuple(features), ", which the model needs", frozenset(features))
    plain, _ = expanded(file, file.parent, options.max_bytes)
    as_parquet = task.input_format == "parquet" or (not task.input_format and is_parquet(plain))
    return (open_parquet if as_parquet else open_csv)(plain, options, wanted, file.parent)


def owner_of(record: tracking.Record) -> Owner:
    """Who writes: the resource, or the Kubeflow run where it is run by hand."""
    named = "/".join(str(record.owner[part]) for part in ("namespace", "name") if part in record.owner)
    if record.uid:
        return Owner(record.uid, f"WinePrediction {named}")
    return Owner(f"run {record.kfp_run}" if record.kfp_run else "", f"Kubeflow run {record.kfp_run}")


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Make SIGTERM, which a pod gets when its run is ended, an exception, so that nothing half done is left behind."""

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


def _check_source(place: Place, address: S3Address | HttpAddress, what: str) -> None:
    """Refuse an output, or its report, that would be written over what it is made of."""
    for written, named in ((place, "output"), (place.report, "the report")):
        if may_be_object(address, written.bucket, written.key):
            message = f"{named} {written} is {what}, {redact_url(str(address))}. Make another WinePrediction with another output."
            raise StepFailure(Reason.OUTPUT_IS_SOURCE, message)


def _check_what_came(claim: Claim, downloaded: Downloaded) -> None:
    """Recognize the input in what is to be replaced, where its address did not tell: after a redirect, or behind a gateway."""
    if downloaded.location:
        with contextlib.suppress(AddressError):
            _check_source(claim.place, parse(downloaded.location), "the input itself")
    if claim.found is not None and downloaded.etag and claim.found.etag == downloaded.etag:
        message = f"{claim.place} is the input itself or a copy of it: both have the entity tag {downloaded.etag}. "
        raise StepFailure(Reason.OUTPUT_IS_SOURCE, f"{message}Make another WinePrediction with another output.")


def _check_training_data(place: Place, run: "Run") -> None:
    """Refuse an output that would be written over what the model was trained on, as far as its run says."""
    with contextlib.suppress(AddressError):
        _check_source(place, parse(run.data.params.get("data_url", "")), "the model's training data")


def _remember(client: "MlflowClient", attempt: Attempt, upload: Upload, tracking_uri: str) -> None:
    """Write down which upload was begun, before it has a part."""
    assert attempt.run_id is not None, "the run was started"
    with tracking_errors(tracking_uri):
        client.set_tag(attempt.run_id, UPLOAD, upload.id)


class Sink:
    """Where scored rows go. The object appears when `complete` is called; nothing is left behind without it.

    `begun` is told of the upload as soon as there is one.
    """

    def __init__(
        self, store: Store, claim: Claim, opener: Callable[[Upload, str, pa.Schema], Writer], begun: Callable[[Upload], None]
    ) -> None:
        self._store, self._claim, self._open, self._begun = store, claim, opener, begun
        self._upload: Upload | None = None
        self._writer: Any = None

    def write(self, table: pa.Table) -> None:
        """Write rows; all tables have the schema of the first."""
        if self._upload is None:
            self._upload = Upload(self._store, self._claim)
            self._begun(self._upload)
            self._writer = self._open(self._upload, self._claim.place.suffix, table.schema)
        self._writer.write_table(table)

    def complete(self) -> None:
        """Make the object appear."""
        assert self._upload is not None, "there were rows"
        self._writer.close()
        self._upload.complete()

    def abandon(self) -> None:
        """Leave nothing."""
        if self._upload is not None:
            self._upload.abandon()


class _OtherTypesError(Exception):
    """A later chunk has other values in a column than the first ones."""


def _score_all(source: Source, loaded: Any, features: list[str], sink: Callable[[], Sink]) -> Tally:
    """Score a file. Columns that come along are numbers where all of the file's values are: the first chunk says which may be.

    Where a later one says otherwise, nothing is kept, the whole file is looked at, and it is scored once more.
    """
    tally = Tally()
    try:
        _score(source, loaded, features, sink(), tally, None)
    except _OtherTypesError:
        flags: dict[str, int] = {}
        for chunk in source.chunks():
            flags = kinds.kinds(chunk.table, source.texts, source.decimal, flags)
        tally = Tally()
        _score(source, loaded, features, sink(), tally, flags)
    return tally


def _score(source: Source, loaded: Any, features: list[str], sink: Sink, tally: Tally, flags: Mapping[str, int] | None) -> None:
    """Score a file; `flags` are those of `kinds` for its columns of text, where they are known."""
    known = flags
    try:
        for chunk in source.chunks():
            _count(chunk, tally)
            if len(chunk.numbers):
                if flags is None:
                    known = _known_kinds(source, chunk, known)
                assert known is not None, "this chunk at least was looked at"
                converted = replace(chunk, table=kinds.convert(chunk.table, known, source.decimal))
                for table in _predicted(converted, loaded, features, tally):
                    sink.write(table)
                    tally.scored += table.num_rows
        if not tally.rows:
            raise StepFailure(Reason.TOO_FEW_ROWS, "The file has no row of data.")
        if not tally.scored:
            first = tally.reasons[0]["reason"]
            rows = ", ".join(map(str, tally.examples[Rejection(first)][:3]))
            message = f"None of the {tally.rows:,} rows can be scored, most for the reason {first}, such as row {rows}."
            if problem := tally.first.get(Rejection(first)):
                message += f" {source.explain(problem)}"
            raise StepFailure(Reason.ALL_ROWS_REJECTED, message)
        sink.complete()
    except BaseException:
        sink.abandon()
        raise


def _known_kinds(source: Source, chunk: Chunk, known: Mapping[str, int] | None) -> Mapping[str, int]:
    """The kinds of the columns of text up to this chunk; raises where the chunks before were written with others."""
    flags = kinds.kinds(chunk.table, source.texts, source.decimal, known or {})
    if known is not None and any(kinds.type_of(flags[name]) != kinds.type_of(known[name]) for name in source.texts):
        raise _OtherTypesError
    return flags


def _count(chunk: Chunk, tally: Tally) -> None:
    tally.rows += len(chunk.numbers)
    for reason, numbers in chunk.rejected.items():
        tally.rows += len(numbers)
        tally.reject(reason, list(numbers))
    for problem in chunk.problems:
        tally.first.setdefault(problem.reason, problem)


def _predicted(chunk: Chunk, loaded: Any, features: list[str], tally: Tally) -> Iterator[pa.Table]:
    """The rows with their numbers before and their predictions behind; at most one table."""
    frame = chunk.table.select(features).to_pandas()
    values = np.asarray(loaded.predict(frame), dtype=np.float64).reshape(-1)
    table = chunk.table.add_column(0, ROW, pa.array(chunk.numbers)).append_column(PREDICTION, pa.array(values))
    finite = np.isfinite(values)
    if not finite.all():
        tally.reject(Rejection.PREDICTION_NOT_FINITE, chunk.numbers[~finite].tolist())
        table = table.filter(pa.array(finite))
    if table.num_rows:
        yield table


def _record(
    client: "MlflowClient", run_id: str | None, task: Task, content: Mapping[str, Any], report: str, tracking_uri: str
) -> None:
    """Tell the operator, in the tags of the run."""
    from mlflow.entities import Metric

    assert run_id is not None, "the run was started"
    rejected = [{"reason": counted["reason"], "rows": counted["rows"]} for counted in content["rejected"]]
    numbers = {"rows": content["rows"], "scored": content["scored"], "seconds": content["seconds"]}
    tags = {
        "output": content["output"],
        "report": report,
        "rows": str(content["rows"]),
        "scored": str(content["scored"]),
        "rejected": json.dumps(rejected, separators=(",", ":")),
        "model": task.mlflow_run,
    }
    with tracking_errors(tracking_uri):
        now = int(time.time() * 1000)
        client.log_batch(run_id, metrics=[Metric(name, float(value), now, 0) for name, value in numbers.items()])
        client.set_terminated(run_id, "FINISHED")
        model.set_tags(client, run_id, {f"{tracking.PREFIX}prediction-{name}": value for name, value in tags.items()})
