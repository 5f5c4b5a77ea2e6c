"""Kubeflow Pipelines: runs, by its REST API `v2beta1` through the generated client. Called by `observe`, `act` and `runwatch`.

Nothing there is idempotent: names are not unique, and there is no client request id. So runs are looked for by name; who creates
one must have looked before. The client is blocking: every call goes to a thread.
"""

import asyncio
import contextlib
import hashlib
import json
import logging
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import kfp_server_api
import urllib3
from kfp_server_api.exceptions import ApiException

from winecontract.parsing import UnreadableError, parse_object
from winecontract.text import clean
from winepipelines.engine.threads import Threads
from winepipelines.platform import boundedpools
from winepipelines.platform.answering import causes, who_answers, with_why
from winepipelines.platform.compiled import CompiledPipeline, template_in
from winepipelines.resource.errors import NotSent, PlatformError, Refused, TooLarge, Unavailable
from winepipelines.resource.observed import RunState, RunView
from winepipelines.resource.pipeline import WinePipeline
from winepipelines.resource.prediction import EXPERIMENT, Input, WinePrediction
from winepipelines.resource.spec import Data, Runtime
from winepipelines.resource.status import known_models
from winepipelines.settings import Settings
from winepipelines.validation import named

T = TypeVar("T")
boundedpools.bound_all()
logger = logging.getLogger(__name__)

SYSTEM = "Kubeflow Pipelines"
TRAINING, TRAIN = "wine-training", "train"
DATA_CHECK, PREDICTION, PREDICT = "wine-data-check", "wine-prediction", "predict"
NOT_BEGUN = "RUNTIME_STATE_UNSPECIFIED"  # filtered by, and shown as no state at all: Argo has not taken the Workflow up yet
ACTIVE = ["PENDING", "RUNNING", "CANCELING", "PAUSED", NOT_BEGUN]
HEALTH_FIELDS = {"multi_user", "tag_name", "commit_sha", "pipeline_store"}
MODE_SECONDS = 60.0  # that an answer about the mode is taken for true, unless a refusal says otherwise
WORKLOAD = "-l app=ml-pipeline"  # by which its pods are found
MESSAGE_LIMIT = 500
VERSION_LIMIT = 64
PAGE_SIZE = 30  # specs come along with every run
RUNS_LIMIT = 5000  # of one list
RUN_BYTES = 8 << 20  # of one run: the server takes 4 MiB
LOGIN = "WINE_KFP_URL must be the API itself (service ml-pipeline), not a gateway with a login"
HINTS = {
    401: "it does not take the operator's token, which must be a projected service-account token with the audience "
    "pipelines.kubeflow.org; WINE_KFP_TOKEN_FILE names its file",
}


class Kubeflow:
    """A Kubeflow Pipelines API server, in single-user or multi-user mode."""

    def __init__(self, settings: Settings) -> None:
        """Read the compiled pipelines; nothing is asked yet."""
        self._settings = settings
        self._training = CompiledPipeline(settings.templates, TRAINING)
        self._check = CompiledPipeline(settings.templates, DATA_CHECK)
        self._prediction = CompiledPipeline(settings.templates, PREDICTION)
        self._steps = frozenset((*self._training.steps, *self._check.steps, *self._prediction.steps))
        configuration = kfp_server_api.Configuration(host=settings.kfp_url)
        # A submission that is sent twice is carried out twice; nor is a redirect followed, which would take the token along.
        configuration.retries = False
        configuration.ssl_ca_cert = settings.kfp_ca_file or None
        if settings.kfp_token_file:
            configuration.api_key_prefix["authorization"] = "Bearer"
            configuration.api_key["authorization"] = ""
            configuration.refresh_api_key_hook = self._read_token  # it rotates
        client = kfp_server_api.ApiClient(configuration)
        self._runs = kfp_server_api.RunServiceApi(client)
        self._experiments = kfp_server_api.ExperimentServiceApi(client)
        self._health = kfp_server_api.HealthzServiceApi(client)
        self._threads = Threads(SYSTEM)
        self._large = asyncio.Semaphore()
        self._multi_user: bool | None = None
        self._mode_asked = time.monotonic()
        self.on_mode_change: Callable[[], None] = lambda: None

    async def runs_named(self, namespace: str, name: str) -> tuple[RunView, ...]:
        """List the runs of a name, oldest first."""
        found = await self._list(namespace, _is_named(name))
        return tuple(run for run in found if run.name == name)  # the server's database may not tell upper from lower case

    async def active_runs(self, namespace: str) -> tuple[RunView, ...]:
        """List the runs of a namespace that have not ended; in single-user mode those of all namespaces."""
        predicate = {"operation": "IN", "key": "state", "string_values": {"values": ACTIVE}}
        return tuple(await self._list(namespace, predicate))

    async def lists_are_shared(self) -> bool:
        """Whether one list has the runs of all namespaces, as in single-user mode."""
        return not await self._is_multi_user()

    async def create(self, pipeline: WinePipeline, name: str, revision: int) -> None:
        """Submit the run of a revision."""
        experiment = await self._experiment(pipeline.namespace, pipeline.spec.training.experiment)
        await self._submit(self.request(pipeline, name, revision, experiment))

    def request(self, pipeline: WinePipeline, name: str, revision: int, experiment_id: str) -> dict[str, Any]:
        """Build the request that submits the run of a revision."""
        description = f"WinePipeline {pipeline.namespace}/{pipeline.name}, revision {revision}"
        return self._request(name, description, experiment_id, self.pipeline_spec(pipeline), self.parameters(pipeline, revision))

    def _request(
        self, name: str, description: str, experiment_id: str, specification: dict[str, Any], parameters: dict[str, Any]
    ) -> dict[str, Any]:
        """Build the request that submits a run, whatever it is for."""
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

    async def create_check(
        self, pipeline: WinePipeline, name: str, check_id: str, known_sha256: str = "", known_etag: str = ""
    ) -> None:
        """Submit a check of the data, under a name that was looked for before."""
        experiment = await self._experiment(pipeline.namespace, pipeline.spec.training.experiment)
        await self._submit(self.check_request(pipeline, name, check_id, known_sha256, known_etag, experiment))

    def check_request(
        self, pipeline: WinePipeline, name: str, check_id: str, known_sha256: str, known_etag: str, experiment_id: str
    ) -> dict[str, Any]:
        """Build the request that submits a check of the data: whether its bytes still are those that are known."""
        description = f"WinePipeline {pipeline.namespace}/{pipeline.name}, check {check_id} of the data"
        parameters = {
            "data_url": pipeline.spec.data.url,
            "max_bytes": self._settings.max_data_bytes,
            "known_sha256": known_sha256,
            "known_etag": "" if template_in(known_etag, "it") else known_etag,  # of a record of before steps left such tags out
            **_credentials(pipeline.spec.data),
            "experiment": pipeline.spec.training.experiment,
            "mlflow_tracking_uri": self._settings.mlflow_url_in_steps,
            "s3_endpoint_url": self._settings.s3_endpoint_url,
            "owner": {"namespace": pipeline.namespace, "name": pipeline.name, "uid": pipeline.uid, "check": check_id},
        }
        specification = self._check.specification(self._settings)
        return self._request(name, description, experiment_id, specification, parameters)

    async def predict(self, prediction: WinePrediction, name: str) -> None:
        """Submit the run of a prediction."""
        experiment = await self._experiment(prediction.namespace, EXPERIMENT)
        await self._submit(self.prediction_request(prediction, name, experiment))

    def prediction_request(self, prediction: WinePrediction, name: str, experiment_id: str) -> dict[str, Any]:
        """Build the request that submits the run of a prediction, whose model has been chosen."""
        specification = self._prediction.specification(self._settings, {PREDICT: prediction.spec.resources})
        description = f"WinePrediction {prediction.namespace}/{prediction.name}"
        return self._request(name, description, experiment_id, specification, self.prediction_parameters(prediction))

    def prediction_parameters(self, prediction: WinePrediction) -> dict[str, Any]:
        """Build a run's parameters from the spec and the chosen model. No credential is among them."""
        spec, model = prediction.spec, prediction.status.model
        assert model is not None, "it is chosen before the run is submitted"
        return {
            "input_url": spec.input.url,
            "input_sha256": spec.input.sha256,
            "input_format": spec.input.format or "",
            "separator": spec.input.separator,
            "decimal": spec.input.decimal,
            "columns": spec.input.selection,
            "max_bytes": self._settings.max_data_bytes,
            "output": spec.output,
            "mlflow_run": model.mlflow_run,
            "model_version": model.version,
            "pipeline_uid": model.pipeline_uid,
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
        """Hash all that the administrator says of a run: its compiled pipelines, image, addresses and service account."""
        settings = self._settings
        compiled = [item.specification(settings) for item in (self._training, self._check, self._prediction)]
        said = [settings.mlflow_url_in_steps, settings.s3_endpoint_url, settings.kfp_service_account, settings.max_data_bytes]
        return hashlib.sha256(json.dumps([compiled, said], sort_keys=True).encode()).hexdigest()[:16]

    async def _submit(self, request: dict[str, Any]) -> None:
        if found := template_in(request["runtime_config"]["parameters"]):
            why = "which Argo Workflows would take for a template: leave them out"
            raise Refused("TemplateRefused", f"the run's parameter {found} has {{{{ or }}}}, {why}")
        await self._call(self._runs.run_service_create_run, request)

    async def terminate(self, run_id: str) -> None:
        """Ask for a run's end. One that has ended or gone is left at that."""
        await self._call(self._runs.run_service_terminate_run, run_id, forgiven=(400, 404))

    async def delete(self, run_id: str) -> None:
        """Remove a run and its Workflow. One that is gone is left at that."""
        await self._call(self._runs.run_service_delete_run, run_id, forgiven=(404,))

    def parameters(self, pipeline: WinePipeline, revision: int) -> dict[str, Any]:
        """Build a run's parameters from the spec. No credential is among them."""
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
            "server_version": self._server_version(pipeline),
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

    def _server_version(self, pipeline: WinePipeline) -> str:
        """Say which of Seldon's mlflowservers shall read the model; empty: the project's own server."""
        return "" if pipeline.spec.serving.runtime is Runtime.BUNDLED else self._settings.mlflowserver_version

    def pipeline_spec(self, pipeline: WinePipeline) -> dict[str, Any]:
        """Build the inline pipeline: as compiled, with the administrator's image and the resource's wishes for `train`."""
        return self._training.specification(self._settings, {TRAIN: pipeline.spec.training.resources})

    async def health(self) -> tuple[str, bool]:
        """Ask for its version, and whether it is in multi-user mode."""
        # Raw: the generated client knows no version in it.
        response = await self._call(self._health.healthz_service_get_healthz, _preload_content=False)
        try:
            health = parse_object(response.data)
        except UnreadableError:
            raise Refused("KubeflowRefused", f"what answers at {self._settings.kfp_url} is not {SYSTEM}") from None
        multi_user = bool(health.get("multi_user"))
        if health.keys() & HEALTH_FIELDS:  # a server in single-user mode leaves the field out
            self._learn(multi_user)
        return clean(health.get("tag_name") or "of unknown version", VERSION_LIMIT), multi_user

    async def namespace_of_runs(self, namespace: str) -> str:
        """Say in which namespace the runs of a namespace's resources are: in single-user mode all are in the platform's own.

        Raises PlatformError where the mode is not known.
        """
        return namespace if await self._is_multi_user() else self._settings.platform_namespace

    async def knock(self, namespace: str) -> None:
        """Make the smallest request that is authorized.

        Raises Refused with what it says against it.
        """

        async def knock(multi_user: bool) -> None:
            query: dict[str, Any] = {"page_size": 1} | ({"namespace": namespace} if multi_user else {})
            await self._call(self._experiments.experiment_service_list_experiments, **query)

        await self._in_mode(knock)

    async def _in_mode(self, call: Callable[[bool], Awaitable[T]]) -> T:
        """Make a call that differs by the server's mode; again where a refusal shows that the mode has changed."""
        known = await self._is_multi_user()
        try:
            return await call(known)
        except Refused:
            with contextlib.suppress(PlatformError):
                await self._ask_mode()
            if self._multi_user == known:
                raise
            return await call(not known)

    async def _list(self, namespace: str, predicate: dict[str, Any]) -> list[RunView]:
        return await self._in_mode(lambda multi_user: self._pages(namespace if multi_user else "", predicate))

    async def _pages(self, namespace: str, predicate: dict[str, Any]) -> list[RunView]:
        """List runs page by page; an empty namespace is left out."""
        query: dict[str, Any] = {"filter": _filter(predicate), "sort_by": "created_at asc", "page_size": PAGE_SIZE}
        if namespace:
            query["namespace"] = namespace
        views: list[RunView] = []
        while True:
            try:
                page = await self._page(**query)
            except TooLarge:  # users decide how large a run's specification is
                if query["page_size"] == 1:
                    raise
                query["page_size"] = max(1, query["page_size"] // 7)
                continue
            try:
                views += [self._view(run) for run in page.runs or []]
            except (AttributeError, TypeError, ValueError) as error:
                raise self._unreadable(error) from None
            if not page.next_page_token:
                return views
            if len(views) > RUNS_LIMIT:
                raise Refused("TooManyRuns", f"{SYSTEM} lists more than {RUNS_LIMIT} runs that have not ended, or of one name")
            query["page_token"] = page.next_page_token

    async def _page(self, **query: Any) -> Any:
        """List one page. A single run may be larger than other answers; one such is read at a time."""
        if query["page_size"] > 1:
            return await self._call(self._runs.run_service_list_runs, **query)
        async with self._large:
            with boundedpools.allowed(RUN_BYTES):
                return await self._call(self._runs.run_service_list_runs, **query)

    def _view(self, run: Any) -> RunView:
        state = RunState.PENDING if run.state in (None, "", NOT_BEGUN) else run.state
        tasks = (run.run_details.task_details or []) if run.run_details else []
        failed = [task.display_name for task in tasks if task.state == "FAILED" and task.display_name in self._steps]
        ui = self._settings.kfp_ui_url or self._settings.kfp_url
        return RunView(
            id=run.run_id,
            name=run.display_name,
            state=RunState(state) if state in set(RunState) else RunState.UNSPECIFIED,
            created_at=_moment(run.created_at) or datetime.now(UTC),
            finished_at=_moment(run.finished_at),
            url=f"{ui}/#/runs/details/{run.run_id}",
            failed_step=failed[0] if failed else "",
        )

    async def _experiment(self, namespace: str, name: str) -> str:
        """Find the experiment of a name in a namespace, or make it."""
        return await self._in_mode(lambda multi_user: self._find_experiment(namespace, name, multi_user=multi_user))

    async def _find_experiment(self, namespace: str, name: str, *, multi_user: bool) -> str:
        """Find it or make it; someone else may be making it just now."""
        for _ in range(2):
            query: dict[str, Any] = {"filter": _filter(_is_named(name)), "page_size": 1}
            if multi_user:
                query["namespace"] = namespace
            found = await self._call(self._experiments.experiment_service_list_experiments, **query)
            if found.experiments:
                return str(found.experiments[0].experiment_id)
            body = {"display_name": name} | ({"namespace": namespace} if multi_user else {})
            created = await self._call(self._experiments.experiment_service_create_experiment, body, forgiven=(409,))
            if created is not None:
                return str(created.experiment_id)
        raise Unavailable("KubeflowUnavailable", f"{SYSTEM} neither shows nor makes the experiment {name!r}")

    async def _is_multi_user(self) -> bool:
        """Say in which mode the server is, as it was asked not long ago: an administrator may change it at any time."""
        if self._multi_user is None:
            await self._ask_mode()
        elif time.monotonic() - self._mode_asked > MODE_SECONDS:
            with contextlib.suppress(PlatformError):  # what was known is the best guess; the call itself says what is wrong
                await self._ask_mode()
        assert self._multi_user is not None, "it has been asked"
        return self._multi_user

    async def _ask_mode(self) -> None:
        self._mode_asked = time.monotonic()  # before the answer: others do not ask at the same time
        health, _, headers = await self._call(self._health.healthz_service_get_healthz_with_http_info)
        if "json" not in headers.get("Content-Type", ""):  # the client takes a web page for an answer without fields
            message = f"what answers at {self._settings.kfp_url} is not the API of {SYSTEM}; correct WINE_KFP_URL"
            raise Refused("KubeflowRefused", message)
        self._learn(bool(health.multi_user))

    def _learn(self, multi_user: bool) -> None:
        before, self._multi_user = self._multi_user, multi_user
        if before is not None and before != multi_user:
            mode = "multi-user" if multi_user else "single-user"
            logger.warning("Kubeflow Pipelines has changed its mode", extra={"fields": {"mode": mode}})
            self.on_mode_change()

    def _read_token(self, configuration: kfp_server_api.Configuration) -> None:
        try:
            configuration.api_key["authorization"] = Path(self._settings.kfp_token_file).read_text().strip()
        except OSError:
            message = f"the token for {SYSTEM} cannot be read from {self._settings.kfp_token_file}"
            raise NotSent("KubeflowUnavailable", message) from None

    async def _call(self, function: Callable[..., T], *arguments: object, forgiven: tuple[int, ...] = (), **query: object) -> T:
        seconds = self._settings.request_seconds
        try:
            # A pair: the client takes a number that is not an int for no limit at all.
            return await self._threads.run(function, *arguments, _request_timeout=(seconds, seconds), **query)
        except ApiException as error:
            if error.status in forgiven:
                return None  # type: ignore[return-value] # who forgives expects it
            raise self._refusal(error) from None
        except AttributeError as error:
            if isinstance(error.__context__, ApiException):  # the client stumbles over its own report of what TLS refuses
                raise self._refusal(error.__context__) from None
            raise self._unreadable(error) from None
        except urllib3.exceptions.HTTPError as error:
            where = f"{SYSTEM} at {self._settings.kfp_url}"
            said = "; ".join(causes(error))
            if isinstance(error, urllib3.exceptions.NewConnectionError | urllib3.exceptions.ConnectTimeoutError):
                raise NotSent("KubeflowUnavailable", with_why(f"{where} cannot be reached", said)) from None
            kind = TooLarge if isinstance(error, boundedpools.AnswerTooLarge) else Unavailable
            raise kind("KubeflowUnavailable", with_why(f"{where} did not answer", said)) from None
        except (PlatformError, OSError):
            raise
        except Exception as error:  # whatever the client stumbles over in an answer
            raise self._unreadable(error) from None

    def _unreadable(self, error: Exception) -> Refused:
        """Say that the client could not read an answer."""
        message = f"what {SYSTEM} at {self._settings.kfp_url} answers cannot be read ({type(error).__name__}); check WINE_KFP_URL"
        return Refused("KubeflowRefused", message)

    def _refusal(self, error: ApiException) -> PlatformError:
        """Judge an answer that is not a good one."""
        if not error.status:  # no answer at all: what TLS says is in the reason
            message = with_why(f"{SYSTEM} at {self._settings.kfp_url} cannot be reached", str(error.reason))
            if "certificate" in message:
                message += f"; {named('WINE_KFP_CA_FILE')} names the file with its authority's"
            return NotSent("KubeflowUnavailable", message)
        if (other := who_answers(error.status, _text(error), WORKLOAD)) and not 300 <= error.status < 400:
            message = f"{SYSTEM} at {self._settings.kfp_url} answered {error.status}: {other}"
            return Unavailable("KubeflowUnavailable", message) if error.status >= 500 else Refused("KubeflowRefused", message)
        message = f"{SYSTEM} answered {error.status}: {_message(error)}"
        if error.status == 429 or error.status >= 500:
            return Unavailable("KubeflowUnavailable", message)
        if error.status in HINTS:  # what the server says of a token is not repeated
            message = f"{SYSTEM} at {self._settings.kfp_url} answered {error.status}: {HINTS[error.status]}"
        elif error.status < 400:
            message = f"{SYSTEM} at {self._settings.kfp_url} answered {error.status}, a redirect, which is not followed; {LOGIN}"
        return Refused("KubeflowRefused", message)


def _is_named(name: str) -> dict[str, Any]:
    return {"operation": "EQUALS", "key": "display_name", "string_value": name}


def _filter(predicate: dict[str, Any]) -> str:
    """Write a filter. The server unescapes it once more than HTTP does, so it is escaped once more."""
    return quote(json.dumps({"predicates": [predicate]}))


def _message(error: ApiException) -> str:
    try:
        return clean(parse_object(error.body or "")["message"], MESSAGE_LIMIT)
    except (UnreadableError, KeyError):
        return clean(error.reason, MESSAGE_LIMIT)


def _text(error: ApiException) -> str:
    body = error.body or ""
    return body.decode(errors="replace") if isinstance(body, bytes) else str(body)


def _moment(value: datetime | None) -> datetime | None:
    """Read a time; an unset one is written as the year 1970."""
    if value is None or value.year <= 1970:
        return None
    return value.replace(microsecond=0)


def served_run(pipeline: WinePipeline) -> str:
    """Name the MLflow run whose model serves, where a step can load it: those of Seldon's mlflowserver are for its packages."""
    served = pipeline.status.served
    return served.mlflow_run if served is not None and served.runtime is Runtime.BUNDLED else ""


def served_digest(pipeline: WinePipeline) -> str:
    """Digest of the files of the model that serves, which a step compares before it loads them."""
    return pipeline.status.served.digest if pipeline.status.served is not None else ""


def _credentials(data: Data | Input) -> dict[str, Any]:
    """Name the Secret that the step reads, if any; where none is named the compiled pipeline's own default holds."""
    if not data.credentials_secret:
        return {}
    return {"data_secret": data.credentials_secret, "credentials_over_http": data.credentials_over_http}
