"""Client of the Kubernetes API, with the few verbs that the operator needs, on plain dictionaries."""

import asyncio
import base64
import contextlib
import os
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from kubernetes.aio import client, config
from kubernetes.aio.dynamic import DynamicClient
from kubernetes.aio.dynamic.exceptions import ConflictError, DynamicApiError, NotFoundError

from winecontract.parsing import UnreadableError, parse_object
from winecontract.reasons import Reason
from winecontract.text import clean, cleaned
from winepipelines.api.errors import NotSent, PlatformError, Refused, Unavailable
from winepipelines.api.naming import MANAGED_BY
from winepipelines.api.pipeline import API_VERSION, PLURAL
from winepipelines.api.prediction import PREDICTION_PLURAL
from winepipelines.engine.errors import Conflict
from winepipelines.platform import admission, bodies

Body = dict[str, Any]
SERVICE_ACCOUNT_TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount/token"
REQUEST_SECONDS = 30
WATCH_SECONDS = 300
PACKED = frozenset({"compressedNodes"})  # of a Workflow's status: no text
JSON = "application/json"
PAGE_SIZE = 100  # objects; fewer where these are large


@dataclass(frozen=True)
class Kind:
    """A kind of object, as in the paths of the API."""

    api_version: str
    plural: str

    def path(self, namespace: str, name: str = "") -> str:
        """Build the path of an object, of the list in a namespace or, without a namespace, of the list of all."""
        root = "/api" if "/" not in self.api_version else "/apis"
        place = f"namespaces/{namespace}/" if namespace else ""
        return f"{root}/{self.api_version}/{place}{self.plural}" + (f"/{name}" if name else "")


SECRETS = Kind("v1", "secrets")
PODS = Kind("v1", "pods")
EVENTS = Kind("events.k8s.io/v1", "events")
CORE_SERVICES = Kind("v1", "services")
DEPLOYMENTS = Kind("apps/v1", "deployments")
PODDEFAULTS = Kind("kubeflow.org/v1alpha1", "poddefaults")
WINEPIPELINES = Kind(API_VERSION, PLURAL)
WINEPREDICTIONS = Kind(API_VERSION, PREDICTION_PLURAL)


class KindMissing(Exception):
    """The API server does not serve the kind: its CRD is not installed."""


class Kubernetes:
    """The API server, accessed with the operator's own identity."""

    def __init__(self, api: client.ApiClient) -> None:
        """Use a configured client."""
        self._api = api
        self._dynamic = DynamicClient(api)
        self._turn = asyncio.Semaphore()  # large bodies are read one at a time

    @classmethod
    async def connect(cls) -> "Kubernetes":
        """Use the pod's service account if there is one, else the kubeconfig."""
        configuration = client.Configuration()
        # The client reads the bodies of errors itself, also with limits. Uncompressed, a body is as large as its Content-Length.
        configuration.client_session_kwargs = {
            "response_class": bodies.response_class(),
            "headers": {"Accept-Encoding": "identity"},
            "trust_env": False,  # would read netrc and the proxy's variables on a thread, for each request
        }
        if os.path.exists(SERVICE_ACCOUNT_TOKEN):  # noqa: ASYNC240, PTH110 - once, at the start
            config.load_incluster_config(client_configuration=configuration)
        else:
            await config.load_kube_config(client_configuration=configuration)
        configuration.proxy = configuration.proxy or proxy_of(configuration.host)
        return cls(client.ApiClient(configuration))

    async def close(self) -> None:
        """Close connections."""
        await self._api.close()

    async def get(self, kind: Kind, namespace: str, name: str) -> Body | None:
        """Read an object; None if it does not exist.

        Raises KindMissing if the API server does not serve the kind.
        """
        try:
            return await self._request("get", kind.path(namespace, name))
        except NotFoundError as error:
            if _is_unknown_path(error):
                raise KindMissing(kind.plural) from None
            return None

    async def list(self, kind: Kind, namespace: str, keep: Callable[[Body], Body], most: int, **selectors: str) -> list[Body]:
        """List selected objects of a namespace or of all namespaces, trimmed by `keep`; at most one more than `most`.

        Users may create objects with any label, as many and as large as their quotas allow.
        """
        found: list[Body] = []
        async with contextlib.aclosing(self.listed(kind.path(namespace), **selectors)) as pages:
            async for page in pages:
                found += [keep(item) for item in page.get("items") or ()]
                if len(found) > most:
                    break
        return found[: most + 1]

    async def listed(self, path: str, accept: str = JSON, **query: Any) -> AsyncGenerator[Body]:
        """Yield a list page by page, see `pages`.

        Raises NotFoundError if the path does not exist, PlatformError for other errors.
        """
        with _explained("get", path):
            async with contextlib.aclosing(self.pages(path, accept, **query)) as pages:
                async for page in pages:
                    yield page

    async def pages(self, path: str, accept: str, size: int = PAGE_SIZE, **query: Any) -> AsyncGenerator[Body]:
        """Yield a list page by page, with fewer objects per page if these are large. Objects are trimmed.

        Raises what the client raises: ApiException, aiohttp.ClientError, TimeoutError.
        """
        more: dict[str, str] = {}
        while True:
            limit = bodies.PAGE_BYTES if size > 1 else bodies.OBJECT_BYTES
            try:
                response = await self.open(path, accept, limit=size, **more, **query)
                page = await self.parsed(response, limit, bodies.cut, bodies.PAGE_VALUES)
            except bodies.TooLarge:
                if size == 1:
                    raise
                size = max(1, size // 8)
                continue
            yield page
            token = (page.get("metadata") or {}).get("continue")
            if not token:
                return
            more = {"_continue": token}

    async def parsed(
        self,
        response: aiohttp.ClientResponse,
        limit: int = bodies.OBJECT_BYTES,
        keep: bodies.Keep = bodies.without_managers,
        most: int = bodies.OBJECT_VALUES,
    ) -> Body:
        """Read and parse an answer's body within `REQUEST_SECONDS` and the limits of bytes and values."""
        async with asyncio.timeout(REQUEST_SECONDS):
            return with_clean_statuses(await bodies.parsed(response, limit, self._turn, keep, most))

    async def apply(self, kind: Kind, body: Body, manager: str, *, dry_run: bool = False) -> Body:
        """Apply an object server-side. A dry run passes admission, and stores nothing."""
        metadata = body["metadata"]
        more = {"dry_run": "All"} if dry_run else {}
        try:
            return await self._request(
                "patch",
                kind.path(metadata["namespace"], metadata["name"]),
                body=body,
                content_type="application/apply-patch+yaml",
                field_manager=manager,
                force_conflicts=True,
                **more,
            )
        except (NotFoundError, ConflictError) as error:  # its namespace or kind is deleted, or another client wrote concurrently
            message = f"the API server did not apply {kind.plural} {metadata['name']}: {_message(error)}"
            raise Unavailable(Reason.KUBERNETES_UNAVAILABLE, message) from None

    async def merge(self, kind: Kind, namespace: str, name: str, patch: Body) -> Body:
        """Merge-patch an object.

        Raises Conflict if it is deleted, or if the patch has an outdated resource version.
        """
        try:
            return await self._request(
                "patch", kind.path(namespace, name), body=patch, content_type="application/merge-patch+json"
            )
        except (ConflictError, NotFoundError):
            raise Conflict(name) from None

    async def delete(self, kind: Kind, namespace: str, name: str, uid: str) -> Body | None:
        """Delete the object with this uid; return it if a finalizer delays its deletion."""
        try:
            answer = await self._request("delete", kind.path(namespace, name), body={"preconditions": {"uid": uid}})
        except (NotFoundError, ConflictError):
            return None
        return answer if (answer.get("metadata") or {}).get("deletionTimestamp") else None

    async def replace_status(self, kind: Kind, body: Body, status: Body) -> Body:
        """Write a resource's status.

        Raises Conflict if the resource has changed since it was read.
        """
        metadata = body["metadata"]
        path = kind.path(metadata["namespace"], metadata["name"]) + "/status"
        try:
            return await self._request("put", path, body={**body, "status": status})
        except (ConflictError, NotFoundError):
            raise Conflict(metadata["name"]) from None

    async def create_event(self, regarding: Body, reason: str, message: str, *, warning: bool) -> None:
        """Write an Event about any object, in its namespace; `regarding` is a reference to it."""
        now, namespace = datetime.now(UTC), regarding["namespace"]
        event = {
            "apiVersion": EVENTS.api_version,
            "kind": "Event",
            "metadata": {"name": f"{regarding['name']}.{time.time_ns():x}", "namespace": namespace},
            "eventTime": now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "reportingController": MANAGED_BY,
            "reportingInstance": MANAGED_BY,
            "action": clean(reason, 128),
            "reason": clean(reason, 128),
            "note": clean(message, 1024),
            "type": "Warning" if warning else "Normal",
            "regarding": regarding,
        }
        await self._request("post", EVENTS.path(namespace), body=event)

    async def ask(self, method: str, path: str, **parameters: Any) -> Body | None:
        """Make a request to any path; None if it does not exist."""
        try:
            return await self._request(method, path, **parameters)
        except NotFoundError:
            return None

    async def read(self, path: str, accept: str, **query: Any) -> Body:
        """GET a path in one of the API server's formats, such as a table.

        Raises NotFoundError if it does not exist.
        """
        return await self._request("get", path, header_params={"Accept": accept}, **query)

    async def open(self, path: str, accept: str, **query: Any) -> aiohttp.ClientResponse:
        """GET a path and return the unread answer. The connection of a watch ends after at most `WATCH_SECONDS`.

        Raises what the client raises: ApiException, aiohttp.ClientError, TimeoutError.
        """
        seconds = WATCH_SECONDS + 10 if query.get("watch") else REQUEST_SECONDS
        response: aiohttp.ClientResponse = await self._dynamic.request(
            "get", path, serialize=False, header_params={"Accept": accept}, _request_timeout=seconds, **query
        )
        return response

    async def _request(self, method: str, path: str, **parameters: Any) -> Body:
        with _explained(method, path):
            response = await self._dynamic.request(method, path, serialize=False, _request_timeout=REQUEST_SECONDS, **parameters)
            return await self.parsed(response)


@contextlib.contextmanager
def _explained(method: str, path: str) -> Iterator[None]:
    """Convert the client's exceptions to PlatformErrors, except NotFoundError and ConflictError."""
    try:
        yield
    except (NotFoundError, ConflictError):
        raise
    except UnreadableError as error:
        message = f"the API server's answer to {method.upper()} {path} cannot be read: {error}"
        raise Refused(Reason.KUBERNETES_REQUEST_REJECTED, message) from None
    except DynamicApiError as error:
        if (other := admission.failure(error.status, _message(error))) is not None:
            raise other from None
        message = f"the API server answered {error.status} to {method.upper()} {path}: {_message(error)}"
        if error.status in (410, 429) or error.status >= 500:  # 410: the continue token of a list has expired
            raise Unavailable(Reason.KUBERNETES_UNAVAILABLE, message, status=error.status) from None
        raise Refused(Reason.KUBERNETES_REQUEST_REJECTED, message, _message(error), status=error.status) from None
    except aiohttp.ClientConnectorError:
        raise NotSent(Reason.KUBERNETES_UNAVAILABLE, "the API server cannot be reached") from None
    except bodies.TooLarge:
        message = f"an object under {path} is larger than {bodies.OBJECT_BYTES >> 20} MiB. Delete it, or its large fields"
        raise Refused(Reason.OBJECT_TOO_LARGE, message) from None
    except (aiohttp.ClientError, TimeoutError):
        raise Unavailable(Reason.KUBERNETES_UNAVAILABLE, "the API server did not answer") from None


def proxy_of(url: str) -> str | None:
    """Return the proxy that HTTPS_PROXY and NO_PROXY give for an address; None if it is connected to directly."""
    parts = urlsplit(url)
    return None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)


def secret_values(secret: Body | None) -> dict[str, str]:
    """Decode a Secret's values; empty if the Secret does not exist."""
    data = (secret or {}).get("data") or {}
    return {key: base64.b64decode(value).decode(errors="replace") for key, value in data.items()}


async def lost(namespace: str, seconds: float) -> str:
    """Describe why the operator cannot list its own kind in a namespace, or in all namespaces; empty if it can.

    Uses a new connection: an existing one may still work when a network policy rejects new ones.
    """
    try:
        async with asyncio.timeout(seconds):
            kubernetes = await Kubernetes.connect()
            try:
                found = await kubernetes.ask("get", WINEPIPELINES.path(namespace), limit=1)
            finally:
                await kubernetes.close()
    except PlatformError as error:
        return error.message
    except TimeoutError:
        return f"the API server did not answer within {seconds:g} s"
    except (config.ConfigException, OSError, ValueError, KeyError) as error:  # the pod's token or CA certificate cannot be read
        return f"there are no credentials for the API server: {error}"
    return "" if found is not None else f"the API server does not serve {PLURAL} in {API_VERSION}"


def _message(error: DynamicApiError) -> str:
    try:
        return clean(parse_object(error.body or "")["message"])
    except (UnreadableError, KeyError):
        return clean(error.reason)


def _is_unknown_path(error: NotFoundError) -> bool:
    """Whether the kind is not served. If only the object is missing, the answer's details name it."""
    try:
        return "name" not in (parse_object(error.body or "").get("details") or {})
    except (UnreadableError, TypeError):
        return True


def with_clean_statuses(answer: Body) -> Body:
    """Clean the texts in the status of an object or of each object in a list, and the cells of a table.

    Controllers quote texts of users there, without a limit. Other fields are needed unchanged.
    """
    for item in (answer, *(answer.get("items") or ())):
        if "status" in item:
            item["status"] = cleaned(item["status"], kept=PACKED)
    for row in answer.get("rows") or ():
        row["cells"] = cleaned(row.get("cells"))
    return answer
