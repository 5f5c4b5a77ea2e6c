"""What people and programs read."""

import json

import pytest
from support.survey import GOOD

from winepipelines.doctor.finding import MESSAGE_LIMIT, Finding, Report, Result, failed, ok, skipped, warning
from winepipelines.doctor.output import as_json, as_table
from winepipelines.doctor.walk import judge


def named(check: str, finding: Finding) -> Finding:
    return Finding(finding.result, finding.says, finding.mend, finding.reason, check)


WELL = named("kubernetes answers", ok("Kubernetes v1.36.3"))
BAD = named("mlflow answers", failed("MlflowUnreachable", "MLflow: it is away", "kubectl get pods"))
NOT_LOOKED_AT = named("mlflow lets the operator in", skipped("stands on: mlflow answers"))
ELSEWHERE = named("poddefaults act on pods", skipped("may not list webhooks", "kubectl get mutatingwebhookconfigurations"))
SO_SO = named("images are well named", warning("wine may be another image tomorrow", "a tag"))
MIXED = Report((WELL, BAD, NOT_LOOKED_AT, ELSEWHERE, SO_SO))

TABLE = """\
CHECK                        RESULT   WHAT IS SO
kubernetes answers           ok       Kubernetes v1.36.3
mlflow answers               failed   MLflow: it is away
                                      → mend it: kubectl get pods
mlflow lets the operator in  skipped  stands on: mlflow answers
poddefaults act on pods      skipped  may not list webhooks
                                      → check it: kubectl get mutatingwebhookconfigurations
images are well named        warning  wine may be another image tomorrow
                                      → mend it: a tag

1 ok, 1 warning, 1 failed, 2 skipped
"""


def test_the_table() -> None:
    assert as_table(MIXED) == TABLE


def test_a_long_name_has_a_line_of_its_own() -> None:
    name = "right: secrets " + "s" * 60
    lines = as_table(Report((named(name, ok("may get")),))).splitlines()
    assert lines[1] == name
    assert lines[2].split() == ["ok", "may", "get"]


def test_the_json() -> None:
    assert json.loads(as_json(Report((WELL, BAD)))) == {
        "exitStatus": 1,
        "counts": {"ok": 1, "warning": 0, "failed": 1, "skipped": 0},
        "findings": [
            {"check": "kubernetes answers", "result": "ok", "says": "Kubernetes v1.36.3"},
            {
                "check": "mlflow answers",
                "result": "failed",
                "says": "MLflow: it is away",
                "mend": "kubectl get pods",
                "reason": "MlflowUnreachable",
            },
        ],
    }


@pytest.mark.parametrize(
    ("findings", "status"),
    [
        ((WELL,), 0),
        ((WELL, SO_SO, ELSEWHERE), 0),
        ((WELL, BAD), 1),
        ((BAD, named("settings are complete", failed("SettingsIncomplete", "not set", "set it"))), 2),
    ],
)
def test_the_exit_status(findings: tuple[Finding, ...], status: int) -> None:
    assert Report(findings).exit_status == status


def test_the_message_tells_the_first_failure_and_names_the_others() -> None:
    other = named("buckets", failed("BucketMissing", "no bucket", "mc mb"))
    assert Report((WELL, BAD, other)).message() == ("MLflow: it is away; to mend it: kubectl get pods; also failing: buckets")
    assert Report((WELL, SO_SO)).message() == "every check of the platform passes"


def test_the_message_is_bounded() -> None:
    many = tuple(named(f"check {number}", failed("X", "it is away", "mend it")) for number in range(400))
    assert len(Report(many).message()) == MESSAGE_LIMIT
    huge = named("x", failed("X", "y" * 3000, "z"))
    assert len(Report((huge,)).message()) == MESSAGE_LIMIT


def test_every_finding_has_a_name_and_failures_have_all() -> None:
    for finding in judge(GOOD).findings:
        assert finding.check
    assert all(finding.mend and finding.reason for finding in MIXED.findings if finding.result is Result.FAILED)
