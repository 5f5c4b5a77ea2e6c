"""`python -m winepipelines doctor`: run all checks once and print the findings."""

import argparse
import asyncio
import logging
import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol, TypeVar

import yaml
from kubernetes.aio.config import ConfigException

from winecontract.reasons import Reason
from winepipelines.api.errors import PlatformError, Unavailable
from winepipelines.api.pipeline import KIND
from winepipelines.doctor.check import CheckedBackend
from winepipelines.doctor.finding import SETTINGS_REASON, Report
from winepipelines.doctor.output import as_json, as_table
from winepipelines.doctor.probing import CheckTargets, Systems
from winepipelines.doctor.runner import check_backends
from winepipelines.environment import SettingsError
from winepipelines.platform.kubeflow import Kubeflow
from winepipelines.platform.kubernetes import SERVICE_ACCOUNT_TOKEN, Kubernetes
from winepipelines.platform.manifests import Manifests
from winepipelines.platform.mlflow import Credentials, MLflow, no_credentials
from winepipelines.platform.namespace import Namespace
from winepipelines.platform.network import Network
from winepipelines.platform.objectstore import ObjectStore
from winepipelines.settings import Settings

T = TypeVar("T")


class EnabledBackends(Protocol):
    """The enabled serving backends; `optional`: one that is not installed is no failure beside another."""

    @property
    def enabled(self) -> Sequence[CheckedBackend]:
        """The backends, in order."""

    @property
    def optional(self) -> bool:
        """Whether the administrator has not listed them."""


MakeBackends = Callable[..., EnabledBackends]
FORMS: Mapping[str, Callable[[Report], str]] = {"table": as_table, "json": as_json}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command's options."""
    parser.add_argument("-n", "--namespace", default="", help="also check this namespace of a user")
    data = parser.add_mutually_exclusive_group()
    data.add_argument("--url", default="", help="also look up the host of this data address in DNS; nothing is fetched")
    data.add_argument(
        "-f",
        "--filename",
        default="",
        help="file with one WinePipeline, - for standard input: check its namespace and its data's host",
    )
    parser.add_argument("-o", "--output", choices=FORMS, default="table", help="default: %(default)s")
    parser.add_argument("--timeout", type=_seconds, default=5.0, help="timeout of one request, in seconds (default: %(default)s)")


def run(options: argparse.Namespace, environment: Mapping[str, str], backends_of: MakeBackends) -> int:
    """Print the findings; return 0 if no check fails, 1 if one does, 2 if settings or arguments are wrong.

    `backends_of` makes the serving backends that the settings enable.
    """
    settings = Settings.from_environment(environment, incomplete=True).with_(request_seconds=options.timeout)
    backends = backends_of(settings, environment, incomplete=True)
    targets = CheckTargets(options.namespace, options.url)
    if options.filename:
        targets = _targets(options.filename, options.namespace)
    os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = str(max(1, round(options.timeout)))  # read at each request
    report = asyncio.run(_run_checks(settings, backends, targets, options.timeout))
    sys.stdout.write(FORMS[options.output](report))
    return report.exit_status


async def _run_checks(settings: Settings, backends: EnabledBackends, targets: CheckTargets, seconds: float) -> Report:
    asyncio.get_running_loop().set_default_executor(_Threads())
    logging.getLogger("kubernetes").setLevel(logging.ERROR)  # a missing kubeconfig is a finding
    kubernetes = await _connect()
    try:
        systems = Systems(
            settings=settings,
            backend=backends.enabled[0],
            kubernetes=kubernetes,
            kubeflow=_make(lambda: Kubeflow(settings), "The compiled pipelines cannot be read"),
            mlflow=_make(
                lambda: MLflow(settings, _credentials(kubernetes, settings, backends.enabled[0])),
                "The MLflow client cannot be created",
            ),
            store=ObjectStore(settings),
            network=Network(),
            inside=Path(SERVICE_ACCOUNT_TOKEN).exists(),  # noqa: ASYNC240 - once, before any request
        )
        return await check_backends(systems, backends.enabled, targets, seconds, optional=backends.optional)
    finally:
        if isinstance(kubernetes, Kubernetes):
            await kubernetes.close()


async def _connect() -> Kubernetes | PlatformError:
    try:
        return await Kubernetes.connect()
    except (ConfigException, OSError, ValueError, yaml.YAMLError):
        return Unavailable(
            Reason.KUBERNETES_UNAVAILABLE,
            "No access to the API server: found neither a pod's service account nor a readable kubeconfig",
        )


def _credentials(kubernetes: Kubernetes | PlatformError, settings: Settings, backend: CheckedBackend) -> Credentials:
    """Return the source of MLflow's credentials: the administrator's Secret, if there is a cluster to read it from."""
    if isinstance(kubernetes, PlatformError):
        return no_credentials
    return Namespace(kubernetes, Manifests(settings.templates), settings, backend.source).mlflow_credentials


def _make(make: Callable[[], T], problem: str) -> T | PlatformError:
    """Make an adapter, or return the error that prevents it, which becomes a finding."""
    try:
        return make()
    except Exception as error:
        return PlatformError(SETTINGS_REASON, f"{problem} ({type(error).__name__})")


def _targets(filename: str, namespace: str) -> CheckTargets:
    """Read the targets from a manifest.

    Raises SettingsError unless it is exactly one WinePipeline.
    """
    try:
        text = sys.stdin.read() if filename == "-" else Path(filename).read_text()
        found = [body for body in yaml.safe_load_all(text) if isinstance(body, dict) and body.get("kind") == KIND]
        [body] = found
        metadata = body["metadata"]
        return CheckTargets(namespace or metadata.get("namespace", ""), str(body["spec"]["data"]["url"]), str(metadata["name"]))
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
    """Starts a daemon thread for each call, so that a name server that hangs does not delay the exit."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> "Future[T]":
        future: Future[T] = Future()

        def work() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(fn(*args, **kwargs))
            except BaseException as error:  # the caller gets it
                future.set_exception(error)

        threading.Thread(target=work, daemon=True).start()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Do not wait for the threads."""
