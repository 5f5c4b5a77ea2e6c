"""Errors by MLflow's answer: which are retried, and which setting fixes the others."""

import ssl
from collections.abc import Mapping
from pathlib import Path

import pytest
from support import website
from support.mlflow import expected
from support.settings import SETTINGS
from support.website import Answer, Site

from sandbox import certificates
from winepipelines.api.errors import PlatformError, Refused, Unavailable
from winepipelines.platform.mlflow import MLflow

EXPERIMENT = "/api/2.0/mlflow/experiments/get-by-name"
ABSENT = b'{"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no such experiment"}'
HOST_REFUSED = b"Invalid Host header - possible DNS rebinding attack detected"


async def request_records(url: str, credentials: Mapping[str, str] | None = None, **settings: str) -> None:
    async def read() -> Mapping[str, str]:
        return credentials or {}

    adapter = MLflow(SETTINGS.with_(mlflow_url=url, **settings), read)
    await adapter.records("wine", expected())


@pytest.mark.parametrize(
    ("answer", "kind", "reason", "message"),
    [
        (Answer(b"down", 500), Unavailable, "MlflowUnavailable", "answered 500"),
        (Answer(b"<html>bad gateway", 502), Unavailable, "MlflowUnavailable", "answered 502"),
        (Answer(b"slow down", 429), Unavailable, "MlflowUnavailable", "answered 429"),
        (Answer(b'{"error_code": "TEMPORARILY_UNAVAILABLE", "message": "x"}', 503), Unavailable, "MlflowUnavailable", "503"),
        (Answer(b'{"error_code": "INVALID_PARAMETER_VALUE", "message": "odd"}', 400), Refused, "MlflowRequestRejected", "odd"),
        (Answer(b"You are not authenticated.", 401), Refused, "MlflowUnauthorized", "WINE_MLFLOW_SECRET"),
        (Answer(b"Permission denied", 403), Refused, "MlflowUnauthorized", "403"),
        (Answer(b'{"error_code": "PERMISSION_DENIED", "message": "x"}', 403), Refused, "MlflowUnauthorized", "403"),
        (Answer(HOST_REFUSED, 403), Refused, "MlflowHostRejected", "MLFLOW_SERVER_ALLOWED_HOSTS"),
        (Answer(b"<html>no such page", 404), Refused, "MlflowRequestRejected", "WINE_MLFLOW_URL must contain the server's path"),
        (Answer(b"", 302, {"Location": "http://127.0.0.1:9/login"}), Refused, "MlflowRequestRejected", "is not followed"),
        (Answer(b"<html>Please sign in"), Refused, "MlflowRequestRejected", "a login page"),
        (Answer(b"cut", length=1000), Unavailable, "MlflowUnavailable", "does not answer"),
    ],
)
async def test_error_has_reason_and_remedy_by_answer(
    site: Site, answer: Answer, kind: type[PlatformError], reason: str, message: str
) -> None:
    site.give(EXPERIMENT, answer)
    with pytest.raises(kind, match=message) as caught:
        await request_records(f"http://127.0.0.1:{site.port}")
    assert caught.value.reason == reason
    assert f"MLflow at http://127.0.0.1:{site.port}" in caught.value.message


async def test_missing_experiment_is_not_an_error(site: Site) -> None:
    site.give(EXPERIMENT, Answer(ABSENT, 404))
    await request_records(f"http://127.0.0.1:{site.port}")


@pytest.mark.parametrize(("status", "message"), [(401, "does not know the credentials"), (403, "lacks a permission")])
async def test_rejected_credentials_are_reported_with_the_secret_and_without_values(
    site: Site, status: int, message: str
) -> None:
    site.give(EXPERIMENT, Answer(b"no", status))
    user = {"MLFLOW_TRACKING_USERNAME": "wine", "MLFLOW_TRACKING_PASSWORD": "red-secret"}
    with pytest.raises(Refused, match=message) as caught:
        await request_records(f"http://127.0.0.1:{site.port}", user, mlflow_secret="tracking")
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
async def test_credentials_are_read_from_the_secret_not_the_environment(
    site: Site, credentials: Mapping[str, str], header: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "of-the-process")
    site.give(EXPERIMENT, Answer(ABSENT, 404))
    await request_records(f"http://127.0.0.1:{site.port}", credentials)
    [(_, headers)] = site.asked
    assert headers.get("Authorization") == header


async def test_credentials_do_not_follow_a_redirect(site: Site) -> None:
    elsewhere = site.give("/elsewhere", Answer(ABSENT, 404))
    site.give(EXPERIMENT, Answer(b"", 307, {"Location": elsewhere}))
    with pytest.raises(Refused):
        await request_records(f"http://127.0.0.1:{site.port}", {"MLFLOW_TRACKING_TOKEN": "t"})
    assert [path.partition("?")[0] for path, _ in site.asked] == [EXPERIMENT]


async def test_private_certificate_authority_needs_its_ca_file(tmp_path: Path) -> None:
    certificates.make(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "apiserver.crt", tmp_path / "apiserver.key")
    server, site = website.start(tls)
    try:
        site.give(EXPERIMENT, Answer(ABSENT, 404))
        with pytest.raises(Refused, match="WINE_MLFLOW_CA_FILE") as caught:
            await request_records(f"https://127.0.0.1:{site.port}")
        assert caught.value.reason == "MlflowUntrusted"
        await request_records(f"https://127.0.0.1:{site.port}", mlflow_ca_file=str(tmp_path / "ca.crt"))
    finally:
        server.shutdown()
        server.server_close()


async def test_input_example_is_missing_when_the_run_was_deleted(site: Site) -> None:
    site.give("/api/2.0/mlflow/runs/get", Answer(ABSENT, 404))

    async def read() -> Mapping[str, str]:
        return {}

    adapter = MLflow(SETTINGS.with_(mlflow_url=f"http://127.0.0.1:{site.port}"), read)
    with pytest.raises(Refused, match="no longer exists") as caught:
        await adapter.example("f" * 32)
    assert caught.value.reason == "InputExampleMissing"
