"""One walk: look, then judge, in reading order. Called by `command` and `watch`."""

from dataclasses import replace

from winepipelines.doctor.asking import Systems
from winepipelines.doctor.checks import DATA_HOST, NAMESPACE, PLATFORM, Check, Judge, name_of
from winepipelines.doctor.finding import Finding, Report, Result, skipped
from winepipelines.doctor.observations import Survey
from winepipelines.doctor.survey import Wishes, survey

NOTHING_ELSE = Wishes()


async def walk(systems: Systems, wishes: Wishes = NOTHING_ELSE, seconds: float = 5.0) -> Report:
    """Look at the platform, and at what else is wished, and judge it."""
    return judge(await survey(systems, wishes, seconds))


def judge(seen: Survey) -> Report:
    """Run the checks on what was seen. Pure."""
    checks = PLATFORM + (NAMESPACE if seen.namespace else ()) + (DATA_HOST if seen.data_host else ())
    findings: list[Finding] = []
    bad: set[Judge] = set()
    for check in checks:
        found = _run(check, seen, bad)
        if any(finding.result in (Result.FAILED, Result.SKIPPED) for finding in found):
            bad.add(check.judge)
        findings += [finding if finding.check else replace(finding, check=check.name) for finding in found]
    return Report(tuple(findings))


def _run(check: Check, seen: Survey, bad: set[Judge]) -> list[Finding]:
    if (first := next((need for need in check.needs if need in bad), None)) is not None:
        return [skipped(f"stands on: {name_of(first)}")]
    found = check.judge(seen)
    return found if isinstance(found, list) else [found]
