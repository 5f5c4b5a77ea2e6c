"""A run that progresses enqueues its resource: by the watch of its Workflow or, without one, by the list of active runs."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from support.cluster import Cluster, ready
from support.operator import OperatorProcess
from support.proxy import Call, Fault, Proxy

from sandbox.platform import Sandbox

NEVER = "600"  # seconds: longer than these tests


class Lists:
    """Counts the requests to Kubeflow Pipelines that list active runs."""

    def __init__(self) -> None:
        self.active = 0

    def before(self, call: Call) -> Fault | None:
        sent = parse_qs(urlsplit(call.path).query).get("filter")
        if sent and call.method == "GET":
            [predicate] = json.loads(unquote(sent[0]))["predicates"]
            self.active += predicate["key"] == "state"
        return None


@contextmanager
def operating(sandbox: Sandbox, **changes: str) -> Iterator[Lists]:
    """Run an operator that reaches Kubeflow Pipelines through a counting proxy."""
    lists = Lists()
    with Proxy(sandbox.info.kfp_url, before=lists.before) as proxy:
        ui = {"WINE_KFP_URL": proxy.url, "WINE_KFP_UI_URL": sandbox.info.kfp_url}
        with OperatorProcess(sandbox, {**ui, **{f"WINE_{name.upper()}": value for name, value in changes.items()}}):
            yield lists


@pytest.fixture
def alone(sandbox: Sandbox, operator: OperatorProcess) -> Iterator[Sandbox]:
    """Return the sandbox while the operator that other tests share is stopped."""
    operator.kill()
    yield sandbox
    operator.start()


def test_watch_of_workflows_replaces_lists_of_runs(alone: Sandbox, cluster: Cluster, namespace: str) -> None:
    with operating(alone, poll_seconds=NEVER, poll_fallback_seconds=NEVER) as lists:
        cluster.apply(cluster.resource(namespace))
        done = cluster.wait(namespace, ready, seconds=150)
        assert done.status.run is not None
        assert done.status.run.state == "SUCCEEDED"
        assert lists.active == 0


def test_failed_run_needs_no_list_of_runs(alone: Sandbox, cluster: Cluster, namespace: str) -> None:
    with operating(alone, poll_seconds=NEVER, poll_fallback_seconds=NEVER) as lists:
        cluster.apply(cluster.resource(namespace, url=f"{cluster.info.data_base_url}/no-such.csv"))
        cluster.wait(namespace, lambda pipeline: pipeline.status.stage == "Failed", seconds=150)
        assert lists.active == 0


def test_settled_resource_causes_no_list_of_runs(alone: Sandbox, cluster: Cluster, namespace: str) -> None:
    with operating(alone, poll_seconds="0.2", poll_fallback_seconds="0.2") as lists:
        cluster.apply(cluster.resource(namespace))
        cluster.wait(namespace, ready, seconds=150)
        settled = lists.active
        assert settled > 0, "runs are listed while one is active"
        time.sleep(10 * 0.2)  # the absence of calls cannot be awaited
        assert lists.active == settled


def test_runs_are_listed_when_there_are_no_workflows() -> None:
    with Sandbox(f"no-workflows-{os.getpid()}", without={"operator"}) as sandbox:
        sandbox.kubectl("delete", "crd", "workflows.argoproj.io")
        cluster = Cluster(sandbox)
        namespace = cluster.namespace("team-without")
        with operating(sandbox, poll_seconds="0.5", poll_fallback_seconds=NEVER) as lists:
            cluster.apply(cluster.resource(namespace))
            cluster.wait(namespace, ready, seconds=90)
            assert lists.active > 0
