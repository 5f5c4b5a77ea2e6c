"""Credentials for data behind http: read from the environment, sent to one place, and shown nowhere."""

import base64
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from support.website import Answer, Site

from winecontract.reasons import Reason
from winesteps.check import compare
from winesteps.credentials import NO_SECRET, PASSWORD, TOKEN, USERNAME, Credentials, from_environment
from winesteps.download import download
from winesteps.failures import StepFailure, redact

CSV = b"a;quality\n" + b"1;5\n" * 30
BASIC = "Basic " + base64.b64encode(b"someone:hidden pass").decode()
OVER_HTTP = Credentials("Bearer hidden", over_http=True)


def refused(reason: Reason, call: Callable[..., object], *arguments: object, **options: object) -> str:
    with pytest.raises(StepFailure) as caught:
        call(*arguments, **options)
    assert caught.value.reason is reason, caught.value
    assert "hidden" not in caught.value.message
    return caught.value.message


@pytest.mark.parametrize(
    ("environment", "sent"),
    [
        ({USERNAME: "someone", PASSWORD: "hidden pass"}, BASIC),
        ({USERNAME: "someone\n", PASSWORD: "hidden pass\n"}, BASIC),
        ({TOKEN: "hidden.token-1"}, "Bearer hidden.token-1"),
        ({TOKEN: "hidden.token-1\n"}, "Bearer hidden.token-1"),
    ],
)
def test_credentials_are_basic_or_bearer(environment: Mapping[str, str], sent: str) -> None:
    credentials = from_environment("wine-data", over_http=False, environment=environment)
    assert credentials is not None
    assert credentials.authorization == sent
    assert "hidden" not in repr(credentials)
    assert base64.b64encode(b"someone:hidden pass").decode() not in repr(credentials)


@pytest.mark.parametrize("secret", ["", NO_SECRET])
def test_credentials_are_none_without_a_secret(secret: str) -> None:
    assert from_environment(secret, over_http=False, environment={TOKEN: "hidden"}) is None


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, "is not in this namespace, or has none of the keys token, username and password"),
        ({USERNAME: "", PASSWORD: ""}, "is not in this namespace, or has none"),
        ({USERNAME: "someone"}, "lacks the key password"),
        ({PASSWORD: "hidden"}, "lacks the key username"),
        ({TOKEN: "hidden", USERNAME: "someone", PASSWORD: "hidden"}, "Keep one or the other"),
        ({TOKEN: "hidden token"}, "no header can hold"),
        ({TOKEN: "hidden\nX-Other: 1"}, "no header can hold"),
        ({USERNAME: "some:one", PASSWORD: "hidden"}, "with a colon"),
    ],
)
def test_message_names_what_is_missing(environment: Mapping[str, str], expected: str) -> None:
    message = refused(Reason.CREDENTIALS_MISSING, from_environment, "wine-data", False, environment)
    assert message.startswith("The Secret 'wine-data', which credentialsSecret names,")
    assert expected in message


def test_download_and_check_send_credentials(site: Site, tmp_path: Path) -> None:
    url = site.give("/wine.csv", Answer(CSV))
    download(url, tmp_path / "data", credentials=OVER_HTTP)
    compare(url, credentials=OVER_HTTP)
    assert [headers.get("Authorization") for _, headers in site.asked] == ["Bearer hidden"] * 2


def test_download_sends_nothing_without_credentials(site: Site, tmp_path: Path) -> None:
    download(site.give("/wine.csv", Answer(CSV)), tmp_path / "data")
    assert [headers.get("Authorization") for _, headers in site.asked] == [None]


def test_credentials_are_not_sent_over_http_unless_allowed(site: Site, tmp_path: Path) -> None:
    url = site.give("/wine.csv", Answer(CSV))
    message = refused(Reason.PARAMETERS_INVALID, download, url, tmp_path / "data", credentials=Credentials("Bearer hidden"))
    assert "set credentialsOverHTTP" in message
    assert site.asked == []


def test_credentials_are_rejected_for_the_object_store(tmp_path: Path) -> None:
    refused(Reason.PARAMETERS_INVALID, download, "s3://bucket/wine.csv", tmp_path / "data", credentials=OVER_HTTP)


def test_credentials_are_sent_after_a_redirect_on_the_same_host(site: Site, tmp_path: Path) -> None:
    site.give("/new", Answer(CSV))
    download(site.give("/old", Answer(status=302, headers={"Location": "/new"})), tmp_path / "data", credentials=OVER_HTTP)
    assert [headers.get("Authorization") for _, headers in site.asked] == ["Bearer hidden"] * 2


@pytest.mark.parametrize("elsewhere", ["http://localhost:{port}/new", "http://127.0.0.1:{other}/new"])
def test_credentials_are_not_sent_to_another_host_or_port(serve: Callable[..., Site], tmp_path: Path, elsewhere: str) -> None:
    site, other = serve(), serve()
    for one in (site, other):
        one.give("/new", Answer(CSV))
    location = elsewhere.format(port=site.port, other=other.port)
    url = site.give("/old", Answer(status=302, headers={"Location": location}))
    download(url, tmp_path / "data", credentials=OVER_HTTP)
    asked = [*site.asked, *other.asked]
    assert [headers.get("Authorization") for _, headers in asked] == ["Bearer hidden", None]


def test_credentials_are_not_sent_after_a_redirect_back(serve: Callable[..., Site], tmp_path: Path) -> None:
    site, other = serve(), serve()
    site.give("/new", Answer(CSV))
    back = other.give("/back", Answer(status=302, headers={"Location": f"http://127.0.0.1:{site.port}/new"}))
    download(site.give("/old", Answer(status=302, headers={"Location": back})), tmp_path / "data", credentials=OVER_HTTP)
    assert [path for path, headers in site.asked if "Authorization" in headers] == ["/old"]
    assert other.asked[0][1].get("Authorization") is None


def test_messages_and_logs_hide_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSWORD, "hidden pass")
    monkeypatch.setenv(TOKEN, "t0ken")
    assert re.search("hidden|t0ken", redact("with hidden pass and t0ken")) is None
