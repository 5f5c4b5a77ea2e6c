"""The demo, `make demo`: from `kubectl apply` of the example to an answering model.

The example's data is on the internet; here the same file is served from this machine, so that nothing outside is needed.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

from sandbox.errors import ClusterError, SandboxError
from sandbox.places import ROOT
from sandbox.plan import BACKENDS, CLUSTERS, KSERVE, SELDON, Info
from sandbox.platform import Sandbox

EXAMPLE = ROOT / "deploy" / "examples" / "wine.yaml"
NAMESPACE, NAME = "admin", "mlflow"
REQUEST = {"data": {"ndarray": [[5.6, 0.31, 0.37, 1.4, 0.074, 12.0, 96.0, 0.9954, 3.32, 0.58, 9.2]]}}
TIMEOUT = 300  # seconds from apply to Ready


def main() -> int:
    """Run the demo. Return the exit status."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave everything running")
    parser.add_argument("--cluster", choices=CLUSTERS, help="which API server (default: builtin)")
    parser.add_argument("--context", default="", help="of the kubeconfig, for --cluster current; naming it is consent to use it")
    parser.add_argument("--backend", choices=BACKENDS, default=SELDON, help="what serves the model (default: %(default)s)")
    options = parser.parse_args()
    try:
        sandbox = Sandbox(
            "demo",
            cluster=options.cluster,
            backend=options.backend,
            context=options.context,
            report=lambda line: print(f"  {line}", flush=True),
        )
        return 0 if _demo(sandbox, options.keep) else 1
    except SandboxError as error:
        print(f"make demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _demo(sandbox: Sandbox, keep: bool) -> bool:
    """Run the demo. Report whether the model answered."""
    try:
        serving = {SELDON: "Seldon", KSERVE: "KServe"}.get(sandbox.backend or SELDON, "Seldon and KServe")
        print(f"Starting object store, MLflow, Kubeflow Pipelines, {serving}, the operator and their control plane", flush=True)
        info = sandbox.up()
        worked = _show(sandbox, info)
        if keep:
            _how_to_go_on(info)
    except ClusterError:  # nothing was started; what runs belongs to an earlier demo
        raise
    except BaseException as error:
        _stop(sandbox, keep=keep and isinstance(error, SandboxError))
        raise
    _stop(sandbox, keep=keep)
    return worked


def _stop(sandbox: Sandbox, *, keep: bool) -> None:
    if not keep:
        print("\nStopping everything (make demo KEEP=1 leaves it running)", flush=True)
        sandbox.down()


def _show(sandbox: Sandbox, info: Info) -> bool:
    print(f"\n$ kubectl apply -f {EXAMPLE.relative_to(ROOT)}    # with data.url: {info.data_url}", flush=True)
    started = time.monotonic()
    manifest = "".join(f"    url: {info.data_url}\n" if line.strip().startswith("url:") else line for line in EXAMPLE.open())
    print(sandbox.kubectl("apply", "-f", "-", stdin=manifest).strip())
    ready = False
    for ready, line in _stages(info):
        print(f"  {time.monotonic() - started:5.1f} s  {line}", flush=True)
        if ready:
            break
    if not ready:
        print(f"\nNot Ready after {TIMEOUT} s; the operator's log: {info.log_folder / 'operator.log'}", file=sys.stderr)
    print("\n$ kubectl get winepipelines --all-namespaces")
    print(sandbox.kubectl("get", "winepipelines", "--all-namespaces").rstrip())
    return ready and _predict(sandbox)


def _stages(info: Info) -> Iterator[tuple[bool, str]]:
    """Watch the resource. Yield whether it is Ready, with its stage and message, at each change."""
    command = [str(info.kubectl), f"--kubeconfig={info.kubeconfig}", "--namespace", NAMESPACE, "get", "winepipelines", NAME]
    watch = [*command, "--watch", f"--request-timeout={TIMEOUT}s", '--output=jsonpath={@}{"\\n"}']
    shown = ""
    with subprocess.Popen(watch, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                body = json.loads(line)
                status = body.get("status") or {}
                ready = _condition(status, "Ready")
                says = f"{status.get('stage', 'Accepted'):<10} {ready.get('message', '')}"
                done = ready.get("status") == "True" and status.get("observedGeneration") == body["metadata"]["generation"]
                if says != shown or done:
                    shown = says
                    yield done, says
        finally:
            process.terminate()


def _condition(status: dict[str, Any], kind: str) -> dict[str, Any]:
    return next((condition for condition in status.get("conditions", []) if condition["type"] == kind), {})


def _predict(sandbox: Sandbox) -> bool:
    endpoint = sandbox.kubectl("--namespace", NAMESPACE, "get", "winepipelines", NAME, "--output=jsonpath={.status.endpoint.url}")
    request = json.dumps(REQUEST)
    print(f"\n$ curl -s {endpoint} -H 'Content-Type: application/json' -d '{request}'")
    curl = shutil.which("curl")
    if curl is None:
        print("curl is not installed; the endpoint answers any HTTP client", file=sys.stderr)
        return False
    command = [curl, "-sS", "--fail-with-body", "--noproxy", "*", "-H", "Content-Type: application/json", "-d", request, endpoint]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    print((answer.stdout or answer.stderr).strip())
    return answer.returncode == 0


def _how_to_go_on(info: Info) -> None:
    gateway = f"{info.kserve_url}/kserve" if info.kserve_url else f"{info.gateway_url}/seldon"
    print(f"""
Running, until make demo-stop:
  MLflow           {info.mlflow_url}
  predictions      {gateway}/{NAMESPACE}/{NAME}/api/v1.0/predictions
  Kubeflow API     {info.kfp_url}/apis/v2beta1/runs?namespace={NAMESPACE}
  object store     {info.s3_endpoint}
  logs             {info.log_folder}

Go on:
  {info.exports}
  kubectl -n {NAMESPACE} describe winepipeline {NAME}
  kubectl -n {NAMESPACE} patch winepipeline {NAME} --type merge -p '{{"spec":{{"training":{{"parameters":{{"alpha":0.01}}}}}}}}'
  kubectl -n {NAMESPACE} get winepipelines --watch""")


if __name__ == "__main__":
    sys.exit(main())
