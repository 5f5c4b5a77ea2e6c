"""An endpoint of Kubeflow Pipelines, the stand-in's or a real one, with the requests that the contract tests send."""

import base64
import json
import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
import requests
from kubernetes import client, config

AUDIENCE = "pipelines.kubeflow.org"
CALLER = "kfp-contract"  # service account and role that the tests create
VERBS = ("get", "list", "create", "terminate", "retry", "delete", "archive")
TIMEOUT = 120.0  # seconds: a real step costs two pods
UNSET = ""  # in a run's state, where the server leaves it out
OVER = ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")
WORKFLOWS = ("argoproj.io", "v1alpha1")
Json = dict[str, Any]


class Runs(StrEnum):
    """How the runs of an endpoint progress."""

    EXECUTED = "1"  # the platform executes them
    PLAYED = "played"  # nothing executes them; the tests write the status of their Workflows, and the platform reports it
    LEFT = "0"  # nothing executes them


class Cluster:
    """The API server below the endpoint."""

    def __init__(self, kubeconfig: str) -> None:
        self.kubeconfig = kubeconfig
        api = config.new_client_from_config(kubeconfig)
        self._objects = client.CustomObjectsApi(api)
        self._core = client.CoreV1Api(api)
        self._rights = client.RbacAuthorizationV1Api(api)

    def workflow(self, run_id: str) -> Json | None:
        """Find the Workflow of a run in any namespace."""
        found: Any = self._objects.list_cluster_custom_object(*WORKFLOWS, "workflows", label_selector=f"pipeline/runid={run_id}")
        return dict(found["items"][0]) if found["items"] else None

    def pods(self, run_id: str) -> list[Json]:
        """List the pods of a run's steps."""
        found: Any = self._core.list_pod_for_all_namespaces(label_selector=f"pipeline/runid={run_id}", _preload_content=False)
        return list(json.loads(found.data)["items"])

    def delete_workflow(self, run_id: str) -> None:
        """Delete a run's Workflow without the API of Kubeflow Pipelines."""
        workflow = self.workflow(run_id)
        assert workflow is not None
        metadata = workflow["metadata"]
        self._objects.delete_namespaced_custom_object(*WORKFLOWS, metadata["namespace"], "workflows", metadata["name"])

    def play(self, run_id: str, phase: str) -> None:
        """Set the phase of a run's Workflow, as Argo does."""
        workflow = self.workflow(run_id)
        assert workflow is not None
        metadata, over = workflow["metadata"], phase in ("Succeeded", "Failed")
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        node = {"id": metadata["name"], "name": metadata["name"], "displayName": metadata["name"], "type": "DAG"}
        node |= {"phase": phase, "startedAt": now, "finishedAt": now if over else None}
        step = {**node, "id": f"{metadata['name']}-1", "name": f"{metadata['name']}.wait", "displayName": "wait"}
        labels = {"workflows.argoproj.io/phase": phase, "workflows.argoproj.io/completed": str(over).lower()}
        status: Json = {"phase": phase, "startedAt": now, "finishedAt": now if over else None}
        status["nodes"] = {node["id"]: {**node, "children": [step["id"]]}, step["id"]: step}
        patch = {"metadata": {"labels": labels}, "status": status}
        self._objects.patch_namespaced_custom_object(*WORKFLOWS, metadata["namespace"], "workflows", metadata["name"], patch)

    def token(self, namespace: str, audience: str) -> str:
        """Create a token of the tests' service account."""
        request = client.AuthenticationV1TokenRequest(
            spec=client.V1TokenRequestSpec(audiences=[audience], expiration_seconds=3600)
        )
        granted: Any = self._core.create_namespaced_service_account_token(CALLER, namespace, request)
        return str(granted.status.token)

    def admit(self, namespace: str) -> None:
        """Create the namespace and, in it, a service account that may use Kubeflow Pipelines, if they are missing."""
        meta = {"name": CALLER, "namespace": namespace}
        rule = {"apiGroups": [AUDIENCE], "resources": ["runs", "experiments"], "verbs": list(VERBS)}
        reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": CALLER}
        subject = {"kind": "ServiceAccount", **meta}
        for create, *arguments in (
            (self._core.create_namespace, {"metadata": {"name": namespace}}),
            (self._core.create_namespaced_service_account, namespace, {"metadata": meta}),
            (self._rights.create_namespaced_role, namespace, {"metadata": meta, "rules": [rule]}),
            (
                self._rights.create_namespaced_role_binding,
                namespace,
                {"metadata": meta, "roleRef": reference, "subjects": [subject]},
            ),
        ):
            try:
                create(*arguments)
            except client.ApiException as error:
                if error.status != 409:
                    raise


@dataclass
class Endpoint:
    """One endpoint, and the runs that the tests created there."""

    url: str
    namespace: str
    multi_user: bool
    runs: Runs
    image: str
    token: str = ""
    ca_file: str = ""
    cluster: Cluster | None = None
    created: list[str] = field(default_factory=list)  # runs to be deleted

    def __post_init__(self) -> None:
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.verify = self.ca_file or True
        if self.token:
            self.session.headers["Authorization"] = f"Bearer {self.token}"

    # ---- requests

    def path(self, path: str) -> str:
        """Return the URL of a path of the API."""
        return f"{self.url}/apis/v2beta1{path}"

    def get(self, path: str, **options: Any) -> requests.Response:
        """Send a GET request."""
        return self.session.get(self.path(path), timeout=60, **options)

    def post(self, path: str, body: Any = None, **options: Any) -> requests.Response:
        """Send a POST request with a JSON body."""
        answer = self.session.post(self.path(path), json=body, timeout=60, **options)
        if path == "/runs" and answer.ok:
            self.created.append(answer.json()["run_id"])
        return answer

    def delete(self, path: str, **options: Any) -> requests.Response:
        """Send a DELETE request."""
        return self.session.delete(self.path(path), timeout=60, **options)

    # ---- runs and experiments

    @property
    def here(self) -> dict[str, str]:
        """Return the query parameters that select the namespace in a list."""
        return {"namespace": self.namespace} if self.multi_user else {}

    def experiment(self, name: str) -> str:
        """Return the id of the experiment with a name. Create it if it is missing."""
        answer = self.post("/experiments", {"display_name": name, **self.here})
        if answer.status_code == 409:
            answer = self.get("/experiments", params={**self.here, **only("EQUALS", "display_name", string_value=name)})
            return str(answer.json()["experiments"][0]["experiment_id"])
        assert answer.ok, answer.text
        return str(answer.json()["experiment_id"])

    def body(self, **more: Any) -> Json:
        """Return the body of a request that creates a run."""
        run: Json = {
            "display_name": unique("run"),
            "pipeline_spec": pipeline(self.image),
            "runtime_config": {"parameters": GIVEN},
        }
        if self.multi_user:
            run["experiment_id"] = self.experiment("kfp-contract")
        return run | more

    def create(self, **more: Any) -> Json:
        """Create a run. Return the answer."""
        answer = self.post("/runs", self.body(**more))
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def run(self, run_id: str) -> Json:
        """Return a run's current state. The real server omits the state until Argo has started the Workflow."""
        answer = self.get(f"/runs/{run_id}")
        assert answer.status_code == 200, answer.text
        return {"state": UNSET} | dict(answer.json())

    def listed(self, **query: Any) -> list[Json]:
        """List the runs of one page."""
        answer = self.get("/runs", params={**self.here, **query})
        assert answer.status_code == 200, answer.text
        return list(answer.json().get("runs", []))

    def until(self, run_id: str, *states: str) -> Json:
        """Wait until a run is in one of these states, and return it."""
        eventually(lambda: self.run(run_id)["state"] in states, f"the run is {' or '.join(states)}")
        return self.run(run_id)

    # ---- runs in a given state

    def underway(self) -> str:
        """Create a run whose step does not end, and wait until it is running. Return its id."""
        run_id = str(self.create(runtime_config={"parameters": {**GIVEN, "seconds": 600}})["run_id"])
        self._progress(run_id, "Running")
        self.until(run_id, "RUNNING")
        return run_id

    def ended(self, state: str) -> str:
        """Create a run and wait until it is SUCCEEDED or FAILED. Return its id."""
        run_id = str(self.create(runtime_config={"parameters": {**GIVEN, "broken": state == "FAILED"}})["run_id"])
        self._progress(run_id, "Running", state.capitalize())
        self.until(run_id, state)
        return run_id

    def stopped(self, run_id: str) -> Json:
        """Wait for the end of a run that was terminated, and return it."""
        self._progress(run_id, "Failed")
        return self.until(run_id, *OVER)

    def retry(self, run_id: str) -> None:
        """Retry a run. Just after its end, Kubeflow may answer 500, because it still writes to the Workflow itself."""
        eventually(lambda: (answer := self.post(f"/runs/{run_id}:retry")).status_code != 500 and answer.json() == {}, "a retry")

    def _progress(self, run_id: str, *phases: str) -> None:
        """Bring a run through these phases. Skip the test if nothing executes runs."""
        if self.runs is Runs.LEFT:
            pytest.skip("nothing executes runs at this endpoint (CONTRACT_KFP_EXECUTES)")
        if self.runs is Runs.PLAYED:
            for phase in phases:
                self.below().play(run_id, phase)
                self.until(run_id, phase.upper())

    def below(self) -> Cluster:
        """Return the cluster below the endpoint. Skip the test if it is not known."""
        if self.cluster is None:
            pytest.skip("the cluster below this endpoint is not known (CONTRACT_KUBECONFIG)")
        return self.cluster

    def clean(self) -> None:
        """Delete the runs that the tests created."""
        for run_id in self.created:
            with suppress(requests.RequestException):
                self.delete(f"/runs/{run_id}")


GIVEN: Json = {"text": "t"}


def pipeline(image: str, *, schema: str = "2.1.0") -> Json:
    """Return a pipeline of one step that takes some time and can fail, as the SDK compiles it."""
    source = """
from kfp.dsl import *

def wait(seconds: float, broken: bool):
    import time
    time.sleep(seconds)
    if broken:
        raise RuntimeError("failed as requested")
"""
    command = (
        'program_path=$(mktemp -d)\n\nprintf "%s" "$0" > "$program_path/ephemeral_component.py"\n'
        '_KFP_RUNTIME=true python3 -m kfp.dsl.executor_main --component_module_path "$program_path/ephemeral_component.py" "$@"\n'
    )
    container = {
        "image": image,
        "command": ["sh", "-ec", command, source],
        "args": ["--executor_input", "{{$}}", "--function_to_execute", "wait"],
    }
    step_inputs = {"seconds": {"parameterType": "NUMBER_DOUBLE"}, "broken": {"parameterType": "BOOLEAN"}}
    optional = {
        "seconds": ("NUMBER_DOUBLE", 0.0),
        "broken": ("BOOLEAN", False),
        "number": ("NUMBER_INTEGER", 1.0),
        "about": ("STRUCT", {"revision": 3.0}),
        "many": ("LIST", []),
    }
    inputs: Json = {"text": {"parameterType": "STRING"}}
    inputs |= {
        name: {"parameterType": kind, "defaultValue": default, "isOptional": True} for name, (kind, default) in optional.items()
    }
    task = {
        "componentRef": {"name": "comp-wait"},
        "cachingOptions": {},
        "taskInfo": {"name": "wait"},
        "inputs": {"parameters": {name: {"componentInputParameter": name} for name in step_inputs}},
    }
    return {
        "pipelineInfo": {"name": "kfp-contract"},
        "schemaVersion": schema,
        "sdkVersion": "kfp-2.17.0",
        "components": {"comp-wait": {"executorLabel": "exec-wait", "inputDefinitions": {"parameters": step_inputs}}},
        "deploymentSpec": {"executors": {"exec-wait": {"container": container}}},
        "root": {"dag": {"tasks": {"wait": task}}, "inputDefinitions": {"parameters": inputs}},
    }


def with_platform(image: str) -> Json:
    """Return the pipeline with a second document, for Kubernetes."""
    secret = {"secretName": "none", "optional": True, "keyToEnv": [{"envVar": "KEY", "secretKey": "key"}]}
    executors = {"exec-wait": {"secretAsEnv": [secret]}}
    platform = {"platforms": {"kubernetes": {"deploymentSpec": {"executors": executors}}}}
    return {"pipeline_spec": pipeline(image), "platform_spec": platform}


def only(operation: str, key: str, **value: Any) -> dict[str, str]:
    """Return a filter of one predicate as query parameters."""
    return {"filter": json.dumps({"predicates": [{"operation": operation, "key": key, **value}]})}


def unique(name: str) -> str:
    """Return a unique name."""
    return f"{name}-{uuid.uuid4().hex[:12]}"


def error(answer: requests.Response, status: int, code: int) -> str:
    """Return the text of an error. Check its status, its code and the form of the API's errors."""
    body = answer.json()
    assert (answer.status_code, body["code"]) == (status, code), answer.text
    assert set(body) <= {"code", "message", "details"}
    return json.dumps(body)


def eventually(holds: Callable[[], object], condition: str) -> None:
    """Wait until a condition holds. It is polled, because the API has no watch."""
    deadline = time.monotonic() + TIMEOUT
    while not holds():
        assert time.monotonic() < deadline, f"not within {TIMEOUT:.0f} s: {condition}"
        time.sleep(0.1)


def subject(token: str) -> str:
    """Return the subject of a token."""
    payload = token.split(".")[1]
    return str(json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["sub"])


def given() -> Endpoint | None:
    """Return the real endpoint that the environment names, if any. The README in this folder lists the variables."""
    variables = os.environ
    url = variables.get("CONTRACT_KFP_URL", "").rstrip("/")
    if not url:
        return None
    ca_file, token_file = variables.get("CONTRACT_KFP_CA_FILE", ""), variables.get("CONTRACT_KFP_TOKEN_FILE", "")
    namespace = variables.get("CONTRACT_KFP_NAMESPACE") or CALLER
    health = requests.get(f"{url}/apis/v2beta1/healthz", verify=ca_file or True, timeout=30).json()
    multi_user = bool(health.get("multi_user"))
    cluster = Cluster(variables["CONTRACT_KUBECONFIG"]) if variables.get("CONTRACT_KUBECONFIG") else None
    token = Path(token_file).read_text().strip() if token_file else ""
    if multi_user and not token and cluster is not None:
        cluster.admit(namespace)
        token = cluster.token(namespace, AUDIENCE)
    runs = Runs(variables.get("CONTRACT_KFP_EXECUTES") or "0")
    image = variables.get("CONTRACT_KFP_IMAGE") or "winepipelines/steps:0.1.0"
    return Endpoint(url, namespace, multi_user, runs, image, token, ca_file, cluster)


def cleaned(endpoint: Endpoint) -> Iterator[Endpoint]:
    """Yield an endpoint, and delete its runs afterwards."""
    try:
        yield endpoint
    finally:
        endpoint.clean()
