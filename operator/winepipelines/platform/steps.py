"""Read a run's Workflow and the pods of its steps from the API server.

In multi-user mode they are in the resource's namespace, in single-user mode in that of Kubeflow Pipelines. For most pods the
table of `kubectl get pods` is enough.
"""

import re
from collections.abc import Mapping, Sequence

from kubernetes.aio.dynamic.exceptions import NotFoundError

from winepipelines.api.observed import StepsView
from winepipelines.platform import bodies, steppods, workloads
from winepipelines.platform.kubeflow import Kubeflow
from winepipelines.platform.kubernetes import PODS, Body, Kubernetes
from winepipelines.platform.workflows import RUN_LABEL, WORKFLOWS
from winepipelines.settings import Settings

TABLE = "application/json;as=Table;g=meta.k8s.io;v=v1"
PODS_LIMIT = 100  # of one run
ACTIVE = "status.phase!=Succeeded,status.phase!=Failed"
HEALTHY = re.compile(r"Running|ContainerCreating|PodInitializing|Completed|Terminating|Init:\d+/\d+")


class Steps:
    """The step pods of runs."""

    def __init__(self, kubernetes: Kubernetes, kubeflow: Kubeflow, settings: Settings) -> None:
        """Use these adapters."""
        self._kubernetes = kubernetes
        self._kubeflow = kubeflow
        self._settings = settings

    async def view(self, namespace: str, run_id: str) -> StepsView:
        """Read the Workflow and the pods of a run of a resource in this namespace.

        Raises PlatformError if they cannot be read.
        """
        selector = f"{RUN_LABEL}={run_id}"
        namespace = await self._kubeflow.namespace_of_runs(namespace)
        if self._settings.namespaces and namespace not in self._settings.namespaces:
            return StepsView()  # the operator has no rights where the runs are
        try:
            found = await self._workflows(namespace, selector, bodies.METADATA_LIST)
            pods = await self._kubernetes.list(PODS, namespace, workloads.trimmed, PODS_LIMIT, label_selector=selector)
            workflow = str(found[0]["metadata"]["name"]) if found else ""
            seen = steppods.view(workflow, pods)
            if workflow and not seen.explained and not steppods.is_at_work(pods):
                whole = await self._workflows(namespace, selector, "application/json")
                nodes = [node for item in whole for node in steppods.nodes_of(item)]
                seen = steppods.view(workflow, pods, nodes)
        except NotFoundError:  # the cluster has no Workflows
            return StepsView()
        return seen

    async def _workflows(self, namespace: str, selector: str, accept: str) -> list[Body]:
        """List the Workflow of a run."""
        answer = await self._kubernetes.read(WORKFLOWS.path(namespace), accept, label_selector=selector, limit=1)
        return list(answer.get("items") or [])

    async def pod_problems(self) -> Mapping[str, frozenset[str]]:
        """List the runs with active pods and, for each, the unhealthy states that `kubectl get pods` shows of these pods.

        Raises PlatformError if the pods cannot be listed.
        """
        problems: dict[str, set[str]] = {}
        for namespace in self._namespaces():
            for row in await self._rows(PODS.path(namespace)):
                run, status = row
                found = problems.setdefault(run, set())
                if not HEALTHY.fullmatch(status):
                    found.add(status)
        return {run: frozenset(found) for run, found in problems.items()}

    def _namespaces(self) -> Sequence[str]:
        return self._settings.namespaces or ("",)

    async def _rows(self, path: str) -> list[tuple[str, str]]:
        """List run id and status of every step pod that has not ended."""
        rows: list[tuple[str, str]] = []
        async for table in self._kubernetes.listed(path, TABLE, label_selector=RUN_LABEL, field_selector=ACTIVE):
            columns = [column["name"] for column in table.get("columnDefinitions") or []]
            status = columns.index("Status") if "Status" in columns else None
            for row in table.get("rows") or []:
                run = (row["object"]["metadata"].get("labels") or {}).get(RUN_LABEL, "")
                rows.append((run, str(row["cells"][status]) if status is not None else ""))
        return rows
