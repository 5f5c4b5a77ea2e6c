"""Text of other systems is bounded, on one line and visible, whichever way it reaches a status, an Event or the log."""

import dataclasses
import inspect
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import BaseModel

from winecontract.text import TEXT_LIMIT, Cleaned, clean, cleaned
from winepipelines.doctor.finding import Finding, Result
from winepipelines.platform import admission, answering, steppods, workloads
from winepipelines.platform.kubernetes import EVENTS, Kubernetes, with_clean_statuses
from winepipelines.resource import observed, outcome, prediction, status, table
from winepipelines.resource.errors import Refused, Unavailable
from winepipelines.resource.model import StatusModel
from winepipelines.resource.pipeline import GROUP, Asks
from winepipelines.resource.status import Condition, Requests, Status

HOSTILE = (
    "a\r\nREADY True\x1b[2J\x1b]0;title\x07\x9b31m "
    "\u202egnp.exe\u202c\u2066\u2028\u2029\u200b\u200d\ufeff\u00ad\u0085\x00\ud800\U000e0041z"
)
UNSEEN = set(HOSTILE) - set("a READYTrue0;title31mgnp.exez[2J]")


def is_clean(text: str) -> bool:
    return len(text) <= TEXT_LIMIT and text.isprintable() and not UNSEEN & set(text)


def test_clean_keeps_ordinary_text() -> None:
    for text in ("", "no healthy upstream", "Qualität – “5,7” … 葡萄酒 🍷", "x" * TEXT_LIMIT):
        assert clean(text) is text


def test_clean_makes_one_visible_line() -> None:
    assert clean(HOSTILE) == "a  READY True gnp.exe    \ufffdz"
    assert is_clean(clean(HOSTILE))
    assert clean("a\u3164b\u115fc\u2800d") == "a b c d"


@pytest.mark.parametrize("limit", [0, 1, 2, 10])
def test_clean_cuts_and_says_so(limit: int) -> None:
    assert len(clean("x" * 50, limit)) == limit
    assert clean("x" * 50, limit).endswith("…") == (limit > 0)
    assert clean(clean("\x1b[31mx" * 50, limit), limit) == clean("\x1b[31mx" * 50, limit)


def test_clean_cuts_before_anything_else() -> None:
    begun = time.process_time()
    assert is_clean(clean("\x1b[" * 50_000_000))
    assert time.process_time() - begun < 1, "the rest of a long text is not looked at"


def nested(levels: int) -> Any:
    value: Any = "x"
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize("value", [10**5000, nested(5000)], ids=["digits", "nested"])
def test_clean_takes_values_that_cannot_be_written(value: Any) -> None:
    assert is_clean(clean(value))


def test_cleaned_leaves_out_what_is_nested_too_deep() -> None:
    assert str(cleaned(nested(5000))).count("[") <= 33
    assert cleaned({HOSTILE: [HOSTILE, 1, None, True]}) == {clean(HOSTILE): [clean(HOSTILE), 1, None, True]}
    assert cleaned({"packed": HOSTILE}, kept=frozenset({"packed"})) == {"packed": HOSTILE}


VALUES: dict[str, Any] = {"str": HOSTILE, "datetime": datetime.now(UTC), "int": 1, "float": 1.0, "bool": False}


def _views() -> list[type[Any]]:
    modules = (observed, outcome)
    return [
        kind
        for module in modules
        for _, kind in inspect.getmembers(module, dataclasses.is_dataclass)
        if isinstance(kind, type) and kind.__module__ == module.__name__
    ]


@pytest.mark.parametrize("view", _views(), ids=lambda view: view.__name__)
def test_what_is_seen_of_other_systems_is_cleaned_by_construction(view: type[Any]) -> None:
    assert issubclass(view, Cleaned)
    fields = dataclasses.fields(view)  # type: ignore[arg-type] # it is a dataclass
    given = {field.name: VALUES.get(str(getattr(field.type, "__name__", field.type))) for field in fields}
    given |= {field.name: (HOSTILE,) for field in fields if "tuple[str" in str(field.type)}
    made = view(**given)
    for field in fields:
        value = getattr(made, field.name)
        texts = [value] if isinstance(value, str) else value if isinstance(value, tuple) else []
        assert all(is_clean(text) for text in texts), field.name


def _parts() -> list[type[BaseModel]]:
    asked = {"Input", "PredictionSpec"}  # what a person asks for: it is kept as it was written
    return [
        kind
        for module in (status, table, prediction)
        for name, kind in inspect.getmembers(module, inspect.isclass)
        if issubclass(kind, BaseModel) and kind.__module__ == module.__name__ and name not in asked
    ]


@pytest.mark.parametrize("part", _parts(), ids=lambda part: part.__name__)
def test_each_part_of_a_status_cleans_its_texts(part: type[BaseModel]) -> None:
    assert issubclass(part, StatusModel)


def test_a_status_is_clean_however_it_is_made() -> None:
    now = datetime.now(UTC)
    condition = Condition(type="Ready", status="False", reason=HOSTILE, message=HOSTILE * 1000, last_transition_time=now)
    assert is_clean(condition.message)
    assert is_clean(condition.reason)
    assert is_clean(condition.with_(message=HOSTILE).message)
    stored = Status.read_leniently({"conditions": [{**condition.model_dump(), "message": HOSTILE}]})
    assert is_clean(stored.conditions[0].message)


def test_a_request_is_known_again_when_its_annotation_is_not_clean() -> None:
    """The status keeps it cleaned: compared with the text as it stands, the resource would be trained again for ever."""
    for text in (HOSTILE, HOSTILE * 100, "\n", "x" * 300):
        asks = Asks.from_annotations({f"{GROUP}/retrain": text})
        assert Requests(retrain=asks.retrain).retrain == asks.retrain


@pytest.mark.parametrize("error", [Refused("R", HOSTILE * 1000, HOSTILE * 1000), Unavailable("U", HOSTILE * 1000)])
def test_an_error_of_the_platform_is_clean(error: Refused | Unavailable) -> None:
    assert is_clean(error.message)
    assert is_clean(error.words)
    assert is_clean(str(error))


def test_a_finding_is_clean() -> None:
    finding = Finding(Result.FAILED, HOSTILE * 1000, HOSTILE, "Reason")
    assert is_clean(finding.says)
    assert is_clean(finding.mend)


async def test_an_event_is_clean() -> None:
    written: list[dict[str, Any]] = []

    class Recorder(Kubernetes):
        def __init__(self) -> None:
            """Connect to nothing."""

        async def _request(self, method: str, path: str, **parameters: Any) -> dict[str, Any]:
            assert path == EVENTS.path("team")
            written.append(parameters["body"])
            return {}

    await Recorder().tell_of({"name": "wine", "namespace": "team"}, "DriftMended", HOSTILE * 1000, warning=True)
    assert is_clean(written[0]["note"])
    assert len(written[0]["note"]) <= 1024, "the API server refuses longer ones"


def test_statuses_are_clean_on_arrival() -> None:
    objects = {"items": [{"metadata": {"name": "x"}, "status": {"description": "x" * 200_000, "nodes": nested(500)}}]}
    [item] = with_clean_statuses(objects)["items"]
    assert is_clean(item["status"]["description"])
    packed = "A" * 200_000
    assert with_clean_statuses({"status": {"compressedNodes": packed}})["status"]["compressedNodes"] == packed
    table = with_clean_statuses({"rows": [{"cells": [HOSTILE, 3], "object": {"metadata": {"name": "x"}}}]})
    assert table["rows"][0]["cells"] == [clean(HOSTILE), 3]


SHAPES = [
    "a",
    "1:",
    "[",
    "1.2.3.4:",
    "0123456789abcdef" * 2 + " ",
    "2026-01-01T00:00:00",
    "a-",
    "\x1b[",
    "\n",
    "<title>",
    "x\u202e",
]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "use",
    [
        lambda text: workloads.steady(text, "wine"),
        lambda text: admission.failure(500, f'failed calling webhook "{text}" {text}'),
        lambda text: admission.failure(403, f'admission webhook "w" denied the request: {text}'),
        lambda text: admission.failure(403, text),
        answering.why_no_answer,
        lambda text: answering.why_no_answer(f"CERTIFICATE_VERIFY_FAILED SSLError Connection to {text}"),
        lambda text: answering.who_answers(500, text, ""),
        lambda text: steppods.view("wine", [], [{"type": "Pod", "phase": "Failed", "name": text, "message": text}]),
    ],
    ids=["steady", "webhook", "denied", "refused", "no-answer", "certificate", "page", "node"],
)
def test_two_megabytes_cost_no_time(use: Any, shape: str) -> None:
    """Field case H1: the event loop stood still for minutes over a 200 kB value in a SeldonDeployment."""
    text = shape * (2_000_000 // len(shape))
    begun = time.process_time()
    use(text)
    assert time.process_time() - begun < 0.5
