"""Probe the endpoints of models: send a model's example and compare the answer with the predictions recorded at training.

Probing is the same for every serving backend: a backend only names the endpoints.
"""

import asyncio
import json
import math
import statistics
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

import aiohttp

from winecontract import protocols
from winecontract.parsing import UnreadableError
from winecontract.protocols import NotAPredictionError, Protocol
from winecontract.reasons import Reason
from winecontract.text import clean
from winepipelines.api.observed import CanaryComparison, PredictionCheck
from winepipelines.platform.answering import is_denied_by_mesh, who_answers
from winepipelines.platform.records import Example
from winepipelines.platform.resolver import Resolver, why_foreign

TOLERANCE = 1e-6  # relative: the same packages compute the same numbers, JSON writes them in decimal
CANARY_PREDICTIONS = 20  # of each of the two models in one comparison
DIFFERS = Reason.PREDICTION_MISMATCH
REJECTED = Reason.PREDICTION_REJECTED
UNREACHABLE = Reason.ENDPOINT_UNREACHABLE
ANSWER_LIMIT = 1 << 20  # bytes of an answer that are read
MESH = (
    "the service mesh (Istio) refuses the operator's service account. Admit it by an AuthorizationPolicy in the namespace of the "
    "model (chart value mesh.authorizationPolicy)"
)
UNCOMPRESSED = {"Accept-Encoding": "identity"}
SILENT = 3  # consecutive requests without an answer, after which a comparison leaves a model alone
COMPARISON_SECONDS = 30.0  # for all requests of a comparison
PREDICTION_SECONDS = 4.0  # for one of them
CONNECT_SECONDS = 3.0  # for a connection: a served model accepts at once


@dataclass(frozen=True)
class ProbeTarget:
    """An endpoint, its protocol, and the example that it must predict."""

    url: str
    protocol: Protocol
    example: Example


def session(request_seconds: float) -> aiohttp.ClientSession:
    """Make an HTTP session that opens a connection per request: a kept one leads to a pod that was replaced."""
    timeout = aiohttp.ClientTimeout(total=request_seconds, sock_connect=CONNECT_SECONDS)
    # No connection limit: a shared one would let the endpoints of one tenant that hang delay all others.
    connector = aiohttp.TCPConnector(force_close=True, limit=0, resolver=Resolver())
    return aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False)


@dataclass(frozen=True)
class EndpointProber:
    """Probes endpoints over one HTTP session."""

    session: aiohttp.ClientSession

    async def probe(self, target: ProbeTarget) -> PredictionCheck:
        """Send the example to an endpoint and compare the answer with the recorded predictions."""
        return await probe(self.session, target)

    async def compare(self, served: ProbeTarget | None, candidate: ProbeTarget) -> CanaryComparison:
        """Probe the served model, if it has an example, and the candidate in turns."""
        return await compare(self.session, served, candidate)


async def probe(session: aiohttp.ClientSession, target: ProbeTarget, seconds: float | None = None) -> PredictionCheck:
    """Send the example to an endpoint and compare the answer with the recorded predictions.

    `seconds` limits the whole request up to the last byte of the answer, in addition to the session's timeouts.
    """
    url, protocol, example = target.url, target.protocol, target.example
    at, start = datetime.now(UTC), time.perf_counter()

    def failed(reason: str, message: str, milliseconds: int = 0) -> PredictionCheck:
        return PredictionCheck(at, False, None, milliseconds, reason, message, url, protocol)

    try:
        # Nothing is decompressed: a few bytes may stand for gigabytes.
        body = protocols.encode(protocol, example.names, example.rows)
        request = session.post(url, json=body, allow_redirects=False, headers=UNCOMPRESSED)
        async with asyncio.timeout(seconds), request as response:
            answer = await _read(response)
            status = response.status
    except UnreadableError as error:
        return failed(REJECTED, f"{url} sent an answer that the operator does not read: {error}")
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:  # ValueError: malformed headers
        foreign = why_foreign(error)
        return failed(UNREACHABLE, f"{url} is not probed: {foreign}" if foreign else f"{url} does not answer")
    milliseconds = round((time.perf_counter() - start) * 1000)
    if is_denied_by_mesh(status, answer.decode(errors="replace")):
        return failed(Reason.MESH_ACCESS_DENIED, f"{url} answered 403: {MESH}", milliseconds)
    if status != 200 and (other := who_answers(status, answer.decode(errors="replace"), "")):  # not the model's server
        return failed(UNREACHABLE if status >= 500 else REJECTED, f"{url} answered {status}: {other}", milliseconds)
    if status != 200:
        return failed(REJECTED, f"{url} answered {status} to the model's own example", milliseconds)
    expected = f"the model itself predicts {json.dumps(example.predictions[:3])}"
    try:
        values = protocols.decode(answer, ANSWER_LIMIT)
    except NotAPredictionError as error:
        message = f"{url} answered the model's own example with no prediction ({error}); {expected}"
        return failed(DIFFERS, message, milliseconds)
    if not _agree(values, example.predictions):
        message = f"{url} answered {json.dumps(values[:3])} to the model's own example; {expected}"
        return failed(DIFFERS, message, milliseconds)
    return PredictionCheck(at, True, values[0], milliseconds, url=url, protocol=protocol)


async def compare(
    session: aiohttp.ClientSession, served: ProbeTarget | None, candidate: ProbeTarget, seconds: float = COMPARISON_SECONDS
) -> CanaryComparison:
    """Probe the served model, if it has an example, and the candidate in turns.

    Takes at most `seconds`, whatever the endpoints do: a turn that might not end in time does not start, so that slow models are
    judged by fewer predictions, and a silent model is left alone.
    """
    checks: list[PredictionCheck] = []
    served_checks: list[PredictionCheck] = []
    each = min(PREDICTION_SECONDS, seconds / (2 * SILENT + 1))  # two models that hang have their turns
    last_turn = time.monotonic() + seconds - 2 * each
    while len(checks) < CANARY_PREDICTIONS and (not checks or time.monotonic() <= last_turn) and not _is_silent(checks):
        if served is not None and not _is_silent(served_checks):
            served_checks.append(await probe(session, served, each))
        checks.append(await probe(session, candidate, each))
    failures = [check for check in checks if not check.passed]
    first = next((check for check in failures if check.reason == DIFFERS), next(iter(failures), None))
    served_failures = [check for check in served_checks if not check.passed]
    worst = served_failures[0] if len(served_failures) > len(served_checks) / 2 else None
    return CanaryComparison(
        asked=len(checks),
        failed=len(failures),
        wrong=first is not None and first.reason == DIFFERS,
        reason=first.reason if first else "",
        message=first.message if first else "",
        milliseconds=_median(checks, 0.0),
        served_milliseconds=_median(served_checks, math.inf),
        served_reason=worst.reason if worst else "",
        served_message=worst.message if worst else "",
    )


def _median(checks: list[PredictionCheck], default: float) -> float:
    """Compute the median duration of the requests that were answered."""
    return statistics.median([check.milliseconds for check in checks if check.reason != UNREACHABLE] or [default])


def _is_silent(checks: list[PredictionCheck]) -> bool:
    """Tell whether a model left its last requests unanswered."""
    return len(checks) >= SILENT and all(check.reason == UNREACHABLE for check in checks[-SILENT:])


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """Read an answer; its bytes may come one by one. Raises UnreadableError if it is too long, or compressed."""
    if (encoding := response.headers.get("Content-Encoding", "identity").strip().lower()) not in ("", "identity"):
        raise UnreadableError(f"its Content-Encoding is {clean(encoding, 40)}, and compressed answers are not read")
    text = bytearray()
    while more := await response.content.read(ANSWER_LIMIT + 1 - len(text)):
        text += more
        if len(text) > ANSWER_LIMIT:
            raise UnreadableError(f"it is longer than {ANSWER_LIMIT} bytes")
    return bytes(text)


def _agree(values: Iterable[float], expected: list[float]) -> bool:
    values = list(values)
    return len(values) == len(expected) and all(
        math.isclose(value, want, rel_tol=TOLERANCE, abs_tol=TOLERANCE) for value, want in zip(values, expected, strict=True)
    )
