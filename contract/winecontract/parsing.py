"""JSON of other systems, parsed under guard: of an endpoint, of Kubeflow Pipelines, MLflow, the API server, in tags and messages.

`json.loads` alone raises RecursionError, and takes NaN, the second of two equal keys and halves of surrogate pairs. So it is not
used elsewhere in the operator: `make lint` refuses it (TID251).
"""

import contextlib
import json
import math
import re
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

Keep = Callable[[dict[str, Any]], dict[str, Any]]
DEPTH_LIMIT = 128  # levels of lists and objects; the deepest object of Kubernetes' own, a CRD, has some 60
DIGITS_LIMIT = 64  # of one number
VALUES_LIMIT = 10_000_000
SIZE_LIMIT = 64 << 20  # bytes or characters; who reads a body limits it further


class UnreadableError(ValueError):
    """A text is not JSON that the operator takes; the message says what is wrong, and repeats nothing of the text."""


class TooDeepError(UnreadableError):
    """A text is nested deeper than the operator goes."""

    def __init__(self) -> None:
        super().__init__(f"it is nested deeper than {DEPTH_LIMIT} levels")


def parse_json(
    text: str | bytes | bytearray,
    limit: int = SIZE_LIMIT,
    keep: Keep | None = None,
    most: int = VALUES_LIMIT,
    prune: bool = False,
) -> Any:
    """Parse JSON of another system.

    Args:
        text: bytes must be UTF-8.
        limit: bytes or characters that are taken.
        keep: called with each object, the innermost first; what it returns takes the object's place.
        most: values that are taken, after `keep`; an empty list takes twenty times as much memory as text.
        prune: leave out what is nested too deep, rather than refuse the whole: of a list, one object may be such.

    Raises:
        UnreadableError: it is too long, no JSON, nested too deep, or has numbers, keys or characters that JSON does not allow.

    """
    _check_size(text, limit)
    with _guarded():
        text = text if isinstance(text, str) else text.decode("utf-8-sig")
        try:
            value = _decoder(keep).decode(text)
            _check(value, most)
        except (RecursionError, TooDeepError):
            if not prune:
                raise
            value = _decoder(keep).decode(_pruned(text))
            _check(value, most)
    return value


def parse_object(
    text: str | bytes | bytearray,
    limit: int = SIZE_LIMIT,
    keep: Keep | None = None,
    most: int = VALUES_LIMIT,
    prune: bool = False,
) -> dict[str, Any]:
    """Parse a JSON object of another system, see `parse_json`. Raises UnreadableError."""
    return _as_object(parse_json(text, limit, keep, most, prune))


def parse_first_object(text: str, begin: int, limit: int = SIZE_LIMIT) -> dict[str, Any]:
    """Parse the JSON object that begins at a position, whatever follows it. Raises UnreadableError."""
    _check_size(text, limit)
    with _guarded():
        value, _ = _DECODER.raw_decode(text, begin)
        _check(value)
    return _as_object(value)


def is_finite_number(value: object) -> bool:
    """Tell whether a parsed value is a number that a float can hold."""
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # a whole number beyond any float
        return False


_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*+"?|[\[\]{}]', re.DOTALL)


def _pruned(text: str) -> str:
    """Write null in the place of what is nested too deep."""
    parts, depth, begin = [], 0, 0
    for found in _TOKEN.finditer(text):
        if found[0] in ("[", "{"):
            depth += 1
            if depth == DEPTH_LIMIT + 1:
                parts += [text[begin : found.start()], "null"]
        elif found[0] in ("]", "}"):
            if depth == DEPTH_LIMIT + 1:
                begin = found.end()
            depth -= 1
    return "".join((*parts, text[begin:] if depth <= DEPTH_LIMIT else ""))


@contextlib.contextmanager
def _guarded() -> Iterator[None]:
    try:
        yield
    except UnreadableError:
        raise
    except UnicodeDecodeError:
        raise UnreadableError("it is not UTF-8") from None
    except RecursionError:
        raise TooDeepError from None
    except ValueError:
        raise UnreadableError("it is not JSON") from None


def _check_size(text: str | bytes | bytearray, limit: int) -> None:
    if len(text) > limit:
        raise UnreadableError(f"it is longer than {limit} bytes")


def _as_object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UnreadableError("it is JSON, but not an object")
    return value


def _integer(digits: str) -> int:
    if len(digits) > DIGITS_LIMIT:
        raise UnreadableError(f"it has a number of more than {DIGITS_LIMIT} digits")
    return int(digits)


def _number(digits: str) -> float:
    value = float(digits) if len(digits) <= DIGITS_LIMIT else math.nan
    if not math.isfinite(value):
        raise UnreadableError("it has a number that is too long or too large")
    return value


def _constant(name: str) -> NoReturn:
    raise UnreadableError(f"it has {name}, which is no number of JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise UnreadableError("it has a key twice in one object")
    return found


def _decoder(keep: Keep | None) -> json.JSONDecoder:
    if keep is None:
        return _DECODER
    return json.JSONDecoder(object_pairs_hook=lambda pairs: keep(_object(pairs)), **_NUMBERS)


_NUMBERS: dict[str, Any] = {"parse_int": _integer, "parse_float": _number, "parse_constant": _constant}
_DECODER = json.JSONDecoder(object_pairs_hook=_object, **_NUMBERS)


def _check(value: Any, most: int = VALUES_LIMIT) -> None:
    """Refuse what is nested too deep, has too many values or halves of surrogate pairs: these cannot be written again.

    Not recursive.
    """
    level: list[Any] = [value]
    found = 0
    for _ in range(DEPTH_LIMIT + 1):
        inner: list[Any] = []
        found += len(level)
        if found > most:
            raise UnreadableError(f"it has more than {most} values")
        for item in level:
            if type(item) is str:
                _check_text(item)
            elif type(item) is dict:
                for key in item:
                    _check_text(key)
                inner += item.values()
            elif type(item) is list:
                inner += item
        if not inner:
            return
        level = inner
    raise TooDeepError


def _check_text(text: str) -> None:
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise UnreadableError("it has half of a surrogate pair")
