"""Run all checks once: observe, then evaluate, in reading order."""

from collections.abc import Iterable
from dataclasses import replace

from winepipelines.doctor.check import BackendChecks, Check, Evaluate, name_of
from winepipelines.doctor.checks import DATA_HOST, NAMESPACE, platform_checks
from winepipelines.doctor.finding import Finding, Report, Result, skipped
from winepipelines.doctor.observations import Survey
from winepipelines.doctor.probing import NO_TARGETS, CheckTargets, Systems
from winepipelines.doctor.survey import survey


async def run_checks(
    systems: Systems, backend: BackendChecks, targets: CheckTargets = NO_TARGETS, seconds: float = 5.0
) -> Report:
    """Check the platform and the targets. Each answer may take `seconds`."""
    checks = platform_checks(backend) + (NAMESPACE if targets.namespace else ()) + (DATA_HOST if targets.url else ())
    observing = [check.observe for check in checks if check.observe is not None]
    return evaluate(await survey(systems, targets, seconds, observing), backend)


def evaluate(seen: Survey, backend: BackendChecks) -> Report:
    """Evaluate the checks on what was observed. Pure."""
    checks = platform_checks(backend) + (NAMESPACE if seen.namespace else ()) + (DATA_HOST if seen.data_host else ())
    return evaluate_checks(checks, seen)


def evaluate_checks(checks: Iterable[Check], seen: Survey) -> Report:
    """Evaluate some checks; one whose `needs` did not pass is skipped."""
    findings: list[Finding] = []
    unmet: set[Evaluate] = set()
    for check in checks:
        found = _evaluate(check, seen, unmet)
        if any(finding.result in (Result.FAILED, Result.SKIPPED) for finding in found):
            unmet.add(check.evaluate)
        findings += [finding if finding.check else replace(finding, check=check.name) for finding in found]
    return Report(tuple(findings))


def _evaluate(check: Check, seen: Survey, unmet: set[Evaluate]) -> list[Finding]:
    if (first := next((need for need in check.needs if need in unmet), None)) is not None:
        return [skipped(f"Needs: {name_of(first)}")]
    found = check.evaluate(seen)
    return found if isinstance(found, list) else [found]
