"""kubectl, as the sandbox's administrator or as the operator."""

import subprocess
import time
from collections.abc import Callable

from sandbox.components import base_environment
from sandbox.errors import KubectlError
from sandbox.plan import Plan

NO_CONDITIONS = "accessor error"  # kubectl's word for a CRD whose conditions are null, as those of large ones are for a second
RETRY = 0.2  # seconds


def await_kinds(run: Callable[..., str], *which: str, seconds: float = 60) -> None:
    """Wait until the API server serves CRDs, named as `kubectl wait` takes them. `run` runs kubectl with arguments.

    Raises what `run` raises where it fails for another reason than null conditions.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            run("wait", "--for=condition=Established", *which, f"--timeout={seconds:.0f}s")
        except Exception as error:
            if NO_CONDITIONS not in str(error) or time.monotonic() > deadline:
                raise
        else:
            return
        time.sleep(RETRY)


def kubectl(plan: Plan, *arguments: str, stdin: str | None = None, as_operator: bool = False) -> str:
    """Run kubectl as the administrator, or with the operator's token. Return its output.

    Raises KubectlError.
    """
    config = plan.operator_kubeconfig if as_operator else plan.kubeconfig
    done = subprocess.run(
        [str(plan.programs["kubectl"]), "--cache-dir", str(plan.folder / "kubectl"), *arguments],
        env={**base_environment(), "KUBECONFIG": str(config)},
        input=stdin if stdin is not None else "",
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise KubectlError((done.stderr or done.stdout).strip())
    return done.stdout
