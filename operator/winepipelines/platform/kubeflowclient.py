"""Client of the Kubeflow Pipelines API `v2beta1`: one call at a time, its errors, and whether the server is in multi-user mode.

The generated client is blocking, so every call runs on a thread.
"""

import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import kfp_server_api
import urllib3
from kfp_server_api.exceptions import ApiException

from winecontract.parsing import UnreadableError, parse_object
from winecontract.reasons import Reason
from winecontract.text import clean
from winepipelines.api.errors import NotSent, PlatformError, Refused, TooLarge, Unavailable
from winepipelines.engine.threads import Threads
from winepipelines.platform import boundedpools
from winepipelines.platform.answering import Cause, cause_of, causes, unanswered, who_answers
from winepipelines.settings import Settings

T = TypeVar("T")
boundedpools.bound_all()
logger = logging.getLogger(__name__)

SYSTEM = "Kubeflow Pipelines"
HEALTH_FIELDS = {"multi_user", "tag_name", "commit_sha", "pipeline_store"}
MODE_SECONDS = 60.0  # for which the mode is not read again, unless a refusal hints at a change
WORKLOAD = "-l app=ml-pipeline"  # selects its pods
MESSAGE_LIMIT = 500
VERSION_LIMIT = 64
LOGIN = "WINE_KFP_URL must be the API itself (service ml-pipeline), not a gateway with a login"
HINTS = {
    401: "it does not accept the operator's token, which must be a projected service-account token with the audience "
    "pipelines.kubeflow.org; WINE_KFP_TOKEN_FILE names its file",
}
CERTIFICATES = {Cause.OTHER_HOSTNAME, Cause.EXPIRED, Cause.UNKNOWN_AUTHORITY, Cause.CA_FILE_UNREADABLE}


class KubeflowClient:
    """A Kubeflow Pipelines API server, in single-user or multi-user mode."""

    def __init__(self, settings: Settings) -> None:
        """Configure the generated client; nothing connects yet."""
        self._settings = settings
        configuration = kfp_server_api.Configuration(host=settings.kfp_url)
        # No retries: the server carries out a repeated submission again. They include redirects, which would receive the token.
        configuration.retries = False
        configuration.ssl_ca_cert = settings.kfp_ca_file or None
        if settings.kfp_token_file:
            configuration.api_key_prefix["authorization"] = "Bearer"
            configuration.api_key["authorization"] = ""
            configuration.refresh_api_key_hook = self._read_token  # the kubelet rotates it
        client = kfp_server_api.ApiClient(configuration)
        self.runs = kfp_server_api.RunServiceApi(client)
        self.experiments = kfp_server_api.ExperimentServiceApi(client)
        self._health = kfp_server_api.HealthzServiceApi(client)
        self._threads = Threads(SYSTEM)
        self._multi_user: bool | None = None
        self._mode_read_at = time.monotonic()
        self.on_mode_change: Callable[[], None] = lambda: None

    async def health(self) -> tuple[str, bool]:
        """Read the server's version, and whether it is in multi-user mode."""
        # Raw, because the generated model has no field for the version.
        response = await self.call(self._health.healthz_service_get_healthz, _preload_content=False)
        try:
            health = parse_object(response.data)
        except UnreadableError:
            message = f"the server at {self._settings.kfp_url} is not {SYSTEM}"
            raise Refused(Reason.KUBEFLOW_REQUEST_REJECTED, message) from None
        multi_user = bool(health.get("multi_user"))
        if health.keys() & HEALTH_FIELDS:  # in single-user mode the server omits multi_user
            self._set_mode(multi_user)
        return clean(health.get("tag_name") or "of unknown version", VERSION_LIMIT), multi_user

    async def is_multi_user(self) -> bool:
        """Whether the server is in multi-user mode, read at most a minute ago: an administrator may change it at any time."""
        if self._multi_user is None:
            await self._read_mode()
        elif time.monotonic() - self._mode_read_at > MODE_SECONDS:
            with contextlib.suppress(PlatformError):  # the last mode is the best guess; the call itself reports the error
                await self._read_mode()
        assert self._multi_user is not None, "the mode has been read"
        return self._multi_user

    async def in_mode(self, call: Callable[[bool], Awaitable[T]]) -> T:
        """Make a call that depends on the mode; repeat it if the server refuses it because its mode has changed."""
        known = await self.is_multi_user()
        try:
            return await call(known)
        except Refused:
            with contextlib.suppress(PlatformError):
                await self._read_mode()
            if self._multi_user == known:
                raise
            return await call(not known)

    async def call(self, function: Callable[..., T], *arguments: object, forgiven: tuple[int, ...] = (), **query: object) -> T:
        """Call a method of the generated client on a thread.

        Returns None if the answer has one of the `forgiven` statuses. Raises PlatformError for every other error.
        """
        seconds = self._settings.request_seconds
        try:
            # A pair: the client ignores a single timeout that is not an int.
            return await self._threads.run(function, *arguments, _request_timeout=(seconds, seconds), **query)
        except ApiException as error:
            if error.status in forgiven:
                return None  # type: ignore[return-value] # only callers that pass `forgiven` get it
            raise self._error(error) from None
        except AttributeError as error:
            if isinstance(error.__context__, ApiException):  # the client fails while it reports a TLS error
                raise self._error(error.__context__) from None
            raise self.unreadable(error) from None
        except urllib3.exceptions.HTTPError as error:
            where, text = f"{SYSTEM} at {self._settings.kfp_url}", "; ".join(causes(error))
            if isinstance(error, urllib3.exceptions.NewConnectionError | urllib3.exceptions.ConnectTimeoutError):
                raise unanswered(NotSent, Reason.KUBEFLOW_UNAVAILABLE, f"{where} cannot be reached", text) from None
            kind = TooLarge if isinstance(error, boundedpools.AnswerTooLarge) else Unavailable
            raise unanswered(kind, Reason.KUBEFLOW_UNAVAILABLE, f"{where} did not answer", text) from None
        except (PlatformError, OSError):
            raise
        except Exception as error:  # the client fails in many ways on an unexpected answer
            raise self.unreadable(error) from None

    def unreadable(self, error: Exception) -> Refused:
        """Make the error for an answer that the client cannot read."""
        message = (
            f"the answer of {SYSTEM} at {self._settings.kfp_url} cannot be read ({type(error).__name__}); check WINE_KFP_URL"
        )
        return Refused(Reason.KUBEFLOW_REQUEST_REJECTED, message)

    async def _read_mode(self) -> None:
        self._mode_read_at = time.monotonic()  # before the answer, so that concurrent calls do not read it too
        health, _, headers = await self.call(self._health.healthz_service_get_healthz_with_http_info)
        if "json" not in headers.get("Content-Type", ""):  # the client reads a web page as an answer without fields
            message = f"the server at {self._settings.kfp_url} is not the API of {SYSTEM}; correct WINE_KFP_URL"
            raise Refused(Reason.KUBEFLOW_REQUEST_REJECTED, message)
        self._set_mode(bool(health.multi_user))

    def _set_mode(self, multi_user: bool) -> None:
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
            raise NotSent(Reason.KUBEFLOW_UNAVAILABLE, message) from None

    def _error(self, error: ApiException) -> PlatformError:
        """Make the error for an answer other than 2xx, or for a failed TLS handshake."""
        status, where = error.status, f"{SYSTEM} at {self._settings.kfp_url}"
        if not status:  # no answer: the client puts OpenSSL's text into the reason
            return self._tls_error(where, str(error.reason))
        kind: type[PlatformError] = Unavailable if status == 429 or status >= 500 else Refused
        if (other := who_answers(status, _body(error), WORKLOAD)) and not 300 <= status < 400:
            kind = Unavailable if status >= 500 else Refused
            message = f"{where} answered {status}: {other}"
        elif status in HINTS:  # the server's own message about a token is not repeated
            message = f"{where} answered {status}: {HINTS[status]}"
        elif status < 400:
            message = f"{where} answered {status}, a redirect, which is not followed; {LOGIN}"
        else:
            message = f"{SYSTEM} answered {status}: {_message(error)}"
        reason = Reason.KUBEFLOW_UNAVAILABLE if kind is Unavailable else Reason.KUBEFLOW_REQUEST_REJECTED
        return kind(reason, message, status=status)

    def _tls_error(self, where: str, text: str) -> NotSent:
        error = unanswered(NotSent, Reason.KUBEFLOW_UNAVAILABLE, f"{where} cannot be reached", text)
        if cause_of(text) not in CERTIFICATES:
            return error
        hint = f"{Settings.named('WINE_KFP_CA_FILE')} names the file with the certificate of its authority"
        return NotSent(error.reason, f"{error.message}; {hint}", diagnosed=True)


def _message(error: ApiException) -> str:
    try:
        return clean(parse_object(error.body or "")["message"], MESSAGE_LIMIT)
    except (UnreadableError, KeyError):
        return clean(error.reason, MESSAGE_LIMIT)


def _body(error: ApiException) -> str:
    body = error.body or ""
    return body.decode(errors="replace") if isinstance(body, bytes) else str(body)
