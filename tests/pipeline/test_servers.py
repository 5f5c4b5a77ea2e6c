"""Models for Seldon's mlflowserver: what each version can load, and the message if there is none."""

import json
import subprocess
import sys
from pathlib import Path

import mlflow.pyfunc
import mlflow.sklearn
import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.base import RegressorMixin
from sklearn.linear_model import ElasticNet

from winecontract.reasons import Reason
from winecontract.servers import SERVERS
from winesteps import model, servers, wine_linear
from winesteps.failures import StepFailure
from winesteps.servers import adapt, server

ROOT = Path(__file__).parents[2]
COLUMNS = ["alcohol", "pH", "density"]
VERSIONS = [f"{major}.{minor}.1" for major, minor in SERVERS]


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return pd.DataFrame(np.random.default_rng(1).random((50, 3)), columns=COLUMNS)


@pytest.fixture(scope="module")
def fitted(rows: pd.DataFrame) -> RegressorMixin:
    return ElasticNet(alpha=0.01).fit(rows, rows["alcohol"] * 3 - rows["pH"] + 5)


@pytest.fixture
def folder(rows: pd.DataFrame, fitted: RegressorMixin, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A model's folder as the training step writes it for a version."""
    made = tmp_path / "model"
    model.save(fitted, made, rows, rows.head(3))
    target = server(getattr(request, "param", "1.17.1"), "ElasticNet")
    assert target is not None
    adapt(made, target)
    return made


def test_server_is_none_without_a_version() -> None:
    assert server("", "anything") is None


@pytest.mark.parametrize("folder", VERSIONS, indirect=True)
def test_environment_of_the_model_is_the_name_of_a_file(folder: Path) -> None:
    """Before 1.16 a server joins it to the folder's path as it is: with a mapping there the pod crash-loops."""
    flavor = yaml.safe_load((folder / "MLmodel").read_text())["flavors"]["python_function"]
    assert flavor["env"] == "conda.yaml"
    environment = yaml.safe_load((folder / flavor["env"]).read_text())
    python, *_, packages = environment["dependencies"]
    assert python == f"python={flavor['python_version']}"
    assert {package.split("==")[0] for package in packages["pip"]} >= {"mlflow", "pandas", "numpy"}
    assert all("==" in package for package in packages["pip"])
    assert (folder / flavor["data"]).is_file()
    assert (folder / flavor["code"] / f"{flavor['loader_module']}.py").is_file()


def test_model_has_only_fields_that_old_mlflow_accepts(folder: Path) -> None:
    assert set(yaml.safe_load((folder / "MLmodel").read_text())) == set(servers.KEPT_FIELDS)


def test_adapted_model_predicts_as_the_estimator(folder: Path, rows: pd.DataFrame, fitted: RegressorMixin) -> None:
    loaded, expected = mlflow.pyfunc.load_model(str(folder)), fitted.predict(rows)
    for asked in (rows, rows.to_numpy(), rows[COLUMNS[::-1]], pd.DataFrame(rows.to_numpy()), rows.assign(more=1.0)):
        np.testing.assert_allclose(loaded.predict(asked), expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(mlflow.sklearn.load_model(str(folder)).predict(rows), expected)


def test_adapted_model_rejects_rows_with_other_columns(folder: Path, rows: pd.DataFrame) -> None:
    loaded = mlflow.pyfunc.load_model(str(folder))
    with pytest.raises(ValueError, match="needs the columns pH"):
        loaded.predict(rows.drop(columns="pH"))
    with pytest.raises(ValueError, match="has the columns alcohol, pH, density"):
        loaded.predict(rows.to_numpy()[:, :2])


@pytest.mark.parametrize("folder", ["1.18.2"], indirect=True)
def test_adapted_model_predicts_the_same_in_mlflow_2(folder: Path, rows: pd.DataFrame, fitted: RegressorMixin) -> None:
    """A process of its own, with the packages of requirements/mlflow2.txt and nothing of this project."""
    script = (
        "import json, sys, mlflow.pyfunc, numpy\n"
        "loaded = mlflow.pyfunc.load_model(sys.argv[1])\n"
        "print(json.dumps([mlflow.__version__, list(loaded.predict(numpy.array(json.loads(sys.argv[2]))))]))"
    )
    command = ["bash", str(ROOT / "dev/environment"), "mlflow2"]
    python = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    asked = json.dumps(rows.head(5).to_numpy().tolist())
    done = subprocess.run([python, "-c", script, str(folder), asked], capture_output=True, text=True, check=True, cwd=folder)
    version, answers = json.loads(done.stdout.splitlines()[-1])
    assert version.startswith("2.22")
    assert answers == pytest.approx(list(fitted.predict(rows.head(5))), abs=1e-12)


def test_loader_imports_only_numpy() -> None:
    code = (
        "import sys, importlib.util\n"
        f"spec = importlib.util.spec_from_file_location('wine_linear', {wine_linear.__file__!r})\n"
        "module = importlib.util.module_from_spec(spec); spec.loader.exec_module(module)\n"
        "print(*sorted({'mlflow', 'sklearn', 'pandas', 'winesteps'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize("version", ["1.13.0", "2.0.0", "latest", "1", "1.17; rm", "1.17.1\n", "x" * 500])
def test_server_rejects_an_unknown_version(version: str) -> None:
    with pytest.raises(StepFailure, match="known releases") as caught:
        server(version, "ElasticNet")
    assert caught.value.reason is Reason.PARAMETERS_INVALID
    assert "bundled" in caught.value.message


def test_server_rejects_an_algorithm_that_is_not_linear() -> None:
    with pytest.raises(StepFailure, match="cannot serve RandomForest") as caught:
        server("1.17.1", "RandomForest")
    assert caught.value.reason is Reason.PARAMETERS_INVALID
    assert "bundled" in caught.value.message
