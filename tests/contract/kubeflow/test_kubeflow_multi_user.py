"""Kubeflow Pipelines in multi-user mode: authorization, and the namespace that every request needs."""

import pytest
from contract.kubeflow.endpoint import AUDIENCE, Endpoint, error, subject, unique
from contract.kubeflow.proxied import ProxiedEndpoint

from winepipelines.api.errors import Refused

MODE = "multi-user"
NO_RIGHTS = "kfp-contract-nobody-has-rights-here"


def test_requests_are_refused_without_a_token(kfp: Endpoint) -> None:
    run = kfp.create()
    for header in (None, "Bearer x", "Basic x", "Bearer "):
        headers = {"Authorization": header}
        error(kfp.get("/runs", params=kfp.here, headers=headers), 401, 16)
        error(kfp.get("/experiments", params=kfp.here, headers=headers), 401, 16)
        error(kfp.get(f"/runs/{run['run_id']}", headers=headers), 401, 16)
        error(kfp.post("/runs", kfp.body(), headers=headers), 401, 16)
        assert kfp.get("/healthz", headers=headers).ok, "the health check needs no token"


def test_missing_run_is_not_found_without_a_token_too(kfp: Endpoint) -> None:
    error(kfp.get("/runs/0c1f0c1e-0000-4000-8000-00000000dead", headers={"Authorization": None}), 404, 5)


def test_token_for_another_audience_is_refused(kfp: Endpoint) -> None:
    other = kfp.below().token(kfp.namespace, "https://kubernetes.default.svc")
    error(kfp.get("/runs", params=kfp.here, headers={"Authorization": f"Bearer {other}"}), 401, 16)


def test_refusal_does_not_repeat_the_token(kfp: Endpoint) -> None:
    other = kfp.below().token(kfp.namespace, "https://kubernetes.default.svc")
    answer = kfp.get("/runs", params=kfp.here, headers={"Authorization": f"Bearer {other}"})
    assert other not in answer.text


def test_requests_are_refused_in_a_namespace_without_a_role(kfp: Endpoint) -> None:
    for answer in (
        kfp.get("/runs", params={"namespace": NO_RIGHTS}),
        kfp.get("/experiments", params={"namespace": NO_RIGHTS}),
        kfp.post("/experiments", {"display_name": "x", "namespace": NO_RIGHTS}),
    ):
        assert subject(kfp.token) in error(answer, 403, 7)


def test_new_token_is_accepted(kfp: Endpoint) -> None:
    new = kfp.below().token(kfp.namespace, AUDIENCE)
    assert new != kfp.token
    assert kfp.get("/runs", params=kfp.here, headers={"Authorization": f"Bearer {new}"}).ok


def test_list_needs_a_namespace(kfp: Endpoint) -> None:
    for path in ("/runs", "/experiments"):
        assert "namespace" in error(kfp.get(path), 400, 3)


def test_list_needs_no_namespace_when_it_names_an_experiment(kfp: Endpoint) -> None:
    name = unique("run")
    experiment = kfp.experiment(unique("experiment"))
    kfp.create(display_name=name, experiment_id=experiment)
    found = kfp.get("/runs", params={"experiment_id": experiment}).json()["runs"]
    assert [run["display_name"] for run in found] == [name]


def test_run_needs_an_experiment(kfp: Endpoint) -> None:
    body = {name: value for name, value in kfp.body().items() if name != "experiment_id"}
    assert "xperiment" in error(kfp.post("/runs", body), 400, 3)


def test_experiment_needs_a_namespace(kfp: Endpoint) -> None:
    assert "namespace" in error(kfp.post("/experiments", {"display_name": unique("x")}), 400, 3)


def test_workflow_is_in_the_users_namespace(kfp: Endpoint) -> None:
    run = kfp.create()
    workflow = kfp.below().workflow(run["run_id"])
    assert workflow is not None
    assert workflow["metadata"]["namespace"] == kfp.namespace


def test_run_has_the_profiles_service_account(kfp: Endpoint) -> None:
    assert kfp.create()["service_account"] == "default-editor"


# ---- the operator's own adapter


async def test_adapter_reads_a_rotated_token(proxied: ProxiedEndpoint) -> None:
    adapter = proxied.adapter()
    for token in (proxied.kfp.token, proxied.kfp.below().token(proxied.kfp.namespace, AUDIENCE)):
        proxied.token_file.write_text(f"{token}\n")
        proxied.calls.clear()
        await adapter.runs_named(proxied.kfp.namespace, "some")
        assert {call.headers["Authorization"] for call in proxied.calls} == {f"Bearer {token}"}


async def test_adapter_explains_a_refused_token_without_showing_it(proxied: ProxiedEndpoint) -> None:
    proxied.token_file.write_text("a-value-that-nobody-may-see")
    with pytest.raises(Refused, match="audience") as caught:
        await proxied.adapter().runs_named(proxied.kfp.namespace, "some")
    assert "a-value-that-nobody-may-see" not in caught.value.message


async def test_adapter_reports_a_missing_right_with_a_stable_message(proxied: ProxiedEndpoint) -> None:
    messages = set()
    for _ in range(2):
        with pytest.raises(Refused, match=r"403.*not authorized") as caught:
            await proxied.adapter().runs_named(NO_RIGHTS, "some")
        messages.add(caught.value.message)
    assert len(messages) == 1, "a message that varies would cause a status write each time"
