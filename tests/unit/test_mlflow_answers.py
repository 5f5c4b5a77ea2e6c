"""What MLflow's answers mean to the operator: which can pass by themselves, and what a person is told to set for the others."""

import ssl
from collections.abc import Mapping
from pathlib import Path

import pytest
from support import website
from support.mlflow import expected
from support.website import Answer, Site

from sandbox import certificates
from winepipelines.platform.mlflow import MLflow
from winepipelines.resource.errors import PlatformError, Refused, Unavailable
from winepipelines.settings import Settings

EXPERIMENT = "/api/2.0/mlflow/experiments/get-by-name"
ABSENT = b'{"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no such experiment"}'
HOST_REFUSED = b"Invalid Host header - possible DNS rebinding attack detected"


async def ask(url: str, credentials: Mapping[str, str] | None = None, **settings: str) -> None:
    async def read() -> Mapping[str, str]:
        return credentials or {}

    adapter = MLflow(Settings("http://kfp", url, "http://minio", **settings), read)  # type: ignore[arg-type] # all are texts
    await adapter.records("wine", expected())


@pytest.mark.parametrize(
    ("answer", "kind", "reason", "said"),
    [
        (Answer(b"down", 500), Unavailable, "MlflowUnavailable", "answered 500"),
        (Answer(b"<html>bad gateway", 502), Unavailable, "MlflowUnavailable", "answered 502"),
        (Answer(b"slow down", 429), Unavailable, "MlflowUnavailable", "answered 429"),
        (Answer(b'{"error_code": "TEMPORARILY_UNAVAILABLE", "message": "x"}', 503), Unavailable, "MlflowUnavailable", "503"),
        (Answer(b'{"error_code": "INVALID_PARAMETER_VALUE", "message": "odd"}', 400), Refused, "MlflowRefused", "odd"),
        (Answer(b"You are not authenticated.", 401), Refused, "MlflowUnauthorized", "WINE_MLFLOW_SECRET"),
        (Answer(b"Permission denied", 403), Refused, "MlflowUnauthorized", "403"),
        (Answer(b'{"error_code": "PERMISSION_DENIED", "message": "x"}', 403), Refused, "MlflowUnauthorized", "403"),
        (Answer(HOST_REFUSED, 403), Refused, "MlflowHostRefused", "MLFLOW_SERVER_ALLOWED_HOSTS"),
        (Answer(b"<html>no such page", 404), Refused, "MlflowRefused", "the path that the server is under"),
        (Answer(b"", 302, {"Location": "http://127.0.0.1:9/login"}), Refused, "MlflowRefused", "is not followed"),
        (Answer(b"<html>Please sign in"), Refused, "MlflowRefused", "a login page"),
        (Answer(b"cut", length=1000), Unavailable, "MlflowUnavailable", "does not answer"),
    ],
)
async def test_an_answer(site: Site, answer: Answer, kind: type[PlatformError], reason: str, said: str) -> None:
    site.give(EXPERIMENT, answer)
    with pytest.raises(kind, match=said) as caught:
        await ask(f"http://127.0.0.1:{site.port}")
    assert caught.value.reason == reason
    assert f"MLflow at http://127.0.0.1:{site.port}" in caught.value.message


async def test_what_is_not_there_is_no_error(site: Site) -> None:
    site.give(EXPERIMENT, Answer(ABSENT, 404))
    await ask(f"http://127.0.0.1:{site.port}")


@pytest.mark.parametrize(("status", "said"), [(401, "does not know the credentials"), (403, "may not do this")])
async def test_a_wrong_key_names_the_secret_and_shows_none_of_it(site: Site, status: int, said: str) -> None:
    site.give(EXPERIMENT, Answer(b"no", status))
    user = {"MLFLOW_TRACKING_USERNAME": "wine", "MLFLOW_TRACKING_PASSWORD": "red-secret"}
    with pytest.raises(Refused, match=said) as caught:
        await ask(f"http://127.0.0.1:{site.port}", user, mlflow_secret="tracking")
    assert "the Secret tracking in namespace kubeflow" in caught.value.message
    assert "red-secret" not in caught.value.message


@pytest.mark.parametrize(
    ("credentials", "header"),
    [
        ({}, None),
        ({"MLFLOW_TRACKING_USERNAME": "a", "MLFLOW_TRACKING_PASSWORD": "b"}, "Basic YTpi"),
        ({"MLFLOW_TRACKING_TOKEN": "t"}, "Bearer t"),
        ({"MLFLOW_TRACKING_USERNAME": "a", "MLFLOW_TRACKING_PASSWORD": "b", "MLFLOW_TRACKING_TOKEN": "t"}, "Basic YTpi"),
    ],
)
async def test_credentials_are_the_secrets_and_not_the_environments(
    site: Site, credentials: Mapping[str, str], header: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "of-the-process")
    site.give(EXPERIMENT, Answer(ABSENT, 404))
    await ask(f"http://127.0.0.1:{site.port}", credentials)
    [(_, headers)] = site.asked
    assert headers.get("Authorization") == header


async def test_a_redirection_takes_no_credential_along(site: Site) -> None:
    elsewhere = site.give("/elsewhere", Answer(ABSENT, 404))
    site.give(EXPERIMENT, Answer(b"", 307, {"Location": elsewhere}))
    with pytest.raises(Refused):
        await ask(f"http://127.0.0.1:{site.port}", {"MLFLOW_TRACKING_TOKEN": "t"})
    assert [path.partition("?")[0] for path, _ in site.asked] == [EXPERIMENT]


async def test_a_certificate_of_ones_own_authority(tmp_path: Path) -> None:
    certificates.make(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "apiserver.crt", tmp_path / "apiserver.key")
    server, site = website.start(tls)
    try:
        site.give(EXPERIMENT, Answer(ABSENT, 404))
        with pytest.raises(Refused, match="WINE_MLFLOW_CA_FILE") as caught:
            await ask(f"https://127.0.0.1:{site.port}")
        assert caught.value.reason == "MlflowUntrusted"
        await ask(f"https://127.0.0.1:{site.port}", mlflow_ca_file=str(tmp_path / "ca.crt"))
    finally:
        server.shutdown()
        server.server_close()


async def test_the_example_of_a_run_that_was_removed_is_missing(site: Site) -> None:
    site.give("/api/2.0/mlflow/runs/get", Answer(ABSENT, 404))

    async def read() -> Mapping[str, str]:
        return {}

    adapter = MLflow(Settings("http://kfp", f"http://127.0.0.1:{site.port}", "http://minio"), read)
    with pytest.raises(Refused, match="no longer exists") as caught:
        await adapter.example("f" * 32)
    assert caught.value.reason == "ExampleMissing"
