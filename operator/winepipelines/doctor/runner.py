"""Run all checks once: observe, then evaluate, in reading order."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from winecontract.reasons import Reason
from winepipelines.doctor.check import BackendChecks, Check, CheckedBackend, Evaluate, name_of
from winepipelines.doctor.checks import DATA_HOST, NAMESPACE, platform_checks
from winepipelines.doctor.finding import Finding, Report, Result, skipped
from winepipelines.doctor.observations import Survey
from winepipelines.doctor.probing import NO_TARGETS, CheckTargets, Systems
from winepipelines.doctor.survey import survey

ORDER = (Result.OK, Result.SKIPPED, Result.WARNING, Result.FAILED)


async def run_checks(
    systems: Systems, backend: BackendChecks, targets: CheckTargets = NO_TARGETS, seconds: float = 5.0
) -> Report:
    """Check the platform and the targets. Each answer may take `seconds`."""
    checks = platform_checks(backend) + (NAMESPACE if targets.namespace else ()) + (DATA_HOST if targets.url else ())
    observing = [check.observe for check in checks if check.observe is not None]
    return evaluate(await survey(systems, targets, seconds, observing), backend)


async def check_backends(
    systems: Systems,
    backends: Sequence[CheckedBackend],
    targets: CheckTargets = NO_TARGETS,
    seconds: float = 5.0,
    *,
    optional: bool = False,
) -> Report:
    """Check the platform with each of these serving backends.

    `optional`: a backend that is not installed is no failure as long as another one is.
    """
    runs = (run_checks(replace(systems, backend=backend), backend.checks, targets, seconds) for backend in backends)
    reports = await asyncio.gather(*runs)
    return merged(dict(zip(backends, reports, strict=True)), optional=optional)


def merged(reports: Mapping[CheckedBackend, Report], *, optional: bool = False) -> Report:
    """Merge the reports of several serving backends: of a check that all have, the worst finding. Pure."""
    absent = [backend for backend, report in reports.items() if _is_absent(report)]
    left_out = absent if optional and len(absent) < len(reports) else []
    found: dict[str, list[Finding]] = {}
    for backend, report in reports.items():
        if backend in left_out:
            about = skipped(f"{backend.kind.product} is not installed, and no resource is served by it unless it names it")
            found[f"{backend.name} is installed"] = [replace(about, check=f"{backend.name} is installed")]
            continue
        of_check: dict[str, list[Finding]] = {}
        for finding in report.findings:
            of_check.setdefault(finding.check, []).append(finding)
        for check, findings in of_check.items():
            found[check] = max(found.get(check, findings), findings, key=_badness)
    return Report(tuple(finding for findings in found.values() for finding in findings))


def _is_absent(report: Report) -> bool:
    return any(finding.reason == Reason.SERVING_BACKEND_MISSING for finding in report.failures)


def _badness(findings: Sequence[Finding]) -> int:
    return max(ORDER.index(finding.result) for finding in findings)


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
