"""Check, before the operator starts, what it cannot run without.

If anything is missing, the process ends within seconds with one line that says what to do, and Kubernetes shows it. Systems that
may be missing for a while, such as Kubeflow Pipelines, are not checked here: `doctor` reports them while the operator runs.
"""

import asyncio
import errno
import socket
import ssl
from dataclasses import replace
from pathlib import Path

import yaml
from jinja2 import TemplateError
from kubernetes.aio.config import ConfigException

from winepipelines.api.errors import PlatformError, Unavailable
from winepipelines.api.pipeline import GROUP, PLURAL, VERSION
from winepipelines.api.prediction import PREDICTION_PLURAL
from winepipelines.doctor.right import Right
from winepipelines.doctor.rights import ROLE, rights
from winepipelines.platform.cluster import Cluster
from winepipelines.platform.compiled import CompiledPipeline
from winepipelines.platform.kubernetes import Kubernetes
from winepipelines.platform.manifests import Manifests
from winepipelines.platform.runrequests import COMPILED
from winepipelines.serving.backends import Backends
from winepipelines.settings import Settings

START_SECONDS = 4.0  # for the API server, its discovery and its caches of rights
RETRY_SECONDS = 0.25
REVIEWS_AT_A_TIME = 20
MANIFESTS = ("poddefaults.yaml.j2", "secret.yaml.j2")
APPLY_CRDS = "kubectl apply --server-side -f crds/ (chart value crds.install)"


class StartError(Exception):
    """The operator cannot start. The message says why, and what to do."""


async def check(settings: Settings, backends: Backends) -> None:
    """Check files, ports and the API server, in this order.

    Raises StartError.
    """
    check_files(settings, backends)
    for variable, host, port in (
        ("WINE_PROBE_PORT", settings.probe_host, settings.probe_port),
        ("WINE_METRICS_PORT", settings.metrics_host, settings.metrics_port),
    ):
        if port:
            check_port(variable, host, port)
    await check_cluster(settings, backends)


def check_files(settings: Settings, backends: Backends) -> None:
    """Read every file that the operator will read.

    Raises StartError.
    """
    try:
        for pipeline in COMPILED:
            CompiledPipeline(settings.templates, pipeline)
        Manifests(settings.templates).load((*MANIFESTS, *(name for backend in backends.enabled for name in backend.templates)))
    except TemplateError as error:
        raise _templates_error(f"the template {error} is missing or cannot be read", settings) from None
    except OSError as error:
        raise _templates_error(f"{error.filename or settings.templates} cannot be read ({error.strerror})", settings) from None
    except (yaml.YAMLError, ValueError, KeyError, TypeError, AttributeError, IndexError):
        raise _templates_error("a file in it is not what this release wrote", settings) from None
    for variable, path in (("WINE_KFP_CA_FILE", settings.kfp_ca_file), ("WINE_MLFLOW_CA_FILE", settings.mlflow_ca_file)):
        if path:
            _check_certificates(variable, path)
    if settings.kfp_token_file:
        _check_token(settings.kfp_token_file)


def _templates_error(problem: str, settings: Settings) -> StartError:
    return StartError(
        f"WINE_TEMPLATES is {settings.templates}: {problem}. Set it to the folder templates of this release, or leave it unset"
    )


def _check_certificates(variable: str, path: str) -> None:
    try:
        ssl.create_default_context(cafile=path)
    except ssl.SSLError:
        raise StartError(
            f"{Settings.named(variable)}: {path} holds no certificate in PEM format. Put the authority's into it"
        ) from None
    except OSError as error:
        message = f"{Settings.named(variable)}: {path} cannot be read ({error.strerror}). Mount the authority's certificate there"
        raise StartError(message) from None


def _check_token(path: str) -> None:
    variable = "WINE_KFP_TOKEN_FILE"
    advice = "Mount a projected service account token there, or unset the variable if Kubeflow Pipelines requires none"
    try:
        token = Path(path).read_text(encoding="ascii").strip()
    except OSError as error:
        raise StartError(f"{Settings.named(variable)}: {path} cannot be read ({error.strerror}). {advice}") from None
    except UnicodeError:
        token = ""
    if not token or any(character.isspace() for character in token):
        raise StartError(f"{Settings.named(variable)}: {path} holds no token. {advice}")


def check_port(variable: str, host: str, port: int) -> None:
    """Listen on a port, and release it at once.

    Raises StartError if that fails.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        with socket.socket(family, kind, protocol) as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind(address)
            server.listen()
    except OSError as error:
        raise port_error(variable, host, port, error) from None


def port_error(variable: str, host: str, port: int, error: OSError) -> StartError:
    """Return why the operator cannot listen on a port."""
    host_variable = variable.replace("_PORT", "_HOST")
    if error.errno == errno.EADDRINUSE:
        return StartError(f"{Settings.named(variable)}: another process listens on {host}:{port}. End it, or choose another port")
    if error.errno == errno.EACCES:
        return StartError(f"{Settings.named(variable)}: no right to listen on {host}:{port}. Choose a port of 1024 or higher")
    return StartError(
        f"{host_variable}: cannot listen on {host}:{port} ({error.strerror or error}). Set it to an address of this pod"
    )


async def check_cluster(settings: Settings, backends: Backends, seconds: float = START_SECONDS) -> None:
    """Check that the API server answers, serves the operator's own kinds, and permits to watch and change them.

    Raises StartError.
    """
    try:
        kubernetes = await Kubernetes.connect()
    except (ConfigException, OSError, ValueError, TypeError, KeyError, yaml.YAMLError):
        message = (
            "cannot find the API server: there is neither a service account of a pod nor a readable kubeconfig. "
            "Run the operator in a pod with automountServiceAccountToken, or name the file in KUBECONFIG"
        )
        raise StartError(message) from None
    problem = StartError(
        f"the API server did not answer within {seconds:g} s. Check that it runs and that the network policy admits the operator"
    )
    try:
        async with asyncio.timeout(seconds):
            while True:
                found = await _cluster_problem(Cluster(kubernetes), settings, backends)
                if found is None:
                    return
                problem = found
                await asyncio.sleep(RETRY_SECONDS)  # no event reports that the API server knows a new kind or right
    except TimeoutError:
        raise problem from None
    finally:
        await kubernetes.close()


async def _cluster_problem(cluster: Cluster, settings: Settings, backends: Backends) -> StartError | None:
    try:
        served = await cluster.resources(GROUP, VERSION)
        if missing := [plural for plural in (PLURAL, PREDICTION_PLURAL) if plural not in served]:
            kinds = " and ".join(f"{plural}.{GROUP}" for plural in missing)
            return StartError(f"the API server does not serve {kinds} in version {VERSION}: {APPLY_CRDS}")
        slots = asyncio.Semaphore(REVIEWS_AT_A_TIME)

        async def lacks(right: Right, verb: str) -> bool:
            async with slots:
                return not await cluster.may(verb, right.group, right.resource, right.namespace)

        asked = [(right, verb) for right in needed(settings, backends) for verb in right.verbs]
        for (right, verb), missing_right in zip(asked, await asyncio.gather(*(lacks(*one) for one in asked)), strict=True):
            if missing_right:
                return _missing_right(right, verb)
    except Unavailable as error:
        return StartError(f"{error.message}. Check that it runs and that its address is right")
    except PlatformError as error:
        return StartError(f"{error.message}. Give the operator credentials that this API server accepts")
    return None


def needed(settings: Settings, backends: Backends) -> tuple[Right, ...]:
    """List the rights without which nothing works: on the operator's own kinds, and to watch the serving backends' objects."""
    kinds = {(backend.kind.group, backend.kind.plural) for backend in backends.enabled}
    found: dict[Right, None] = {}
    for right in (right for backend in backends.enabled for right in rights(settings, backend)):
        if right.group == GROUP:
            found[right] = None
        elif (right.group, right.resource) in kinds:
            found[replace(right, verbs=("list", "watch"))] = None
    return tuple(found)


def _missing_right(right: Right, verb: str) -> StartError:
    where = f"the Role {ROLE} in {right.namespace}" if right.namespace else f"the ClusterRole {ROLE}"
    return StartError(
        f"the operator has no right to {verb} {right.resource}.{right.group}. Apply deploy/operator/rbac.yaml (chart value "
        f"rbac.create), or add to {where}: {right.rule((verb,))}"
    )
