"""The steps as Kubeflow components.

Kubeflow embeds the source of each function in the compiled pipeline. The bodies only call winesteps, which is in the image, so
that new code needs a new image only. Those of a training pass their inputs to `steps` by name: `locals()` comes first.
"""

from typing import Any, NamedTuple

from kfp import dsl

from winesteps.descriptions import described

IMAGE = "winepipelines/steps:0.1.0"
"""Placeholder in the compiled files; the operator replaces it with the platform's image."""


_trains = described(
    returns="Address of the model's folder in the artifact store.",
    metrics="r2, rmse and mae on the held-out rows, of the new and of the served model.",
    report="Predicted against actual values of the held-out rows.",
)


@dsl.component(base_image=IMAGE, packages_to_install=[], install_kfp_package=False)
@described(
    returns="Digest, strong entity tag, object version and address of the file, and whether the server redirected elsewhere.",
    data="The file as received.",
)
def download(
    data_url: str,
    data_sha256: str,
    max_bytes: int,
    data_secret: str,
    credentials_over_http: bool,
    s3_endpoint_url: str,
    mlflow_tracking_uri: str,
    experiment: str,
    owner: dict[str, Any],
    kfp_run: str,
    data: dsl.Output[dsl.Dataset],
) -> NamedTuple("Downloaded", [("sha256", str), ("etag", str), ("version", str), ("source", str), ("redirected", bool)]):  # type: ignore[valid-type] # Kubeflow reads it where it stands
    """Fetch the data by http, https or s3, and check that it can be a CSV file."""
    inputs = locals()
    from pathlib import Path

    from winesteps import steps

    fetched = steps.download(inputs, Path(data.path))
    data.metadata.update(source=fetched.source, bytes=fetched.size, sha256=fetched.sha256)
    return (fetched.sha256, fetched.etag, fetched.version, fetched.source, fetched.redirected)


@dsl.component(base_image=IMAGE, packages_to_install=[], install_kfp_package=False)
@described()
def preprocess(
    data: dsl.Input[dsl.Dataset],
    separator: str,
    decimal: str,
    columns: dict[str, Any],
    missing: str,
    target: str,
    max_bytes: int,
    redirected: bool,
    s3_endpoint_url: str,
    mlflow_tracking_uri: str,
    experiment: str,
    owner: dict[str, Any],
    kfp_run: str,
    table: dsl.Output[dsl.Dataset],
) -> None:
    """Check the CSV file, convert its column names to lower_snake form and write it as parquet."""
    inputs = locals()
    from pathlib import Path

    from winesteps import steps
    from winesteps.failures import without_templates

    done = steps.preprocess(inputs, Path(data.path), Path(table.path))
    table.metadata.update(
        rows=done.rows,
        target=done.target,
        features=done.features,
        rows_dropped=done.summary.rows_dropped,
        columns_dropped=without_templates(done.summary.columns_dropped),
        format=done.summary.format,
        warnings=without_templates(done.summary.warnings),
    )


@dsl.component(base_image=IMAGE, packages_to_install=[], install_kfp_package=False)
@_trains
def train(
    table: dsl.Input[dsl.Dataset],
    target: str,
    algorithm: str,
    parameters: dict[str, Any],
    search: dict[str, Any],
    test_fraction: float,
    seed: int,
    registered_model: str,
    server_version: str,
    served_run: str,
    served_digest: str,
    allow_unsigned: bool,
    reusable_runs: list[str],
    data_url: str,
    data_sha256: str,
    data_etag: str,
    data_version: str,
    s3_endpoint_url: str,
    mlflow_tracking_uri: str,
    experiment: str,
    owner: dict[str, Any],
    kfp_run: str,
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
) -> str:
    """Fit and evaluate a model, log it to MLflow and register it."""
    inputs = locals()
    from pathlib import Path

    from winesteps import steps

    return steps.publish(steps.train(inputs, Path(table.path)), metrics, report)


@dsl.component(base_image=IMAGE, packages_to_install=[], install_kfp_package=False)
@_trains
def training(
    data_url: str,
    data_sha256: str,
    max_bytes: int,
    data_secret: str,
    credentials_over_http: bool,
    separator: str,
    decimal: str,
    columns: dict[str, Any],
    missing: str,
    target: str,
    algorithm: str,
    parameters: dict[str, Any],
    search: dict[str, Any],
    test_fraction: float,
    seed: int,
    registered_model: str,
    server_version: str,
    served_run: str,
    served_digest: str,
    allow_unsigned: bool,
    reusable_runs: list[str],
    s3_endpoint_url: str,
    mlflow_tracking_uri: str,
    experiment: str,
    owner: dict[str, Any],
    kfp_run: str,
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
) -> str:
    """Run download, preprocess and train one after the other in one container."""
    inputs = locals()
    from winesteps import steps

    return steps.publish(steps.training(inputs), metrics, report)


@dsl.component(base_image=IMAGE, packages_to_install=[], install_kfp_package=False)
@described(
    returns="Whether the file has changed.",
)
def check(
    data_url: str,
    max_bytes: int,
    known_sha256: str,
    known_etag: str,
    data_secret: str,
    credentials_over_http: bool,
    s3_endpoint_url: str,
    mlflow_tracking_uri: str,
    experiment: str,
    owner: dict[str, Any],
    kfp_run: str,
) -> bool:
    """Check whether the file at an address has changed, and record the result in MLflow."""
    from winesteps.failures import reporting
    from winesteps.shortlived import uncollected
    from winesteps.tracking import Record

    record = Record(mlflow_tracking_uri, experiment, s3_endpoint_url, owner, kfp_run)
    with uncollected(), reporting("check", record) as attempt:
        from winesteps.check import compare, report
        from winesteps.credentials import from_environment

        checked = compare(
            data_url,
            known_sha256=known_sha256,
            known_etag=known_etag,
            max_bytes=max_bytes,
            s3_endpoint_url=s3_endpoint_url,
            credentials=from_environment(data_secret, credentials_over_http),
        )
        report(checked, record, attempt)
    return checked.changed


@dsl.component(base_image=IMAGE, packages_to_install=[], install_kfp_package=False)
@described(
    returns="Address of the report.",
    metrics="Numbers of rows and of scored rows, and the duration in seconds.",
)
def predict(
    input_url: str,
    input_sha256: str,
    input_format: str,
    separator: str,
    decimal: str,
    columns: dict[str, Any],
    max_bytes: int,
    output: str,
    mlflow_run: str,
    model_version: str,
    pipeline_uid: str,
    model_digest: str,
    allow_unsigned: bool,
    overwrite: bool,
    escape_formulas: bool,
    data_secret: str,
    credentials_over_http: bool,
    s3_endpoint_url: str,
    mlflow_tracking_uri: str,
    experiment: str,
    owner: dict[str, Any],
    kfp_run: str,
    metrics: dsl.Output[dsl.Metrics],
) -> str:
    """Score a file with a model, in chunks, and write it with the predictions to the object store."""
    from winesteps.failures import reporting
    from winesteps.shortlived import uncollected
    from winesteps.tracking import Record

    record = Record(mlflow_tracking_uri, experiment, s3_endpoint_url, owner, kfp_run)
    with uncollected(), reporting("predict", record) as attempt:
        from winesteps.predict import Task, predict

        task = Task(
            input_url=input_url,
            output=output,
            mlflow_run=mlflow_run,
            input_sha256=input_sha256,
            input_format=input_format,
            separator=separator,
            decimal=decimal,
            columns=columns,
            max_bytes=max_bytes,
            model_version=model_version,
            pipeline_uid=pipeline_uid,
            model_digest=model_digest,
            allow_unsigned=allow_unsigned,
            overwrite=overwrite,
            escape_formulas=escape_formulas,
            data_secret=data_secret,
            credentials_over_http=credentials_over_http,
        )
        predicted = predict(task, s3_endpoint_url, record, attempt)
    for name in ("rows", "scored", "seconds"):
        metrics.log_metric(name, float(predicted.content[name]))
    return predicted.report
