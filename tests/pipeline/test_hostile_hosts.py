"""Hosts of data that mean harm: endless answers, slow ones, absurd lengths, bodies that unpack to very much."""

import contextlib
import gzip
import itertools
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from support.website import Answer, Site

from winecontract.reasons import Reason
from winesteps import connections
from winesteps.download import download
from winesteps.failures import StepFailure
from winesteps.sources import open_source

CSV = b"a;quality\n" + b"1;5\n" * 30
Serving = Callable[[Callable[[], Iterable[bytes]]], str]


@pytest.fixture
def raw() -> Iterator[Serving]:
    """Starts a server that sends what a function makes, piece by piece, until the client has gone."""
    listening: list[socket.socket] = []

    def start(pieces: Callable[[], Iterable[bytes]]) -> str:
        server = socket.create_server(("127.0.0.1", 0))
        listening.append(server)

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = server.accept()
                    with client, contextlib.suppress(OSError):
                        client.recv(65536)
                        for piece in pieces():
                            client.sendall(piece)

        threading.Thread(target=serve, daemon=True).start()
        return f"http://127.0.0.1:{server.getsockname()[1]}/wine.csv"

    yield start
    for server in listening:
        server.shutdown(socket.SHUT_RDWR)
        server.close()


def refused(url: str, folder: Path, reason: Reason, **options: int) -> str:
    with pytest.raises(StepFailure) as caught:
        download(url, folder / "data", wait=lambda _: None, **options)  # type: ignore[arg-type]
    assert caught.value.reason is reason, caught.value
    return caught.value.message


@pytest.mark.parametrize("length", ["9" * 5000, "9" * 19, "1" + "0" * 4500])
def test_a_length_of_thousands_of_digits(site: Site, tmp_path: Path, length: str) -> None:
    url = site.give("/wine.csv", Answer(CSV, headers={"Content-Length": length}, length=None))
    assert "the limit on this platform" in refused(url, tmp_path, Reason.DATA_TOO_LARGE)


@pytest.mark.parametrize("length", ["²", "٣", "-5", "1e3", ""])
def test_a_length_that_is_no_number(site: Site, tmp_path: Path, length: str) -> None:
    headers = {"Content-Length": length.encode().decode("latin-1")}
    url = site.give("/wine.csv", Answer(CSV, headers=headers, length=None))
    assert download(url, tmp_path / "data").size == len(CSV)


@pytest.mark.parametrize(
    "head",
    [
        b"",  # silent
        b"HTTP/1.1 200 OK\r\nX: ",  # in a header
        b"HTTP/1.1 200 OK\r\n\r\n",  # in a body that ends with its connection
        b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
    ids=["status", "header", "body", "body of known length", "chunks"],
)
def test_a_host_that_drips(raw: Serving, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head: bytes) -> None:
    monkeypatch.setattr(connections, "GRACE_SECONDS", 1.0)
    monkeypatch.setattr(connections, "WATCH_SECONDS", 0.05)
    monkeypatch.setattr("winesteps.download.ATTEMPTS", 1)

    def drip() -> Iterator[bytes]:
        yield head
        while True:
            time.sleep(0.02)
            yield b"1"

    began = time.monotonic()
    assert "bytes a second" in refused(raw(drip), tmp_path, Reason.DATA_UNREACHABLE)
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
        (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 1000),
        (b"HTTP/1.1 200 OK\r\nX: ", b"y" * 65536),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"0" * 65536),
    ],
    ids=["informational", "headers", "header line", "line of a chunk"],
)
def test_an_endless_head(raw: Serving, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head: bytes, piece: bytes) -> None:
    monkeypatch.setattr(connections, "GRACE_SECONDS", 1.0)
    monkeypatch.setattr("winesteps.download.ATTEMPTS", 1)
    began = time.monotonic()
    refused(raw(lambda: itertools.chain([head], itertools.repeat(piece))), tmp_path, Reason.DATA_UNREACHABLE)
    assert time.monotonic() - began < 10


def test_a_body_that_unpacks_on_the_way(site: Site) -> None:
    """A megabyte of gzip holds a gigabyte: it comes in pieces, whatever the server sends at once."""
    bomb = gzip.compress(bytes(64 * 1024 * 1024))
    url = site.give("/wine.csv", Answer(bomb, headers={"Content-Encoding": "gzip"}))
    with open_source(url) as source:
        sizes = list(map(len, source.chunks))
    assert sum(sizes) == 64 * 1024 * 1024
    assert max(sizes) <= 1024 * 1024


def test_a_body_that_unpacks_to_nothing(raw: Serving, tmp_path: Path) -> None:
    packer = zlib.compressobj(wbits=31)
    empty = packer.flush(zlib.Z_FULL_FLUSH) * 10_000
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + zlib.compressobj(wbits=31).flush(zlib.Z_FULL_FLUSH)[:10]
    url = raw(lambda: itertools.chain([head], itertools.repeat(empty[10:])))
    assert "Content-Encoding" in refused(url, tmp_path, Reason.DATA_UNREACHABLE)


@pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, gzip", "zstd", "x" * 5000])
def test_download_rejects_an_encoding_that_the_request_does_not_accept(site: Site, tmp_path: Path, encoding: str) -> None:
    url = site.give("/wine.csv", Answer(CSV, headers={"Content-Encoding": encoding}))
    assert len(refused(url, tmp_path, Reason.DATA_UNREACHABLE)) < 200


@pytest.mark.parametrize("etag", ['"{{workflow.name}}"', '"{{=1+1}}"', '"a}}b"'])
def test_an_entity_tag_that_is_a_template_of_argo(site: Site, tmp_path: Path, etag: str) -> None:
    assert download(site.give("/wine.csv", Answer(CSV, headers={"ETag": etag})), tmp_path / "data").etag == ""
