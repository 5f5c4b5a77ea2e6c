"""Names what a file is by its first bytes. Pure.

A name is given only where the beginning is really of that form: a hint that turns out to be wrong costs more than none.
"""

import json
import re
from dataclasses import dataclass

HEAD_BYTES = 64 * 1024
"""As many bytes from a file's beginning are enough."""
BOMS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
COMPRESSED = {b"\x1f\x8b": "gzip", b"\xfd7zXZ\x00": "xz", b"PK\x03\x04": "zip", b"PK\x05\x06": "zip"}
"""What `expand` unpacks."""
RAW = "Give the address of the raw file itself."
CSV = "A CSV file is needed."
SHOWN = 80
"""Most characters of a file that a message quotes."""


@dataclass(frozen=True)
class Format:
    """What a file is, with its article, and what to do about it."""

    name: str
    advice: str = CSV


_PACKED = "Pack the CSV file with gzip, xz or zip, or leave it unpacked."
_BINARY = (
    (b"PAR1", "a parquet file", "A WinePrediction reads parquet with input.format parquet; data.url needs a CSV file."),
    (b"%PDF-", "a PDF document", CSV),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Excel workbook (.xls)", "Save it as CSV."),
    (b"BZh", "a bzip2 file", _PACKED),
    (b"\x28\xb5\x2f\xfd", "a zstd file", _PACKED),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", _PACKED),
    (b"Rar!\x1a\x07", "a RAR archive", _PACKED),
    (b"\x04\x22\x4d\x18", "an lz4 file", _PACKED),
    (b"\x1f\x9d", "a compress (.Z) file", _PACKED),
    (b"ARROW1", "an Arrow (feather) file", CSV),
    (b"FEA1", "a feather file", CSV),
    (b"ORC", "an ORC file", CSV),
    (b"Obj\x01", "an Avro file", CSV),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file", CSV),
    (b"\x93NUMPY", "a NumPy file", CSV),
    (b"SQLite format 3\x00", "an SQLite database", CSV),
    (b"\x89PNG\r\n\x1a\n", "a PNG image", CSV),
    (b"\xff\xd8\xff", "a JPEG image", CSV),
    (b"GIF8", "a GIF image", CSV),
    (b"RDX", "an R data file", "Write it with write.csv."),
    (b"\x80\x04\x95", "a Python pickle", CSV),
    (b"\x80\x05\x95", "a Python pickle", CSV),
)
_LFS = re.compile(r"version https://git-lfs\.github\.com/spec/v\d+\s")
_PAGE = re.compile(r"(?:\s|(?><!--.*?-->)|<\?xml[^>]*+>)*+<(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE | re.DOTALL)
_XML = re.compile(r"(?:\s|(?><!--.*?-->))*+<(?:\?xml\s|!DOCTYPE\s|([A-Za-z_][\w:.-]*)(?:\s[^<>]*)?>)", re.DOTALL)
_JSON = re.compile(r'\s*(?:\{\s*(?:"|\}|$)|\[\s*(?:[\[{"\]0-9-]|true|false|null|$))')
_ARFF = re.compile(r"(?:\s|%[^\n]*\n)*@relation\s", re.IGNORECASE)
_SVMLIGHT = re.compile(r"[-+0-9.eE]+(?:[ \t]+[0-9]+:[-+0-9.eE]+)+[ \t]*(?:#.*)?")
_DVC = re.compile(r"(?:[\w-]+:.*\n)*outs:[ \t\r]*\n\s*- (?:md5|etag|hash|path|size):")


def compression(head: bytes) -> str:
    """gzip, xz or zip; empty for a file that is not compressed in one of these ways."""
    return next((name for magic, name in COMPRESSED.items() if head.startswith(magic)), "")


def recognize(head: bytes) -> Format | None:
    """What a file is that is plainly no CSV file; None where it may be one. Compressed files are not judged."""
    for magic, name, advice in _BINARY:
        if head.startswith(magic):
            return None if magic in (b"ORC", b"BZh", b"RDX", b"GIF8", b"FEA1") and _is_text(head) else Format(name, advice)
    if head[257:262] == b"ustar":
        return Format("a tar archive", _PACKED)
    return _recognize_text(_decode(head))


def quote(text: str, limit: int = SHOWN) -> str:
    """Text of a file as a message shows it: one line, printable, of limited length."""
    return repr(plain(text, limit))


def plain(text: str, limit: int) -> str:
    """One printable line of limited length."""
    line = "".join(character if character.isprintable() else " " for character in text[: limit + 1]).strip()
    return line if len(line) <= limit else line[:limit] + "…"


def _is_text(head: bytes) -> bool:
    """Whether these are printable characters in lines, as of a header that happens to begin like a binary file."""
    return not re.search(rb"[\x00-\x08\x0e-\x1f\x7f-\xff]", head[:1024])


def _decode(head: bytes) -> str:
    encoding = next((name for bom, name in BOMS if head.startswith(bom)), "utf-8")
    return head.decode(encoding, errors="replace").removeprefix("\ufeff")


def _recognize_text(text: str) -> Format | None:
    if _LFS.match(text):
        return Format(
            "a Git LFS pointer, which names a file and does not hold it", f"{RAW} On GitHub, that is the page's download."
        )
    if re.match(r"/?annex/objects/|\.\./.*\.git/annex/objects/", text):
        return Format("a git-annex pointer, which names a file and does not hold it", RAW)
    if _DVC.match(text):
        return Format("a DVC pointer, which names a file and does not hold it", RAW)
    if _PAGE.match(text):
        return Format("a web page (HTML)", RAW)
    if _is_xml(text):
        return Format(f"XML, and begins with {quote(text)}", CSV)
    if _JSON.match(text) and _is_json(text):
        return Format(f"JSON, and begins with {quote(text)}", CSV)
    if _ARFF.match(text):
        return Format("an ARFF file, as Weka and KEEL write", "Save it as CSV.")
    if _SVMLIGHT.fullmatch(text.partition("\n")[0].rstrip("\r")):
        return Format("in the svmlight (libsvm) format", "Save it as CSV.")
    if text.startswith("{\\rtf"):
        return Format("an RTF document", "Save it as CSV.")
    return None


def _is_xml(text: str) -> bool:
    if not (found := _XML.match(text)):
        return False
    name, rest = found[1], text[found.end() :]
    return name is None or rest.lstrip().startswith("<") or f"</{name}>" in rest or found[0].endswith("/>")


def _is_json(text: str) -> bool:
    """Whether the text is JSON, up to where it is cut off."""
    try:
        value, end = json.JSONDecoder().raw_decode(text.lstrip())
    except json.JSONDecodeError as error:
        return error.pos >= len(text.lstrip()) - 16 or error.msg.startswith("Unterminated string")
    except (ValueError, RecursionError):
        return True
    rest = text.lstrip()[end:].lstrip()
    return isinstance(value, dict | list) and (not rest or rest[0] in "{[")
