"""What a log line looks like."""

import json
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import kopf
import pytest
from kopf._cogs.structs.ephemera import AnyMemo
from kopf._core.engines.activities import run_activity
from kopf._core.engines.indexing import OperatorIndexers
from kopf._core.intents.causes import Activity

from winecontract.logs import LineFormatter, guard_handlers
from winepipelines import logs
from winepipelines.logs import JsonFormatter, TextFormatter


def _record(message: str, *args: object, error: BaseException | None = None) -> logging.LogRecord:
    thrown = (type(error), error, error.__traceback__) if error else None
    return logging.LogRecord("winepipelines.reconciler", logging.WARNING, __file__, 1, message, args, thrown)


def test_a_json_line_is_one_object_on_one_line() -> None:
    text = JsonFormatter().format(_record("%s: two\nlines", "admin/mlflow"))
    assert "\n" not in text
    line = json.loads(text)
    assert line["message"] == "admin/mlflow: two\nlines"
    assert line["level"] == "warning"
    assert line["logger"] == "winepipelines.reconciler"
    assert line["time"].endswith("+00:00")


def test_a_json_line_has_the_traceback() -> None:
    line = json.loads(JsonFormatter().format(_record("failed", error=ValueError("why"))))
    assert "ValueError: why" in line["exception"]


FIELDS: dict[str, Any] = {
    "namespace": "admin",
    "name": "wine",
    "error": 'two\nlines of "text"',
    "empty": "",
    "none": None,
    "count": 3,
}


def _with_fields(message: str) -> logging.LogRecord:
    record = _record(message)
    record.fields = FIELDS
    return record


def test_a_text_line_has_key_value_fields() -> None:
    line = TextFormatter().format(_with_fields("Wrote status"))
    assert line.endswith(
        r'WARNING winepipelines.reconciler Wrote status namespace=admin name=wine error="two\nlines of \"text\"" count=3'
    )


def test_a_json_line_has_the_fields_as_keys() -> None:
    line = json.loads(JsonFormatter().format(_with_fields("Wrote status")))
    assert line["message"] == "Wrote status"
    assert (line["namespace"], line["name"], line["count"]) == ("admin", "wine", 3)
    assert "empty" not in line


def test_text_of_other_systems_stays_on_its_line() -> None:
    assert "\n" not in TextFormatter().format(_record("answered %s", "a\nERROR forged \x1b[31m\u2028x"))
    assert "\x1b" not in TextFormatter().format(_record("answered %s", "\x1b[31m"))


@pytest.fixture
def set_up() -> Iterator[None]:
    """Log as the operator does, and put everything back."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in (*logs.NOISY, *logs.SAID_ELSEWHERE)}
    with warnings.catch_warnings():
        logs.set_up("info", "text")
        yield
        logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)


async def _probe(registry: kopf.OperatorRegistry) -> None:
    await run_activity(
        lifecycle=kopf.lifecycles.all_at_once,
        registry=registry,
        settings=kopf.OperatorSettings(),
        activity=Activity.PROBE,
        indices=OperatorIndexers().indices,
        memo=AnyMemo(kopf.Memo()),
    )


@pytest.mark.usefixtures("set_up")
async def test_a_probe_that_passes_is_not_logged(capfd: pytest.CaptureFixture[str]) -> None:
    registry = kopf.OperatorRegistry()

    @kopf.on.probe(registry=registry)
    async def passes(**_: Any) -> int:
        return 1

    logs.set_up("info", "text")  # the handler writes to the standard error of this moment
    await _probe(registry)
    assert capfd.readouterr().err == ""


@pytest.mark.usefixtures("set_up")
async def test_a_probe_that_fails_is_logged(capfd: pytest.CaptureFixture[str]) -> None:
    registry = kopf.OperatorRegistry()

    @kopf.on.probe(registry=registry)
    async def fails(**_: Any) -> None:
        raise kopf.PermanentError("a reconcile hangs")

    logs.set_up("info", "text")
    with pytest.raises(Exception, match="handlers failed"):
        await _probe(registry)
    assert "a reconcile hangs" in capfd.readouterr().err


@pytest.mark.usefixtures("set_up")
def test_warnings_are_log_lines_but_for_deprecations_in_pinned_clients(capfd: pytest.CaptureFixture[str]) -> None:
    logs.set_up("info", "json")
    warnings.warn("'ssl_version' option is deprecated and will be removed in urllib3 v3.0", FutureWarning, stacklevel=1)
    assert capfd.readouterr().err == ""
    warnings.warn("something else", RuntimeWarning, stacklevel=1)
    assert "something else" in json.loads(capfd.readouterr().err)["message"]


FORGED = "2026-01-05T12:00:00+0000 INFO winepipelines.reconciler Wrote status ready=True"
ATTACK = f"a\n{FORGED}\r{FORGED}\u2028{FORGED}\x0b{FORGED}\x85{FORGED}\x1b[2K\x1b[1A\u202e\u200b\x00\ud800"
WEIRD = (Exception(ATTACK), RecursionError(ATTACK), ValueError(10**5000))


def _logged(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    text = formatter.format(record)
    assert text.encode()
    assert all(line.isprintable() for line in text.split("\n"))
    return text


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter(), LineFormatter("%(asctime)s %(message)s")])
def test_text_of_other_systems_forges_no_line(formatter: logging.Formatter) -> None:
    """Field case M3: the message of a tenant's pod wrote whole lines of the operator's log."""
    record = _record("answered %s", ATTACK)
    record.fields = {"error": ATTACK, "details": ATTACK * 1000}
    assert "\n" not in _logged(formatter, record)


@pytest.mark.parametrize("error", WEIRD, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("formatter", [TextFormatter(), LineFormatter("%(asctime)s %(message)s")])
def test_text_of_other_systems_in_a_traceback_forges_no_line(formatter: logging.Formatter, error: Exception) -> None:
    record = _record("failed", error=error)
    record.stack_info, record.details = ATTACK, ATTACK
    record.exc_text = ATTACK  # as another handler's formatter may have left it
    first, *others = _logged(formatter, record).split("\n")
    assert "failed" in first
    assert others
    assert all(line.startswith("    ") for line in others)


def test_arguments_that_cannot_be_written_lose_no_line(capfd: pytest.CaptureFixture[str]) -> None:
    for formatter in (TextFormatter(), JsonFormatter(), LineFormatter("%(message)s")):
        assert "answered %s (its arguments cannot be written)" in formatter.format(_record("answered %s", 10**5000))
    assert capfd.readouterr().err == ""


def test_a_line_is_bounded() -> None:
    for formatter in (TextFormatter(), JsonFormatter(), LineFormatter("%(message)s")):
        assert len(formatter.format(_record("answered %s", "x" * 1_000_000))) < 10_000


def test_handlers_that_others_have_set_up_are_guarded(capfd: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before, handler = root.handlers[:], logging.StreamHandler()
    handler.setFormatter(logging.Formatter("[KFP Executor %(levelname)s]: %(message)s"))
    root.handlers[:] = [handler]
    try:
        guard_handlers()
        guard_handlers()
        logging.getLogger("winesteps").warning("column %s", ATTACK)
    finally:
        root.handlers[:] = before
    said = capfd.readouterr().err
    assert said.startswith("[KFP Executor WARNING]: column a 2026")
    assert said.count("\n") == 1
