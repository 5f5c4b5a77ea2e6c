"""The images, built once for all tests by `dev/images`, which reads BUILDER and IMAGE_BUILD_ARGS."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from support import containers
from support.containers import Engine

ROOT = Path(__file__).resolve().parents[2]
TARGETS = ("operator", "steps", "server")
ANYONE = (8888, 1000620017)  # Seldon's user, and a user of a cluster that assigns a range to each namespace


@pytest.fixture(scope="session")
def engine() -> Engine:
    found = containers.find()
    assert found, "these tests need docker, podman or buildah"
    return found


@pytest.fixture(scope="session")
def images(engine: Engine) -> Mapping[str, str]:
    """Return the names of the images by target."""
    environment = {**os.environ, **containers.local_base(engine.name)}
    done = subprocess.run([ROOT / "dev/images", *TARGETS], env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return dict(zip(TARGETS, done.stdout.split(), strict=True))
