"""Open an http or https address for reading, and follow its redirects.

Answers are not trusted: the IP address of each redirect is checked (`connections`), content of another host is never quoted, and
bodies are read in pieces of bounded size, whatever length they announce.
"""

import contextlib
import datetime
import re
import zlib
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urldefrag, urljoin, urlsplit

from winecontract.addresses import AddressError, HttpAddress, parse
from winecontract.reasons import Reason
from winesteps.connections import GRACE_SECONDS, LEAST_BYTES_A_SECOND, Guard, session
from winesteps.credentials import Credentials
from winesteps.failures import StepFailure, redact_url
from winesteps.networks import Networks
from winesteps.opened import CHUNK_BYTES, CONNECT_SECONDS, READ_SECONDS, Opened, strong
from winesteps.reading.expand import inflated
from winesteps.sourceerrors import BODY_SHOWN, check_status, connection_problem

if TYPE_CHECKING:
    import requests

MOST_REDIRECTS = 10
LOCATION_LENGTH = 4096
"""Longest accepted address of a redirect, in characters."""
PIECE_BYTES = 64 * 1024
DIGITS = 18
"""A Content-Length with more digits counts as 10**DIGITS: it is too large in any case."""
PORTS = {"http": 80, "https": 443}


@contextlib.contextmanager
def open_http(address: HttpAddress, known_etag: str, credentials: Credentials | None) -> Iterator[Opened]:
    """Open an address as a context; see `sources.open_source`."""
    import requests
    from urllib3.exceptions import HTTPError, LocationValueError

    shown = redact_url(address.url)
    if credentials is not None and not credentials.may_go_to(address.url):
        message = f"{shown} would receive the credentials over plain http. Use https, or set credentialsOverHTTP."
        raise StepFailure(Reason.PARAMETERS_INVALID, message)
    with Guard(Networks.from_environment(), shown) as guard, session(guard) as opened:
        try:
            with contextlib.closing(_follow(opened, guard, address, known_etag, credentials)) as response:
                yield _read(response, guard, known_etag)
        except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema, LocationValueError, AddressError):
            message = f"{shown} is, or redirects to, an address that is not a valid http or https address. Correct it."
            raise StepFailure(Reason.URL_INVALID, message) from None
        except (requests.RequestException, HTTPError, UnicodeError) as error:
            _check_speed(guard)
            problem = connection_problem(error, CONNECT_SECONDS, READ_SECONDS)
            raise StepFailure(Reason.DATA_UNREACHABLE, f"{shown} {problem}.") from None


def _check_speed(guard: Guard) -> None:
    if guard.too_slow:
        slow = f"sent less than {LEAST_BYTES_A_SECOND:,} bytes a second, {GRACE_SECONDS:.0f} s after the request"
        raise StepFailure(Reason.DATA_UNREACHABLE, f"{guard.shown} {slow}.") from None


def _follow(
    opened: "requests.Session", guard: Guard, address: HttpAddress, known_etag: str, credentials: Credentials | None
) -> "requests.Response":
    """Send the request and follow redirects. Credentials are sent to the scheme, host and port of the address only."""
    url, stayed = address.url, True
    while True:
        headers = {"If-None-Match": known_etag} if known_etag else {}
        stayed = stayed and _origin(url) == _origin(address.url)
        if credentials is not None and stayed:
            headers["Authorization"] = credentials.authorization
        response = opened.get(url, stream=True, timeout=(CONNECT_SECONDS, READ_SECONDS), headers=headers, allow_redirects=False)
        target = opened.get_redirect_target(response)
        if not target:
            return response
        response.close()
        if guard.redirects >= MOST_REDIRECTS:
            raise StepFailure(Reason.URL_INVALID, f"{guard.shown} redirects more than {MOST_REDIRECTS} times.")
        guard.redirects += 1
        url = _target(url, target)
        guard.elsewhere = guard.elsewhere or _is_elsewhere(url, address.url)


def _target(url: str, location: str) -> str:
    """Return the address of a redirect. Raise AddressError if it is not http or https."""
    import requests

    if len(location) > LOCATION_LENGTH:
        raise AddressError("it is too long")
    found = parse(urldefrag(urljoin(url, requests.utils.requote_uri(location))).url)
    if not isinstance(found, HttpAddress):
        raise AddressError("it must begin with http:// or https://")
    return found.url


def _origin(url: str) -> tuple[str, str, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or PORTS.get(parts.scheme)


def _is_elsewhere(url: str, first: str) -> bool:
    """Tell whether an address is on another host or port. The default ports of http and https count as one."""
    one, other = _origin(url), _origin(first)
    return one[1] != other[1] or (one[2] != other[2] and {one[2], other[2]} != set(PORTS.values()))


def _read(response: "requests.Response", guard: Guard, known_etag: str) -> Opened:
    """Read status and headers. Raise `StepFailure` if the answer is not a file."""
    if known_etag and response.status_code == HTTPStatus.NOT_MODIFIED:
        return Opened(iter(()), None, known_etag, unchanged=True)
    if response.status_code != HTTPStatus.OK:
        headers: Mapping[str, str] = {} if guard.elsewhere else response.headers
        body = b"" if guard.elsewhere else response.raw.read(BODY_SHOWN, decode_content=False)
        now = datetime.datetime.now(datetime.UTC)
        check_status(response.status_code, headers, body, response.url, guard.shown, now)
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    length = response.headers.get("Content-Length", "").strip()
    size = None
    if encoding == "identity" and re.fullmatch("[0-9]+", length):
        size = int(length) if len(length) <= DIGITS else 10**DIGITS
    return Opened(
        chunks=_decoded(_pieces(response, guard), encoding, guard.shown),
        size=size,
        etag=strong(response.headers.get("ETag")),
        location=response.url,
        redirected=guard.elsewhere,
    )


def _pieces(response: "requests.Response", guard: Guard) -> Iterator[bytes]:
    """Yield the body in pieces. http.client reads it, since it limits the length of the lines between chunks."""
    held = bytearray()
    while piece := response.raw.read(PIECE_BYTES, decode_content=False):
        guard.received += len(piece)
        held += piece
        if len(held) >= CHUNK_BYTES:
            yield bytes(held)
            held.clear()
    _check_speed(guard)  # a body of unknown length ends where its connection does
    if held:
        yield bytes(held)


def _decoded(pieces: Iterator[bytes], encoding: str, shown: str) -> Iterator[bytes]:
    """Decode the Content-Encoding, which some servers use although the request accepts none."""
    if encoding in {"identity", ""}:
        return pieces
    if encoding not in {"gzip", "x-gzip"}:
        message = f"{shown} sent a body with the Content-Encoding {encoding[:20]!r}, which the request does not accept."
        raise StepFailure(Reason.DATA_UNREACHABLE, message)
    return _inflated(pieces, shown)


def _inflated(pieces: Iterator[bytes], shown: str) -> Iterator[bytes]:
    try:
        yield from inflated(lambda: next(pieces, b""))
    except (zlib.error, EOFError):
        message = f"{shown} sent a body that does not match its Content-Encoding."
        raise StepFailure(Reason.DATA_UNREACHABLE, message) from None
