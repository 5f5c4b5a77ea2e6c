"""The finding of one check, and the report of all checks."""

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum

from winecontract.reasons import Reason
from winecontract.text import Cleaned

SETTINGS_REASON = Reason.SETTINGS_INCOMPLETE
MESSAGE_LIMIT = 1000


class Result(StrEnum):
    """Result of a check. A warning needs no action now; a skipped check says why, and how to check it in another way."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Finding(Cleaned):
    """What was observed (`message`), and the command or value that fixes it (`remedy`). Never contains a credential.

    `reason` is a CamelCase word for programs, set where the result is failed. The texts are stable: they change only when the
    observation does.
    """

    result: Result
    message: str
    remedy: str = ""
    reason: str = ""
    check: str = ""


@dataclass(frozen=True)
class Report:
    """All findings, in reading order."""

    findings: tuple[Finding, ...]

    @property
    def failures(self) -> tuple[Finding, ...]:
        """The findings that failed."""
        return tuple(finding for finding in self.findings if finding.result is Result.FAILED)

    @property
    def exit_status(self) -> int:
        """0: nothing failed. 1: a check failed. 2: settings are incomplete."""
        failures = self.failures
        return 2 if any(finding.reason == SETTINGS_REASON for finding in failures) else int(bool(failures))

    def counts(self) -> dict[Result, int]:
        """Count the findings of each result."""
        counted = Counter(finding.result for finding in self.findings)
        return {result: counted[result] for result in Result}

    def message(self) -> str:
        """Describe the first failure with its remedy, and name the other checks that fail."""
        if not self.failures:
            return "All checks of the platform pass"
        first, *others = self.failures
        remedy = f". To fix it: {first.remedy}" if first.remedy else ""
        more = f". Also failing: {', '.join(finding.check for finding in others)}" if others else ""
        room = MESSAGE_LIMIT - len(first.message) - len(remedy)
        return (first.message + remedy + (more if len(more) <= room else more[: max(0, room - 1)] + "…"))[:MESSAGE_LIMIT]


def ok(message: str) -> Finding:
    """The check passes."""
    return Finding(Result.OK, message)


def warning(message: str, remedy: str = "") -> Finding:
    """The check passes, with a risk that an administrator should know."""
    return Finding(Result.WARNING, message, remedy)


def failed(reason: str, message: str, remedy: str) -> Finding:
    """The check fails."""
    return Finding(Result.FAILED, message, remedy, reason)


def skipped(message: str, remedy: str = "") -> Finding:
    """The check could not run, or need not; `remedy` says how to check it in another way."""
    return Finding(Result.SKIPPED, message, remedy)
