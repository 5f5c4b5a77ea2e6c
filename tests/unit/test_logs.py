"""What a log line looks like."""

import json
import logging

from winepipelines.logs import JsonFormatter


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
