"""A server with the digest of its model: it serves files with this digest, and reads no others."""

import contextlib
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow.sklearn
import pandas as pd
import pytest
from mlflow.models import infer_signature
from pipeline.modelserver import free_port, variables
from sklearn.linear_model import ElasticNet

from winecontract import linear, signatures, termination


@pytest.fixture(params=["cloudpickle", "skops"])
def signed(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str]:
    """A model's folder, and the digest that was signed."""
    frame = pd.DataFrame({"sulphates": [1.0, 2.0, 3.0, 5.0], "alcohol": [9.0, 7.0, 8.0, 6.0]})
    estimator = ElasticNet(alpha=0.01).fit(frame, frame["alcohol"] * 2)
    mlflow.sklearn.save_model(
        estimator,
        tmp_path / "model",
        signature=infer_signature(frame, estimator.predict(frame)),
        input_example=frame.head(2),
        serialization_format=request.param,
        pip_requirements=["scikit-learn"],
    )
    return tmp_path / "model", signatures.digest(tmp_path / "model")


def start(folder: Path, tmp: Path, port: int, **more: str) -> "subprocess.Popen[str]":
    environment = variables(folder, tmp, port) | {"MLSERVER_HOST": "127.0.0.1"} | more
    command = [sys.executable, "-m", "wineserver"]
    return subprocess.Popen(command, cwd="/", env=environment, stderr=subprocess.PIPE, text=True)


def wait_until_ready(process: "subprocess.Popen[str]", port: int) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while process.poll() is None:
        with contextlib.suppress(OSError), opener.open(f"http://127.0.0.1:{port}/health/status", timeout=5) as answer:
            if answer.status == 200:
                return
        time.sleep(0.02)
    raise AssertionError(process.communicate()[1])


def refusal(folder: Path, tmp: Path, digest: str) -> str:
    """Start a server, which ends at once; return reason and message of its termination message."""
    message = tmp / "termination-log"
    message.touch()
    process = start(folder, tmp, free_port(), MODEL_DIGEST=digest, WINE_TERMINATION_LOG=str(message))
    _, written = process.communicate(timeout=60)
    assert process.returncode == 1
    failure = termination.read(message.read_text())
    assert failure is not None
    text = f"{failure.reason}: {failure.message}"
    assert "\n" not in text
    assert f"wineserver: {text}\n" in written
    return text


def test_signed_model_is_served_and_served_again_after_a_restart(signed: tuple[Path, str], tmp_path: Path) -> None:
    folder, digest = signed
    for _ in range(2):
        port = free_port()
        process = start(folder, tmp_path, port, MODEL_DIGEST=digest)
        wait_until_ready(process, port)
        process.terminate()
        assert process.wait(30) == 0


class Intruder:
    """A pickle that makes a folder where it is loaded."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.trace),)


def _code(folder: Path, trace: Path) -> None:
    (folder / "code").mkdir()
    (folder / "code" / "intruder.py").write_text(f"import os\nos.mkdir({str(trace)!r})\n")
    text = (folder / "MLmodel").read_text().replace("loader_module: mlflow.sklearn", "loader_module: intruder\n    code: code")
    (folder / "MLmodel").write_text(re.sub(r"^  sklearn:\n(    .*\n)*", "", text, flags=re.MULTILINE))


def _pickle(folder: Path, trace: Path) -> None:
    """Whatever the format was: MLmodel says that it is a pickle."""
    for file in folder.glob("model.*"):
        file.unlink()
    (folder / "model.pkl").write_bytes(pickle.dumps(Intruder(trace)))
    text = (folder / "MLmodel").read_text().replace("model.skops", "model.pkl")
    (folder / "MLmodel").write_text(text.replace("serialization_format: skops", "serialization_format: pickle"))


def _empty(folder: Path, _: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


ATTACKS: dict[str, Callable[[Path, Path], object]] = {
    "pickle": _pickle,
    "code": _code,
    "file added": lambda folder, _: (folder / "extra").write_text(""),
    "hidden file added": lambda folder, _: (folder / ".extra").write_text(""),
    "file removed": lambda folder, _: (folder / "requirements.txt").unlink(),
    "link": lambda folder, _: (folder / "link").symlink_to("/etc/hostname"),
    "byte changed": lambda folder, _: (folder / "MLmodel").write_bytes((folder / "MLmodel").read_bytes()[:-1] + b" "),
    "everything removed": _empty,
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS.keys())
def test_changed_model_is_not_loaded(signed: tuple[Path, str], tmp_path: Path, attack: Callable[[Path, Path], object]) -> None:
    folder, digest = signed
    trace = tmp_path / "intruder was here"
    attack(folder, trace)
    text = refusal(folder, tmp_path, digest)
    assert text.startswith(f"ModelTampered: the files in {folder} are not those that the train step stored: ")
    assert not trace.exists()


@pytest.mark.parametrize("attack", ["pickle", "code"])
def test_changed_model_would_have_been_loaded_without_a_digest(signed: tuple[Path, str], tmp_path: Path, attack: str) -> None:
    folder, _ = signed
    trace = tmp_path / "intruder was here"
    ATTACKS[attack](folder, trace)
    refusal(folder, tmp_path, "")
    assert trace.exists()


def test_digest_that_is_none_is_refused(signed: tuple[Path, str], tmp_path: Path) -> None:
    assert refusal(signed[0], tmp_path, "yes").startswith("ModelTampered: ")


def test_linear_model_is_served_from_its_numbers_without_a_pickle(signed: tuple[Path, str], tmp_path: Path) -> None:
    folder, _ = signed
    trace = tmp_path / "intruder was here"
    _pickle(folder, trace)
    linear.Linear(("sulphates", "alcohol"), (0.5, 2.0), 1.0).write(folder)
    port = free_port()
    process = start(folder, tmp_path, port, MODEL_DIGEST=signatures.digest(folder))
    wait_until_ready(process, port)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    body = json.dumps({"data": {"names": ["alcohol", "sulphates"], "ndarray": [[10.0, 2.0]]}}).encode()
    question = urllib.request.Request(f"http://127.0.0.1:{port}/predict", body, {"Content-Type": "application/json"})
    with opener.open(question, timeout=10) as answer:
        assert json.load(answer)["data"]["ndarray"] == [22.0]
    assert "sklearn" not in Path(f"/proc/{process.pid}/maps").read_text(), "nor is scikit-learn in memory"
    process.terminate()
    assert process.wait(30) == 0
    assert not trace.exists()


@pytest.mark.parametrize("columns", [("alcohol", "sulphates"), ("sulphates",)])
def test_numbers_of_other_columns_than_the_signature_are_refused(
    signed: tuple[Path, str], tmp_path: Path, columns: tuple[str, ...]
) -> None:
    folder, _ = signed
    linear.Linear(columns, (1.0,) * len(columns), 1.0).write(folder)
    assert "names other columns than the signature" in refusal(folder, tmp_path, "")
