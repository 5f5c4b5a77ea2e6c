"""The Kubernetes API over aiohttp, with requests and watches on the event loop.

`kubernetes` 30, which this environment is bound to by kfp, is synchronous; only its reading of kubeconfigs is used.
"""

import asyncio
import json
import logging
import ssl
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
from kubernetes import config

Object = dict[str, Any]
log = logging.getLogger("seldon.api")

SDEP = "machinelearning.seldon.io/v1/seldondeployments"
DEPLOYMENT = "apps/v1/deployments"
REPLICA_SET = "apps/v1/replicasets"
POD = "v1/pods"
SERVICE = "v1/services"
AUTOSCALER = "autoscaling/v2/horizontalpodautoscalers"
SECRET = "v1/secrets"
KINDS = {"Deployment": DEPLOYMENT, "Service": SERVICE, "HorizontalPodAutoscaler": AUTOSCALER}
JSON_PATCH, MERGE_PATCH = "application/json-patch+json", "application/merge-patch+json"
LONGEST_WATCH = 300  # seconds; the API server ends the watch, and the next one continues at its version
TIMEOUT = 30  # seconds without a byte
RETRY = 0.5  # seconds between attempts to reach an API server that is down


def selector(labels: Mapping[str, str]) -> str:
    """Return the selector of objects with these labels."""
    return ",".join(f"{name}={value}" for name, value in labels.items())


class ApiError(Exception):
    """A refusal by the API server: the HTTP status and its message."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Api:
    """One API server, with the rights of a kubeconfig. Resources are named `[group/]version/plural`."""

    def __init__(self, session: aiohttp.ClientSession, server: str, headers: dict[str, str]) -> None:
        self._session, self._server, self._headers = session, server, headers

    @classmethod
    def connect(cls, kubeconfig: Path) -> "Api":
        """Read a kubeconfig. Call it on the event loop."""
        read = config.new_client_from_config(str(kubeconfig)).configuration
        context = ssl.create_default_context(cafile=read.ssl_ca_cert)
        if read.cert_file:
            context.load_cert_chain(read.cert_file, read.key_file)
        token = read.api_key.get("authorization", "")
        connector = aiohttp.TCPConnector(ssl=context if read.verify_ssl else False, limit=50)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=TIMEOUT)
        session = aiohttp.ClientSession(connector=connector, timeout=timeout)
        return cls(session, read.host, {"Authorization": token} if token else {})

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    async def get(self, resource: str, namespace: str, name: str) -> Object:
        """Read one object. Raises ApiError."""
        return await self._request("GET", self._url(resource, namespace, name))

    async def list(self, resource: str, namespace: str, labels: str) -> list[Object]:
        """List a namespace's objects with these labels. Raises ApiError."""
        parameters = {"labelSelector": labels}
        listing = await self._request("GET", self._url(resource, namespace), parameters=parameters)
        return list(listing.get("items") or [])

    async def create(self, resource: str, item: Object) -> Object:
        """Create an object. Raises ApiError."""
        return await self._request("POST", self._url(resource, item["metadata"]["namespace"]), item)

    async def replace(self, resource: str, item: Object) -> Object:
        """Replace an object. Raises ApiError, with 409 if the resource version has changed."""
        meta = item["metadata"]
        return await self._request("PUT", self._url(resource, meta["namespace"], meta["name"]), item)

    async def merge(self, resource: str, namespace: str, name: str, patch: Object) -> Object:
        """Merge-patch an object. Raises ApiError."""
        return await self._request("PATCH", self._url(resource, namespace, name), patch, MERGE_PATCH)

    async def set_status(self, resource: str, item: Object, status: Object) -> Object:
        """Replace an object's status, regardless of its resource version. Raises ApiError."""
        meta = item["metadata"]
        url = self._url(resource, meta["namespace"], meta["name"]) + "/status"
        # "add" also replaces. The test protects a later object of the same name.
        patch = [
            {"op": "test", "path": "/metadata/uid", "value": meta["uid"]},
            {"op": "add", "path": "/status", "value": status},
        ]
        return await self._request("PATCH", url, patch, JSON_PATCH)

    async def delete(self, resource: str, item: Object) -> None:
        """Delete an object by its uid, if it still exists. Raises ApiError."""
        meta = item["metadata"]
        options = {"preconditions": {"uid": meta["uid"]}, "propagationPolicy": "Background"}
        try:
            await self._request("DELETE", self._url(resource, meta["namespace"], meta["name"]), options)
        except ApiError as error:
            if error.code not in (404, 409):
                raise

    async def follow(self, resource: str, labels: str = "", fields: str = "") -> AsyncIterator[tuple[str, Object]]:
        """Yield SYNCED with {"items": …} for every listing, and then ADDED, MODIFIED and DELETED events.

        Without end: a watch that ends goes on where it stood, and begins with a new listing where it cannot (410).
        """
        which = {name: value for name, value in (("labelSelector", labels), ("fieldSelector", fields)) if value}
        version = ""
        while True:
            try:
                if not version:
                    listing = await self._request("GET", self._url(resource), parameters=which)
                    version = listing["metadata"]["resourceVersion"]
                    yield "SYNCED", listing
                async for event in self._watch(resource, {**which, "resourceVersion": version}):
                    item = event["object"]
                    if event["type"] == "ERROR":
                        version = "" if item.get("code") == 410 else version
                        break
                    version = item["metadata"]["resourceVersion"]
                    if event["type"] != "BOOKMARK":
                        yield event["type"], item
            except (ApiError, aiohttp.ClientError, OSError) as error:
                log.warning("watching %s: %s", resource, error)
                version = "" if isinstance(error, ApiError) else version
                await asyncio.sleep(RETRY)

    async def _watch(self, resource: str, parameters: dict[str, str]) -> AsyncIterator[Object]:
        more = {"watch": "true", "allowWatchBookmarks": "true", "timeoutSeconds": str(LONGEST_WATCH)}
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=LONGEST_WATCH + TIMEOUT)
        async with self._session.get(
            self._url(resource), params={**parameters, **more}, headers=self._headers, timeout=timeout
        ) as response:
            await self._check(response)
            rest = b""
            async for chunk in response.content.iter_any():  # a line may be longer than aiohttp's readline allows
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    yield json.loads(line)

    async def _request(
        self,
        method: str,
        url: str,
        body: object = None,
        content_type: str = "application/json",
        parameters: dict[str, str] | None = None,
    ) -> Object:
        data = None if body is None else json.dumps(body)
        headers = {**self._headers, "Content-Type": content_type}
        try:
            async with self._session.request(method, url, data=data, params=parameters, headers=headers) as response:
                await self._check(response)
                answer: Object = await response.json()
                return answer
        except (aiohttp.ClientError, OSError) as error:
            raise ApiError(0, f"the API server cannot be reached: {error}") from error

    @staticmethod
    async def _check(response: aiohttp.ClientResponse) -> None:
        if response.status >= 400:
            text = await response.text()
            try:
                message = json.loads(text)["message"]
            except (ValueError, LookupError, TypeError):
                message = text[:300]
            raise ApiError(response.status, message)

    def _url(self, resource: str, namespace: str = "", name: str = "") -> str:
        version, _, plural = resource.rpartition("/")
        parts = [self._server, "apis" if "/" in version else "api", version]
        parts += ["namespaces", namespace] if namespace else []
        return "/".join([*parts, plural, *([name] if name else [])])
