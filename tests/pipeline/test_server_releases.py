"""The releases of Seldon's mlflowserver that the operator lets pass are those that the training step can write a model for."""

from pathlib import Path

import pytest
import yaml
from packaging.specifiers import SpecifierSet

from winesteps.servers import SERVERS

TABLE = yaml.safe_load((Path(__file__).parents[2] / "templates" / "mlflowserver.yaml").read_text())


def _release(text: str) -> tuple[int, int]:
    major, minor = text.split(".")
    return int(major), int(minor)


def test_operator_and_training_know_the_same_releases() -> None:
    first, end = _release(TABLE["releases"][0]["since"]), _release(TABLE["before"])
    assert {(1, minor) for minor in range(first[1], end[1])} == set(SERVERS)
    assert first[0] == end[0] == 1


@pytest.mark.parametrize("row", TABLE["releases"], ids=lambda row: row["since"])
def test_the_environment_that_is_asked_for_is_one_that_the_release_leaves_as_it_is(row: dict[str, str]) -> None:
    pinned = dict(package.split("==") for package in SERVERS[_release(row["since"])].packages)
    for name in ("mlflow", "pandas"):
        assert pinned[name] in SpecifierSet(row[name]), name
