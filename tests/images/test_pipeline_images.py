"""A step started as Kubeflow's launcher does, and the trained model served as Seldon does."""

import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from images.conftest import ANYONE, ROOT
from support.containers import Engine

TRAIN = """
import json
from pathlib import Path
from mlflow import MlflowClient
from winesteps import preprocess, tracking, train
from winesteps.failures import Attempt
preprocess.preprocess(Path("/mnt/data/winequality-red.csv"), Path("/tmp/table"))
record = tracking.Record("sqlite:////tmp/mlflow.db", "wine")
MlflowClient(record.tracking_uri).create_experiment("wine", artifact_location="/mnt/out/artifacts")
trained = train.train(Path("/tmp/table"), train.Task(), record, Attempt())
tags = MlflowClient(record.tracking_uri).get_run(trained.run_id).data.tags
print(json.dumps({name: tags["winepipelines.io/" + name] for name in ("model-uri", "example", "prediction")}))
"""


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create a folder that every user may write to."""
    folder = tmp_path_factory.mktemp("out")
    folder.chmod(0o777)
    folder.parent.chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def model(engine: Engine, images: Mapping[str, str], out: Path) -> dict[str, str]:
    """Train a model in `out`. Return the tags that the step records."""
    mounts = {ROOT / "data": "/mnt/data", out: "/mnt/out"}
    done = engine.run(images["steps"], "python", "-c", TRAIN, user=ANYONE[1], mounts=mounts, writable=["/mnt/out"])
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


def test_step_runs_as_compiled(engine: Engine, images: Mapping[str, str], out: Path) -> None:
    compiled = next(yaml.safe_load_all((ROOT / "templates/components/preprocess.yaml").read_text()))
    container = compiled["deploymentSpec"]["executors"]["exec-preprocess"]["container"]
    data = {"name": "data", "uri": "/mnt/data/winequality-red.csv", "type": {"schemaTitle": "system.Dataset"}, "metadata": {}}
    table = {**data, "name": "table", "uri": "/mnt/out/table"}
    given: dict[str, Any] = {
        "inputs": {
            "parameterValues": {
                "separator": ";",
                "target": "quality",
                "experiment": "wine",
                "owner": {},
                "kfp_run": "",
                "s3_endpoint_url": "",
                "mlflow_tracking_uri": "http://127.0.0.1:1",
            },
            "artifacts": {"data": {"artifacts": [data]}},
        },
        "outputs": {"artifacts": {"table": {"artifacts": [table]}}, "outputFile": "/mnt/out/output.json"},
    }
    command = [part.replace("{{$}}", json.dumps(given)) for part in (*container["command"], *container["args"])]
    mounts = {ROOT / "data": "/mnt/data", out: "/mnt/out"}
    begun = time.monotonic()
    done = engine.run(images["steps"], *command, user=ANYONE[1], mounts=mounts, writable=["/mnt/out"])
    print(f"steps: preprocess took {time.monotonic() - begun:.1f} s, container start included")
    assert done.returncode == 0, done.stderr
    [artifact] = json.loads((out / "output.json").read_text())["artifacts"]["table"]["artifacts"]
    assert (artifact["metadata"]["rows"], artifact["metadata"]["target"]) == (1599, "quality")
    assert (out / "table").read_bytes()[:4] == b"PAR1"


def test_server_predicts_as_the_training_step_did(
    engine: Engine, images: Mapping[str, str], model: dict[str, str], out: Path
) -> None:
    folder = out / Path(model["model-uri"]).relative_to("/mnt/out")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        "PREDICTIVE_UNIT_ID": "classifier",
        "PREDICTIVE_UNIT_HTTP_SERVICE_PORT": str(port),
        "PREDICTIVE_UNIT_PARAMETERS": json.dumps([{"name": "model_uri", "value": "/mnt/models", "type": "STRING"}]),
    }
    begun = time.monotonic()
    with engine.start(images["server"], user=ANYONE[0], environment=environment, mounts={folder: "/mnt/models"}) as process:
        body = json.dumps({"data": json.loads(model["example"])}).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{port}/predict", body, {"Content-Type": "application/json"})
        while True:
            try:
                with urllib.request.urlopen(request) as response:
                    answer = json.load(response)["data"]["ndarray"]
                break
            except urllib.error.HTTPError:
                raise
            except OSError:
                assert process.poll() is None, process.communicate()
                time.sleep(0.02)
        print(f"server: first answer {time.monotonic() - begun:.1f} s after the container's creation")
        process.terminate()
        _, errors = process.communicate(timeout=30)
    assert answer == pytest.approx(json.loads(model["prediction"]), rel=1e-12)
    assert "Traceback" not in errors
