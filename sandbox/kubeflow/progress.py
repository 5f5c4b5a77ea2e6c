"""A run's nodes as Argo creates them, in the store. `task_details` of a run shows them.

For each step there are three: `<task>-driver`, the task, and in it an `executor`; above them `root-driver` and `root`,
and above all one that has the Workflow's name. Groups of tasks (conditions, loops) are not nodes here.
"""

from __future__ import annotations

import secrets
import uuid

from .store import Row, Store, now, with_state


class Progress:
    """The nodes of one run."""

    def __init__(self, store: Store, run: Row) -> None:
        self._store = store
        self._run = run
        # nodes that succeeded in an earlier attempt stay
        self._there = {(node["display_name"], node["parent"]): node for node in store.nodes(run["run_id"])}
        self._workflow = self._open(run["workflow"], "DAG", "", "RUNNING", run["workflow"])
        driver = self._open("root-driver", "Pod", run["workflow"], "SUCCEEDED")
        self._root = self._open("root", "DAG", driver["pod_name"], "RUNNING")

    def begin(self, task: str) -> tuple[Row, Row]:
        """Record the start of a step: its node, and its pod's node, which is not running yet."""
        driver = self._open(f"{task}-driver", "Pod", self._root["pod_name"], "SUCCEEDED")
        node = self._open(task, "DAG", driver["pod_name"], "RUNNING")
        return node, self._open("executor", "Pod", node["pod_name"], "PENDING")

    def running(self, pod: Row) -> None:
        """Record that a step's pod is running."""
        self._store.move_node(pod["task_id"], "RUNNING")

    def end(self, node: Row, pod: Row, state: str, message: str = "") -> None:
        """Record the end of a step."""
        self._store.move_node(pod["task_id"], state, message)
        self._store.move_node(node["task_id"], state)

    def finish(self, state: str) -> None:
        """Record the end of the run."""
        for node in (self._root, self._workflow):
            self._store.move_node(node["task_id"], state)

    def _open(self, name: str, kind: str, parent: str, state: str, pod_name: str = "") -> Row:
        if known := self._there.get((name, parent)):
            return known
        node: Row = {
            "task_id": str(uuid.uuid4()),
            "run_id": self._run["run_id"],
            "pod_name": pod_name or f"{self._run['workflow']}-{secrets.randbelow(10**10):010d}",
            "display_name": name,
            "kind": kind,
            "state": state,
            "state_history": with_state("[]", state),
            "started_at": now(),
            "finished_at": now() if state == "SUCCEEDED" else None,
            "parent": parent,
        }
        self._store.insert("nodes", node)
        return node
