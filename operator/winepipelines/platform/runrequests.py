"""Requests that submit runs to Kubeflow Pipelines: the compiled pipeline and its parameters."""

import hashlib
import json
from collections.abc import Callable
from typing import Any

from winecontract.reasons import Reason
from winepipelines.api.errors import Refused
from winepipelines.api.pipeline import WinePipeline
from winepipelines.api.prediction import EXPERIMENT, Input, WinePrediction
from winepipelines.api.spec import Data, Pods, Runtime
from winepipelines.api.status import known_models
from winepipelines.platform.compiled import CompiledPipeline, template_in
from winepipelines.settings import Settings

TRAININGS = {Pods.PER_STEP: ("wine-training", "train"), Pods.SINGLE: ("wine-training-single", "training")}
"""The compiled pipeline of each value of `training.pods`, and its step that gets `training.resources`."""
DATA_CHECK, PREDICTION, PREDICT = "wine-data-check", "wine-prediction", "predict"
COMPILED = (*(name for name, _ in TRAININGS.values()), DATA_CHECK, PREDICTION)
"""The names of all compiled pipelines."""


class RunRequests:
    """Builds the requests. No credential is among a run's parameters."""

    def __init__(self, settings: Settings, version_of_server: Callable[[Runtime], str] = lambda _: "") -> None:
        """Read the compiled pipelines.

        `version_of_server` names the server that must be able to load the models of a runtime; empty for the bundled one.
        """
        self._settings = settings
        self._version_of_server = version_of_server
        self._trainings = {pods: CompiledPipeline(settings.templates, name) for pods, (name, _) in TRAININGS.items()}
        self._check = CompiledPipeline(settings.templates, DATA_CHECK)
        self._prediction = CompiledPipeline(settings.templates, PREDICTION)
        self._all = (*self._trainings.values(), self._check, self._prediction)
        self.steps = frozenset(step for compiled in self._all for step in compiled.steps)

    def training(self, pipeline: WinePipeline, name: str, revision: int, experiment_id: str) -> dict[str, Any]:
        """Build the request that submits the run of a revision."""
        description = f"WinePipeline {pipeline.namespace}/{pipeline.name}, revision {revision}"
        specification, parameters = self.training_specification(pipeline), self.training_parameters(pipeline, revision)
        return self._request(name, description, experiment_id, specification, parameters)

    def training_specification(self, pipeline: WinePipeline) -> dict[str, Any]:
        """Build the inline pipeline, with the administrator's image and the resources that the spec requests for training."""
        training = pipeline.spec.training
        _, step = TRAININGS[training.pods]
        return self._trainings[training.pods].specification(self._settings, {step: training.resources})

    def training_parameters(self, pipeline: WinePipeline, revision: int) -> dict[str, Any]:
        """Build the parameters of a training run from the spec."""
        data, training = pipeline.spec.data, pipeline.spec.training
        return {
            "data_url": data.url,
            "data_sha256": data.sha256,
            **_credentials(data),
            "max_bytes": self._settings.max_data_bytes,
            "separator": data.separator,
            "decimal": data.decimal,
            "columns": data.selection,
            "missing": data.missing.value,
            "target": data.target,
            "algorithm": training.algorithm.value,
            "parameters": training.fixed_parameters,
            "search": training.values_to_try,
            "test_fraction": training.test_fraction,
            "seed": training.seed,
            "experiment": training.experiment,
            "registered_model": pipeline.registered_model,
            "server_version": self._version_of_server(pipeline.spec.serving.runtime),
            "served_run": served_run(pipeline),
            "served_digest": served_digest(pipeline),
            "allow_unsigned": self._settings.serves_unsigned,
            "reusable_runs": list(known_models(pipeline.status)),
            "mlflow_tracking_uri": self._settings.mlflow_url_in_steps,
            "s3_endpoint_url": self._settings.s3_endpoint_url,
            "owner": {
                "namespace": pipeline.namespace,
                "name": pipeline.name,
                "uid": pipeline.uid,
                "revision": revision,
            },
        }

    def data_check(
        self, pipeline: WinePipeline, name: str, check_id: str, known_sha256: str, known_etag: str, experiment_id: str
    ) -> dict[str, Any]:
        """Build the request that submits a data check: whether the data still has the known checksum or ETag."""
        description = f"WinePipeline {pipeline.namespace}/{pipeline.name}, check {check_id} of the data"
        parameters = {
            "data_url": pipeline.spec.data.url,
            "max_bytes": self._settings.max_data_bytes,
            "known_sha256": known_sha256,
            "known_etag": "" if template_in(known_etag, "it") else known_etag,  # earlier steps recorded such ETags
            **_credentials(pipeline.spec.data),
            "experiment": pipeline.spec.training.experiment,
            "mlflow_tracking_uri": self._settings.mlflow_url_in_steps,
            "s3_endpoint_url": self._settings.s3_endpoint_url,
            "owner": {"namespace": pipeline.namespace, "name": pipeline.name, "uid": pipeline.uid, "check": check_id},
        }
        specification = self._check.specification(self._settings)
        return self._request(name, description, experiment_id, specification, parameters)

    def prediction(self, prediction: WinePrediction, name: str, experiment_id: str) -> dict[str, Any]:
        """Build the request that submits the run of a prediction, whose model is chosen already."""
        specification = self._prediction.specification(self._settings, {PREDICT: prediction.spec.resources})
        description = f"WinePrediction {prediction.namespace}/{prediction.name}"
        return self._request(name, description, experiment_id, specification, self.prediction_parameters(prediction))

    def prediction_parameters(self, prediction: WinePrediction) -> dict[str, Any]:
        """Build the parameters of a prediction's run from the spec and the chosen model."""
        spec, model = prediction.spec, prediction.status.model
        assert model is not None, "the model is chosen before the run is submitted"
        return {
            "input_url": spec.input.url,
            "input_sha256": spec.input.sha256,
            "input_format": spec.input.format or "",
            "separator": spec.input.separator,
            "decimal": spec.input.decimal,
            "columns": spec.input.selection,
            "max_bytes": self._settings.max_data_bytes,
            "output": prediction.output,
            "mlflow_run": model.mlflow_run,
            "model_version": model.version,
            "pipeline_uid": prediction.status.pipeline_uid,
            "model_digest": model.digest,
            "allow_unsigned": self._settings.serves_unsigned,
            "overwrite": spec.overwrite,
            "escape_formulas": spec.escape_formulas,
            **_credentials(spec.input),
            "experiment": EXPERIMENT,
            "mlflow_tracking_uri": self._settings.mlflow_url_in_steps,
            "s3_endpoint_url": self._settings.s3_endpoint_url,
            "owner": {"namespace": prediction.namespace, "name": prediction.name, "uid": prediction.uid},
        }

    def settings_hash(self) -> str:
        """Hash the administrator's settings of a run: compiled pipelines, image, addresses and service account."""
        settings = self._settings
        compiled = [item.specification(settings) for item in self._all]
        values = [settings.mlflow_url_in_steps, settings.s3_endpoint_url, settings.kfp_service_account, settings.max_data_bytes]
        return hashlib.sha256(json.dumps([compiled, values], sort_keys=True).encode()).hexdigest()[:16]

    def _request(
        self, name: str, description: str, experiment_id: str, specification: dict[str, Any], parameters: dict[str, Any]
    ) -> dict[str, Any]:
        request: dict[str, Any] = {
            "display_name": name,
            "description": description,
            "experiment_id": experiment_id,
            "pipeline_spec": specification,
            "runtime_config": {"parameters": parameters},
        }
        if self._settings.kfp_service_account:
            request["service_account"] = self._settings.kfp_service_account
        return request


def check_templates(request: dict[str, Any]) -> None:
    """Raise Refused if Argo Workflows would evaluate a parameter of the request as a template."""
    if found := template_in(request["runtime_config"]["parameters"]):
        message = f"the run's parameter {found} has {{{{ or }}}}, which Argo Workflows would evaluate as a template: remove them"
        raise Refused(Reason.TEMPLATE_REJECTED, message)


def served_run(pipeline: WinePipeline) -> str:
    """Name the MLflow run of the served model if a step can load it: models of other runtimes need other packages."""
    served = pipeline.status.served
    return served.model.mlflow_run if served is not None and served.model.runtime is Runtime.BUNDLED else ""


def served_digest(pipeline: WinePipeline) -> str:
    """Return the digest of the served model's files, which a step verifies before it loads them."""
    return pipeline.status.served.model.digest if pipeline.status.served is not None else ""


def _credentials(data: Data | Input) -> dict[str, Any]:
    """Name the Secret that the step reads, if there is one; without it the compiled pipeline's default applies."""
    if not data.credentials_secret:
        return {}
    return {"data_secret": data.credentials_secret, "credentials_over_http": data.credentials_over_http}
