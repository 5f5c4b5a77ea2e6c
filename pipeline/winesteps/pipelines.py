"""The pipelines: `wine-training`, `wine-training-single`, `wine-data-check` and `wine-prediction`.

`wine-training` runs download, preprocess and train in pods of their own, `wine-training-single` in one.
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from kfp import dsl, kubernetes

from winesteps import components
from winesteps.credentials import MLFLOW_SECRET, NO_SECRET, PASSWORD, TOKEN, USERNAME
from winesteps.descriptions import described

CREDENTIALS = {"accesskey": "AWS_ACCESS_KEY_ID", "secretkey": "AWS_SECRET_ACCESS_KEY"}
"""Keys of the object store's Secret, and the variables that boto3 reads."""

MLFLOW_CREDENTIALS = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
"""Keys of MLflow's Secret, which are the variables that its client reads: user and password, or token."""

MODEL_KEY_SECRET = "wine-model-key"
MODEL_KEY = {"current": "WINE_MODEL_KEY", "previous": "WINE_MODEL_KEY_PREVIOUS"}
"""Keys of the Secret that signs model records, and the variables of `winecontract.signatures`; a test compares them."""


def _task(component: Any, inputs: Mapping[str, Any], **outputs: Any) -> dsl.PipelineTask:
    """Add a step. It gets each input of the pipeline that it has too, and outputs of earlier steps.

    No step is cached, because the file at an address changes; none runs as root. MLflow's Secret can be missing: most servers
    need no credentials.
    """
    shared = {name: inputs[name] for name in component.component_spec.inputs if name in inputs and name not in outputs}
    task = component(**shared, kfp_run=dsl.PIPELINE_JOB_ID_PLACEHOLDER, **outputs)
    task.set_caching_options(False)
    kubernetes.use_secret_as_env(task, secret_name=inputs["s3_secret"], secret_key_to_env=CREDENTIALS)
    same = {name: name for name in MLFLOW_CREDENTIALS}
    kubernetes.use_secret_as_env(task, secret_name=inputs["mlflow_secret"], secret_key_to_env=same, optional=True)
    return kubernetes.set_security_context(task, run_as_non_root=True)


def _give_credentials(task: dsl.PipelineTask, data_secret: str) -> None:
    """Add the user's credentials to the environment of the step that fetches. The Secret can be missing."""
    keys = {"username": USERNAME, "password": PASSWORD, "token": TOKEN}
    kubernetes.use_secret_as_env(task, secret_name=data_secret, secret_key_to_env=keys, optional=True)


def _give_model_key(task: dsl.PipelineTask) -> None:
    """Add the signing key to the environment of the step that trains. The Secret's name is not an input of the run.

    The keys are optional: a run by hand needs none. For a resource, the step reports a missing key; a container with a missing
    required variable would only wait.
    """
    for key, variable in MODEL_KEY.items():
        kubernetes.use_secret_as_env(task, secret_name=MODEL_KEY_SECRET, secret_key_to_env={key: variable}, optional=True)


def _with_inputs_of(pipeline: Any) -> Callable[[Callable[..., str]], Callable[..., str]]:
    """Give a function the inputs of a compiled pipeline, with their types and defaults. It gets them by name."""
    signature = inspect.signature(pipeline.pipeline_func)

    def decorate(function: Callable[..., str]) -> Callable[..., str]:
        @functools.wraps(function)
        def called(*arguments: Any) -> str:
            return function(**signature.bind(*arguments).arguments)

        called.__signature__ = signature  # type: ignore[attr-defined] # inspect.signature reads it
        return called

    return decorate


@dsl.pipeline(name="wine-training", display_name="Wine training")
@described(returns="Address of the model's folder in the artifact store.")
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
    """Train a model on a CSV file and register it in MLflow."""
    inputs = locals()
    downloaded = _task(components.download, inputs)
    preprocessed = _task(
        components.preprocess, inputs, data=downloaded.outputs["data"], redirected=downloaded.outputs["redirected"]
    )
    trained = _task(
        components.train,
        inputs,
        table=preprocessed.outputs["table"],
        data_url=downloaded.outputs["source"],
        data_sha256=downloaded.outputs["sha256"],
        data_etag=downloaded.outputs["etag"],
        data_version=downloaded.outputs["version"],
    )
    _give_credentials(downloaded, data_secret)
    _give_model_key(trained)
    model_uri: str = trained.outputs["Output"]
    return model_uri


@dsl.pipeline(name="wine-training-single", display_name="Wine training in a single pod")
@described(returns="Address of the model's folder in the artifact store.")
@_with_inputs_of(wine_training)
def wine_training_single(**inputs: Any) -> str:
    """Train a model on a CSV file in a single pod and register it in MLflow."""
    trained = _task(components.training, inputs)
    _give_credentials(trained, inputs["data_secret"])
    _give_model_key(trained)
    model_uri: str = trained.outputs["Output"]
    return model_uri


@dsl.pipeline(name="wine-data-check", display_name="Wine data check")
@described(returns="Whether the file has changed.")
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
    """Check whether the file at an address has changed, and record the result in MLflow."""
    checked = _task(components.check, locals())
    _give_credentials(checked, data_secret)
    changed: bool = checked.output
    return changed


@dsl.pipeline(name="wine-prediction", display_name="Wine prediction")
@described(returns="Address of the report.")
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
    """Score a file with a model, in chunks, and write it with the predictions to the object store."""
    predicted = _task(components.predict, locals())
    _give_credentials(predicted, data_secret)
    report: str = predicted.outputs["Output"]
    return report
