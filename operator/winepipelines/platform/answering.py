"""Who answers in the place of a system, and why none does. Pure; used by the adapters.

A mesh, a proxy or a login page answers for a system that it hides; a person who looks at that system looks in the wrong place.
"""

import re
from collections.abc import Iterator

from winecontract.text import clean

CAUSE_LIMIT = 1000  # characters of one error
PAGE = re.compile(r"<!doctype html|<html|<head>|<body|<title>", re.IGNORECASE)
TITLE = re.compile(r"<title>([^<]{1,160})</title>", re.IGNORECASE)
# What Envoy, the proxy of Istio, answers by itself (envoyproxy/envoy: rbac_filter.cc, router.cc, header utilities).
DENIED_BY_MESH = "RBAC: access denied"
NO_UPSTREAM = ("no healthy upstream", "upstream connect error", "upstream request timeout", "no cluster match")
JWT = ("Jwt is missing", "Jwt issuer is not configured", "Jwt verification fails", "Jwt is expired", "Audiences in Jwt")

TOO_LARGE = "its answer is larger than the operator reads"
# In the order in which they are looked for: an error tells of its causes too.
CAUSES: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(
            r"NameResolutionError|Name or service not known|nodename nor servname|No address associated|getaddrinfo failed"
        ),
        "its host has no address in DNS",
    ),
    (re.compile(r"Temporary failure in name resolution"), "no DNS server answers for its host"),
    (
        re.compile(r"WRONG_VERSION_NUMBER|HTTP_REQUEST\b|record layer failure"),
        "it does not speak TLS: write http:// instead of https://",
    ),
    (
        re.compile(r"CERTIFICATE_VERIFY_FAILED.{0,500}(?:IP address|[Hh]ostname) mismatch"),
        "its certificate is for another host name",
    ),
    (re.compile(r"certificate has expired"), "its certificate has expired"),
    (re.compile(r"CERTIFICATE_VERIFY_FAILED"), "its certificate is of an authority that the operator does not know"),
    (
        re.compile(r"SSLError.{0,500}(?:FileNotFoundError|No such file|PermissionError|NO_CERTIFICATE_OR_CRL_FOUND)", re.DOTALL),
        "the file with the certificate of its authority cannot be read",
    ),
    (re.compile(r"\[SSL|SSLError"), "the TLS handshake fails"),
    (re.compile(r"Connection refused|ECONNREFUSED"), "its host refuses the connection: no process listens on the port"),
    (re.compile(r"No route to host|Network is unreachable|EHOSTUNREACH"), "there is no route to its host"),
    (
        re.compile(r"ConnectTimeout|connect timeout|Connection to \S{1,255} timed out"),
        "its host does not take the connection in time",
    ),
    (re.compile(r"ReadTimeout|Read timed out|timed out"), "it takes the connection and does not answer in time"),
    (
        re.compile(r"BadStatusLine|line too long|not a valid HTTP|InvalidHTTPVersion|Invalid header"),
        "what answers does not speak HTTP: is it https://, or another port?",
    ),
    (re.compile(r"AnswerTooLarge"), TOO_LARGE),
    (re.compile(r"RemoteDisconnected|Connection reset|Connection aborted|IncompleteRead|broken"), "it ends the connection early"),
)


def causes(error: BaseException) -> Iterator[str]:
    """Describe an error and what has caused it, as far as each says anything."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield f"{type(cause).__name__}: {clean(cause, CAUSE_LIMIT)}"
        cause = cause.__cause__ or cause.__context__


def why_no_answer(text: str) -> str:
    """Say from a client's words why a system did not answer; "" where they do not tell.

    The words themselves are not repeated: they name sockets and ports, which differ from try to try.
    """
    text = clean(text)
    return next((said for pattern, said in CAUSES if pattern.search(text)), "")


def with_why(what: str, text: str) -> str:
    """Add to a sentence why a system did not answer, where that is known."""
    why = why_no_answer(text)
    return f"{what}: {why}" if why else what


def who_answers(status: int, text: str, workload: str) -> str:
    """Say who has answered in the place of a system, and what to do; "" where the system may have answered itself.

    `workload` is what the system's pods are found by, as in "-l app=ml-pipeline".
    """
    text = clean(text)
    if DENIED_BY_MESH in text:
        return (
            "the service mesh in front of it (Istio) refuses the operator's pod: an AuthorizationPolicy must admit its "
            "service account (kubectl get authorizationpolicies -A)"
        )
    if status == 401 and any(words in text for words in JWT):
        return "the service mesh in front of it (Istio) asks for another token: see its RequestAuthentication"
    if status in (502, 503, 504) and any(words in text for words in NO_UPSTREAM):
        return (
            "the service mesh in front of it (Istio) reaches no pod of it: "
            f"{f'kubectl get endpoints,pods -A {workload}'.strip()}; where pods are ready, mutual TLS or the operator's sidecar"
        )
    if status != 401 and PAGE.search(text):  # with 401, a gateway asks for credentials
        title = TITLE.search(text)
        page = f" ({clean(title[1].strip(), 80)})" if title and title[1].strip() else ""
        if status in (502, 503, 504):
            return f"a proxy in front of it answers with a web page{page}: it reaches no server behind it"
        return f"a web page{page} answers in its place, of a proxy or a login: the address must be the server's own"
    return ""
