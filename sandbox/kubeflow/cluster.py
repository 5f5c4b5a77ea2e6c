"""The part of the Kubernetes API that the stand-in needs.

`kubernetes` is imported when a cluster is first spoken to: half a second that the server's start does not wait for.
"""

from __future__ import annotations

import base64
import functools
import json
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_WORKFLOWS = ("argoproj.io", "v1alpha1")
_AGAIN_SECONDS = 2.0  # between attempts to reach an API server that does not answer
Object = dict[str, Any]
log = logging.getLogger(__name__)


class Cluster:
    """One API server, with the rights of a kubeconfig."""

    def __init__(self, kubeconfig: Path) -> None:
        self._kubeconfig = kubeconfig

    @functools.cached_property
    def _api(self) -> Any:
        from kubernetes import config

        return config.new_client_from_config(str(self._kubeconfig))

    def warm_up(self) -> None:
        """Read the kubeconfig and import the client."""
        _ = self._api

    @functools.cached_property
    def _objects(self) -> Any:
        from kubernetes import client

        return client.CustomObjectsApi(self._api)

    def review_token(self, token: str, audience: str) -> tuple[str, list[str], str]:
        """Return the user of a token (empty if it is invalid), its audiences, and the API server's message."""
        from kubernetes import client

        review = client.V1TokenReview(spec=client.V1TokenReviewSpec(token=token, audiences=[audience]))
        status = client.AuthenticationV1Api(self._api).create_token_review(review).status
        user = status.user.username if status.authenticated and status.user else ""
        return user or "", status.audiences or [], status.error or ""

    def review_access(self, user: str, attributes: dict[str, str]) -> tuple[bool, str]:
        """Return whether a user has a right, and the API server's reason."""
        from kubernetes import client

        spec = client.V1SubjectAccessReviewSpec(user=user, resource_attributes=client.V1ResourceAttributes(**attributes))
        review = client.V1SubjectAccessReview(spec=spec)
        status = client.AuthorizationV1Api(self._api).create_subject_access_review(review).status
        return bool(status.allowed), status.reason or ""

    def watch_secret(self, namespace: str, name: str) -> Iterator[dict[str, str] | None]:
        """Yield a Secret's values now and at each change, None while the Secret is missing. Never ends by itself."""
        from kubernetes import client, watch
        from urllib3.exceptions import HTTPError

        core = client.CoreV1Api(self._api)
        pause = threading.Event()
        while True:
            try:
                found = core.list_namespaced_secret(namespace, field_selector=f"metadata.name={name}")
                yield _values(found.items[0].data) if found.items else None
                for event in watch.Watch().stream(
                    core.list_namespaced_secret,
                    namespace,
                    field_selector=f"metadata.name={name}",
                    resource_version=found.metadata.resource_version,
                ):
                    yield None if event["type"] == "DELETED" else _values(event["object"].data)
            except (HTTPError, client.ApiException) as error:  # a kubelet retries, too
                log.warning("reading the secret %s: %s", name, error)
                pause.wait(_AGAIN_SECONDS)

    def create_workflow(self, namespace: str, workflow: Object) -> bool:
        """Create a Workflow. Return False if the cluster lacks the kind."""
        from kubernetes import client

        try:
            self._objects.create_namespaced_custom_object(*_WORKFLOWS, namespace, "workflows", workflow)
        except client.ApiException as error:
            # a missing namespace is "not found", too; then the body names the namespace
            if error.status == 404 and "namespaces" not in str(error.body):
                return False
            raise
        return True

    def patch_workflow(self, namespace: str, name: str, patch: Object) -> bool:
        """Merge a patch into a Workflow. Return False if it does not exist."""
        return self._unless_gone(self._objects.patch_namespaced_custom_object, *_WORKFLOWS, namespace, "workflows", name, patch)

    def delete_workflow(self, namespace: str, name: str) -> bool:
        """Delete a Workflow. Return False if it does not exist."""
        return self._unless_gone(self._objects.delete_namespaced_custom_object, *_WORKFLOWS, namespace, "workflows", name)

    def workflow_uid(self, namespace: str, name: str) -> str:
        """Return a Workflow's uid, or an empty string if it does not exist."""
        from kubernetes import client

        try:
            found = self._objects.get_namespaced_custom_object(*_WORKFLOWS, namespace, "workflows", name)
        except client.ApiException:
            return ""
        return str(found["metadata"]["uid"])

    def create_pod(self, namespace: str, pod: Object) -> str:
        """Create a pod unless it exists. Return the API server's message if it refuses the pod, otherwise an empty string."""
        from kubernetes import client

        try:
            client.CoreV1Api(self._api).create_namespaced_pod(namespace, pod)
        except client.ApiException as error:
            if error.status == 403:
                return str(json.loads(error.body)["message"])
            if error.status != 409:
                log.warning("pod %s could not be made: %s", pod["metadata"]["name"], error)
        return ""

    def patch_pod_status(self, namespace: str, name: str, status: Object) -> None:
        """Write a pod's status."""
        from kubernetes import client

        client.CoreV1Api(self._api).patch_namespaced_pod_status(name, namespace, {"status": status})

    def delete_pods(self, namespace: str, run_id: str) -> None:
        """Delete the step pods of a run that have not ended."""
        from kubernetes import client

        core, selector = client.CoreV1Api(self._api), f"pipeline/runid={run_id}"
        active = "status.phase!=Succeeded,status.phase!=Failed"
        for pod in core.list_namespaced_pod(namespace, label_selector=selector, field_selector=active).items:
            self._unless_gone(core.delete_namespaced_pod, pod.metadata.name, namespace)

    def list_workflows(self) -> tuple[list[Object], str]:
        """Return every run's Workflow, and the resource version from which to watch them."""
        found = self._objects.list_cluster_custom_object(*_WORKFLOWS, "workflows", label_selector="pipeline/runid")
        return found["items"], found["metadata"]["resourceVersion"]

    def deleted_workflows(self, version: str) -> Iterator[Object]:
        """Yield the Workflows that are deleted after that version. Ends when the API server ends the watch."""
        from kubernetes import watch

        events = watch.Watch().stream(
            self._objects.list_cluster_custom_object,
            *_WORKFLOWS,
            "workflows",
            label_selector="pipeline/runid",
            resource_version=version,
        )
        for event in events:
            if event["type"] == "DELETED":
                yield event["object"]

    @staticmethod
    def _unless_gone(call: Any, *arguments: Any) -> bool:
        from kubernetes import client

        try:
            call(*arguments)
        except client.ApiException as error:
            if error.status == 404:
                return False
            raise
        return True


def _values(data: dict[str, str] | None) -> dict[str, str]:
    return {key: base64.b64decode(value).decode() for key, value in (data or {}).items()}
