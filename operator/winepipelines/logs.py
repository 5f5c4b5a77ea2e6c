"""Log lines: as text for people, or as one JSON object each for a log collector.

A line is a fact: verb and object, then key=value fields, which a record carries as `extra={"fields": {...}}`.
"""

import json
import logging
import re
import warnings
from collections.abc import Mapping
from datetime import UTC, datetime

from winecontract.logs import LINE_LIMIT, LineFormatter, message_of
from winecontract.text import clean

# These log each event, probe or connection, kopf each probe as an activity: only their warnings and errors are logged.
NOISY = ("kopf.objects", "kopf.activities", "aiohttp.access", "urllib3", "kubernetes", "asyncio")
# From which level on these log: the command line reports once why the operator cannot start, as with no kubeconfig.
REPORTED_ELSEWHERE = {"kopf.activities.startup": logging.CRITICAL, "kubernetes.aio.config.kube_config": logging.ERROR}
DATES = "%Y-%m-%dT%H:%M:%S%z"
PLAIN = re.compile(r"[^\s\"=\\]+")


def fields_of(record: logging.LogRecord) -> Mapping[str, object]:
    """Return the fields that a record carries, without those that have no value."""
    fields: Mapping[str, object] = getattr(record, "fields", None) or {}
    return {name: value for name, value in fields.items() if value not in (None, "")}


class TextFormatter(LineFormatter):
    """One line: time, level, logger, message, key=value fields. Only a traceback has lines of its own, which are indented."""

    def __init__(self) -> None:
        """Format times with their offset."""
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s", DATES)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the standard library's name
        """Format a record without its traceback. Text of other systems cannot begin a line or move the cursor."""
        line = super().formatMessage(record)
        fields = "".join(f" {name}={_quoted(value)}" for name, value in fields_of(record).items())
        return clean(line + fields, LINE_LIMIT)


class JsonFormatter(logging.Formatter):
    """One object per line: time (RFC 3339), level, logger, message, the fields and, with a traceback, exception."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record in ASCII: characters that are invisible or change the direction of text are escaped."""
        line: dict[str, object] = {
            **fields_of(record),
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": message_of(record)[:LINE_LIMIT],
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=clean)


def set_up(level: str, form: str) -> None:
    """Log to stderr from `level` on, as "text" or "json"; loggers in NOISY only from warnings on."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for noisy in NOISY:
        logging.getLogger(noisy).setLevel(logging.WARNING)
    for name, least in REPORTED_ELSEWHERE.items():
        logging.getLogger(name).setLevel(least)
    ignore_deprecations()
    logging.captureWarnings(True)


def ignore_deprecations() -> None:
    """Drop urllib3's warnings about clients that use it: their versions are pinned, so that no reader can act on them."""
    warnings.filterwarnings("ignore", category=FutureWarning, message=".*urllib3")


def _quoted(value: object) -> str:
    text = value if isinstance(value, str) else clean(value)
    return text if PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)
