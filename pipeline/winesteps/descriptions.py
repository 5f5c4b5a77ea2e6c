"""Descriptions of the inputs of pipelines and components, as Kubeflow Pipelines shows them.

Kubeflow reads descriptions from docstrings. Pipelines and components share most inputs, so that one table describes them.
"""

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])

INPUTS = {
    "algorithm": "The scikit-learn estimator.",
    "allow_unsigned": "Load a model that has no digest because it was trained before models were signed.",
    "columns": "Columns that are not read (drop), or the only ones that are (only), by name or position from 1; empty - all.",
    "credentials_over_http": "Allow the credentials to be sent over plain http.",
    "data": "The CSV file, with a header line, plain or compressed with gzip, xz or zip.",
    "data_etag": "Strong entity tag of the data, if any.",
    "data_secret": "Secret with the credentials of an http or https address, username and password or token; it can be missing.",
    "data_sha256": "SHA-256 digest that the file must have, in hexadecimal; empty - any.",
    "data_url": "Address of a CSV file with a header line, by http, https or s3.",
    "data_version": "Version of the data's object, in a bucket with versioning.",
    "decimal": "Decimal separator, a point or a comma.",
    "escape_formulas": "Add an apostrophe before texts of a CSV output that a spreadsheet would run as a formula.",
    "experiment": "MLflow experiment of the run.",
    "input_format": "Format of the file, csv or parquet; empty - detect it from the content.",
    "input_sha256": "SHA-256 digest that the file must have, in hexadecimal; empty - any.",
    "input_url": "Address of the file, by http, https or s3.",
    "kfp_run": "Id of this run in Kubeflow Pipelines.",
    "known_etag": "Strong entity tag of the known file, if any; the check then needs no transfer.",
    "known_sha256": "SHA-256 digest of the known file, in hexadecimal; empty - no file is known, and none has changed.",
    "max_bytes": "Maximum size of the file in bytes, compressed and expanded.",
    "missing": "Policy for rows with missing values, refuse or dropRows.",
    "mlflow_run": "MLflow run that logged the model.",
    "mlflow_secret": "Secret with MLflow's credentials, MLFLOW_TRACKING_USERNAME and _PASSWORD, or _TOKEN; it can be missing.",
    "mlflow_tracking_uri": "Address of MLflow.",
    "model_digest": "SHA-256 digest that the model's folder must have; empty - the model is not signed.",
    "model_version": "Version in the model registry that the MLflow run must have registered; empty - any.",
    "output": "Address of the output in the object store, s3://…/….parquet or .csv.",
    "overwrite": "Replace an existing object at the output, except the input and training data.",
    "owner": "Resource that this run belongs to (namespace, name, uid, revision or check); empty when run by hand.",
    "parameters": "Parameters of the estimator; the default of the algorithm for those that are left out.",
    "pipeline_uid": "uid of the resource that the model must belong to; empty - any.",
    "redirected": "The server redirected to another host; messages then do not quote the file's content.",
    "registered_model": "Name in the MLflow model registry.",
    "reusable_runs": "MLflow runs of the owner's earlier models; one with the same inputs is reused.",
    "s3_endpoint_url": "Address of the object store.",
    "s3_secret": "Secret with the keys of the object store, accesskey and secretkey.",
    "search": "Candidate values of parameters; the step trains with the best combination by cross-validation.",
    "seed": "Seed of the split, the folds of a search and the estimator.",
    "separator": "The character between two fields.",
    "served_digest": "SHA-256 digest that the served model's folder must have; empty - the model is not signed.",
    "served_run": "MLflow run of the served model, which is evaluated on the same rows; empty - none.",
    "server_version": "Version of Seldon's mlflowserver that reads the model, such as 1.17.1; empty - this project's server.",
    "table": "The table in parquet, float64 columns in the order of the file.",
    "target": "Column to predict, by its name in the header or in lower_snake form.",
    "test_fraction": "Fraction of the rows that is held out to evaluate the model.",
}


def described(returns: str = "", **outputs: str) -> Callable[[Function], Function]:
    """Add the descriptions of a function's inputs to its docstring, and those of its outputs, which are given here.

    Raises:
        KeyError: an input has no description.

    """

    def decorate(function: Function) -> Function:
        texts = {**INPUTS, **outputs}
        lines = [f"    {name}: {texts[name]}" for name in inspect.signature(function).parameters]
        ends = ["", "Returns:", f"    {returns}"] if returns else []
        function.__doc__ = "\n".join([inspect.getdoc(function) or "", "", "Args:", *lines, *ends])
        return function

    return decorate
