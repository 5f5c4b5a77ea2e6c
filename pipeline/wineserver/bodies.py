"""A request's body as JSON, or what it is instead. Pure.

Seldon's own servers take the JSON as the body whatever its media type (`curl -d` says it is a form), as the field `json` of a
form, and as the parts of a multipart form, one for each field of a Seldon message.
"""

from collections.abc import AsyncGenerator, Coroutine
from typing import Any, TypeVar

import orjson
from starlette.datastructures import FormData, Headers
from starlette.formparsers import FormParser, MultiPartException, MultiPartParser

from wineserver.openinference import MAX_INPUTS
from wineserver.rows import MAX_ROWS, Schema

MAX_FIELDS = 20
MAX_NESTED = MAX_ROWS + 3 * MAX_INPUTS
"""Lists and objects of a body: a row is one, an input two or three."""
MAX_NAMES = 10 * MAX_INPUTS
"""Names in all objects of a body. Many in one object cost the parser far more time than as many numbers."""
T = TypeVar("T")
BOM = b"\xef\xbb\xbf"
GZIP = b"\x1f\x8b"
BINARY_HEADER = "inference-header-content-length"


def load(schema: Schema, body: bytes, media_type: str, form: str) -> Any:
    """Parse JSON; `form` is what the body ought to be. Raises InputError."""
    if not body:
        raise schema.refuse(f"the body is empty: send {form}")
    _check_room(schema, body)
    try:
        return orjson.loads(body.removeprefix(BOM))
    except orjson.JSONDecodeError as error:
        raise schema.refuse(f"the body is not JSON {_instead(body, media_type, error)}: send {form}") from None


def from_form(schema: Schema, body: bytes, headers: Headers, form: str) -> Any:
    """Read the JSON of a form; other bodies as they stand. Raises InputError."""
    media_type = headers.get("content-type", "")
    kind = media_type.partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        parser = MultiPartParser(headers, _stream(body), max_files=0, max_fields=MAX_FIELDS, max_part_size=len(body))
        return _message(schema, _fields(schema, parser), form)
    if kind == "application/x-www-form-urlencoded" and body[:5] == b"json=":
        return _message(
            schema, _fields(schema, FormParser(headers, _stream(body), max_fields=MAX_FIELDS, max_part_size=len(body))), form
        )
    return load(schema, body, media_type, form)


def _fields(schema: Schema, parser: MultiPartParser | FormParser) -> FormData:
    try:
        return _run(parser.parse())
    except (MultiPartException, KeyError, ValueError) as error:
        why = getattr(error, "message", str(error))[:100]
        problem = f"the form cannot be read ({why}): send at most {MAX_FIELDS} fields of text, and no files"
        raise schema.refuse(problem) from None


def _message(schema: Schema, fields: FormData, form: str) -> Any:
    """The field `json`, or one field for each of a message's; a text that is no JSON stays one, as in `strData`."""
    texts: dict[str, str] = {}
    for name, value in fields.items():
        assert isinstance(value, str)  # files were refused
        texts[name] = value
    if "json" in texts:
        return load(schema, texts["json"].encode(), "", form)
    return {name: text if name == "strData" else load(schema, text.encode(), "", form) for name, text in texts.items()}


def _check_room(schema: Schema, body: bytes) -> None:
    """Refuse JSON whose objects would take far more room than the rows that a request may have. Raises InputError."""
    # A body has no more of anything than bytes: counting takes as long as a third of the parsing.
    if len(body) > MAX_NESTED and body.count(b"[") + body.count(b"{") > MAX_NESTED:
        raise schema.refuse(
            f"the body has more than {MAX_NESTED} lists and objects, and at most {MAX_ROWS} rows are read at a time"
        )
    if len(body) > MAX_NAMES and body.count(b":") > MAX_NAMES:
        raise schema.refuse(f"the body has more than {MAX_NAMES} names")
    values = MAX_ROWS * (len(schema.columns) + 1) + MAX_NESTED
    if len(body) > values and body.count(b",") > values:
        raise schema.refuse(f"the body has more than {values} values: send at most {MAX_ROWS} rows at a time")


def _run(parsing: Coroutine[Any, Any, T]) -> T:
    """Run a parser of a body that is there to its end; it waits for nothing, and needs no event loop."""
    try:
        parsing.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    raise AssertionError("a parser has waited")


async def _stream(body: bytes) -> AsyncGenerator[bytes, None]:
    yield body
    yield b""  # ends a form


def _instead(body: bytes, media_type: str, error: orjson.JSONDecodeError) -> str:
    """What a body is that is not JSON, in brackets."""
    start = body[:200].lstrip()
    if body.startswith(GZIP):
        return "(it is compressed by gzip)"
    if start.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\x00" in start:
        return "(it is binary, or a text in UTF-16)"
    if start.startswith((b"{'", b"[{'")):
        return '(its texts stand in single quotes, JSON wants double ones: ")'
    if any(word in body for word in (b"NaN", b"Infinity")):
        return "(NaN and Infinity are no numbers of JSON, and the model needs finite ones)"
    kind = media_type.partition(";")[0].strip().lower()[:60]
    sent = f", sent as {kind}" if kind and "json" not in kind else ""
    return f"({error.msg} at character {error.pos}{sent})"
