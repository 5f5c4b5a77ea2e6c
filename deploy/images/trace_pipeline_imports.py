"""Import what the images of steps and model server run, for compile_bytecode.py. The image build reaches no server."""

import codecs
import importlib
import pkgutil
import tempfile
from pathlib import Path

import boto3
import kfp.dsl.executor_main  # noqa: F401 - what a step's command runs
import pyarrow.parquet as pq
from mlflow.store.artifact import s3_artifact_repo  # noqa: F401 - the modules below are imported late, where they are used
from mlflow.store.model_registry import rest_store as registry_store  # noqa: F401
from mlflow.store.tracking import rest_store as tracking_store  # noqa: F401

import wineserver
import winesteps
from wineserver.application import Application
from wineserver.environment import Environment
from wineserver.model import load
from winesteps import estimator, model, preprocess, report, tracking


def main() -> None:
    """Train each algorithm, plot, save, load and predict; fail if the image cannot."""
    for package in (winesteps, wineserver):
        for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            importlib.import_module(module.name)
    boto3.client("s3", region_name="us-east-1")
    tracking.connect(tracking.Record("http://127.0.0.1:1", "wine"))
    for encoding in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be", "cp1252"):
        codecs.getincrementaldecoder(encoding)  # files are read in these
    with tempfile.TemporaryDirectory() as folder:
        table, saved = Path(folder, "table"), Path(folder, "model")
        preprocess.preprocess(Path(__file__).with_name("winequality-red.csv"), table)
        rows = estimator.split_rows(pq.read_table(table).to_pandas(), "quality", 0.25, 1337)
        for algorithm in estimator.ALGORITHMS:
            fitted, _ = estimator.fit(algorithm, estimator.check_parameters(algorithm, {}, 0.25, 1337), rows, 1337)
            predicted = fitted.predict(rows.x_test)
            report.scatter_png(rows.y_test.to_numpy(), predicted, "quality", estimator.evaluate(rows.y_test, predicted))
        model.save(fitted, saved, rows.x_train, rows.x_test.head(3))
        model.load(saved).predict(rows.x_test.head(3))
        Application(load(saved), Environment(saved, "classifier", 9000, "127.0.0.1", 1 << 20))


main()
