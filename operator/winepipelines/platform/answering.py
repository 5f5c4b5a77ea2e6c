"""Find out who answered instead of a system, or why no answer came. Pure.

If a service mesh, a proxy or a login page answers instead of a system, that system's log does not show the problem.
"""

import re
from collections.abc import Iterator
from enum import Enum
from typing import TypeVar

from winecontract.reasons import Reason
from winecontract.text import clean
from winepipelines.api.errors import PlatformError

P = TypeVar("P", bound=PlatformError)

CAUSE_LIMIT = 1000  # characters of one error
PAGE = re.compile(r"<!doctype html|<html|<head>|<body|<title>", re.IGNORECASE)
TITLE = re.compile(r"<title>([^<]{1,160})</title>", re.IGNORECASE)
# What Envoy, the proxy of Istio, answers by itself (envoyproxy/envoy: rbac_filter.cc, router.cc, header utilities).
DENIED_BY_MESH = "RBAC: access denied"
NO_UPSTREAM = ("no healthy upstream", "upstream connect error", "upstream request timeout", "no cluster match")
JWT = ("Jwt is missing", "Jwt issuer is not configured", "Jwt verification fails", "Jwt is expired", "Audiences in Jwt")


class Cause(Enum):
    """Why a client got no answer. `text` completes a message; `diagnosed` is whether testing the connection adds nothing."""

    NO_ADDRESS = ("its host has no address in DNS", False)
    NO_DNS_SERVER = ("no DNS server answers for its host", False)
    NOT_TLS = ("it does not speak TLS: write http:// instead of https://", True)
    OTHER_HOSTNAME = ("its certificate is for another host name", True)
    EXPIRED = ("its certificate has expired", True)
    UNKNOWN_AUTHORITY = ("its certificate is of an authority that the operator does not know", True)
    CA_FILE_UNREADABLE = ("the file with the certificate of its authority cannot be read", True)
    TLS_HANDSHAKE = ("the TLS handshake fails", True)
    REFUSED = ("its host refuses the connection: no process listens on the port", False)
    NO_ROUTE = ("there is no route to its host", False)
    NO_CONNECTION = ("its host does not accept the connection in time", False)
    TIMED_OUT = ("it accepts the connection and does not answer in time", False)
    NOT_HTTP = ("what answers does not speak HTTP: is it https://, or another port?", True)
    TOO_LARGE = ("its answer is larger than the operator reads", False)
    CLOSED_EARLY = ("it closes the connection early", False)

    def __init__(self, text: str, diagnosed: bool) -> None:
        self.text = text
        self.diagnosed = diagnosed


UNTRUSTED = frozenset({Cause.OTHER_HOSTNAME, Cause.EXPIRED, Cause.UNKNOWN_AUTHORITY})
# What urllib3, requests and OpenSSL report, as text only. The first match counts: an error contains the texts of its causes.
SIGNS: tuple[tuple[re.Pattern[str], Cause], ...] = (
    (
        re.compile(
            r"NameResolutionError|Name or service not known|nodename nor servname|No address associated|getaddrinfo failed"
        ),
        Cause.NO_ADDRESS,
    ),
    (re.compile(r"Temporary failure in name resolution"), Cause.NO_DNS_SERVER),
    (re.compile(r"WRONG_VERSION_NUMBER|HTTP_REQUEST\b|record layer failure"), Cause.NOT_TLS),
    (re.compile(r"CERTIFICATE_VERIFY_FAILED.{0,500}(?:IP address|[Hh]ostname) mismatch"), Cause.OTHER_HOSTNAME),
    (re.compile(r"certificate has expired"), Cause.EXPIRED),
    (re.compile(r"CERTIFICATE_VERIFY_FAILED"), Cause.UNKNOWN_AUTHORITY),
    (
        re.compile(r"SSLError.{0,500}(?:FileNotFoundError|No such file|PermissionError|NO_CERTIFICATE_OR_CRL_FOUND)", re.DOTALL),
        Cause.CA_FILE_UNREADABLE,
    ),
    (re.compile(r"\[SSL|SSLError"), Cause.TLS_HANDSHAKE),
    (re.compile(r"Connection refused|ECONNREFUSED"), Cause.REFUSED),
    (re.compile(r"No route to host|Network is unreachable|EHOSTUNREACH"), Cause.NO_ROUTE),
    (re.compile(r"ConnectTimeout|connect timeout|Connection to \S{1,255} timed out"), Cause.NO_CONNECTION),
    (re.compile(r"ReadTimeout|Read timed out|timed out"), Cause.TIMED_OUT),
    (re.compile(r"BadStatusLine|line too long|not a valid HTTP|InvalidHTTPVersion|Invalid header"), Cause.NOT_HTTP),
    (re.compile(r"AnswerTooLarge"), Cause.TOO_LARGE),
    (re.compile(r"RemoteDisconnected|Connection reset|Connection aborted|IncompleteRead|broken"), Cause.CLOSED_EARLY),
)


def causes(error: BaseException) -> Iterator[str]:
    """Describe an error and its chain of causes, one text each."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield f"{type(cause).__name__}: {clean(cause, CAUSE_LIMIT)}"
        cause = cause.__cause__ or cause.__context__


def cause_of(text: str) -> Cause | None:
    """Find in a client's error text why a system did not answer; None if it is unknown.

    The text itself is never shown: it has sockets and ports, which change between attempts.
    """
    text = clean(text)
    return next((cause for pattern, cause in SIGNS if pattern.search(text)), None)


def why_no_answer(text: str) -> str:
    """Describe why a system did not answer, from a client's error text; "" if it is unknown."""
    cause = cause_of(text)
    return cause.text if cause else ""


def unanswered(kind: type[P], reason: Reason, problem: str, text: str) -> P:
    """Make the error for a request without an answer: the problem and, if the client's error text names it, the cause."""
    cause = cause_of(text)
    return kind(reason, f"{problem}: {cause.text}" if cause else problem, diagnosed=cause is not None and cause.diagnosed)


def is_denied_by_mesh(status: int, text: str) -> bool:
    """Tell whether a policy of the service mesh has refused a request, before it reached a system."""
    return status == 403 and DENIED_BY_MESH in clean(text)


def who_answers(status: int, text: str, workload: str) -> str:
    """Name what answered instead of a system, and what to do; "" if the system itself may have answered.

    `workload` selects the system's pods in kubectl, such as "-l app=ml-pipeline".
    """
    text = clean(text)
    if is_denied_by_mesh(status, text):
        return (
            "the service mesh in front of it (Istio) refuses the operator's pod: an AuthorizationPolicy must admit its "
            "service account (kubectl get authorizationpolicies -A)"
        )
    if status == 401 and any(words in text for words in JWT):
        return "the service mesh in front of it (Istio) rejects the token: check its RequestAuthentication"
    if status in (502, 503, 504) and any(words in text for words in NO_UPSTREAM):
        return (
            "the service mesh in front of it (Istio) reaches no pod of it: check "
            f"{f'kubectl get endpoints,pods -A {workload}'.strip()} and, if pods are ready, mutual TLS and the operator's sidecar"
        )
    if status != 401 and PAGE.search(text):  # a gateway that answers 401 requests credentials
        title = TITLE.search(text)
        page = f" ({clean(title[1].strip(), 80)})" if title and title[1].strip() else ""
        if status in (502, 503, 504):
            return f"a proxy in front of it answers with a web page{page}: it reaches no server behind it"
        return f"a web page{page} of a proxy or a login answers instead of it: the address must be the server's own"
    return ""
