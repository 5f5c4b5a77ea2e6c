"""The steps as Kubeflow components. Compiled by `compile`, joined by `pipelines`.

Kubeflow embeds the source of each function here in the compiled pipeline: the bodies only hand over to winesteps, which
the image holds, so that a change of the code is a change of the image.
"""

from typing import Any, NamedTuple

from kfp import dsl

IMAGE = "winepipelines/steps:0.1.0"
"""Stands in the compiled files; the operator puts the platform's image in its place."""


@dsl.component(base_image=IMAGE, packages_to_install=[], install_kfp_package=False)
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
    """Fetches the data by http, https or s3, and checks that it can be a CSV file.

    Args:
        data_url: Address of the CSV file.
        data_sha256: SHA-256 the file must have, in hexadecimal; empty: any.
        max_bytes: Largest size of the file in bytes.
        data_secret: Secret whose keys the environment holds, username and password or token; winepipelines-no-credentials - none.
        credentials_over_http: Whether they may be sent over plain http.
        s3_endpoint_url: Address of the object store, for s3 addresses.
        mlflow_tracking_uri: Address of MLflow, where a failure is reported.
        experiment: MLflow experiment of the report.
        owner: Resource that this run is for (namespace, name, uid, revision); empty when run by hand.
        kfp_run: Id of this Kubeflow run.
        data: The file as it came.

    Returns:
        SHA-256 of the file in hexadecimal, the strong entity tag that its server gave, the version of the object, if any, the
        address without a query, which may be a signature, and whether it redirected to another host.

    """
    from pathlib import Path

    from winesteps.failures import redact_url, reporting, without_templates
    from winesteps.shortlived import uncollected
    from winesteps.tracking import Record

    record = Record(mlflow_tracking_uri, experiment, s3_endpoint_url, owner, kfp_run)
    with uncollected(), reporting("download", record):
        from winesteps.credentials import from_environment
        from winesteps.download import download

        downloaded = download(
            data_url,
            Path(data.path),
            sha256=data_sha256,
            max_bytes=max_bytes,
            s3_endpoint_url=s3_endpoint_url,
            credentials=from_environment(data_secret, credentials_over_http),
        )
    source = without_templates(redact_url(data_url))
    data.metadata.update(source=source, bytes=downloaded.size, sha256=downloaded.sha256)
    return (downloaded.sha256, downloaded.etag, downloaded.version_id, source, downloaded.redirected)


@dsl.component(base_image=IMAGE, packages_to_install=[], install_kfp_package=False)
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
    """Checks the CSV file, names its columns in lower_snake form and writes it as parquet.

    Args:
        data: The CSV file, with a header line and numbers below it; compressed by gzip, xz or zip, or not.
        separator: The one character between two values.
        decimal: The decimal separator, a point or a comma.
        columns: Columns to leave out (drop), or the only ones to read (only), by name or by position from 1; empty - all.
        missing: What is done about rows with missing values, refuse or dropRows.
        target: Column to predict, as the header names it or in lower_snake form.
        max_bytes: Largest size of the unpacked file in bytes.
        redirected: Whether the file came from another host than its address names; its content is then not quoted.
        s3_endpoint_url: Address of the object store.
        mlflow_tracking_uri: Address of MLflow, where a failure is reported.
        experiment: MLflow experiment of the report.
        owner: Resource that this run is for (namespace, name, uid, revision); empty when run by hand.
        kfp_run: Id of this Kubeflow run.
        table: The rows in parquet, float64 columns in the file's order.

    """
    from pathlib import Path

    from winesteps.failures import reporting, unquoted, without_templates
    from winesteps.shortlived import uncollected
    from winesteps.tracking import Record

    record = Record(mlflow_tracking_uri, experiment, s3_endpoint_url, owner, kfp_run)
    with uncollected(), reporting("preprocess", record), unquoted(redirected):
        from winesteps.preprocess import preprocess

        done = preprocess(
            Path(data.path),
            Path(table.path),
            separator=separator,
            decimal=decimal,
            columns=columns,
            missing=missing,
            target=target,
            max_bytes=max_bytes,
        )
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
    """Fits and measures a model, and logs and registers it in MLflow.

    Args:
        table: The rows in parquet.
        target: Column to predict.
        algorithm: The scikit-learn estimator.
        parameters: The estimator's parameters.
        search: Values to try for some of them; the best by cross-validation are trained with.
        test_fraction: Share of the rows that is held out to measure the model.
        seed: Seed of the split, of the folds of a search, and of what the estimator draws.
        registered_model: Name in MLflow's model registry.
        server_version: Version of Seldon's mlflowserver that shall read the model; empty: this project's server.
        served_run: MLflow run of the model that serves, measured on the same rows; empty: none.
        served_digest: Digest of that model's folder, which must have it; empty: none was signed.
        allow_unsigned: Whether that model is loaded without a digest, as one trained before models were signed.
        reusable_runs: MLflow runs of the owner's earlier models, one of which is reused where it would be made again.
        data_url: Address the data came from; logged.
        data_sha256: SHA-256 of the data; logged.
        data_etag: Strong entity tag of the data, if there is one.
        data_version: Version of the object that the data are, in a bucket that keeps versions.
        s3_endpoint_url: Address of the object store that MLflow keeps artifacts in.
        mlflow_tracking_uri: Address of MLflow.
        experiment: MLflow experiment.
        owner: Resource that this run is for (namespace, name, uid, revision); empty when run by hand.
        kfp_run: Id of this Kubeflow run.
        metrics: r2, rmse and mae on the held-out rows, and the same of the model that serves.
        report: Predicted against actual values of the held-out rows.

    Returns:
        Address of the model's folder in the artifact store.

    """
    from pathlib import Path

    from winesteps.failures import redact_url, reporting
    from winesteps.shortlived import uncollected
    from winesteps.tracking import Record

    record = Record(mlflow_tracking_uri, experiment, s3_endpoint_url, owner, kfp_run)
    with uncollected(), reporting("train", record) as attempt:
        from winesteps.train import Task, train

        task = Task(
            target=target,
            algorithm=algorithm,
            parameters=parameters,
            search=search,
            test_fraction=test_fraction,
            seed=seed,
            registered_model=registered_model,
            server_version=server_version,
            served_run=served_run,
            served_digest=served_digest,
            allow_unsigned=allow_unsigned,
            reusable_runs=reusable_runs,
            data_etag=data_etag,
            data_version=data_version,
            source={"data_url": redact_url(data_url), "data_sha256": data_sha256},
        )
        trained = train(Path(table.path), task, record, attempt)
    for name, value in trained.metrics.items():
        metrics.log_metric(name, value)
    Path(report.path).write_text(trained.html, encoding="utf-8")
    return trained.model_uri


@dsl.component(base_image=IMAGE, packages_to_install=[], install_kfp_package=False)
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
    """Looks whether the bytes at an address are still the known ones, and writes what it found to MLflow.

    Args:
        data_url: Address of the CSV file.
        max_bytes: Largest size of the file in bytes.
        known_sha256: SHA-256 of the known bytes, in hexadecimal; empty: none are known, and nothing has changed.
        known_etag: Strong entity tag of the known bytes, if there is one.
        data_secret: Secret whose keys the environment holds, username and password or token; winepipelines-no-credentials - none.
        credentials_over_http: Whether they may be sent over plain http.
        s3_endpoint_url: Address of the object store, for s3 addresses.
        mlflow_tracking_uri: Address of MLflow.
        experiment: MLflow experiment.
        owner: Resource that this check is for (namespace, name, uid, check); empty when run by hand.
        kfp_run: Id of this Kubeflow run.

    Returns:
        Whether the bytes have changed.

    """
    from winesteps.failures import reporting
    from winesteps.shortlived import uncollected
    from winesteps.tracking import Record

    record = Record(mlflow_tracking_uri, experiment, s3_endpoint_url, owner, kfp_run)
    with uncollected(), reporting("check", record) as attempt:
        from winesteps.check import look, report
        from winesteps.credentials import from_environment

        checked = look(
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
    """Scores a file with a model, in chunks, and writes it with the predictions to the object store.

    Args:
        input_url: Address of the file, by http, https or s3.
        input_sha256: SHA-256 the file must have, in hexadecimal; empty: any.
        input_format: csv or parquet; empty: by the file's content.
        separator: The one character between two values of a CSV file, of the input and of the output.
        decimal: The decimal separator of a CSV file, a point or a comma.
        columns: Columns to leave out (drop), or the only ones to read beside the model's (only); empty - all.
        max_bytes: Largest size of the file in bytes.
        output: Address of the object to write, s3://…/….parquet or .csv.
        mlflow_run: MLflow run that logged the model.
        model_version: Version in the model registry that the run must have made; empty: any.
        pipeline_uid: uid of the resource that the model must be of; empty: any.
        model_digest: Digest of the model's folder, which must have it; empty: none was signed.
        allow_unsigned: Whether the model is loaded without a digest, as one trained before models were signed.
        overwrite: Whether an object that is at the output already is replaced; never the input or the model's training data.
        escape_formulas: Whether texts of CSV that a spreadsheet would run as a formula get an apostrophe in front.
        data_secret: Secret whose keys the environment holds, username and password or token; winepipelines-no-credentials - none.
        credentials_over_http: Whether they may be sent over plain http.
        s3_endpoint_url: Address of the object store.
        mlflow_tracking_uri: Address of MLflow.
        experiment: MLflow experiment of the report.
        owner: Resource that this run is for (namespace, name, uid); empty when run by hand.
        kfp_run: Id of this Kubeflow run.
        metrics: Rows, scored rows, and seconds.

    Returns:
        Address of the report.

    """
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
