"""MLflow: what the steps of a run recorded, and the alias of what serves. Called by `observe` and `act`.

Kubeflow's API carries neither outputs nor reasons, so the steps tag their MLflow runs with the resource's uid and revision
(`pipeline/winesteps`). What these tags say is not believed as it stands, see `records`. The client is blocking: every call goes
to a thread. Its stores are used rather than `MlflowClient`, which takes credentials from the environment of the whole process.
"""

import contextlib
import os
import re
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any, TypeVar
from urllib.parse import urlsplit

# Read by the client: an unreachable server is seen in seconds, and tried again by the operator itself; credentials go to the
# address that the administrator named and nowhere else.
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

from winecontract.text import clean
from winepipelines.engine.threads import Threads
from winepipelines.platform import boundedpools, predicted, records, signed
from winepipelines.platform.answering import who_answers, why_no_answer, with_why
from winepipelines.platform.records import Example
from winepipelines.platform.signed import MOST_RUNS, Expected
from winepipelines.resource.errors import PlatformError, Refused, TooLarge, Unavailable
from winepipelines.resource.naming import CHALLENGER, CHAMPION
from winepipelines.resource.observed import DataCheck, ModelVersion, TrainingRecords
from winepipelines.resource.outcome import PredictionRecords
from winepipelines.resource.pipeline import GROUP
from winepipelines.resource.prediction import EXPERIMENT, WinePrediction
from winepipelines.settings import Settings
from winepipelines.validation import named

boundedpools.bound_all()
T = TypeVar("T")
LOOK_LIMIT = 1 << 16  # characters

USERNAME, PASSWORD, TOKEN = CREDENTIAL_KEYS = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
ABSENT = (
    "RESOURCE_DOES_NOT_EXIST",
    "INVALID_PARAMETER_VALUE",
)  # of an alias or a run: the server's word for it depends on its version
RUNS_READ = 20  # at a time
MESSAGE_LIMIT = 500
BODY_LOST = " error responses"  # of "too many 503 error responses", all that the client's retries leave of an answer

Credentials = Callable[[], Awaitable[Mapping[str, str]]]


async def no_credentials() -> Mapping[str, str]:
    """Ask without any."""
    return {}


class MLflow:
    """An MLflow tracking server, version 2.22 or 3."""

    def __init__(self, settings: Settings, credentials: Credentials = no_credentials) -> None:
        """Nothing is asked yet. `credentials` reads the administrator's Secret, or gives an empty mapping."""
        self._settings = settings
        self._url = settings.mlflow_url
        self._read_credentials = credentials
        self._credentials: MlflowHostCreds | None = None
        self._threads = Threads("MLflow")
        self._tracking = TrackingStore(self._host)
        self._registry = RegistryStore(self._host)

    def forget_credentials(self) -> None:
        """Read them anew before the next request: the Secret has changed."""
        self._credentials = None

    async def records(self, experiment: str, expected: Expected, known: Collection[str] = ()) -> TrainingRecords:
        """Find what a revision's Kubeflow run recorded: a model with its signature, and a failure.

        The resource's uid and the revision are parameters of the run, which a clone of it copies; the id of the Kubeflow run
        is its own. What other Kubeflow runs recorded for this revision is only named. `known` are the MLflow runs whose models
        may be reused.
        """
        whose = {"uid": expected.uid, "revision": str(expected.revision)}
        experiment_id = await self._experiment(experiment)
        runs = await self._tagged(experiment_id, whose | {"kfp-run": expected.kfp_run})
        foreign = records.foreign(await self._tagged(experiment_id, whose, RUNS_READ), expected.kfp_run)
        judged = signed.judge(runs, expected, takes_unsigned=self._settings.serves_unsigned)
        reports = [run for run in runs if not records.has_model(run)]
        for models in (judged.signed, judged.unsigned):
            original = await self._run(reused) if (reused := records.reused_run(models)) else None
            found = records.read((*models, *reports), original, known, foreign)
            if found.model is not None and models is judged.unsigned:
                found = replace(found, model=replace(found.model, digest="", example_digest=""))
            if found.model is not None or found.refused:
                break
        if found.model is not None:
            return replace(found, foreign=foreign or judged.message)
        return replace(found, refused=found.refused or judged.message, refused_reason="" if found.refused else judged.reason)

    async def check_record(self, experiment: str, uid: str, check_id: str, kfp_run: str) -> DataCheck | None:
        """Find what the Kubeflow run of a data check found; None where it has recorded no result yet."""
        runs = await self._tagged(await self._experiment(experiment), {"uid": uid, "check": check_id, "kfp-run": kfp_run})
        return records.read_check(runs)

    async def prediction(self, prediction: WinePrediction, kfp_run: str) -> PredictionRecords:
        """Find what the step of a prediction's Kubeflow run recorded: its outcome and its newest failure."""
        runs = await self._tagged(await self._experiment(EXPERIMENT), {"uid": prediction.uid, "kfp-run": kfp_run})
        return predicted.read(runs, prediction)

    async def _experiment(self, name: str) -> str | None:
        """Find the id of an experiment; None where there is none."""
        found = await self._call(self._tracking.get_experiment_by_name, name)
        if found is None:
            return None
        if found.lifecycle_stage == LifecycleStage.DELETED:  # its runs are hidden with it
            restore = f"mlflow experiments restore --experiment-id {found.experiment_id}"
            raise Refused("ExperimentDeleted", f"the MLflow experiment {name!r} is deleted; restore it: {restore}")
        return str(found.experiment_id)

    async def _tagged(self, experiment_id: str | None, tags: Mapping[str, str], most: int = MOST_RUNS) -> Sequence[Any]:
        """Find an experiment's runs that have these tags, whose values may hold no quote.

        Raises Refused where there are more than `MOST_RUNS`: any client may write runs with these tags, and say any time of them.
        """
        asked = " AND ".join(f"tags.`{GROUP}/{tag}` = '{value}'" for tag, value in tags.items())
        runs, more = list[Any](), experiment_id is not None
        for offset in range(0, most, RUNS_READ):
            if not more:
                break
            page, more = await self._page(str(experiment_id), asked, offset)
            runs += page
        if more and most == MOST_RUNS:
            message = (
                f"more than {MOST_RUNS} MLflow runs in experiment {experiment_id} have the tags {asked}, and a step writes one: "
                "find out who has written the others, and delete them"
            )
            raise Refused("MlflowRefused", message)
        return runs

    async def _page(self, experiment_id: str, query: str, offset: int) -> tuple[Sequence[Any], bool]:
        """Read some runs, but for those that are too large: anybody may tag a run, with any text. Tell whether there are more."""

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
        """Read a run; None where it is not there."""
        try:
            return await self._call(self._tracking.get_run, run_id, forgiven=ABSENT)
        except _Forgiven:
            return None

    async def example(self, mlflow_run: str, digest: str = "") -> Example:
        """Read a model's own example; `digest` is that of the example that was signed, where one was.

        Raises Refused where the training step left none, the run has been removed, or the example is another one by now.
        """
        run = await self._run(mlflow_run)
        if run is None:
            raise Refused("ExampleMissing", f"MLflow run {mlflow_run}, which has the model's input example, no longer exists")
        if digest and records.example_digest(run.data.tags) != digest:
            message = f"the input example in the tags of MLflow run {mlflow_run} was changed after the train step had signed it"
            raise Refused("ModelTampered", message)
        example = records.example(run)
        if example is None:
            raise Refused("ExampleMissing", f"MLflow run {mlflow_run} has no usable input example in its tags")
        return example

    async def look(self, path: str, **query: str) -> tuple[int, str]:
        """Read a path of the server as it answers: status and the text's beginning.

        Raises Unavailable where it does not answer.
        """
        return await self._call(self._get, path, query)

    def _get(self, path: str, query: dict[str, str]) -> tuple[int, str]:
        response = http_request(self._host(), path, "GET", params=query, raise_on_status=False)
        return int(response.status_code), str(response.text[:LOOK_LIMIT])

    async def aliased(self, registered_model: str, alias: str) -> ModelVersion | None:
        """Look up the version that has an alias, and the MLflow run that it is of; None where none has."""
        try:
            found = await self._call(self._registry.get_model_version_by_alias, registered_model, alias, forgiven=ABSENT)
        except _Forgiven:
            return None
        return ModelVersion(registered_model, str(found.version), str(found.run_id))

    async def set_alias(self, model: ModelVersion, alias: str) -> None:
        """Give a version an alias, if it is that of its MLflow run: what a run's tags say may be anything."""
        if not await self._is_there(model):
            message = (
                f"version {model.version} of {model.registered_model!r} in MLflow's registry is not of MLflow run "
                f"{model.mlflow_run}"
            )
            raise Refused("MlflowRefused", message)
        await self._call(self._registry.set_registered_model_alias, model.registered_model, alias, model.version)

    async def remove_alias(self, model: ModelVersion, alias: str) -> None:
        """Take an alias away, if it is this version's, and the version is of its MLflow run."""
        if await self.aliased(model.registered_model, alias) == model:
            await self._call(self._registry.delete_registered_model_alias, model.registered_model, alias)

    async def leave(self, models: Sequence[ModelVersion], whose: str, *, retired: bool) -> None:
        """Tag versions as left by a resource that is gone; take their aliases where they are retired.

        One that is of another MLflow run by now is another resource's.
        """
        for model in models:
            if await self._is_there(model):
                tag = ModelVersionTag(f"{GROUP}/left-by", whose)
                await self._call(self._registry.set_model_version_tag, model.registered_model, model.version, tag)
        names = sorted({model.registered_model for model in models}) if retired else []
        for name, alias in product(names, (CHAMPION, CHALLENGER)):
            if (found := await self.aliased(name, alias)) in models and found is not None:
                await self.remove_alias(found, alias)

    async def _is_there(self, model: ModelVersion) -> bool:
        """Tell whether the registry has a version, of its MLflow run."""
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
        except Exception as error:  # whatever the client stumbles over in an answer
            message = f"what MLflow at {self._url} answers cannot be read ({type(error).__name__}); check WINE_MLFLOW_URL"
            raise Refused("MlflowRefused", message) from None

    async def _body(self, text: str) -> str:
        """Read what answers, where the client has kept nothing of an error but its status."""
        if BODY_LOST not in text:
            return ""
        try:
            status, body = await self._threads.run(self._get, "/version", {})
        except MlflowException:
            return ""
        return f" {body}" if status >= 500 else ""

    def _problem(self, error: MlflowException, text: str) -> PlatformError:
        """Say what is wrong, and who can mend it."""
        status = _status(error, text)
        where = f"MLflow at {self._url}"
        if status is None:
            return self._no_answer(text)
        if "Invalid Host header" in text:
            host = urlsplit(self._url).netloc
            message = f"{where} does not answer to the name {host}: add it to MLFLOW_SERVER_ALLOWED_HOSTS of the tracking server"
            return Refused("MlflowHostRefused", message)
        if status in (401, 403):
            self.forget_credentials()
        if not 300 <= status < 400 and status != 404 and (other := who_answers(status, text, "")):
            message = f"{where} answered {status}: {other}"
            return Unavailable("MlflowUnavailable", message) if status >= 500 else Refused("MlflowRefused", message)
        if status in (401, 403):
            return Refused("MlflowUnauthorized", f"{where} answered {status}: {self._unauthorized(status)}")
        if 300 <= status < 400:
            message = (
                f"{where} answered {status}, a redirection, which is not followed: WINE_MLFLOW_URL must be the address behind it"
            )
            return Refused("MlflowRefused", message)
        if status == 404 and error.error_code == "ENDPOINT_NOT_FOUND":
            message = f"{where} answered 404: there is no MLflow API; WINE_MLFLOW_URL must have the path that the server is under"
            return Refused("MlflowRefused", message)
        if status == 429 or status >= 500:  # what else it says may differ from try to try
            return Unavailable("MlflowUnavailable", f"{where} answered {status}")
        return Refused("MlflowRefused", f"{where} answered {status}: {clean(text, MESSAGE_LIMIT)}")

    def _no_answer(self, text: str) -> PlatformError:
        """Explain a request without an answer of MLflow's; its text names sockets, which differ from try to try."""
        where = f"MLflow at {self._url}"
        if "valid JSON" in text:
            message = f"something else answers in the place of {where}, perhaps a login page: check WINE_MLFLOW_URL"
            return Refused("MlflowRefused", message)
        if "CERTIFICATE_VERIFY_FAILED" in text:
            why = why_no_answer(text)
            message = (
                f"{where} shows a certificate that is not trusted: {why}; {named('WINE_MLFLOW_CA_FILE')} names its authority's"
            )
            return Refused("MlflowUntrusted", message)
        kind = TooLarge if "AnswerTooLarge" in text else Unavailable
        return kind("MlflowUnavailable", with_why(f"{where} does not answer", text))

    def _unauthorized(self, status: int) -> str:
        secret = self._settings.mlflow_secret
        if not secret:
            return "it asks for credentials; the administrator puts them into a Secret and names it in WINE_MLFLOW_SECRET"
        named = f"the Secret {secret} in namespace {self._settings.platform_namespace}"
        if status == 401:
            return f"it does not know the credentials in {named}; the administrator mends them"
        return f"the credentials in {named} may not do this; the administrator gives their user the right to"


class _Forgiven(Exception):
    """The answer was an error that the caller expects."""


def _status(error: MlflowException, text: str) -> int | None:
    """Tell the answer's status; None where there was no answer, or none of MLflow's."""
    if (named := re.search(r"(?:failed with error code|too many) (\d{3})\b", text)) is not None:
        return int(named[1])
    if text.startswith("API request to"):
        return None
    return int(error.get_http_status_code())
