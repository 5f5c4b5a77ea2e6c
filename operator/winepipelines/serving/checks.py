"""Parts of the doctor's checks that serving backends have in common."""

from urllib.parse import urlsplit

from winecontract.reasons import Reason
from winepipelines.api.errors import PlatformError, Unavailable
from winepipelines.api.sourcesecret import SourceSecret
from winepipelines.doctor.checks.secrets import not_read
from winepipelines.doctor.checks.store import access_problem
from winepipelines.doctor.checks.systems import does_not_answer
from winepipelines.doctor.finding import Finding, failed, ok, skipped, warning
from winepipelines.doctor.observations import AdmissionView, ApiKind, ControllerView, Survey
from winepipelines.doctor.probing import Prober
from winepipelines.platform.admission import DryRunUnsupported, WebhookDown
from winepipelines.platform.kubernetes import Body
from winepipelines.settings import Settings

DRY_RUN_NAME = "wine-operator-doctor"


async def observe_controllers(prober: Prober, label: str) -> tuple[ControllerView, ...] | None:
    """List the Deployments of a controller by their label; None if this account may not list Deployments."""
    if not await prober.cluster.may("list", "apps", "deployments"):
        return None
    return tuple(
        ControllerView(
            deployment["metadata"]["namespace"],
            deployment["metadata"]["name"],
            int(deployment["spec"].get("replicas", 1)),
            int((deployment.get("status") or {}).get("readyReplicas", 0)),
        )
        for deployment in await prober.cluster.deployments(label)
    )


async def observe_admission(prober: Prober, kind: ApiKind, namespace: str, example: Body) -> AdmissionView | None:
    """Create an object as a dry run: it passes the webhooks and leaves nothing behind. None if this account may not create it."""
    if not await prober.cluster.may("create", kind.group, kind.plural, namespace):
        return None
    path = f"/apis/{kind.group}/{kind.version}/namespaces/{namespace}/{kind.plural}"
    try:
        await prober.cluster.dry_run(path, example)
    except PlatformError as error:
        return AdmissionView(namespace, error)
    return AdmissionView(namespace)


def dry_run_namespace(settings: Settings) -> str:
    """Choose the namespace of dry runs: one in which the operator has rights."""
    return next(iter(settings.namespaces), settings.platform_namespace)


def controller_runs(controllers: tuple[ControllerView, ...] | PlatformError | None, label: str, product: str) -> Finding:
    """Evaluate a controller's Deployments: each needs a ready pod."""
    command = f"kubectl get deployments -A -l {label}"
    if controllers is None:
        return skipped("This account may not list Deployments of all namespaces: ask an administrator", command)
    if isinstance(controllers, PlatformError):
        return skipped(f"Deployments could not be listed: {controllers.message}", command)
    if not controllers:
        message = f"No Deployment has the label {label}: {product} is not installed, or was installed in another way"
        return skipped(message, command)
    for controller in controllers:
        if not controller.ready:
            message = f"Deployment {controller.name} in {controller.namespace} has 0 of {controller.wanted} pods ready"
            scale = f"kubectl -n {controller.namespace} scale deployment {controller.name} --replicas=1"
            describe = f"kubectl -n {controller.namespace} describe deployment,pods -l {label}"
            return failed(Reason.SERVING_BACKEND_UNAVAILABLE, message, describe if controller.wanted else scale)
    return ok(", ".join(f"{one.namespace}/{one.name}: {one.ready} of {one.wanted} pods ready" for one in controllers))


def admission_passes(view: AdmissionView | PlatformError | None, kind: str, webhooks: str) -> Finding:
    """Evaluate a dry run of an object of `kind`; names of its webhooks contain `webhooks`."""
    command = f"kubectl get validatingwebhookconfigurations,mutatingwebhookconfigurations | grep {webhooks}"
    if view is None:
        return skipped(f"This account may not create {kind}s: ask an administrator", command)
    error = view.error if isinstance(view, AdmissionView) else view
    if error is None:
        return ok(f"A dry run of a {kind} passes admission")
    if isinstance(error, DryRunUnsupported):
        return skipped(f"A webhook does not support dry runs: {error.message}", command)
    if isinstance(error, WebhookDown):
        return failed(error.reason, error.problem, error.remedy)
    if isinstance(error, Unavailable):
        return failed(error.reason, error.message, command)
    return warning(f"A dry run of a {kind} is rejected: {error.message}", command)


def source_name(survey: Survey, source: SourceSecret) -> str:
    """Return the name of the source Secret that was found, else the preferred one."""
    return source.name if isinstance(survey.source, PlatformError) else survey.source.state.name


def secret_problem(survey: Survey, name: str, create: str) -> Finding | None:
    """Evaluate whether the source Secret exists and has every required key; None if it does.

    `create` completes the command `kubectl create secret generic`.
    """
    source, namespace = survey.source, survey.settings.platform_namespace
    where = f"The Secret {name} in namespace {namespace}"
    get = f"kubectl -n {namespace} describe secret {name}"
    if isinstance(source, PlatformError):
        return not_read(where, source, get)
    if not source.state.exists:
        remedy = f"kubectl -n {namespace} create secret generic {name} {create}"
        others = f", nor does {' or '.join(source.state.others)}" if source.state.others else ""
        return failed(Reason.SOURCE_SECRET_MISSING, f"{where} does not exist{others}", remedy)
    if missing := source.state.missing_keys:
        patch = ", ".join(f'"{key}": "…"' for key in missing)
        remedy = f"kubectl -n {namespace} patch secret {name} --type=merge -p '{{\"stringData\": {{{patch}}}}}'"
        return failed(Reason.SOURCE_SECRET_INCOMPLETE, f"{where} has no value for {', '.join(missing)}", remedy)
    return None


def store_address_is_valid(survey: Survey, name: str, key: str) -> Finding:
    """Evaluate the address of the object store in a source Secret without problems; `key` holds it."""
    source, settings = survey.source, survey.settings
    assert not isinstance(source, PlatformError), "secret_problem is evaluated first"
    parts = urlsplit(source.endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        where = f"The Secret {name} in namespace {settings.platform_namespace}"
        message = f"{where} has an {key} that is not an http:// or https:// address"
        return failed(Reason.SOURCE_SECRET_INCOMPLETE, message, f"{key}={settings.s3_endpoint_url}")
    why = f": the first complete one of {', '.join(source.names)}" if len(source.names) > 1 else ""
    return ok(f"{name} in {settings.platform_namespace}, for {parts.scheme}://{parts.netloc}{why}")


def artifacts_are_readable(survey: Survey, source: SourceSecret, reader: str) -> Finding:
    """Evaluate whether the source Secret's credentials may list and read the artifacts; `reader` is who copies with them."""
    view, settings = survey.bucket, survey.settings
    if view is None:
        return skipped("The artifact root is unknown")
    secret = f"the Secret {source_name(survey, source)} in namespace {settings.platform_namespace}"
    if isinstance(view, PlatformError):
        remedy = f"kubectl -n {settings.platform_namespace} get endpoints; check {source.endpoint_key} of {secret}"
        return does_not_answer(survey, "the object store", view, Reason.OBJECT_STORE_UNREACHABLE, remedy)
    if problem := access_problem(view, secret):
        return problem
    if survey.same_store is False:
        message = (
            f"{reader} reads {view.uri} at {view.endpoint}, steps write at {settings.s3_endpoint_url}: "
            "these seem to be two stores"
        )
        in_secret = f"{source.endpoint_key}={settings.s3_endpoint_url} in {secret}"
        return warning(message, f"{Settings.named('WINE_S3_ENDPOINT_URL')}={view.endpoint}, or {in_secret}")
    unsure = "" if survey.same_store else f"; it is unknown whether {settings.s3_endpoint_url} is the same store"
    return ok(f"{view.uri} at {view.endpoint}{unsure}")
