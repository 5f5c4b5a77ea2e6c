"""Format a report: a table for people, JSON for programs. Pure."""

import json

from winepipelines.doctor.finding import Report, Result

WIDTH = 50  # of the first column; a longer name has a line of its own


def as_table(report: Report) -> str:
    """Write a line for each check, and its remedy on the line below."""
    width = min(WIDTH, max(len(finding.check) for finding in report.findings))
    lines = [f"{'CHECK':<{width}}  RESULT   DETAILS"]
    for finding in report.findings:
        name = finding.check
        if len(name) > width:
            lines.append(name)
            name = ""
        lines.append(f"{name:<{width}}  {finding.result:<7}  {finding.message}".rstrip())
        if finding.remedy:
            label = "to check it" if finding.result is Result.SKIPPED else "to fix it"
            lines.append(f"{'':<{width}}           → {label}: {finding.remedy}")
    counts = ", ".join(f"{count} {result}" for result, count in report.counts().items() if count)
    return "\n".join([*lines, "", counts, ""])


def as_json(report: Report) -> str:
    """Write all findings and the exit status."""
    findings = [
        {
            "check": finding.check,
            "result": finding.result.value,
            "message": finding.message,
            **({"remedy": finding.remedy} if finding.remedy else {}),
            **({"reason": finding.reason} if finding.reason else {}),
        }
        for finding in report.findings
    ]
    counts = {result.value: count for result, count in report.counts().items()}
    body = {"exitStatus": report.exit_status, "counts": counts, "findings": findings}
    return json.dumps(body, indent=2, ensure_ascii=False) + "\n"
