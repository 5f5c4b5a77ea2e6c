"""Says what is wrong with a table and what to do. Pure.

Advice is given only where it was checked on the beginning of the file: a separator that really parts it, a decimal comma that
makes its fields numbers, a header that really stands further down.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from winecolumns import lower_snake
from winecontract.reasons import Reason
from winesteps.failures import StepFailure
from winesteps.reading import records
from winesteps.reading.formats import quote
from winesteps.reading.header import NAME_SHOWN, Wanted, known, named
from winesteps.reading.options import Options
from winesteps.reading.source import Problem
from winesteps.reading.values import Rejection, is_missing, is_number

SEPARATORS = {
    ",": "a comma",
    ";": "a semicolon",
    "\t": "a tab",
    "|": "a bar",
    ":": "a colon",
    "¦": "a broken bar",
    "^": "a caret",
    "~": "a tilde",
    " ": "a space",
}
SAMPLE_RECORDS = 200
TITLE_LINES = 10
"""A header is looked for below so many lines of title."""
VALUE_SHOWN = 40
DROP_ROWS = "dropRows"


@dataclass(frozen=True)
class Sample:
    """The first records of a file, as text, and the line that each begins on. `is_whole`: there are no more."""

    texts: list[str]
    lines: list[int]
    is_whole: bool

    def rows(self, separator: str, start: int = 0) -> list[list[str]]:
        """Their fields, from the record `start` on."""
        return [records.fields(text, separator) for text in self.texts[start:]]


def missing_columns(sample: Sample, options: Options, wanted: Wanted, failure: StepFailure) -> StepFailure:
    """The cause of a header without the wanted columns; `failure` itself where none is found."""
    titles = sample.rows(options.separator)[0]
    if set(wanted.names) <= {lower_snake(title) for title in titles}:
        return failure
    others = [key for key in SEPARATORS if key != options.separator]
    for key in others:
        if _is_table(rows := sample.rows(key)) and _has(rows[0], wanted):
            return _other_separator(key, titles, options, wanted)
    for key in (options.separator, *others):
        for start in range(1, min(TITLE_LINES, len(sample.texts))):
            if _is_table(rows := sample.rows(key, start)) and _has(rows[0], wanted):
                return _title(sample, start, key, options)
    for key in (options.separator, *others):
        if _is_table(rows := sample.rows(key)) and _is_values(rows[0]):
            return _no_header(sample, key, options)
    for key in others:
        if len(titles) == 1 and _is_table(rows := sample.rows(key)) and all(map(lower_snake, rows[0])):
            parted = f"The file is separated by {_separator(key)}, and then {known(rows[0])}: {_set(options, key)}"
            target = " and data.target" if options.section == "data" else ""
            return StepFailure(Reason.COLUMN_MISSING, f"There is no column {_wanted(wanted)}. {parted}{target}.")
    if len(sample.texts) == 1 and sample.is_whole:
        line = quote(sample.texts[0])
        return StepFailure(
            Reason.DATA_NOT_CSV, f"The file has a single line, {line}. A CSV file with a header and rows is needed."
        )
    return failure


def bad_row(problem: Problem, sample: Sample, options: Options, width: int, *, may_drop: bool) -> str:
    """What is wrong with a row, in a sentence, and advice.

    Args:
        problem: the row and the field.
        sample: the beginning of the file, its first record the header.
        options: how the file is read.
        width: how many columns the header has.
        may_drop: whether rows with missing values can be left out by a field of the spec.

    """
    section, start = options.section, f"Line {problem.line:,}"
    if problem.reason is Rejection.UNREADABLE:
        if problem.byte is not None:
            return f"{start} is not UTF-8: it has the byte 0x{problem.byte:02x}. Save the file as UTF-8."
        return f"{start} cannot be read as CSV: a quote opens and does not close."
    if problem.reason is Rejection.FIELD_COUNT:
        has = f"{problem.fields} {'value' if problem.fields == 1 else 'values'}"
        return f"{start} has {has}, the header has {width} columns.{_field_count(sample, options, width)}"
    where, value = f"{start}, column {problem.column!r}", quote(problem.value, VALUE_SHOWN)
    if problem.reason is Rejection.MISSING_VALUE:
        what = f"is {value}, which stands for a missing value" if problem.value.strip() else "has no value"
        advice = f"Correct the row, or set {section}.missing to {DROP_ROWS}, which leaves such rows out."
        return f"{where} {what}. {advice if may_drop else 'Correct or remove the row.'}"
    point, other = ("point", ",") if options.decimal == "." else ("comma", ".")
    if problem.reason is Rejection.NOT_A_NUMBER and is_number(problem.value, other):
        written = f"{where} is {value}, with a decimal {'comma' if other == ',' else 'point'}; a decimal {point} is needed."
        agrees = _is_written_with(sample, options, other)
        return f"{written} Set {section}.decimal to {yaml(other)}." if agrees else f"{written} Correct or remove the row."
    if problem.reason is Rejection.NOT_A_NUMBER and (place := _text_column(problem, sample, options)) is not None:
        drop = f"[{yaml(problem.title) if problem.title.isprintable() and len(problem.title) <= NAME_SHOWN else place + 1}]"
        return f"{where} is {value}, not a number, nor is any of the column. Leave it out with {section}.columns.drop: {drop}."
    return f"{where} is {value}, not a finite number. Correct or remove the row."


def _other_separator(key: str, titles: Sequence[str], options: Options, wanted: Wanted) -> StepFailure:
    with_this = "the header is one column" if len(titles) == 1 else f"the header has {len(titles)} columns"
    return StepFailure(
        Reason.COLUMN_MISSING,
        f"There is no column {_wanted(wanted)}{wanted.why}: with the separator {yaml(options.separator)} {with_this}. "
        f"The file is separated by {_separator(key)}: {_set(options, key)}.",
    )


def _title(sample: Sample, start: int, key: str, options: Options) -> StepFailure:
    above, line = quote(sample.texts[0].rstrip(f"{options.separator}{key} ")), sample.lines[start]
    what = (
        f"Line {sample.lines[0]}, {above}, is a title" if start == 1 else f"The first {start} lines, from {above} on, are a title"
    )
    also = f" Separated by {_separator(key)}, too: {_set(options, key)}." if key != options.separator else ""
    advice = f"Remove what is above line {line}."
    return StepFailure(Reason.DATA_INVALID, f"{what}; the names of the columns are in line {line}. {advice}{also}")


def _no_header(sample: Sample, key: str, options: Options) -> StepFailure:
    also = f" The values are separated by {_separator(key)}: {_set(options, key)}, too." if key != options.separator else ""
    line = f"line {sample.lines[0]}, {quote(sample.texts[0], VALUE_SHOWN)}, has values"
    return StepFailure(
        Reason.DATA_INVALID, f"The file has no header: {line}. Put a line with the names of the columns above it.{also}"
    )


def _wanted(wanted: Wanted) -> str:
    return named([wanted.shown] if wanted.shown else wanted.names[:10])


def _separator(key: str) -> str:
    return f"{SEPARATORS[key]} ({yaml(key)})"


def _set(options: Options, key: str) -> str:
    return f"set {options.section}.separator to {yaml(key)}"


def yaml(text: str) -> str:
    """A string as it is written in YAML."""
    return json.dumps(text, ensure_ascii=False)


def _has(titles: Sequence[str], wanted: Wanted) -> bool:
    names = [lower_snake(title) for title in titles]
    return set(wanted.names) <= set(names)


def _is_table(rows: Sequence[Sequence[str]]) -> bool:
    """Whether rows have as many fields as the first, more than one, and numbers among them."""
    if len(rows) < 2 or len(rows[0]) < 2 or any(len(row) != len(rows[0]) for row in rows):
        return False
    return any(is_number(field, decimal) for decimal in (".", ",") for row in rows[1:] for field in row)


def _is_values(row: Sequence[str]) -> bool:
    """Whether these are values rather than names: most of them are numbers."""
    numbers = sum(is_number(field) or is_number(field, ",") for field in row)
    blank = sum(is_missing(field) for field in row)
    return numbers >= 1 and 2 * numbers >= len(row) - blank


def _field_count(sample: Sample, options: Options, width: int) -> str:
    """Advice where every row has one value more, as R writes; or where the header's separator is not the rows'."""
    rows = sample.rows(options.separator)[1:]
    if rows and all(len(row) == width + 1 for row in rows):
        advice = "Write it with col.names = NA, or with row.names = FALSE."
        return f" So has every line: the header lacks a name, as R writes it. {advice}"
    if rows and options.decimal == "." and options.separator == "," and all(len(row) > width for row in rows):
        return " Are there decimal commas? Then the file needs another separator."
    return ""


def _is_written_with(sample: Sample, options: Options, decimal: str) -> bool:
    """Whether fields are numbers with this decimal separator, and none needs the other."""
    present = replace(options, decimal=decimal).decimal
    listed = [field for row in sample.rows(options.separator)[1:] for field in row]
    theirs = sum(is_number(field, present) and not is_number(field, options.decimal) for field in listed)
    ours = sum(is_number(field, options.decimal) and not is_number(field, present) for field in listed)
    return theirs > 0 and ours == 0


def _text_column(problem: Problem, sample: Sample, options: Options) -> int | None:
    """The position from 0 of a row's column where no field of the sample is a number."""
    titles, *rows = sample.rows(options.separator)
    places = [at for at, title in enumerate(titles) if title.strip() == problem.title]
    if not places or not rows:
        return None
    listed = [row[places[0]] for row in rows if len(row) == len(titles) and not is_missing(row[places[0]])]
    found = any(is_number(field, decimal) for field in listed for decimal in (".", ","))
    return None if found or len(listed) < 2 else places[0]
