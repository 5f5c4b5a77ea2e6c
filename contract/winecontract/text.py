"""Text of other systems, made fit to be shown: bounded, on one line, without characters that are not seen.

Whoever writes to a namespace, to MLflow or to the data writes such text: error messages, termination messages, names, tags. It
is cut before anything else is done to it, so that no pattern meets more than a few kilobytes. In the operator, `PlatformError`,
the values in `resource.observed`, each part of a status, Events and log lines clean their own text: no adapter can forget it.
"""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

TEXT_LIMIT = 4096  # characters
DEPTH_LIMIT = 32  # levels of lists and mappings in a status
_ESCAPE_SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]{0,64}[ -/]{0,8}[@-~]|(?:\x1b\]|\x9d)[^\x07\x1b]{0,256}(?:\x07|\x1b\\)|\x1b[ -/]{0,8}[0-~]"
)
_FILLERS = frozenset("\u115f\u1160\u3164\uffa0\u2800\u034f")  # letters and marks that are drawn as nothing
_NOT_SHOWN = {"Cf": "", "Cs": "\ufffd"}  # formats (zero width, direction), halves of a surrogate pair; all others: a space


def clean(text: object, limit: int = TEXT_LIMIT) -> str:
    """Make one line of at most `limit` printable characters.

    Control characters and separators become spaces. Escape sequences of terminals and characters that are not seen or that
    change the direction of text are removed. What was cut ends in an ellipsis.
    """
    if not isinstance(text, str):
        text = _text_of(text)
    shortened = text[:limit]
    if not shortened.isprintable() or not (shortened.isascii() or _FILLERS.isdisjoint(shortened)):
        shortened = "".join(map(_shown, _ESCAPE_SEQUENCE.sub("", shortened)))
    if len(text) > limit:
        shortened = f"{shortened[: max(limit - 1, 0)]}…"[:limit]
    return shortened


def cleaned(value: Any, kept: frozenset[str] = frozenset(), depth: int = DEPTH_LIMIT) -> Any:
    """Clean every text in lists and mappings; what is nested deeper than `depth` levels is left out.

    Args:
        value: as JSON has it. Other objects, such as members of an enumeration, stay as they are.
        kept: keys of mappings whose values stay as they are.
        depth: levels that are kept.

    """
    if type(value) is str:
        return clean(value)
    if isinstance(value, Mapping):
        items = value.items() if depth else ()
        return {clean(key): item if key in kept else cleaned(item, kept, depth - 1) for key, item in items}
    if type(value) in (list, tuple):
        return type(value)(cleaned(item, kept, depth - 1) for item in (value if depth else ()))
    return value


class Cleaned:
    """A base for frozen dataclasses that hold text of other systems: their texts, and tuples of them, are cleaned."""

    def __post_init__(self) -> None:
        """Clean them."""
        for field in fields(self):  # type: ignore[arg-type] # the subclasses are dataclasses
            value = getattr(self, field.name)
            if type(value) is str or type(value) is tuple:
                object.__setattr__(self, field.name, cleaned(value))


def _shown(character: str) -> str:
    if character.isprintable() and character not in _FILLERS:
        return character
    return _NOT_SHOWN.get(unicodedata.category(character), " ")


def _text_of(value: object) -> str:
    try:
        return str(value)
    except (ValueError, RecursionError):  # a number of more digits than Python writes, or a list that is nested too deep
        return f"({type(value).__name__})"
