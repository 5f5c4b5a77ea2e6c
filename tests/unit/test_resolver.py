"""The operator does not connect to a Service name that a tenant has pointed to another host."""

import socket
from typing import Any

import pytest
from support.website import Answer, Site

from winecontract.protocols import Protocol
from winepipelines.platform.records import Example
from winepipelines.platform.resolver import foreign_host
from winepipelines.serving import probing
from winepipelines.serving.probing import ProbeTarget

HOST = "wine-wine-super-model.team.svc.cluster.local"
EXAMPLE = Example(["a"], [[1.0]], [5.0])


@pytest.mark.parametrize(
    ("canonical", "addresses", "problem"),
    [
        (HOST, ["10.96.3.4"], ""),
        (f"{HOST}.", ["10.96.3.4", "fd00::7"], ""),
        ("", ["10.96.3.4"], ""),  # the resolver returns no canonical name
        ("internal.example.org", ["10.1.2.3"], "stands for internal.example.org"),
        ("vault.security.svc.cluster.local", ["10.96.3.5"], "stands for vault.security.svc.cluster.local"),
        ("wine-wine-super-model.other.svc.cluster.local", ["10.96.3.5"], "stands for wine-wine-super-model.other"),
        (HOST, ["169.254.169.254"], "no Service has"),
        (HOST, ["10.96.3.4", "127.0.0.1"], "no Service has"),
        (HOST, ["::ffff:169.254.169.254"], "no Service has"),
        (HOST, ["::1"], "no Service has"),
        (HOST, ["fe80::1%eth0"], "no Service has"),
    ],
)
def test_foreign_host_reports_a_service_name_that_resolves_elsewhere(canonical: str, addresses: list[str], problem: str) -> None:
    found = foreign_host(HOST, canonical, addresses)
    assert problem in found
    assert bool(problem) == bool(found)


def test_foreign_host_accepts_any_address_of_a_name_outside_the_cluster() -> None:
    assert foreign_host("gateway.example.org", "lb-7.cloud.example", ["127.0.0.1"]) == ""


@pytest.mark.parametrize("canonical", ["internal.example.org", HOST, ""])
async def test_probe_does_not_connect_when_the_service_is_an_external_name(
    site: Site, monkeypatch: pytest.MonkeyPatch, canonical: str
) -> None:
    def answer(host: str, port: Any, **_: Any) -> list[tuple[Any, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, canonical, ("127.0.0.1", site.port))]

    site.give("/", Answer(b'{"data": {"ndarray": [5.0]}}'))
    monkeypatch.setattr(socket, "getaddrinfo", answer)
    async with probing.session(5.0) as session:
        check = await probing.probe(session, ProbeTarget(f"http://{HOST}:8000/", Protocol.SELDON, EXAMPLE))
    assert not check.passed
    assert "is not probed" in check.message
    assert site.asked == []
