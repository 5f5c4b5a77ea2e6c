"""Log lines that text of other systems cannot forge: one record is one line. Used by operator, steps and model server.

Only tracebacks and a record's `details` (`extra={"details": text}`) have lines of their own, and these are indented: a line that
begins at the margin is one that the program wrote.
"""

import logging

from winecontract.text import clean

LINE_LIMIT = 8192  # characters
MOST_LINES = 200  # of a traceback; its end tells most
_INDENT = "    "


class LineFormatter(logging.Formatter):
    """A `logging.Formatter` whose lines are cleaned."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the standard library's name
        """Write the line of a record."""
        return clean(super().formatMessage(record), LINE_LIMIT)

    def format(self, record: logging.LogRecord) -> str:
        """Write a record. What other formatters have left in it of its exception is not used: it is not cleaned."""
        record.message = message_of(record)
        if self.usesTime():
            record.asctime = self.formatTime(record, self.datefmt)
        texts = [str(getattr(record, "details", ""))]
        texts += [self.formatException(record.exc_info)] if record.exc_info else []
        texts += [self.formatStack(record.stack_info)] if record.stack_info else []
        return "\n".join((self.formatMessage(record), *(line for text in texts for line in _indented(text))))


def message_of(record: logging.LogRecord) -> str:
    """Make a record's message, also where its arguments cannot be written."""
    try:
        return record.getMessage()
    except Exception:  # a number of thousands of digits, an object that raises
        return f"{clean(record.msg)} (its arguments cannot be written)"


def guard_handlers() -> None:
    """Have what the root logger's handlers write cleaned, in the form that each has."""
    for handler in logging.getLogger().handlers:
        formatter = handler.formatter
        if not isinstance(formatter, LineFormatter):
            form, dates = (getattr(formatter, name, None) for name in ("_fmt", "datefmt"))
            handler.setFormatter(LineFormatter(form or "%(message)s", dates))


def _indented(text: str) -> list[str]:
    return [f"{_INDENT}{clean(line, LINE_LIMIT)}" for line in text.splitlines()[-MOST_LINES:]]
