"""Who answers in the place of a system, and why none does: told by the adapters of all three systems in the same words."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from types import SimpleNamespace

import pytest
from support.mlflow import expected
from support.website import Answer, Site

from winepipelines.platform.answering import who_answers, why_no_answer
from winepipelines.platform.answers import Asked, ask
from winepipelines.platform.buckets import StoreAccess, refusal
from winepipelines.platform.kubeflow import Kubeflow
from winepipelines.platform.mlflow import MLflow
from winepipelines.platform.objectstore import ObjectStore
from winepipelines.platform.records import Example
from winepipelines.resource.errors import PlatformError, Refused, Unavailable
from winepipelines.resource.spec import Protocol
from winepipelines.settings import Settings

HEALTH, EXPERIMENTS = "/apis/v2beta1/healthz", "/apis/v2beta1/experiments"
TRACKING = "/api/2.0/mlflow/experiments/get-by-name"
ENVOY = b"upstream connect error or disconnect/reset before headers. reset reason: connection failure"
PAGE = b"<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"


@pytest.fixture
def mute() -> Iterator[str]:
    """Host and port of a server that answers every connection with a line that is no HTTP, and closes it."""
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
    return _error(lambda: asyncio.run(Kubeflow(Settings(url, "http://m", "http://s")).knock("admin")))


def _mlflow(url: str) -> PlatformError:
    return _error(lambda: asyncio.run(MLflow(Settings("http://k", url, "http://s")).records("wine", expected())))


def _store(url: str) -> PlatformError:
    store = ObjectStore(Settings("http://k", "http://m", url))
    keys = {"ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b", "ENDPOINT": url}
    rclone = {f"RCLONE_CONFIG_S3_{name}": value for name, value in keys.items()}
    return _error(lambda: asyncio.run(store.stored("s3://mlflow/1/model", rclone)))


def _bucket(url: str) -> PlatformError:
    return _error(lambda: asyncio.run(refusal("s3://mlflow/1", StoreAccess(url, "a", "b"), 2)))


def _error(call: Callable[[], object]) -> PlatformError:
    with pytest.raises(PlatformError) as caught:
        call()
    assert caught.value.message.isprintable()
    return caught.value


SYSTEMS = (_kubeflow, _mlflow, _store, _bucket)


@pytest.mark.parametrize("ask", SYSTEMS)
@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://127.0.0.1:1", "refuses the connection"),
        ("http://wine-operator-test.invalid:8888", "has no address in DNS"),
    ],
)
def test_why_a_system_cannot_be_reached(ask: Callable[[str], PlatformError], url: str, said: str) -> None:
    error = ask(url)
    assert isinstance(error, Unavailable)
    assert said in error.message


@pytest.mark.parametrize("ask", SYSTEMS)
def test_https_to_an_http_port_is_told(ask: Callable[[str], PlatformError], site: Site) -> None:
    error = ask(f"https://127.0.0.1:{site.port}")
    assert "does not speak TLS: write http://" in error.message
    assert "certificate" not in error.message


@pytest.mark.parametrize("ask", SYSTEMS)
def test_what_does_not_speak_http_is_told(ask: Callable[[str], PlatformError], mute: str) -> None:
    error = ask(f"http://{mute}")
    assert isinstance(error, Unavailable)
    assert "does not speak HTTP" in error.message


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        (Answer(b"RBAC: access denied", 403), Refused, "the service mesh in front of it (Istio) refuses the operator's pod"),
        (Answer(ENVOY, 503), Unavailable, "the service mesh in front of it (Istio) reaches no pod of it"),
        (Answer(b"no healthy upstream", 503), Unavailable, "-l app=ml-pipeline"),
        (Answer(b"Jwt is missing", 401), Refused, "asks for another token"),
        (Answer(PAGE, 502), Unavailable, "a proxy in front of it answers with a web page (502 Bad Gateway)"),
        (Answer(b"<html>not here", 404), Refused, "a web page answers in its place"),
        (
            Answer(b'{"code": 13, "message": "database is down"}', 500),
            Unavailable,
            "database is down",
        ),
        (Answer(b'{"code": 7, "message": "not authorized"}', 403), Refused, "not authorized"),
    ],
)
def test_who_answers_for_kubeflow(site: Site, answer: Answer, kind: type[PlatformError], said: str) -> None:
    site.give(HEALTH, Answer(b'{"multi_user": true}', headers={"Content-Type": "application/json"}))
    site.give(EXPERIMENTS, answer)
    error = _kubeflow(f"http://127.0.0.1:{site.port}")
    assert isinstance(error, kind)
    assert error.reason == ("KubeflowUnavailable" if kind is Unavailable else "KubeflowRefused")
    assert said in error.message
    assert f"answered {answer.status}" in error.message


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        (Answer(b"RBAC: access denied", 403), Refused, "the service mesh in front of it (Istio) refuses the operator's pod"),
        (Answer(ENVOY, 503), Unavailable, "the service mesh in front of it (Istio) reaches no pod of it"),
        (Answer(PAGE, 502), Unavailable, "a proxy in front of it answers with a web page (502 Bad Gateway)"),
        (Answer(b"<html><title>Sign in</title>"), Refused, "a login page"),
    ],
)
def test_who_answers_for_mlflow(site: Site, answer: Answer, kind: type[PlatformError], said: str) -> None:
    site.give(TRACKING, answer)
    site.give("/version", answer)
    error = _mlflow(f"http://127.0.0.1:{site.port}")
    assert isinstance(error, kind)
    assert error.reason == ("MlflowUnavailable" if kind is Unavailable else "MlflowRefused")
    assert said in error.message
    assert "<" not in error.message, "a web page's text says nothing to anyone"


class Mesh:
    """A session whose every request is answered so."""

    def __init__(self, status: int, body: bytes) -> None:
        self.status, self._bodies = status, [body, b""]
        self.headers: dict[str, str] = {}
        self.content = SimpleNamespace(read=self._read)

    async def _read(self, _limit: int) -> bytes:
        return self._bodies.pop(0)

    @asynccontextmanager
    async def post(self, *_: object, **__: object) -> AsyncIterator["Mesh"]:
        yield self


@pytest.mark.parametrize(
    ("status", "body", "reason", "said"),
    [
        (403, b"RBAC: access denied", "PredictionRefused", "an AuthorizationPolicy must admit its service account"),
        (503, b"no healthy upstream", "EndpointUnreachable", "the service mesh in front of it (Istio) reaches no pod of it"),
        (502, PAGE, "EndpointUnreachable", "a proxy in front of it answers with a web page"),
        (500, b'{"status": "FAILURE"}', "PredictionRefused", "to the model's own example"),
    ],
)
async def test_who_answers_for_a_model(status: int, body: bytes, reason: str, said: str) -> None:
    example = Example(["alcohol"], [[9.4]], [5.0])
    check = await ask(Mesh(status, body), Asked("http://wine/predict", Protocol.SELDON, example))  # type: ignore[arg-type]
    assert (check.passed, check.reason) == (False, reason)
    assert said in check.message
    assert f"answered {status}" in check.message


def test_a_systems_own_answer_is_left_to_it() -> None:
    assert who_answers(500, '{"message": "upstream database"}', "") == ""
    assert who_answers(403, "Permission denied", "") == ""
    assert why_no_answer("") == ""


def test_a_certificate_file_that_cannot_be_read_is_no_fault_of_the_servers_certificate() -> None:
    said = why_no_answer("SSLError\nFileNotFoundError(2, 'No such file or directory')")
    assert said == "the file with the certificate of its authority cannot be read"
