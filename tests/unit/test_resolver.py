"""A Service's name that a tenant leads elsewhere: the operator does not go there."""

import socket
from typing import Any

import pytest
from support.website import Answer, Site

from winepipelines.platform import answers
from winepipelines.platform.answers import Asked
from winepipelines.platform.records import Example
from winepipelines.platform.resolver import foreign_host
from winepipelines.resource.spec import Protocol

HOST = "wine-wine-super-model.team.svc.cluster.local"
EXAMPLE = Example(["a"], [[1.0]], [5.0])


@pytest.mark.parametrize(
    ("canonical", "addresses", "said"),
    [
        (HOST, ["10.96.3.4"], ""),
        (f"{HOST}.", ["10.96.3.4", "fd00::7"], ""),
        ("", ["10.96.3.4"], ""),  # a resolver that does not tell
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
def test_where_a_services_name_leads(canonical: str, addresses: list[str], said: str) -> None:
    found = foreign_host(HOST, canonical, addresses)
    assert said in found
    assert bool(said) == bool(found)


def test_a_name_of_the_administrators_may_stand_for_any_host() -> None:
    assert foreign_host("gateway.example.org", "lb-7.cloud.example", ["127.0.0.1"]) == ""


@pytest.mark.parametrize("canonical", ["internal.example.org", HOST, ""])
async def test_the_host_behind_an_external_name_is_not_asked(site: Site, monkeypatch: pytest.MonkeyPatch, canonical: str) -> None:
    def answer(host: str, port: Any, **_: Any) -> list[tuple[Any, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, canonical, ("127.0.0.1", site.port))]

    site.give("/", Answer(b'{"data": {"ndarray": [5.0]}}'))
    monkeypatch.setattr(socket, "getaddrinfo", answer)
    async with answers.session(5.0) as session:
        check = await answers.ask(session, Asked(f"http://{HOST}:8000/", Protocol.SELDON, EXAMPLE))
    assert not check.passed
    assert "is not asked" in check.message
    assert site.asked == []
