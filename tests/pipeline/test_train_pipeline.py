"""The compiled pipeline from end to end, through Kubeflow's own local runner, each step in its own process."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kfp import components, local
from mlflow import MlflowClient
from mlflow.entities import Run
from support.website import Answer, Site

from winecontract import signatures, termination
from winecontract.tags import Tag
from winesteps.compile import TEMPLATES

OWNER = {"namespace": "admin", "name": "mlflow", "uid": "1f0c", "revision": 7}
PER_STEP, SINGLE = "wine-training", "wine-training-single"
both_forms = pytest.mark.parametrize("form", [PER_STEP, SINGLE])
OF_ONE_RUN = ("kfp-run", "model-uri", "model-version", "digest", "signature")
"""Tags that differ between two runs with the same inputs: the model's files name their MLflow run."""


@pytest.fixture
def submit(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Runs a compiled pipeline of templates/. Temporary files are below `tmp`, the termination message is in `ended`."""
    (tmp_path / "tmp").mkdir()
    (tmp_path / "ended").touch()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setenv(termination.VARIABLE, str(tmp_path / "ended"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(str(TEMPLATES.parent / root) for root in ("pipeline", "contract")))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret-key")
    monkeypatch.setenv(signatures.KEY_VARIABLE, signatures.new_key())
    # The local runner puts the interpreter's path into a shell command as it is: by its name, the path may hold spaces.
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(sys, "executable", Path(sys.executable).name)
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(tmp_path / "kubeflow"))

    def submit(name: str = "wine-training", **arguments: Any) -> Any:
        pipeline = components.load_component_from_file(str(TEMPLATES / "pipelines" / f"{name}.yaml"))
        return pipeline(**{"mlflow_tracking_uri": store, "s3_endpoint_url": "", "owner": OWNER} | arguments)

    return submit


def only_run(store: str) -> Run:
    client = MlflowClient(store)
    experiment = client.get_experiment_by_name("wine")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert "a-secret-key" not in str(run.to_dictionary())
    return run


def test_a_model_comes_out(submit: Callable[..., Any], store: str, wine: str, tmp_path: Path) -> None:
    done = submit(data_url=wine + "?signature=not-for-mlflow")
    run = only_run(store)
    tags = run.data.tags
    assert done.outputs["Output"] == tags["winepipelines.io/model-uri"]
    assert Path(tags["winepipelines.io/model-uri"], "MLmodel").is_file()
    assert run.info.status == "FINISHED"
    assert run.data.metrics["r2"] == pytest.approx(0.135398, abs=1e-6)
    assert run.data.params["data_url"] == wine
    assert len(run.data.params["data_sha256"]) == 64
    assert tags["winepipelines.io/uid"] == "1f0c"
    assert tags["winepipelines.io/revision"] == "7"
    assert tags["winepipelines.io/kfp-run"].isdigit(), "the local runner's run ids are numbers; the placeholder was filled"
    (page,) = tmp_path.glob("kubeflow/*/train/report")
    assert "data:image/png;base64," in page.read_text()
    (outcome,) = tmp_path.glob("kubeflow/*/train/executor_output.json")
    metrics = json.loads(outcome.read_text())["artifacts"]["metrics"]["artifacts"][0]["metadata"]
    assert metrics == pytest.approx(run.data.metrics)


def test_a_single_pod_logs_and_reports_what_three_do(
    submit: Callable[..., Any], store: str, site: Site, red_wine: Path, tmp_path: Path
) -> None:
    url = site.give("/wine.csv", Answer(red_wine.read_bytes(), headers={"ETag": '"one"'}))
    for form in (PER_STEP, SINGLE):
        done = submit(form, data_url=f"{url}?signature=not-for-mlflow", search={"alpha": [0.1, 0.5]})
    client = MlflowClient(store)
    single, three = client.search_runs(["1"], f"tags.`{Tag.MODEL_URI}` != ''")
    assert single.data.metrics == three.data.metrics
    assert single.data.params == three.data.params
    assert done.outputs["Output"] == single.data.tags[Tag.MODEL_URI] != three.data.tags[Tag.MODEL_URI]
    assert _comparable(single) == _comparable(three)
    assert single.data.tags[Tag.DATA_ETAG] == '"one"'
    assert set(single.data.tags) == set(three.data.tags)
    for folder in (None, "model", "evaluation"):
        stored = [[file.path for file in client.list_artifacts(run.info.run_id, folder)] for run in (single, three)]
        assert stored[0] == stored[1]
    metrics = [_outputs(tmp_path, step)["metrics"]["artifacts"][0]["metadata"] for step in ("training", "train")]
    assert metrics[0] == metrics[1] == pytest.approx(single.data.metrics)
    pages = [next(tmp_path.glob(f"kubeflow/*/{step}/report")).read_text() for step in ("training", "train")]
    assert ["data:image/png;base64," in page for page in pages] == [True, True]
    assert not [path for path in tmp_path.glob("tmp/**/*") if path.name in ("data", "table")], "files between the steps are gone"


def _comparable(run: Run) -> dict[str, str]:
    own = {f"winepipelines.io/{name}" for name in OF_ONE_RUN}
    return {name: value for name, value in run.data.tags.items() if name not in own and not name.startswith("mlflow.")}


def _outputs(folder: Path, step: str) -> dict[str, Any]:
    (file,) = folder.glob(f"kubeflow/*/{step}/executor_output.json")
    artifacts: dict[str, Any] = json.loads(file.read_text())["artifacts"]
    return artifacts


def test_a_model_that_exists_comes_out_again_beside_the_one_that_serves(
    submit: Callable[..., Any], store: str, site: Site, red_wine: Path
) -> None:
    url = site.give("/wine.csv", Answer(red_wine.read_bytes(), headers={"ETag": '"one"'}))
    submit(data_url=url)
    first = only_run(store)
    assert first.data.tags["winepipelines.io/data-etag"] == '"one"'
    assert first.data.tags["winepipelines.io/data-sha256"] == first.data.params["data_sha256"]
    serves = {"served_run": first.info.run_id, "served_digest": first.data.tags[Tag.DIGEST]}
    submit(data_url=url, **serves, reusable_runs=[first.info.run_id], owner=OWNER | {"revision": 8})
    client = MlflowClient(store)
    second, _ = client.search_runs([first.info.experiment_id])
    assert second.data.tags["winepipelines.io/reused-run"] == first.info.run_id
    assert second.data.metrics["served_r2"] == pytest.approx(first.data.metrics["r2"])


def test_a_data_check(submit: Callable[..., Any], store: str, wine: str) -> None:
    owner = {"namespace": "admin", "name": "mlflow", "uid": "1f0c", "check": "3"}
    done = submit("wine-data-check", data_url=wine, known_sha256="0" * 64, owner=owner)
    assert done.outputs["Output"] is True
    tags = only_run(store).data.tags
    assert tags.items() >= {"winepipelines.io/check": "3", "winepipelines.io/data-changed": "true"}.items()


def test_a_data_check_fails(submit: Callable[..., Any], store: str, site: Site) -> None:
    with pytest.raises(RuntimeError):
        submit("wine-data-check", data_url=site.give("/gone", Answer(status=404)))
    assert failed(store).items() >= {"failed-step": "check", "failure-reason": "DataNotFound"}.items()


def failed(store: str) -> dict[str, str]:
    run = only_run(store)
    assert run.info.status == "FAILED"
    tags = run.data.tags
    assert tags["winepipelines.io/uid"] == "1f0c"
    assert tags["winepipelines.io/failure-permanent"] == "true"
    return {name: tags[f"winepipelines.io/{name}"] for name in ("failed-step", "failure-reason", "failure-message")}


def terminated(folder: Path) -> dict[str, str]:
    """Read the termination message of the step that failed."""
    failure = termination.read((folder / "ended").read_text())
    assert failure is not None
    assert failure.permanent
    return {"failed-step": failure.step, "failure-reason": failure.reason, "failure-message": failure.message}


@both_forms
def test_download_fails(
    submit: Callable[..., Any], store: str, site: Site, capfd: pytest.CaptureFixture[str], tmp_path: Path, form: str
) -> None:
    url = site.give("/page", Answer(b"<!doctype html><p>Sign in", headers={"Content-Type": "text/html"}))
    with pytest.raises(RuntimeError):
        submit(form, data_url=url)
    failure = failed(store)
    assert terminated(tmp_path) == failure
    assert failure.pop("failure-message").startswith(f"{url} is a web page")
    assert failure == {"failed-step": "download", "failure-reason": "DataNotCsv"}
    assert "a-secret-key" not in "".join(capfd.readouterr())


@both_forms
def test_download_lacks_the_credentials(submit: Callable[..., Any], store: str, wine: str, tmp_path: Path, form: str) -> None:
    with pytest.raises(RuntimeError):
        submit(form, data_url=wine, data_secret="wine-data", credentials_over_http=True)
    failure = failed(store)
    assert terminated(tmp_path) == failure
    assert "'wine-data'" in failure.pop("failure-message")
    assert failure == {"failed-step": "download", "failure-reason": "CredentialsMissing"}


@both_forms
def test_preprocess_fails(submit: Callable[..., Any], store: str, site: Site, red_wine: Path, tmp_path: Path, form: str) -> None:
    url = site.give("/wine.csv", Answer(red_wine.read_bytes().replace(b"7.8;0.88;", b"7.8;x;", 1)))
    with pytest.raises(RuntimeError):
        submit(form, data_url=url)
    assert terminated(tmp_path) == failed(store)
    assert failed(store) == {
        "failed-step": "preprocess",
        "failure-reason": "DataInvalid",
        "failure-message": "Line 3, column 'volatile_acidity' is 'x', not a finite number. Correct or remove the row.",
    }


@both_forms
def test_a_file_of_another_host_is_not_quoted(submit: Callable[..., Any], store: str, site: Site, form: str) -> None:
    there = site.give("/secret.csv", Answer(b"secret;quality\n" * 30), host="localhost")
    with pytest.raises(RuntimeError):
        submit(form, data_url=site.give("/wine.csv", Answer(status=302, headers={"Location": there})))
    failure = failed(store)
    assert failure["failed-step"] == "preprocess"
    assert "is not quoted" in failure["failure-message"]
    assert "secret;" not in failure["failure-message"]


@both_forms
def test_train_fails(submit: Callable[..., Any], store: str, wine: str, tmp_path: Path, form: str) -> None:
    with pytest.raises(RuntimeError):
        submit(form, data_url=wine, parameters={"alpha": -1, "beta": 2})
    failure = failed(store)
    assert terminated(tmp_path) == failure
    assert "beta is not a parameter of ElasticNet" in failure.pop("failure-message")
    assert failure == {"failed-step": "train", "failure-reason": "ParametersInvalid"}
