"""What counts as a number, and as a missing value."""

import math
import re
from enum import StrEnum

NUMBER_FORMS = {
    point: re.compile(rf"[ \t]*[+-]?(?:[0-9]+(?:{re.escape(point)}[0-9]*)?|{re.escape(point)}[0-9]+)(?:[eE][+-]?[0-9]+)?[ \t]*")
    for point in (".", ",")
}
"""By decimal separator: neither nan nor inf, no thousands separator."""
MISSING = frozenset({"", "na", "n/a", "#n/a", "nan", "null", "none", "?", "\\n"})
"""How a missing value is written, in lower case: as Excel, R, pandas, SQL and the UCI repository do."""
INFINITE = frozenset({"inf", "infinity"})


class Rejection(StrEnum):
    """Why a row is not used. The values appear in reports and in the resource's status: do not rename them."""

    MISSING_VALUE = "MissingValue"
    NOT_A_NUMBER = "NotANumber"
    NOT_FINITE = "NotFinite"
    FIELD_COUNT = "FieldCount"
    UNREADABLE = "Unreadable"
    PREDICTION_NOT_FINITE = "PredictionNotFinite"


def is_missing(text: str) -> bool:
    """Whether a field stands for a missing value."""
    return text.strip().lower() in MISSING


def is_number(text: str, decimal: str = ".") -> bool:
    """Whether a field is a number that is written with this decimal separator."""
    return NUMBER_FORMS[decimal].fullmatch(text) is not None


def number(text: str, decimal: str) -> float | Rejection:
    """Read a finite number, or say why the field is none."""
    if NUMBER_FORMS[decimal].fullmatch(text):
        value = float(text.replace(",", ".")) if decimal == "," else float(text)
        return value if math.isfinite(value) else Rejection.NOT_FINITE
    if is_missing(text):
        return Rejection.MISSING_VALUE
    return Rejection.NOT_FINITE if text.strip().lower().lstrip("+-") in INFINITE else Rejection.NOT_A_NUMBER
