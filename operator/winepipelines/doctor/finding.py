"""What a check found, and what all checks found together. Made by `checks` and `walk`."""

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum

from winecontract.text import Cleaned

SETTINGS_REASON = "SettingsIncomplete"
MESSAGE_LIMIT = 1000


class Result(StrEnum):
    """How a check ended. A warning costs nothing today; what was skipped says why, and how to check it otherwise."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Finding(Cleaned):
    """One line: what is so, and the command or value that mends it. Never a credential.

    `reason` is one word for programs, there where the result is failed; texts do not change while what they tell does not.
    """

    result: Result
    says: str
    mend: str = ""
    reason: str = ""
    check: str = ""


@dataclass(frozen=True)
class Report:
    """All findings, in reading order."""

    findings: tuple[Finding, ...]

    @property
    def failures(self) -> tuple[Finding, ...]:
        """What failed."""
        return tuple(finding for finding in self.findings if finding.result is Result.FAILED)

    @property
    def exit_status(self) -> int:
        """0: nothing failed. 1: something did. 2: the settings are not even complete."""
        failures = self.failures
        return 2 if any(finding.reason == SETTINGS_REASON for finding in failures) else int(bool(failures))

    def counts(self) -> dict[Result, int]:
        """Count the findings of each result."""
        counted = Counter(finding.result for finding in self.findings)
        return {result: counted[result] for result in Result}

    def message(self) -> str:
        """Say what fails first and how to mend it, and what else fails."""
        if not self.failures:
            return "every check of the platform passes"
        first, *others = self.failures
        mend = f"; to mend it: {first.mend}" if first.mend else ""
        more = f"; also failing: {', '.join(finding.check for finding in others)}" if others else ""
        room = MESSAGE_LIMIT - len(first.says) - len(mend)
        return (first.says + mend + (more if len(more) <= room else more[: max(0, room - 1)] + "…"))[:MESSAGE_LIMIT]


def ok(says: str) -> Finding:
    """All is well."""
    return Finding(Result.OK, says)


def warning(says: str, mend: str = "") -> Finding:
    """It works, but for something that a person should know."""
    return Finding(Result.WARNING, says, mend)


def failed(reason: str, says: str, mend: str) -> Finding:
    """It does not work."""
    return Finding(Result.FAILED, says, mend, reason)


def skipped(says: str, mend: str = "") -> Finding:
    """It could not be checked, or need not be; `mend` says how else."""
    return Finding(Result.SKIPPED, says, mend)
