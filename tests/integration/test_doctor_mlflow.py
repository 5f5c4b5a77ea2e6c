"""`doctor` on an MLflow that requires a password, has a path prefix and proxies artifacts."""

from collections.abc import Iterator

import pytest
from support.doctor import BreakablePlatform

from sandbox.plan import MLFLOW_SECRET
from sandbox.platform import Sandbox


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BreakablePlatform]:
    folder = tmp_path_factory.mktemp("sandbox")
    with Sandbox("doctor-mlflow", folder, without={"operator", "seldon"}, mlflow="proxied") as sandbox:
        yield BreakablePlatform(sandbox)


def test_doctor_reports_no_failure_with_the_secret(guarded: BreakablePlatform) -> None:
    diagnosis = guarded.doctor.diagnose()
    assert diagnosis.of("failed") == set()
    assert diagnosis.findings["mlflow secret is complete"]["message"] == f"{MLFLOW_SECRET} in kubeflow"
    assert diagnosis.findings["seldon can read artifacts"]["message"].startswith("s3://mlflow/")
    assert diagnosis.findings[f"right: secrets {MLFLOW_SECRET} in kubeflow"]["result"] == "ok"


def test_doctor_reports_a_missing_secret(guarded: BreakablePlatform) -> None:
    with guarded.absent("secret", MLFLOW_SECRET):
        diagnosis = guarded.doctor.diagnose()
    assert diagnosis.of("failed") == {"mlflow secret is complete", "mlflow authorizes the operator"}


def test_doctor_names_the_setting_when_credentials_are_missing(guarded: BreakablePlatform) -> None:
    diagnosis = guarded.doctor.diagnose(changes={"WINE_MLFLOW_SECRET": ""})
    assert diagnosis.of("failed") == {"mlflow authorizes the operator"}
    finding = diagnosis.findings["mlflow authorizes the operator"]
    assert finding["reason"] == "MlflowUnauthorized"
    assert "WINE_MLFLOW_SECRET" in finding["remedy"]


def test_doctor_reports_unreadable_artifacts_when_the_destination_is_missing(guarded: BreakablePlatform) -> None:
    diagnosis = guarded.doctor.diagnose(changes={"WINE_ARTIFACTS_DESTINATION": ""})
    assert diagnosis.of("failed") == {"artifacts are in the store"}


def test_doctor_reports_a_wrong_path(guarded: BreakablePlatform) -> None:
    url = guarded.cluster.info.mlflow_url.removesuffix("/mlflow")
    diagnosis = guarded.doctor.diagnose(changes={"WINE_MLFLOW_URL": url})
    assert diagnosis.of("failed") == {"mlflow authorizes the operator"}
