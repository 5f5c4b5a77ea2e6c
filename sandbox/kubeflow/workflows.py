"""A run's Argo Workflow: its content, and the detection of its deletion.

`runs` and `worker` write it; operators watch it to be woken, by its label `pipeline/runid`. The authority stays the run.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from .cluster import Cluster, Object
from .store import Row, Store

_PHASES = {"PENDING": "Pending", "RUNNING": "Running", "SUCCEEDED": "Succeeded", "FAILED": "Failed"}
_RUN_LABEL, _PHASE_LABEL = "pipeline/runid", "workflows.argoproj.io/phase"
_COMPLETED_LABEL, _KEPT_LABEL = "workflows.argoproj.io/completed", "pipeline/persistedFinalState"
_AGAIN_SECONDS = 2.0  # between attempts to reach a cluster that does not answer
log = logging.getLogger(__name__)


def new_workflow(run: Row) -> Object:
    """Return the Workflow of a new run."""
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Workflow",
        "metadata": {
            "name": run["workflow"],
            "namespace": run["k8s_namespace"],
            "labels": {_RUN_LABEL: run["run_id"]},
            "annotations": {"pipelines.kubeflow.org/run_name": run["display_name"]},
        },
        "spec": {"entrypoint": "entrypoint", "serviceAccountName": run["service_account"]},
    }


def stopping() -> Object:
    """Return Kubeflow's patch that terminates a Workflow."""
    return {"spec": {"activeDeadlineSeconds": 0}}


def progress(state: str, nodes: list[Row]) -> Object:
    """Return Argo's patch that sets a Workflow to a run's state. A null removes a label."""
    phase, over = _PHASES[state], state in ("SUCCEEDED", "FAILED")
    time = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    status: dict[str, Any] = {"phase": phase, "finishedAt": time if over else None}
    if over:
        status["nodes"] = nodes_of(nodes)
    labels = {_PHASE_LABEL: phase, _COMPLETED_LABEL: "true" if over else "false", _KEPT_LABEL: None}
    patch: Object = {"metadata": {"labels": labels}, "status": status}
    if not over:
        patch["spec"] = {"activeDeadlineSeconds": None}
    return patch


def recorded() -> Object:
    """Return Kubeflow's patch that marks a Workflow whose end it has recorded, some time after Argo's."""
    return {"metadata": {"labels": {_KEPT_LABEL: "true"}}}


def nodes_of(nodes: list[Row], only: str = "") -> dict[str, Object]:
    """Return a run's nodes as Argo writes them, or only the one with an id. The first is the Workflow's own."""
    by_pod, workflow = {node["pod_name"]: node for node in nodes}, nodes[0]["pod_name"] if nodes else ""
    return {node["pod_name"]: _node(node, by_pod, workflow) for node in nodes if only in ("", node["task_id"])}


def _node(node: Row, by_pod: Mapping[str, Row], workflow: str) -> Object:
    parts = [workflow, "root", node["display_name"]]
    if node["display_name"] == "executor" and node["parent"] in by_pod:
        parts.insert(2, by_pod[node["parent"]]["display_name"])
    name = workflow if node["pod_name"] == workflow else ".".join(parts)
    about = {"id": node["pod_name"], "name": name, "displayName": node["display_name"]}
    about |= {"type": node["kind"], "phase": _PHASES[node["state"]], "message": node["message"]}
    return {name: value for name, value in about.items() if value}


class WorkflowWatch:
    """Watches the Workflows of active runs in a thread of its own."""

    def __init__(self, cluster: Cluster, store: Store, lost: Callable[[str], None]) -> None:
        """Take the callback for the id of a run whose Workflow was deleted."""
        self._cluster = cluster
        self._store = store
        self._lost = lost
        self._started = threading.Lock()

    def start(self) -> None:
        """Start the watch unless it is running."""
        if self._started.acquire(blocking=False):
            threading.Thread(target=self._watch, name="workflows", daemon=True).start()

    def _watch(self) -> None:
        pause = threading.Event()
        while True:
            try:
                self._watch_once()
            except Exception as error:  # any network error: the sandbox may restart its API server
                log.warning("watching Workflows: %s; again in %s s", error, _AGAIN_SECONDS)
                pause.wait(_AGAIN_SECONDS)

    def _watch_once(self) -> None:
        # read before listing, so that a run created meanwhile is not taken for one without a Workflow
        expected = self._store.rows(
            "SELECT run_id, workflow, k8s_namespace FROM runs WHERE has_workflow AND NOT workflow_lost "
            "AND state IN ('PENDING', 'RUNNING')"
        )
        items, version = self._cluster.list_workflows()
        there = {(item["metadata"]["namespace"], item["metadata"]["name"]) for item in items}
        for run in expected:
            if (run["k8s_namespace"], run["workflow"]) not in there:
                self._lost(run["run_id"])
        for gone in self._cluster.deleted_workflows(version):
            self._lost(gone["metadata"]["labels"][_RUN_LABEL])
