"""Experiments, to which runs belong. In multi-user mode, an experiment determines the namespace.

Source: backend/src/apiserver/server/experiment_server.go.
"""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Mapping
from typing import Any

from . import filters, messages
from .auth import Caller, Gate
from .errors import ApiError, during, internal, invalid, not_found
from .store import Row, Store, now


class Experiments:
    """The experiment service."""

    def __init__(self, store: Store, gate: Gate) -> None:
        self._store = store
        self._gate = gate
        if not gate.multi_user:
            self._default()

    def create(self, caller: Caller, body: bytes) -> dict[str, Any]:
        """`POST /experiments`."""
        request = messages.experiment_request(body)
        name = request.get("display_name", "")
        if not name:
            raise internal(
                "[ExperimentServer]: Failed to create a experiment due to conversion error: "
                "Failed to convert API experiment to model experiment: Invalid input error: Experiment must have a "
                "non-empty name"
            )
        namespace = request.get("namespace", "") if self._gate.multi_user else ""
        with during("Failed to create a experiment: Failed to authorize the request"):
            self._check(caller, "create", namespace, name)
        with during("Failed to create a experiment"):
            return messages.experiment_message(self._add(name, request.get("description", ""), namespace))

    def get(self, caller: Caller, experiment_id: str) -> dict[str, Any]:
        """`GET /experiments/{id}`."""
        with during("Failed to fetch experiment"):
            found = self.find(experiment_id)
            self._check(caller, "get", found["namespace"], found["display_name"])
        return messages.experiment_message(found)

    def list(self, caller: Caller, query: Mapping[str, str]) -> dict[str, Any]:
        """`GET /experiments`."""
        namespace = query.get("namespace", "") if self._gate.multi_user else ""
        with during("List experiments failed: Failed to authorize with API"):
            self._check(caller, "list", namespace)
        with during("Failed to create list options"):
            column = "namespace" if self._gate.multi_user else ""
            page = filters.find(self._store, filters.EXPERIMENTS, query, column, namespace)
        found = [messages.experiment_message(row) for row in page.rows]
        return messages.list_message("experiments", found, page.total, page.next_token)

    def find(self, experiment_id: str) -> Row:
        """Return an experiment by id. Raises `ApiError` 404."""
        found = self._store.rows("SELECT * FROM experiments WHERE experiment_id = ?", [experiment_id])
        if not found:
            raise not_found("Experiment", experiment_id)
        return found[0]

    def of_run(self, experiment_id: str) -> Row:
        """Return the experiment of a new run: the one it names or, in single-user mode, the default one."""
        if not experiment_id:
            if self._gate.multi_user:
                raise invalid("Experiment id can not be empty in multi-user mode")
            return self._default()
        with during(
            f"Failed to fetch namespace for experiment {experiment_id}: Failed to fetch namespace from experiment {experiment_id}"
        ):
            return self.find(experiment_id)

    def _default(self) -> Row:
        known = self._store.rows("SELECT * FROM experiments WHERE display_name = 'Default' AND namespace = ''")
        about = "All runs created without specifying an experiment will be grouped here."
        return known[0] if known else self._add("Default", about, "")

    def _add(self, name: str, description: str, namespace: str) -> Row:
        row: Row = {"experiment_id": str(uuid.uuid4()), "display_name": name, "description": description}
        row |= {"namespace": namespace, "created_at": now(), "last_run_created_at": 0, "storage_state": "AVAILABLE"}
        try:
            self._store.insert("experiments", row)
        except sqlite3.IntegrityError:
            raise ApiError(
                6, f"Failed to create a new experiment. The name {name} already exists. Please specify a new name"
            ) from None
        return row

    def _check(self, caller: Caller, verb: str, namespace: str, name: str = "") -> None:
        if self._gate.multi_user and not namespace:
            raise invalid("An experiment cannot have an empty namespace in multi-user mode")
        self._gate.check(caller, verb, "experiments", namespace, name)
