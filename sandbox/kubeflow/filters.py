"""Lists: paging, order and the filter language, as SQL.

Source: backend/src/apiserver/{list/list.go, filter/filter.go, server/list_request_util.go}.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import unquote_plus

from .errors import invalid
from .store import Row, Store

DEFAULT_PAGE, LARGEST_PAGE = 20, 200

_SCALARS = {"int_value": int, "long_value": int, "string_value": str, "timestamp_value": str}
_ARRAYS = {"int_values": int, "long_values": int, "string_values": str}
_OPERATORS = {
    "EQUALS": "=",
    "NOT_EQUALS": "!=",
    "GREATER_THAN": ">",
    "GREATER_THAN_EQUALS": ">=",
    "LESS_THAN": "<",
    "LESS_THAN_EQUALS": "<=",
}
_OPERATIONS = {1: "EQUALS", 2: "NOT_EQUALS", 3: "GREATER_THAN", 5: "GREATER_THAN_EQUALS", 6: "LESS_THAN"}
_OPERATIONS |= {7: "LESS_THAN_EQUALS", 8: "IN", 9: "IS_SUBSTRING"}


@dataclass(frozen=True)
class Listable:
    """A table that can be listed, with the API's names of its columns."""

    table: str
    key: str
    columns: Mapping[str, str]


RUNS = Listable(
    "runs",
    "run_id",
    {name: name for name in ("run_id", "display_name", "created_at", "finished_at", "description", "scheduled_at")}
    | {name: name for name in ("storage_state", "namespace", "experiment_id", "state", "state_history")}
    | {"recurring_run_id": "recurring_run_id", "id": "run_id", "name": "display_name", "status": "state"},
)
EXPERIMENTS = Listable(
    "experiments",
    "experiment_id",
    {name: name for name in ("experiment_id", "display_name", "created_at", "last_run_created_at", "description")}
    | {"namespace": "namespace", "storage_state": "storage_state", "id": "experiment_id", "name": "display_name"},
)


@dataclass(frozen=True)
class Page:
    """One page of a list."""

    rows: list[Row]
    total: int
    next_token: str


def find(store: Store, of: Listable, query: Mapping[str, str], column: str = "", value: str = "") -> Page:
    """Return the requested page of the rows whose `column` has `value`, or of all rows.

    Raises:
        ApiError: 400, saying which part of the query is wrong.

    """
    size = _page_size(query.get("page_size", ""))
    order = _order(of, query.get("sort_by", ""))
    where, values = _where(of, query.get("filter", ""))
    criteria = {"sort": order, "where": where, "values": values}
    after: list[Any] = []
    if token := query.get("page_token", ""):
        criteria, after, given = *_decoded(of, token), criteria
        if (query.get("sort_by") or query.get("filter")) and criteria != given:
            raise invalid(
                "page token does not match the supplied sort by and/or filtering criteria. Either specify the same "
                "criteria or leave the latter empty if page token is specified"
            )
    clauses, arguments = list(criteria["where"]), list(criteria["values"])
    if column:
        clauses.append(f"{column} = ?")
        arguments.append(value)
    matching = " WHERE " + " AND ".join(clauses) if clauses else ""
    total = store.rows(f"SELECT count(*) AS n FROM {of.table}{matching}", arguments)[0]["n"]  # noqa: S608 - of our own names
    field, direction = criteria["sort"]
    if after:
        clauses.append(f"({field}, {of.key}) {'<=' if direction == 'DESC' else '>='} (?, ?)")
        matching = " WHERE " + " AND ".join(clauses)
    rows = store.rows(
        f"SELECT * FROM {of.table}{matching} ORDER BY {field} {direction}, {of.key} {direction} LIMIT ?",  # noqa: S608 - columns and operators are checked
        [*arguments, *after, size + 1],
    )
    token = _encoded(criteria, [rows[size][field], rows[size][of.key]]) if len(rows) > size else ""
    return Page(rows[:size], total, token)


def _page_size(text: str) -> int:
    try:
        size = int(text or 0)
    except ValueError:
        raise invalid(f'parsing field "page_size": strconv.ParseInt: parsing "{text}": invalid syntax') from None
    if size < 0:
        raise invalid(f"The page size should be greater than 0. Got {size}")
    return min(size, LARGEST_PAGE) or DEFAULT_PAGE


def _order(of: Listable, text: str) -> list[str]:
    words = text.lower().split()
    if len(words) > 2 or (len(words) == 2 and words[1] not in ("asc", "desc")):
        raise invalid(
            f'Received invalid sort by format "{text}". Supported format: "field_name", "field_name desc", or "field_name asc"'
        )
    if words and words[0] not in of.columns:
        raise invalid(f'Invalid sorting field: "{words[0]}" on listable type {of.table.capitalize()[:-1]}')
    return [of.columns[words[0]] if words else "created_at", "DESC" if words[1:] == ["desc"] else "ASC"]


def _where(of: Listable, encoded: str) -> tuple[list[str], list[Any]]:
    """Return the filter as clauses and their values. The server unescapes it once more than HTTP does."""
    if not encoded:
        return [], []
    if bad := re.search(r"%(?![0-9A-Fa-f]{2}).{0,2}", encoded):
        raise _unparsed(encoded, f'invalid URL escape "{bad.group()}"')
    try:
        parsed = json.loads(unquote_plus(encoded))
    except ValueError as error:
        raise _unparsed(encoded, f"proto: syntax error: {error}") from None
    if not isinstance(parsed, dict) or not isinstance(parsed.get("predicates", []), list):
        raise _unparsed(encoded, "proto: unexpected token")
    for name in parsed.keys() - {"predicates"}:
        raise _unparsed(encoded, f'proto: (line 1:2): unknown field "{name}"')
    clauses, values = [], []
    for predicate in parsed.get("predicates", []):
        clause, arguments = _clause(of, predicate, encoded)
        clauses.append(clause)
        values += arguments
    return clauses, values


def _clause(of: Listable, predicate: object, encoded: str) -> tuple[str, list[Any]]:
    if not isinstance(predicate, dict):
        raise _unparsed(encoded, "proto: unexpected token")
    fields = {re.sub(r"(?<=[a-z])([A-Z])", lambda m: "_" + m[1].lower(), name): v for name, v in predicate.items()}
    for name in fields.keys() - {"operation", "key", *_SCALARS, *_ARRAYS}:
        raise _unparsed(encoded, f'proto: (line 1:2): unknown field "{name}"')
    named = fields.get("operation", 0)
    operation = _OPERATIONS.get(named) if isinstance(named, int) else named
    if operation is None or operation not in _OPERATIONS.values():
        if operation not in (None, "OPERATION_UNSPECIFIED"):
            raise _unparsed(encoded, f'proto: (line 1:2): invalid value for enum field operation: "{named}"')
        raise invalid("Error using Filter.Predicate.Operation with go_client.Predicate_Operation")
    given = [name for name in fields if name in _SCALARS or name in _ARRAYS]
    if len(given) != 1:
        if given:
            raise _unparsed(encoded, 'proto: (line 1:2): oneof "v2beta1.Predicate.value" is already set')
        raise invalid("Error using Filter.Predicate.Value with <nil>")
    key, value = fields.get("key", ""), _value(given[0], fields[given[0]], encoded)
    if not key:
        raise invalid(f"Predicate key cannot be empty for operation {operation} and value {value}")
    if key not in of.columns:
        raise invalid(f'no support for filtering on unrecognized field "{key}"')
    column = of.columns[key]
    if operation == "IN":
        if not isinstance(value, list):
            raise invalid(f"cannot use IN operator with scalar type {_go_type(value)}")
        return f"{column} IN ({', '.join('?' * len(value))})", value
    if isinstance(value, list):
        raise invalid(f"cannot use scalar operator {operation} on array type []{_go_type((value or [''])[0])}")
    if operation == "IS_SUBSTRING":
        if not isinstance(value, str):
            raise invalid(f"cannot use non string value type {operation} with operator {_go_type(value)}")
        return f"{column} LIKE ?", [f"%{value}%"]
    return f"{column} {_OPERATORS[operation]} ?", [value]


def _value(name: str, value: Any, encoded: str) -> Any:
    try:
        if name in _ARRAYS:
            if not isinstance(value, dict) or value.keys() - {"values"}:
                raise ValueError(value)
            return [_typed(item, _ARRAYS[name]) for item in value.get("values", [])]
        if name == "timestamp_value":
            return int(datetime.fromisoformat(value).timestamp())
        return _typed(value, _SCALARS[name])
    except (TypeError, ValueError, AttributeError):
        raise _unparsed(encoded, f"proto: (line 1:2): invalid value for field {name}: {json.dumps(value)}") from None


def _typed(value: Any, kind: type) -> Any:
    if kind is int and isinstance(value, str):
        return int(value)  # as protobuf's JSON does for 64 bits
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(value)
    return value


def _go_type(value: object) -> str:
    return "string" if isinstance(value, str) else "int64"


def _unparsed(encoded: str, why: str) -> Exception:
    return invalid(f"failed to parse valid filter from {json.dumps(encoded)}: {why}")


def _encoded(criteria: Mapping[str, Any], after: list[Any]) -> str:
    return base64.b64encode(json.dumps({**criteria, "after": after}).encode()).decode()


def _is_clause(of: Listable, clause: str) -> bool:
    column, _, condition = clause.partition(" ")
    return column in of.columns.values() and re.fullmatch(r"([!<>]?=|<|>|LIKE|IN) (\?|\([?, ]*\))", condition) is not None


def _decoded(of: Listable, token: str) -> tuple[dict[str, Any], list[Any]]:
    """Return the criteria and the first row of the next page. The token must contain a valid request."""
    try:
        content = json.loads(base64.b64decode(token, validate=True))
        after = content.pop("after")
        (field, direction), clauses = content["sort"], content["where"]
        known = field in of.columns.values() and direction in ("ASC", "DESC") and len(after) == 2
        if not known or not all(_is_clause(of, clause) for clause in clauses):
            raise ValueError(token)
    except (binascii.Error, ValueError, KeyError, TypeError, AttributeError):
        raise invalid("Invalid page token") from None
    return content, after
