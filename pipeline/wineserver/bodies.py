"""A request's body as JSON, or what it is instead. Pure but for reading forms.

Seldon's own servers take the JSON as the body whatever its media type (`curl -d` says it is a form), as the field `json` of a
form, and as the parts of a multipart form, one for each field of a Seldon message.
"""

from collections.abc import AsyncGenerator
from typing import Any

import orjson
from starlette.datastructures import FormData, Headers
from starlette.formparsers import FormParser, MultiPartException, MultiPartParser

from wineserver.rows import Schema

MAX_FIELDS = 20
BOM = b"\xef\xbb\xbf"
GZIP = b"\x1f\x8b"
BINARY_HEADER = "inference-header-content-length"


def load(schema: Schema, body: bytes, media_type: str, form: str) -> Any:
    """Parse JSON; `form` is what the body ought to be. Raises InputError."""
    if not body:
        raise schema.refuse(f"the body is empty: send {form}")
    try:
        return orjson.loads(body.removeprefix(BOM))
    except orjson.JSONDecodeError as error:
        raise schema.refuse(f"the body is not JSON {_instead(body, media_type, error)}: send {form}") from None


async def from_form(schema: Schema, body: bytes, headers: Headers, form: str) -> Any:
    """Read the JSON of a form; other bodies as they stand. Raises InputError."""
    media_type = headers.get("content-type", "")
    kind = media_type.partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        parser = MultiPartParser(headers, _stream(body), max_files=0, max_fields=MAX_FIELDS, max_part_size=len(body))
        return _message(schema, await _fields(schema, parser), form)
    if kind == "application/x-www-form-urlencoded" and body[:5] == b"json=":
        return _message(schema, await _fields(schema, FormParser(headers, _stream(body))), form)
    return load(schema, body, media_type, form)


async def _fields(schema: Schema, parser: MultiPartParser | FormParser) -> FormData:
    try:
        return await parser.parse()
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
