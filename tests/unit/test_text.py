"""Text from other systems is bounded, printable and on one line in every status, Event and log line."""

import dataclasses
import inspect
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import BaseModel

from winecontract.reasons import Reason
from winecontract.text import TEXT_LIMIT, Cleaned, clean, cleaned
from winepipelines.api import modelrecord, observed, prediction, scoring, status
from winepipelines.api.errors import Refused, Unavailable
from winepipelines.api.model import StatusModel
from winepipelines.api.pipeline import GROUP, AnnotationRequests
from winepipelines.api.status import Condition, HandledRequests, Status
from winepipelines.doctor.finding import Finding, Result
from winepipelines.platform import admission, answering, steppods, workloads
from winepipelines.platform.kubernetes import EVENTS, Kubernetes, with_clean_statuses

HOSTILE = (
    "a\r\nREADY True\x1b[2J\x1b]0;title\x07\x9b31m "
    "\u202egnp.exe\u202c\u2066\u2028\u2029\u200b\u200d\ufeff\u00ad\u0085\x00\ud800\U000e0041z"
)
REMOVED = set(HOSTILE) - set("a READYTrue0;title31mgnp.exez[2J]")


def is_clean(text: str) -> bool:
    return len(text) <= TEXT_LIMIT and text.isprintable() and not REMOVED & set(text)


def test_clean_keeps_ordinary_text() -> None:
    for text in ("", "no healthy upstream", "Qualität – “5,7” … 葡萄酒 🍷", "x" * TEXT_LIMIT):
        assert clean(text) is text


def test_clean_returns_one_printable_line() -> None:
    assert clean(HOSTILE) == "a  READY True gnp.exe    \ufffdz"
    assert is_clean(clean(HOSTILE))
    assert clean("a\u3164b\u115fc\u2800d") == "a b c d"


@pytest.mark.parametrize("limit", [0, 1, 2, 10])
def test_clean_marks_truncated_text(limit: int) -> None:
    assert len(clean("x" * 50, limit)) == limit
    assert clean("x" * 50, limit).endswith("…") == (limit > 0)
    assert clean(clean("\x1b[31mx" * 50, limit), limit) == clean("\x1b[31mx" * 50, limit)


def test_clean_truncates_before_it_replaces() -> None:
    begun = time.process_time()
    assert is_clean(clean("\x1b[" * 50_000_000))
    assert time.process_time() - begun < 1, "the text beyond the limit must not be processed"


def nested(levels: int) -> Any:
    value: Any = "x"
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize("value", [10**5000, nested(5000)], ids=["digits", "nested"])
def test_clean_accepts_values_that_str_cannot_format(value: Any) -> None:
    assert is_clean(clean(value))


def test_cleaned_drops_values_that_are_nested_too_deep() -> None:
    assert str(cleaned(nested(5000))).count("[") <= 33
    assert cleaned({HOSTILE: [HOSTILE, 1, None, True]}) == {clean(HOSTILE): [clean(HOSTILE), 1, None, True]}
    assert cleaned({"packed": HOSTILE}, kept=frozenset({"packed"})) == {"packed": HOSTILE}


VALUES: dict[str, Any] = {"str": HOSTILE, "datetime": datetime.now(UTC), "int": 1, "float": 1.0, "bool": False}


def _views() -> list[type[Any]]:
    modules = (observed, scoring)
    return [
        kind
        for module in modules
        for _, kind in inspect.getmembers(module, dataclasses.is_dataclass)
        if isinstance(kind, type) and kind.__module__ == module.__name__
    ]


@pytest.mark.parametrize("view", _views(), ids=lambda view: view.__name__)
def test_view_cleans_its_fields_when_it_is_constructed(view: type[Any]) -> None:
    assert issubclass(view, Cleaned)
    fields = dataclasses.fields(view)  # type: ignore[arg-type] # it is a dataclass
    arguments = {field.name: VALUES.get(str(getattr(field.type, "__name__", field.type))) for field in fields}
    arguments |= {field.name: (HOSTILE,) for field in fields if "tuple[str" in str(field.type)}
    instance = view(**arguments)
    for field in fields:
        value = getattr(instance, field.name)
        texts = [value] if isinstance(value, str) else value if isinstance(value, tuple) else []
        assert all(is_clean(text) for text in texts), field.name


def _parts() -> list[type[BaseModel]]:
    spec_models = {"Input", "PredictionSpec"}  # a user's spec is kept unchanged
    return [
        kind
        for module in (status, modelrecord, prediction)
        for name, kind in inspect.getmembers(module, inspect.isclass)
        if issubclass(kind, BaseModel) and kind.__module__ == module.__name__ and name not in spec_models
    ]


@pytest.mark.parametrize("part", _parts(), ids=lambda part: part.__name__)
def test_status_models_clean_their_texts(part: type[BaseModel]) -> None:
    assert issubclass(part, StatusModel)


def test_status_is_clean_when_it_is_constructed_copied_or_read() -> None:
    now = datetime.now(UTC)
    condition = Condition(type="Ready", status="False", reason=HOSTILE, message=HOSTILE * 1000, last_transition_time=now)
    assert is_clean(condition.message)
    assert is_clean(condition.reason)
    assert is_clean(condition.with_(message=HOSTILE).message)
    stored = Status.read_leniently({"conditions": [{**condition.model_dump(), "message": HOSTILE}]})
    assert is_clean(stored.conditions[0].message)


def test_handled_request_equals_its_annotation_when_the_text_is_not_clean() -> None:
    """The status keeps the cleaned text. Compared with the raw text, it would start a retraining in every reconcile."""
    for text in (HOSTILE, HOSTILE * 100, "\n", "x" * 300):
        requests = AnnotationRequests.from_annotations({f"{GROUP}/retrain": text})
        assert HandledRequests(retrain=requests.retrain).retrain == requests.retrain


@pytest.mark.parametrize(
    "error", [Refused(Reason.RUN_FAILED, HOSTILE * 1000, HOSTILE * 1000), Unavailable(Reason.RUN_FAILED, HOSTILE * 1000)]
)
def test_platform_error_is_clean(error: Refused | Unavailable) -> None:
    assert is_clean(error.message)
    assert is_clean(error.words)
    assert is_clean(str(error))


def test_doctor_finding_is_clean() -> None:
    finding = Finding(Result.FAILED, HOSTILE * 1000, HOSTILE, "Reason")
    assert is_clean(finding.message)
    assert is_clean(finding.remedy)


async def test_event_note_is_clean() -> None:
    written: list[dict[str, Any]] = []

    class Recorder(Kubernetes):
        def __init__(self) -> None:
            """Skip the connection."""

        async def _request(self, method: str, path: str, **parameters: Any) -> dict[str, Any]:
            assert path == EVENTS.path("team")
            written.append(parameters["body"])
            return {}

    await Recorder().create_event({"name": "wine", "namespace": "team"}, "DriftCorrected", HOSTILE * 1000, warning=True)
    assert is_clean(written[0]["note"])
    assert len(written[0]["note"]) <= 1024, "the API server rejects longer notes"


def test_statuses_are_cleaned_when_they_are_read() -> None:
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
def test_text_of_two_megabytes_is_processed_in_bounded_time(use: Any, shape: str) -> None:
    """A value of 200 kB in a SeldonDeployment once blocked the event loop for minutes."""
    text = shape * (2_000_000 // len(shape))
    begun = time.process_time()
    use(text)
    assert time.process_time() - begun < 0.5
