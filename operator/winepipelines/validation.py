"""Validate the administrator's settings one by one, before anything uses them. Pure; used by `settings` and `doctor`.

A problem names the variable and the value of the chart that sets it, what is wrong, and what to write.
"""

import ipaddress
import math
import re
from collections.abc import Callable, Mapping
from string import Formatter
from urllib.parse import urlsplit

# Which value of the chart sets a variable; a test holds this and the chart together.
CHART_VALUES: Mapping[str, str] = {
    "WINE_NAMESPACES": "namespaces",
    "WINE_PLATFORM_NAMESPACE": "platformNamespace",
    "WINE_KFP_URL": "kubeflow.url",
    "WINE_KFP_UI_URL": "kubeflow.uiUrl",
    "WINE_KFP_SERVICE_ACCOUNT": "kubeflow.serviceAccount",
    "WINE_KFP_TOKEN_FILE": "kubeflow.token",
    "WINE_KFP_CA_FILE": "kubeflow.ca",
    "WINE_MLFLOW_URL": "mlflow.url",
    "WINE_STEPS_MLFLOW_URL": "mlflow.stepsUrl",
    "WINE_ARTIFACTS_DESTINATION": "mlflow.artifactsDestination",
    "WINE_MLFLOW_SECRET": "mlflow.secret",
    "WINE_STEPS_MLFLOW_SECRET": "mlflow.stepsSecret",
    "WINE_UNSIGNED_MODELS": "models.unsigned",
    "WINE_MLFLOW_CA_FILE": "mlflow.ca",
    "WINE_S3_ENDPOINT_URL": "objectStore.url",
    "WINE_SOURCE_SECRET": "seldon.sourceSecret",
    "WINE_ENDPOINT_TEMPLATE": "seldon.endpointTemplate",
    "WINE_PREDICTOR_TEMPLATE": "seldon.predictorTemplate",
    "WINE_TRAFFIC_SPLITTING": "seldon.trafficSplitting",
    "WINE_SELDON_EXECUTOR": "seldon.executor",
    "WINE_STEPS_IMAGE": "image.steps",
    "WINE_SERVER_IMAGE": "image.server",
    "WINE_MLFLOWSERVER_IMAGE": "seldon.mlflowserver.image",
    "WINE_MLFLOWSERVER_VERSION": "seldon.mlflowserver.version",
    "WINE_MAX_DATA_BYTES": "limits.maxDataBytes",
    "WINE_DATA_PRIVATE_NETWORKS": "data.privateNetworks",
    "WINE_DATA_ALLOWED_NETWORKS": "data.allowedNetworks",
    "WINE_STEP_CPU_REQUEST": "steps.cpuRequest",
    "WINE_STEP_MEMORY_REQUEST": "steps.memoryRequest",
    "WINE_STEP_MEMORY_LIMIT": "steps.memoryLimit",
    "WINE_WORKERS": "limits.workers",
    "WINE_REQUEST_SECONDS": "limits.requestSeconds",
    "WINE_RECONCILE_SECONDS": "limits.reconcileSeconds",
    "WINE_POLL_SECONDS": "patience.pollSeconds",
    "WINE_POLL_FALLBACK_SECONDS": "patience.pollFallbackSeconds",
    "WINE_SUBMIT_GRACE_SECONDS": "patience.submitGraceSeconds",
    "WINE_ATTEMPT_BACKOFF_SECONDS": "patience.attemptBackoffSeconds",
    "WINE_ATTEMPT_BACKOFF_LIMIT_SECONDS": "patience.attemptBackoffLimitSeconds",
    "WINE_START_BACKOFF_LIMIT_SECONDS": "patience.startBackoffLimitSeconds",
    "WINE_TERMINATE_GRACE_SECONDS": "patience.terminateGraceSeconds",
    "WINE_EXPLAIN_GRACE_SECONDS": "patience.explainGraceSeconds",
    "WINE_RECORDS_GRACE_SECONDS": "patience.recordsGraceSeconds",
    "WINE_PROGRESS_DEADLINE_SECONDS": "patience.progressDeadlineSeconds",
    "WINE_SLOW_PROGRESS_DEADLINE_SECONDS": "patience.slowProgressDeadlineSeconds",
    "WINE_ROLLOUT_INTERVAL_SECONDS": "patience.rolloutIntervalSeconds",
    "WINE_VERIFY_WINDOW_SECONDS": "patience.verifyWindowSeconds",
    "WINE_CHECK_INTERVAL_SECONDS": "patience.checkIntervalSeconds",
    "WINE_PROBATION_SECONDS": "patience.probationSeconds",
    "WINE_PROBATION_INTERVAL_SECONDS": "patience.probationIntervalSeconds",
    "WINE_TRIAL_INTERVAL_SECONDS": "patience.trialIntervalSeconds",
    "WINE_DATA_CHECK_TIMEOUT_SECONDS": "patience.dataCheckTimeoutSeconds",
    "WINE_RETRY_INTERVAL_SECONDS": "patience.retryIntervalSeconds",
    "WINE_DELETE_BOUND_SECONDS": "patience.deleteBoundSeconds",
    "WINE_DOCTOR_SECONDS": "patience.doctorSeconds",
    "WINE_LOG_LEVEL": "logging.level",
    "WINE_LOG_FORMAT": "logging.format",
    "WINE_METRICS_PORT": "metrics.port",
}
EXAMPLES = {
    "WINE_KFP_URL": "http://ml-pipeline.kubeflow.svc.cluster.local:8888",
    "WINE_KFP_UI_URL": "https://kubeflow.example.org/pipeline",
    "WINE_MLFLOW_URL": "http://mlflow-server.kubeflow.svc.cluster.local:5000",
    "WINE_STEPS_MLFLOW_URL": "http://mlflow-server.kubeflow.svc.cluster.local:5000",
    "WINE_S3_ENDPOINT_URL": "http://minio.kubeflow.svc.cluster.local:9000",
}
CHOICES: Mapping[str, tuple[str, ...]] = {
    "WINE_LOG_LEVEL": ("debug", "info", "warning", "error"),
    "WINE_LOG_FORMAT": ("text", "json"),
    "WINE_TRAFFIC_SPLITTING": ("none", "istio", "ambassador"),
    "WINE_DATA_PRIVATE_NETWORKS": ("direct", "allow", "refuse"),
    "WINE_UNSIGNED_MODELS": ("refuse", "serve"),
}
LONGEST_SECONDS = 10 * 365 * 86400
COUNTS: Mapping[str, tuple[int, int]] = {
    "WINE_MAX_DATA_BYTES": (1, 1 << 60),
    "WINE_WORKERS": (1, 1000),
    "WINE_PROBE_PORT": (0, 65535),  # 0: none
    "WINE_METRICS_PORT": (0, 65535),
}
# What may be 0: a grace or a deadline that is none. An interval of 0 would never rest.
MAY_BE_ZERO = frozenset(
    f"WINE_{name}_SECONDS"
    for name in (
        "SUBMIT_GRACE",
        "ATTEMPT_BACKOFF",
        "ATTEMPT_BACKOFF_LIMIT",
        "TERMINATE_GRACE",
        "EXPLAIN_GRACE",
        "RECORDS_GRACE",
        "PROGRESS_DEADLINE",
        "SLOW_PROGRESS_DEADLINE",
        "VERIFY_WINDOW",
        "PROBATION",
        "DELETE_BOUND",
    )
)
QUANTITY = re.compile(r"[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?")
LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
S3_ADDRESS = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^\s?#]*)?")
# registry/path/name:tag@digest, as the OCI distribution specification has it
_NAME = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_REGISTRY = r"(?:(?:localhost|[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+)(?::\d+)?|[A-Za-z0-9-]+:\d+)/"
IMAGE = re.compile(
    rf"^(?:{_REGISTRY})?{_NAME}(?:/{_NAME})*(?P<tag>:[A-Za-z0-9_][A-Za-z0-9._-]{{0,127}})?(?P<digest>@sha256:[0-9a-f]{{64}})?$"
)


def named(variable: str) -> str:
    """Name a variable and, where there is one, the value of the chart that sets it."""
    value = CHART_VALUES.get(variable)
    return f"{variable} (chart value {value})" if value else variable


def problem(variable: str, value: object) -> str | None:
    """Say what is wrong with a setting's value and what to write instead; None where nothing is."""
    if variable in CHOICES:
        choices = CHOICES[variable]
        return None if value in choices else f"{value!r} is none of {', '.join(choices)}"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _number_problem(variable, value)
    rule = RULES.get(variable)
    return rule(value) if rule is not None else None


def address_problem(url: str, *, path: bool = True) -> str | None:
    """Say what keeps a text from being the address of a server; `path` says that it may have one."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return f"{_shown(url)} is not an http:// or https:// address"
    if parts.username is not None or parts.password is not None:  # not shown: it may be a password
        return "the address contains a user name; credentials belong in a Secret"
    if parts.scheme not in ("http", "https") or not parts.hostname or re.search(r"\s", url) or port == 0:
        return f"{_shown(url)} is not an http:// or https:// address"
    if parts.query or parts.fragment:
        return f"{_shown(url.split('?')[0].split('#')[0])}: leave out the query and the fragment"
    if parts.path.strip("/") and not path:
        return f"{_shown(url)}: leave out the path"
    return None


def template_problem(template: str, needed: tuple[str, ...], optional: tuple[str, ...] = ()) -> str | None:
    """Say what keeps a text with fields in braces from being the addresses of all endpoints."""
    known = (*needed, *optional)
    try:
        fields = {name for _, name, _, _ in Formatter().parse(template) if name is not None}
    except ValueError:
        return f"{_shown(template)}: its braces do not match"
    if strange := fields - set(known):
        return f"has the field {{{min(strange)}}}; the fields are {', '.join(f'{{{name}}}' for name in known)}"
    if missing := [name for name in needed if name not in fields]:
        return f"lacks the field {{{missing[0]}}}: several models would have one address"
    return address_problem(template.format(**dict.fromkeys(known, "a")))


def _number_problem(variable: str, value: float) -> str | None:
    if variable in COUNTS:
        least, most = COUNTS[variable]
        return None if least <= value <= most else f"{value:g} is not between {least} and {most}"
    if not math.isfinite(value) or value > LONGEST_SECONDS:
        return f"{value:g} is not a number of seconds up to {LONGEST_SECONDS}"
    if value < 0:
        return f"{value:g} is negative"
    if value == 0 and variable not in MAY_BE_ZERO:
        return "must be more than 0"
    return None


def _address(variable: str, *, path: bool = True, optional: bool = False) -> Callable[[object], str | None]:
    def rule(value: object) -> str | None:
        if optional and not value:
            return None
        said = address_problem(str(value), path=path)
        return said and f"{said}, for example {EXAMPLES[variable]}"

    return rule


def _matches(pattern: re.Pattern[str], what: str, *, optional: bool = False) -> Callable[[object], str | None]:
    def rule(value: object) -> str | None:
        if (optional and not value) or pattern.fullmatch(str(value)):
            return None
        return f"{_shown(str(value))} is not {what}"

    return rule


def _namespaces(value: object) -> str | None:
    names = list(value) if isinstance(value, tuple) else []
    for name in names:
        if not LABEL.fullmatch(name):
            return f"{_shown(name)} is not the name of a namespace"
        if names.count(name) > 1:
            return f"names {name} twice"
    return None


def _networks(value: object) -> str | None:
    for network in value if isinstance(value, tuple) else ():
        try:
            ipaddress.ip_network(network)
        except ValueError:
            return f"{_shown(network)} is not a network such as 10.20.0.0/16"
    return None


def _endpoint(value: object) -> str | None:
    if str(value).endswith("/predictions"):
        return "leave out /api/v1.0/predictions; the path follows the protocol"
    return template_problem(str(value), ("name",), ("namespace",))


def _predictor(value: object) -> str | None:
    return template_problem(str(value), ("name", "predictor"), ("namespace",))


def _not_empty(value: object) -> str | None:
    return None if value else "is empty"


_secret = _matches(SUBDOMAIN, "the name of a Secret")
_quantity = _matches(QUANTITY, "a quantity such as 500m or 1Gi", optional=True)
_image = _matches(IMAGE, "the name of an image: registry/name:tag or registry/name@sha256:…")
RULES: Mapping[str, Callable[[object], str | None]] = {
    "WINE_KFP_URL": _address("WINE_KFP_URL"),
    "WINE_KFP_UI_URL": _address("WINE_KFP_UI_URL", optional=True),
    "WINE_MLFLOW_URL": _address("WINE_MLFLOW_URL"),
    "WINE_STEPS_MLFLOW_URL": _address("WINE_STEPS_MLFLOW_URL", optional=True),
    "WINE_S3_ENDPOINT_URL": _address("WINE_S3_ENDPOINT_URL", path=False),
    "WINE_KFP_SERVICE_ACCOUNT": _matches(SUBDOMAIN, "the name of a service account", optional=True),
    "WINE_MLFLOW_SECRET": _matches(SUBDOMAIN, "the name of a Secret", optional=True),
    "WINE_STEPS_MLFLOW_SECRET": _matches(SUBDOMAIN, "the name of a Secret", optional=True),
    "WINE_SOURCE_SECRET": _secret,
    "WINE_PLATFORM_NAMESPACE": _matches(LABEL, "the name of a namespace"),
    "WINE_NAMESPACES": _namespaces,
    "WINE_DATA_ALLOWED_NETWORKS": _networks,
    "WINE_STEP_CPU_REQUEST": _quantity,
    "WINE_STEP_MEMORY_REQUEST": _quantity,
    "WINE_STEP_MEMORY_LIMIT": _quantity,
    "WINE_ARTIFACTS_DESTINATION": _matches(S3_ADDRESS, "an address such as s3://mlflow", optional=True),
    "WINE_ENDPOINT_TEMPLATE": _endpoint,
    "WINE_PREDICTOR_TEMPLATE": _predictor,
    "WINE_STEPS_IMAGE": _image,
    "WINE_SERVER_IMAGE": _image,
    "WINE_MLFLOWSERVER_IMAGE": _image,
    "WINE_PROBE_HOST": _not_empty,
    "WINE_METRICS_HOST": _not_empty,
    "WINE_TEMPLATES": _not_empty,
}


def _shown(text: str) -> str:
    """Quote a text from outside, bounded."""
    return repr(text if len(text) <= 100 else text[:100] + "…")
