"""Failures as the operator reads them in MLflow, and what must never be read there or in the log."""

import json
import logging
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from winecontract import signatures, termination
from winecontract.reasons import Reason
from winecontract.tags import PREFIX
from winesteps import failures, tracking
from winesteps.failures import (
    MESSAGE_LENGTH,
    StepFailure,
    describe,
    redact,
    redact_url,
    reporting,
    unquoted,
    without_templates,
)

OWNER = {"namespace": "admin", "name": "mlflow", "uid": "1f0c", "revision": 7.0}
"""As Kubeflow hands it on: numbers in a struct are floats."""
IDENTITY = {
    "winepipelines.io/namespace": "admin",
    "winepipelines.io/name": "mlflow",
    "winepipelines.io/uid": "1f0c",
    "winepipelines.io/revision": "7",
    "winepipelines.io/kfp-run": "run-1",
}
SECRETS = {"AWS_ACCESS_KEY_ID": "the-access-key", "AWS_SECRET_ACCESS_KEY": "the-access-key-and-more"}


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> Mapping[str, str]:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    return SECRETS


def record(store: str, owner: Mapping[str, Any] = OWNER) -> tracking.Record:
    return tracking.Record(store, "wine", owner=owner, kfp_run="run-1")


def runs(store: str) -> list[Run]:
    client = MlflowClient(store)
    experiment = client.get_experiment_by_name("wine")
    return list(client.search_runs([experiment.experiment_id])) if experiment else []


def contract_tags(run: Run) -> dict[str, str]:
    return {name: value for name, value in run.data.tags.items() if name.startswith(PREFIX)}


STEP_REASONS = {
    Reason[name]
    for path in Path(failures.__file__).parent.rglob("*.py")
    for name in re.findall(r"\bReason\.([A-Z_]+)\b", path.read_text())
} | {Reason(fault.value) for fault in signatures.Fault}
"""The reasons that steps report."""


def test_reason_is_permanent_or_passing() -> None:
    assert {str(reason) for reason in STEP_REASONS if not reason.permanent} == {
        "DataUnreachable",
        "ModelKeyInvalid",
        "OutputUnavailable",
        "ObjectStoreUnavailable",
        "ObjectStoreFull",
        "TrackingUnavailable",
        "TrackingRejected",
        "UnexpectedError",
    }
    assert {str(reason) for reason in STEP_REASONS if reason.permanent} == {
        *(
            "AddressRejected",
            "UrlInvalid",
            "DataNotFound",
            "DataTooLarge",
            "ChecksumMismatch",
            "DataNotCsv",
            "ColumnMissing",
            "DataInvalid",
        ),
        *("DataAccessDenied", "CredentialsMissing", "TooFewRows", "ParametersInvalid", "TrainingFailed", "ModelConstant"),
        *("DataNotParquet", "AllRowsRejected", "ModelUnusable", "OutputRejected", "OutputExists", "OutputIsSource"),
        *("ModelUnsigned", "ModelTampered"),
        *("BucketMissing", "ArtifactLocationInvalid", "ExperimentDeleted"),
    }


@pytest.mark.parametrize("reason", [Reason.DATA_INVALID, Reason.DATA_UNREACHABLE])
def test_failure_is_written_to_mlflow_with_its_owner(store: str, reason: Reason) -> None:
    with (
        pytest.raises(StepFailure, match=f"^{reason}: Line 3 is bad.$"),
        reporting("preprocess", record(store)),
    ):
        raise StepFailure(reason, "Line 3 is bad.")
    (run,) = runs(store)
    assert run.info.status == "FAILED"
    assert run.info.run_name == "mlflow-7"
    assert contract_tags(run) == IDENTITY | {
        "winepipelines.io/failed-step": "preprocess",
        "winepipelines.io/failure-reason": str(reason),
        "winepipelines.io/failure-message": "Line 3 is bad.",
        "winepipelines.io/failure-permanent": "true" if reason.permanent else "false",
    }


@pytest.fixture
def termination_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that the kubelet makes for a container's termination message."""
    path = tmp_path / "termination-log"
    path.write_text("something older, and longer than what is written" * 100)
    monkeypatch.setenv("WINE_TERMINATION_LOG", str(path))
    return path


def test_failure_is_a_termination_message_when_mlflow_does_not_answer(
    termination_log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(StepFailure), reporting("download", record("http://127.0.0.1:9")):
        raise StepFailure(Reason.DATA_NOT_FOUND, 'gone: "x" ü')
    expected = {"step": "download", "reason": "DataNotFound", "permanent": True, "message": 'gone: "x" ü'}
    assert json.loads(termination_log.read_text()) == {"failure": expected}


@given(text=st.text(min_size=900, max_size=1100))
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_termination_message_is_valid_json_for_any_text(text: str, termination_log: Path) -> None:
    """The kubelet cuts what is longer than 4,096 bytes, and a cut document cannot be read."""
    termination.write(termination.Failure("train", Reason.UNEXPECTED_ERROR, text + "\U0001f377" * 900))
    content = termination_log.read_bytes()
    assert len(content) <= 4000
    assert json.loads(content)["failure"]["reason"] == "UnexpectedError"


def test_termination_message_is_not_written_without_a_kubelet(
    tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WINE_TERMINATION_LOG", str(tmp_path / "missing"))
    with pytest.raises(StepFailure, match="No"), reporting("train", record(store)):
        raise StepFailure(Reason.TRAINING_FAILED, "No.")
    assert list(tmp_path.glob("missing")) == []


def test_message_of_a_deleted_experiment_has_the_command_to_restore_it(store: str, termination_log: Path) -> None:
    """Field case c18: only the termination message can report the failure there."""
    client = MlflowClient(store)
    experiment = client.create_experiment("wine")
    client.delete_experiment(experiment)
    own = record(store)
    with pytest.raises(StepFailure, match="'wine' is deleted") as caught, reporting("train", own):
        tracking.start_run(tracking.connect(own), own)
    assert caught.value.reason is Reason.EXPERIMENT_DELETED
    assert f"mlflow experiments restore --experiment-id {experiment}" in termination_log.read_text()


def test_reporting_writes_nothing_on_success(store: str) -> None:
    with reporting("download", record(store)):
        pass
    assert runs(store) == []


def test_failure_is_written_to_the_run_that_the_step_started(store: str) -> None:
    own = record(store)
    begun = tracking.start_run(tracking.connect(own), own)

    def step() -> None:
        with reporting("train", own) as attempt:
            attempt.run_id = begun
            raise StepFailure(Reason.TRAINING_FAILED, "No.")

    with pytest.raises(StepFailure):
        step()
    (run,) = runs(store)
    assert run.info.run_id == begun
    assert run.info.status == "FAILED"
    assert contract_tags(run).items() >= (IDENTITY | {"winepipelines.io/failure-reason": "TrainingFailed"}).items()


def test_failure_of_a_run_by_hand_has_no_owner(store: str) -> None:
    with pytest.raises(StepFailure), reporting("train", record(store, owner={})):
        raise StepFailure(Reason.TRAINING_FAILED, "No.")
    (run,) = runs(store)
    assert "winepipelines.io/uid" not in run.data.tags
    assert run.data.tags["winepipelines.io/failed-step"] == "train"


def test_unexpected_error_is_reported_without_credentials(
    store: str, secrets: Mapping[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(StepFailure) as caught, reporting("download", record(store)):
        raise ZeroDivisionError(
            f"tried {secrets['AWS_SECRET_ACCESS_KEY']} at https://someone:word9@host/x?token=abc9\nsecond line"
        )
    assert caught.value.reason is Reason.UNEXPECTED_ERROR
    assert caught.value.message.endswith("see its log: ZeroDivisionError: tried *** at https://host/x")
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__, "Python would print the original"
    assert runs(store)[0].data.tags["winepipelines.io/failure-message"] == caught.value.message
    assert "second line" in caplog.text
    assert "test_failures.py" in caplog.text, "the traceback is logged"
    logged = [line for line in caplog.text.splitlines() if "raise ZeroDivisionError" not in line]  # the source, not the value
    for hidden in (*secrets.values(), "word9", "abc9"):
        assert hidden not in "\n".join(logged)


def test_failure_is_raised_unchanged_when_mlflow_does_not_answer(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(StepFailure, match="DataNotFound: gone"), reporting("download", record("http://127.0.0.1:9")):
        raise StepFailure(Reason.DATA_NOT_FOUND, "gone")
    assert "writing the failure to MLflow failed: MlflowException" in caplog.text


def test_an_experiment_that_another_run_makes_at_the_same_time(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    client = tracking.connect(record(store))
    expected = client.create_experiment("wine")
    look_up, looks = client.get_experiment_by_name, []

    def late(name: str) -> Any:
        looks.append(name)
        return look_up(name) if len(looks) > 1 else None

    monkeypatch.setattr(client, "get_experiment_by_name", late)
    run_id = tracking.start_run(client, record(store))
    assert client.get_run(run_id).info.experiment_id == expected


def test_an_experiment_that_cannot_be_made(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_name: str) -> str:
        raise MlflowException("not you", error_code=7)  # PERMISSION_DENIED

    client = tracking.connect(record(store))
    monkeypatch.setattr(client, "create_experiment", refuse)
    with pytest.raises(MlflowException, match="not you"):
        tracking.start_run(client, record(store))


def test_long_message_is_shortened() -> None:
    failure = StepFailure(Reason.DATA_INVALID, "x" * 5000)
    assert len(failure.message) == MESSAGE_LENGTH
    assert failure.message.endswith("…")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://host/a/b.csv?X-Amz-Signature=1#top", "https://host/a/b.csv"),
        ("https://user:word@host:8080/b.csv", "https://host:8080/b.csv"),
        ("http://u@v@host/", "http://host/"),
        ("s3://bucket/key", "s3://bucket/key"),
        ("s3://bucket/a#b c%20.csv?versionId=v.1", "s3://bucket/a#b c%20.csv?versionId=v.1"),
        ("s3://user:word@bucket/key?versionId=1&X-Amz-Signature=1", "s3://bucket/key"),
        ("http://[::1/?secret", "http://[::1/"),
        ("//user:word@[x/?y", "[x/"),
        ("", ""),
    ],
)
def test_addresses_are_shown_without_secrets(url: str, shown: str) -> None:
    assert redact_url(url) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("see https://host/a?b=c, then", "see https://host/a then"),
        ("Max retries exceeded with url: /a?b=c (Caused by x)", "Max retries exceeded with url: /a (Caused by x)"),
        ("'http://u:p@host/a?b' and \"s3://b/c?d\"", "'http://host/a' and \"s3://b/c\""),
        ("really? yes: a@b", "really? yes: a@b"),
        ("s3://b/c?versionId=1: gone", "s3://b/c?versionId=1: gone"),
        ("s3://b/c?versionId=1&x=y", "s3://b/c"),
    ],
)
def test_addresses_in_a_text(text: str, shown: str) -> None:
    assert redact(text) == shown


@given(before=st.text(max_size=20), value=st.sampled_from(sorted(SECRETS.values())), after=st.text(max_size=20))
def test_redact_removes_credentials_of_the_environment(before: str, value: str, after: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name, secret in SECRETS.items():
            patch.setenv(name, secret)
        assert SECRETS["AWS_ACCESS_KEY_ID"] not in redact(before + value + after)
        assert SECRETS["AWS_ACCESS_KEY_ID"] not in str(StepFailure(Reason.UNEXPECTED_ERROR, before + value + after))


def test_redact_keeps_settings_that_are_not_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = {"AWS_SESSION_TOKEN": "hidden", "MLFLOW_TRACKING_PASSWORD": "x9"}
    for name, value in ({"AWS_MAX_ATTEMPTS": "1", "AWS_REGION": "a"} | secret).items():
        monkeypatch.setenv(name, value)
    assert redact("Line 11 has hidden and x9") == "Line 11 has *** and ***"


def test_describe_returns_one_line() -> None:
    assert describe(ValueError("one\ntwo")) == "ValueError: one"
    assert describe(ValueError()) == "ValueError"


def test_the_log_of_a_step_is_the_person_s_too(caplog: pytest.LogCaptureFixture, store: str) -> None:
    """A failure that the step foresaw needs no traceback."""
    with caplog.at_level(logging.DEBUG), pytest.raises(StepFailure), reporting("train", record(store)):
        raise StepFailure(Reason.TOO_FEW_ROWS, "Two rows.")
    assert "Traceback" not in caplog.text


FORGED = "2026-01-05 12:00:00 INFO: registered wine version 3"
ATTACK = f"a\n{FORGED}\r\u2028{FORGED}\x1b[2K\x1b]0;t\x07\u202e\u200b\x85\x00\ud800"
"""What a host may put into its answer, a file into a column's name, MLflow into an error."""


@pytest.mark.parametrize("error", [StepFailure(Reason.DATA_INVALID, ATTACK), OSError(ATTACK), ValueError(10**5000)])
def test_text_of_others_forges_no_line_and_no_message(
    error: Exception, store: str, termination_log: Path, capfd: pytest.CaptureFixture[str]
) -> None:

    def fail() -> None:
        logging.getLogger("winesteps").warning("column %s", ATTACK)
        raise error

    root = logging.getLogger()
    before, handler = root.handlers[:], logging.StreamHandler()
    handler.setFormatter(logging.Formatter("[KFP Executor %(levelname)s]: %(message)s"))
    root.handlers[:] = [handler]
    try:
        with pytest.raises(StepFailure) as caught, reporting("preprocess", record(store)):
            fail()
    finally:
        root.handlers[:] = before
    reported = json.loads(termination_log.read_text())["failure"]["message"]
    tagged = runs(store)[0].data.tags["winepipelines.io/failure-message"]
    assert reported == tagged == caught.value.message
    assert reported.isprintable()
    logged = [line for line in capfd.readouterr().err.splitlines() if FORGED in line]
    assert logged
    assert all(line.startswith(("[KFP Executor WARNING]: ", "    ")) for line in logged)
    assert all(line.isprintable() for line in logged)


def test_long_text_is_redacted_without_delay() -> None:
    for shape in ("a://", "url: /", "a://b?", "?versionId=", "a@", "a://a@"):
        began = time.process_time()
        redact(shape * (1_000_000 // len(shape)))
        assert time.process_time() - began < 1, shape
    assert redact("a://b/" + "c" * 100_000 + "?signature=hidden") == "a://b/" + "c" * 100_000


QUOTING = ["DataNotCsv", "DataInvalid", "ColumnMissing", "TooFewRows", "DataNotParquet", "AllRowsRejected"]


@pytest.mark.parametrize("reason", QUOTING)
def test_a_file_from_another_host_is_not_quoted(reason: str) -> None:
    with pytest.raises(StepFailure) as caught, unquoted(redirected=True):
        raise StepFailure(Reason(reason), "Line 1, 'hidden', is not what it must be.")
    assert caught.value.reason == reason
    assert "hidden" not in caught.value.message
    assert "redirects to another host" in caught.value.message


def test_an_error_about_a_file_from_another_host_is_not_quoted(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(StepFailure) as caught, unquoted(redirected=True):
        raise ValueError("could not convert 'hidden'")
    assert "hidden" not in str(caught.value) + caplog.text
    assert caught.value.__suppress_context__


def test_a_file_from_its_own_host_is_quoted() -> None:
    with pytest.raises(StepFailure, match="shown"), unquoted(redirected=False):
        raise StepFailure(Reason.DATA_INVALID, "shown")


@pytest.mark.parametrize("text", ["{{x}}", "a{{b", "a}}b", "{{{x}}}", "{{=1}}", "}}}}"])
def test_text_of_others_is_no_template_of_argo(text: str) -> None:
    safe = without_templates([text])[0]
    assert "{{" not in safe
    assert "}}" not in safe
    assert safe.replace(" ", "") == text
