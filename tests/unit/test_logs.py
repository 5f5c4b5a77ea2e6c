"""Format of log lines: fields, escaping, tracebacks and length."""

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
    return logging.LogRecord("winepipelines.engine.controller", logging.WARNING, __file__, 1, message, args, thrown)


def test_json_record_is_one_line() -> None:
    text = JsonFormatter().format(_record("%s: two\nlines", "admin/mlflow"))
    assert "\n" not in text
    line = json.loads(text)
    assert line["message"] == "admin/mlflow: two\nlines"
    assert line["level"] == "warning"
    assert line["logger"] == "winepipelines.engine.controller"
    assert line["time"].endswith("+00:00")


def test_json_record_has_the_traceback() -> None:
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


def test_text_line_has_key_value_fields() -> None:
    line = TextFormatter().format(_with_fields("Wrote status"))
    assert line.endswith(
        r'WARNING winepipelines.engine.controller Wrote status namespace=admin name=wine error="two\nlines of \"text\"" count=3'
    )


def test_json_record_has_the_fields_as_keys() -> None:
    line = json.loads(JsonFormatter().format(_with_fields("Wrote status")))
    assert line["message"] == "Wrote status"
    assert (line["namespace"], line["name"], line["count"]) == ("admin", "wine", 3)
    assert "empty" not in line


def test_text_line_escapes_control_characters() -> None:
    assert "\n" not in TextFormatter().format(_record("answered %s", "a\nERROR forged \x1b[31m\u2028x"))
    assert "\x1b" not in TextFormatter().format(_record("answered %s", "\x1b[31m"))


@pytest.fixture
def set_up() -> Iterator[None]:
    """Set up logging as the operator does, and restore it."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in (*logs.NOISY, *logs.REPORTED_ELSEWHERE)}
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
async def test_successful_probe_is_not_logged(capfd: pytest.CaptureFixture[str]) -> None:
    registry = kopf.OperatorRegistry()

    @kopf.on.probe(registry=registry)
    async def passes(**_: Any) -> int:
        return 1

    logs.set_up("info", "text")  # the handler writes to the current standard error
    await _probe(registry)
    assert capfd.readouterr().err == ""


@pytest.mark.usefixtures("set_up")
async def test_failed_probe_is_logged(capfd: pytest.CaptureFixture[str]) -> None:
    registry = kopf.OperatorRegistry()

    @kopf.on.probe(registry=registry)
    async def fails(**_: Any) -> None:
        raise kopf.PermanentError("a reconcile hangs")

    logs.set_up("info", "text")
    with pytest.raises(Exception, match="handlers failed"):
        await _probe(registry)
    assert "a reconcile hangs" in capfd.readouterr().err


@pytest.mark.usefixtures("set_up")
def test_warnings_are_logged_except_deprecations_of_pinned_clients(capfd: pytest.CaptureFixture[str]) -> None:
    logs.set_up("info", "json")
    warnings.warn("'ssl_version' option is deprecated and will be removed in urllib3 v3.0", FutureWarning, stacklevel=1)
    assert capfd.readouterr().err == ""
    warnings.warn("something else", RuntimeWarning, stacklevel=1)
    assert "something else" in json.loads(capfd.readouterr().err)["message"]


FORGED = "2026-01-05T12:00:00+0000 INFO winepipelines.engine.controller Wrote status ready=True"
ATTACK = f"a\n{FORGED}\r{FORGED}\u2028{FORGED}\x0b{FORGED}\x85{FORGED}\x1b[2K\x1b[1A\u202e\u200b\x00\ud800"
WEIRD = (Exception(ATTACK), RecursionError(ATTACK), ValueError(10**5000))


def _logged(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    text = formatter.format(record)
    assert text.encode()
    assert all(line.isprintable() for line in text.split("\n"))
    return text


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter(), LineFormatter("%(asctime)s %(message)s")])
def test_record_with_foreign_text_is_one_line(formatter: logging.Formatter) -> None:
    """Field case M3: the message of a tenant's pod forged lines of the operator's log."""
    record = _record("answered %s", ATTACK)
    record.fields = {"error": ATTACK, "details": ATTACK * 1000}
    assert "\n" not in _logged(formatter, record)


@pytest.mark.parametrize("error", WEIRD, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("formatter", [TextFormatter(), LineFormatter("%(asctime)s %(message)s")])
def test_traceback_with_foreign_text_is_indented(formatter: logging.Formatter, error: Exception) -> None:
    record = _record("failed", error=error)
    record.stack_info, record.details = ATTACK, ATTACK
    record.exc_text = ATTACK  # as cached by another handler's formatter
    first, *others = _logged(formatter, record).split("\n")
    assert "failed" in first
    assert others
    assert all(line.startswith("    ") for line in others)


def test_record_is_written_when_its_arguments_cannot_be_formatted(capfd: pytest.CaptureFixture[str]) -> None:
    for formatter in (TextFormatter(), JsonFormatter(), LineFormatter("%(message)s")):
        assert "answered %s (its arguments cannot be written)" in formatter.format(_record("answered %s", 10**5000))
    assert capfd.readouterr().err == ""


def test_line_length_is_bounded() -> None:
    for formatter in (TextFormatter(), JsonFormatter(), LineFormatter("%(message)s")):
        assert len(formatter.format(_record("answered %s", "x" * 1_000_000))) < 10_000


def test_guard_handlers_wraps_existing_formatters(capfd: pytest.CaptureFixture[str]) -> None:
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
    output = capfd.readouterr().err
    assert output.startswith("[KFP Executor WARNING]: column a 2026")
    assert output.count("\n") == 1
