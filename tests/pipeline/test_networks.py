"""Where data may come from: what the step refuses to connect to, however it is written, resolved or redirected to."""

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.website import Answer, Site

from winecontract.reasons import Reason
from winesteps.download import Downloaded, download
from winesteps.failures import StepFailure
from winesteps.networks import ALLOWED, PRIVATE, Networks, PrivateNetworks

CSV = b"a;quality\n" + b"1;5\n" * 30
SECRET = b"token=ey-hidden-from-others\nsecond line\n"


@pytest.mark.parametrize(
    ("address", "what"),
    [
        ("127.0.0.1", "loopback"),
        ("127.8.9.10", "loopback"),
        ("::1", "loopback"),
        ("0.0.0.0", "reserved"),
        ("::", "reserved"),
        ("255.255.255.255", "reserved"),
        ("240.0.0.1", "reserved"),
        ("169.254.169.254", "metadata"),
        ("169.254.170.2", "metadata"),
        ("169.254.1.1", "link-local"),
        ("fe80::1", "link-local"),
        ("fe80::1%eth0", "link-local"),
        ("100.100.100.200", "metadata"),
        ("168.63.129.16", "metadata"),
        ("192.0.0.192", "metadata"),
        ("fd00:ec2::254", "metadata"),
        ("fd20:ce::254", "metadata"),
        ("224.0.0.251", "multicast"),
        ("ff02::1", "multicast"),
        ("::ffff:127.0.0.1", "loopback"),  # mapped
        ("::ffff:a9fe:a9fe", "metadata"),
        ("::7f00:1", "loopback"),  # compatible
        ("::ffff:0:7f00:1", "loopback"),  # translated
        ("64:ff9b::a9fe:a9fe", "metadata"),  # NAT64
        ("64:ff9b:1::7f00:1", "loopback"),
        ("2002:7f00:1::", "loopback"),  # 6to4
        ("2002:a9fe:a9fe::1", "metadata"),
        ("2001:0:102:304:0:0:5601:5601", "metadata"),  # Teredo
        ("2606:4700::5efe:7f00:1", "loopback"),  # ISATAP
    ],
)
@pytest.mark.parametrize("private", PrivateNetworks)
def test_is_never_asked(address: str, what: str, private: PrivateNetworks) -> None:
    assert what in Networks(private=private).refusal(address, private_is_allowed=True)


@pytest.mark.parametrize(
    "address",
    ["10.0.0.1", "172.16.5.4", "192.168.1.1", "100.64.0.1", "198.18.0.1", "192.0.2.1", "fc00::1", "fd12::1", "fec0::1",
     "::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::", "2001:db8::1"],
)  # fmt: skip
def test_is_private(address: str) -> None:
    assert Networks().refusal(address, private_is_allowed=False) == "a private address"
    assert Networks().refusal(address, private_is_allowed=True) == ""
    assert Networks().is_private(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8", "2002:808:808::"])
def test_is_public(address: str) -> None:
    assert Networks().refusal(address, private_is_allowed=False) == ""
    assert not Networks().is_private(address)


def test_networks_of_the_administrators_are_allowed() -> None:
    networks = Networks.from_environment({ALLOWED: "10.1.0.0/16, 127.0.0.0/8", PRIVATE: "refuse"})
    assert [networks.refusal(address, private_is_allowed=False) for address in ("10.1.2.3", "10.2.0.1", "127.0.0.1")] == [
        "",
        "a private address",
        "",
    ]


@pytest.mark.parametrize("environment", [{ALLOWED: "10.1.0.0/16;x"}, {ALLOWED: "10.1.2.3/16"}, {PRIVATE: "maybe"}])
def test_settings_that_are_none(environment: dict[str, str]) -> None:
    with pytest.raises(StepFailure, match="ParametersInvalid"):
        Networks.from_environment(environment)


class Resolver:
    """Stands in for the DNS: by name, one list of addresses after another, the last for good. All ports are a site's."""

    def __init__(self, real: Callable[..., Any], port: int) -> None:
        self.names: dict[str, list[list[str]]] = {}
        self.asked: list[str] = []
        self._real, self._port = real, port

    def __call__(self, host: str, port: object, *arguments: object) -> Any:
        if host not in self.names:
            return self._real(host, port, *arguments)
        self.asked.append(host)
        answers = self.names[host]
        addresses = answers.pop(0) if len(answers) > 1 else answers[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, self._port)) for address in addresses]


@pytest.fixture
def resolver(site: Site, monkeypatch: pytest.MonkeyPatch) -> Resolver:
    made = Resolver(socket.getaddrinfo, site.port)
    monkeypatch.setattr(socket, "getaddrinfo", made)
    return made


@pytest.fixture
def fetch(tmp_path: Path) -> Callable[[str], Downloaded]:
    return lambda url: download(url, tmp_path / "data", wait=lambda _: None)


def refused(fetch: Callable[[str], Downloaded], url: str, reason: Reason = Reason.ADDRESS_REJECTED) -> str:
    with pytest.raises(StepFailure) as caught:
        fetch(url)
    assert caught.value.reason is reason, caught.value
    assert "hidden" not in str(caught.value)
    return caught.value.message


@pytest.mark.parametrize("host", ["127.0.0.1", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "127.1", "localhost", "0"])
def test_own_pod_in_any_spelling(
    site: Site, fetch: Callable[[str], Downloaded], monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.delenv(ALLOWED)
    site.give("/secret", Answer(SECRET))
    refused(fetch, f"http://{host}:{site.port}/secret")
    assert site.asked == []


def test_a_name_of_the_metadata_service(site: Site, fetch: Callable[[str], Downloaded], resolver: Resolver) -> None:
    resolver.names["innocent.example"] = [["169.254.169.254"]]
    message = refused(fetch, "http://innocent.example/latest/meta-data?signature=hidden")
    assert message.startswith("http://innocent.example/latest/meta-data leads to the metadata service of a cloud")


def test_a_name_with_a_second_answer(site: Site, fetch: Callable[[str], Downloaded], resolver: Resolver) -> None:
    """DNS rebinding: what was checked is what is connected to, so the name is resolved once."""
    resolver.names["rebind.example"] = [["127.0.0.1"], ["169.254.169.254"]]
    site.give("/wine.csv", Answer(CSV))
    assert fetch("http://rebind.example/wine.csv").size == len(CSV)
    assert resolver.asked == ["rebind.example"]
    refused(fetch, "http://rebind.example/wine.csv")


def test_of_several_addresses_only_those_are_asked_that_may_be(
    site: Site, fetch: Callable[[str], Downloaded], resolver: Resolver
) -> None:
    resolver.names["both.example"] = [["169.254.169.254", "127.0.0.1"]]
    site.give("/wine.csv", Answer(CSV))
    assert fetch("http://both.example/wine.csv").size == len(CSV)


@pytest.mark.parametrize(
    "location",
    [
        "http://169.254.169.254/latest/meta-data/iam",
        "//169.254.169.254/",
        "http://[::ffff:169.254.169.254]/",
        "http://2852039166/",
        "http://0xa9fea9fe/",
        "http://[fd00:ec2::254]/",
    ],
)
def test_a_redirect_to_the_metadata_service(site: Site, fetch: Callable[[str], Downloaded], location: str) -> None:
    message = refused(fetch, site.give("/wine.csv", Answer(status=302, headers={"Location": location})))
    assert "redirects to" in message
    assert "169.254" not in message


def test_a_redirect_from_a_public_host_to_a_private_one(
    site: Site, fetch: Callable[[str], Downloaded], resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("winesteps.networks.Networks.is_private", lambda _self, address: address != "127.0.0.1")
    resolver.names["public.example"] = [["127.0.0.1"]]
    site.give("/wine.csv", Answer(status=302, headers={"Location": "http://10.0.0.1:9/admin"}))
    assert "redirects to a private address" in refused(fetch, "http://public.example/wine.csv")


@pytest.mark.parametrize("location", ["s3://bucket/key.csv", "file:///etc/passwd", "ftp://10.0.0.1/x", "http://u:p@10.0.0.1/"])
def test_a_redirect_to_what_is_no_web_address(site: Site, fetch: Callable[[str], Downloaded], location: str) -> None:
    refused(fetch, site.give("/wine.csv", Answer(status=302, headers={"Location": location})), Reason.URL_INVALID)


def test_private_addresses_can_be_refused_altogether(fetch: Callable[[str], Downloaded], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PRIVATE, "refuse")
    assert "leads to a private address" in refused(fetch, "http://10.0.0.1/wine.csv")


@pytest.mark.parametrize("proxied", ["http", "https"])
def test_a_proxy_does_not_lead_there_either(
    site: Site, fetch: Callable[[str], Downloaded], monkeypatch: pytest.MonkeyPatch, proxied: str
) -> None:
    monkeypatch.setenv(f"{proxied}_proxy", f"http://127.0.0.1:{site.port}")
    assert "metadata" in refused(fetch, f"{proxied}://169.254.169.254/latest")
    assert site.asked == []


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answer(b'{"hidden": 1}'), Reason.DATA_NOT_CSV),
        (Answer(b"<hidden>x</hidden>"), Reason.DATA_NOT_CSV),
        (Answer(b"hidden", status=401, headers={"WWW-Authenticate": "hidden-realm"}), Reason.DATA_ACCESS_DENIED),
        (Answer(b"hidden expired", status=400), Reason.DATA_NOT_FOUND),
    ],
)
def test_nothing_of_another_host_is_quoted(
    serve: Callable[..., Site], fetch: Callable[[str], Downloaded], answer: Answer, reason: Reason
) -> None:
    site, other = serve(), serve()
    there = other.give("/internal", answer)
    refused(fetch, site.give("/wine.csv", Answer(status=302, headers={"Location": there})), reason)
    assert [path for path, _ in other.asked] == ["/internal"]


def test_a_redirect_and_back_is_not_quoted_either(serve: Callable[..., Site], fetch: Callable[[str], Downloaded]) -> None:
    site, other = serve(), serve()
    site.give("/internal", Answer(CSV))
    back = other.give("/back", Answer(status=302, headers={"Location": f"http://127.0.0.1:{site.port}/internal"}))
    assert fetch(site.give("/wine.csv", Answer(status=302, headers={"Location": back}))).redirected


def test_a_redirect_on_the_same_host_is_quoted(site: Site, fetch: Callable[[str], Downloaded]) -> None:
    there = site.give("/api", Answer(b'{"message": "rate limit"}'))
    with pytest.raises(StepFailure, match="rate limit"):
        fetch(site.give("/wine.csv", Answer(status=302, headers={"Location": there})))
