"""Clusters with nodes, which run images: one that kind makes, or the one-node cluster of a machine without a container engine.

Each begins empty and is made by whoever asks for it.
"""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = "ONE_NODE_CLUSTER"
BESIDE = ROOT.parent / "shared/cluster/cluster"
KIND_NAME = "wine-e2e"
READY = "180s"  # for kind's control plane
HOW = (
    "make e2e needs nodes that run images. Install kind and Docker or Podman (https://kind.sigs.k8s.io) and start it; "
    "or name a program that makes a one-node cluster and loads buildah's images into it (up, base, load IMAGE…, down): "
    f"{PROGRAM}=/path"
)


class NodesError(Exception):
    """There are no nodes to be had; the message says what to do."""


class Nodes(Protocol):
    """A cluster that runs images. `builder` has the images, `building` are variables of dev/images."""

    builder: str
    building: Mapping[str, str]

    def up(self, folder: Path) -> Path:
        """Make the cluster; return its administrator's kubeconfig, which may be written to `folder`.

        Raises NodesError where there is one already.
        """

    def load(self, images: Sequence[str]) -> None:
        """Copy the builder's images to the nodes."""

    def down(self) -> None:
        """Delete the cluster."""


@dataclass
class Kind:
    """A cluster of its own, made by kind with a container engine."""

    builder: str
    building: Mapping[str, str] = field(default_factory=dict)

    def up(self, folder: Path) -> Path:
        """Make it; see Nodes."""
        if KIND_NAME in self._kind("get", "clusters").split():
            raise NodesError(f"there is a kind cluster {KIND_NAME} already: kind delete cluster --name {KIND_NAME}")
        kubeconfig = folder / "kind.kubeconfig"
        self._kind("create", "cluster", "--name", KIND_NAME, "--kubeconfig", str(kubeconfig), "--wait", READY)
        return kubeconfig

    def load(self, images: Sequence[str]) -> None:
        """Copy them by an archive, which kind takes from any engine; the images' common layers are in it once."""
        with TemporaryDirectory() as folder:
            archive = str(Path(folder) / "images.tar")
            several = ["--multi-image-archive"] if self.builder == "podman" else []
            subprocess.run([self.builder, "save", *several, "--output", archive, *images], check=True)
            self._kind("load", "image-archive", archive, "--name", KIND_NAME)

    def down(self) -> None:
        """Delete it."""
        self._kind("delete", "cluster", "--name", KIND_NAME)

    def _kind(self, *arguments: str) -> str:
        environment = {**os.environ, "KIND_EXPERIMENTAL_PROVIDER": self.builder}
        return _run("kind", *arguments, environment=environment)


@dataclass
class OneNode:
    """The one-node cluster that a program makes, of which a machine has one. Its images come from buildah."""

    program: Path
    builder: str = "buildah"
    building: Mapping[str, str] = field(
        default_factory=lambda: {
            "STORAGE_DRIVER": "overlay",
            "IMAGE_BUILD_ARGS": f"--isolation chroot --network host --pull-never {os.environ.get('IMAGE_BUILD_ARGS', '')}",
        }
    )

    def up(self, folder: Path) -> Path:
        """Make it, with the base image of builds; see Nodes."""
        kubeconfig = Path(_run(str(self.program), "up").split()[-1])
        _run(str(self.program), "base")
        return kubeconfig

    def load(self, images: Sequence[str]) -> None:
        """Copy them one by one."""
        _run(str(self.program), "load", *images)

    def down(self) -> None:
        """Delete it."""
        _run(str(self.program), "down")


def find(environment: Mapping[str, str] = os.environ, beside: Path = BESIDE) -> Nodes:
    """Choose: the program that is named; kind, where there is an engine; the program that stands beside the project.

    Raises NodesError.
    """
    if named := environment.get(PROGRAM):
        if not os.access(named, os.X_OK):
            raise NodesError(f"{PROGRAM}={named} is no program")
        return OneNode(Path(named))
    if shutil.which("kind"):
        for engine in ("docker", "podman"):
            if _works(engine):
                return Kind(engine)
    if os.access(beside, os.X_OK):
        return OneNode(beside)
    raise NodesError(HOW)


def _works(engine: str) -> bool:
    """Tell whether an engine runs: its command is often there without it."""
    return shutil.which(engine) is not None and not subprocess.run([engine, "info"], capture_output=True, check=False).returncode


def _run(*command: str, environment: Mapping[str, str] = os.environ) -> str:
    done = subprocess.run(command, env={**environment}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NodesError(f"{' '.join(command[:3])} failed:\n{(done.stderr or done.stdout).strip()}")
    return done.stdout
