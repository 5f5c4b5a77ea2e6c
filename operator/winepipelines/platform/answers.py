"""What a model's server answers, compared with what the model itself said of its own example. Called by `seldon`."""

import json
import math
import statistics
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import aiohttp

from winepipelines.platform.answering import who_answers
from winepipelines.platform.records import Example
from winepipelines.resource.observed import PredictionCheck, TrialView
from winepipelines.resource.spec import Protocol

TOLERANCE = 1e-6  # relative: the same packages compute the same numbers, JSON writes them in decimal
TRIAL_PREDICTIONS = 20  # that each of two models is asked for in one look
DIFFERS = "PredictionDiffers"
ANSWER_LIMIT = 1 << 20  # bytes of an answer that are read
UNREACHABLE = "EndpointUnreachable"
SILENT = 3  # predictions without any answer after which a trial is not asked for the others
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
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True), timeout=timeout)


async def ask(session: aiohttp.ClientSession, asked: Asked) -> PredictionCheck:
    """Ask for a prediction and compare it with what the model itself said."""
    url, protocol, example = asked.url, asked.protocol, asked.example
    at, begun = datetime.now(UTC), time.perf_counter()

    def failed(reason: str, message: str, milliseconds: int = 0) -> PredictionCheck:
        return PredictionCheck(at, False, None, milliseconds, reason, message, url, protocol)

    try:
        async with session.post(url, json=_request(protocol, example), allow_redirects=False) as response:
            text = await response.content.read(ANSWER_LIMIT)
            status = response.status
    except (aiohttp.ClientError, TimeoutError):
        return failed(UNREACHABLE, f"{url} does not answer")
    milliseconds = round((time.perf_counter() - begun) * 1000)
    if status != 200 and (other := who_answers(status, text.decode(errors="replace"), "")):  # not the model's server
        reason = UNREACHABLE if status >= 500 else "PredictionRefused"
        return failed(reason, f"{url} answered {status}: {other}", milliseconds)
    if status != 200:
        return failed("PredictionRefused", f"{url} answered {status} to the model's own example", milliseconds)
    values = _predictions(text)
    if values is None or not _agree(values, example.predictions):
        got = "something that is no prediction" if values is None else json.dumps(values[:3])
        message = f"{url} answered {got} to the model's own example; the model itself says {json.dumps(example.predictions[:3])}"
        return failed(DIFFERS, message, milliseconds)
    return PredictionCheck(at, True, values[0], milliseconds, url=url, protocol=protocol)


async def compare(session: aiohttp.ClientSession, served: Asked | None, trial: Asked) -> TrialView:
    """Ask the model that serves, where there is something to ask it with, and the one on trial, in turns."""
    checks, served_checks = [], []
    for _ in range(TRIAL_PREDICTIONS):
        if served is not None:
            served_checks.append(await ask(session, served))
        checks.append(await ask(session, trial))
        if len(checks) == SILENT and all(check.reason == UNREACHABLE for check in checks):
            break
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
        milliseconds=statistics.median(check.milliseconds for check in checks),
        served_milliseconds=statistics.median(check.milliseconds for check in served_checks) if served_checks else math.inf,
        served_reason=worst.reason if worst else "",
        served_message=worst.message if worst else "",
    )


def _request(protocol: Protocol, example: Example) -> dict[str, Any]:
    """Ask about an example's rows, with the model's own column names."""
    if protocol is Protocol.SELDON:
        return {"data": {"names": example.names, "ndarray": example.rows}}
    shape = [len(example.rows), 1]
    columns = zip(example.names, zip(*example.rows, strict=True), strict=True)
    return {"inputs": [{"name": name, "datatype": "FP64", "shape": shape, "data": list(data)} for name, data in columns]}


def _predictions(text: bytes) -> list[float] | None:
    """Read the numbers of a Seldon message, or of an Open Inference Protocol answer's first output."""
    try:
        answer: dict[str, Any] = json.loads(text)
        if "outputs" in answer:
            values = answer["outputs"][0]["data"]
        else:
            data = answer["data"]
            values = data["tensor"]["values"] if "tensor" in data else data["ndarray"]
        return [float(value[0]) if isinstance(value, list) else float(value) for value in values]
    except (ValueError, KeyError, TypeError, IndexError):
        return None


def _agree(values: Iterable[float], expected: list[float]) -> bool:
    values = list(values)
    return len(values) == len(expected) and all(
        math.isclose(value, want, rel_tol=TOLERANCE, abs_tol=TOLERANCE) for value, want in zip(values, expected, strict=True)
    )
