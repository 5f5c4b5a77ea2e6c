"""Errors of all adapters name the proxy that answered, or the cause of a missing answer, in the same terms."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from types import SimpleNamespace

import pytest
from support.mlflow import expected
from support.settings import SETTINGS
from support.website import Answer, Site

from winecontract.protocols import Protocol
from winepipelines.api.errors import PlatformError, Refused, Unavailable
from winepipelines.api.sourcesecret import StoreAccess, StoreOperation
from winepipelines.platform.answering import who_answers, why_no_answer
from winepipelines.platform.buckets import refusals
from winepipelines.platform.kubeflow import Kubeflow
from winepipelines.platform.mlflow import MLflow
from winepipelines.platform.objectstore import ObjectStore
from winepipelines.platform.records import Example
from winepipelines.serving.probing import ProbeTarget, probe

HEALTH, EXPERIMENTS = "/apis/v2beta1/healthz", "/apis/v2beta1/experiments"
TRACKING = "/api/2.0/mlflow/experiments/get-by-name"
ENVOY = b"upstream connect error or disconnect/reset before headers. reset reason: connection failure"
PAGE = b"<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"


@pytest.fixture
def mute() -> Iterator[str]:
    """Return host and port of a server that answers each connection with a line that is not HTTP."""
    with socket.create_server(("127.0.0.1", 0), backlog=20) as server:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    connection.recv(4096)
                    connection.sendall(b"220 mail.example.org ESMTP\r\n")
                    connection.close()

        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.close()


def _kubeflow(url: str) -> PlatformError:
    return _error(lambda: asyncio.run(Kubeflow(SETTINGS.with_(kfp_url=url)).check_access("admin")))


def _mlflow(url: str) -> PlatformError:
    return _error(lambda: asyncio.run(MLflow(SETTINGS.with_(mlflow_url=url)).records("wine", expected())))


def _store(url: str) -> PlatformError:
    store = ObjectStore(SETTINGS.with_(s3_endpoint_url=url))
    return _error(lambda: asyncio.run(store.stored("s3://mlflow/1/model", StoreAccess(url, "a", "b"))))


def _bucket(url: str) -> PlatformError:
    return _error(lambda: asyncio.run(refusals("s3://mlflow/1", StoreAccess(url, "a", "b"), tuple(StoreOperation), 2)))


def _error(call: Callable[[], object]) -> PlatformError:
    with pytest.raises(PlatformError) as caught:
        call()
    assert caught.value.message.isprintable()
    return caught.value


ADAPTERS = (_kubeflow, _mlflow, _store, _bucket)


@pytest.mark.parametrize("ask", ADAPTERS)
@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://127.0.0.1:1", "refuses the connection"),
        ("http://wine-operator-test.invalid:8888", "has no address in DNS"),
    ],
)
def test_unreachable_system_is_reported_with_the_cause(ask: Callable[[str], PlatformError], url: str, message: str) -> None:
    error = ask(url)
    assert isinstance(error, Unavailable)
    assert message in error.message
    assert not error.diagnosed, "the doctor tests the connection"


@pytest.mark.parametrize("ask", ADAPTERS)
def test_https_to_an_http_port_is_reported(ask: Callable[[str], PlatformError], site: Site) -> None:
    error = ask(f"https://127.0.0.1:{site.port}")
    assert "does not speak TLS: write http://" in error.message
    assert "certificate" not in error.message
    assert error.diagnosed


@pytest.mark.parametrize("ask", ADAPTERS)
def test_non_http_server_is_reported(ask: Callable[[str], PlatformError], mute: str) -> None:
    error = ask(f"http://{mute}")
    assert isinstance(error, Unavailable)
    assert "does not speak HTTP" in error.message


@pytest.mark.parametrize(
    ("answer", "kind", "message"),
    [
        (Answer(b"RBAC: access denied", 403), Refused, "the service mesh in front of it (Istio) refuses the operator's pod"),
        (Answer(ENVOY, 503), Unavailable, "the service mesh in front of it (Istio) reaches no pod of it"),
        (Answer(b"no healthy upstream", 503), Unavailable, "-l app=ml-pipeline"),
        (Answer(b"Jwt is missing", 401), Refused, "RequestAuthentication"),
        (Answer(PAGE, 502), Unavailable, "a proxy in front of it answers with a web page (502 Bad Gateway)"),
        (Answer(b"<html>not here", 404), Refused, "a web page of a proxy or a login answers instead of it"),
        (
            Answer(b'{"code": 13, "message": "database is down"}', 500),
            Unavailable,
            "database is down",
        ),
        (Answer(b'{"code": 7, "message": "not authorized"}', 403), Refused, "not authorized"),
    ],
)
def test_kubeflow_error_names_the_proxy_that_answered(
    site: Site, answer: Answer, kind: type[PlatformError], message: str
) -> None:
    site.give(HEALTH, Answer(b'{"multi_user": true}', headers={"Content-Type": "application/json"}))
    site.give(EXPERIMENTS, answer)
    error = _kubeflow(f"http://127.0.0.1:{site.port}")
    assert isinstance(error, kind)
    assert error.reason == ("KubeflowUnavailable" if kind is Unavailable else "KubeflowRequestRejected")
    assert error.status == answer.status
    assert message in error.message
    assert f"answered {answer.status}" in error.message


@pytest.mark.parametrize(
    ("answer", "kind", "message"),
    [
        (Answer(b"RBAC: access denied", 403), Refused, "the service mesh in front of it (Istio) refuses the operator's pod"),
        (Answer(ENVOY, 503), Unavailable, "the service mesh in front of it (Istio) reaches no pod of it"),
        (Answer(PAGE, 502), Unavailable, "a proxy in front of it answers with a web page (502 Bad Gateway)"),
        (Answer(b"<html><title>Sign in</title>"), Refused, "a login page"),
    ],
)
def test_mlflow_error_names_the_proxy_that_answered(site: Site, answer: Answer, kind: type[PlatformError], message: str) -> None:
    site.give(TRACKING, answer)
    site.give("/version", answer)
    error = _mlflow(f"http://127.0.0.1:{site.port}")
    assert isinstance(error, kind)
    assert error.reason == ("MlflowUnavailable" if kind is Unavailable else "MlflowRequestRejected")
    assert error.status == (None if answer.status == 200 else answer.status)
    assert message in error.message
    assert "<" not in error.message, "the message has no HTML"


class FakeSession:
    """A session that gives one answer to each request."""

    def __init__(self, status: int, body: bytes) -> None:
        self.status, self._bodies = status, [body, b""]
        self.headers: dict[str, str] = {}
        self.content = SimpleNamespace(read=self._read)

    async def _read(self, _limit: int) -> bytes:
        return self._bodies.pop(0)

    @asynccontextmanager
    async def post(self, *_: object, **__: object) -> AsyncIterator["FakeSession"]:
        yield self


@pytest.mark.parametrize(
    ("status", "body", "reason", "message"),
    [
        (403, b"RBAC: access denied", "MeshAccessDenied", "Admit it by an AuthorizationPolicy in the namespace of the model"),
        (503, b"no healthy upstream", "EndpointUnreachable", "the service mesh in front of it (Istio) reaches no pod of it"),
        (502, PAGE, "EndpointUnreachable", "a proxy in front of it answers with a web page"),
        (500, b'{"status": "FAILURE"}', "PredictionRejected", "to the model's own example"),
    ],
)
async def test_probe_names_the_proxy_that_answered(status: int, body: bytes, reason: str, message: str) -> None:
    example = Example(["alcohol"], [[9.4]], [5.0])
    check = await probe(FakeSession(status, body), ProbeTarget("http://wine/predict", Protocol.SELDON, example))  # type: ignore[arg-type]
    assert (check.passed, check.reason) == (False, reason)
    assert message in check.message
    assert f"answered {status}" in check.message


def test_who_answers_is_empty_for_the_systems_own_answer() -> None:
    assert who_answers(500, '{"message": "upstream database"}', "") == ""
    assert who_answers(403, "Permission denied", "") == ""
    assert why_no_answer("") == ""


def test_unreadable_ca_file_is_distinguished_from_an_untrusted_certificate() -> None:
    message = why_no_answer("SSLError\nFileNotFoundError(2, 'No such file or directory')")
    assert message == "the file with the certificate of its authority cannot be read"
