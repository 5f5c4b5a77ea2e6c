"""Kubeflow Pipelines: lists of runs and experiments: pages, order, filters."""

import json
from typing import Any

import pytest
from contract.kubeflow.endpoint import Endpoint, error, only, unique


@pytest.fixture(scope="module")
def many(kfp: Endpoint) -> list[str]:
    """Create 201 experiments, which are cheaper than runs. Return their names."""
    prefix = unique("many")
    names = [f"{prefix}-{number:03d}" for number in range(201)]
    for name in names:
        answer = kfp.post("/experiments", {"display_name": name, **kfp.here})
        assert answer.ok, answer.text
    return names


@pytest.fixture(scope="module")
def five(kfp: Endpoint) -> tuple[str, list[str]]:
    """Create an experiment with five runs. Return its id and the runs' names."""
    experiment = kfp.experiment(unique("five"))
    names = [unique(f"run-{number}") for number in range(5)]
    for name in names:
        kfp.create(display_name=name, experiment_id=experiment)
    return experiment, names


def prefix(names: list[str]) -> dict[str, str]:
    return only("IS_SUBSTRING", "display_name", string_value=names[0].rpartition("-")[0])


@pytest.mark.parametrize(
    ("query", "size"), [({}, 20), ({"page_size": 7}, 7), ({"page_size": 200}, 200), ({"page_size": 999}, 200)]
)
def test_page_has_the_requested_size_up_to_200(kfp: Endpoint, many: list[str], query: dict[str, int], size: int) -> None:
    answer = kfp.get("/experiments", params={**kfp.here, **prefix(many), **query}).json()
    assert len(answer["experiments"]) == size
    assert answer["total_size"] == 201
    assert answer["next_page_token"]


@pytest.mark.parametrize("order", ["created_at desc", "created_at asc", "display_name", "display_name DESC", ""])
def test_pages_contain_every_run_once(kfp: Endpoint, five: tuple[str, list[str]], order: str) -> None:
    experiment, names = five
    found: list[str] = []
    query: dict[str, Any] = {"experiment_id": experiment, "page_size": 2, "sort_by": order}
    while True:
        answer = kfp.get("/runs", params=query).json()
        found += [run["display_name"] for run in answer["runs"]]
        if "next_page_token" not in answer:
            break
        assert len(answer["runs"]) == 2
        query = {"experiment_id": experiment, "page_size": 2, "page_token": answer["next_page_token"]}
    assert sorted(found) == sorted(names)
    if order.startswith("display_name"):
        assert found == sorted(names, reverse="DESC" in order)


def test_page_token_is_valid_with_its_filter_and_order(kfp: Endpoint, many: list[str]) -> None:
    query = {**kfp.here, **prefix(many), "sort_by": "created_at asc", "page_size": "150"}
    first = kfp.get("/experiments", params=query).json()
    rest = kfp.get("/experiments", params={**query, "page_token": first["next_page_token"]}).json()
    assert "next_page_token" not in rest
    assert len(first["experiments"] + rest["experiments"]) == 201


def test_page_token_of_another_list_is_refused(kfp: Endpoint, many: list[str]) -> None:
    query = {**kfp.here, "sort_by": "display_name", "page_size": "2"}
    token = kfp.get("/experiments", params=query).json()["next_page_token"]
    other = {**kfp.here, "page_token": token, "sort_by": "created_at"}
    assert "does not match" in error(kfp.get("/experiments", params=other), 400, 3)
    assert "page token" in error(kfp.get("/experiments", params={**kfp.here, "page_token": "x"}), 400, 3)


def test_runs_are_found_by_name(kfp: Endpoint, five: tuple[str, list[str]]) -> None:
    for name in five[1]:
        assert [run["display_name"] for run in kfp.listed(**only("EQUALS", "display_name", string_value=name))] == [name]
    assert kfp.listed(**only("EQUALS", "display_name", string_value=unique("nobody"))) == []


def test_empty_list_has_no_fields(kfp: Endpoint) -> None:
    query = only("EQUALS", "display_name", string_value=unique("nobody"))
    assert kfp.get("/runs", params={**kfp.here, **query}).json() == {}


def test_filters_select_runs(kfp: Endpoint, five: tuple[str, list[str]]) -> None:
    experiment, names = five

    def found(*wanted: tuple[str, str, dict[str, Any]]) -> list[str]:
        predicates = [{"operation": operation, "key": key, **value} for operation, key, value in wanted]
        query = {"experiment_id": experiment, "sort_by": "display_name", "filter": json.dumps({"predicates": predicates})}
        answer = kfp.get("/runs", params=query)
        assert answer.ok, answer.text
        return [run["display_name"] for run in answer.json().get("runs", [])]

    expected = sorted(names)
    assert found(("EQUALS", "display_name", {"string_value": names[0]})) == [names[0]]
    assert found(("EQUALS", "display_name", {"stringValue": names[0]})) == [names[0]]
    assert len(found(("NOT_EQUALS", "display_name", {"string_value": names[0]}))) == 4
    assert found(("IS_SUBSTRING", "display_name", {"string_value": "run-"})) == expected
    assert found(("IN", "display_name", {"string_values": {"values": [names[1], names[3], "other"]}})) == [names[1], names[3]]
    assert found(("GREATER_THAN", "created_at", {"timestamp_value": "2000-01-01T00:00:00Z"})) == expected
    assert found(("LESS_THAN_EQUALS", "created_at", {"long_value": "946684800"})) == []
    assert found(("EQUALS", "storage_state", {"string_value": "AVAILABLE"})) == expected
    assert found(("EQUALS", "experiment_id", {"string_value": experiment})) == expected
    two = [("EQUALS", "display_name", {"string_value": names[0]}), ("EQUALS", "state", {"string_value": "SKIPPED"})]
    assert found(*two) == []


def test_active_runs_are_found_by_state(kfp: Endpoint) -> None:
    name = kfp.create()["display_name"]
    active = {"values": ["PENDING", "RUNNING", "CANCELING", "PAUSED"]}
    states = {"operation": "IN", "key": "state", "string_values": active}
    named = {"operation": "EQUALS", "key": "display_name", "string_value": name}

    def found(*predicates: dict[str, Any]) -> list[str]:
        return [run["display_name"] for run in kfp.listed(filter=json.dumps({"predicates": predicates}))]

    assert found(states, named) == [name]
    ended = {**states, "string_values": {"values": ["SKIPPED", "CANCELED"]}}
    assert found(ended, named) == []


def test_filter_is_unescaped_twice(kfp: Endpoint) -> None:
    tail = unique("")
    for name in (f"a b{tail}", f"a+b{tail}"):
        kfp.create(display_name=name)

    def found(value: str) -> list[str]:
        return [run["display_name"] for run in kfp.listed(**only("EQUALS", "display_name", string_value=value))]

    assert found(f"a+b{tail}") == [f"a b{tail}"]
    assert found(f"a%2Bb{tail}") == [f"a+b{tail}"]
    broken = {**kfp.here, **only("EQUALS", "display_name", string_value="100%")}
    assert "invalid URL escape" in error(kfp.get("/runs", params=broken), 400, 3)


@pytest.mark.parametrize(
    ("query", "named"),
    [
        (only("EQUALS", "colour", string_value="red"), "colour"),
        (only("RESEMBLES", "state", string_value="red"), "RESEMBLES"),
        (only("EQUALS", "state", colour_value="red"), "colour_value"),
        (only("EQUALS", "state"), "Filter.Predicate.Value"),
        (only("EQUALS", "", string_value="red"), "key cannot be empty"),
        (only("IN", "state", string_value="red"), "IN operator"),
        (only("EQUALS", "state", string_values={"values": ["red"]}), "scalar operator"),
        (only("EQUALS", "created_at", long_value="soon"), "long_value"),
        (only("EQUALS", "state", string_value="a", int_value=1), "oneof"),
        ({"filter": '{"predicate": []}'}, "predicate"),
        ({"filter": "state=RUNNING"}, "syntax error"),
        ({"sort_by": "colour"}, "colour"),
        ({"sort_by": "created_at down"}, "created_at down"),
        ({"page_size": "-1"}, "page size"),
        ({"page_size": "few"}, "page_size"),
    ],
)
def test_invalid_list_request_is_refused(kfp: Endpoint, query: dict[str, str], named: str) -> None:
    assert named in error(kfp.get("/runs", params={**kfp.here, **query}), 400, 3)


def test_experiments_are_found_by_name(kfp: Endpoint) -> None:
    name = unique("tasting 1.0")
    experiment = kfp.experiment(name)
    answer = kfp.get("/experiments", params={**kfp.here, **only("EQUALS", "display_name", string_value=name), "page_size": "1"})
    assert [one["experiment_id"] for one in answer.json()["experiments"]] == [experiment]
