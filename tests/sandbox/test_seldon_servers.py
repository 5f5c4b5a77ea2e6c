"""The process that model servers are forked from, and incomplete copies."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sandbox.components import python_environment
from sandbox.seldon import storage

LISTING = b"""<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>mlflow</Name>
<KeyCount>1</KeyCount><IsTruncated>false</IsTruncated><Contents><Key>1/MLmodel</Key><Size>100</Size></Contents></ListBucketResult>"""


def test_forked_process_has_no_threads_and_no_garbage() -> None:
    look = (
        "import gc, sys, threading, sandbox.seldon.warm as _;"
        "print(threading.active_count(), gc.isenabled(), gc.get_freeze_count() > 100_000, 'wineserver.server' in sys.modules)"
    )
    environment = {**os.environ, **python_environment("", "pipeline")}
    output = subprocess.run([sys.executable, "-c", look], env=environment, capture_output=True, text=True, check=True)
    assert output.stdout.split() == ["1", "False", "True", "True"]


class CutShort(BaseHTTPRequestHandler):
    """An object store that lists a hundred bytes and sends three."""

    def do_HEAD(self) -> None:
        self.answer(b"", 100)

    def do_GET(self) -> None:
        if "list-type" in self.path:
            self.answer(LISTING, len(LISTING))
        else:
            self.answer(b"abc", 100)

    def answer(self, body: bytes, length: int) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(length))
        self.send_header("Content-Type", "application/xml")
        self.send_header("ETag", '"1"')
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def cut_short() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), CutShort) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_incomplete_copy_fails(cut_short: str, tmp_path: Path) -> None:
    variables = {"RCLONE_CONFIG_S3_TYPE": "s3", "RCLONE_CONFIG_S3_ENDPOINT": cut_short}
    with pytest.raises(storage.CopyError):
        storage.copy("s3://mlflow/1", variables, tmp_path / "models")
