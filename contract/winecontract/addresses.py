"""Addresses of files: what an `s3://`, `http://` or `https://` address names, and whether two of them name one object.

An s3 address is a bucket and a key, and the key is taken literally, as the AWS CLI takes it: `%20` is three characters, a space
is a space, `#` is part of the key. The one exception is a `?versionId=…` at its end, which names a version of the object; any
other `?` is refused, because it would silently name another object.
"""

import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]")
VERSION_ID = re.compile(r"[A-Za-z0-9._~+/=-]{1,1024}")
KEY_BYTES = 1024
"""Longest key that S3 takes, in bytes of UTF-8."""
NOT_PRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff]")
DECODINGS = 3
"""How often an address may have been percent-encoded."""


class AddressError(ValueError):
    """An address that names no file. The message says why and what to write; it never quotes the address."""


@dataclass(frozen=True)
class S3Address:
    """An object of the store, or one version of it."""

    bucket: str
    key: str
    version_id: str = ""

    def __str__(self) -> str:
        """As an address."""
        return f"s3://{self.bucket}/{self.key}" + (f"?versionId={self.version_id}" if self.version_id else "")


@dataclass(frozen=True)
class HttpAddress:
    """A file on a web server. `url` is what is requested, with its scheme in lower case."""

    url: str
    host: str
    path: str

    def __str__(self) -> str:
        """As an address, query and all: it may hold a signature."""
        return self.url


def parse(url: str) -> S3Address | HttpAddress:
    """Read the address of a file.

    Raises AddressError.
    """
    if NOT_PRINTABLE.search(url):
        raise AddressError("it has a control character, such as a tab or the end of a line: remove it")
    if url != url.strip():
        raise AddressError("it begins or ends with a space: remove it")
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.lower() not in {"http", "https", "s3"}:
        raise AddressError("it must begin with http://, https:// or s3://")
    if scheme.lower() == "s3":
        return _s3(rest)
    return _http(scheme.lower(), rest)


def _s3(rest: str) -> S3Address:
    bucket, _, key = rest.partition("/")
    if "@" in bucket or ":" in bucket:
        raise AddressError("an s3 address has no user name, password or host: write s3://bucket/key")
    if not BUCKET.fullmatch(bucket):
        raise AddressError("it must name a bucket: write s3://bucket/key; a bucket has letters, digits, '.', '_' and '-'")
    key, question, query = key.rpartition("?") if "?" in key else (key, "", "")
    version_id = query.removeprefix("versionId=")
    if question and (version_id == query or not VERSION_ID.fullmatch(version_id) or "?" in key):
        raise AddressError("after a '?' an s3 address can have only versionId=…, the version of the object")
    if not key or key.endswith("/"):
        raise AddressError("it names no file in the bucket: write s3://bucket/folder/file.csv")
    if len(key.encode(errors="replace")) > KEY_BYTES:
        raise AddressError(f"its key is longer than {KEY_BYTES} bytes, which is all that S3 takes")
    return S3Address(bucket, key, version_id)


def _http(scheme: str, rest: str) -> HttpAddress:
    url = f"{scheme}://{rest}"
    authority = re.split(r"[/?#\\]", rest, maxsplit=1)[0]
    if "@" in authority:
        raise AddressError("it must not hold a user name or password: put them into a Secret and name it in credentialsSecret")
    if any(character.isspace() for character in url):
        raise AddressError("it has a space: write %20")
    if "\\" in rest:
        raise AddressError("it has a backslash: write / between folders, and %5C for a backslash in a name")
    if "#" in rest:
        raise AddressError(
            "it has a '#', and what follows is never sent to the server: leave it out, or write %23 for a '#' in a name"
        )
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port  # raises where the port is no number
    except ValueError:
        raise AddressError("its host or port cannot be read: write https://host:port/path") from None
    if not host:
        raise AddressError("it names no host: write https://host/path")
    return HttpAddress(url, host.rstrip("."), parts.path)


def may_be_object(source: S3Address | HttpAddress, bucket: str, key: str) -> bool:
    """Tell whether an address may name the object with this key, however it is spelled.

    Spellings that only differ in percent-encoding, in `//`, `.` and `..`, in a slash at the end, in the version or in the case of
    the bucket count as one. An http address may be that of the same store under any of its names, so that the host does not
    matter: it is enough that its path ends in bucket and key, or that it ends in the key and the host begins with the bucket.
    """
    folder, wanted = bucket.lower(), _segments(key)
    if isinstance(source, S3Address):
        return source.bucket.lower() == folder and wanted in (_segments(source.key), _segments(_decoded(source.key)))
    path = _segments(_decoded(source.path))
    if path[-len(wanted) :] != wanted:
        return False
    before = path[: -len(wanted)]
    in_path = bool(before) and before[-1].lower() == folder
    return in_path or source.host.lower().startswith(f"{folder}.")


def _decoded(path: str) -> str:
    for _ in range(DECODINGS):
        path = unquote(path)
    return path


def _segments(path: str) -> tuple[str, ...]:
    """The names between slashes, without the empty ones and `.`, and with `..` taken back."""
    names: list[str] = []
    for name in path.split("/"):
        if name == "..":
            names[-1:] = []
        elif name not in ("", "."):
            names.append(name)
    return tuple(names)
