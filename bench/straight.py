"""The training pipeline's work as one plain script, to compare it with: no steps, no Kubeflow, nothing of winesteps.

    python bench/straight.py --url URL --tracking-uri URI [--s3-endpoint URL] [--experiment NAME]

Run by a person or by a benchmark in the pipeline's environment; AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY come from the
environment. Prints one line of JSON: the metrics of the held-out quarter, the seconds of each part, the model's address.
It is written to be fast where that costs nothing: requirements are given instead of guessed, telemetry is off. Its seconds leave
out the interpreter's start and end, which take another.
"""

import argparse
import io
import json
import os
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

TARGET, ALPHA, L1_RATIO, TEST_FRACTION, SEED, MODEL_SEED = "quality", 0.5, 0.5, 0.25, 1337, 42
REGISTERED_MODEL = "wine-elasticnet"
PACKAGES = ("mlflow", "scikit-learn", "pandas", "numpy", "scipy", "cloudpickle")


def main() -> None:
    """Parse the command line, do the work, print the outcome."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True)
    parser.add_argument("--tracking-uri", required=True)
    parser.add_argument("--s3-endpoint", default="")
    parser.add_argument("--experiment", default="straight")
    options = parser.parse_args()
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    if options.s3_endpoint:
        os.environ["MLFLOW_S3_ENDPOINT_URL"] = options.s3_endpoint

    laps = {"begin": time.perf_counter()}

    import boto3  # noqa: F401 - MLflow imports it to upload: counted here, not there
    import matplotlib
    import mlflow
    import mlflow.sklearn
    import pandas as pd
    import requests
    from matplotlib.figure import Figure
    from mlflow.models import infer_signature
    from sklearn.linear_model import ElasticNet
    from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error
    from sklearn.model_selection import train_test_split

    matplotlib.use("agg")
    laps["import"] = time.perf_counter()

    response = requests.get(options.url, timeout=60)
    response.raise_for_status()
    laps["download"] = time.perf_counter()

    table = pd.read_csv(io.BytesIO(response.content), sep=";")
    table.columns = table.columns.str.strip().str.lower().str.replace(r"\W+", "_", regex=True)
    table = table.astype(float)
    laps["preprocess"] = time.perf_counter()

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
    laps["train"] = time.perf_counter()

    client = mlflow.MlflowClient(options.tracking_uri, options.tracking_uri)
    mlflow.set_tracking_uri(options.tracking_uri)
    mlflow.set_experiment(options.experiment)
    with mlflow.start_run() as run, tempfile.TemporaryDirectory() as folder:
        mlflow.log_params(
            {"alpha": ALPHA, "l1_ratio": L1_RATIO, "test_fraction": TEST_FRACTION, "seed": SEED, "target": TARGET}
            | {"algorithm": "ElasticNet", "rows_train": len(x_train), "rows_test": len(x_test), "data_url": options.url}
        )
        mlflow.log_metrics(metrics)
        example = x_test.head(3)
        mlflow.sklearn.save_model(
            model,
            f"{folder}/model",
            serialization_format="cloudpickle",
            signature=infer_signature(x_train, model.predict(example)),
            input_example=example,
            pip_requirements=[f"{name}=={version(name)}" for name in PACKAGES],
        )
        loaded = mlflow.pyfunc.load_model(f"{folder}/model")
        Path(folder, "evaluation").mkdir()
        figure.savefig(f"{folder}/evaluation/predicted-against-actual.png")
        mlflow.log_artifacts(folder)
        model_uri = f"{run.info.artifact_uri}/model"
        try:
            client.create_registered_model(REGISTERED_MODEL)
        except mlflow.exceptions.MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        registered = client.create_model_version(REGISTERED_MODEL, model_uri, run.info.run_id)
        mlflow.set_tags(
            {
                "model-uri": model_uri,
                "model-version": registered.version,
                "example": json.dumps({"names": list(example.columns), "ndarray": example.to_numpy().tolist()}),
                "prediction": json.dumps(loaded.predict(example).tolist()),
            }
        )
    laps["log"] = time.perf_counter()

    names, times = list(laps), list(laps.values())
    seconds = {name: round(end - start, 3) for name, start, end in zip(names[1:], times, times[1:], strict=False)}
    seconds["total"] = round(times[-1] - times[0], 3)
    print(json.dumps({**metrics, "seconds": seconds, "model_uri": model_uri}))


if __name__ == "__main__":
    main()
