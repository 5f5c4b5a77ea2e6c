"""Runs: creating, showing, ending and repeating them.

Source: backend/src/apiserver/{server/run_server.go, resource/resource_manager.go, storage/run_store.go}.
"""

from __future__ import annotations

import json
import secrets
import shutil
import signal
import sqlite3
import string
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import filters, messages, specs, workflows
from .auth import Caller, Gate
from .cluster import Cluster
from .errors import ApiError, during, internal, invalid, not_found
from .execution import Execution, kill, started_at
from .experiments import Experiments
from .store import ACTIVE, Row, Store, now, with_state

_ALPHABET = string.ascii_lowercase + string.digits


@dataclass(frozen=True)
class Settings:
    """The options of the command line for runs."""

    #: where runs are in single-user mode
    namespace: str
    #: from `:terminate` to FAILED
    terminate_seconds: float


class Runs:
    """The run service."""

    def __init__(
        self,
        state: Path,
        store: Store,
        gate: Gate,
        experiments: Experiments,
        execution: Execution,
        cluster: Cluster | None,
        settings: Settings,
    ) -> None:
        self._folder = state / "runs"
        self._store = store
        self._gate = gate
        self._experiments = experiments
        self._execution = execution
        self._cluster = cluster
        self._settings = settings
        self._watch = workflows.WorkflowWatch(cluster, store, self.workflow_lost) if cluster else None

    # ---- requests of clients

    def create(self, caller: Caller, body: bytes) -> dict[str, Any]:
        """`POST /runs`."""
        request = messages.run_request(body)
        with during("Failed to create a new run"):
            if not request.get("display_name"):
                raise internal(
                    "Failed to convert a API run detail to its internal representation: "
                    "Invalid input error: Run name cannot be empty"
                )
            with during("Failed to create a run due to invalid experimentId and namespace combination"):
                experiment = self._experiments.of_run(request.get("experiment_id", ""))
            with during("Failed to create a run due to authorization error"):
                self._gate.check(caller, "create", "runs", experiment["namespace"])
            if "pipeline_version_reference" in request or "pipeline_version_id" in request:
                raise internal("Failed to create a run due to error fetching manifest", "this stand-in keeps no pipelines")
            spec = specs.read(request.get("pipeline_spec", {}))
            specs.check_parameters(spec, request.get("runtime_config", {}).get("parameters", {}))
            run = self._new_run(request, experiment, spec)
        self._execution.order(run["run_id"], 1)
        return messages.run_message(run, [])

    def _new_run(self, request: Mapping[str, Any], experiment: Row, spec: specs.Specification) -> Row:
        time = now()
        run: Row = {name: request.get(name, "") for name in ("display_name", "description", "recurring_run_id")}
        run |= {
            # a client may choose the id, as on the real server; a second run of that id is refused below
            "run_id": request.get("run_id") or str(uuid.uuid4()),
            "namespace": experiment["namespace"],
            "experiment_id": experiment["experiment_id"],
            "service_account": request.get("service_account")
            or ("default-editor" if self._gate.multi_user else "pipeline-runner"),
            "storage_state": "AVAILABLE",
            "state": "PENDING",
            "state_history": with_state("[]", "PENDING"),
            "created_at": time,
            "scheduled_at": time,
            "finished_at": 0,
            "pipeline_spec": json.dumps(request["pipeline_spec"]),
            "runtime_config": json.dumps(request.get("runtime_config", {})),
            "k8s_namespace": experiment["namespace"] or self._settings.namespace,
            "workflow": f"{spec.name}-{''.join(secrets.choice(_ALPHABET) for _ in range(5))}",
        }
        try:
            self._store.insert("runs", run)
        except sqlite3.IntegrityError as error:
            raise internal(f"Failed to store run {run['display_name']} to table", str(error)) from None
        try:
            self._create_workflow(run)
        except Exception as error:
            self._store.write("DELETE FROM runs WHERE run_id = ?", [run["run_id"]])
            raise internal(f"Failed to create a workflow for ({run['workflow']})", str(error)) from error
        self._store.write("UPDATE experiments SET last_run_created_at = ? WHERE experiment_id = ?", [time, run["experiment_id"]])
        return run

    def _create_workflow(self, run: Row) -> None:
        if self._cluster and self._cluster.create_workflow(run["k8s_namespace"], workflows.new_workflow(run)):
            self._store.write("UPDATE runs SET has_workflow = 1 WHERE run_id = ?", [run["run_id"]])
            if self._watch:
                self._watch.start()

    def get(self, caller: Caller, run_id: str) -> dict[str, Any]:
        """`GET /runs/{id}`."""
        with during("Failed to get a run"):
            run = self._allowed(caller, "get", run_id)
        return messages.run_message(run, self._store.nodes(run_id))

    def list(self, caller: Caller, query: Mapping[str, str]) -> dict[str, Any]:
        """`GET /runs`: in multi-user mode of one namespace or experiment."""
        namespace = query.get("namespace", "") if self._gate.multi_user else ""
        experiment_id = query.get("experiment_id", "")
        with during("Failed to list runs"):
            if experiment_id:
                namespace = self._experiments.find(experiment_id)["namespace"]
            if self._gate.multi_user and not namespace:
                raise invalid("A run cannot have an empty namespace in multi-user mode")
            self._gate.check(caller, "list", "runs", namespace)
        column, value = ("experiment_id", experiment_id) if experiment_id else ("namespace", namespace)
        with during("Failed to create list options"):
            page = filters.find(self._store, filters.RUNS, query, column, value)
        found = [messages.run_message(row, self._store.nodes(row["run_id"])) for row in page.rows]
        return messages.list_message("runs", found, page.total, page.next_token)

    def delete(self, caller: Caller, run_id: str) -> dict[str, Any]:
        """`DELETE /runs/{id}`: deletes its processes, its Workflow and its folder, too."""
        with during("Failed to delete a run"):
            run = self._allowed(caller, "delete", run_id)
        self._store.write("DELETE FROM runs WHERE run_id = ?", [run_id])
        kill(run["worker_pid"], run["worker_started"], signal.SIGKILL)
        if self._cluster and run["has_workflow"]:
            self._cluster.delete_workflow(run["k8s_namespace"], run["workflow"])
        shutil.rmtree(self._folder / run_id, ignore_errors=True)
        return {}

    def terminate(self, caller: Caller, run_id: str) -> dict[str, Any]:
        """`POST /runs/{id}:terminate`: CANCELING at once, FAILED some time later."""
        with during("Failed to terminate a run"):
            run = self._allowed(caller, "terminate", run_id)
            with during(f"Failed to terminate run {run_id}"):
                if not self._store.move(run_id, "CANCELING", ACTIVE):
                    raise invalid(f"Failed to terminate a run {run_id}. Row not found")
            if not self._patch_workflow(run, workflows.stopping()):
                # no process reports the end, so the run stays CANCELING, as on the real server
                raise internal(f"Failed to terminate run {run_id} due to error terminating its workflow", "not found")
        self._stop(run_id)
        return {}

    def retry(self, caller: Caller, run_id: str) -> dict[str, Any]:
        """`POST /runs/{id}:retry`: repeats the steps that did not succeed."""
        with during("Failed to retry a run"):
            run = self._allowed(caller, "retry", run_id)
            with during(f"Failed to retry run {run_id}"):
                attempt = self._store.next_attempt(run_id)
                if attempt is None:
                    raise ApiError(10, "Workflow must be Failed/Error to retry", "workflow cannot be retried")
        if not self._patch_workflow(run, workflows.progress("RUNNING", [])):
            self._create_workflow(run)
        self._execution.order(run_id, attempt)
        return {}

    def store_away(self, caller: Caller, run_id: str, verb: str) -> dict[str, Any]:
        """`POST /runs/{id}:archive` and `:unarchive`."""
        with during(f"Failed to {verb} a run"):
            self._allowed(caller, verb, run_id)
        state = "ARCHIVED" if verb == "archive" else "AVAILABLE"
        self._store.write("UPDATE runs SET storage_state = ? WHERE run_id = ?", [state, run_id])
        return {}

    def _allowed(self, caller: Caller, verb: str, run_id: str) -> Row:
        """Return the run if it exists (404) and the caller has the right (401, 403), checked in the real server's order."""
        run = self._store.run(run_id)
        if run is None:
            with during(f"Failed to fetch run {run_id}"):
                raise not_found("Run", run_id)
        with during("Failed to authorize the request"):
            self._gate.check(caller, verb, "runs", run["namespace"], run["workflow"])
        return run

    # ---- events of runs

    def resume(self) -> None:
        """Continue the runs of an earlier server."""
        for run in self._store.rows("SELECT * FROM runs WHERE state IN ('PENDING', 'RUNNING', 'CANCELING')"):
            if run["has_workflow"] and self._watch:
                self._watch.start()
            if run["state"] == "CANCELING":
                self._stop(run["run_id"])
            elif run["worker_pid"] is None:
                self._execution.order(run["run_id"], run["attempt"])
            elif started_at(run["worker_pid"]) == run["worker_started"]:
                self._execution.watch(run["run_id"], run["attempt"], run["worker_pid"])
            else:
                self.worker_ended(run["run_id"], run["attempt"], run["worker_pid"])

    def worker_ended(self, run_id: str, attempt: int, pid: int) -> None:
        """Handle the end of a worker. It records its run's result itself; if it could not, the run has failed."""
        run = self._store.run(run_id)
        if run is None or run["state"] not in ACTIVE or run["workflow_lost"] or run["attempt"] != attempt:
            return
        if run["worker_pid"] not in (None, pid):  # that worker was second; this one is the run's
            self._execution.watch(run_id, attempt, run["worker_pid"])
        else:
            self._fail(run, "pod deleted", ACTIVE)

    def workflow_lost(self, run_id: str) -> None:
        """Handle a deleted Workflow: its pods are deleted, and nothing reports the run's end."""
        run = self._store.run(run_id)
        if run is None or run["state"] not in ACTIVE or self._patch_workflow(run, {}):
            return
        self._store.write("UPDATE runs SET workflow_lost = 1 WHERE run_id = ?", [run_id])
        kill(run["worker_pid"], run["worker_started"], signal.SIGKILL)
        self._delete_pods(run)

    def _stop(self, run_id: str) -> None:
        """End the pods of a run that is CANCELING: terminate, then kill after the grace period."""
        run = self._store.run(run_id)
        if run is not None:
            kill(run["worker_pid"], run["worker_started"], signal.SIGTERM)
            self._execution.later(self._settings.terminate_seconds, self._stopped, run_id)

    def _stopped(self, run_id: str) -> None:
        run = self._store.run(run_id)
        if run is None:
            return
        kill(run["worker_pid"], run["worker_started"], signal.SIGKILL)
        if run["state"] == "CANCELING":
            self._fail(run, "Stopped with strategy 'Terminate'", ["CANCELING"])

    def _fail(self, run: Row, message: str, only_from: Sequence[str]) -> None:
        """Fail a run without a process: its Workflow first. Without a Workflow, nothing reports the end."""
        self._store.fail_open_nodes(run["run_id"], message)
        self._delete_pods(run)
        there = self._patch_workflow(run, workflows.progress("FAILED", self._store.nodes(run["run_id"])))
        if there and self._store.move(run["run_id"], "FAILED", only_from, run["attempt"]):
            self._patch_workflow(run, workflows.recorded())

    def _delete_pods(self, run: Row) -> None:
        if self._cluster and run["has_workflow"]:
            self._cluster.delete_pods(run["k8s_namespace"], run["run_id"])

    def _patch_workflow(self, run: Row, patch: dict[str, Any]) -> bool:
        """Report whether the Workflow could be patched, or runs have none."""
        if not self._cluster or not run.get("has_workflow"):
            return True
        return self._cluster.patch_workflow(run["k8s_namespace"], run["workflow"], patch)
