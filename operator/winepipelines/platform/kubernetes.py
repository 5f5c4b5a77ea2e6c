"""The Kubernetes API: the few verbs that the operator needs, on plain dictionaries.

Called by the other adapters and by `reconciler`.
"""

import asyncio
import base64
import contextlib
import os
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import aiohttp
from kubernetes.aio import client, config
from kubernetes.aio.dynamic import DynamicClient
from kubernetes.aio.dynamic.exceptions import ConflictError, DynamicApiError, NotFoundError

from winecontract.parsing import UnreadableError, parse_object
from winecontract.text import clean, cleaned
from winepipelines.platform import admission, bodies
from winepipelines.resource.errors import NotSent, PlatformError, Refused, Unavailable
from winepipelines.resource.naming import MANAGED_BY
from winepipelines.resource.pipeline import API_VERSION, PLURAL
from winepipelines.resource.prediction import PREDICTION_PLURAL

Body = dict[str, Any]
SERVICE_ACCOUNT_TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount/token"
REQUEST_SECONDS = 30
WATCH_SECONDS = 300
PACKED = frozenset({"compressedNodes"})  # of a Workflow's status: no text
JSON = "application/json"
PAGE_SIZE = 100  # objects; fewer where these are large


@dataclass(frozen=True)
class Kind:
    """A kind of object, as the API's paths name it."""

    api_version: str
    plural: str

    def path(self, namespace: str, name: str = "") -> str:
        """Build the path of an object, of a namespace's list, or without a namespace of the list of all."""
        root = "/api" if "/" not in self.api_version else "/apis"
        place = f"namespaces/{namespace}/" if namespace else ""
        return f"{root}/{self.api_version}/{place}{self.plural}" + (f"/{name}" if name else "")


SECRETS = Kind("v1", "secrets")
PODS = Kind("v1", "pods")
EVENTS = Kind("events.k8s.io/v1", "events")
DEPLOYMENTS = Kind("apps/v1", "deployments")
PODDEFAULTS = Kind("kubeflow.org/v1alpha1", "poddefaults")
WINEPIPELINES = Kind(API_VERSION, PLURAL)
WINEPREDICTIONS = Kind(API_VERSION, PREDICTION_PLURAL)


class KindMissing(Exception):
    """The API server does not know the kind: its CRD is not installed."""


class Conflict(Exception):
    """The object has changed since it was read, or is gone."""


class Kubernetes:
    """The API server, under the operator's own identity."""

    def __init__(self, api: client.ApiClient) -> None:
        """Speak through a configured client."""
        self._api = api
        self._dynamic = DynamicClient(api)
        self._turn = asyncio.Semaphore()  # of large bodies

    @classmethod
    async def connect(cls) -> "Kubernetes":
        """Use the pod's service account where there is one, else the kubeconfig."""
        configuration = client.Configuration()
        # Its own reading, of errors, is bounded too; an answer that is not compressed is as large as it says.
        configuration.client_session_kwargs = {
            "response_class": bodies.response_class(),
            "headers": {"Accept-Encoding": "identity"},
        }
        if os.path.exists(SERVICE_ACCOUNT_TOKEN):  # noqa: ASYNC240, PTH110 - once, at the start
            config.load_incluster_config(client_configuration=configuration)
        else:
            await config.load_kube_config(client_configuration=configuration)
        return cls(client.ApiClient(configuration))

    async def close(self) -> None:
        """Close connections."""
        await self._api.close()

    async def get(self, kind: Kind, namespace: str, name: str) -> Body | None:
        """Read an object; None where it is not there.

        Raises KindMissing where the API server does not know the kind.
        """
        try:
            return await self._request("get", kind.path(namespace, name))
        except NotFoundError as error:
            if _is_unknown_path(error):
                raise KindMissing(kind.plural) from None
            return None

    async def list(self, kind: Kind, namespace: str, keep: Callable[[Body], Body], most: int, **selectors: str) -> list[Body]:
        """List selected objects of a namespace or of all: of each what `keep` leaves of it, and one more than `most` at most.

        Anybody may make objects with any label, as many and as large as the namespace's quotas let him.
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

        Raises NotFoundError where nothing is there, else PlatformError.
        """
        with _explained("get", path):
            async with contextlib.aclosing(self.pages(path, accept, **query)) as pages:
                async for page in pages:
                    yield page

    async def pages(self, path: str, accept: str, size: int = PAGE_SIZE, **query: Any) -> AsyncGenerator[Body]:
        """Yield a list page by page: no page is larger than the limit, however large its objects are, and these are cut.

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
        """Read and parse an answer's body, in `REQUEST_SECONDS` and within a limit of bytes and of values."""
        async with asyncio.timeout(REQUEST_SECONDS):
            return with_clean_statuses(await bodies.parsed(response, limit, self._turn, keep, most))

    async def apply(self, kind: Kind, body: Body, manager: str) -> Body:
        """Apply an object server-side."""
        metadata = body["metadata"]
        try:
            return await self._request(
                "patch",
                kind.path(metadata["namespace"], metadata["name"]),
                body=body,
                content_type="application/apply-patch+yaml",
                field_manager=manager,
                force_conflicts=True,
            )
        except (NotFoundError, ConflictError) as error:  # its namespace or kind has gone, or somebody wrote at the same moment
            message = f"the API server did not apply {kind.plural} {metadata['name']}: {_message(error)}"
            raise Unavailable("KubernetesUnavailable", message) from None

    async def merge(self, kind: Kind, namespace: str, name: str, patch: Body) -> Body:
        """Merge-patch an object.

        Raises Conflict where it is gone, or the patch names a resource version that is not its own.
        """
        try:
            return await self._request(
                "patch", kind.path(namespace, name), body=patch, content_type="application/merge-patch+json"
            )
        except (ConflictError, NotFoundError):
            raise Conflict(name) from None

    async def delete(self, kind: Kind, namespace: str, name: str, uid: str) -> Body | None:
        """Delete an object, if it is still the one with this uid; return it where a finalizer keeps it for now."""
        try:
            answer = await self._request("delete", kind.path(namespace, name), body={"preconditions": {"uid": uid}})
        except (NotFoundError, ConflictError):
            return None
        return answer if (answer.get("metadata") or {}).get("deletionTimestamp") else None

    async def replace_status(self, kind: Kind, body: Body, status: Body) -> Body:
        """Write a resource's status.

        Raises Conflict where the resource is no longer the one that was read.
        """
        metadata = body["metadata"]
        path = kind.path(metadata["namespace"], metadata["name"]) + "/status"
        try:
            return await self._request("put", path, body={**body, "status": status})
        except (ConflictError, NotFoundError):
            raise Conflict(metadata["name"]) from None

    async def tell_of(self, regarding: Body, reason: str, message: str, *, warning: bool) -> None:
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
        """Make a request of any path; None where nothing is there."""
        try:
            return await self._request(method, path, **parameters)
        except NotFoundError:
            return None

    async def read(self, path: str, accept: str, **query: Any) -> Body:
        """GET a path in a form of the API server's, such as a table.

        Raises NotFoundError where nothing is there.
        """
        return await self._request("get", path, header_params={"Accept": accept}, **query)

    async def open(self, path: str, accept: str, **query: Any) -> aiohttp.ClientResponse:
        """GET a path; the answer is yet to be read. A watch's connection ends after `WATCH_SECONDS` at the latest.

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
    """Turn what the client raises into the platform's errors, but for NotFoundError and ConflictError."""
    try:
        yield
    except (NotFoundError, ConflictError):
        raise
    except UnreadableError as error:
        message = f"the API server's answer to {method.upper()} {path} cannot be read: {error}"
        raise Refused("KubernetesRefused", message) from None
    except DynamicApiError as error:
        if (other := admission.failure(error.status, _message(error))) is not None:
            raise other from None
        message = f"the API server answered {error.status} to {method.upper()} {path}: {_message(error)}"
        if error.status in (410, 429) or error.status >= 500:  # 410: the next page of a list, asked too late
            raise Unavailable("KubernetesUnavailable", message) from None
        raise Refused("KubernetesRefused", message, _message(error)) from None
    except aiohttp.ClientConnectorError:
        raise NotSent("KubernetesUnavailable", "the API server cannot be reached") from None
    except bodies.TooLarge:
        message = f"an object under {path} is larger than {bodies.OBJECT_BYTES >> 20} MiB. Delete it, or what makes it so large"
        raise Refused("ObjectTooLarge", message) from None
    except (aiohttp.ClientError, TimeoutError):
        raise Unavailable("KubernetesUnavailable", "the API server did not answer") from None


def secret_values(secret: Body | None) -> dict[str, str]:
    """Read a Secret's values; none where it is not there."""
    data = (secret or {}).get("data") or {}
    return {key: base64.b64decode(value).decode(errors="replace") for key, value in data.items()}


async def lost(namespace: str, seconds: float) -> str:
    """Say why the operator cannot read its own kind, in a namespace or in all; empty where it can.

    Asks over a new connection: one that is there already may go on where no new one would be let through.
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
    except (config.ConfigException, OSError, ValueError, KeyError) as error:  # the pod's token or authority cannot be read
        return f"there are no credentials for the API server: {error}"
    return "" if found is not None else f"the API server does not serve {PLURAL} in {API_VERSION}"


def _message(error: DynamicApiError) -> str:
    try:
        return clean(parse_object(error.body or "")["message"])
    except (UnreadableError, KeyError):
        return clean(error.reason)


def _is_unknown_path(error: NotFoundError) -> bool:
    """Tell a kind that is not served from an object that is not there: only the latter has details that name it."""
    try:
        return "name" not in (parse_object(error.body or "").get("details") or {})
    except (UnreadableError, TypeError):
        return True


def with_clean_statuses(answer: Body) -> Body:
    """Clean the texts of an object's status, or of each object's in a list, and the cells of a table.

    Controllers quote there what tenants wrote, without any limit. All else of an object is needed as it is.
    """
    for item in (answer, *(answer.get("items") or ())):
        if "status" in item:
            item["status"] = cleaned(item["status"], kept=PACKED)
    for row in answer.get("rows") or ():
        row["cells"] = cleaned(row.get("cells"))
    return answer
