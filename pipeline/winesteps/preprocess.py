"""The preprocess step: check the downloaded file and write it as a parquet table of finite numbers.

`reading` reads the file; this module checks that a model can be trained on the table. A summary of the rows and columns that were
read or dropped is in the metadata of the parquet file, for the train step.
"""

import json
import logging
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from winecolumns import lower_snake
from winecontract.reasons import Reason
from winesteps import numbering
from winesteps.failures import StepFailure
from winesteps.reading import Chunk, Columns, Options, Problem, Rejection, Source, Wanted, open_csv
from winesteps.reading.formats import plain, quote

MIN_ROWS = 20
"""Minimum number of rows: metrics of a part of fewer rows mean nothing."""
REFUSE, DROP_ROWS = "refuse", "dropRows"
"""Policies for rows with missing values."""
PARAM_LENGTH = 250
MOST_NAMES, NAME_LENGTH = 16, 48
MOST_WARNINGS, WARNING_LENGTH = 5, 300
METADATA = b"winepipelines.io/data"
"""Key of the summary in the parquet file's metadata."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Summary:
    """Summary of the data: rows used, rows dropped for a missing value, columns dropped, encoding and compression, warnings."""

    rows: int = 0
    rows_dropped: int = 0
    columns_dropped: list[str] = field(default_factory=list)
    format: str = ""
    warnings: list[str] = field(default_factory=list)

    @property
    def params(self) -> dict[str, str]:
        """Parameters for MLflow about the data, if anything differs from a plain UTF-8 file."""
        listed = plain(", ".join(self.columns_dropped), PARAM_LENGTH)
        values = {
            "rows_dropped": str(self.rows_dropped) if self.rows_dropped else "",
            "columns_dropped": listed,
            "data_format": "" if self.format == "utf-8" else self.format,
        }
        return {name: value for name, value in values.items() if value}

    def to_json(self) -> str:
        """Serialize it for the operator, which limits the number and length of names and warnings."""
        content = {
            "rows": self.rows,
            "rowsDropped": self.rows_dropped,
            "columnsDropped": [plain(name, NAME_LENGTH) for name in self.columns_dropped[:MOST_NAMES]],
            "format": self.format,
            "warnings": [plain(warning, WARNING_LENGTH) for warning in self.warnings[:MOST_WARNINGS]],
        }
        return json.dumps(content, separators=(",", ":"), ensure_ascii=False)


@dataclass(frozen=True)
class Preprocessed:
    """The result: number of rows, features in the file's order, the target under its new name, and the summary."""

    rows: int
    features: list[str]
    target: str
    summary: Summary


def preprocess(
    csv_file: Path,
    table_file: Path,
    *,
    separator: str = ";",
    target: str = "quality",
    decimal: str = ".",
    missing: str = REFUSE,
    columns: Any = None,
    max_bytes: int = 1024**3,
) -> Preprocessed:
    """Check the CSV file and write it as parquet: float64 columns under lower_snake names, in the file's order.

    Args:
        csv_file: a CSV file with a header line, compressed or not; see `reading`.
        table_file: the parquet file to write.
        separator: the character between two values.
        target: the column to predict, as the header names it or in lower_snake form.
        decimal: the decimal separator, "." or ",".
        missing: `refuse` or `dropRows`, for rows without a value in one of the columns.
        columns: `drop` or `only`, with names and positions of columns.
        max_bytes: maximum size of the unpacked file.

    Raises:
        StepFailure: ParametersInvalid, DataNotCsv, DataTooLarge, ColumnMissing, DataInvalid or TooFewRows.

    """
    if missing not in {REFUSE, DROP_ROWS}:
        raise StepFailure(Reason.PARAMETERS_INVALID, f"data.missing is {missing[:40]!r}. Set it to {REFUSE} or {DROP_ROWS}.")
    options = Options(separator, decimal, Columns.of(columns or {}), max_bytes)
    target_column = lower_snake(target)
    with tempfile.TemporaryDirectory() as scratch:
        source = open_csv(csv_file, options, Wanted((target_column,), shown=target), Path(scratch))
        if len(source.columns) < 2:
            raise StepFailure(Reason.DATA_INVALID, f"The file has no column besides the target {target!r}. Add features.")
        table, dropped = _read(source, missing)
    if table.num_rows < MIN_ROWS:
        left_out = f" ({dropped:,} with missing values were dropped)" if dropped else ""
        message = f"The file has {table.num_rows} rows of data{left_out}; at least {MIN_ROWS} are needed."
        raise StepFailure(Reason.TOO_FEW_ROWS, message)
    warnings = _check_variation(table, target_column)
    warnings += numbering.warnings(table, dict(zip(source.columns, source.titles, strict=True)), target_column)
    summary = Summary(table.num_rows, dropped, source.dropped, source.written, warnings)
    for warning in warnings:
        log.warning("%s", warning)
    pq.write_table(table.replace_schema_metadata({METADATA: json.dumps(asdict(summary))}), table_file)
    features = [name for name in source.columns if name != target_column]
    log.info("wrote table rows=%d target=%s features=%s", table.num_rows, target_column, ",".join(features))
    return Preprocessed(table.num_rows, features, target_column, summary)


def summary_of(table_file: Path) -> Summary:
    """Read the summary from the metadata of the parquet file."""
    text = (pq.read_schema(table_file).metadata or {}).get(METADATA)
    return Summary(**json.loads(text)) if text else Summary(rows=pq.read_metadata(table_file).num_rows)


def _read(source: Source, missing: str) -> tuple[pa.Table, int]:
    """Read all rows; count those dropped for a missing value. Raise `StepFailure` DataInvalid for the first bad row."""
    tables: list[pa.Table] = []
    dropped = 0
    for chunk in source.chunks():
        if bad := _bad(chunk, missing):
            raise StepFailure(Reason.DATA_INVALID, source.explain(min(bad, key=lambda problem: problem.line)))
        dropped += sum(map(len, chunk.rejected.values()))
        tables.append(chunk.table)
    empty = pa.schema([(name, pa.float64()) for name in source.columns]).empty_table()
    return pa.concat_tables([empty, *tables]).combine_chunks(), dropped


def _bad(chunk: Chunk, missing: str) -> Sequence[Problem]:
    accepted = {Rejection.MISSING_VALUE} if missing == DROP_ROWS else set()
    return [problem for problem in chunk.problems if problem.reason not in accepted]


def _check_variation(table: pa.Table, target: str) -> list[str]:
    """Refuse a table on which no model can be trained; warn about constant columns."""
    constant = []
    for name in table.column_names:
        bounds = pc.min_max(table[name]).as_py()
        if bounds["min"] == bounds["max"]:
            constant.append(name)
    if target in constant:
        raise StepFailure(
            Reason.DATA_INVALID, f"Every row has the same {target!r}, {table[target][0].as_py():g}. Add rows with other values."
        )
    if len(constant) == table.num_columns - 1:
        raise StepFailure(Reason.DATA_INVALID, "Every column besides the target has only one value. Add features that vary.")
    if not constant:
        return []
    listed = ", ".join(quote(name, 40) for name in constant[:10])
    return [f"Columns with only one value, which the model cannot use: {listed}{', …' * (len(constant) > 10)}."]
