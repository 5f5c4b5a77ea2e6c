"""Log lines: for people, or as one JSON object a line for a collector. Set up by the command line."""

import json
import logging
from datetime import UTC, datetime

NOISY = ("kopf.objects", "kopf._core.engines.activities", "aiohttp.access", "urllib3", "kubernetes", "asyncio")
FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"
DATES = "%Y-%m-%dT%H:%M:%S%z"


class JsonFormatter(logging.Formatter):
    """One object a line: time (RFC 3339), level, logger, message and, with a traceback, exception."""

    def format(self, record: logging.LogRecord) -> str:
        """Write a record."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def set_up(level: str, form: str) -> None:
    """Log to stderr from `level` on, as "text" or "json"; what others repeat at every event only from warnings on."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if form == "json" else logging.Formatter(FORMAT, DATES))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for noisy in NOISY:
        logging.getLogger(noisy).setLevel(logging.WARNING)
