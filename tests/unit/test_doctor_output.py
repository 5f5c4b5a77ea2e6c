"""The report as a table for people, as JSON for programs, and as the message of a condition."""

import json

import pytest
from support.survey import GOOD, evaluate

from winepipelines.doctor.finding import MESSAGE_LIMIT, Finding, Report, Result, failed, ok, skipped, warning
from winepipelines.doctor.output import as_json, as_table


def named(check: str, finding: Finding) -> Finding:
    return Finding(finding.result, finding.message, finding.remedy, finding.reason, check)


PASSING = named("kubernetes answers", ok("Kubernetes v1.36.3"))
FAILING = named("mlflow answers", failed("MlflowUnreachable", "MLflow: it is away", "kubectl get pods"))
DEPENDENT = named("mlflow authorizes the operator", skipped("Needs: mlflow answers"))
SKIPPED = named("poddefaults act on pods", skipped("may not list webhooks", "kubectl get mutatingwebhookconfigurations"))
RISKY = named("image names are valid", warning("wine may be another image tomorrow", "a tag"))
MIXED = Report((PASSING, FAILING, DEPENDENT, SKIPPED, RISKY))

TABLE = """\
CHECK                           RESULT   DETAILS
kubernetes answers              ok       Kubernetes v1.36.3
mlflow answers                  failed   MLflow: it is away
                                         → to fix it: kubectl get pods
mlflow authorizes the operator  skipped  Needs: mlflow answers
poddefaults act on pods         skipped  may not list webhooks
                                         → to check it: kubectl get mutatingwebhookconfigurations
image names are valid           warning  wine may be another image tomorrow
                                         → to fix it: a tag

1 ok, 1 warning, 1 failed, 2 skipped
"""


def test_table_has_a_line_per_check_and_its_remedy() -> None:
    assert as_table(MIXED) == TABLE


def test_table_breaks_the_line_after_a_long_name() -> None:
    name = "right: secrets " + "s" * 60
    lines = as_table(Report((named(name, ok("may get")),))).splitlines()
    assert lines[1] == name
    assert lines[2].split() == ["ok", "may", "get"]


def test_json_has_every_finding() -> None:
    assert json.loads(as_json(Report((PASSING, FAILING)))) == {
        "exitStatus": 1,
        "counts": {"ok": 1, "warning": 0, "failed": 1, "skipped": 0},
        "findings": [
            {"check": "kubernetes answers", "result": "ok", "message": "Kubernetes v1.36.3"},
            {
                "check": "mlflow answers",
                "result": "failed",
                "message": "MLflow: it is away",
                "remedy": "kubectl get pods",
                "reason": "MlflowUnreachable",
            },
        ],
    }


@pytest.mark.parametrize(
    ("findings", "status"),
    [
        ((PASSING,), 0),
        ((PASSING, RISKY, SKIPPED), 0),
        ((PASSING, FAILING), 1),
        ((FAILING, named("settings are complete", failed("SettingsIncomplete", "not set", "set it"))), 2),
    ],
)
def test_exit_status_is_that_of_the_worst_finding(findings: tuple[Finding, ...], status: int) -> None:
    assert Report(findings).exit_status == status


def test_message_describes_the_first_failure_and_names_the_others() -> None:
    other = named("buckets", failed("BucketMissing", "no bucket", "mc mb"))
    assert Report((PASSING, FAILING, other)).message() == (
        "MLflow: it is away. To fix it: kubectl get pods. Also failing: buckets"
    )
    assert Report((PASSING, RISKY)).message() == "All checks of the platform pass"


def test_message_is_bounded() -> None:
    many = tuple(named(f"check {number}", failed("X", "it is down", "fix it")) for number in range(400))
    assert len(Report(many).message()) == MESSAGE_LIMIT
    huge = named("x", failed("X", "y" * 3000, "z"))
    assert len(Report((huge,)).message()) == MESSAGE_LIMIT


def test_every_finding_names_its_check() -> None:
    for finding in evaluate(GOOD).findings:
        assert finding.check
    assert all(finding.remedy and finding.reason for finding in MIXED.findings if finding.result is Result.FAILED)
