"""The compiled programs: found in `KUBEBUILDER_ASSETS`, or built once from pinned Go modules.

`python -m sandbox.programs NAME...` prints their paths, built if need be; without a name those of all that the sandbox runs.
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sandbox.errors import BuildError
from sandbox.places import ROOT, cache_folder

KUBERNETES = "v1.36.3"
HELM = "v4.3.1"
GO = "1.26"
AT_ONCE = 2  # a link of kube-apiserver takes 2 GB
SHOW_EVERY = 15.0  # seconds between two signs of life of a build

Report = Callable[[str], object]


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
    Program("minio", "minio", "github.com/minio/minio"),
    _kubernetes("kube-controller-manager"),
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
    wanted = [program for program in PROGRAMS if control_plane or program.name in ("kubectl", "minio")]
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
    environment = {**os.environ, "GOWORK": "off"}
    done = subprocess.run(command, cwd=_tools(program), env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildError(f"The sources of {program.name} cannot be read. {_advice(done.stderr)}\n{_end(done.stderr)}")
    return Path(json.loads(done.stdout)["Dir"])


def _given(program: Program) -> Path | None:
    """The program as the user supplies it; envtest's folder has no controller manager and no object store."""
    folder = os.environ.get("KUBEBUILDER_ASSETS")
    if folder and program.name in ("etcd", "kube-apiserver", "kubectl") and (path := Path(folder, program.name)).exists():
        return path.absolute()
    return None


def _cached(program: Program) -> Path:
    files = (_tools(program) / name for name in ("go.mod", "go.sum", "main.go"))
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
        report(f"building {', '.join(program.name for program in missing)} from source: once, a few minutes each")
        with ThreadPoolExecutor(AT_ONCE) as pool:
            builds = [pool.submit(_build, go, program, report) for program in missing]
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


def _build(go: str, program: Program, report: Report) -> None:
    target = _cached(program)
    target.parent.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=f".{program.name}-", dir=target.parent) as scratch:
        output = Path(scratch) / program.name
        command = [go, "build", "-mod=readonly", "-buildvcs=false", "-trimpath", "-ldflags", program.linker_flags]
        with subprocess.Popen(
            [*command, "-o", str(output), program.package],
            cwd=_tools(program),
            env={**os.environ, "CGO_ENABLED": "0", "GOWORK": "off"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as build:
            log = ""
            while build.returncode is None:
                try:
                    _, log = build.communicate(timeout=SHOW_EVERY)
                except subprocess.TimeoutExpired:
                    report(f"building {program.name}: {time.monotonic() - started:.0f} s")
        if build.returncode:
            raise BuildError(f"{program.name} could not be built. {_advice(log)}\n{_end(log)}")
        output.replace(target)  # atomic: no one ever sees half a program
    report(f"built {program.name} in {time.monotonic() - started:.0f} s")


def _advice(log: str) -> str:
    """Advice for a failed build, from Go's output."""
    if re.search(r"dial tcp|proxyconnect|i/o timeout|no such host|TLS handshake|connection refused|x509:|GOPROXY", log):
        return "The Go module proxy cannot be reached: check the network, or name another one with GOPROXY."
    if re.search(r"requires go >=|toolchain not available|invalid go version", log):
        return f"This Go is too old: install {GO} or newer, or name another one: GO=/path/to/bin/go."
    if "no space left" in log:
        return (
            f"The disk is full: the programs and Go's build cache take 6 GB. WINE_CACHE={cache_folder()} and GOCACHE say where."
        )
    if "signal: killed" in log:
        return "The machine ran out of memory: close something, or build with GOFLAGS=-p=1."
    return "Output of Go:"


def _end(log: str) -> str:
    return "\n".join(log.strip().splitlines()[-15:])


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
