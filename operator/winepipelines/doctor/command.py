"""`python -m winepipelines doctor`: one walk, printed. Called by `__main__`."""

import argparse
import asyncio
import logging
import os
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import yaml
from kubernetes.aio.config import ConfigException

from winepipelines.doctor.asking import Systems
from winepipelines.doctor.finding import SETTINGS_REASON, Report
from winepipelines.doctor.output import as_json, as_table
from winepipelines.doctor.survey import Wishes
from winepipelines.doctor.walk import walk
from winepipelines.platform.kubeflow import Kubeflow
from winepipelines.platform.kubernetes import SERVICE_ACCOUNT_TOKEN, Kubernetes
from winepipelines.platform.manifests import Manifests
from winepipelines.platform.mlflow import Credentials, MLflow, no_credentials
from winepipelines.platform.namespace import Namespace
from winepipelines.platform.network import Network
from winepipelines.platform.objectstore import ObjectStore
from winepipelines.resource.errors import PlatformError, Unavailable
from winepipelines.resource.pipeline import KIND
from winepipelines.settings import Settings, SettingsError

T = TypeVar("T")
FORMS: Mapping[str, Callable[[Report], str]] = {"table": as_table, "json": as_json}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command's options."""
    parser.add_argument("-n", "--namespace", default="", help="look at a user's namespace too")
    data = parser.add_mutually_exclusive_group()
    data.add_argument("--url", default="", help="look up the host of this data address; it is not fetched")
    data.add_argument(
        "-f", "--filename", default="", help="file with one WinePipeline, - for standard input: its namespace and its data's host"
    )
    parser.add_argument("-o", "--output", choices=FORMS, default="table", help="default: %(default)s")
    parser.add_argument("--timeout", type=_seconds, default=5.0, help="seconds that one answer may take (default: %(default)s)")


def run(options: argparse.Namespace, environment: Mapping[str, str]) -> int:
    """Print the findings; return 0 where nothing fails, 1 where something does, 2 where settings or usage are wrong."""
    settings = replace(Settings.from_environment(environment, incomplete=True), request_seconds=options.timeout)
    wishes = Wishes(options.namespace, options.url)
    if options.filename:
        wishes = _wishes(options.filename, options.namespace)
    os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = str(max(1, round(options.timeout)))  # read at each request
    report = asyncio.run(_walk(settings, wishes, options.timeout))
    sys.stdout.write(FORMS[options.output](report))
    return report.exit_status


async def _walk(settings: Settings, wishes: Wishes, seconds: float) -> Report:
    asyncio.get_running_loop().set_default_executor(_Threads())
    logging.getLogger("kubernetes").setLevel(logging.ERROR)  # that there is no kubeconfig is a finding
    kubernetes = await _connect()
    try:
        systems = Systems(
            settings=settings,
            kubernetes=kubernetes,
            kubeflow=_made(lambda: Kubeflow(settings), "the compiled pipelines cannot be read"),
            mlflow=_made(lambda: MLflow(settings, _credentials(kubernetes, settings)), "no client for MLflow can be made"),
            store=ObjectStore(settings),
            network=Network(),
            inside=Path(SERVICE_ACCOUNT_TOKEN).exists(),  # noqa: ASYNC240 - once, before anything is asked
        )
        return await walk(systems, wishes, seconds)
    finally:
        if isinstance(kubernetes, Kubernetes):
            await kubernetes.close()


async def _connect() -> Kubernetes | PlatformError:
    try:
        return await Kubernetes.connect()
    except (ConfigException, OSError, ValueError, yaml.YAMLError):
        return Unavailable("KubernetesUnavailable", "neither a pod's service account nor a kubeconfig that can be read is here")


def _credentials(kubernetes: Kubernetes | PlatformError, settings: Settings) -> Credentials:
    """Say where credentials for MLflow come from: the administrator's Secret, where there is a cluster to read it in."""
    if isinstance(kubernetes, PlatformError):
        return no_credentials
    return Namespace(kubernetes, Manifests(settings.templates), settings).mlflow_credentials


def _made(make: Callable[[], T], why_not: str) -> T | PlatformError:
    """Make an adapter; what keeps it from being made is a finding like any other."""
    try:
        return make()
    except Exception as error:
        return PlatformError(SETTINGS_REASON, f"{why_not} ({type(error).__name__})")


def _wishes(filename: str, namespace: str) -> Wishes:
    """Read from a manifest what to look at.

    Raises SettingsError where that is not exactly one WinePipeline.
    """
    try:
        text = sys.stdin.read() if filename == "-" else Path(filename).read_text()
        found = [body for body in yaml.safe_load_all(text) if isinstance(body, dict) and body.get("kind") == KIND]
        [body] = found
        metadata = body["metadata"]
        return Wishes(namespace or metadata.get("namespace", ""), str(body["spec"]["data"]["url"]), str(metadata["name"]))
    except (OSError, UnicodeError) as error:
        raise SettingsError(f"{filename} cannot be read: {error.__class__.__name__}") from None
    except (yaml.YAMLError, ValueError, KeyError, TypeError):
        raise SettingsError(f"{filename} is not one {KIND} with a name and spec.data.url") from None


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value <= 600:
        raise argparse.ArgumentTypeError("between 0 and 600 seconds")
    return value


class _Threads(ThreadPoolExecutor):
    """A thread for each call, and nobody waits for it at the end: a name server that hangs must not hold the answer up."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> "Future[T]":
        future: Future[T] = Future()

        def work() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(fn(*args, **kwargs))
            except BaseException as error:  # it is the caller's
                future.set_exception(error)

        threading.Thread(target=work, daemon=True).start()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Leave them."""
