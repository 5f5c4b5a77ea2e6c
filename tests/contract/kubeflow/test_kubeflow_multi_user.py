"""Kubeflow Pipelines in multi-user mode: who may do what, and that nothing goes without a namespace."""

import pytest
from contract.kubeflow.endpoint import AUDIENCE, Endpoint, error, subject, unique
from contract.kubeflow.road import Road

from winepipelines.resource.errors import Refused

MODE = "multi-user"
FOREIGN = "kfp-contract-nobody-has-rights-here"


def test_without_a_token_nothing_goes(kfp: Endpoint) -> None:
    run = kfp.create()
    for header in (None, "Bearer x", "Basic x", "Bearer "):
        headers = {"Authorization": header}
        error(kfp.get("/runs", params=kfp.here, headers=headers), 401, 16)
        error(kfp.get("/experiments", params=kfp.here, headers=headers), 401, 16)
        error(kfp.get(f"/runs/{run['run_id']}", headers=headers), 401, 16)
        error(kfp.post("/runs", kfp.body(), headers=headers), 401, 16)
        assert kfp.get("/healthz", headers=headers).ok, "but this does"


def test_a_missing_run_is_missing_for_everybody(kfp: Endpoint) -> None:
    error(kfp.get("/runs/0c1f0c1e-0000-4000-8000-00000000dead", headers={"Authorization": None}), 404, 5)


def test_a_token_for_another_audience_is_refused(kfp: Endpoint) -> None:
    other = kfp.below().token(kfp.namespace, "https://kubernetes.default.svc")
    error(kfp.get("/runs", params=kfp.here, headers={"Authorization": f"Bearer {other}"}), 401, 16)


def test_a_refusal_does_not_repeat_the_token(kfp: Endpoint) -> None:
    other = kfp.below().token(kfp.namespace, "https://kubernetes.default.svc")
    answer = kfp.get("/runs", params=kfp.here, headers={"Authorization": f"Bearer {other}"})
    assert other not in answer.text


def test_a_namespace_without_a_role_is_refused(kfp: Endpoint) -> None:
    for answer in (
        kfp.get("/runs", params={"namespace": FOREIGN}),
        kfp.get("/experiments", params={"namespace": FOREIGN}),
        kfp.post("/experiments", {"display_name": "x", "namespace": FOREIGN}),
    ):
        assert subject(kfp.token) in error(answer, 403, 7)


def test_a_fresh_token_is_as_good(kfp: Endpoint) -> None:
    fresh = kfp.below().token(kfp.namespace, AUDIENCE)
    assert fresh != kfp.token
    assert kfp.get("/runs", params=kfp.here, headers={"Authorization": f"Bearer {fresh}"}).ok


def test_a_list_needs_a_namespace(kfp: Endpoint) -> None:
    for path in ("/runs", "/experiments"):
        assert "namespace" in error(kfp.get(path), 400, 3)


def test_an_experiment_decides_the_namespace_of_a_list(kfp: Endpoint) -> None:
    name = unique("run")
    experiment = kfp.experiment(unique("experiment"))
    kfp.create(display_name=name, experiment_id=experiment)
    found = kfp.get("/runs", params={"experiment_id": experiment}).json()["runs"]
    assert [run["display_name"] for run in found] == [name]


def test_a_run_needs_an_experiment(kfp: Endpoint) -> None:
    body = {name: value for name, value in kfp.body().items() if name != "experiment_id"}
    assert "xperiment" in error(kfp.post("/runs", body), 400, 3)


def test_an_experiment_needs_a_namespace(kfp: Endpoint) -> None:
    assert "namespace" in error(kfp.post("/experiments", {"display_name": unique("x")}), 400, 3)


def test_the_workflow_is_in_the_users_namespace(kfp: Endpoint) -> None:
    run = kfp.create()
    workflow = kfp.below().workflow(run["run_id"])
    assert workflow is not None
    assert workflow["metadata"]["namespace"] == kfp.namespace


def test_the_service_account_is_the_profiles_own(kfp: Endpoint) -> None:
    assert kfp.create()["service_account"] == "default-editor"


# ---- the operator's own adapter


async def test_a_rotated_token_is_read_again(road: Road) -> None:
    adapter = road.adapter()
    for token in (road.kfp.token, road.kfp.below().token(road.kfp.namespace, AUDIENCE)):
        road.token_file.write_text(f"{token}\n")
        road.calls.clear()
        await adapter.runs_named(road.kfp.namespace, "some")
        assert {call.headers["Authorization"] for call in road.calls} == {f"Bearer {token}"}


async def test_a_refused_token_is_explained_and_not_repeated(road: Road) -> None:
    road.token_file.write_text("a-value-that-nobody-may-see")
    with pytest.raises(Refused, match="audience") as caught:
        await road.adapter().runs_named(road.kfp.namespace, "some")
    assert "a-value-that-nobody-may-see" not in caught.value.message


async def test_a_missing_right_names_who_lacks_it_and_says_the_same_each_time(road: Road) -> None:
    said = set()
    for _ in range(2):
        with pytest.raises(Refused, match=r"403.*not authorized") as caught:
            await road.adapter().runs_named(FOREIGN, "some")
        said.add(caught.value.message)
    assert len(said) == 1, "or the status would be written again and again"
