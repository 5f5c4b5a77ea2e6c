"""Score a file in chunks of rows, so that the memory needed does not depend on the file's length."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa

from winecontract.reasons import Reason
from winesteps.failures import StepFailure
from winesteps.outputs import Claim, Store, Upload
from winesteps.reading import Chunk, Problem, Rejection, Source, kinds
from winesteps.writers import Writer

ROW, PREDICTION = "row", "prediction"
"""Columns that the output has in addition to the input's: the first and the last."""
ROWS_SHOWN = 10
"""Most rejected rows of each reason that the report lists."""


@dataclass
class Tally:
    """Counts of scored and rejected rows. `examples` has the numbers of the first rejected rows of each reason, `first` the
    first problem.
    """

    rows: int = 0
    scored: int = 0
    rejected: dict[Rejection, int] = field(default_factory=dict)
    examples: dict[Rejection, list[int]] = field(default_factory=dict)
    first: dict[Rejection, Problem] = field(default_factory=dict)

    def reject(self, reason: Rejection, numbers: "list[int]") -> None:
        """Count rejected rows."""
        self.rejected[reason] = self.rejected.get(reason, 0) + len(numbers)
        shown = self.examples.setdefault(reason, [])
        shown += numbers[: ROWS_SHOWN - len(shown)]

    @property
    def reasons(self) -> list[dict[str, Any]]:
        """Counts of rejected rows by reason, in descending order."""
        order = sorted(self.rejected, key=lambda reason: (-self.rejected[reason], reason))
        return [{"reason": reason.value, "rows": self.rejected[reason]} for reason in order]


class Sink:
    """Write scored rows to an object, which appears when `complete` is called. Without that call nothing stays in the store.

    `begun` is called with the upload as soon as it exists.
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
        """Remove the upload."""
        if self._upload is not None:
            self._upload.abandon()


class _OtherTypesError(Exception):
    """A later chunk has values of another type in a column than the chunks before."""


def score_all(source: Source, loaded: Any, features: list[str], sink: Callable[[], Sink]) -> Tally:
    """Score a file. Columns that the model does not need are written as numbers if all their values are numbers.

    The first chunk decides which columns are numbers. If a later chunk contradicts it, the output is discarded, the types are
    determined from the whole file, and the file is scored again.
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
    """Score a file. `flags` are the results of `kinds` for its columns of text, if they are known."""
    known = flags
    try:
        for chunk in source.chunks():
            _count(chunk, tally)
            if len(chunk.numbers):
                if flags is None:
                    known = _known_kinds(source, chunk, known)
                assert known is not None, "this chunk was read"
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
    """Determine the types of the columns of text up to this chunk. Raise `_OtherTypesError` if earlier chunks had others."""
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
    """Add row numbers as the first column and predictions as the last; yield at most one table."""
    frame = chunk.table.select(features).to_pandas()
    values = np.asarray(loaded.predict(frame), dtype=np.float64).reshape(-1)
    table = chunk.table.add_column(0, ROW, pa.array(chunk.numbers)).append_column(PREDICTION, pa.array(values))
    finite = np.isfinite(values)
    if not finite.all():
        tally.reject(Rejection.PREDICTION_NOT_FINITE, chunk.numbers[~finite].tolist())
        table = table.filter(pa.array(finite))
    if table.num_rows:
        yield table
