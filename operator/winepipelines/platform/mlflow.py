"""MLflow: the records of a run's steps, and the aliases of the model registry.

The API of Kubeflow Pipelines has neither outputs nor reasons, so the steps (`pipeline/winesteps`) tag their MLflow runs with the
resource's uid and revision. `records` validates these tags. The client is blocking, so every call runs on a thread. Its stores
are used instead of `MlflowClient`, which reads credentials from the environment of the process.
"""

import contextlib
import os
import re
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any, TypeVar
from urllib.parse import urlsplit

# Variables of the client. Without its retries, an unreachable server is reported within seconds; the operator retries itself.
# Without redirects, credentials go to the configured address only.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
os.environ["MLFLOW_ALLOW_HTTP_REDIRECTS"] = "false"

from mlflow.entities import LifecycleStage, ViewType
from mlflow.entities.model_registry import ModelVersionTag
from mlflow.exceptions import MlflowException
from mlflow.store.model_registry.rest_store import RestStore as RegistryStore
from mlflow.store.tracking.rest_store import RestStore as TrackingStore
from mlflow.utils.rest_utils import MlflowHostCreds, http_request
from mlflow.utils.search_utils import SearchUtils

from winecontract.reasons import Reason
from winecontract.tags import Tag
from winecontract.text import clean
from winepipelines.api.errors import PlatformError, Refused, TooLarge, Unavailable
from winepipelines.api.naming import CHALLENGER, CHAMPION
from winepipelines.api.observed import DataCheckResult, ModelVersion, TrainingRecords
from winepipelines.api.prediction import EXPERIMENT, WinePrediction
from winepipelines.api.scoring import PredictionRecords
from winepipelines.engine.threads import Threads
from winepipelines.platform import boundedpools, predicted, records, signed
from winepipelines.platform.answering import UNTRUSTED, Cause, cause_of, unanswered, who_answers
from winepipelines.platform.records import Example
from winepipelines.platform.signed import MOST_RUNS, Expected
from winepipelines.settings import Settings

boundedpools.bound_all()
T = TypeVar("T")
TEXT_LIMIT = 1 << 16  # characters

USERNAME, PASSWORD, TOKEN = CREDENTIAL_KEYS = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
ABSENT = (
    "RESOURCE_DOES_NOT_EXIST",
    "INVALID_PARAMETER_VALUE",
)  # error codes for a missing alias or run, which depend on the server's version
RUNS_READ = 20  # at a time
MESSAGE_LIMIT = 500
BODY_LOST = " error responses"  # in "too many 503 error responses", for which the client drops the answer's body

Credentials = Callable[[], Awaitable[Mapping[str, str]]]


async def no_credentials() -> Mapping[str, str]:
    """Return no credentials."""
    return {}


class MLflow:
    """An MLflow tracking server, version 2.22 or 3."""

    def __init__(self, settings: Settings, credentials: Credentials = no_credentials) -> None:
        """Nothing connects yet. `credentials` reads the administrator's Secret; an empty mapping sends no credentials."""
        self._settings = settings
        self._url = settings.mlflow_url
        self._read_credentials = credentials
        self._credentials: MlflowHostCreds | None = None
        self._threads = Threads("MLflow")
        self._tracking = TrackingStore(self._host)
        self._registry = RegistryStore(self._host)

    def forget_credentials(self) -> None:
        """Read the Secret again before the next request."""
        self._credentials = None

    async def records(self, experiment: str, expected: Expected, known: Collection[str] = ()) -> TrainingRecords:
        """Read what a revision's Kubeflow run recorded: a signed model, and a failure.

        A clone of a run has the same parameters, so also the same uid and revision, but another Kubeflow run id. Records of other
        Kubeflow runs for this revision are only named. `known` are the MLflow runs whose models may be reused.
        """
        whose: Mapping[Tag, str] = {Tag.UID: expected.uid, Tag.REVISION: str(expected.revision)}
        experiment_id = await self._experiment(experiment)
        runs = await self._tagged(experiment_id, {**whose, Tag.KFP_RUN: expected.kfp_run})
        foreign = records.foreign(await self._tagged(experiment_id, whose, RUNS_READ), expected.kfp_run)
        judged = signed.judge(runs, expected, takes_unsigned=self._settings.serves_unsigned)
        reports = [run for run in runs if not records.has_model(run)]
        for models in (judged.signed, judged.unsigned):
            original = await self._run(reused) if (reused := records.reused_run(models)) else None
            found = records.read((*models, *reports), original, known, foreign)
            if found.model is not None and models is judged.unsigned:
                found = replace(found, model=found.model.with_(digest="", example_digest=""))
            if found.model is not None or found.refused:
                break
        if found.model is not None:
            return replace(found, foreign=foreign or judged.message)
        return replace(found, refused=found.refused or judged.message, refused_reason="" if found.refused else judged.reason)

    async def check_record(self, experiment: str, uid: str, check_id: str, kfp_run: str) -> DataCheckResult | None:
        """Read the result of a data check's Kubeflow run; None if it has recorded no result yet."""
        runs = await self._tagged(await self._experiment(experiment), {Tag.UID: uid, Tag.CHECK: check_id, Tag.KFP_RUN: kfp_run})
        return records.read_check(runs)

    async def prediction(self, prediction: WinePrediction, kfp_run: str) -> PredictionRecords:
        """Read what the step of a prediction's Kubeflow run recorded: its outcome and its newest failure."""
        runs = await self._tagged(await self._experiment(EXPERIMENT), {Tag.UID: prediction.uid, Tag.KFP_RUN: kfp_run})
        return predicted.read(runs, prediction)

    async def _experiment(self, name: str) -> str | None:
        """Find the id of an experiment; None if it does not exist."""
        found = await self._call(self._tracking.get_experiment_by_name, name)
        if found is None:
            return None
        if found.lifecycle_stage == LifecycleStage.DELETED:  # its runs are hidden, too
            restore = f"mlflow experiments restore --experiment-id {found.experiment_id}"
            raise Refused(Reason.EXPERIMENT_DELETED, f"the MLflow experiment {name!r} is deleted; restore it: {restore}")
        return str(found.experiment_id)

    async def _tagged(self, experiment_id: str | None, tags: Mapping[Tag, str], most: int = MOST_RUNS) -> Sequence[Any]:
        """Find an experiment's runs with these tags, whose values must have no quotes.

        Raises Refused if there are more than `MOST_RUNS`: any client may create runs with these tags and any start time.
        """
        query = " AND ".join(f"tags.`{tag}` = '{value}'" for tag, value in tags.items())
        runs, more = list[Any](), experiment_id is not None
        for offset in range(0, most, RUNS_READ):
            if not more:
                break
            page, more = await self._page(str(experiment_id), query, offset)
            runs += page
        if more and most == MOST_RUNS:
            message = (
                f"more than {MOST_RUNS} MLflow runs in experiment {experiment_id} have the tags {query}, and a step writes one. "
                "Find out who has created the others, and delete them"
            )
            raise Refused(Reason.MLFLOW_REQUEST_REJECTED, message)
        return runs

    async def _page(self, experiment_id: str, query: str, offset: int) -> tuple[Sequence[Any], bool]:
        """Read one page of runs without those that are too large, since users may write long tags; return whether more follow."""

        async def search(number: int, first: int) -> Any:
            return await self._call(
                self._tracking.search_runs,
                [experiment_id],
                query,
                ViewType.ACTIVE_ONLY,
                max_results=number,
                order_by=["attributes.start_time DESC"],
                page_token=SearchUtils.create_page_token(first) if first else None,
            )

        with contextlib.suppress(TooLarge):
            page = await search(RUNS_READ, offset)
            return page, bool(page.token)
        found: list[Any] = []
        for first in range(offset, offset + RUNS_READ):
            with contextlib.suppress(TooLarge):
                one = await search(1, first)
                if not one:
                    return found, False
                found += one
        return found, True

    async def _run(self, run_id: str) -> Any:
        """Read a run; None if it does not exist."""
        try:
            return await self._call(self._tracking.get_run, run_id, forgiven=ABSENT)
        except _Forgiven:
            return None

    async def example(self, mlflow_run: str, digest: str = "") -> Example:
        """Read a model's input example; `digest` is that of the signed example, empty if the model is unsigned.

        Raises Refused if there is no example, the run is deleted, or the example has changed.
        """
        run = await self._run(mlflow_run)
        if run is None:
            raise Refused(
                Reason.INPUT_EXAMPLE_MISSING, f"MLflow run {mlflow_run}, which has the model's input example, no longer exists"
            )
        if digest and records.example_digest(run.data.tags) != digest:
            message = f"the input example in the tags of MLflow run {mlflow_run} was changed after the train step had signed it"
            raise Refused(Reason.MODEL_TAMPERED, message)
        example = records.example(run)
        if example is None:
            raise Refused(Reason.INPUT_EXAMPLE_MISSING, f"MLflow run {mlflow_run} has no usable input example in its tags")
        return example

    async def look(self, path: str, **query: str) -> tuple[int, str]:
        """Request a path of the server; return the status and the beginning of the text.

        Raises Unavailable if it does not answer.
        """
        return await self._call(self._get, path, query)

    def _get(self, path: str, query: dict[str, str]) -> tuple[int, str]:
        response = http_request(self._host(), path, "GET", params=query, raise_on_status=False)
        return int(response.status_code), str(response.text[:TEXT_LIMIT])

    async def aliased(self, registered_model: str, alias: str) -> ModelVersion | None:
        """Find the version with an alias, and its MLflow run; None if no version has the alias."""
        try:
            found = await self._call(self._registry.get_model_version_by_alias, registered_model, alias, forgiven=ABSENT)
        except _Forgiven:
            return None
        return ModelVersion(registered_model, str(found.version), str(found.run_id))

    async def set_alias(self, model: ModelVersion, alias: str) -> None:
        """Set an alias to a version, if its MLflow run created it: the tags of a run may name any version."""
        if not await self._is_there(model):
            message = (
                f"version {model.version} of {model.registered_model!r} in MLflow's registry was not created by MLflow run "
                f"{model.mlflow_run}"
            )
            raise Refused(Reason.MLFLOW_REQUEST_REJECTED, message)
        await self._call(self._registry.set_registered_model_alias, model.registered_model, alias, model.version)

    async def remove_alias(self, model: ModelVersion, alias: str) -> None:
        """Remove an alias, if it points to this version, and the version's MLflow run created it."""
        if await self.aliased(model.registered_model, alias) == model:
            await self._call(self._registry.delete_registered_model_alias, model.registered_model, alias)

    async def leave(self, models: Sequence[ModelVersion], whose: str, *, retired: bool) -> None:
        """Tag versions with the deleted resource that created them; remove their aliases if they are retired.

        A version of another MLflow run belongs to another resource and is skipped.
        """
        for model in models:
            if await self._is_there(model):
                tag = ModelVersionTag(Tag.LEFT_BY, whose)
                await self._call(self._registry.set_model_version_tag, model.registered_model, model.version, tag)
        names = sorted({model.registered_model for model in models}) if retired else []
        for name, alias in product(names, (CHAMPION, CHALLENGER)):
            if (found := await self.aliased(name, alias)) in models and found is not None:
                await self.remove_alias(found, alias)

    async def _is_there(self, model: ModelVersion) -> bool:
        """Whether the registry has a version that its MLflow run created."""
        try:
            found = await self._call(self._registry.get_model_version, model.registered_model, model.version, forgiven=ABSENT)
        except _Forgiven:
            return False
        return bool(found.run_id == model.mlflow_run)

    def _host(self) -> MlflowHostCreds:
        assert self._credentials is not None, "_call has read them"
        return self._credentials

    async def _call(self, function: Callable[..., T], *arguments: object, forgiven: tuple[str, ...] = (), **options: object) -> T:
        if self._credentials is None:
            values = await self._read_credentials()
            self._credentials = MlflowHostCreds(
                self._url,
                username=values.get(USERNAME),
                password=values.get(PASSWORD),
                token=values.get(TOKEN),
                server_cert_path=self._settings.mlflow_ca_file or None,
            )
        try:
            return await self._threads.run(function, *arguments, **options)
        except MlflowException as error:
            if error.error_code in forgiven:
                raise _Forgiven from None
            text = str(error.message)
            raise self._problem(error, text + await self._body(text)) from None
        except (PlatformError, OSError):
            raise
        except Exception as error:  # the client fails in many ways on an unexpected answer
            message = f"the answer of MLflow at {self._url} cannot be read ({type(error).__name__}); check WINE_MLFLOW_URL"
            raise Refused(Reason.MLFLOW_REQUEST_REJECTED, message) from None

    async def _body(self, text: str) -> str:
        """Request an answer's text again, if the client has kept only the status of an error."""
        if BODY_LOST not in text:
            return ""
        try:
            status, body = await self._threads.run(self._get, "/version", {})
        except MlflowException:
            return ""
        return f" {body}" if status >= 500 else ""

    def _problem(self, error: MlflowException, text: str) -> PlatformError:
        """Make the error for a failed request: what is wrong, and who can correct it."""
        status = _status(error, text)
        where = f"MLflow at {self._url}"
        if status is None:
            return self._no_answer(text)
        if "Invalid Host header" in text:
            host = urlsplit(self._url).netloc
            message = f"{where} does not answer to the name {host}: add it to MLFLOW_SERVER_ALLOWED_HOSTS of the tracking server"
            return Refused(Reason.MLFLOW_HOST_REJECTED, message, status=status)
        if status in (401, 403):
            self.forget_credentials()
        if not 300 <= status < 400 and status != 404 and (other := who_answers(status, text, "")):
            message = f"{where} answered {status}: {other}"
            if status >= 500:
                return Unavailable(Reason.MLFLOW_UNAVAILABLE, message, status=status)
            return Refused(Reason.MLFLOW_REQUEST_REJECTED, message, status=status)
        if status in (401, 403):
            message = f"{where} answered {status}: {self._unauthorized(status)}"
            return Refused(Reason.MLFLOW_UNAUTHORIZED, message, status=status)
        if 300 <= status < 400:
            message = f"{where} answered {status}, a redirect, which is not followed: WINE_MLFLOW_URL must be its target"
            return Refused(Reason.MLFLOW_REQUEST_REJECTED, message, status=status)
        if status == 404 and error.error_code == "ENDPOINT_NOT_FOUND":
            message = f"{where} answered 404: there is no MLflow API; WINE_MLFLOW_URL must contain the server's path"
            return Refused(Reason.MLFLOW_REQUEST_REJECTED, message, status=status)
        if status == 429 or status >= 500:  # the rest of the answer may change between attempts
            return Unavailable(Reason.MLFLOW_UNAVAILABLE, f"{where} answered {status}", status=status)
        message = f"{where} answered {status}: {clean(text, MESSAGE_LIMIT)}"
        return Refused(Reason.MLFLOW_REQUEST_REJECTED, message, status=status)

    def _no_answer(self, text: str) -> PlatformError:
        """Make the error for a request without an answer of MLflow."""
        where = f"MLflow at {self._url}"
        if "valid JSON" in text:
            message = f"another server answers instead of {where}, perhaps a login page: check WINE_MLFLOW_URL"
            return Refused(Reason.MLFLOW_REQUEST_REJECTED, message)
        cause = cause_of(text)
        if cause in UNTRUSTED:
            variable = Settings.named("WINE_MLFLOW_CA_FILE")
            message = f"{where} has an untrusted certificate: {cause.text}; {variable} names the file with that of its authority"
            return Refused(Reason.MLFLOW_UNTRUSTED, message, diagnosed=True)
        kind = TooLarge if cause is Cause.TOO_LARGE else Unavailable
        return unanswered(kind, Reason.MLFLOW_UNAVAILABLE, f"{where} does not answer", text)

    def _unauthorized(self, status: int) -> str:
        secret = self._settings.mlflow_secret
        if not secret:
            return "it requires credentials. Ask the administrator to put them into a Secret and name it in WINE_MLFLOW_SECRET"
        named = f"the Secret {secret} in namespace {self._settings.platform_namespace}"
        if status == 401:
            return f"it does not know the credentials in {named}. Ask the administrator to correct them"
        return f"the user of the credentials in {named} lacks a permission. Ask the administrator to grant it"


class _Forgiven(Exception):
    """The answer is an error that the caller expects."""


def _status(error: MlflowException, text: str) -> int | None:
    """Return the HTTP status of MLflow's answer; None without an answer. The client has it in its text only."""
    if (named := re.search(r"(?:failed with error code|too many) (\d{3})\b", text)) is not None:
        return int(named[1])
    if text.startswith("API request to"):
        return None
    return int(error.get_http_status_code())
