"""How a file is read: the fields of `spec.data` or `spec.input`, typed and checked."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from winecontract.reasons import Reason
from winesteps.failures import StepFailure

ColumnRef = str | int
"""A column by its name, or by its position from 1."""
DECIMALS = (".", ",")


@dataclass(frozen=True)
class Columns:
    """Columns to leave out, or the only ones to read. At most one of the two is given."""

    drop: tuple[ColumnRef, ...] = ()
    only: tuple[ColumnRef, ...] = ()

    @classmethod
    def of(cls, value: Mapping[str, Any], section: str = "data") -> "Columns":
        """Read a pipeline's parameter, such as {"drop": ["Id", 1]}; raises `StepFailure` ParametersInvalid."""
        if unknown := set(value) - {"drop", "only"}:
            raise StepFailure(Reason.PARAMETERS_INVALID, f"{section}.columns has no field {sorted(unknown)[0][:40]!r}.")
        lists = {
            name: tuple(_ref(item, f"{section}.columns.{name}") for item in value.get(name) or ()) for name in ("drop", "only")
        }
        if lists["drop"] and lists["only"]:
            raise StepFailure(Reason.PARAMETERS_INVALID, f"Set {section}.columns.drop or {section}.columns.only, not both.")
        return cls(**lists)


def _ref(item: object, where: str) -> ColumnRef:
    if isinstance(item, str) and item.strip():
        return item
    if isinstance(item, int | float) and not isinstance(item, bool) and item >= 1 and float(item).is_integer():
        return int(item)  # Kubeflow hands whole numbers on as floats
    raise StepFailure(Reason.PARAMETERS_INVALID, f"{where} takes names and positions from 1, not {item!r:.40}.")


@dataclass(frozen=True)
class Options:
    """How to read a CSV file.

    Args:
        separator: the character between two fields.
        decimal: the decimal separator, "." or ",".
        columns: columns to leave out, or the only ones to read.
        max_bytes: largest size of the file when it is unpacked.
        section: the part of the spec that messages refer to, `data` or `input`.

    """

    separator: str = ";"
    decimal: str = "."
    columns: Columns = field(default_factory=Columns)
    max_bytes: int = 1024**3
    section: str = "data"

    def check(self) -> None:
        """Raise `StepFailure` ParametersInvalid where an option has an impossible value."""
        if len(self.separator) != 1 or self.separator in '"\r\n\0':
            message = f"{self.section}.separator must be one character, no quote, not {self.separator[:40]!r}."
            raise StepFailure(Reason.PARAMETERS_INVALID, message)
        if self.decimal not in DECIMALS:
            raise StepFailure(Reason.PARAMETERS_INVALID, f'{self.section}.decimal must be "." or ",", not {self.decimal[:40]!r}.')
