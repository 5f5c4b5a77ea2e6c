"""A cluster with nodes, its images and packaged charts, for one scenario: `make e2e`. Prints how long each part took.

`PREVIOUS` is the archive of an earlier release of the operator's chart, from which the test upgrades. The builder has its images,
or the cluster pulls them. Without it, the test packages this chart with an older version, a CRD with one column fewer and images
with another tag. `KEEP=1` keeps the cluster after the test.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from e2e.room import needed
from support import capacity, nodes
from support.cluster import eventually
from support.kube import Kube
from support.nodes import ROOT, Nodes, NodesError

from dev import helm
from dev.version import version
from sandbox import kubeconfigs, programs

REGISTRY = "docker.io"
TARGETS = ("operator", "steps", "server", "sandbox", "kserve")
PREVIOUS = "0.0.1"
PLATFORM, USER = "kubeflow", "admin"
PRISTINE = {"default", "kube-node-lease", "kube-public", "kube-system", "local-path-storage"}
parts: list[tuple[str, float]] = []
administrators: list[Kube] = []  # for the report of a failure


@contextmanager
def timed(name: str) -> Iterator[None]:
    """Measure the time of a part of the test."""
    begun = time.monotonic()
    try:
        yield
    finally:
        parts.append((name, time.monotonic() - begun))
        print(f"\n{parts[-1][1]:7.1f} s  {name}", flush=True)


@dataclass(frozen=True)
class Archives:
    """Packaged charts."""

    sandbox: Path
    operator: Path
    previous: Path


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("e2e")


@pytest.fixture(scope="session")
def chosen() -> Nodes:
    try:
        return nodes.find()
    except NodesError as error:
        pytest.exit(str(error), returncode=1)


@pytest.fixture(scope="session")
def kubectl() -> Path:
    return programs.find(print, control_plane=False)["kubectl"]


@pytest.fixture(scope="session")
def administrator(chosen: Nodes, kubectl: Path, folder: Path) -> Iterator[Kube]:
    """Start an empty cluster. Yield its administrator."""
    with timed("cluster up"):
        found = chosen.up(folder)
        kubeconfig = folder / "administrator"
        kubeconfigs.of_context(kubectl, kubeconfig=found).write(kubeconfig)
        kube = Kube(kubectl, kubeconfig)
        kube("wait", "node", "--all", "--for=condition=Ready", "--timeout=60s")
    others = {item["metadata"]["name"] for item in kube.items("namespaces")} - PRISTINE
    others |= {item["metadata"]["name"] for item in kube.items("customresourcedefinitions")}
    if others:
        pytest.exit(f"the cluster is not empty, it has {', '.join(sorted(others)[:5])}: delete them", returncode=1)
    try:
        eventually(lambda: not any(map(capacity.starting, kube.items("nodes"))), 60)
        print(f"\npods request {needed()} together, free are {capacity.check(kube, needed())}", flush=True)
    except NodesError as error:
        if not os.environ.get("KEEP"):
            chosen.down()
        pytest.exit(str(error), returncode=1)
    administrators.append(kube)
    yield kube
    if os.environ.get("KEEP"):
        print(f"\nthe cluster stays: KUBECONFIG={found}", flush=True)
        return
    with timed("cluster down"):
        chosen.down()


@pytest.fixture(scope="session")
def archives(folder: Path) -> Archives:
    """Package the charts as a release does."""
    with timed("charts packaged"):
        older = folder / "older" / helm.CHART.name
        shutil.copytree(helm.CHART, older)
        for file in (older / "files/crds").glob("*.yaml"):
            crd = yaml.safe_load(file.read_text())
            crd["spec"]["versions"][0]["additionalPrinterColumns"].pop()
            file.write_text(yaml.safe_dump(crd))
        given = os.environ.get("PREVIOUS")
        return Archives(
            _package(helm.SANDBOX, folder),
            _package(helm.CHART, folder),
            Path(given).absolute() if given else _package(older, folder, "--version", PREVIOUS, "--app-version", PREVIOUS),
        )


def _package(chart: Path, folder: Path, *options: str) -> Path:
    return Path(helm.run("package", str(chart), "--destination", str(folder), *options).split()[-1])


@pytest.fixture(scope="session")
def images(administrator: Kube, chosen: Nodes, archives: Archives) -> None:
    """Build the images, and load them and those of the previous chart onto the nodes."""
    names = [f"{REGISTRY}/winepipelines/{target}:{version()}" for target in TARGETS]
    environment = {**os.environ, **chosen.building, "BUILDER": chosen.builder, "REGISTRY": REGISTRY}
    with timed("images built"):
        subprocess.run([ROOT / "dev/images", *TARGETS], env=environment, stdout=subprocess.DEVNULL, check=True)
    before = yaml.safe_load(helm.run("show", "chart", str(archives.previous)))["appVersion"]
    for name in (names[0], names[2]):
        earlier = f"{name.rpartition(':')[0]}:{before}"
        if not os.environ.get("PREVIOUS"):
            subprocess.run([chosen.builder, "tag", name, earlier], env=environment, check=True)
        elif subprocess.run([chosen.builder, "inspect", earlier], env=environment, capture_output=True, check=False).returncode:
            continue  # the builder does not have it: the cluster pulls it
        names.append(earlier)
    with timed("images loaded"):
        chosen.load([name for name in names if "/steps:" not in name])  # the sandbox's Kubeflow does not run it


@pytest.fixture(scope="session")
def person(administrator: Kube, folder: Path) -> Kube:
    """Create a user who has only the role `edit` in a namespace. The namespace must exist."""
    administrator("-n", USER, "create", "serviceaccount", "person")
    administrator("-n", USER, "create", "rolebinding", "person", "--clusterrole=edit", f"--serviceaccount={USER}:person")
    token = administrator("-n", USER, "create", "token", "person", "--duration=2h").strip()
    kubeconfig = folder / "person"
    kubeconfigs.Access.read(administrator.kubeconfig).with_token(token).write(kubeconfig)
    return Kube(administrator.program, kubeconfig)


@pytest.fixture(autouse=True)
def _timed(request: pytest.FixtureRequest) -> Iterator[None]:
    with timed(request.node.name.removeprefix("test_").replace("_", " ")):
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """Add the state of the cluster to the report of a failure."""
    report = yield
    if report.failed and administrators:
        report.sections.append(("the cluster", _state(administrators[0])))
    return report


def _state(kube: Kube) -> str:
    commands = {
        "pods": ("get", "pods", "-A", "-o", "wide"),
        "resources": ("get", "winepipelines", "-A", "-o", "yaml"),
        "deployments": ("get", "seldondeployments,deployments,workflows", "-A"),
        "InferenceServices": ("get", "inferenceservices", "-A", "-o", "yaml"),
        "events": ("get", "events", "-A", "--sort-by=.metadata.creationTimestamp", "--field-selector=type!=Normal"),
        "the operator": ("-n", PLATFORM, "logs", "deployment/wine-operator", "--tail=60"),
        "the operator before": ("-n", PLATFORM, "logs", "deployment/wine-operator", "--previous", "--tail=30"),
        "Kubeflow": ("-n", PLATFORM, "logs", "deployment/ml-pipeline", "--tail=30"),
        "Seldon": ("-n", PLATFORM, "logs", "deployment/seldon", "--tail=30"),
        "KServe": ("-n", "kserve", "logs", "deployment/kserve-controller-manager", "--tail=30"),
        "a model of KServe": ("-n", "team", "logs", "--selector=component=predictor", "--all-containers", "--tail=20"),
        "a served model": ("-n", USER, "logs", "--selector=seldon.io/model=true", "--all-containers", "--prefix", "--tail=20"),
    }
    return "\n\n".join(f"--- {name}\n{kube.says(*command)[-12000:]}" for name, command in commands.items())


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the times."""
    terminalreporter.section("times")
    for name, seconds in parts:
        terminalreporter.write_line(f"{seconds:7.1f} s  {name}")
