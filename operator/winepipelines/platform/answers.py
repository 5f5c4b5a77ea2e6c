"""What a model's server answers, compared with what the model itself said of its own example. Called by `seldon`."""

import asyncio
import json
import math
import statistics
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import aiohttp

from winecontract.parsing import UnreadableError, is_finite_number, parse_object
from winecontract.text import clean
from winepipelines.platform.answering import who_answers
from winepipelines.platform.records import Example
from winepipelines.platform.resolver import Resolver, why_foreign
from winepipelines.resource.observed import PredictionCheck, TrialView
from winepipelines.resource.spec import Protocol

TOLERANCE = 1e-6  # relative: the same packages compute the same numbers, JSON writes them in decimal
TRIAL_PREDICTIONS = 20  # that each of two models is asked for in one look
DIFFERS = "PredictionDiffers"
ANSWER_LIMIT = 1 << 20  # bytes of an answer that are read
UNREACHABLE = "EndpointUnreachable"
UNCOMPRESSED = {"Accept-Encoding": "identity"}
SILENT = 3  # predictions without any answer, one after another, after which a model is not asked again in a comparison
COMPARISON_SECONDS = 30.0  # that all predictions of a comparison may take together
PREDICTION_SECONDS = 4.0  # that one of them may take
CONNECT_SECONDS = 3.0  # that a connection to a served model may take: longer, and nobody is there


@dataclass(frozen=True)
class Asked:
    """What is asked, and of which server."""

    url: str
    protocol: Protocol
    example: Example


def session(request_seconds: float) -> aiohttp.ClientSession:
    """Make a session that asks each question over a connection of its own: one that is kept leads to a pod that was replaced."""
    timeout = aiohttp.ClientTimeout(total=request_seconds, sock_connect=CONNECT_SECONDS)
    # No limit of connections: one that many tenants share would make them wait for whoever has endpoints that hang.
    connector = aiohttp.TCPConnector(force_close=True, limit=0, resolver=Resolver())
    return aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False)


async def ask(session: aiohttp.ClientSession, asked: Asked, seconds: float | None = None) -> PredictionCheck:
    """Ask for a prediction and compare it with what the model itself said.

    `seconds` is a deadline for the whole answer, to its last byte, beside the session's own.
    """
    url, protocol, example = asked.url, asked.protocol, asked.example
    at, begun = datetime.now(UTC), time.perf_counter()

    def failed(reason: str, message: str, milliseconds: int = 0) -> PredictionCheck:
        return PredictionCheck(at, False, None, milliseconds, reason, message, url, protocol)

    try:
        # Nothing is decompressed: a few bytes may stand for gigabytes.
        request = session.post(url, json=_request(protocol, example), allow_redirects=False, headers=UNCOMPRESSED)
        async with asyncio.timeout(seconds), request as response:
            text = await _read(response)
            status = response.status
    except UnreadableError as error:
        return failed("PredictionRefused", f"{url} sent an answer that is not read: {error}")
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:  # ValueError: headers that the client cannot read
        foreign = why_foreign(error)
        return failed(UNREACHABLE, f"{url} is not asked: {foreign}" if foreign else f"{url} does not answer")
    milliseconds = round((time.perf_counter() - begun) * 1000)
    if status != 200 and (other := who_answers(status, text.decode(errors="replace"), "")):  # not the model's server
        reason = UNREACHABLE if status >= 500 else "PredictionRefused"
        return failed(reason, f"{url} answered {status}: {other}", milliseconds)
    if status != 200:
        return failed("PredictionRefused", f"{url} answered {status} to the model's own example", milliseconds)
    values = _predictions(text)
    if isinstance(values, str) or not _agree(values, example.predictions):
        got = f"something that is no prediction ({values})" if isinstance(values, str) else json.dumps(values[:3])
        message = f"{url} answered {got} to the model's own example; the model itself says {json.dumps(example.predictions[:3])}"
        return failed(DIFFERS, message, milliseconds)
    return PredictionCheck(at, True, values[0], milliseconds, url=url, protocol=protocol)


async def compare(
    session: aiohttp.ClientSession, served: Asked | None, trial: Asked, seconds: float = COMPARISON_SECONDS
) -> TrialView:
    """Ask the model that serves, where there is something to ask it with, and the one on trial, in turns.

    Takes at most `seconds`, whatever the endpoints do: a turn that might not end in time is not begun, so that slow models are
    judged by fewer predictions, and a model that is silent is not asked again.
    """
    checks: list[PredictionCheck] = []
    served_checks: list[PredictionCheck] = []
    each = min(PREDICTION_SECONDS, seconds / (2 * SILENT + 1))  # two models that hang have their turns
    last_turn = time.monotonic() + seconds - 2 * each
    while len(checks) < TRIAL_PREDICTIONS and (not checks or time.monotonic() <= last_turn) and not _is_silent(checks):
        if served is not None and not _is_silent(served_checks):
            served_checks.append(await ask(session, served, each))
        checks.append(await ask(session, trial, each))
    failures = [check for check in checks if not check.passed]
    first = next((check for check in failures if check.reason == DIFFERS), next(iter(failures), None))
    lost = [check for check in served_checks if not check.passed]
    worst = lost[0] if len(lost) > len(served_checks) / 2 else None
    return TrialView(
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


def _median(checks: list[PredictionCheck], otherwise: float) -> float:
    """Compute the median duration of those that were answered."""
    return statistics.median([check.milliseconds for check in checks if check.reason != UNREACHABLE] or [otherwise])


def _is_silent(checks: list[PredictionCheck]) -> bool:
    """Tell whether a model has not answered the last few times."""
    return len(checks) >= SILENT and all(check.reason == UNREACHABLE for check in checks[-SILENT:])


def _request(protocol: Protocol, example: Example) -> dict[str, Any]:
    """Ask about an example's rows, with the model's own column names."""
    if protocol is Protocol.SELDON:
        return {"data": {"names": example.names, "ndarray": example.rows}}
    shape = [len(example.rows), 1]
    columns = zip(example.names, zip(*example.rows, strict=True), strict=True)
    return {"inputs": [{"name": name, "datatype": "FP64", "shape": shape, "data": list(data)} for name, data in columns]}


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """Read an answer; its bytes may come one by one. Raises UnreadableError where it is too long, or compressed."""
    if (encoding := response.headers.get("Content-Encoding", "identity").strip().lower()) not in ("", "identity"):
        raise UnreadableError(f"its Content-Encoding is {clean(encoding, 40)}, and compressed answers are not read")
    text = bytearray()
    while more := await response.content.read(ANSWER_LIMIT + 1 - len(text)):
        text += more
        if len(text) > ANSWER_LIMIT:
            raise UnreadableError(f"it is longer than {ANSWER_LIMIT} bytes")
    return bytes(text)


def _predictions(text: bytes) -> list[float] | str:
    """Read the numbers of a Seldon message, or of an Open Inference Protocol answer's first output; else say what is wrong."""
    try:
        answer = parse_object(text, ANSWER_LIMIT)
        if "outputs" in answer:
            values = answer["outputs"][0]["data"]
        else:
            data = answer["data"]
            values = data["tensor"]["values"] if "tensor" in data else data["ndarray"]
        numbers = [value[0] if isinstance(value, list) else value for value in values]
    except UnreadableError as error:
        return str(error)
    except (KeyError, TypeError, IndexError):
        return "it is JSON of another form"
    return list(map(float, numbers)) if all(map(is_finite_number, numbers)) else "it is a list of other values than numbers"


def _agree(values: Iterable[float], expected: list[float]) -> bool:
    values = list(values)
    return len(values) == len(expected) and all(
        math.isclose(value, want, rel_tol=TOLERANCE, abs_tol=TOLERANCE) for value, want in zip(values, expected, strict=True)
    )
