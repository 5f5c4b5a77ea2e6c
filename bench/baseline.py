"""Train, evaluate and log the model as one plain script, without Kubeflow and winesteps: the baseline of `apply_to_ready`.

    python bench/baseline.py --url URL --tracking-uri URI [--s3-endpoint URL] [--experiment NAME]

Run it in the pipeline's environment with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY set. Prints one line of JSON: the metrics of
the held-out quarter, the seconds of each part, the model's address. It avoids unnecessary work: requirements are given
instead of inferred, telemetry is off. The seconds exclude the interpreter's start and end, which take about one more.
"""

import argparse
import io
import json
import os
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from sklearn.linear_model import ElasticNet

TARGET, ALPHA, L1_RATIO, TEST_FRACTION, SEED, MODEL_SEED = "quality", 0.5, 0.5, 0.25, 1337, 42
REGISTERED_MODEL = "wine-elasticnet"
PACKAGES = ("mlflow", "scikit-learn", "pandas", "numpy", "scipy", "cloudpickle")


@dataclass(frozen=True)
class Trained:
    """A fitted model, its training rows and held-out rows, and its metrics."""

    model: "ElasticNet"
    x_train: "pd.DataFrame"
    x_test: "pd.DataFrame"
    metrics: dict[str, float]
    figure: "Figure"


def main() -> None:
    """Parse the command line, run each part and print the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True)
    parser.add_argument("--tracking-uri", required=True)
    parser.add_argument("--s3-endpoint", default="")
    parser.add_argument("--experiment", default="baseline")
    options = parser.parse_args()
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    if options.s3_endpoint:
        os.environ["MLFLOW_S3_ENDPOINT_URL"] = options.s3_endpoint
    laps = {"begin": time.perf_counter()}
    _import()
    laps["import"] = time.perf_counter()
    content = _download(options.url)
    laps["download"] = time.perf_counter()
    table = _preprocess(content)
    laps["preprocess"] = time.perf_counter()
    trained = _train(table)
    laps["train"] = time.perf_counter()
    model_uri = _log(trained, options)
    laps["log"] = time.perf_counter()

    names, times = list(laps), list(laps.values())
    seconds = {name: round(end - start, 3) for name, start, end in zip(names[1:], times, times[1:], strict=False)}
    seconds["total"] = round(times[-1] - times[0], 3)
    print(json.dumps({**trained.metrics, "seconds": seconds, "model_uri": model_uri}))


def _import() -> None:
    """Import the packages, so that their time is measured separately."""
    import boto3  # noqa: F401 - MLflow imports it to upload
    import matplotlib
    import pandas  # noqa: F401
    import requests  # noqa: F401
    import sklearn.linear_model
    import sklearn.metrics
    import sklearn.model_selection  # noqa: F401

    matplotlib.use("agg")


def _download(url: str) -> bytes:
    import requests

    response = requests.get(url, timeout=60)
    response.raise_for_status()
    return response.content


def _preprocess(content: bytes) -> "pd.DataFrame":
    import pandas as pd

    table = pd.read_csv(io.BytesIO(content), sep=";")
    table.columns = table.columns.str.strip().str.lower().str.replace(r"\W+", "_", regex=True)
    return table.astype(float)


def _train(table: "pd.DataFrame") -> Trained:
    from matplotlib.figure import Figure
    from sklearn.linear_model import ElasticNet
    from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error
    from sklearn.model_selection import train_test_split

    features, quality = table.drop(columns=TARGET), table[TARGET]
    x_train, x_test, y_train, y_test = train_test_split(
        features, quality, test_size=TEST_FRACTION, random_state=SEED, stratify=quality
    )
    model = ElasticNet(alpha=ALPHA, l1_ratio=L1_RATIO, random_state=MODEL_SEED).fit(x_train, y_train)
    predicted = model.predict(x_test)
    metrics = {
        "r2": float(r2_score(y_test, predicted)),
        "rmse": float(root_mean_squared_error(y_test, predicted)),
        "mae": float(mean_absolute_error(y_test, predicted)),
    }
    figure = Figure(figsize=(6.4, 6.4), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    axes.axline((y_test.min(), y_test.min()), slope=1, color="0.6", linewidth=1)
    axes.scatter(y_test, predicted, s=18, alpha=0.35, linewidths=0)
    axes.set(xlabel="actual quality", ylabel="predicted quality", title=f"r2 {metrics['r2']:.3f}, rmse {metrics['rmse']:.3f}")
    return Trained(model, x_train, x_test, metrics, figure)


def _log(trained: Trained, options: argparse.Namespace) -> str:
    """Log parameters, metrics, model and plot, and register the model. Return its address."""
    import mlflow

    mlflow.set_tracking_uri(options.tracking_uri)
    mlflow.set_experiment(options.experiment)
    with mlflow.start_run() as run, tempfile.TemporaryDirectory() as folder:
        mlflow.log_params(
            {"alpha": ALPHA, "l1_ratio": L1_RATIO, "test_fraction": TEST_FRACTION, "seed": SEED, "target": TARGET}
            | {
                "algorithm": "ElasticNet",
                "rows_train": len(trained.x_train),
                "rows_test": len(trained.x_test),
                "data_url": options.url,
            }
        )
        mlflow.log_metrics(trained.metrics)
        example, prediction = _save(trained, folder)
        mlflow.log_artifacts(folder)
        model_uri = f"{run.info.artifact_uri}/model"
        mlflow.set_tags(
            {
                "model-uri": model_uri,
                "model-version": _register(options.tracking_uri, model_uri, run.info.run_id),
                "example": json.dumps({"names": list(example.columns), "ndarray": example.to_numpy().tolist()}),
                "prediction": json.dumps(prediction),
            }
        )
    return model_uri


def _save(trained: Trained, folder: str) -> tuple["pd.DataFrame", Any]:
    """Save model and plot to a folder. Return the input example and the saved model's predictions for it."""
    import mlflow
    from mlflow.models import infer_signature

    example = trained.x_test.head(3)
    mlflow.sklearn.save_model(
        trained.model,
        f"{folder}/model",
        serialization_format="cloudpickle",
        signature=infer_signature(trained.x_train, trained.model.predict(example)),
        input_example=example,
        pip_requirements=[f"{name}=={version(name)}" for name in PACKAGES],
    )
    loaded = mlflow.pyfunc.load_model(f"{folder}/model")
    Path(folder, "evaluation").mkdir()
    trained.figure.savefig(f"{folder}/evaluation/predicted-against-actual.png")
    return example, loaded.predict(example).tolist()


def _register(tracking_uri: str, model_uri: str, run_id: str) -> str:
    """Register the model; return its version."""
    import mlflow

    client = mlflow.MlflowClient(tracking_uri, tracking_uri)
    try:
        client.create_registered_model(REGISTERED_MODEL)
    except mlflow.exceptions.MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    return str(client.create_model_version(REGISTERED_MODEL, model_uri, run_id).version)


if __name__ == "__main__":
    main()
