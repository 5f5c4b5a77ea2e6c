"""What the administrator says: where the platform is, and how patient to be. Read once from `WINE_*` variables.

A resource cannot change any of it: neither the operator nor the credentials that it holds can be pointed at another host.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from pathlib import Path
from typing import Self

from winepipelines import __version__
from winepipelines.resource.policy import Policy
from winepipelines.validation import IMAGE, named, problem

PREFIX = "WINE_"
ADDRESSES = ("kfp_url", "mlflow_url", "s3_endpoint_url")
JUDGED_BY_DOCTOR = frozenset({*ADDRESSES, "endpoint_template", "steps_image", "server_image"})
ELSEWHERE = frozenset({"WINE_CACHE"})  # read by the sandbox and by dev/environment
REPOSITORY = Path(__file__).resolve().parents[2]


class SettingsError(Exception):
    """A variable is missing or malformed; the message names it."""


@dataclass(frozen=True)
class Settings:
    """Addresses are URLs without a trailing slash.

    `endpoint_template` is where a resource's predictions are asked, up to the path, which the protocol gives; it has the fields
    `{namespace}` and `{name}`; `predictor_template` is the same for one `{predictor}`, whatever its share of the traffic.
    `mlflowserver_version` is the Seldon release that `mlflowserver_image` is of: its tag, unless said otherwise.
    """

    kfp_url: str
    mlflow_url: str
    s3_endpoint_url: str
    kfp_ui_url: str = ""
    kfp_token_file: str = ""
    kfp_ca_file: str = ""
    kfp_service_account: str = ""
    steps_mlflow_url: str = ""
    mlflow_secret: str = ""
    steps_mlflow_secret: str = ""  # the one that steps have their credentials from; empty: the operator's own
    mlflow_ca_file: str = ""
    artifacts_destination: str = ""
    platform_namespace: str = "kubeflow"
    source_secret: str = "mlflow-server-seldon-init-container-s3-credentials"
    endpoint_template: str = "http://{name}-wine-super-model.{namespace}.svc.cluster.local:8000"
    predictor_template: str = "http://{name}-{predictor}.{namespace}.svc.cluster.local:8000"
    seldon_executor: bool = False  # whether new models of the bundled runtime are served behind Seldon's executor
    unsigned_models: str = "refuse"  # or "serve": models that no train step has signed may be served anew
    traffic_splitting: str = "none"  # or what gives predictors their shares of the traffic
    steps_image: str = f"winepipelines/steps:{__version__}"
    server_image: str = f"winepipelines/server:{__version__}"
    mlflowserver_image: str = "docker.io/seldonio/mlflowserver:1.18.2"
    mlflowserver_version: str = "1.18.2"
    templates: str = str(REPOSITORY / "templates")
    crds: str = str(REPOSITORY / "crds")
    max_data_bytes: int = 1 << 30
    data_private_networks: str = "direct"  # whether runs may fetch data from private addresses
    data_allowed_networks: tuple[str, ...] = ()  # that data may come from in any case
    step_cpu_request: str = "100m"  # of each step's container, where the resource does not say
    step_memory_request: str = "256Mi"
    step_memory_limit: str = "4Gi"
    poll_seconds: float = 10.0  # between two lists of active runs that no watch tells of
    poll_fallback_seconds: float = 120.0  # the same for runs whose Workflows are watched
    request_seconds: float = 20.0
    workers: int = 10
    probe_host: str = "0.0.0.0"  # noqa: S104 - a kubelet probes a pod from outside
    probe_port: int = 0
    metrics_host: str = "0.0.0.0"  # noqa: S104 - and a Prometheus scrapes it from outside
    metrics_port: int = 0
    doctor_seconds: float = 300.0  # between two walks of the platform's checks
    reconcile_seconds: float = 120.0  # a reconcile that takes longer is canceled
    namespaces: tuple[str, ...] = ()  # the only ones to look at; none: all
    log_level: str = "info"
    log_format: str = "text"
    policy: Policy = field(default_factory=Policy)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ, *, incomplete: bool = False) -> Self:
        """Read and validate the variables; `incomplete` leaves what the doctor has checks for unjudged, and may be missing.

        Raises SettingsError, which names what is missing or malformed, and the chart's value that sets it.
        """
        values: dict[str, object] = {}
        for setting in fields(cls):
            name = PREFIX + setting.name.upper()
            if setting.name == "policy" or name not in environment:
                continue
            values[setting.name] = _value(name, environment[name], setting.type)
        missing = [PREFIX + name.upper() for name in ADDRESSES if not values.get(name)]
        if missing and incomplete:
            values |= {name: values.get(name, "") for name in ADDRESSES}
        elif missing:
            raise SettingsError(f"not set: {', '.join(map(named, missing))}")
        if "mlflowserver_image" in values:  # another image is another release: a model for this one would not start there
            found = IMAGE.match(str(values["mlflowserver_image"]))
            tag = (found["tag"] or "").removeprefix(":") if found else ""
            if found and found["digest"] and not tag and not values.get("mlflowserver_version"):
                what = f"a digest alone does not tell Seldon's release: add the tag, or set {named('WINE_MLFLOWSERVER_VERSION')}"
                raise SettingsError(f"{named('WINE_MLFLOWSERVER_IMAGE')}: {what}")
            values.setdefault("mlflowserver_version", tag)
        problems = [
            f"{named(variable)}: {said}"
            for name, value in values.items()
            if not (incomplete and name in JUDGED_BY_DOCTOR)
            and (said := problem(variable := PREFIX + name.upper(), value)) is not None
        ]
        ports = values.get("probe_port"), values.get("metrics_port")
        if ports[0] and ports[0] == ports[1]:
            problems.append(f"{named('WINE_METRICS_PORT')}: {ports[1]} is the probe's port; choose another")
        policy, wrong = _policy(environment)
        if problems := problems + wrong:
            raise SettingsError("; ".join(problems))
        return cls(**values, policy=policy)  # type: ignore[arg-type] # the values have just been read by type

    @property
    def mlflow_url_in_steps(self) -> str:
        """MLflow's address as the steps see it."""
        return self.steps_mlflow_url or self.mlflow_url

    @property
    def mlflow_secret_of_steps(self) -> str:
        """Name of the Secret that steps have their credentials for MLflow from; empty where they need none."""
        return self.steps_mlflow_secret or self.mlflow_secret

    @property
    def serves_unsigned(self) -> bool:
        """Whether a model without a signed record may be served anew."""
        return self.unsigned_models == "serve"


def unknown_variables(environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """List variables with the operator's prefix that it does not read: most often, a name that is misspelt."""
    known = {PREFIX + setting.name.upper() for setting in fields(Settings)}
    known |= {f"{PREFIX}{setting.name.upper()}_SECONDS" for setting in fields(Policy)}
    return tuple(sorted(name for name in environment if name.startswith(PREFIX) and name not in known | ELSEWHERE))


def _policy(environment: Mapping[str, str]) -> tuple[Policy, list[str]]:
    """Read how patient to be, and list what is wrong with it."""
    values, problems = {}, []
    for setting in fields(Policy):
        name = f"{PREFIX}{setting.name.upper()}_SECONDS"
        if name in environment:
            number = _number(name, environment[name], float)
            said = problem(name, number)
            problems += [f"{named(name)}: {said}"] if said else []
            values[setting.name] = timedelta(seconds=0 if said else number)
    return Policy(**values), problems


def _value(name: str, text: str, kind: object) -> object:
    if kind in (int, float):
        return _number(name, text, kind)
    if kind is bool:
        if text not in ("true", "false"):
            raise SettingsError(f"{named(name)}: {text[:100]!r} is neither true nor false")
        return text == "true"
    if kind == tuple[str, ...]:
        return tuple(part.strip() for part in text.split(",") if part.strip())
    return text.strip().rstrip("/")


def _number(name: str, text: str, kind: object) -> float:
    try:
        return int(text) if kind is int else float(text)
    except ValueError:
        what = "a whole number" if kind is int else "a number"
        raise SettingsError(f"{named(name)}: {text[:100]!r} is not {what}") from None
