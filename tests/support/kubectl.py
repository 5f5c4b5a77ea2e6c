"""Run kubectl on the cluster of a kubeconfig."""

import subprocess
from pathlib import Path


class Refused(Exception):
    """The cluster rejected a request; the message is that of kubectl."""


def run_kubectl(kubectl: Path, kubeconfig: Path, *arguments: str, stdin: str | None = None) -> str:
    """Run kubectl; return its output. Raises Refused."""
    command = [str(kubectl), f"--kubeconfig={kubeconfig}", *arguments]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Refused(done.stderr.strip())
    return done.stdout
