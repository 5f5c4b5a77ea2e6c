"""Images and containers with docker, podman or buildah, whichever `dev/images` uses.

Containers run under the restrictions of the strictest clusters: no root user, no capabilities, a read-only root file system, and
a writable /tmp.
"""

import contextlib
import gzip
import io
import json
import os
import re
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from sandbox import engines
from sandbox.errors import EngineError

ROOT = Path(__file__).resolve().parents[2]
# buildah has no read-only root. This mounts the root read-only in a mount namespace that ends with the process.
CHROOT = r"""
root=$1 user=$2; shift 2
mount --bind "$root" "$root"
while [ "$1" != -- ]; do
  mkdir -p "$root$2"
  mount --bind "$1" "$root$2"
  [ "$3" = rw ] || mount -o remount,bind,ro "$root$2"
  shift 3
done
shift
mount -t tmpfs -o mode=1777 tmp "$root/tmp"
mount --rbind /dev "$root/dev"
mount -t proc proc "$root/proc"
mount -o remount,bind,ro "$root"
exec chroot --userspec="$user:0" --groups="" "$root" env -i "$@"
"""


@dataclass(frozen=True)
class Layer:
    """A layer: digest, size of its files in bytes, and their names."""

    digest: str
    size: int
    files: tuple[str, ...]


@dataclass(frozen=True)
class Engine:
    """A program that builds and runs images."""

    name: str

    def configuration(self, image: str) -> dict[str, Any]:
        """Read the configuration of an image: User, Env, Cmd, Labels."""
        if self.name == "buildah":
            return dict(json.loads(_output("buildah", "inspect", "--type", "image", image))["OCIv1"]["config"])
        return dict(json.loads(_output(self.name, "image", "inspect", image))[0]["Config"])

    def layers(self, image: str) -> list[Layer]:
        """Read the layers of an image, those of the base first."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "image.tar")
            if self.name == "buildah":
                _output("buildah", "push", "--quiet", image, f"docker-archive:{file}")
            else:
                _output(self.name, "save", "--output", str(file), image)
            with tarfile.open(file) as archive:
                [manifest] = json.load(_member(archive, "manifest.json"))
                digests = json.load(_member(archive, manifest["Config"]))["rootfs"]["diff_ids"]
                return [_layer(digest, _member(archive, name)) for digest, name in zip(digests, manifest["Layers"], strict=True)]

    @contextlib.contextmanager
    def start(
        self,
        image: str,
        *command: str,
        user: int,
        environment: Mapping[str, str] | None = None,
        mounts: Mapping[Path, str] | None = None,
        writable: Sequence[str] = (),
    ) -> Iterator["subprocess.Popen[str]"]:
        """Run a container in the host's network until the context ends. Without a command it runs that of the image.

        `mounts` maps folders of the host to paths in the container, which are read-only except those in `writable`.
        """
        environment, mounts = environment or {}, mounts or {}
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        with contextlib.ExitStack() as stack:
            if self.name == "buildah":
                arguments = stack.enter_context(self._chroot(image, command, user, environment, mounts, writable))
            else:
                arguments = [self.name, "run", "--rm", "--read-only", "--tmpfs", "/tmp:mode=1777", "--user", f"{user}:0"]
                arguments += ["--network", "host", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
                arguments += [part for name, value in environment.items() for part in ("--env", f"{name}={value}")]
                for source, target in mounts.items():
                    arguments += ["--volume", f"{source}:{target}:{'rw' if target in writable else 'ro'}"]
                arguments += [image, *command]
            process = subprocess.Popen(arguments, **pipes)
            try:
                yield process
            finally:
                process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.communicate(timeout=30)
                process.kill()

    def run(self, image: str, *command: str, **how: Any) -> "subprocess.CompletedProcess[str]":
        """Run a container until it ends; return its exit status and output."""
        with self.start(image, *command, **how) as process:
            output, errors = process.communicate(timeout=240)
        return subprocess.CompletedProcess(command, process.returncode, output, errors)

    @contextlib.contextmanager
    def _chroot(
        self,
        image: str,
        command: Sequence[str],
        user: int,
        environment: Mapping[str, str],
        mounts: Mapping[Path, str],
        writable: Sequence[str],
    ) -> Iterator[list[str]]:
        configuration = self.configuration(image)
        container = _output("buildah", "from", "--pull-never", image).strip()
        try:
            root = _output("buildah", "mount", container).strip()
            arguments = ["unshare", "--mount", "sh", "-euc", CHROOT, "sh", root, str(user)]
            for source, target in mounts.items():
                arguments += [str(source), target, "rw" if target in writable else "ro"]
            variables = [*configuration["Env"], *(f"{name}={value}" for name, value in environment.items())]
            yield [*arguments, "--", f"--chdir={configuration['WorkingDir']}", *variables, *(command or configuration["Cmd"])]
        finally:
            _output("buildah", "rm", container)


def base_tag() -> str:
    """Return the name of the base image without its digest, which a base that was built on this machine has."""
    default = re.search(r"^ARG BASE_IMAGE=(\S+)@sha256:[0-9a-f]{64}$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert default is not None, "the Dockerfile must name its base by digest"
    return default[1]


def local_base(builder: str) -> dict[str, str]:
    """Return the variable of `dev/images` for a base built on this machine, unless there is none or the environment names one."""
    base = base_tag()
    if (
        "BASE_IMAGE" in os.environ
        or subprocess.run([builder, "images", "--quiet", base], stdout=subprocess.PIPE).stdout.strip() == b""
    ):
        return {}
    return {"BASE_IMAGE": base}


def find() -> Engine | None:
    """Find the engine that `dev/images` uses, or None."""
    try:
        return Engine(engines.for_images())
    except EngineError:
        return None


def _output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout


def _member(archive: tarfile.TarFile, name: str) -> IO[bytes]:
    member = archive.extractfile(name)
    assert member is not None
    return member


def _layer(digest: str, content: IO[bytes]) -> Layer:
    if content.read(2) == b"\x1f\x8b":
        content.seek(0)
        content = io.BytesIO(gzip.decompress(content.read()))
    content.seek(0)
    with tarfile.open(fileobj=content) as archive:
        members = archive.getmembers()
    return Layer(digest, sum(one.size for one in members), tuple(one.name for one in members))
