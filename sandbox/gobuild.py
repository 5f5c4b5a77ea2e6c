"""Build commands of a pinned Go module, with progress: packages compiled of packages to compile."""

import os
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import IO

from sandbox.errors import BuildError
from sandbox.places import cache_folder

GO = "1.26"
SHOW_EVERY = 10.0  # seconds between two lines of progress
FLAGS = ("-mod=readonly", "-buildvcs=false", "-trimpath", "-gcflags=all=-dwarf=false")  # the linker would strip it: -s -w
# A compiler runs for seconds: below this size it need not collect garbage. That saves a tenth of a build's CPU time.
COLLECTOR = {"GOGC": "off", "GOMEMLIMIT": "1GiB"}
LISTED = ("-deps", "-f", "{{if .Stale}}{{.ImportPath}}{{end}}")

Report = Callable[[str], object]


@dataclass(frozen=True)
class Command:
    """A package with a main function, its linker flags and the path of the program."""

    package: str
    linker_flags: str
    target: Path


def download(go: str, module: Path, commands: Sequence[Command], report: Report) -> None:
    """Download the modules that commands are built from. A failure is left to the build, which explains it."""
    progress = _Progress(_names(commands), frozenset(), time.monotonic(), report)
    _run([go, "list", *FLAGS, "-deps", *(command.package for command in commands)], module, progress)


def build(go: str, module: Path, commands: Sequence[Command], report: Report) -> None:
    """Build commands of the module in a folder with one `go build`, which compiles what they share once.

    Raises BuildError; then no target exists that did not exist before.
    """
    names = _names(commands)
    started = time.monotonic()
    for command in commands:
        command.target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".build-", dir=cache_folder() / "programs") as scratch:
        packages = [command.package for command in commands]
        flags = [f"-ldflags={command.package}={command.linker_flags}" for command in commands]
        flags = [f"-ldflags={commands[0].linker_flags}"] if len(commands) == 1 else flags
        outputs = [Path(scratch, _executable(command)) for command in commands]
        output = f"{scratch}/" if len(commands) > 1 else str(outputs[0])
        progress = _Progress(names, _stale(go, module, packages), started, report)
        log = _run([go, "build", "-v", *FLAGS, *flags, "-o", output, *packages], module, progress)
        if log is not None:
            raise BuildError(f"{names} could not be built. {advice(log)}\n{end(log)}")
        for path, command in zip(outputs, commands, strict=True):
            path.replace(command.target)  # atomic: no one ever sees half a program
    report(f"built {names} in {time.monotonic() - started:.0f} s")


def environment() -> dict[str, str]:
    """Return the environment of Go: without C compilers and workspaces, which other machines have not."""
    return {**COLLECTOR, **os.environ, "CGO_ENABLED": "0", "GOWORK": "off"}


def advice(log: str) -> str:
    """Return advice for a failed build, from Go's output."""
    if re.search(r"dial tcp|proxyconnect|i/o timeout|no such host|TLS handshake|connection refused|x509:|GOPROXY", log):
        return "The Go module proxy cannot be reached: check the network, or name another one with GOPROXY."
    if re.search(r"requires go >=|toolchain not available|invalid go version", log):
        return f"This Go is too old: install {GO} or newer, or name another one: GO=/path/to/bin/go."
    if "no space left" in log:
        return (
            "The disk is full: programs, environments and Go's build cache take 4 GB, more with KServe. "
            f"WINE_CACHE={cache_folder()} and GOCACHE say where."
        )
    if "signal: killed" in log:
        return "The machine ran out of memory: close something, or build with GOFLAGS=-p=1."
    return "Output of Go:"


def end(log: str) -> str:
    """Return the last lines of Go's output."""
    return "\n".join(log.strip().splitlines()[-15:])


def _names(commands: Sequence[Command]) -> str:
    return ", ".join(command.target.name for command in commands)


class _Progress:
    """Counts what Go prints, and reports it every few seconds."""

    def __init__(self, names: str, stale: frozenset[str], started: float, report: Report) -> None:
        self._names, self._stale, self._started, self._report = names, stale, started, report
        self._compiled = self._downloaded = 0
        self.log: list[str] = []

    def read(self, output: IO[str]) -> None:
        """Read all lines of Go's output."""
        for line in output:
            package = line.strip()
            if package in self._stale:
                self._compiled += 1
            elif package.startswith("go: downloading "):
                self._downloaded += 1
            else:
                self.log.append(line)

    def show(self) -> None:
        """Report how far the build is."""
        seconds = time.monotonic() - self._started
        total = len(self._stale)
        if self._compiled and self._compiled < total:
            left = seconds / self._compiled * (total - self._compiled)
            state = f"{self._compiled:,} of {total:,} packages, {100 * self._compiled // total} %, about {left:.0f} s left"
        elif self._compiled:
            state = f"all {total:,} packages, linking"
        else:
            state = f"{self._downloaded:,} modules downloaded"
        self._report(f"building {self._names}: {state} ({seconds:.0f} s)")


def _run(command: list[str], folder: Path, progress: _Progress) -> str | None:
    """Run Go; return its output if it fails."""
    with subprocess.Popen(
        command,
        cwd=folder,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stderr is not None
        reader = Thread(target=progress.read, args=(running.stderr,))
        reader.start()
        while running.returncode is None:
            try:
                running.wait(SHOW_EVERY)
            except subprocess.TimeoutExpired:
                progress.show()
        reader.join()
    return "".join(progress.log) if running.returncode else None


def _stale(go: str, module: Path, packages: list[str]) -> frozenset[str]:
    """List the packages that are not in Go's build cache. A failure is left to the build, which explains it."""
    listed = subprocess.run(
        [go, "list", *FLAGS, *LISTED, *packages], cwd=module, env=environment(), capture_output=True, text=True, check=False
    )
    return frozenset() if listed.returncode else frozenset(listed.stdout.split())


def _executable(command: Command) -> str:
    """Name the file that `go build` writes into a folder: the last part of the package that is not a major version."""
    parts = [part for part in command.package.split("/") if not re.fullmatch(r"v[2-9]\d*", part)]
    return command.target.name if parts[-1] == "." else parts[-1]
