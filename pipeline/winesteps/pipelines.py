"""The pipelines: `wine-training` (download, preprocess, train), `wine-data-check` and `wine-prediction`.

Compiled by `compile`, submitted by the operator.
"""

from typing import Any

from kfp import dsl, kubernetes

from winesteps import components
from winesteps.credentials import MLFLOW_SECRET, NO_SECRET, PASSWORD, TOKEN, USERNAME

CREDENTIALS = {"accesskey": "AWS_ACCESS_KEY_ID", "secretkey": "AWS_SECRET_ACCESS_KEY"}
"""Keys of the object store's secret, and the variables that boto3 reads."""

MLFLOW_CREDENTIALS = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
"""Keys of MLflow's secret, and the variables that its client reads: a user and a password, or a token."""


MODEL_KEY_SECRET = "wine-model-key"
MODEL_KEY = {"current": "WINE_MODEL_KEY", "previous": "WINE_MODEL_KEY_PREVIOUS"}
"""Keys of the Secret that signs model records, and their variables: those of `winecontract.signatures`, as a test sees to."""


def _reported(s3_endpoint_url: str, mlflow_tracking_uri: str, experiment: str, owner: dict[str, Any]) -> dict[str, Any]:
    """What every step is told, so that it can say how it went."""
    return {
        "s3_endpoint_url": s3_endpoint_url,
        "mlflow_tracking_uri": mlflow_tracking_uri,
        "experiment": experiment,
        "owner": owner,
        "kfp_run": dsl.PIPELINE_JOB_ID_PLACEHOLDER,
    }


def _settle(task: dsl.PipelineTask, s3_secret: str, mlflow_secret: str) -> dsl.PipelineTask:
    """What holds for every step: never cached, since the bytes behind an address change; credentials; no root.

    MLflow's secret may be absent: most servers ask for nothing.
    """
    task.set_caching_options(False)
    kubernetes.use_secret_as_env(task, secret_name=s3_secret, secret_key_to_env=CREDENTIALS)
    same = {name: name for name in MLFLOW_CREDENTIALS}
    kubernetes.use_secret_as_env(task, secret_name=mlflow_secret, secret_key_to_env=same, optional=True)
    return kubernetes.set_security_context(task, run_as_non_root=True)


def _give_credentials(task: dsl.PipelineTask, data_secret: str) -> None:
    """Put the keys of a Secret of the user's into the environment of the one step that fetches, where it is there."""
    keys = {"username": USERNAME, "password": PASSWORD, "token": TOKEN}
    kubernetes.use_secret_as_env(task, secret_name=data_secret, secret_key_to_env=keys, optional=True)


def _give_model_key(task: dsl.PipelineTask) -> None:
    """Put the signing key into the environment of the one step that makes models. The Secret's name is no parameter of the run.

    Both are optional: a run by hand needs no key, and for a resource the step itself says that the key is missing, where a
    container that lacks a variable would wait without a word.
    """
    for key, variable in MODEL_KEY.items():
        kubernetes.use_secret_as_env(task, secret_name=MODEL_KEY_SECRET, secret_key_to_env={key: variable}, optional=True)


@dsl.pipeline(name="wine-training", display_name="Wine training")
def wine_training(
    data_url: str,
    mlflow_tracking_uri: str,
    s3_endpoint_url: str,
    data_sha256: str = "",
    max_bytes: int = 1024**3,
    separator: str = ";",
    decimal: str = ".",
    columns: dict[str, Any] = {},  # noqa: B006 - Kubeflow reads the default, nothing writes it
    missing: str = "refuse",
    target: str = "quality",
    algorithm: str = "ElasticNet",
    parameters: dict[str, Any] = {},  # noqa: B006
    search: dict[str, Any] = {},  # noqa: B006
    test_fraction: float = 0.25,
    seed: int = 1337,
    experiment: str = "wine",
    registered_model: str = "wine-elasticnet",
    server_version: str = "",
    served_run: str = "",
    served_digest: str = "",
    allow_unsigned: bool = False,
    reusable_runs: list[str] = [],  # noqa: B006
    data_secret: str = NO_SECRET,
    credentials_over_http: bool = False,
    s3_secret: str = "mlpipeline-minio-artifact",  # noqa: S107 - the name of a Secret
    mlflow_secret: str = MLFLOW_SECRET,
    owner: dict[str, Any] = {},  # noqa: B006
) -> str:
    """Trains a model on a CSV file and registers it in MLflow.

    Args:
        data_url: Address of a CSV file with a header line, by http, https or s3.
        mlflow_tracking_uri: Address of MLflow.
        s3_endpoint_url: Address of the object store.
        data_sha256: SHA-256 the file must have, in hexadecimal; empty: any.
        max_bytes: Largest size of the file in bytes, as it comes and unpacked.
        separator: The one character between two values.
        decimal: The decimal separator, a point or a comma.
        columns: Columns to leave out (drop), or the only ones to read (only), by name or by position from 1; empty - all.
        missing: What is done about rows with missing values, refuse or dropRows.
        target: Column to predict, as the header names it or in lower_snake form.
        algorithm: The scikit-learn estimator.
        parameters: The estimator's parameters. Left out, those of ElasticNet are 0.5, of the others scikit-learn's defaults.
        search: Values to try for some of them; the best by cross-validation are trained with.
        test_fraction: Share of the rows that is held out to measure the model.
        seed: Seed of the split, of the folds of a search, and of what the estimator draws.
        experiment: MLflow experiment that runs are kept under.
        registered_model: Name in MLflow's model registry.
        server_version: Version of Seldon's mlflowserver that shall read the model, such as 1.17.1; empty: this project's server.
        served_run: MLflow run of the model that serves, measured on the new held-out rows; empty: none.
        served_digest: Digest of that model's folder, which must have it; empty: none was signed.
        allow_unsigned: Whether that model is loaded without a digest, as one trained before models were signed.
        reusable_runs: MLflow runs of the owner's earlier models, one of which is reused where it would be made again.
        data_secret: Secret of data behind http or https, with the keys username and password or token; it need not be there.
        credentials_over_http: Whether they may be sent over plain http.
        s3_secret: Secret with the object store's keys, accesskey and secretkey.
        mlflow_secret: Secret with MLflow's credentials, if any: MLFLOW_TRACKING_USERNAME and _PASSWORD, or _TOKEN.
        owner: Resource that this run is for (namespace, name, uid, revision); empty when run by hand.

    Returns:
        Address of the model's folder in the artifact store.

    """
    reported = _reported(s3_endpoint_url, mlflow_tracking_uri, experiment, owner)
    downloaded = components.download(
        data_url=data_url,
        data_sha256=data_sha256,
        max_bytes=max_bytes,
        data_secret=data_secret,
        credentials_over_http=credentials_over_http,
        **reported,
    )
    preprocessed = components.preprocess(
        data=downloaded.outputs["data"],
        separator=separator,
        decimal=decimal,
        columns=columns,
        missing=missing,
        target=target,
        max_bytes=max_bytes,
        redirected=downloaded.outputs["redirected"],
        **reported,
    )
    trained = components.train(
        table=preprocessed.outputs["table"],
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
        data_url=downloaded.outputs["source"],
        data_sha256=downloaded.outputs["sha256"],
        data_etag=downloaded.outputs["etag"],
        data_version=downloaded.outputs["version"],
        **reported,
    )
    for task in (downloaded, preprocessed, trained):
        _settle(task, s3_secret, mlflow_secret)
    _give_credentials(downloaded, data_secret)
    _give_model_key(trained)
    model_uri: str = trained.outputs["Output"]
    return model_uri


@dsl.pipeline(name="wine-data-check", display_name="Wine data check")
def wine_data_check(
    data_url: str,
    mlflow_tracking_uri: str,
    s3_endpoint_url: str,
    max_bytes: int = 1024**3,
    known_sha256: str = "",
    known_etag: str = "",
    experiment: str = "wine",
    data_secret: str = NO_SECRET,
    credentials_over_http: bool = False,
    s3_secret: str = "mlpipeline-minio-artifact",  # noqa: S107 - the name of a Secret
    mlflow_secret: str = MLFLOW_SECRET,
    owner: dict[str, Any] = {},  # noqa: B006 - Kubeflow reads the default, nothing writes it
) -> bool:
    """Looks whether the bytes behind an address have changed, and writes what it found to MLflow.

    Args:
        data_url: Address of a CSV file, by http, https or s3.
        mlflow_tracking_uri: Address of MLflow.
        s3_endpoint_url: Address of the object store.
        max_bytes: Largest size of the file in bytes.
        known_sha256: SHA-256 of the known bytes, in hexadecimal; empty: none are known, and nothing has changed.
        known_etag: Strong entity tag of the known bytes, if there is one; spares the transfer.
        experiment: MLflow experiment that the outcome is kept under.
        data_secret: Secret of data behind http or https, with the keys username and password or token; it need not be there.
        credentials_over_http: Whether they may be sent over plain http.
        s3_secret: Secret with the object store's keys, accesskey and secretkey.
        mlflow_secret: Secret with MLflow's credentials, if any: MLFLOW_TRACKING_USERNAME and _PASSWORD, or _TOKEN.
        owner: Resource that this check is for (namespace, name, uid, check); empty when run by hand.

    Returns:
        Whether the bytes have changed.

    """
    checked = components.check(
        data_url=data_url,
        max_bytes=max_bytes,
        known_sha256=known_sha256,
        known_etag=known_etag,
        data_secret=data_secret,
        credentials_over_http=credentials_over_http,
        **_reported(s3_endpoint_url, mlflow_tracking_uri, experiment, owner),
    )
    _settle(checked, s3_secret, mlflow_secret)
    _give_credentials(checked, data_secret)
    changed: bool = checked.output
    return changed


@dsl.pipeline(name="wine-prediction", display_name="Wine prediction")
def wine_prediction(
    input_url: str,
    output: str,
    mlflow_run: str,
    mlflow_tracking_uri: str,
    s3_endpoint_url: str,
    input_sha256: str = "",
    input_format: str = "",
    separator: str = ";",
    decimal: str = ".",
    columns: dict[str, Any] = {},  # noqa: B006 - Kubeflow reads the default, nothing writes it
    max_bytes: int = 1024**3,
    model_version: str = "",
    pipeline_uid: str = "",
    model_digest: str = "",
    allow_unsigned: bool = False,
    overwrite: bool = False,
    escape_formulas: bool = True,
    experiment: str = "wine-predictions",
    data_secret: str = NO_SECRET,
    credentials_over_http: bool = False,
    s3_secret: str = "mlpipeline-minio-artifact",  # noqa: S107 - the name of a Secret
    mlflow_secret: str = MLFLOW_SECRET,
    owner: dict[str, Any] = {},  # noqa: B006
) -> str:
    """Scores a file with a model, in chunks, and writes it with the predictions to the object store.

    Args:
        input_url: Address of the file, by http, https or s3.
        output: Address of the object to write, s3://…/….parquet or .csv.
        mlflow_run: MLflow run that logged the model.
        mlflow_tracking_uri: Address of MLflow.
        s3_endpoint_url: Address of the object store.
        input_sha256: SHA-256 the file must have, in hexadecimal; empty: any.
        input_format: csv or parquet; empty: by the file's content.
        separator: The one character between two values of a CSV file, of the input and of the output.
        decimal: The decimal separator of a CSV file, a point or a comma.
        columns: Columns to leave out (drop), or the only ones to read beside the model's (only); empty - all.
        max_bytes: Largest size of the file in bytes.
        model_version: Version in the model registry that the run must have made; empty: any.
        pipeline_uid: uid of the resource that the model must be of; empty: any.
        model_digest: Digest of the model's folder, which must have it; empty: none was signed.
        allow_unsigned: Whether the model is loaded without a digest, as one trained before models were signed.
        overwrite: Whether an object that is at the output already is replaced; never the input or the model's training data.
        escape_formulas: Whether texts of CSV that a spreadsheet would run as a formula get an apostrophe in front.
        experiment: MLflow experiment that runs are kept under.
        data_secret: Secret of data behind http or https, with the keys username and password or token; it need not be there.
        credentials_over_http: Whether they may be sent over plain http.
        s3_secret: Secret with the object store's keys, accesskey and secretkey.
        mlflow_secret: Secret with MLflow's credentials, if any: MLFLOW_TRACKING_USERNAME and _PASSWORD, or _TOKEN.
        owner: Resource that this run is for (namespace, name, uid); empty when run by hand.

    Returns:
        Address of the report.

    """
    predicted = components.predict(
        input_url=input_url,
        input_sha256=input_sha256,
        input_format=input_format,
        separator=separator,
        decimal=decimal,
        columns=columns,
        max_bytes=max_bytes,
        output=output,
        mlflow_run=mlflow_run,
        model_version=model_version,
        pipeline_uid=pipeline_uid,
        model_digest=model_digest,
        allow_unsigned=allow_unsigned,
        overwrite=overwrite,
        escape_formulas=escape_formulas,
        data_secret=data_secret,
        credentials_over_http=credentials_over_http,
        **_reported(s3_endpoint_url, mlflow_tracking_uri, experiment, owner),
    )
    _settle(predicted, s3_secret, mlflow_secret)
    _give_credentials(predicted, data_secret)
    report: str = predicted.outputs["Output"]
    return report
