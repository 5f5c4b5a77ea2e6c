"""Reads a parquet file in batches of its row groups.

A few kilobytes of parquet can stand for any amount of data: by compression, by one value that is repeated, or by a dictionary
whose long values many rows refer to. So sizes are checked three times: as the file's metadata gives them; in batches whose texts
stay references until the length of what they refer to is known; and, as the metadata may lie, by a limit on the memory that
reading a batch may take.
"""

import contextlib
import resource
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from winecontract.reasons import Reason
from winesteps.failures import StepFailure
from winesteps.reading.expand import expanded, head_of
from winesteps.reading.formats import recognize
from winesteps.reading.header import MOST_COLUMNS, Column, Wanted, choose, left_out
from winesteps.reading.options import Options
from winesteps.reading.source import Chunk, Problem, Source
from winesteps.reading.values import Rejection

BATCH_ROWS, BATCH_BYTES = 65_536, 64 * 1024 * 1024
"""Most rows of a chunk, and what they may take as a table."""
VALUE_BYTES = 8 * 1024 * 1024
"""Longest text of a field, as in CSV."""
GROWTH = 4
"""The table may be so many times as large as the file unpacked: CSV cannot be larger, with two bytes for each number of eight."""
READING_BYTES = 1024 * 1024 * 1024
"""Memory that reading one batch may take beside what is in use."""
THRIFT = {"thrift_string_size_limit": 16 * 1024 * 1024, "thrift_container_size_limit": 100_000}
"""Limits of the metadata's own parts."""
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
        file = _opened(path)
    except (pa.ArrowException, OSError, MemoryError):
        known = None if is_parquet(path) else recognize(head_of(path))
        if known is not None:
            raise StepFailure(Reason.DATA_NOT_CSV, f"The file is {known.name}, not parquet.") from None
        raise StepFailure(Reason.DATA_NOT_PARQUET, "The file cannot be read as parquet; for CSV, set input.format.") from None
    schema = file.schema_arrow
    rows = _batch_rows(file, options.max_bytes)
    columns = choose(schema.names, options, wanted)
    for column in columns:
        kind = schema.types[column.position]
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        if wanted.is_numeric(column.name) and not _is_numeric(kind):
            raise StepFailure(Reason.DATA_INVALID, f"The column {column.name!r} is of type {kind}; the model needs numbers.")
    return Source(
        columns=[column.name for column in columns],
        chunks=lambda: _chunks(_batches(file, rows, options.max_bytes), columns, wanted),
        explain=_explain,
        titles=[column.title for column in columns],
        dropped=left_out(schema.names, columns),
        written=", ".join(filter(None, ("parquet", packed))),
    )


def _opened(path: Path) -> pq.ParquetFile:
    """Open a file with the system's allocator: others reserve more memory than they use, which counts against the limit."""
    pool = pa.default_memory_pool()
    pa.allocate_buffer(1)  # it allocates metadata anyway: let it reserve memory before the limit is set
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        with _memory_limit():
            file = pq.ParquetFile(path, **THRIFT)
            texts = [leaf.path for leaf in _leaves(file) if leaf.physical_type == "BYTE_ARRAY" and "." not in leaf.path]
            return pq.ParquetFile(path, read_dictionary=texts, **THRIFT)
    finally:
        pa.set_memory_pool(pool)


def _leaves(file: pq.ParquetFile) -> Iterator[pq.ColumnSchema]:
    return map(file.schema.column, range(len(file.schema)))


def _batch_rows(file: pq.ParquetFile, max_bytes: int) -> int:
    """How many rows to read at a time, by the metadata; raises `StepFailure` DataTooLarge."""
    metadata = file.metadata
    if metadata.num_columns > MOST_COLUMNS:
        message = f"The file has {metadata.num_columns:,} columns; at most {MOST_COLUMNS:,} are read."
        raise StepFailure(Reason.DATA_INVALID, message)
    widths = [max(8, leaf.length) if leaf.physical_type == "FIXED_LEN_BYTE_ARRAY" else 8 for leaf in _leaves(file)]
    packed = values = 0
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        packed += group.total_byte_size
        for at, width in enumerate(widths):
            values += max(group.num_rows, group.column(at).num_values) * width
    if packed > max_bytes or values > GROWTH * max_bytes:
        raise _too_large(max_bytes)
    return max(1, min(BATCH_ROWS, BATCH_BYTES * int(metadata.num_rows) // max(1, values)))


def _too_large(max_bytes: int) -> StepFailure:
    return StepFailure(
        Reason.DATA_TOO_LARGE,
        f"The parquet file unpacks to too much: more than {max_bytes:,} bytes, the limit on this platform, or to a table of more "
        f"than {GROWTH} times that.",
    )


@contextlib.contextmanager
def _memory_limit() -> Iterator[None]:
    """Let the process take no more than so much memory beside what it has: MemoryError else."""
    before, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    limits = [used + READING_BYTES, *(limit for limit in (before, hard) if limit != resource.RLIM_INFINITY)]
    resource.setrlimit(resource.RLIMIT_AS, (min(limits), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (before, hard))


def _batches(file: pq.ParquetFile, rows: int, max_bytes: int) -> Iterator[pa.RecordBatch]:
    """All rows, with texts for the references to them, in batches of bounded size."""
    total, batches = 0, file.iter_batches(batch_size=rows, use_threads=False)
    while True:
        try:
            with _memory_limit():
                batch = next(batches, None)
        except MemoryError:
            raise _too_large(max_bytes) from None
        except (pa.ArrowException, OSError):
            message = "The file is damaged, and cannot be read as parquet to its end."
            raise StepFailure(Reason.DATA_NOT_PARQUET, message) from None
        if batch is None:
            return
        for part in _parts(batch):
            total += part.nbytes
            if total > GROWTH * max_bytes:
                raise _too_large(max_bytes)
            yield part


def _parts(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """A batch with its texts in place, in parts of bounded size."""
    coded = [at for at, column in enumerate(batch.columns) if pa.types.is_dictionary(column.type)]
    lengths = np.zeros(batch.num_rows, dtype=np.int64)
    for at in coded:
        sizes = pc.binary_length(batch.column(at).dictionary).cast(pa.int64())
        lengths += pc.fill_null(sizes.take(batch.column(at).indices), 0).to_numpy(zero_copy_only=False)
    if len(lengths) and lengths.max() > VALUE_BYTES:
        message = f"A row of the file has texts of {lengths.max():,} bytes; at most {VALUE_BYTES:,} are read."
        raise StepFailure(Reason.DATA_TOO_LARGE, message)
    begin, ends = 0, np.cumsum(lengths)
    while begin < batch.num_rows:
        before = ends[begin - 1] if begin else 0
        end = max(begin + 1, int(np.searchsorted(ends, before + BATCH_BYTES, side="right")))
        part = batch.slice(begin, end - begin)
        columns = [column.cast(column.type.value_type) if at in coded else column for at, column in enumerate(part.columns)]
        yield pa.RecordBatch.from_arrays(columns, names=batch.schema.names)
        begin = end


def _is_numeric(kind: pa.DataType) -> bool:
    return any(test(kind) for test in (pa.types.is_floating, pa.types.is_integer, pa.types.is_boolean, pa.types.is_decimal))


def _explain(problem: Problem) -> str:
    what = "has no value" if problem.reason is Rejection.MISSING_VALUE else "is not finite"
    return f"Row {problem.row:,}, column {problem.column!r} {what}."


def _chunks(batches: Iterator[pa.RecordBatch], columns: list[Column], wanted: Wanted) -> Iterator[Chunk]:
    first = 1
    for batch in batches:
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
