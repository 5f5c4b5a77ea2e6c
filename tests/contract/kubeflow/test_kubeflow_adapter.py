"""The operator's own adapter against the same endpoint, through a proxy that makes calls fail in every way."""

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from contract.kubeflow.endpoint import Endpoint, unique
from contract.kubeflow.proxied import ProxiedEndpoint
from support.proxy import Call, Fault, Proxy

from sandbox.certificates import make
from winepipelines.api.errors import NotSent, Refused, Unavailable
from winepipelines.api.observed import RunState
from winepipelines.api.spec import Pods
from winepipelines.platform import kubeflow

RUNS = "/apis/v2beta1/runs"


# ---- successful calls


async def test_submitted_run_is_found_by_name_and_in_the_list_of_active_runs(proxied: ProxiedEndpoint) -> None:
    name = unique("mlflow")
    adapter = proxied.adapter()
    assert await adapter.runs_named(proxied.kfp.namespace, name) == ()
    run_id = await proxied.created(name)
    [found] = await adapter.runs_named(proxied.kfp.namespace, name)
    assert (found.id, found.name, found.finished_at) == (run_id, name, None)
    assert found.state in (RunState.PENDING, RunState.RUNNING)
    assert found.url.endswith(f"/#/runs/details/{run_id}")
    assert run_id in [run.id for run in await adapter.active_runs(proxied.kfp.namespace)]
    assert await adapter.lists_are_shared() is not proxied.kfp.multi_user


async def test_server_accepts_the_compiled_pipeline(proxied: ProxiedEndpoint) -> None:
    run = proxied.kfp.run(await proxied.created(unique("mlflow"), steps_image="example/steps:1"))
    assert set(run["pipeline_spec"]) == {"pipeline_spec", "platform_spec"}
    executors = run["pipeline_spec"]["pipeline_spec"]["deploymentSpec"]["executors"]
    assert {executor["container"]["image"] for executor in executors.values()} == {"example/steps:1"}
    assert run["runtime_config"]["parameters"]["owner"] == {
        "namespace": proxied.kfp.namespace,
        "name": "mlflow",
        "uid": "0123456789ab",
        "revision": 1,
    }


async def test_run_has_the_platforms_service_account_by_default(proxied: ProxiedEndpoint) -> None:
    default = "default-editor" if proxied.kfp.multi_user else "pipeline-runner"
    assert proxied.kfp.run(await proxied.created(unique("mlflow")))["service_account"] == default
    run_id = await proxied.created(unique("mlflow"), kfp_service_account="wine-steps")
    assert proxied.kfp.run(run_id)["service_account"] == "wine-steps"


@pytest.mark.parametrize(("pods", "executor"), [("PerStep", "exec-train"), ("Single", "exec-training")])
async def test_training_resources_reach_the_step(proxied: ProxiedEndpoint, pods: str, executor: str) -> None:
    adapter, name = proxied.adapter(), unique("mlflow")
    resources = {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "2Gi"}}
    await adapter.create(proxied.resource(pods=pods, resources=resources), name, 1)
    [run] = await adapter.runs_named(proxied.kfp.namespace, name)
    proxied.kfp.created.append(run.id)
    executors = proxied.kfp.run(run.id)["pipeline_spec"]["pipeline_spec"]["deploymentSpec"]["executors"]
    assert executors[executor]["container"]["resources"]["resourceMemoryLimit"] == "2Gi"


async def test_runs_are_all_found_when_they_exceed_a_page(proxied: ProxiedEndpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    name = unique("many")
    ids = [proxied.kfp.create(display_name=name)["run_id"] for _ in range(5)]
    monkeypatch.setattr(kubeflow, "PAGE_SIZE", 2)
    found = await proxied.adapter().runs_named(proxied.kfp.namespace, name)
    assert sorted(run.id for run in found) == sorted(ids)
    assert [run.created_at for run in found] == sorted(run.created_at for run in found), "oldest first"


async def test_run_is_found_by_its_exact_name(proxied: ProxiedEndpoint) -> None:
    """The name may contain any characters, and a database may ignore case."""
    name = unique("A+b 100%")
    run_id = proxied.kfp.create(display_name=name)["run_id"]
    proxied.kfp.create(display_name=name.lower())
    assert [run.id for run in await proxied.adapter().runs_named(proxied.kfp.namespace, name)] == [run_id]


async def test_experiment_is_created_once_and_then_found(proxied: ProxiedEndpoint) -> None:
    experiment, name = unique("Wine 1.0"), unique("mlflow")
    for _ in range(2):
        await proxied.adapter().create(proxied.resource(experiment), name, 1)
    runs = [proxied.kfp.run(run.id) for run in await proxied.adapter().runs_named(proxied.kfp.namespace, name)]
    proxied.kfp.created += [run["run_id"] for run in runs]
    [created] = {run["experiment_id"] for run in runs}
    assert proxied.kfp.get(f"/experiments/{created}").json()["display_name"] == experiment
    assert len(proxied.sent("POST", "/apis/v2beta1/experiments")) == 1


async def test_run_is_submitted_when_an_experiment_differs_in_case_only(proxied: ProxiedEndpoint) -> None:
    """Some databases treat such names as equal, others do not."""
    experiment, name = unique("Wine"), unique("mlflow")
    proxied.kfp.experiment(experiment.lower())
    adapter = proxied.adapter()
    await adapter.create(proxied.resource(experiment), name, 1)
    [run] = await adapter.runs_named(proxied.kfp.namespace, name)
    proxied.kfp.created.append(run.id)
    found = proxied.kfp.get(f"/experiments/{proxied.kfp.run(run.id)['experiment_id']}").json()["display_name"]
    assert found.lower() == experiment.lower()


async def test_experiment_is_used_when_someone_else_creates_it_first(proxied: ProxiedEndpoint) -> None:
    experiment, name = unique("wine"), unique("mlflow")
    before = proxied.before

    def create_first(call: Call) -> Fault | None:
        if call.method == "POST" and call.path.endswith("/experiments"):
            proxied.kfp.experiment(experiment)
        return before(call)

    proxied.proxy.before = create_first
    adapter = proxied.adapter()
    await adapter.create(proxied.resource(experiment), name, 1)
    [run] = await adapter.runs_named(proxied.kfp.namespace, name)
    proxied.kfp.created.append(run.id)
    assert proxied.kfp.run(run.id)["experiment_id"] == proxied.kfp.experiment(experiment)


async def test_delete_and_terminate_accept_a_deleted_run(proxied: ProxiedEndpoint) -> None:
    adapter, run_id = proxied.adapter(), await proxied.created(unique("mlflow"))
    await adapter.delete(run_id)
    await adapter.delete(run_id)
    await adapter.terminate(run_id)


async def test_terminate_is_idempotent(proxied: ProxiedEndpoint) -> None:
    adapter, name = proxied.adapter(), unique("mlflow")
    run_id = await proxied.created(name)
    await adapter.terminate(run_id)
    await adapter.terminate(run_id)
    [run] = await adapter.runs_named(proxied.kfp.namespace, name)
    assert run.state in (RunState.CANCELING, RunState.FAILED)


# ---- failing calls


@pytest.mark.parametrize("fault", [Fault.RATE_LIMITED, Fault.BROKEN, Fault.UNAVAILABLE, Fault.CUT_BEFORE, Fault.CUT_AFTER])
async def test_passing_failure_is_reported_as_unavailable(proxied: ProxiedEndpoint, fault: Fault) -> None:
    adapter = proxied.adapter()
    await adapter.lists_are_shared()
    for method, path, call in (
        ("GET", RUNS, lambda: adapter.runs_named(proxied.kfp.namespace, "some")),
        ("POST", RUNS, lambda: adapter.create(proxied.resource(), unique("mlflow"), 1)),
        ("DELETE", RUNS, lambda: adapter.delete("some")),
    ):
        proxied.faults[method, path] = fault
        with pytest.raises(Unavailable) as caught:
            await call()
        assert not isinstance(caught.value, NotSent), "the server may have executed the call"
        assert caught.value.reason == "KubeflowUnavailable"
        assert len(proxied.sent(method, path)) == 1, "the call is sent once"
        proxied.calls.clear()


@pytest.mark.parametrize(("fault", "runs"), [(Fault.CUT_BEFORE, 0), (Fault.CUT_AFTER, 1), (Fault.LATE, 1)])
async def test_submission_is_sent_at_most_once_when_it_is_not_answered(proxied: ProxiedEndpoint, fault: Fault, runs: int) -> None:
    name = unique("mlflow")
    proxied.kfp.experiment("kfp-contract")
    adapter = proxied.adapter(request_seconds=1.5)
    await until_answered(adapter.lists_are_shared)
    proxied.faults["POST", RUNS] = fault
    with pytest.raises(Unavailable, match="did not answer"):
        await adapter.create(proxied.resource(), name, 1)
    found = await proxied.adapter().runs_named(proxied.kfp.namespace, name)
    proxied.kfp.created += [run.id for run in found]
    assert len(found) == runs


async def until_answered(call: Callable[[], Awaitable[object]]) -> None:
    """Repeat a call until it is answered. A server under load may take longer than a short timeout."""
    for _ in range(10):
        try:
            await call()
        except Unavailable:
            continue
        return


async def test_slow_answer_is_abandoned_after_the_configured_timeout(proxied: ProxiedEndpoint) -> None:
    adapter = proxied.adapter(request_seconds=0.7)
    proxied.faults["GET", "/"] = Fault.LATE
    began = time.monotonic()
    with pytest.raises(Unavailable, match="did not answer"):
        await adapter.lists_are_shared()
    assert 0.7 <= time.monotonic() - began < 2.5


async def test_slow_answer_does_not_delay_other_calls(proxied: ProxiedEndpoint) -> None:
    adapter = proxied.adapter()
    await adapter.lists_are_shared()
    proxied.proxy.late_seconds = 60
    proxied.faults["GET", RUNS] = Fault.LATE
    slow = asyncio.create_task(adapter.runs_named(proxied.kfp.namespace, "some"))
    while not any("some" in call.path for call in proxied.calls):  # noqa: ASYNC110 - the proxy is on another thread
        await asyncio.sleep(0.01)  # the slow call is sent first
    await adapter.runs_named(proxied.kfp.namespace, "other")
    assert not slow.done()
    proxied.proxy.answer.set()
    assert await slow == ()


async def test_call_is_reported_as_not_sent_when_the_server_cannot_be_reached(proxied: ProxiedEndpoint) -> None:
    with pytest.raises(NotSent, match="cannot be reached"):
        await proxied.adapter(kfp_url="http://127.0.0.1:9").create(proxied.resource(), "some", 1)


async def test_refusal_contains_the_servers_message(proxied: ProxiedEndpoint) -> None:
    adapter = proxied.adapter()
    compiled = adapter._requests._trainings[Pods.PER_STEP]
    compiled._pipeline["root"]["inputDefinitions"]["parameters"]["colour"] = {"parameterType": "STRING"}
    with pytest.raises(Refused, match=r"400.*colour"):
        await adapter.create(proxied.resource(), "some", 1)


# ---- credentials


async def test_call_is_not_sent_when_the_token_cannot_be_read(proxied: ProxiedEndpoint, tmp_path: Path) -> None:
    with pytest.raises(NotSent, match=r"cannot be read from .*missing"):
        await proxied.adapter(kfp_token_file=str(tmp_path / "missing")).lists_are_shared()
    assert proxied.calls == []


async def test_redirect_is_not_followed(proxied: ProxiedEndpoint) -> None:
    attacker: list[Call] = []

    def take(call: Call) -> Fault | None:
        attacker.append(call)
        return Fault.UNAVAILABLE

    with Proxy("http://127.0.0.1:9", before=take) as elsewhere:
        proxied.proxy.elsewhere = elsewhere.url
        adapter = proxied.adapter()
        await adapter.lists_are_shared()
        for method, call in (
            ("GET", lambda: adapter.runs_named(proxied.kfp.namespace, "some")),
            ("POST", lambda: adapter.create(proxied.resource(), "some", 1)),
            ("DELETE", lambda: adapter.delete("some")),
        ):
            proxied.faults[method, RUNS] = Fault.REDIRECTED
            with pytest.raises(Refused, match="307, a redirect"):
                await call()
    assert attacker == []


async def test_login_page_is_refused(proxied: ProxiedEndpoint) -> None:
    proxied.faults["GET", "/"] = Fault.WEB_PAGE
    with pytest.raises(Refused, match="WINE_KFP_URL"):
        await proxied.adapter().lists_are_shared()


async def test_server_is_trusted_by_the_configured_authority_only(kfp: Endpoint, tmp_path: Path) -> None:
    make(tmp_path / "pki")
    served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    served.load_cert_chain(tmp_path / "pki" / "apiserver.crt", tmp_path / "pki" / "apiserver.key")
    proxied = ProxiedEndpoint(kfp, tmp_path)
    tls = ssl.create_default_context(cafile=kfp.ca_file) if kfp.ca_file else None
    with Proxy(kfp.url, before=proxied.before, tls=tls, own_tls=served) as proxy:
        trusting = proxied.adapter(kfp_url=proxy.url, kfp_ca_file=str(tmp_path / "pki" / "ca.crt"))
        assert await trusting.runs_named(kfp.namespace, unique("nobody")) == ()
        seen = len(proxied.calls)
        for ca_file in ("", str(tmp_path / "missing.crt")):
            with pytest.raises(NotSent, match="WINE_KFP_CA_FILE"):
                await proxied.adapter(kfp_url=proxy.url, kfp_ca_file=ca_file).lists_are_shared()
    assert len(proxied.calls) == seen, "no token goes to a server that is not trusted"
