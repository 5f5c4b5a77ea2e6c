"""kubectl, as the sandbox's administrator or as the operator."""

import subprocess

from sandbox.components import base_environment
from sandbox.errors import KubectlError
from sandbox.plan import Plan


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
