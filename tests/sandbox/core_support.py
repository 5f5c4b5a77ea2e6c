"""What the tests of the sandbox's own parts share."""

import json
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3

from sandbox.plan import Info
from sandbox.platform import Sandbox
from sandbox.processes import MARK

STAND_INS = frozenset({"kubeflow", "seldon", "operator"})
ALL_BUT_STORE = STAND_INS | {"mlflow", "data", "etcd", "apiserver", "controller-manager"}


def within(seconds: float, true: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while not (reached := true()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return reached


def get(url: str, **headers: str) -> bytes:
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:
        content: bytes = answer.read()
        return content


def mlflow(info: Info, call: str, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(
        f"{info.mlflow_url}/api/2.0/mlflow/{call}", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        answered: dict[str, Any] = json.loads(answer.read())
        return answered


def store(info: Info) -> Any:
    session = boto3.Session(info.s3_access_key, info.s3_secret_key, region_name="us-east-1")
    return session.client("s3", endpoint_url=info.s3_endpoint)


def buckets(info: Info) -> set[str]:
    return {bucket["Name"] for bucket in store(info).list_buckets()["Buckets"]}


def marked(folder: Path) -> list[str]:
    """Command lines of the processes that belong to a sandbox; those of which only the exit code is left have none."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={folder}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                found.append((entry / "cmdline").read_text())
        except OSError:
            continue
    return found


def pids(sandbox: Sandbox) -> dict[str, str]:
    return {path.name: path.read_text() for path in (sandbox.folder / "run").iterdir()}
