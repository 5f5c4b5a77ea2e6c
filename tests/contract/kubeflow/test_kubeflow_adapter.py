"""The operator's own adapter against the same endpoint, through a proxy that lets it see every way of a call to fail."""

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from contract.kubeflow.endpoint import Endpoint, unique
from contract.kubeflow.road import Road
from support.proxy import Call, Fault, Proxy

from sandbox.certificates import make
from winepipelines.platform import kubeflow
from winepipelines.resource.errors import NotSent, Refused, Unavailable
from winepipelines.resource.observed import RunState

RUNS = "/apis/v2beta1/runs"


# ---- the way it is meant


async def test_a_submitted_run_is_found_by_its_name_and_among_the_active(road: Road) -> None:
    name = unique("mlflow")
    adapter = road.adapter()
    assert await adapter.runs_named(road.kfp.namespace, name) == ()
    run_id = await road.created(name)
    [found] = await adapter.runs_named(road.kfp.namespace, name)
    assert (found.id, found.name, found.finished_at) == (run_id, name, None)
    assert found.state in (RunState.PENDING, RunState.RUNNING)
    assert found.url.endswith(f"/#/runs/details/{run_id}")
    assert run_id in [run.id for run in await adapter.active_runs(road.kfp.namespace)]
    assert await adapter.lists_are_shared() is not road.kfp.multi_user


async def test_the_servers_compiler_takes_the_pipeline_as_compiled(road: Road) -> None:
    run = road.kfp.run(await road.created(unique("mlflow"), steps_image="example/steps:1"))
    assert set(run["pipeline_spec"]) == {"pipeline_spec", "platform_spec"}
    executors = run["pipeline_spec"]["pipeline_spec"]["deploymentSpec"]["executors"]
    assert {executor["container"]["image"] for executor in executors.values()} == {"example/steps:1"}
    assert run["runtime_config"]["parameters"]["owner"] == {
        "namespace": road.kfp.namespace,
        "name": "mlflow",
        "uid": "0123456789ab",
        "revision": 1,
    }


async def test_a_run_has_the_platforms_service_account_unless_the_administrator_says_otherwise(road: Road) -> None:
    default = "default-editor" if road.kfp.multi_user else "pipeline-runner"
    assert road.kfp.run(await road.created(unique("mlflow")))["service_account"] == default
    run_id = await road.created(unique("mlflow"), kfp_service_account="wine-steps")
    assert road.kfp.run(run_id)["service_account"] == "wine-steps"


async def test_resources_for_training_reach_the_step(road: Road) -> None:
    adapter, name = road.adapter(), unique("mlflow")
    wished = {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "2Gi"}}
    await adapter.create(road.resource(resources=wished), name, 1)
    [run] = await adapter.runs_named(road.kfp.namespace, name)
    road.kfp.made.append(run.id)
    executors = road.kfp.run(run.id)["pipeline_spec"]["pipeline_spec"]["deploymentSpec"]["executors"]
    assert executors["exec-train"]["container"]["resources"]["resourceMemoryLimit"] == "2Gi"


async def test_more_runs_than_a_page_are_all_found(road: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    name = unique("many")
    ids = [road.kfp.create(display_name=name)["run_id"] for _ in range(5)]
    monkeypatch.setattr(kubeflow, "PAGE_SIZE", 2)
    found = await road.adapter().runs_named(road.kfp.namespace, name)
    assert sorted(run.id for run in found) == sorted(ids)
    assert [run.created_at for run in found] == sorted(run.created_at for run in found), "oldest first"


async def test_a_name_means_exactly_that_name(road: Road) -> None:
    """Whatever characters it has, and though a database may not tell upper from lower case."""
    name = unique("A+b 100%")
    run_id = road.kfp.create(display_name=name)["run_id"]
    road.kfp.create(display_name=name.lower())
    assert [run.id for run in await road.adapter().runs_named(road.kfp.namespace, name)] == [run_id]


async def test_the_experiment_is_made_once_and_found_again(road: Road) -> None:
    experiment, name = unique("Wine 1.0"), unique("mlflow")
    for _ in range(2):
        await road.adapter().create(road.resource(experiment), name, 1)
    runs = [road.kfp.run(run.id) for run in await road.adapter().runs_named(road.kfp.namespace, name)]
    road.kfp.made += [run["run_id"] for run in runs]
    [made] = {run["experiment_id"] for run in runs}
    assert road.kfp.get(f"/experiments/{made}").json()["display_name"] == experiment
    assert len(road.sent("POST", "/apis/v2beta1/experiments")) == 1


async def test_an_experiment_whose_name_differs_in_case_alone_is_no_obstacle(road: Road) -> None:
    """One database takes it for the same, another does not."""
    experiment, name = unique("Wine"), unique("mlflow")
    road.kfp.experiment(experiment.lower())
    adapter = road.adapter()
    await adapter.create(road.resource(experiment), name, 1)
    [run] = await adapter.runs_named(road.kfp.namespace, name)
    road.kfp.made.append(run.id)
    found = road.kfp.get(f"/experiments/{road.kfp.run(run.id)['experiment_id']}").json()["display_name"]
    assert found.lower() == experiment.lower()


async def test_an_experiment_that_someone_else_makes_in_between_is_used(road: Road) -> None:
    experiment, name = unique("wine"), unique("mlflow")
    before = road.before

    def make_it_first(call: Call) -> Fault | None:
        if call.method == "POST" and call.path.endswith("/experiments"):
            road.kfp.experiment(experiment)
        return before(call)

    road.proxy.before = make_it_first
    adapter = road.adapter()
    await adapter.create(road.resource(experiment), name, 1)
    [run] = await adapter.runs_named(road.kfp.namespace, name)
    road.kfp.made.append(run.id)
    assert road.kfp.run(run.id)["experiment_id"] == road.kfp.experiment(experiment)


async def test_what_has_ended_or_gone_is_left_at_that(road: Road) -> None:
    adapter, run_id = road.adapter(), await road.created(unique("mlflow"))
    await adapter.delete(run_id)
    await adapter.delete(run_id)
    await adapter.terminate(run_id)


async def test_an_end_that_was_asked_for_twice_is_asked_for_once(road: Road) -> None:
    adapter, name = road.adapter(), unique("mlflow")
    run_id = await road.created(name)
    await adapter.terminate(run_id)
    await adapter.terminate(run_id)
    [run] = await adapter.runs_named(road.kfp.namespace, name)
    assert run.state in (RunState.CANCELING, RunState.FAILED)


# ---- the ways of a call to fail


@pytest.mark.parametrize("fault", [Fault.RATE_LIMITED, Fault.BROKEN, Fault.UNAVAILABLE, Fault.CUT_BEFORE, Fault.CUT_AFTER])
async def test_what_may_pass_later_is_unavailable(road: Road, fault: Fault) -> None:
    adapter = road.adapter()
    await adapter.lists_are_shared()
    for method, path, call in (
        ("GET", RUNS, lambda: adapter.runs_named(road.kfp.namespace, "some")),
        ("POST", RUNS, lambda: adapter.create(road.resource(), unique("mlflow"), 1)),
        ("DELETE", RUNS, lambda: adapter.delete("some")),
    ):
        road.faults[method, path] = fault
        with pytest.raises(Unavailable) as caught:
            await call()
        assert not isinstance(caught.value, NotSent), "it may have been carried out"
        assert caught.value.reason == "KubeflowUnavailable"
        assert len(road.sent(method, path)) == 1, "nothing is sent twice"
        road.calls.clear()


@pytest.mark.parametrize(("fault", "runs"), [(Fault.CUT_BEFORE, 0), (Fault.CUT_AFTER, 1), (Fault.LATE, 1)])
async def test_a_submission_that_is_not_answered_is_made_at_most_once(road: Road, fault: Fault, runs: int) -> None:
    name = unique("mlflow")
    road.kfp.experiment("kfp-contract")
    adapter = road.adapter(request_seconds=1.5)
    await patiently(adapter.lists_are_shared)
    road.faults["POST", RUNS] = fault
    with pytest.raises(Unavailable, match="did not answer"):
        await adapter.create(road.resource(), name, 1)
    found = await road.adapter().runs_named(road.kfp.namespace, name)
    road.kfp.made += [run.id for run in found]
    assert len(found) == runs


async def patiently(call: Callable[[], Awaitable[object]]) -> None:
    """Ask until it answers: a server under load may take longer than a short patience."""
    for _ in range(10):
        try:
            await call()
        except Unavailable:
            continue
        return


async def test_a_slow_answer_is_waited_for_no_longer_than_the_administrator_says(road: Road) -> None:
    adapter = road.adapter(request_seconds=0.7)
    road.faults["GET", "/"] = Fault.LATE
    began = time.monotonic()
    with pytest.raises(Unavailable, match="did not answer"):
        await adapter.lists_are_shared()
    assert 0.7 <= time.monotonic() - began < 2.5


async def test_a_slow_answer_does_not_hold_up_others(road: Road) -> None:
    adapter = road.adapter()
    await adapter.lists_are_shared()
    road.proxy.late_seconds = 60
    road.faults["GET", RUNS] = Fault.LATE
    slow = asyncio.create_task(adapter.runs_named(road.kfp.namespace, "some"))
    while not any("some" in call.path for call in road.calls):  # noqa: ASYNC110 - the proxy is on another thread
        await asyncio.sleep(0.01)  # the slow one goes first
    await adapter.runs_named(road.kfp.namespace, "other")
    assert not slow.done()
    road.proxy.answer.set()
    assert await slow == ()


async def test_a_server_that_is_not_there_was_certainly_not_asked(road: Road) -> None:
    with pytest.raises(NotSent, match="cannot be reached"):
        await road.adapter(kfp_url="http://127.0.0.1:9").create(road.resource(), "some", 1)


async def test_a_refusal_is_told_in_the_servers_words(road: Road) -> None:
    adapter = road.adapter()
    adapter._training._pipeline["root"]["inputDefinitions"]["parameters"]["colour"] = {"parameterType": "STRING"}
    with pytest.raises(Refused, match=r"400.*colour"):
        await adapter.create(road.resource(), "some", 1)


# ---- credentials, and where they go


async def test_a_token_that_cannot_be_read_is_said_so(road: Road, tmp_path: Path) -> None:
    with pytest.raises(NotSent, match=r"cannot be read from .*missing"):
        await road.adapter(kfp_token_file=str(tmp_path / "missing")).lists_are_shared()
    assert road.calls == []


async def test_a_redirect_is_not_followed(road: Road) -> None:
    thief: list[Call] = []

    def take(call: Call) -> Fault | None:
        thief.append(call)
        return Fault.UNAVAILABLE

    with Proxy("http://127.0.0.1:9", before=take) as elsewhere:
        road.proxy.elsewhere = elsewhere.url
        adapter = road.adapter()
        await adapter.lists_are_shared()
        for method, call in (
            ("GET", lambda: adapter.runs_named(road.kfp.namespace, "some")),
            ("POST", lambda: adapter.create(road.resource(), "some", 1)),
            ("DELETE", lambda: adapter.delete("some")),
        ):
            road.faults[method, RUNS] = Fault.REDIRECTED
            with pytest.raises(Refused, match="307, a redirect"):
                await call()
    assert thief == []


async def test_a_login_page_is_not_taken_for_the_api(road: Road) -> None:
    road.faults["GET", "/"] = Fault.WEB_PAGE
    with pytest.raises(Refused, match="WINE_KFP_URL"):
        await road.adapter().lists_are_shared()


async def test_an_authority_of_ones_own(kfp: Endpoint, tmp_path: Path) -> None:
    make(tmp_path / "pki")
    served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    served.load_cert_chain(tmp_path / "pki" / "apiserver.crt", tmp_path / "pki" / "apiserver.key")
    road = Road(kfp, tmp_path)
    tls = ssl.create_default_context(cafile=kfp.ca_file) if kfp.ca_file else None
    with Proxy(kfp.url, before=road.before, tls=tls, own_tls=served) as proxy:
        trusting = road.adapter(kfp_url=proxy.url, kfp_ca_file=str(tmp_path / "pki" / "ca.crt"))
        assert await trusting.runs_named(kfp.namespace, unique("nobody")) == ()
        seen = len(road.calls)
        for ca_file in ("", str(tmp_path / "missing.crt")):
            with pytest.raises(NotSent, match="WINE_KFP_CA_FILE"):
                await road.adapter(kfp_url=proxy.url, kfp_ca_file=ca_file).lists_are_shared()
    assert len(road.calls) == seen, "no token goes to a server that is not trusted"
