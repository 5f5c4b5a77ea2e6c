"""What can be seen of the world: the answers that the platform gives, as plain values.

`platform` makes them, `lifecycle` judges them; neither knows the other. Their texts are cleaned as they are made.
"""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from winecontract.text import Cleaned
from winepipelines.resource.table import TableRead


class Presence(StrEnum):
    """How an object that the operator wants compares with what is there."""

    ABSENT = "absent"
    CURRENT = "current"
    DIFFERS = "differs"
    OUTDATED = "outdated"  # as the operator applied it, of a source or a setting that has changed since
    FOREIGN = "foreign"  # there, but not made by this operator: it is not touched
    KIND_MISSING = "kind missing"  # the API server does not know the kind


@dataclass(frozen=True)
class Child(Cleaned):
    """An object of the user's namespace that the operator makes: PodDefault or Secret."""

    kind: str
    name: str
    presence: Presence


@dataclass(frozen=True)
class SecretState(Cleaned):
    """Whether a Secret is there and has the keys that are needed. Never its values."""

    namespace: str
    name: str
    exists: bool
    missing_keys: tuple[str, ...] = ()


@dataclass(frozen=True)
class KeyState(Cleaned):
    """Whether the namespace in which steps run has a key that they sign models with. Never its value."""

    namespace: str
    exists: bool
    problem: str = ""  # why it is of no use


@dataclass(frozen=True)
class ChildrenView(Cleaned):
    """What `prepare` needs: the Secrets that the platform's administrators make, and the objects made from them.

    `artifacts` is the Secret where the steps run; None where that namespace is not known now, or may not be looked at.
    """

    source: SecretState
    artifacts: SecretState | None
    children: tuple[Child, ...]
    mlflow: SecretState | None = None  # None where MLflow needs no credentials
    key: KeyState | None = None  # None where it is not known now in which namespace steps run


class RunState(StrEnum):
    """States of a run as Kubeflow Pipelines names them."""

    UNSPECIFIED = "RUNTIME_STATE_UNSPECIFIED"
    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    SKIPPED = "SKIPPED"
    FAILED = "FAILED"
    CANCELING = "CANCELING"
    CANCELED = "CANCELED"
    PAUSED = "PAUSED"


ENDED_STATES = frozenset({RunState.SUCCEEDED, RunState.SKIPPED, RunState.FAILED, RunState.CANCELED})


@dataclass(frozen=True)
class RunView(Cleaned):
    """A run of Kubeflow Pipelines. `failed_step` names the task that failed, where one did; the API has no reason."""

    id: str
    name: str
    state: RunState
    created_at: datetime
    finished_at: datetime | None = None
    url: str = ""
    failed_step: str = ""

    @property
    def live(self) -> bool:
        """Whether it may still do something."""
        return self.state not in ENDED_STATES


@dataclass(frozen=True)
class StepFailure(Cleaned):
    """Why a step failed, in its own words."""

    step: str
    reason: str
    message: str
    permanent: bool
    at: datetime


@dataclass(frozen=True)
class StepsView(Cleaned):
    """A run's Argo Workflow and the pods of its steps.

    `known` says that they could be looked at, `workflow` is the Workflow's name, empty where there is none. `problem` is what
    keeps a step from starting, `failure` why one failed: in its own words with `explained`, else in those of Kubernetes or Argo.
    """

    known: bool = False
    workflow: str = ""
    problem: StepFailure | None = None
    failure: StepFailure | None = None
    explained: bool = False


@dataclass(frozen=True)
class LoggedModel(Cleaned):
    """A model that a training step logged. `uri` is as MLflow gives it, `mlflow_run` the run that has the model's files.

    `reused` says that it is an earlier revision's, of the same data and spec. `metrics` are of the held-out rows of this data,
    those that begin with `served_` of the model that serves; `served_problem` says why it could not be measured. `data_sha256`
    and `data_etag` are of the bytes that it learned from; empty where they are not known.
    """

    uri: str
    mlflow_run: str
    version: str
    metrics: dict[str, float] = field(default_factory=dict, hash=False)
    reused: bool = False
    digest: str = ""  # of its files; empty where its record is not signed
    example_digest: str = ""  # of its example and the answers to it
    data_sha256: str = ""
    data_etag: str = ""
    data_version: str = ""  # of the object, in a bucket that keeps versions
    data: TableRead | None = None  # what was read of them; None where an earlier version trained
    warnings: tuple[str, ...] = ()  # of the data
    served_problem: str = ""  # why the model that serves could not be measured on the same rows


@dataclass(frozen=True)
class TrainingRecords(Cleaned):
    """What MLflow knows of a revision's run: its newest model and its newest failure.

    `refused` says, where there is no model, why one that is recorded is not believed in; `refused_reason` is the condition's
    reason, where it is about the signature. `foreign` names a record with this revision's tags that is ignored, because another
    Kubeflow run wrote it, such as a clone of this one, or because of its signature.
    """

    model: LoggedModel | None = None
    failure: StepFailure | None = None
    refused: str = ""
    refused_reason: str = ""
    foreign: str = ""


@dataclass(frozen=True)
class DataCheck(Cleaned):
    """What a check of the data found: whether the bytes differ from those that were known, and what they are now."""

    changed: bool = False
    sha256: str = ""
    etag: str = ""
    failure: StepFailure | None = None


@dataclass(frozen=True, order=True)
class ModelVersion(Cleaned):
    """A version in MLflow's model registry: numbers begin anew in each registered model, so the MLflow run tells whose it is."""

    registered_model: str
    version: str
    mlflow_run: str


@dataclass(frozen=True)
class StoredModel(Cleaned):
    """Whether a model can be copied by whoever serves it. `uri` is the address for rclone."""

    uri: str
    readable: bool
    reason: str = ""
    message: str = ""


@dataclass(frozen=True)
class ServerView(Cleaned):
    """The server of a runtime. `version` is that of its image, "" for the bundled one; `problem` why it is of no use.

    `image` is what a model of now is served with, `executor` whether Seldon's executor stands in front of it; `splits_traffic`
    says that shares of the traffic mean something here, `takes_unsigned` that models without a signed record may be served anew.
    """

    version: str = ""
    problem: str = ""
    image: str = ""
    splits_traffic: bool = False
    executor: bool = False
    takes_unsigned: bool = False


@dataclass(frozen=True)
class DeploymentView(Cleaned):
    """What serves. `rolled_out` is about the model that was asked for, never about an earlier one.

    `reason` and `message` are about what keeps it from being so; without a reason it is simply under way.
    `passing` is a failure that most likely passes within a second: it is told only when the rollout's deadline has passed.
    `trial_rolled_out` is about the model on trial alone, whatever becomes of the one that serves.
    `drifted` says of a deployment that differs that someone else has changed it; otherwise something else is wanted than was
    applied last.
    """

    presence: Presence
    rolled_out: bool = False
    trial_rolled_out: bool = False
    owned: bool = False
    reason: str = ""
    message: str = ""
    passing: str = ""
    drifted: bool = False


@dataclass(frozen=True)
class PredictionCheck(Cleaned):
    """One prediction with the model's own example, compared with what the model itself said when it was trained."""

    at: datetime
    passed: bool
    value: float | None = None
    milliseconds: int = 0
    reason: str = ""
    message: str = ""
    url: str = ""
    protocol: str = ""


@dataclass(frozen=True)
class TrialView(Cleaned):
    """Predictions of a model on trial, at its own service. `wrong` says that it answers with other numbers than its own.

    `reason` and `message` are of the first that failed, and so for the model that serves. Milliseconds are medians; those of the
    model that serves are infinite where there is nothing to ask it with.
    """

    asked: int
    failed: int = 0
    wrong: bool = False
    reason: str = ""
    message: str = ""
    milliseconds: float = 0.0
    served_milliseconds: float = 0.0
    served_reason: str = ""  # of the model that serves, where most of its predictions failed
    served_message: str = ""


@dataclass(frozen=True)
class PlatformVerdict(Cleaned):
    """Whether the platform as a whole is as it should be, by the last walk of its checks."""

    ready: bool
    reason: str
    message: str
