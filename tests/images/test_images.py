"""The images: content, users and read-only root."""

import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest
from images.conftest import ANYONE, ROOT, TARGETS
from support.containers import Engine, Layer

OPERATOR_LIMIT = 180_000_000  # bytes above the base image
TOOLS = ("gcc", "cc", "g++", "clang", "ld", "make", "pip", "pip3", "uv")
LOOK = f"""
import importlib.util, json, os, pathlib, shutil, sys, tempfile
places = ["/", "/app", "/opt/wine", "/usr", "/var/tmp", "/root", "/home"]
pathlib.Path(tempfile.gettempdir(), "note").write_text("may be written")
print(json.dumps({{
    "user": os.getuid(),
    "temporary": tempfile.gettempdir(),
    "written": [place for place in places if os.access(place, os.W_OK)],
    "tools": [tool for tool in {TOOLS} if shutil.which(tool)],
    "modules": [name for name in ("pip", "ensurepip") if importlib.util.find_spec(name)],
}}))
"""


def added(engine: Engine, image: str) -> list[Layer]:
    """Return the layers that the image adds to its base."""
    base = engine.layers(engine.configuration(image)["Labels"]["org.opencontainers.image.base.name"])
    layers = engine.layers(image)
    assert [layer.digest for layer in layers[: len(base)]] == [layer.digest for layer in base]
    return layers[len(base) :]


@pytest.mark.parametrize("target", TARGETS)
def test_image_has_labels(engine: Engine, images: Mapping[str, str], target: str) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    configuration = engine.configuration(images[target])
    labels = {name.removeprefix("org.opencontainers.image."): value for name, value in configuration["Labels"].items()}
    assert (labels["title"], labels["version"], labels["licenses"]) == (f"wine-{target}", version, "Apache-2.0")
    assert labels["revision"]
    assert images[target].endswith(f"winepipelines/{target}:{version}")
    assert configuration["User"] == "65532:65532"


def test_operator_image_is_small(engine: Engine, images: Mapping[str, str]) -> None:
    size = sum(layer.size for layer in added(engine, images["operator"]))
    print(f"operator: {size / 1e6:.0f} MB over its base")
    assert 50_000_000 < size <= OPERATOR_LIMIT


def test_steps_and_server_share_all_layers_except_their_code(engine: Engine, images: Mapping[str, str]) -> None:
    steps, server = ({layer.digest: layer.size for layer in added(engine, images[target])} for target in ("steps", "server"))
    shared = steps.keys() & server.keys()
    print(f"steps and server: {sum(steps[one] for one in shared) / 1e6:.0f} MB over their base, together")
    assert sum(size for digest, size in (steps | server).items() if digest not in shared) < 1_000_000
    assert sum(steps[digest] for digest in shared) > 100_000_000


@pytest.mark.parametrize("target", TARGETS)
def test_image_contains_no_build_files(engine: Engine, images: Mapping[str, str], target: str) -> None:
    files = [Path(name) for layer in added(engine, images[target]) for name in layer.files]
    left = [str(file) for file in files if {".cache", "pip", "ensurepip", "tests", "build"} & set(file.parts)]
    assert [name for name in left if "site-packages" not in name or "/pip/" in name] == []
    assert not [file for file in files if file.suffix in {".h", ".a", ".whl", ".pyx"}]


@pytest.mark.parametrize("user", ANYONE)
@pytest.mark.parametrize("target", TARGETS)
def test_image_runs_as_any_user_and_writes_to_tmp_only(engine: Engine, images: Mapping[str, str], target: str, user: int) -> None:
    done = engine.run(images[target], "python", "-c", LOOK, user=user)
    assert done.returncode == 0, done.stderr
    assert done.stdout == (f'{{"user": {user}, "temporary": "/tmp", "written": [], "tools": [], "modules": []}}\n')


@pytest.mark.parametrize("target", TARGETS)
def test_packages_agree_with_their_pins(engine: Engine, images: Mapping[str, str], target: str) -> None:
    program = "import importlib.metadata as m; print('\\n'.join(f'{d.name}=={d.version}' for d in m.distributions()))"
    installed = engine.run(images[target], "python", "-c", program, user=ANYONE[0]).stdout.lower().replace("_", "-").split()
    pins = (ROOT / "requirements" / ("operator.txt" if target == "operator" else "pipeline.txt")).read_text()
    pinned = {line.split()[0].rstrip("\\").rstrip(";") for line in pins.splitlines() if "==" in line and line[0] not in " #"}
    assert installed
    assert {name.replace(".", "-") for name in installed} <= {name.replace(".", "-").replace("_", "-") for name in pinned}
