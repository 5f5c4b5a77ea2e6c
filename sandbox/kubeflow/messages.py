"""The messages of the API as JSON: requests checked as protobuf would, answers with empty fields left out.

Source: backend/api/v2beta1/{run,experiment}.proto and server/api_converter.go.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from .errors import undecodable
from .store import Row

#: field -> what its value has to be; `text` also stands for timestamps and enumerations, which clients do not send
_RUN = dict.fromkeys(
    ("experiment_id", "run_id", "display_name", "storage_state", "description", "service_account", "state"), "text"
) | {
    "pipeline_version_id": "text",
    "recurring_run_id": "text",
    "created_at": "text",
    "scheduled_at": "text",
    "finished_at": "text",
    "pipeline_spec": "struct",
    "pipeline_version_reference": {"pipeline_id": "text", "pipeline_version_id": "text"},
    "runtime_config": {"parameters": "struct", "pipeline_root": "text"},
    "error": "struct",
    "run_details": "struct",
    "state_history": [{"update_time": "text", "state": "text", "error": "struct"}],
    "plugins_input": "struct",
    "plugins_output": "struct",
}
_EXPERIMENT = dict.fromkeys(
    ("experiment_id", "display_name", "description", "created_at", "namespace", "storage_state", "last_run_created_at"),
    "text",
)
_KINDS: dict[str, type] = {"text": str, "struct": dict}


def run_request(body: bytes) -> dict[str, Any]:
    """Read the run of a create request. Raises `ApiError` 400 if it is invalid."""
    request = _checked(_decoded(body), _RUN)
    sources = [name for name in ("pipeline_version_id", "pipeline_spec", "pipeline_version_reference") if name in request]
    if len(sources) > 1:
        oneof = "kubeflow.pipelines.backend.api.v2beta1.Run.pipeline_source"
        raise undecodable(f'(line 1:2): error parsing "{sources[1]}", oneof {oneof} is already set')
    return request


def experiment_request(body: bytes) -> dict[str, Any]:
    """Read the experiment of a create request. Raises `ApiError` 400 if it is invalid."""
    return _checked(_decoded(body), _EXPERIMENT)


def _decoded(body: bytes) -> Any:
    try:
        return _as_numbers(json.loads(body or b"{}"))
    except ValueError as error:
        raise undecodable(f"syntax error (line 1:1): {error}") from None


def _as_numbers(value: Any) -> Any:
    """Format every number as protobuf's `Value` does: a float without a fraction has no point."""
    if isinstance(value, dict):
        return {key: _as_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_as_numbers(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 1e21 else value


def _checked(value: Any, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return a message's fields by their proto names. Both spellings are accepted, `displayName` and `display_name`."""
    if not isinstance(value, dict):
        raise undecodable(f"syntax error (line 1:1): unexpected token {json.dumps(value)}")
    message: dict[str, Any] = {}
    for given, item in value.items():
        name = re.sub(r"[A-Z]", lambda letter: "_" + letter[0].lower(), given)
        if name not in fields:
            raise undecodable(f'(line 1:2): unknown field "{given}"')
        if name in message:
            raise undecodable(f'(line 1:2): duplicate field "{given}"')
        if item is None:
            continue
        kind = fields[name]
        if isinstance(kind, Mapping):
            message[name] = _checked(item, kind)
        elif isinstance(kind, list) and isinstance(item, list):
            message[name] = [_checked(one, kind[0]) for one in item]
        elif isinstance(kind, str) and isinstance(item, _KINDS[kind]):
            message[name] = item
        else:
            raise undecodable(f"(line 1:2): invalid value for field {given}: {json.dumps(item)}")
    return message


def time_text(seconds: int | None) -> str:
    """Format a time as protobuf does. An unset time is Go's zero for a node, and 1970 for a run."""
    if seconds is None:
        return "0001-01-01T00:00:00Z"
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _filled(message: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in message.items() if value not in ("", None, {}, [], 0)}


def _history(entries: str) -> list[Row]:
    return [{"update_time": time_text(one["update_time"]), "state": one["state"]} for one in json.loads(entries)]


def run_message(run: Row, nodes: list[Row]) -> dict[str, Any]:
    """Return a run as the API shows it. Outputs and errors of tasks are empty on the real server, too."""
    config = json.loads(run["runtime_config"])
    return _filled(
        {
            "experiment_id": run["experiment_id"],
            "run_id": run["run_id"],
            "display_name": run["display_name"],
            "storage_state": run["storage_state"],
            "description": run["description"],
            "pipeline_spec": json.loads(run["pipeline_spec"]),
            "runtime_config": _filled(config),
            "service_account": run["service_account"],
            "created_at": time_text(run["created_at"]),
            "scheduled_at": time_text(run["scheduled_at"]),
            "finished_at": time_text(run["finished_at"]),
            "state": run["state"],
            "run_details": _filled({"task_details": [_task_message(node, nodes) for node in nodes]}),
            "recurring_run_id": run["recurring_run_id"],
            "state_history": _history(run["state_history"]),
        }
    )


def _task_message(node: Row, nodes: list[Row]) -> dict[str, Any]:
    return _filled(
        {
            "run_id": node["run_id"],
            "task_id": node["task_id"],
            "display_name": node["display_name"],
            "create_time": time_text(node["started_at"]),
            "start_time": time_text(node["started_at"]),
            "end_time": time_text(node["finished_at"]),
            "state": node["state"],
            "state_history": _history(node["state_history"]),
            "child_tasks": [{"pod_name": one["pod_name"]} for one in nodes if one["parent"] == node["pod_name"]],
        }
    )


def experiment_message(experiment: Row) -> dict[str, Any]:
    """Return an experiment as the API shows it."""
    return _filled(
        {
            "experiment_id": experiment["experiment_id"],
            "display_name": experiment["display_name"],
            "description": experiment["description"],
            "created_at": time_text(experiment["created_at"]),
            "namespace": experiment["namespace"],
            "storage_state": experiment["storage_state"],
            "last_run_created_at": time_text(experiment["last_run_created_at"]),
        }
    )


def list_message(name: str, items: list[dict[str, Any]], total: int, next_token: str) -> dict[str, Any]:
    """Return a page of a list."""
    return _filled({name: items, "total_size": total, "next_page_token": next_token})
