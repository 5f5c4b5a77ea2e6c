"""A sandbox with Seldon's stand-in and models in its store, and helpers for the tests on it."""

import contextlib
import itertools
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

import pytest
from seldon_support import Cluster, Json, predictor, save_model, store, upload

from sandbox.platform import Sandbox
from winecontract import signatures

NAME = "mlflow"
MODELS = {slope: f"s3://mlflow/{slope}/model" for slope in (1, 2, 3)}
counter = itertools.count()


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    without = {"operator", "kubeflow", "mlflow", "data"}
    with Sandbox("seldon-test", tmp_path_factory.mktemp("sandbox") / "a sandbox", without=without) as running:
        for slope in MODELS:
            folder = tmp_path_factory.mktemp("models") / "model"
            save_model(folder, slope)
            upload(running.info, folder, f"{slope}/model")
        yield running


@pytest.fixture
def cluster(sandbox: Sandbox) -> Iterator[Cluster]:
    """A namespace for one test."""
    namespace = f"user-{next(counter)}"
    sandbox.add_namespace(namespace)
    made = Cluster(sandbox.info, namespace)
    made.set_secret()
    yield made
    made.core.delete_namespace(namespace)


@pytest.fixture(scope="module")
def digest(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Digest of the first model."""
    folder = tmp_path_factory.mktemp("models") / "model"
    for item in store(sandbox.info).list_objects_v2(Bucket="mlflow", Prefix="1/model/")["Contents"]:
        target = folder / item["Key"].removeprefix("1/model/")
        target.parent.mkdir(parents=True, exist_ok=True)
        store(sandbox.info).download_file("mlflow", item["Key"], str(target))
    return signatures.digest(folder)


def signed(uri: str, digest: str) -> Json:
    """A predictor whose container gets the digest of its model."""
    made = predictor(uri)
    made["componentSpecs"][0]["spec"]["containers"][0]["env"] = [{"name": signatures.DIGEST_VARIABLE, "value": digest}]
    return made


def initializer(pod: Json) -> Json:
    return dict(pod["status"]["initContainerStatuses"][0])


def server(pod: Json) -> Json:
    """Read the status of the model's server; empty where the pod has none yet."""
    return next((each for each in pod["status"].get("containerStatuses", ()) if each["name"] == "classifier"), {})


def server_restarts(pod: Json) -> int:
    return int(server(pod)["restartCount"]) if pod["status"].get("containerStatuses") else 0


def processes(sandbox: Sandbox, cluster: Cluster) -> set[int]:
    """The ids of the namespace's model servers."""
    found = set()
    for path in (sandbox.folder / "seldon" / "pods" / cluster.namespace).glob("*/process"):
        # A pod's folder can be removed at any moment, and the file of one that starts is empty at first.
        with contextlib.suppress(FileNotFoundError, IndexError):
            found.add(int(path.read_text().split()[0]))
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):  # the latter where the process ends between open and read
        return False


class Load:
    """Sends prediction requests continuously; `answers` counts the responses."""

    def __init__(self, cluster: Cluster, name: str = NAME) -> None:
        self.answers: Counter[tuple[int, float | str]] = Counter()
        self._over = threading.Event()

        def send() -> None:
            while not self._over.is_set():
                self.answers[cluster.predict(name)] += 1

        self._pool = ThreadPoolExecutor(3)
        self._sending = [self._pool.submit(send) for _ in range(3)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._pool.shutdown()
        for each in self._sending:
            each.result()
