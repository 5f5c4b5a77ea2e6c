"""One attempt of a run: `kfp.local` runs the pipeline, each of its steps is a process.

`kfp.local` has no notion of an environment per task, nor of keeping what an earlier attempt did. Four of its functions are
replaced in this process, and what they stand between stays as it is (order of tasks, conditions, loops, placeholders,
inputs and outputs, retries of a task):

- `task_executor.execute_single_task`: around it, the step's nodes, its secrets, and the outputs that are kept;
- `subprocess_task_handler.run_local_subprocess`: runs a `step` instead of a shell;
- `subprocess_task_handler.replace_python_executable`: quotes the interpreter's path, which may have spaces, for shells;
- `executor_input_utils.executor_input_to_dict`: numbers without a fraction reach a step without one, as from Kubeflow.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import pickle
import shlex
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import environment, pods, specs, step, workflows
from .cluster import Cluster, Object
from .execution import started_at
from .progress import Progress
from .store import ACTIVE, Row, Store

log = logging.getLogger("sandbox.kubeflow.worker")


def work(state: Path, run_id: str, attempt: int, kubeconfig: Path | None) -> None:
    """Execute an attempt of a run, unless another process executes it or it has ended."""
    nursery = step.Nursery()  # before this process has state that a step must not inherit
    store = Store(state)
    pid = os.getpid()
    if not store.claim(run_id, attempt, pid, started_at(pid) or 0):
        return
    run = store.run(run_id)
    if run is not None:
        Attempt(store, run, state / "runs" / run_id, nursery, Cluster(kubeconfig) if kubeconfig else None).carry_out()


@dataclass(frozen=True)
class _Step:
    """The facts about a step that `run_local_subprocess` needs."""

    name: str
    variables: Mapping[str, str]
    limit: int | None


class Attempt:
    """One attempt of a run, in its own process."""

    def __init__(self, store: Store, run: Row, folder: Path, nursery: step.Nursery, cluster: Cluster | None) -> None:
        self._store = store
        self._run = run
        self._folder = folder
        self._nursery = nursery
        self._cluster = cluster
        self._spec = specs.read(json.loads(run["pipeline_spec"]))
        self._progress = Progress(store, run)
        self._kept = _Outputs(folder / "outputs.pickle")
        self._current = threading.local()  # loops run their tasks in threads
        self._exit_codes: dict[str, int] = {}

    def carry_out(self) -> None:
        """Run the pipeline and record its result: in the Workflow, as Argo does, and then in the store, as Kubeflow does."""
        run_id, attempt = self._run["run_id"], self._run["attempt"]
        self._patch_workflow(self._at("RUNNING"))
        self._store.move(run_id, "RUNNING", ["PENDING"], attempt)
        try:
            succeeded = self._run_pipeline()
        except Exception:
            log.exception("the pipeline cannot be run")
            succeeded = False
        state = "SUCCEEDED" if succeeded else "FAILED"
        self._progress.finish(state)
        if (now := self._store.run(run_id)) and now["state"] in ACTIVE and now["attempt"] == attempt:
            self._patch_workflow(self._at(state))
            if self._store.move(run_id, state, ACTIVE, attempt):
                self._patch_workflow(workflows.recorded())

    def _at(self, state: str) -> Object:
        return workflows.progress(state, self._store.nodes(self._run["run_id"]))

    def _patch_workflow(self, patch: Object) -> None:
        if self._cluster and self._run["has_workflow"]:
            try:
                self._cluster.patch_workflow(self._run["k8s_namespace"], self._run["workflow"], patch)
            except Exception as error:  # only informs others; the run's own result matters
                log.warning("the Workflow could not be patched: %s", error)

    def _run_pipeline(self) -> bool:
        from kfp import local
        from kfp.local import executor_input_utils, status, subprocess_task_handler, utils
        from kfp.local.orchestrator import enhanced_dag_orchestrator, task_executor

        root = self._folder / "artifacts"
        local.init(
            runner=local.SubprocessRunner(use_venv=False),
            pipeline_root=str(root),
            workspace_root=str(self._folder / "workspace"),
            raise_on_error=False,
        )
        self._execute = task_executor.execute_single_task
        self._to_dict = executor_input_utils.executor_input_to_dict
        task_executor.execute_single_task = self._task
        subprocess_task_handler.run_local_subprocess = self._command
        insert = subprocess_task_handler.replace_python_executable
        subprocess_task_handler.replace_python_executable = lambda command, python: insert(command, shlex.quote(python))
        executor_input_utils.executor_input_to_dict = self._executor_input
        pipeline = self._spec.pipeline
        config = json.loads(self._run["runtime_config"])
        _, ended = enhanced_dag_orchestrator.run_enhanced_dag(
            pipeline_resource_name=self._run["workflow"],
            dag_component_spec=pipeline.root,
            executors={
                name: utils.struct_to_executor_spec(executor) for name, executor in pipeline.deployment_spec["executors"].items()
            },
            components=dict(pipeline.components.items()),
            dag_arguments=config.get("parameters", {}),
            pipeline_root=str(root),
            runner=local.SubprocessRunner(use_venv=False),
            unique_pipeline_id=self._run["run_id"],
            fail_stack=[],
        )
        return bool(ended == status.Status.SUCCESS)

    def _task(self, **call: Any) -> tuple[dict[str, Any], Any]:
        """Replaces `execute_single_task`."""
        from kfp.local import status

        name = call["task_name"]
        key = f"{call['pipeline_resource_name']}/{name}"
        if key in self._kept:
            return self._kept[key], status.Status.SUCCESS
        node, pod = self._progress.begin(name)
        label = call["components"][call["task_spec"].component_ref.name].executor_label
        executor = _plain(self._spec.pipeline.deployment_spec).get("executors", {}).get(label) or {}
        step_pod = pods.StepPod(self._cluster, self._run, name, pod["pod_name"], executor.get("container") or {})
        termination_log = self._folder / "pods" / f"{name}.termination-log"
        try:
            kubernetes = self._spec.kubernetes.get(label, {})
            step_pod.create(functools.partial(self._not_admitted, pod))
            step_pod.pull()
            variables = environment.from_secrets(
                kubernetes,
                lambda parameter: _parameter(parameter, call["io_store"]),
                self._cluster,
                self._run["k8s_namespace"],
                step_pod.waits_for,
            )
            termination_log.parent.mkdir(parents=True, exist_ok=True)
            termination_log.write_bytes(b"")
            variables |= {entry["name"]: entry.get("value", "") for entry in (executor.get("container") or {}).get("env", ())}
            variables["WINE_TERMINATION_LOG"] = str(termination_log)
            self._current.step = _Step(name, variables, environment.time_limit(kubernetes))
            self._progress.running(pod)
            step_pod.runs()
            outputs, ended = self._execute(**call)
        except Exception:
            log.exception("task %s cannot be run", name)
            outputs, ended = {}, status.Status.FAILURE
        if ended == status.Status.SUCCESS:
            self._kept[key] = outputs
            step_pod.ended(0, "")
            self._progress.end(node, pod, "SUCCEEDED")
        else:
            code, message = self._exit_codes.get(name, 1), _termination_message(termination_log)
            step_pod.ended(code or 1, message)
            self._progress.end(
                node, pod, "FAILED", f"{pods.MAIN}: Error (exit code {code})" + (f": {message}" if message else "")
            )
        return outputs, ended

    def _not_admitted(self, pod: Row, message: str) -> None:
        """Record in the Workflow that a step's pod was refused, as Argo does."""
        self._store.move_node(pod["task_id"], "PENDING", message)
        nodes = workflows.nodes_of(self._store.nodes(self._run["run_id"]), pod["task_id"])
        self._patch_workflow({"status": {"nodes": nodes}})

    def _command(self, full_command: list[str], env_vars: dict[str, str] | None = None) -> int:
        """Replaces `run_local_subprocess`."""
        current: _Step = self._current.step
        variables = {**os.environ, **(env_vars or {}), **current.variables}
        pods = self._folder / "pods"
        code = self._nursery.run(full_command, variables, pods / current.name, pods / f"{current.name}.log", current.limit)
        self._exit_codes[current.name] = code
        return code

    def _executor_input(self, executor_input: Any, component_spec: Any) -> dict[str, Any]:
        """Replaces `executor_input_to_dict`."""
        converted: dict[str, Any] = self._to_dict(executor_input=executor_input, component_spec=component_spec)
        whole: dict[str, Any] = _without_empty_fractions(converted)
        return whole


def _termination_message(path: Path) -> str:
    """Return a step's termination message."""
    try:
        return path.read_bytes()[: pods.MESSAGE_BYTES].decode(errors="replace")
    except OSError:
        return ""


def _plain(message: Any) -> dict[str, Any]:
    """Return a protobuf struct as a dictionary."""
    from google.protobuf import json_format

    return dict(json_format.MessageToDict(message)) if message else {}


def _without_empty_fractions(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_empty_fractions(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_without_empty_fractions(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _parameter(parameter: Mapping[str, Any], io_store: Any) -> str:
    """Return the value of a parameter in the platform specification: a constant, an input of the pipeline, or an output."""
    if name := parameter.get("componentInputParameter"):
        return str(io_store.get_parent_input(name))
    if output := parameter.get("taskOutputParameter"):
        return str(io_store.get_task_output(output["producerTask"], output["outputParameterKey"]))
    return str(parameter["runtimeValue"]["constant"])


class _Outputs:
    """The outputs of succeeded tasks, on disk for the next attempt."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._outputs: dict[str, dict[str, Any]] = pickle.loads(path.read_bytes()) if path.exists() else {}  # noqa: S301 - its own

    def __contains__(self, key: str) -> bool:
        return key in self._outputs

    def __getitem__(self, key: str) -> dict[str, Any]:
        return self._outputs[key]

    def __setitem__(self, key: str, outputs: dict[str, Any]) -> None:
        with self._lock:
            self._outputs[key] = outputs
            part = self._path.with_suffix(".part")
            part.write_bytes(pickle.dumps(self._outputs))
            part.rename(self._path)
