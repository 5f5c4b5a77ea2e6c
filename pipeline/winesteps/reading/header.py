"""Chooses the columns of a table from its header. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from winecolumns import lower_snake
from winecontract.reasons import Reason
from winesteps.failures import StepFailure
from winesteps.reading.formats import quote
from winesteps.reading.options import ColumnRef, Options

MOST_COLUMNS, TITLE_LENGTH = 5_000, 1_000
"""Columns of a file, and characters of a name, that are read."""
NAMES_SHOWN = 30
NAME_SHOWN = 40
"""Names, and characters of each, that a message quotes at most."""


@dataclass(frozen=True)
class Wanted:
    """Columns that must be there, by lower_snake name, and who needs them: "" or ", which the model needs".

    `numeric` are the columns that must hold numbers; None: all.
    """

    names: tuple[str, ...]
    why: str = ""
    numeric: frozenset[str] | None = None
    shown: str = ""

    def is_numeric(self, name: str) -> bool:
        """Whether a column must hold numbers."""
        return self.numeric is None or name in self.numeric


@dataclass(frozen=True)
class Column:
    """A column that is read: its position from 0, its lower_snake name, and its name in the header."""

    position: int
    name: str
    title: str


def choose(titles: Sequence[str], options: Options, wanted: Wanted) -> list[Column]:
    """The columns to read, in the file's order.

    Raises:
        StepFailure: ColumnMissing, or DataInvalid for a column without a name or two of one name.

    """
    if len(titles) > MOST_COLUMNS:
        raise StepFailure(Reason.DATA_INVALID, f"The file has {len(titles):,} columns; at most {MOST_COLUMNS:,} are read.")
    if long := [at for at, title in enumerate(titles) if len(title) > TITLE_LENGTH]:
        message = f"The name of column {long[0] + 1} has {len(titles[long[0]]):,} characters; at most {TITLE_LENGTH:,} are read."
        raise StepFailure(Reason.DATA_INVALID, message)
    names = [lower_snake(title) for title in titles]
    chosen = _selected(titles, names, options, wanted)
    if nameless := [position for position in chosen if not names[position]]:
        raise _nameless(nameless, options)
    first: dict[str, int] = {}
    for position in chosen:
        if (other := first.setdefault(names[position], position)) != position:
            raise StepFailure(
                Reason.DATA_INVALID,
                f"Two columns would be named {names[position]!r:.60}: {quote(titles[other], NAME_SHOWN)} and "
                f"{quote(titles[position], NAME_SHOWN)}. Rename one of them, or leave one out with "
                f"{options.section}.columns.drop: [{position + 1}].",
            )
    if missing := [name for name in wanted.names if name not in first]:
        raise StepFailure(Reason.COLUMN_MISSING, f"There is no column {named(missing[:10])}{wanted.why}; {known(titles)}.")
    return [Column(position, names[position], titles[position]) for position in chosen]


def left_out(titles: Sequence[str], columns: Sequence[Column]) -> list[str]:
    """The names of the columns that are not read; a position for one without a name."""
    kept = {column.position for column in columns}
    return [title or f"column {at + 1}" for at, title in enumerate(titles) if at not in kept]


def known(titles: Sequence[str]) -> str:
    """What the header has, in words."""
    shown = ", ".join(lower_snake(title)[:NAME_SHOWN] or "(no name)" for title in titles[:NAMES_SHOWN])
    return f"the header has {shown}{', …' * (len(titles) > NAMES_SHOWN)}"


def named(names: Sequence[str]) -> str:
    """Names in quotes, separated by commas."""
    return ", ".join(quote(name, NAME_SHOWN) for name in names)


def _selected(titles: Sequence[str], names: Sequence[str], options: Options, wanted: Wanted) -> list[int]:
    """Positions from 0 of the columns that are neither dropped nor left out; the wanted ones always are among them."""
    drop, only = options.columns.drop, options.columns.only
    if only:
        kept = _positions(only, titles, names, f"{options.section}.columns.only")
        listed = {names[position] for position in kept}
        return [at for at in range(len(titles)) if at in kept or (names[at] in wanted.names and names[at] not in listed)]
    dropped = _positions(drop, titles, names, f"{options.section}.columns.drop")
    chosen = [position for position in range(len(titles)) if position not in dropped]
    if lost := {names[at] for at in dropped} & set(wanted.names) - {names[at] for at in chosen}:
        needed = wanted.why or ", which is the column to predict"
        message = f"{options.section}.columns.drop leaves out {named(sorted(lost)[:10])}{needed}."
        raise StepFailure(Reason.COLUMN_MISSING, message)
    return chosen


def _positions(refs: Sequence[ColumnRef], titles: Sequence[str], names: Sequence[str], where: str) -> set[int]:
    found: set[int] = set()
    for ref in refs:
        if isinstance(ref, int):
            if ref > len(titles):
                message = f"{where} lists column {ref}, and the file has {len(titles)}; {known(titles)}."
                raise StepFailure(Reason.COLUMN_MISSING, message)
            found.add(ref - 1)
            continue
        wanted = lower_snake(ref)
        exact = {at for at, title in enumerate(titles) if title == ref.strip()}
        matches = exact or {at for at, name in enumerate(names) if name and name == wanted}
        if not matches:
            message = f"{where} lists {quote(ref, NAME_SHOWN)}, and there is no such column; {known(titles)}."
            raise StepFailure(Reason.COLUMN_MISSING, message)
        found |= matches
    return found


def _nameless(positions: Sequence[int], options: Options) -> StepFailure:
    places = [position + 1 for position in positions[:NAMES_SHOWN]]
    if len(places) == 1:
        what, it = f"Column {places[0]} of the header has no name", "it"
    else:
        what, it = f"Columns {', '.join(map(str, places[:-1]))} and {places[-1]} of the header have no names", "them"
    return StepFailure(
        Reason.DATA_INVALID, f"{what}. Leave {it} out with {options.section}.columns.drop: {places}, or name {it} in the file."
    )
