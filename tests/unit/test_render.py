"""`render` prints the objects and the run that the operator would create, without a cluster."""

import argparse
import io
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.backends import seldon_backend
from support.rollouts import one

from winepipelines import render
from winepipelines.api.pipeline import WinePipeline
from winepipelines.settings import Settings

EXAMPLE = Path(__file__).parents[2] / "deploy" / "examples" / "wine.yaml"
SETTINGS = Settings.from_environment(render.GUIDE)
UID = "01234567-89ab-cdef-0123-456789abcdef"


def rendered(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0, **environment: str) -> str:
    """Run the command; return its output or, if it fails, its error message."""
    parser = argparse.ArgumentParser()
    render.add_arguments(parser)
    assert render.run(parser.parse_args(arguments), {**render.GUIDE, **environment}) == status
    out, error = capsys.readouterr()
    assert bool(error) == bool(status)
    return error or out


def example(**metadata: str) -> dict[str, Any]:
    body: dict[str, Any] = yaml.safe_load(EXAMPLE.read_text())
    body["metadata"] |= metadata
    return body


def written(folder: Path, *bodies: object) -> str:
    path = folder / "wine.yaml"
    path.write_text(yaml.safe_dump_all(bodies))
    return str(path)


def test_render_prints_all_objects_and_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    documents = list(yaml.safe_load_all(rendered(capsys, "-f", str(EXAMPLE))))
    objects = [(document["kind"], document["metadata"]["name"]) for document in documents if "kind" in document]
    assert objects == [
        ("PodDefault", "mlflow-server-minio"),
        ("PodDefault", "access-minio"),
        ("Secret", "seldon-init-container-secret"),
        ("Secret", "wine-model-key"),
        ("SeldonDeployment", "mlflow"),
    ]
    [run] = [document for document in documents if "kind" not in document]
    assert run["runtime_config"]["parameters"]["data_url"] == example()["spec"]["data"]["url"]
    assert "download" in run["pipeline_spec"]["pipeline_spec"]["root"]["dag"]["tasks"]


def test_render_prints_a_run_with_a_placeholder_model_for_a_prediction(capsys: pytest.CaptureFixture[str]) -> None:
    [run] = yaml.safe_load_all(rendered(capsys, "-f", str(EXAMPLE.with_name("batch.yaml"))))
    parameters = run["runtime_config"]["parameters"]
    assert parameters["output"] == "s3://mlpipeline/private/admin/predictions/batch-(uid).csv"
    assert parameters["mlflow_run"] == "(that of the model that serves then)"
    assert "predict" in run["pipeline_spec"]["pipeline_spec"]["root"]["dag"]["tasks"]


def test_render_names_the_invalid_field_of_a_prediction(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    body = yaml.safe_load(EXAMPLE.with_name("batch.yaml").read_text())
    body["spec"]["attempts"] = "many"
    assert "admin/batch: spec.attempts" in rendered(capsys, "-f", written(tmp_path, body), status=1)


def test_render_masks_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    secrets = [d for d in yaml.safe_load_all(rendered(capsys, "-f", str(EXAMPLE))) if d.get("kind") == "Secret"]
    assert [secret["metadata"]["name"] for secret in secrets] == ["seldon-init-container-secret", "wine-model-key"]
    assert {value for secret in secrets for value in secret["data"].values()} == {"***"}


def test_render_prints_the_mlflow_secret_when_one_is_set(capsys: pytest.CaptureFixture[str]) -> None:
    text = rendered(capsys, "-f", str(EXAMPLE), WINE_MLFLOW_SECRET="mlflow-tracking-credentials")
    [secret] = [d for d in yaml.safe_load_all(text) if d.get("metadata", {}).get("name") == "wine-mlflow-credentials"]
    assert set(secret["data"].values()) == {"***"}
    assert "copied from the Secret kubeflow/mlflow-tracking-credentials" in text


def test_render_prints_the_deployment_that_the_operator_applies(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    model = {"uri": "s3://mlflow/3/model", "server": {"options": {"executor": "true"}}}
    body = example(uid=UID) | {"status": {"revision": 3, "candidate": {"revision": 3, "model": model}}}
    [shown] = [
        d for d in yaml.safe_load_all(rendered(capsys, "-f", written(tmp_path, body))) if d.get("kind") == "SeldonDeployment"
    ]
    body["metadata"]["resourceVersion"] = "1"
    assert shown == seldon_backend(SETTINGS).manifest(WinePipeline.from_body(body), one(3, "s3://mlflow/3/model", executor=True))


def test_render_omits_the_owner_when_its_uid_is_unknown(capsys: pytest.CaptureFixture[str]) -> None:
    assert "ownerReferences" not in rendered(capsys, "-f", str(EXAMPLE)), (
        "the garbage collector would delete an object whose owner does not exist"
    )


def test_render_prints_the_deployment_only_when_a_model_uri_is_given(capsys: pytest.CaptureFixture[str]) -> None:
    [deployment] = yaml.safe_load_all(rendered(capsys, "--model-uri", "s3://mlflow/1/model", "-n", "admin"))
    assert deployment["metadata"]["name"] == "mlflow"
    assert deployment["metadata"]["namespace"] == "admin"
    assert deployment["spec"]["predictors"][0]["graph"]["modelUri"] == "s3://mlflow/1/model"


def test_render_translates_proxied_artifact_uris(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--model-uri", "mlflow-artifacts:/1/model")
    shown = rendered(capsys, *arguments, WINE_ARTIFACTS_DESTINATION="s3://bucket/artifacts")
    assert yaml.safe_load(shown)["spec"]["predictors"][0]["graph"]["modelUri"] == "s3://bucket/artifacts/1/model"
    assert "s3://" in rendered(capsys, *arguments, status=1)
    assert "no plain s3://" in rendered(capsys, "--model-uri", "s3,endpoint=http://evil:bucket/model", status=1)


def test_render_reads_lists_from_standard_input(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    several = {"apiVersion": "v1", "kind": "List", "items": [example(name="red"), example(name="white")]}
    monkeypatch.setattr("sys.stdin", io.StringIO(yaml.safe_dump(several)))
    shown = rendered(capsys, "-f", "-", "--model-uri", "s3://mlflow/1/model")
    assert [document["metadata"]["name"] for document in yaml.safe_load_all(shown)] == ["red", "white"]


def test_render_uses_and_reports_defaults_when_settings_are_missing(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    render.add_arguments(parser)
    assert render.run(parser.parse_args(["-f", str(EXAMPLE)]), {"WINE_KFP_URL": "http://kfp"}) == 0
    out, error = capsys.readouterr()
    assert "WINE_KFP_URL" not in error
    assert "WINE_MLFLOW_URL is not set, using http://mlflow-server.kubeflow" in error
    assert "POST http://kfp/apis/v2beta1/runs" in out


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (
            {"spec": {"data": {"url": "ftp://host/wine.csv"}}},
            "spec.data.url: data.url must begin with https://, http:// or s3://",
        ),
        (
            {"spec": {"data": {"url": "http://h/w", "sperator": ","}}},  # sic
            "spec.data: Additional properties are not allowed ('sperator'",  # sic
        ),
        (
            {"spec": {"data": {"url": "http://h/w"}, "training": {"testFraction": 0.9}}},
            "spec.training.testFraction: training.testFraction must be between 0.05 and 0.5",
        ),
        ({"spec": {}}, "spec: 'data' is a required property"),
        ({"metadata": {}}, "metadata.name: is missing"),
        ({"kind": "Pod"}, "has no WinePipeline"),
    ],
)
def test_render_reports_the_problem_when_the_resource_is_invalid(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, change: dict[str, Any], problem: str
) -> None:
    assert problem in rendered(capsys, "-f", written(tmp_path, example() | change), status=1)


@pytest.mark.parametrize(
    ("text", "problem"), [("a: [", "is not YAML"), ("- 1", "has a list where an object is expected"), ("", "has no WinePipeline")]
)
def test_render_reports_the_problem_when_the_file_has_no_object(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, problem: str
) -> None:
    path = tmp_path / "wine.yaml"
    path.write_text(text)
    assert problem in rendered(capsys, "-f", str(path), status=1)


def test_render_reports_a_missing_file_and_a_missing_argument(capsys: pytest.CaptureFixture[str]) -> None:
    assert "Cannot read" in rendered(capsys, "-f", "/no/such/file", status=1)
    assert "name a file" in rendered(capsys, status=1)
