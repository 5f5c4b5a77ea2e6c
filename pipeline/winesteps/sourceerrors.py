"""Describe why an address cannot be read: one cause for each failure of TLS, a connection, a web server or an object store.

Messages of libraries are not quoted: they can contain the whole address, with a signature.
"""

import datetime
import errno
import http.client
import re
import socket
import ssl
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from urllib.parse import parse_qs, urlsplit

from winecontract.reasons import Reason
from winesteps.failures import StepFailure
from winesteps.reading.formats import plain

BODY_SHOWN = 2048
"""Bytes of an error's body that are read."""
_CERTIFICATE = {
    9: "is not valid yet",
    10: "has expired",
    18: "is self-signed, and its authority is not known here",
    19: "is signed by a private authority that is not known here",
    20: "is signed by an authority that is not known here",
    21: "is signed by an authority that is not known here, or the server does not send an intermediate certificate",
    23: "was revoked",
    62: "is for another host name",
    64: "is for another host: it does not list this IP address",
    66: "has a key that is too weak",
    68: "has a signature that is too weak",
}
"""Messages by OpenSSL's verification error."""
_TLS = (
    (
        re.compile(
            r"WRONG_VERSION_NUMBER|RECORD_LAYER_FAILURE|HTTP_REQUEST|PACKET_LENGTH_TOO_LONG|UNEXPECTED_MESSAGE|INVALID_PACKET"
        ),
        "does not speak TLS at this port: use http://, or the port that speaks TLS",
    ),
    (
        re.compile(r"PROTOCOL_VERSION|UNSUPPORTED_PROTOCOL|NO_PROTOCOLS_AVAILABLE|VERSION_TOO_LOW"),
        "speaks only versions of TLS that are no longer accepted (before 1.2)",
    ),
    (re.compile(r"CERTIFICATE_REQUIRED|BAD_CERTIFICATE|UNKNOWN_CA"), "requires a client certificate, and steps have none"),
    (re.compile(r"HANDSHAKE_FAILURE|NO_SHARED_CIPHER|NO_CIPHERS"), "has no cipher of TLS in common with the step"),
    (re.compile(r"UNRECOGNIZED_NAME"), "has no certificate for this host name"),
    (re.compile(r"KEY_TOO_SMALL|MD_TOO_WEAK"), "has a TLS certificate or key that is too weak"),
    (re.compile(r"EOF|SHUTDOWN"), "closed the connection during the TLS handshake: is this the port that speaks TLS?"),
)
_CONNECTION = {
    errno.ECONNREFUSED: "refused the connection: nothing listens at this port",
    errno.ECONNRESET: "closed the connection before it answered",
    errno.EPIPE: "closed the connection before it answered",
    errno.EHOSTUNREACH: "cannot be reached: there is no route to the host, or a firewall",
    errno.ENETUNREACH: "cannot be reached: there is no route to its network",
}


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and all errors that it wraps, from the outside in, as requests and urllib3 nest them."""
    seen: list[BaseException] = []
    waiting: list[object] = [error]
    while waiting:
        one = waiting.pop(0)
        if not isinstance(one, BaseException) or any(one is other for other in seen):
            continue
        seen.append(one)
        yield one
        waiting += [getattr(one, "reason", None), *one.args, one.__cause__, one.__context__]


def connection_problem(error: Exception, connect_seconds: float, read_seconds: float) -> str:
    """Describe why a connection failed, as the rest of a sentence that begins with the address."""
    import requests
    from urllib3.exceptions import NameResolutionError, ProtocolError

    found = list(causes(error))
    if any(isinstance(one, NameResolutionError | socket.gaierror) for one in found):
        return "cannot be reached: its host name is unknown to the DNS"
    if isinstance(error, requests.exceptions.ProxyError):
        return "cannot be reached: the proxy refused the connection, or does not answer"
    if (problem := _tls_problem(found)) is not None:
        return problem
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return f"cannot be reached: no connection within {connect_seconds:.0f} s"
    if isinstance(error, requests.exceptions.Timeout) or any(isinstance(one, TimeoutError) for one in found):
        return f"sent nothing for {read_seconds:.0f} s"
    if isinstance(error, ProtocolError):  # of a body: before that, requests has an error of its own
        return "broke off before the whole file had come"
    if any("\x15\x03" in str(part) for one in found for part in one.args):
        return "speaks TLS at this port: use https://"
    if any(isinstance(one, http.client.RemoteDisconnected) for one in found):
        return _CONNECTION[errno.ECONNRESET]
    if any(isinstance(one, http.client.BadStatusLine) for one in found):
        return "does not speak HTTP at this port"
    number = next((one.errno for one in found if isinstance(one, OSError) and one.errno in _CONNECTION), None)
    return _CONNECTION[number] if number is not None else f"cannot be reached: the connection failed ({type(error).__name__})"


def _tls_problem(found: list[BaseException]) -> str | None:
    for one in found:
        if isinstance(one, ssl.SSLCertVerificationError):
            fault = _CERTIFICATE.get(one.verify_code, "was not accepted")
            return f"has a TLS certificate that {fault}"
    for one in found:
        if isinstance(one, ssl.SSLError):
            text = f"{one.reason or ''} {type(one).__name__}".upper()
            problem = next((words for pattern, words in _TLS if pattern.search(text)), None)
            return problem or f"failed in the TLS handshake ({plain(one.reason or 'no reason given', 60)})"
    return None


def check_status(status: int, headers: Mapping[str, str], body: bytes, url: str, shown: str, now: datetime.datetime) -> None:
    """Raise `StepFailure` for any status but 200.

    Args:
        status: status of the answer.
        headers: headers of the answer.
        body: first bytes of the answer.
        url: the requested address.
        shown: the address without secrets, for the message.
        now: the present time.

    """
    if status == HTTPStatus.OK:
        return
    phrase = next((f" {known.phrase}" for known in HTTPStatus if known == status), "")
    reason, cause = _cause(status, headers, body.decode(errors="replace"), url, now)
    raise StepFailure(reason, f"{shown} answered {status}{phrase}: {cause}.")


def _cause(status: int, headers: Mapping[str, str], body: str, url: str, now: datetime.datetime) -> tuple[Reason, str]:
    if status in _PASSING or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Reason.DATA_UNREACHABLE, _PASSING.get(status, "the server has failed")
    expired = _expiry(url, now)
    if expired or (_is_signed(url) and re.search(r"ExpiredToken|[Ee]xpired|[Ee]xpiry", body)):
        when = f" at {expired:%Y-%m-%d %H:%M} UTC" if expired else ""
        return Reason.DATA_ACCESS_DENIED, f"the signature in the address expired{when}. Make a new one"
    if status == HTTPStatus.UNAUTHORIZED:
        scheme = headers.get("WWW-Authenticate", "").partition(" ")[0]
        kind = f" ({plain(scheme, 20)})" if scheme else ""
        cause = f"it requires credentials{kind}, and none or wrong ones were sent. Set or correct credentialsSecret"
        return Reason.DATA_ACCESS_DENIED, cause
    if status == HTTPStatus.FORBIDDEN and _is_signed(url):
        return Reason.DATA_ACCESS_DENIED, "the signature in the address is not accepted, or its owner may not read the file"
    if status == HTTPStatus.FORBIDDEN:
        return Reason.DATA_ACCESS_DENIED, "access is refused: the file is not public, or the server does not let this cluster in"
    if status == HTTPStatus.BAD_REQUEST and re.search(r"HTTPS? (?:port|server)|to an HTTPS|TLS", body):
        return Reason.URL_INVALID, "it speaks TLS at this port: use https://"
    return Reason.DATA_NOT_FOUND, _NOT_FOUND.get(status, "correct the address")


_PASSING = {
    408: "it did not wait for the request",
    425: "it is not ready to answer yet",
    429: "it limits the rate of requests",
    500: "the server has failed",
    502: "a proxy in front of it got no answer",
    503: "it is not available at present",
    504: "a proxy in front of it got no answer in time",
}
_NOT_FOUND = {
    404: "there is no file at this address. Correct the address",
    410: "the file was removed for good. Give another address",
    405: "it does not let files be read there. Correct the address",
    407: "the proxy requires credentials",
    451: "it does not give out the file for legal reasons",
    202: "it does not have the file ready yet. Give the address of the file itself",
    204: "there is no content at this address. Correct the address",
    300: "several files have this address. Give the address of one",
    304: "it sent no file. Correct the address",
}


def _is_signed(url: str) -> bool:
    names = {name.lower() for name in parse_qs(urlsplit(url).query, keep_blank_values=True)}
    return bool(names & {"x-amz-signature", "x-goog-signature", "signature", "sig"})


def _expiry(url: str, now: datetime.datetime) -> datetime.datetime | None:
    """Return when the signature of a presigned address expired (S3, Google, Azure); None if it has not, or is not known."""
    values = {name.lower(): value[0] for name, value in parse_qs(urlsplit(url).query).items()}
    ends: datetime.datetime | None = None
    try:
        for vendor in ("amz", "goog"):
            if f"x-{vendor}-date" in values and f"x-{vendor}-expires" in values:
                began = datetime.datetime.strptime(values[f"x-{vendor}-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.UTC)
                ends = began + datetime.timedelta(seconds=int(values[f"x-{vendor}-expires"]))
        if "expires" in values and "signature" in values:
            ends = datetime.datetime.fromtimestamp(int(values["expires"]), datetime.UTC)
        if "se" in values and "sig" in values:
            ends = datetime.datetime.fromisoformat(values["se"])
            ends = ends if ends.tzinfo else ends.replace(tzinfo=datetime.UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return ends.astimezone(datetime.UTC) if ends is not None and ends < now else None


_KEYS = "the keys in this namespace's Secret mlpipeline-minio-artifact"
_STORE = {
    "NoSuchKey": (Reason.DATA_NOT_FOUND, "there is no such object. Correct the address"),
    "NoSuchVersion": (Reason.DATA_NOT_FOUND, "there is no such version of the object. Correct versionId"),
    "NoSuchBucket": (Reason.DATA_NOT_FOUND, "there is no such bucket. Correct the address"),
    "InvalidBucketName": (Reason.URL_INVALID, "a bucket cannot have that name"),
    "MethodNotAllowed": (Reason.DATA_NOT_FOUND, "this version of the object is a deletion. Give another versionId"),
    "AccessDenied": (Reason.DATA_ACCESS_DENIED, f"{_KEYS} may not read it"),
    "AllAccessDisabled": (Reason.DATA_ACCESS_DENIED, "access to it is switched off"),
    "InvalidAccessKeyId": (Reason.DATA_ACCESS_DENIED, f"the store does not know {_KEYS}"),
    "SignatureDoesNotMatch": (Reason.DATA_ACCESS_DENIED, f"the secret key is wrong among {_KEYS}"),
    "ExpiredToken": (Reason.DATA_ACCESS_DENIED, f"{_KEYS} have expired"),
    "InvalidToken": (Reason.DATA_ACCESS_DENIED, f"the store does not accept {_KEYS}"),
    "RequestTimeTooSkewed": (Reason.DATA_ACCESS_DENIED, "the clocks of the node and of the store differ by too much"),
    "PermanentRedirect": (Reason.DATA_NOT_FOUND, "the bucket is in another region, or in another store"),
    "AuthorizationHeaderMalformed": (Reason.DATA_NOT_FOUND, "the bucket is in another region"),
    "InvalidObjectState": (Reason.DATA_NOT_FOUND, "the object is archived. Restore it first"),
}
_STORE_STATUS = {
    301: _STORE["PermanentRedirect"],
    307: _STORE["PermanentRedirect"],
    403: _STORE["AccessDenied"],
    404: (Reason.DATA_NOT_FOUND, "there is no such object or bucket. Correct the address"),
}


def store_cause(status: int, code: str) -> tuple[Reason, str]:
    """Return why an object store refused an object, by error code and status, for failures that do not pass by themselves."""
    known = _STORE.get(code) or _STORE_STATUS.get(status)
    return known or (Reason.DATA_NOT_FOUND, "correct the address")
