"""The REST of the Kubeflow stand-in, without a cluster: what it answers to right and wrong requests."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from kubeflow_support import Server, compiled, error, serving, two_steps, with_secret

# A parameter of this run is missing a step's folder: these runs never get anywhere, and need not.
PARAMETERS = {"folder": "/nonexistent", "text": "t"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("single user")) as server:
        yield server


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("multi"), "--multi-user") as server:
        yield server


@pytest.fixture(scope="module")
def many(shared: Server) -> str:
    """An experiment with 205 finished and unfinished runs."""
    experiment = shared.post("/experiments", {"display_name": "many", "namespace": "crowd"}).json()["experiment_id"]
    for number in range(205):
        shared.submit(two_steps, PARAMETERS, display_name=f"run-{number:03d}", experiment_id=experiment)
    return str(experiment)


def body(**more: Any) -> dict[str, Any]:
    return {"display_name": "x", "pipeline_spec": compiled(two_steps), "runtime_config": {"parameters": PARAMETERS}} | more


def test_health(server: Server, shared: Server) -> None:
    assert set(server.get("/healthz").json()) == {"commit_sha", "tag_name", "multi_user", "pipeline_store"}
    assert [one.get("/healthz").json()["multi_user"] for one in (server, shared)] == [False, True]


def test_a_new_run(server: Server) -> None:
    answer = server.post("/runs", body(description="why", service_account="steps")).json()
    created = datetime.fromisoformat(answer["created_at"])
    assert abs((datetime.now(UTC) - created).total_seconds()) < 30
    assert answer["state"] == "PENDING"
    assert answer["storage_state"] == "AVAILABLE"
    assert answer["finished_at"] == "1970-01-01T00:00:00Z"
    assert [entry["state"] for entry in answer["state_history"]] == ["PENDING"]
    assert (answer["description"], answer["service_account"]) == ("why", "steps")
    assert answer["runtime_config"] == {"parameters": PARAMETERS}
    assert answer["pipeline_spec"] == compiled(two_steps)
    for left_out in ("error", "run_details", "recurring_run_id", "pipeline_version_reference"):
        assert left_out not in answer
    experiment = server.get(f"/experiments/{answer['experiment_id']}").json()
    assert (experiment["display_name"], experiment["last_run_created_at"]) == ("Default", answer["created_at"])


def test_two_documents_come_back_as_they_were_sent(server: Server) -> None:
    answer = server.post("/runs", body(pipeline_spec=compiled(with_secret), runtime_config={"parameters": {"folder": "f"}}))
    assert set(answer.json()["pipeline_spec"]) == {"pipeline_spec", "platform_spec"}
    assert answer.json()["pipeline_spec"] == compiled(with_secret)


def test_names_are_not_unique(server: Server) -> None:
    first, second = (server.post("/runs", body(display_name="twice")).json()["run_id"] for _ in range(2))
    assert first != second


def test_both_spellings_of_a_field_are_read_and_one_is_written(server: Server) -> None:
    camel = {"displayName": "c", "pipelineSpec": compiled(two_steps), "runtimeConfig": {"parameters": PARAMETERS}}
    assert server.post("/runs", camel).json()["display_name"] == "c"


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"text": "t"}, "folder"),
        ({**PARAMETERS, "colour": "red"}, "colour"),
        ({**PARAMETERS, "text": 5}, "text"),
        ({**PARAMETERS, "number": "five"}, "number"),
        ({**PARAMETERS, "number": True}, "number"),
        ({**PARAMETERS, "wanted": 1}, "wanted"),
        ({**PARAMETERS, "about": [1]}, "about"),
    ],
)
def test_a_parameter_that_does_not_fit_is_named(server: Server, given: dict[str, Any], named: str) -> None:
    answer = server.post("/runs", body(runtime_config={"parameters": given}))
    assert named in error(answer, 400, 3)
    assert named in answer.json()["details"][0]["message"]


@pytest.mark.parametrize(
    "more", [{"colour": "red"}, {"runtime_config": {"colour": "red"}}, {"pipeline_version_reference": {"colour": "red"}}]
)
def test_an_unknown_field_is_refused(server: Server, more: dict[str, Any]) -> None:
    assert "colour" in error(server.post("/runs", body(**more)), 400, 3)


@pytest.mark.parametrize("sent", [b"{", b"[]", b'{"display_name": 5}', b'{"runtime_config": "x"}'])
def test_what_is_no_run_is_refused(server: Server, sent: bytes) -> None:
    answer = server.session.post(server.url("/runs"), data=sent, timeout=30)
    assert "proto" in error(answer, 400, 3)


@pytest.mark.parametrize(
    "more",
    [
        {"display_name": ""},
        {"pipeline_spec": {}},
        {"pipeline_spec": {"pipelineInfo": {"name": "x"}}},
        {"pipeline_spec": {**compiled(two_steps), "schemaVersion": "2.0.0"}},
        {"pipeline_spec": {**compiled(two_steps), "colour": "red"}},
    ],
)
def test_what_the_real_server_fails_at_internally(server: Server, more: dict[str, Any]) -> None:
    answer = server.post("/runs", body(**more))
    error(answer, 500, 13)
    assert answer.json()["details"][0]["message"] == "Internal Server Error"


def test_what_is_not_there(server: Server) -> None:
    for answer in (server.get("/runs/none"), server.delete("/runs/none"), server.get("/experiments/none")):
        assert "none not found" in error(answer, 404, 5)
    for verb in ("terminate", "retry", "archive", "unarchive"):
        error(server.post(f"/runs/none:{verb}"), 404, 5)
    error(server.get("/colours"), 404, 5)
    error(server.session.put(server.url("/runs"), timeout=30), 501, 12)
    error(server.post("/runs", body(experiment_id="none")), 404, 5)


def test_archive_and_back(server: Server) -> None:
    run_id = server.submit(two_steps, PARAMETERS)
    for verb, state in (("archive", "ARCHIVED"), ("unarchive", "AVAILABLE")):
        assert server.post(f"/runs/{run_id}:{verb}").json() == {}
        assert server.run(run_id)["storage_state"] == state


def test_delete_takes_all_of_a_run_along(server: Server) -> None:
    run_id = server.submit(two_steps, PARAMETERS)
    server.until(run_id, "FAILED")
    folder = server.state / "runs" / run_id
    assert folder.exists()
    assert server.delete(f"/runs/{run_id}").json() == {}
    assert not folder.exists()
    error(server.get(f"/runs/{run_id}"), 404, 5)
    error(server.delete(f"/runs/{run_id}"), 404, 5)


# ---- lists


def predicates(*wanted: tuple[str, str, dict[str, Any]]) -> dict[str, str]:
    listed = [{"operation": operation, "key": key, **value} for operation, key, value in wanted]
    return {"filter": json.dumps({"predicates": listed})}


def names(server: Server, **query: Any) -> list[str]:
    answer = server.get("/runs", params=query)
    assert answer.status_code == 200, answer.text
    return [run["display_name"] for run in answer.json().get("runs", [])]


def test_an_empty_list_has_no_fields(shared: Server) -> None:
    assert shared.get("/runs", params={"namespace": "nobody"}).json() == {}


@pytest.mark.parametrize(
    ("asked", "given"), [({}, 20), ({"page_size": 7}, 7), ({"page_size": 200}, 200), ({"page_size": 999}, 200)]
)
def test_the_size_of_a_page(shared: Server, many: str, asked: dict[str, int], given: int) -> None:
    answer = shared.get("/runs", params={"experiment_id": many, **asked}).json()
    assert len(answer["runs"]) == given
    assert answer["total_size"] == 205


@pytest.mark.parametrize("order", ["created_at desc", "display_name", "display_name DESC", ""])
def test_pages_together_are_the_whole_list(shared: Server, many: str, order: str) -> None:
    found: list[str] = []
    query = {"experiment_id": many, "page_size": "60", "sort_by": order}
    while True:
        answer = shared.get("/runs", params=query).json()
        found += [run["display_name"] for run in answer["runs"]]
        if "next_page_token" not in answer:
            break
        query = {"experiment_id": many, "page_size": "60", "page_token": answer["next_page_token"]}
    assert len(found) == 205
    expected = [f"run-{number:03d}" for number in range(205)]
    assert sorted(found) == expected
    if order.startswith("display_name"):
        assert found == (expected[::-1] if "DESC" in order else expected)


def test_a_token_of_another_list_is_refused(shared: Server, many: str) -> None:
    token = shared.get("/runs", params={"experiment_id": many, "sort_by": "display_name"}).json()["next_page_token"]
    query = {"experiment_id": many, "page_token": token}
    assert "does not match" in error(shared.get("/runs", params={**query, "sort_by": "created_at"}), 400, 3)
    for forged in ("x", "e30=", "eyJzb3J0IjpbIjEiLCJBU0MiXX0="):
        assert "Invalid page token" in error(shared.get("/runs", params={**query, "page_token": forged}), 400, 3)


def test_filters(shared: Server, many: str) -> None:
    def found(*wanted: tuple[str, str, dict[str, Any]]) -> list[str]:
        return names(shared, experiment_id=many, page_size=200, sort_by="display_name", **predicates(*wanted))

    assert found(("EQUALS", "display_name", {"string_value": "run-007"})) == ["run-007"]
    assert found(("EQUALS", "display_name", {"stringValue": "run-007"})) == ["run-007"]
    assert len(found(("NOT_EQUALS", "display_name", {"string_value": "run-007"}))) == 200  # of 204
    assert len(found(("IS_SUBSTRING", "display_name", {"string_value": "run-00"}))) == 10
    assert found(("IN", "display_name", {"string_values": {"values": ["run-001", "run-003", "other"]}})) == ["run-001", "run-003"]
    both = [
        ("GREATER_THAN", "display_name", {"string_value": "run-198"}),
        ("LESS_THAN", "display_name", {"string_value": "run-201"}),
    ]
    assert found(*both) == ["run-199", "run-200"]
    assert found(("GREATER_THAN", "created_at", {"timestamp_value": "2000-01-01T00:00:00Z"}))
    assert not found(("LESS_THAN_EQUALS", "created_at", {"long_value": "946684800"}))
    run_id = shared.get("/runs", params={"experiment_id": many, "page_size": 1}).json()["runs"][0]["run_id"]
    assert len(found(("EQUALS", "run_id", {"string_value": run_id}))) == 1
    assert len(found(("EQUALS", "experiment_id", {"string_value": many}))) == 200
    assert len(found(("EQUALS", "namespace", {"string_value": "crowd"}))) == 200


def test_states_are_filtered_by_in(server: Server) -> None:
    run_id = server.submit(two_steps, PARAMETERS, display_name="will fail")
    server.until(run_id, "FAILED")
    over = predicates(
        ("EQUALS", "display_name", {"string_value": "will fail"}),
        ("IN", "state", {"string_values": {"values": ["SUCCEEDED", "FAILED"]}}),
    )
    assert names(server, **over) == ["will fail"]
    live = predicates(
        ("EQUALS", "display_name", {"string_value": "will fail"}),
        ("IN", "state", {"string_values": {"values": ["PENDING", "RUNNING"]}}),
    )
    assert names(server, **live) == []


def test_a_filter_is_unescaped_once_more(server: Server) -> None:
    for name in ("a b", "a+b"):
        server.submit(two_steps, PARAMETERS, display_name=name)
    assert names(server, **predicates(("EQUALS", "display_name", {"string_value": "a+b"}))) == ["a b"]
    assert names(server, **predicates(("EQUALS", "display_name", {"string_value": "a%2Bb"}))) == ["a+b"]
    broken = predicates(("EQUALS", "display_name", {"string_value": "100%"}))
    assert "invalid URL escape" in error(server.get("/runs", params=broken), 400, 3)


@pytest.mark.parametrize(
    ("query", "named"),
    [
        (predicates(("EQUALS", "colour", {"string_value": "red"})), "colour"),
        (predicates(("RESEMBLES", "state", {"string_value": "red"})), "RESEMBLES"),
        (predicates(("EQUALS", "state", {"colour_value": "red"})), "colour_value"),
        (predicates(("EQUALS", "state", {})), "Filter.Predicate.Value"),
        (predicates(("EQUALS", "", {"string_value": "red"})), "key cannot be empty"),
        (predicates(("IN", "state", {"string_value": "red"})), "IN operator"),
        (predicates(("EQUALS", "state", {"string_values": {"values": ["red"]}})), "scalar operator"),
        (predicates(("EQUALS", "created_at", {"long_value": "soon"})), "long_value"),
        (predicates(("EQUALS", "state", {"string_value": "a", "int_value": 1})), "oneof"),
        ({"filter": '{"predicate": []}'}, "predicate"),
        ({"filter": "state=RUNNING"}, "syntax error"),
        ({"sort_by": "colour"}, "colour"),
        ({"sort_by": "created_at down"}, "created_at down"),
        ({"page_size": "-1"}, "page size"),
        ({"page_size": "few"}, "page_size"),
    ],
)
def test_a_list_that_cannot_be_had(server: Server, query: dict[str, str], named: str) -> None:
    assert named in error(server.get("/runs", params=query), 400, 3)


# ---- experiments, and what is different with many users


def test_experiments(server: Server) -> None:
    made = server.post("/experiments", {"display_name": "tasting", "description": "d"}).json()
    assert (made["display_name"], made["description"], made["storage_state"]) == ("tasting", "d", "AVAILABLE")
    assert made["last_run_created_at"] == "1970-01-01T00:00:00Z"
    assert "namespace" not in made
    assert server.get(f"/experiments/{made['experiment_id']}").json() == made
    query = predicates(("EQUALS", "display_name", {"string_value": "tasting"}))
    assert server.get("/experiments", params=query).json() == {"experiments": [made], "total_size": 1}
    assert "already exists" in error(server.post("/experiments", {"display_name": "tasting"}), 409, 6)
    error(server.post("/experiments", {"display_name": ""}), 500, 13)
    assert "colour" in error(server.post("/experiments", {"display_name": "y", "colour": 1}), 400, 3)
    everything = server.get("/experiments", params={"sort_by": "display_name"}).json()["experiments"]
    assert [one["display_name"] for one in everything] == ["Default", "tasting"]


def test_with_many_users_an_experiment_decides_the_namespace(shared: Server) -> None:
    ids = {}
    for namespace in ("ada", "bob"):
        made = shared.post("/experiments", {"display_name": "wine", "namespace": namespace}).json()
        assert made["namespace"] == namespace
        ids[namespace] = made["experiment_id"]
        shared.submit(two_steps, PARAMETERS, display_name=f"of {namespace}", experiment_id=ids[namespace])
    assert names(shared, namespace="ada") == ["of ada"]
    assert names(shared, experiment_id=ids["bob"]) == ["of bob"]
    assert shared.get("/experiments", params={"namespace": "ada"}).json()["total_size"] == 1
    error(shared.post("/experiments", {"display_name": "wine", "namespace": "ada"}), 409, 6)


def test_with_many_users_nothing_goes_without_a_namespace(shared: Server) -> None:
    assert "Experiment id can not be empty" in error(shared.post("/runs", body()), 400, 3)
    error(shared.get("/runs"), 400, 3)
    error(shared.get("/experiments"), 400, 3)
    error(shared.post("/experiments", {"display_name": "x"}), 400, 3)


def test_nobody_says_whom_he_speaks_for(shared: Server) -> None:
    answer = shared.get("/runs", params={"namespace": "ada"}, headers={"kubeflow-userid": "ada"})
    assert (answer.status_code, answer.text) == (403, "RBAC: access denied")


def test_a_client_may_choose_the_id_of_a_run(server: Server) -> None:
    """As on the real server; a second run of that id fails there in the database."""
    chosen = "0c1f0c1e-0000-4000-8000-000000000001"
    assert server.submit(two_steps, PARAMETERS, run_id=chosen) == chosen
    error(server.post("/runs", body(run_id=chosen)), 500, 13)


def test_two_servers_do_not_share_a_state(server: Server, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="ended at once"):
        Server(server.state)
    assert server.answers()
