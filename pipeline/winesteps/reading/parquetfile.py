"""Reads a parquet file in batches of its row groups."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from winesteps.failures import Reason, StepFailure
from winesteps.reading.expand import expanded, head_of
from winesteps.reading.formats import recognize
from winesteps.reading.header import Column, Wanted, choose, left_out
from winesteps.reading.options import Options
from winesteps.reading.source import Chunk, Problem, Source
from winesteps.reading.values import Rejection

BATCH_ROWS = 65_536
MAGIC = b"PAR1"


def is_parquet(path: Path) -> bool:
    """Whether a file begins as parquet does."""
    return head_of(path).startswith(MAGIC)


def open_parquet(path: Path, options: Options, wanted: Wanted, scratch: Path) -> Source:
    """Open a parquet file, compressed once more or not.

    Raises:
        StepFailure: DataNotParquet, DataNotCsv for a file of another known format, DataInvalid or ColumnMissing.

    """
    path, packed = expanded(path, scratch, options.max_bytes)
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowException, OSError):
        known = None if is_parquet(path) else recognize(head_of(path))
        if known is not None:
            raise StepFailure(Reason.DATA_NOT_CSV, f"The file is {known.name}, not parquet.") from None
        raise StepFailure(Reason.DATA_NOT_PARQUET, "The file cannot be read as parquet; for CSV, set input.format.") from None
    schema = file.schema_arrow
    columns = choose(schema.names, options, wanted)
    for column in columns:
        kind = schema.types[column.position]
        if wanted.is_numeric(column.name) and not _is_numeric(kind):
            raise StepFailure(Reason.DATA_INVALID, f"The column {column.name!r} is of type {kind}; the model needs numbers.")
    return Source(
        columns=[column.name for column in columns],
        chunks=lambda: _chunks(file, columns, wanted),
        explain=_explain,
        titles=[column.title for column in columns],
        dropped=left_out(schema.names, columns),
        written=", ".join(filter(None, ("parquet", packed))),
    )


def _is_numeric(kind: pa.DataType) -> bool:
    return any(test(kind) for test in (pa.types.is_floating, pa.types.is_integer, pa.types.is_boolean, pa.types.is_decimal))


def _explain(problem: Problem) -> str:
    what = "has no value" if problem.reason is Rejection.MISSING_VALUE else "is not finite"
    return f"Row {problem.row:,}, column {problem.column!r} {what}."


def _chunks(file: pq.ParquetFile, columns: list[Column], wanted: Wanted) -> Iterator[Chunk]:
    first = 1
    for batch in file.iter_batches(batch_size=BATCH_ROWS):
        whole = pa.Table.from_batches([batch])
        chosen = [whole.column(column.position) for column in columns]
        numbers = np.arange(first, first + batch.num_rows, dtype=np.int64)
        first += batch.num_rows
        missing, infinite = (np.zeros(batch.num_rows, dtype=bool) for _ in range(2))
        problems: dict[Rejection, Problem] = {}
        for index, column in enumerate(columns):
            if not wanted.is_numeric(column.name):
                continue
            values = pc.cast(chosen[index], pa.float64(), safe=False)
            absent = pc.is_null(values, nan_is_null=True).to_numpy()
            endless = pc.fill_null(pc.is_inf(values), fill_value=False).to_numpy()
            for reason, mask in ((Rejection.MISSING_VALUE, absent), (Rejection.NOT_FINITE, endless)):
                if mask.any() and reason not in problems:
                    row = int(numbers[mask.argmax()])
                    problems[reason] = Problem(reason, row, row, column.name, column.title)
            missing |= absent
            infinite |= endless
            chosen[index] = values
        reasons = {Rejection.MISSING_VALUE: missing & ~infinite, Rejection.NOT_FINITE: infinite}
        rejected = {reason: numbers[mask].tolist() for reason, mask in reasons.items() if mask.any()}
        good = ~(missing | infinite)
        table = pa.Table.from_arrays(chosen, names=[column.name for column in columns])
        yield Chunk(table if good.all() else table.filter(pa.array(good)), numbers[good], rejected, list(problems.values()))
