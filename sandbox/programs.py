"""The compiled programs: found in `KUBEBUILDER_ASSETS`, or built once from pinned Go modules.

`python -m sandbox.programs NAME...` prints their paths, built if need be; without a name those of all that the sandbox runs.
"""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from sandbox import gobuild
from sandbox.errors import BuildError
from sandbox.gobuild import GO, Report
from sandbox.places import ROOT, cache_folder

KUBERNETES = "v1.36.3"
HELM = "v4.3.1"


@dataclass(frozen=True)
class Program:
    """A program's name, the Go module under `tools/` that pins it, its package there and its linker flags."""

    name: str
    module: str
    package: str
    linker_flags: str = "-s -w"


def _kubernetes(name: str) -> Program:
    version = "k8s.io/component-base/version"
    minor = KUBERNETES.split(".")[1]
    stamp = f"-s -w -X {version}.gitVersion={KUBERNETES} -X {version}.gitMajor=1 -X {version}.gitMinor={minor}"
    return Program(name, "kubernetes", f"k8s.io/kubernetes/cmd/{name}", stamp)


PROGRAMS = (
    _kubernetes("kube-apiserver"),  # the longest build first
    Program("versitygw", "versitygw", "."),
    Program("kube-controllers", "kubernetes", "./controllers"),
    _kubernetes("kubectl"),
    Program("etcd", "kubernetes", "go.etcd.io/etcd/server/v3"),
)

KSERVE_RELEASES = {
    "0.20": Program("kserve-manager", "kserve", "github.com/kserve/kserve/cmd/manager"),
    "0.16": Program("kserve-manager", "kserve-0.16", "github.com/kserve/kserve/cmd/manager"),
}
"""KServe's controller by release, for sandboxes with KServe. The variable `KSERVE` chooses one; the first is the default."""

KNATIVE = Program("knative-controller", "knative", ".")
"""The controller of Knative Serving, for sandboxes whose KServe runs in Knative mode."""

# Not for the sandbox: they render and check the charts, and are built on first use.
CHART_PROGRAMS = (
    Program("helm", "helm", "helm.sh/helm/v4/cmd/helm", f"-s -w -X helm.sh/helm/v4/internal/version.version={HELM}"),
    Program("kubeconform", "kubeconform", "github.com/yannh/kubeconform/cmd/kubeconform"),
)


def kserve_controller() -> Program:
    """KServe's controller of the release that `KSERVE` chooses.

    Raises BuildError.
    """
    release = os.environ.get("KSERVE") or next(iter(KSERVE_RELEASES))
    if release not in KSERVE_RELEASES:
        raise BuildError(f"KSERVE={release}: the sandbox has KServe {' and '.join(KSERVE_RELEASES)}")
    return KSERVE_RELEASES[release]


def kserve_of(path: Path) -> Program:
    """KServe's controller that was built at a path."""
    return next(program for program in KSERVE_RELEASES.values() if _cached(program) == path)


def built(name: str, report: Report) -> Path:
    """The path of a program as it is pinned, whatever else this machine has of that name.

    Raises BuildError.
    """
    program = next(program for program in (*PROGRAMS, kserve_controller(), KNATIVE, *CHART_PROGRAMS) if program.name == name)
    if not _cached(program).exists():
        _build_all([program], report)
    return _cached(program)


def find(report: Report, *, control_plane: bool = True, kserve: bool = False, knative: bool = False) -> dict[str, Path]:
    """Each program's path by name, after building what is missing; `report` gets a line for every step of a build.

    Without a control plane of the sandbox's own only two are needed, and the user's kubectl suits the user's cluster best.
    Raises BuildError.
    """
    wanted = [program for program in PROGRAMS if control_plane or program.name in ("kubectl", "versitygw")]
    wanted += [kserve_controller()] if kserve else []
    wanted += [KNATIVE] if knative else []
    found = {program.name: _given(program) or _cached(program) for program in wanted}
    if not control_plane and (own := shutil.which("kubectl")):
        found["kubectl"] = Path(own)
    missing = [program for program in wanted if not found[program.name].exists()]
    if missing:
        _build_all(missing, report)
    return found


def module_folder(program: Program, module: str = "") -> Path:
    """The folder of the sources that a program is built from, in Go's module cache, or that of another `module` in it.

    Raises BuildError.
    """
    module = module or program.package.partition("/cmd/")[0]
    command = [_go(), "mod", "download", "-json", module]
    environment = gobuild.environment()
    done = subprocess.run(command, cwd=_tools(program), env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        log = done.stderr
        raise BuildError(f"The sources of {program.name} cannot be read. {gobuild.advice(log)}\n{gobuild.end(log)}")
    return Path(json.loads(done.stdout)["Dir"])


def _given(program: Program) -> Path | None:
    """The program as the user supplies it; envtest's folder has no controller manager and no object store."""
    folder = os.environ.get("KUBEBUILDER_ASSETS")
    if folder and program.name in ("etcd", "kube-apiserver", "kubectl") and (path := Path(folder, program.name)).exists():
        return path.absolute()
    return None


def _cached(program: Program) -> Path:
    files = (_tools(program) / name for name in ("go.mod", "go.sum", f"{program.package}/main.go"))  # its own, if it has one
    pins = b"".join(file.read_bytes() for file in files if file.exists()) + program.linker_flags.encode()
    # One folder a program and its pins: a new object store does not rebuild Kubernetes.
    return cache_folder() / "programs" / hashlib.sha256(pins).hexdigest()[:12] / program.name


def _tools(program: Program) -> Path:
    return ROOT / "sandbox" / "tools" / program.module


def _build_all(programs: list[Program], report: Report) -> None:
    folder = cache_folder() / "programs"
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder / ".lock", report):
        missing = [program for program in programs if not _cached(program).exists()]  # another sandbox may have built some
        if not missing:
            return
        go = _go()
        report(f"building {', '.join(program.name for program in missing)} from source: once, some minutes")
        modules = {program.module: [other for other in missing if other.module == program.module] for program in missing}
        turn = Lock()
        with ThreadPoolExecutor(len(modules)) as pool:
            builds = [pool.submit(_build, go, module, turn, report) for module in modules.values()]
            try:
                for build in builds:
                    build.result()
            except BuildError:
                pool.shutdown(wait=False, cancel_futures=True)
                raise


@contextmanager
def _locked(path: Path, report: Report) -> Iterator[None]:
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report("waiting for another sandbox that is building the programs")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _go() -> str:
    go = os.environ.get("GO") or shutil.which("go") or shutil.which("/usr/local/go/bin/go")
    if go is None or shutil.which(go) is None:
        raise BuildError(
            f"Go {GO} or newer is needed, once, to build the control plane and the object store. Install it, or name it: "
            "GO=/path/to/bin/go. (etcd, kube-apiserver and kubectl can also come from KUBEBUILDER_ASSETS.)"
        )
    return go


def _build(go: str, programs: list[Program], turn: Lock, report: Report) -> None:
    """Build programs of one module.

    Modules are downloaded at the same time and built one after another: two builds would both compile the standard library.
    """
    commands = [gobuild.Command(program.package, program.linker_flags, _cached(program)) for program in programs]
    gobuild.download(go, _tools(programs[0]), commands, report)
    with turn:
        gobuild.build(go, _tools(programs[0]), commands, report)


def main(names: list[str]) -> None:
    """Print the paths of programs; progress of a build goes to standard error."""

    def report(line: str) -> None:
        sys.stderr.write(f"{line}\n")

    try:
        paths = [built(name, report) for name in names] or find(report).values()
    except BuildError as error:
        sys.exit(str(error))
    sys.stdout.writelines(f"{path}\n" for path in paths)


if __name__ == "__main__":
    main(sys.argv[1:])
