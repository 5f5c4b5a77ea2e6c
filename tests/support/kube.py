"""kubectl on any cluster, with the credentials of a kubeconfig."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sandbox.components import base_environment

Object = dict[str, Any]


class KubeError(Exception):
    """kubectl failed; the message is its output."""


@dataclass(frozen=True)
class Kube:
    """The path of kubectl, and a kubeconfig."""

    program: Path
    kubeconfig: Path

    def __call__(self, *arguments: str, stdin: str = "") -> str:
        """Run kubectl; return its output.

        Raises KubeError if it fails.
        """
        done = subprocess.run(
            [str(self.program), "--cache-dir", str(self.kubeconfig.parent / "kubectl"), *arguments],
            env={**base_environment(), "KUBECONFIG": str(self.kubeconfig)},
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise KubeError(f"kubectl {' '.join(arguments[:6])}: {(done.stderr or done.stdout).strip()}")
        return done.stdout

    def apply(self, *manifests: Object) -> None:
        """Apply manifests."""
        self("apply", "-f", "-", stdin=yaml.safe_dump_all(manifests))

    def get(self, *arguments: str) -> Object:
        """Get an object or, with a selector, a list."""
        return dict(json.loads(self("get", *arguments, "--output=json")))

    def items(self, *arguments: str) -> list[Object]:
        """Get the items of a list."""
        return list(self.get(*arguments)["items"])

    def says(self, *arguments: str) -> str:
        """Run kubectl; return its output or, if it fails, the error message."""
        try:
            return self(*arguments)
        except KubeError as error:
            return str(error)
