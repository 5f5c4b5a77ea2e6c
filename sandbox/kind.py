"""The program kind: creates and deletes clusters with one container engine."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from sandbox import engines
from sandbox.components import base_environment
from sandbox.errors import SandboxError

WAIT = "180s"  # for the control plane to be ready
INSTALL = "https://kind.sigs.k8s.io/docs/user/quick-start/#installation"


def is_installed() -> bool:
    """Report whether the program is installed."""
    return shutil.which("kind") is not None


@dataclass(frozen=True)
class Kind:
    """kind with one engine. It does not list the clusters of other engines."""

    engine: str

    def clusters(self) -> list[str]:
        """List clusters by name. Raises SandboxError."""
        return self._run("get", "clusters").split()

    def create(self, name: str, kubeconfig: Path) -> None:
        """Create a cluster, and wait for its control plane. Raises SandboxError."""
        self._run("create", "cluster", "--name", name, "--kubeconfig", str(kubeconfig), "--wait", WAIT)

    def export(self, name: str, kubeconfig: Path) -> None:
        """Write a cluster's kubeconfig. Raises SandboxError."""
        self._run("export", "kubeconfig", "--name", name, "--kubeconfig", str(kubeconfig))

    def load(self, name: str, archive: Path) -> None:
        """Copy an archive of images to the nodes. Raises SandboxError."""
        self._run("load", "image-archive", str(archive), "--name", name)

    def delete(self, name: str) -> None:
        """Delete a cluster, and check that it is deleted: kind reports success for an unknown name, too.

        Raises SandboxError.
        """
        self._run("delete", "cluster", "--name", name)
        if name in self.clusters():
            raise SandboxError(
                f"kind delete cluster reported success, but the cluster {name} is still there. {self.by_hand(name)}"
            )

    def by_hand(self, name: str) -> str:
        """Explain how to delete a cluster manually."""
        return f"To delete it manually: {engines.KIND_VARIABLE}={self.engine} kind delete cluster --name {name}"

    def _run(self, *arguments: str) -> str:
        program = shutil.which("kind")
        if program is None:
            raise SandboxError(f"The program kind is no longer installed: {INSTALL}")
        environment = {**base_environment(), engines.KIND_VARIABLE: self.engine}
        done = subprocess.run([program, *arguments], env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            output = (done.stderr or done.stdout).strip()
            raise SandboxError(f"kind {' '.join(arguments[:2])} failed with {self.engine}:\n{output}")
        return done.stdout
