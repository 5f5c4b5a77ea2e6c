"""What can be seen of the platform as a whole, as plain values: `survey` makes them, `checks` judge them.

Where something could not be seen, the error that says why stands in its place. No value here is a credential.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from winepipelines.doctor.rights import Right
from winepipelines.resource.errors import PlatformError
from winepipelines.resource.observed import KeyState, Presence, SecretState
from winepipelines.settings import Settings


class Reach(StrEnum):
    """How far a connection comes."""

    NO_ADDRESS = "its host has no address in DNS"
    NO_CONNECTION = "its host refuses the connection, or cannot be reached"
    NO_ANSWER = "it takes the connection and does not answer"


class Outage(PlatformError):
    """A system that does not answer, and how far a connection to it comes."""

    def __init__(self, url: str, reach: Reach) -> None:
        super().__init__("Unreachable", f"{url} does not answer: {reach}")
        self.url = url
        self.reach = reach


@dataclass(frozen=True)
class ApiKind:
    """A kind of the cluster: where the API server serves it."""

    group: str
    version: str
    plural: str


WINEPIPELINES = ApiKind("winepipelines.io", "v1alpha1", "winepipelines")
SELDONDEPLOYMENTS = ApiKind("machinelearning.seldon.io", "v1", "seldondeployments")
PODDEFAULTS = ApiKind("kubeflow.org", "v1alpha1", "poddefaults")
PROFILES = ApiKind("kubeflow.org", "v1", "profiles")
PROFILE_ACCOUNT, SHARED_ACCOUNT = "default-editor", "pipeline-runner"  # of runs, in multi-user and in single-user mode
KINDS = (WINEPIPELINES, SELDONDEPLOYMENTS, PODDEFAULTS, PROFILES)


@dataclass(frozen=True)
class KindView:
    """Whether a kind is served in the version that is needed, and in which versions its group is."""

    served: bool
    versions: tuple[str, ...] = ()


@dataclass(frozen=True)
class RightsView:
    """Whose rights were asked for, and for each of them the verbs that are missing. `own`: they are the caller's."""

    account: str
    own: bool
    missing: Mapping[Right, tuple[str, ...] | PlatformError]


@dataclass(frozen=True)
class SourceView:
    """The platform's Secret with rclone's settings: what of it is no secret."""

    state: SecretState
    type: str = ""
    endpoint: str = ""


@dataclass(frozen=True)
class KubeflowView:
    """Kubeflow Pipelines' own word about itself."""

    version: str
    multi_user: bool


@dataclass(frozen=True)
class TokenView:
    """Claims of the token for Kubeflow Pipelines, not verified. `problem` says why there are none."""

    subject: str = ""
    audiences: tuple[str, ...] = ()
    expires_at: datetime | None = None
    problem: str = ""


@dataclass(frozen=True)
class MlflowView:
    """What MLflow answered: its version, and status and text of the smallest API request."""

    version: str
    status: int
    text: str


@dataclass(frozen=True)
class BucketView:
    """A try to read at an address with some credentials. `code` is the store's own word for why not."""

    uri: str
    endpoint: str
    code: str = ""


@dataclass(frozen=True)
class ControllerView:
    """A Deployment of the serving platform's controller: pods that it wants, and that are ready."""

    namespace: str
    name: str
    wanted: int
    ready: int


@dataclass(frozen=True)
class AdmissionView:
    """What became of a SeldonDeployment that was created as a dry run in a namespace; `error` says why it was not taken."""

    namespace: str
    error: PlatformError | None = None


@dataclass(frozen=True)
class PullTrouble:
    """A pod that cannot get one of our images."""

    namespace: str
    pod: str
    image: str
    reason: str


@dataclass(frozen=True)
class Webhook:
    """A mutating webhook that pods of profiles pass."""

    configuration: str
    path: str
    service: str


@dataclass(frozen=True)
class ObjectView:
    """An object in a user's namespace under one of our names."""

    kind: str
    name: str
    presence: Presence | PlatformError


@dataclass(frozen=True)
class NamespaceView:
    """A user's namespace. `labels` and `service_account_exists` are None where they may not be looked at.

    `labels` is an error where there is no such namespace. `runs_in` is the namespace in which its resources' runs are: another
    one in single-user mode.
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
    unsigned: tuple[str, ...] | PlatformError = ()  # WinePipelines that serve a model without a signed record

    @property
    def of_runs(self) -> str:
        """The namespace in which its resources' runs are."""
        return self.runs_in or self.name


@dataclass(frozen=True)
class HostView:
    """What DNS answers for a data host, as it is asked from here.

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
    """Everything that was seen in one look. `inside` tells whether that was from a pod of the cluster."""

    settings: Settings
    inside: bool
    now: datetime
    kubernetes: str | PlatformError
    identity: str | PlatformError
    kinds: Mapping[ApiKind, KindView | PlatformError]
    missing_fields: tuple[str, ...] | PlatformError
    rights: RightsView | PlatformError
    webhooks: tuple[Webhook, ...] | PlatformError | None
    source: SourceView | PlatformError
    kubeflow: KubeflowView | PlatformError
    token: TokenView | None
    access: PlatformError | None
    mlflow: MlflowView | PlatformError
    bucket: BucketView | PlatformError | None
    pulls: tuple[PullTrouble, ...] | PlatformError
    controllers: tuple[ControllerView, ...] | PlatformError | None = None  # None where they may not be looked at
    admission: AdmissionView | PlatformError | None = None  # None where no dry run may be tried
    artifact_address: str = ""
    mlflow_secret: SecretState | PlatformError | None = None
    shared_artifacts: SecretState | PlatformError | None = None  # of the namespace in which all runs are; None: each has its own
    same_store: bool | None = None  # whether Seldon reads where steps write; None where that cannot be told from here
    namespaces: frozenset[str] = frozenset()  # that are known to be the cluster's: what its names may end with
    namespace: NamespaceView | None = None
    data_host: HostView | PlatformError | None = None


def answered(message: str) -> int | None:
    """Read the HTTP status from an adapter's message: all of them say `answered <status>`. None where there was no answer."""
    match = re.search(r"\banswered (\d{3})\b", message)
    return int(match[1]) if match else None
