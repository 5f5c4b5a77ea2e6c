"""The known releases of Seldon's mlflowserver: their versions, and the environments of models for them."""

import pytest
from packaging.specifiers import SpecifierSet

from winecontract import servers
from winecontract.servers import SERVERS, Server


@pytest.mark.parametrize("server", SERVERS.values(), ids=[f"{major}.{minor}" for major, minor in SERVERS])
def test_environment_satisfies_the_requirements_of_its_server(server: Server) -> None:
    pinned = dict(package.split("==") for package in server.packages)
    for name, required in (("mlflow", server.mlflow), ("pandas", server.pandas)):
        assert pinned[name] in SpecifierSet(required), name


@pytest.mark.parametrize("version", ["1.17", "1.17.1", "v1.17.1", "1.17.1-rc.1"])
def test_find_returns_the_release_of_a_version(version: str) -> None:
    assert servers.find(version) is SERVERS[1, 17]


@pytest.mark.parametrize("version", ["", "1.13.0", "1.20.0", "2.0.0", "latest", "1", "1.17; rm", "1.17.1\n", "x" * 500])
def test_find_returns_none_when_the_release_is_unknown(version: str) -> None:
    assert servers.find(version) is None


def test_only_the_oldest_releases_require_a_file_name_as_environment() -> None:
    assert [release for release, server in SERVERS.items() if not server.env_mapping] == [(1, 14), (1, 15)]
