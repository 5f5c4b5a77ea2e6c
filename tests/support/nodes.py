"""Clusters whose nodes run container images: one created by kind, or a one-node cluster for a machine without a container engine.

A test creates its cluster, which is empty at first.
"""

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

from support.containers import base_tag

from sandbox import engines, kind
from sandbox.errors import EngineError
from sandbox.kind import Kind

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = "ONE_NODE_CLUSTER"
BESIDE = ROOT.parent / "shared/cluster/cluster"
KIND_NAME = "wine-e2e"
HOW = (
    "make e2e needs nodes that run images. Install kind and Docker or Podman (https://kind.sigs.k8s.io) and start it; "
    "or name a program that creates a one-node cluster and loads buildah's images into it (up, base, load IMAGE…, down): "
    f"{PROGRAM}=/path"
)


class NodesError(Exception):
    """No cluster can be created; the message says what to do."""


class Nodes(Protocol):
    """A cluster that runs images. `builder` has the images; `building` is the environment of dev/images."""

    builder: str
    building: Mapping[str, str]

    def up(self, folder: Path) -> Path:
        """Create the cluster; return the path of its administrator's kubeconfig, which may be in `folder`.

        Raises NodesError if the cluster exists already.
        """

    def load(self, images: Sequence[str]) -> None:
        """Copy the builder's images to the nodes."""

    def down(self) -> None:
        """Delete the cluster."""


@dataclass
class KindNodes:
    """A cluster that kind creates with a container engine."""

    builder: str
    building: Mapping[str, str] = field(default_factory=dict)

    def up(self, folder: Path) -> Path:
        """Create the cluster; see Nodes."""
        if KIND_NAME in self._kind.clusters():
            raise NodesError(f"kind cluster {KIND_NAME} exists already. {self._kind.by_hand(KIND_NAME)}")
        kubeconfig = folder / "kind.kubeconfig"
        self._kind.create(KIND_NAME, kubeconfig)
        return kubeconfig

    def load(self, images: Sequence[str]) -> None:
        """Copy the images in one archive, which kind accepts from any engine and which has common layers once."""
        with TemporaryDirectory() as folder:
            archive = Path(folder) / "images.tar"
            several = ["--multi-image-archive"] if self.builder == "podman" else []
            subprocess.run([self.builder, "save", *several, "--output", str(archive), *images], check=True)
            self._kind.load(KIND_NAME, archive)

    def down(self) -> None:
        """Delete the cluster."""
        self._kind.delete(KIND_NAME)

    @property
    def _kind(self) -> Kind:
        return Kind(self.builder)


@dataclass
class OneNode:
    """The one-node cluster that a program creates, at most one per machine. Its images come from buildah."""

    program: Path
    builder: str = "buildah"
    building: Mapping[str, str] = field(
        default_factory=lambda: {
            "STORAGE_DRIVER": "overlay",
            "BASE_IMAGE": os.environ.get("BASE_IMAGE") or base_tag(),
            "IMAGE_BUILD_ARGS": f"--isolation chroot --network host --pull-never {os.environ.get('IMAGE_BUILD_ARGS', '')}",
        }
    )

    def up(self, folder: Path) -> Path:
        """Create the cluster and import the base image for builds; see Nodes."""
        kubeconfig = Path(_run(str(self.program), "up").split()[-1])
        _run(str(self.program), "base")
        return kubeconfig

    def load(self, images: Sequence[str]) -> None:
        """Copy the images one by one."""
        _run(str(self.program), "load", *images)

    def down(self) -> None:
        """Delete the cluster."""
        _run(str(self.program), "down")


def find(environment: Mapping[str, str] = os.environ, beside: Path = BESIDE) -> Nodes:
    """Choose the program that the environment names, else kind if there is an engine, else the program at `beside`.

    Raises NodesError if none is available.
    """
    if named := environment.get(PROGRAM):
        if not os.access(named, os.X_OK):
            raise NodesError(f"{PROGRAM}={named} is not an executable file")
        return OneNode(Path(named))
    why = "kind is not installed."
    if kind.is_installed():
        try:
            return KindNodes(engines.for_kind(environment, engines.BOTH))
        except EngineError as error:
            why = str(error)
    if os.access(beside, os.X_OK):
        return OneNode(beside)
    raise NodesError(f"{HOW}\n{why}")


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NodesError(f"{' '.join(command[:3])} failed:\n{(done.stderr or done.stdout).strip()}")
    return done.stdout
