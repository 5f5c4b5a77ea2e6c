"""The doctor where MLflow asks for a password, is under a path, and keeps artifacts behind itself."""

from collections.abc import Iterator

import pytest
from support.doctor import Patient

from sandbox.plan import MLFLOW_SECRET
from sandbox.platform import Sandbox


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Patient]:
    folder = tmp_path_factory.mktemp("sandbox")
    with Sandbox("doctor-mlflow", folder, without={"operator", "seldon"}, mlflow="proxied") as sandbox:
        yield Patient(sandbox)


def test_with_its_secret_all_is_well(guarded: Patient) -> None:
    diagnosis = guarded.doctor.diagnose()
    assert diagnosis.of("failed") == set()
    assert diagnosis.findings["mlflow secret is complete"]["says"] == f"{MLFLOW_SECRET} in kubeflow"
    assert diagnosis.findings["seldon can read artifacts"]["says"].startswith("s3://mlflow/")
    assert diagnosis.findings[f"right: secrets {MLFLOW_SECRET} in kubeflow"]["result"] == "ok"


def test_without_its_secret_it_is_missed(guarded: Patient) -> None:
    with guarded.absent("secret", MLFLOW_SECRET):
        diagnosis = guarded.doctor.diagnose()
    assert diagnosis.of("failed") == {"mlflow secret is complete", "mlflow lets the operator in"}


def test_without_credentials_it_asks_for_them(guarded: Patient) -> None:
    diagnosis = guarded.doctor.diagnose(changes={"WINE_MLFLOW_SECRET": ""})
    assert diagnosis.of("failed") == {"mlflow lets the operator in"}
    finding = diagnosis.findings["mlflow lets the operator in"]
    assert finding["reason"] == "MlflowUnauthorized"
    assert "WINE_MLFLOW_SECRET" in finding["mend"]


def test_without_the_destination_its_artifacts_are_out_of_reach(guarded: Patient) -> None:
    diagnosis = guarded.doctor.diagnose(changes={"WINE_ARTIFACTS_DESTINATION": ""})
    assert diagnosis.of("failed") == {"artifacts are in the store"}


def test_without_its_path_it_is_not_found(guarded: Patient) -> None:
    url = guarded.cluster.info.mlflow_url.removesuffix("/mlflow")
    diagnosis = guarded.doctor.diagnose(changes={"WINE_MLFLOW_URL": url})
    assert diagnosis.of("failed") == {"mlflow lets the operator in"}
