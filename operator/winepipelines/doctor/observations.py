"""Observations of the platform, as plain values: `survey` makes them, `checks` evaluate them.

An observation that failed is the error that prevented it. No value contains a credential.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeVar, cast

from winecontract.reasons import Reason
from winepipelines.api.errors import PlatformError
from winepipelines.api.observed import KeyState, Presence, Rival, SecretState, ServingObject
from winepipelines.api.sourcesecret import StoreOperation
from winepipelines.doctor.right import Right
from winepipelines.environment import EnvironmentSettings
from winepipelines.settings import Settings

T = TypeVar("T")


class Reach(StrEnum):
    """How far a connection gets."""

    NO_ADDRESS = "DNS has no address for its host"
    NO_CONNECTION = "the connection is refused, or the host is unreachable"
    NO_ANSWER = "it accepts the connection but does not respond"


class Outage(PlatformError):
    """A system that does not answer, and how far a connection to it gets."""

    def __init__(self, url: str, reach: Reach) -> None:
        super().__init__(Reason.TIMED_OUT, f"{url} does not answer: {reach}")
        self.url = url
        self.reach = reach


@dataclass(frozen=True)
class ApiKind:
    """A kind, by group, version and plural name."""

    group: str
    version: str
    plural: str


@dataclass(frozen=True)
class ServingKind(ApiKind):
    """The kind of the object that serves a model. `short_name` is its name for kubectl, `product` what installs it."""

    kind: str
    short_name: str
    product: str

    @property
    def named(self) -> ServingObject:
        """How messages name such an object."""
        return ServingObject(self.kind, self.short_name, self.product)


WINEPIPELINES = ApiKind("winepipelines.io", "v1alpha1", "winepipelines")
PODDEFAULTS = ApiKind("kubeflow.org", "v1alpha1", "poddefaults")
PROFILES = ApiKind("kubeflow.org", "v1", "profiles")
PROFILE_ACCOUNT, SHARED_ACCOUNT = "default-editor", "pipeline-runner"  # of runs, in multi-user and in single-user mode
KINDS = (WINEPIPELINES, PODDEFAULTS, PROFILES)  # and that of the serving backend


@dataclass(frozen=True)
class KindView:
    """Whether a kind is served in the needed version, and which versions of its group are."""

    served: bool
    versions: tuple[str, ...] = ()


@dataclass(frozen=True)
class RightsView:
    """Missing verbs of each right of an account. `own`: it is the caller's account."""

    account: str
    own: bool
    missing: Mapping[Right, tuple[str, ...] | PlatformError]


@dataclass(frozen=True)
class SourceView:
    """The Secret that models are copied with, without its credentials.

    `public` has the values that are no secret, by their keys; `endpoint` is the address of the object store in it. `names` are
    all names that it may have.
    """

    state: SecretState
    public: Mapping[str, str] = field(default_factory=dict)
    endpoint: str = ""
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class KubeflowView:
    """Version and mode of Kubeflow Pipelines."""

    version: str
    multi_user: bool


@dataclass(frozen=True)
class TokenView:
    """Claims of the token for Kubeflow Pipelines, not verified. `problem` is why there are none."""

    subject: str = ""
    audiences: tuple[str, ...] = ()
    expires_at: datetime | None = None
    problem: str = ""


@dataclass(frozen=True)
class MlflowView:
    """MLflow's version, and status and body of the smallest API request."""

    version: str
    status: int
    text: str


@dataclass(frozen=True)
class BucketView:
    """Attempts to list, read or write below an address with some credentials.

    `codes` has the store's error codes of those that failed.
    """

    uri: str
    endpoint: str
    codes: Mapping[StoreOperation, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ControllerView:
    """A Deployment of the serving platform's controller: wanted and ready pods."""

    namespace: str
    name: str
    wanted: int
    ready: int


@dataclass(frozen=True)
class AdmissionView:
    """A dry run of the object that serves a model in a namespace; `error` is why it was rejected."""

    namespace: str
    error: PlatformError | None = None


@dataclass(frozen=True)
class ImagePullProblem:
    """A pod that cannot pull one of the operator's images."""

    namespace: str
    pod: str
    image: str
    reason: str


@dataclass(frozen=True)
class Webhook:
    """A mutating webhook."""

    configuration: str
    path: str
    service: str


@dataclass(frozen=True)
class ObjectView:
    """An object in a user's namespace with a name that the operator needs. `resource` is its kind for kubectl."""

    kind: str
    name: str
    presence: Presence | PlatformError
    resource: str = ""


@dataclass(frozen=True)
class SourceOfNamespace:
    """The Secret that the models of a user's namespace are copied with, and why it is this one."""

    namespace: str
    name: str
    why: str


@dataclass(frozen=True)
class PodDefaultsView:
    """PodDefaults of others in a user's namespace: those that conflict with the operator's, by its name, and with steps."""

    rivals: Mapping[str, Rival] = field(default_factory=dict)
    refusal: Rival | None = None


@dataclass(frozen=True)
class NamespaceView:
    """A user's namespace. `labels` and `service_account_exists` are None if they may not be read.

    `labels` is an error if the namespace does not exist. `runs_in` is the namespace of its resources' runs: a different one in
    single-user mode.
    """

    name: str
    labels: Mapping[str, str] | PlatformError | None
    service_account_exists: bool | PlatformError | None
    artifacts: SecretState | PlatformError
    bucket: BucketView | PlatformError | None
    objects: tuple[ObjectView, ...]
    rights: RightsView | PlatformError
    access: PlatformError | None = None
    runs_in: str = ""
    key: KeyState | PlatformError | None = None  # that steps sign models with
    outputs: BucketView | PlatformError | None = None  # where predictions without an output of their own write
    unsigned: tuple[str, ...] | PlatformError = ()  # WinePipelines that serve a model without a signed record

    @property
    def of_runs(self) -> str:
        """The namespace in which its resources' runs are."""
        return self.runs_in or self.name


@dataclass(frozen=True)
class HostView:
    """What DNS answers for a data host, from this machine.

    `bare` is for the name as written without a trailing dot, `absolute` with it; `captured` is for the name under each search
    domain that knows it. Addresses are sorted.
    """

    url: str
    host: str
    bare: tuple[str, ...] = ()
    absolute: tuple[str, ...] = ()
    captured: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    is_address: bool = False


@dataclass(frozen=True)
class Survey:
    """All observations. `inside` is whether they were made from a pod of the cluster."""

    settings: Settings
    backend_settings: EnvironmentSettings
    inside: bool
    now: datetime
    kubernetes: str | PlatformError
    identity: str | PlatformError
    kinds: Mapping[ApiKind, KindView | PlatformError]
    rights: RightsView | PlatformError
    source: SourceView | PlatformError
    kubeflow: KubeflowView | PlatformError
    token: TokenView | None
    access: PlatformError | None
    mlflow: MlflowView | PlatformError
    bucket: BucketView | PlatformError | None
    artifact_address: str = ""
    mlflow_secret: SecretState | PlatformError | None = None
    shared_artifacts: SecretState | PlatformError | None = None  # in the namespace of all runs; None: each namespace has its own
    same_store: bool | None = None  # whether models are copied from where steps write; None if unknown
    namespaces: frozenset[str] = frozenset()  # of the cluster, which its host names may end with
    namespace: NamespaceView | None = None
    data_host: HostView | PlatformError | None = None
    observations: Mapping[Callable[[Any], Awaitable[object]], object] = field(default_factory=dict)  # that checks made themselves

    def observed(self, observe: Callable[[Any], Awaitable[T]]) -> T | PlatformError:
        """Return what a check's own coroutine observed, or the error that kept it from doing so."""
        return cast("T | PlatformError", self.observations[observe])
