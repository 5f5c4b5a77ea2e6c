"""Runs, experiments and the nodes of runs, in sqlite. The server and every worker write here; nothing is cached.

A connection is opened for each operation (0.1 ms), so that nothing is shared between threads or across a fork. What must
not happen twice (a worker claiming a run, a run reaching its end) is a conditional update.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

Row = dict[str, Any]

ACTIVE = ("PENDING", "RUNNING")
FINISHED = ("SUCCEEDED", "FAILED")

# Names regardless of case, as in the MySQL that Kubeflow comes with.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS experiments (
  experiment_id TEXT PRIMARY KEY, display_name TEXT NOT NULL COLLATE NOCASE, description TEXT NOT NULL, namespace TEXT NOT NULL,
  created_at INTEGER NOT NULL, last_run_created_at INTEGER NOT NULL DEFAULT 0,
  storage_state TEXT NOT NULL DEFAULT 'AVAILABLE', UNIQUE (display_name, namespace));
CREATE TABLE IF NOT EXISTS runs (
  run_id TEXT PRIMARY KEY, display_name TEXT NOT NULL COLLATE NOCASE, description TEXT NOT NULL, namespace TEXT NOT NULL,
  experiment_id TEXT NOT NULL, service_account TEXT NOT NULL, recurring_run_id TEXT NOT NULL DEFAULT '',
  storage_state TEXT NOT NULL DEFAULT 'AVAILABLE', state TEXT NOT NULL, state_history TEXT NOT NULL,
  created_at INTEGER NOT NULL, scheduled_at INTEGER NOT NULL, finished_at INTEGER NOT NULL DEFAULT 0,
  pipeline_spec TEXT NOT NULL, runtime_config TEXT NOT NULL,
  k8s_namespace TEXT NOT NULL, workflow TEXT NOT NULL, has_workflow INTEGER NOT NULL DEFAULT 0,
  workflow_lost INTEGER NOT NULL DEFAULT 0,
  attempt INTEGER NOT NULL DEFAULT 1, worker_pid INTEGER, worker_started INTEGER);
CREATE INDEX IF NOT EXISTS runs_by_namespace ON runs (namespace, created_at);
CREATE INDEX IF NOT EXISTS runs_by_experiment ON runs (experiment_id, created_at);
CREATE TABLE IF NOT EXISTS nodes (
  task_id TEXT PRIMARY KEY, run_id TEXT NOT NULL REFERENCES runs ON DELETE CASCADE, pod_name TEXT NOT NULL,
  display_name TEXT NOT NULL, kind TEXT NOT NULL, state TEXT NOT NULL, state_history TEXT NOT NULL,
  started_at INTEGER NOT NULL, finished_at INTEGER, parent TEXT NOT NULL, message TEXT NOT NULL DEFAULT '');
CREATE INDEX IF NOT EXISTS nodes_by_run ON nodes (run_id);
"""


def now() -> int:
    """Return the seconds since 1970, Kubeflow's precision."""
    return int(time.time())


def with_state(history: str, state: str) -> str:
    """Return a state history with one more entry, unless it already ends in that state."""
    entries: list[Row] = json.loads(history)
    if not entries or entries[-1]["state"] != state:
        entries.append({"update_time": now(), "state": state})
    return json.dumps(entries)


class Store:
    """The database in a state folder."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "kubeflow.sqlite"

    def create(self) -> sqlite3.Connection:
        """Create the tables. Keep the returned connection open: closing the last one is slow."""
        connection = self._connect()
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(_SCHEMA)
        return connection

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=30, isolation_level=None, check_same_thread=False)
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA foreign_keys = ON")
        return connection

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with closing(self._connect()) as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    def rows(self, sql: str, values: Sequence[object] = ()) -> list[Row]:
        """Return the rows of a query."""
        with closing(self._connect()) as connection:
            return [dict(row) for row in connection.execute(sql, values)]

    def write(self, sql: str, values: Sequence[object] = ()) -> int:
        """Execute one statement. Return the number of changed rows."""
        with self._writing() as connection:
            return connection.execute(sql, values).rowcount

    def insert(self, table: str, row: Row) -> None:
        """Add a row. Raises `sqlite3.IntegrityError` if its key exists."""
        marks = ", ".join("?" * len(row))
        self.write(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", list(row.values()))  # noqa: S608 - our own columns

    def run(self, run_id: str) -> Row | None:
        """Return one run."""
        found = self.rows("SELECT * FROM runs WHERE run_id = ?", [run_id])
        return found[0] if found else None

    def nodes(self, run_id: str) -> list[Row]:
        """Return a run's nodes in the order of their start."""
        return self.rows("SELECT * FROM nodes WHERE run_id = ? ORDER BY rowid", [run_id])

    def move(self, run_id: str, to: str, only_from: Sequence[str], attempt: int | None = None) -> bool:
        """Set a run's state, its history and `finished_at`.

        Only where it is in one of the states `only_from`, and in that attempt if one is given: whether it was.
        """
        with self._writing() as connection:
            row = connection.execute("SELECT * FROM runs WHERE run_id = ?", [run_id]).fetchone()
            if row is None or row["state"] not in only_from or attempt not in (None, row["attempt"]):
                return False
            connection.execute(
                "UPDATE runs SET state = ?, state_history = ?, finished_at = ? WHERE run_id = ?",
                [to, with_state(row["state_history"], to), now() if to in FINISHED else 0, run_id],
            )
            return True

    def claim(self, run_id: str, attempt: int, pid: int, started: int) -> bool:
        """Record a process as the only worker of an attempt. Return False if there is one already, or the run has ended."""
        claimed = self.write(
            "UPDATE runs SET worker_pid = ?, worker_started = ? "
            "WHERE run_id = ? AND attempt = ? AND worker_pid IS NULL AND NOT workflow_lost "
            "AND state IN ('PENDING', 'RUNNING')",
            [pid, started, run_id, attempt],
        )
        return claimed == 1

    def next_attempt(self, run_id: str) -> int | None:
        """Restart a failed run, without the nodes that did not succeed. Return the number of the new attempt."""
        with self._writing() as connection:
            row = connection.execute("SELECT * FROM runs WHERE run_id = ? AND state = 'FAILED'", [run_id]).fetchone()
            if row is None:
                return None
            connection.execute(
                "UPDATE runs SET attempt = attempt + 1, worker_pid = NULL, worker_started = NULL, state = 'RUNNING', "
                "state_history = ?, finished_at = 0 WHERE run_id = ?",
                [with_state(row["state_history"], "RUNNING"), run_id],
            )
            connection.execute("DELETE FROM nodes WHERE run_id = ? AND state != 'SUCCEEDED'", [run_id])
            return int(row["attempt"]) + 1

    def move_node(self, task_id: str, to: str, message: str = "") -> None:
        """Set a node's state."""
        with self._writing() as connection:
            row = connection.execute("SELECT * FROM nodes WHERE task_id = ?", [task_id]).fetchone()
            if row is not None:
                finished = now() if to in FINISHED else None
                connection.execute(
                    "UPDATE nodes SET state = ?, state_history = ?, finished_at = ?, message = ? WHERE task_id = ?",
                    [to, with_state(row["state_history"], to), finished, message, task_id],
                )

    def fail_open_nodes(self, run_id: str, message: str) -> None:
        """Fail every node that has not ended, because their processes have ended."""
        for node in self.nodes(run_id):
            if node["state"] not in FINISHED:
                self.move_node(node["task_id"], "FAILED", message)
