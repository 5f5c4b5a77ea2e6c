"""The Kubernetes API, as far as the stand-in needs it. Used by the server (`auth`, `runs`) and by each worker.

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
_AGAIN_SECONDS = 2.0  # between two tries at an API server that does not answer
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
        """Whose token it is (empty where it is nobody's), for which audiences, and what the API server says to it."""
        from kubernetes import client

        review = client.V1TokenReview(spec=client.V1TokenReviewSpec(token=token, audiences=[audience]))
        status = client.AuthenticationV1Api(self._api).create_token_review(review).status
        user = status.user.username if status.authenticated and status.user else ""
        return user or "", status.audiences or [], status.error or ""

    def review_access(self, user: str, attributes: dict[str, str]) -> tuple[bool, str]:
        """Whether a user has a right, and the API server's reason."""
        from kubernetes import client

        spec = client.V1SubjectAccessReviewSpec(user=user, resource_attributes=client.V1ResourceAttributes(**attributes))
        review = client.V1SubjectAccessReview(spec=spec)
        status = client.AuthorizationV1Api(self._api).create_subject_access_review(review).status
        return bool(status.allowed), status.reason or ""

    def watch_secret(self, namespace: str, name: str) -> Iterator[dict[str, str] | None]:
        """A secret's values now and whenever it changes; None while there is no such secret. Never ends by itself."""
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
            except (HTTPError, client.ApiException) as error:  # a kubelet tries again too
                log.warning("reading the secret %s: %s", name, error)
                pause.wait(_AGAIN_SECONDS)

    def create_workflow(self, namespace: str, workflow: Object) -> bool:
        """Create a Workflow; False where the cluster does not know the kind."""
        from kubernetes import client

        try:
            self._objects.create_namespaced_custom_object(*_WORKFLOWS, namespace, "workflows", workflow)
        except client.ApiException as error:
            # "not found" is also what a missing namespace says; then the body names the namespace
            if error.status == 404 and "namespaces" not in str(error.body):
                return False
            raise
        return True

    def patch_workflow(self, namespace: str, name: str, patch: Object) -> bool:
        """Merge a patch into a Workflow; False where it is gone."""
        return self._unless_gone(self._objects.patch_namespaced_custom_object, *_WORKFLOWS, namespace, "workflows", name, patch)

    def delete_workflow(self, namespace: str, name: str) -> bool:
        """Delete a Workflow; False where it is gone."""
        return self._unless_gone(self._objects.delete_namespaced_custom_object, *_WORKFLOWS, namespace, "workflows", name)

    def workflow_uid(self, namespace: str, name: str) -> str:
        """A Workflow's uid; empty where it is gone."""
        from kubernetes import client

        try:
            found = self._objects.get_namespaced_custom_object(*_WORKFLOWS, namespace, "workflows", name)
        except client.ApiException:
            return ""
        return str(found["metadata"]["uid"])

    def create_pod(self, namespace: str, pod: Object) -> str:
        """Create a pod that is not there; what the API server says where it does not admit it, empty where it does."""
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
        """Every run's Workflow, and the version from which to watch them."""
        found = self._objects.list_cluster_custom_object(*_WORKFLOWS, "workflows", label_selector="pipeline/runid")
        return found["items"], found["metadata"]["resourceVersion"]

    def deleted_workflows(self, version: str) -> Iterator[Object]:
        """The Workflows that are deleted from that version on; ends when the API server ends the watch."""
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
