"""Observations: the answers to queries, as plain values.

`platform` and `serving` create them, stages judge them; neither knows the other. Texts are sanitized when a value is created.
"""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import ClassVar

from pydantic import ConfigDict
from pydantic.alias_generators import to_camel

from winecontract.reasons import Reason
from winecontract.text import Cleaned
from winepipelines.api.modelrecord import ModelRecord, ModelServer


class Presence(StrEnum):
    """How a desired object compares with the one in the cluster."""

    ABSENT = "absent"
    CURRENT = "current"
    DIFFERS = "differs"
    OUTDATED = "outdated"  # as the operator applied it, but its source or a setting has changed since
    NOT_MANAGED = "foreign"  # exists, but was not created by this operator, which does not change it
    KIND_MISSING = "kind missing"  # the API server does not know the kind
    WITHHELD = "withheld"  # does not exist, because it would conflict with an object of others
    SUPERFLUOUS = "superfluous"  # exists, and conflicts with an object of others: it is deleted


@dataclass(frozen=True)
class Rival(Cleaned):
    """A PodDefault of others that cannot act on a pod together with one of ours, or with a step's own variables.

    `conflicts` are the names that both set, to something else; `lacks` the variables that only ours sets.
    """

    name: str
    conflicts: tuple[str, ...]
    lacks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Child(Cleaned):
    """An object that the operator creates in the user's namespace: a PodDefault or Secret.

    `backend` is set if only a move to that serving backend needs it. `rival` is the PodDefault that stands in for this one.
    """

    kind: str
    name: str
    presence: Presence
    backend: str = ""
    rival: Rival | None = None


@dataclass(frozen=True)
class SecretState(Cleaned):
    """Whether a Secret exists and has the required keys. Never its values.

    `others` are further names by which none exists, where there are several.
    """

    namespace: str
    name: str
    exists: bool
    missing_keys: tuple[str, ...] = ()
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class KeyState(Cleaned):
    """Whether the namespace in which steps run has a key to sign models with. Never its value."""

    namespace: str
    exists: bool
    problem: str = ""  # why it cannot be used


@dataclass(frozen=True)
class ChildrenView(Cleaned):
    """The Secrets of the platform's administrators, and the objects created from them.

    `artifacts` is the Secret in the namespace where steps run; None if that namespace is unknown or may not be read.
    """

    source: SecretState
    artifacts: SecretState | None
    children: tuple[Child, ...]
    mlflow: SecretState | None = None  # None if MLflow requires no credentials
    key: KeyState | None = None  # None if the namespace where steps run is unknown
    refusal: Rival | None = None  # the PodDefault for which Kubeflow's webhook refuses the pods of steps

    @property
    def is_settled(self) -> bool:
        """Whether nothing is missing, and nothing is left to apply or delete."""
        secrets = [secret for secret in (self.source, self.artifacts, self.mlflow) if secret is not None]
        are_complete = all(secret.exists and not secret.missing_keys for secret in secrets)
        in_place = {child.presence for child in self.children} <= {Presence.CURRENT, Presence.WITHHELD}
        has_key = self.key is not None and self.key.exists and not self.key.problem
        return are_complete and in_place and has_key and self.refusal is None


class RunState(StrEnum):
    """The states of a run in Kubeflow Pipelines."""

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
    """A run of Kubeflow Pipelines. `failed_step` names the task that failed, if any; the API gives no reason."""

    id: str
    name: str
    state: RunState
    created_at: datetime
    finished_at: datetime | None = None
    url: str = ""
    failed_step: str = ""

    @property
    def live(self) -> bool:
        """Whether the run has not ended."""
        return self.state not in ENDED_STATES


@dataclass(frozen=True)
class StepFailure(Cleaned):
    """Why a step failed or cannot start."""

    step: str
    reason: str
    message: str
    permanent: bool
    at: datetime


@dataclass(frozen=True)
class StepsView(Cleaned):
    """A run's Argo Workflow and the pods of its steps.

    `known` is whether they could be read. `workflow` is the Workflow's name, empty if there is none. `problem` is why a step
    cannot start, `failure` why one failed: reported by the step itself if `explained`, else by Kubernetes or Argo.
    """

    known: bool = False
    workflow: str = ""
    problem: StepFailure | None = None
    failure: StepFailure | None = None
    explained: bool = False


@dataclass(frozen=True)
class TrainingRecords(Cleaned):
    """MLflow's records of a revision's run: its newest model and its newest failure.

    `model.uri` is MLflow's address; the revision's runtime, server and inputs are unknown here. `comparison_failure` is why the
    served model could not be evaluated on the same rows. `refused` is why a recorded model was rejected, if there is no other;
    `refused_reason` is the condition's reason if that is the signature. `foreign` names a record with this
    revision's tags that is ignored, because another Kubeflow run wrote it, such as a clone, or because of its signature.
    """

    model: ModelRecord | None = None
    failure: StepFailure | None = None
    comparison_failure: str = ""
    refused: str = ""
    refused_reason: str = ""
    foreign: str = ""


@dataclass(frozen=True)
class DataCheckResult(Cleaned):
    """The result of a data check: whether the file differs from the known one, and its present digest and ETag."""

    changed: bool = False
    sha256: str = ""
    etag: str = ""
    failure: StepFailure | None = None


@dataclass(frozen=True, order=True)
class ModelVersion(Cleaned):
    """A version in MLflow's model registry. Each registered model counts from 1, so the MLflow run identifies the version."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore")

    registered_model: str
    version: str
    mlflow_run: str


@dataclass(frozen=True)
class StoredModel(Cleaned):
    """Whether the serving backend can copy a model from its address, `uri`."""

    uri: str
    readable: bool
    reason: str = ""
    message: str = ""


@dataclass(frozen=True)
class BackendsView(Cleaned):
    """The serving backends that resources may use.

    `default` serves the resources that name none. `unnamed` is that of records without a name, which earlier releases wrote.
    `missing` are those whose kind the API server does not serve; they are looked up only if `default` depends on them.
    """

    enabled: tuple[str, ...]
    default: str
    unnamed: str
    missing: tuple[str, ...] = ()

    def named(self, recorded: str) -> str:
        """Name the backend of a record."""
        return recorded or self.unnamed


@dataclass(frozen=True)
class ServerView(Cleaned):
    """The server of a runtime. `version` is that of its image, "" for the bundled one; `problem` is why it cannot be used.

    `server` is what a new model is served with. `splits_traffic` is whether the backend can split traffic by percentage,
    `takes_unsigned` whether a model without a signed record may become the served one.
    """

    version: str = ""
    problem: str = ""
    problem_reason: str = Reason.RUNTIME_UNSUPPORTED
    server: ModelServer = field(default_factory=ModelServer)
    splits_traffic: bool = False
    promotes_in_place: bool = False
    takes_unsigned: bool = False


@dataclass(frozen=True)
class ServingObject(Cleaned):
    """How messages name the object that serves a model: its kind, its resource name for kubectl, and its product."""

    kind: str = "Deployment"
    resource: str = "deployment"
    product: str = "the serving backend"


@dataclass(frozen=True)
class DeploymentView(Cleaned):
    """The deployment. `rolled_out` is about the desired model, never about an earlier one.

    `reason` and `message` are why it is not rolled out; without a reason the rollout is in progress. If an object of somebody
    else prevents it, `message` names that object. `remedy` is what to do.
    `outage`: the serving backend is down. That time does not count toward the progress deadline.
    `passing` is a failure that is likely to pass within a second: it is reported only after the progress deadline.
    `canary_rolled_out` is about the candidate alone, whatever happens to the served model.
    `scaled_to_zero`: it is rolled out and no pod is available, because no requests came: the next request starts one. During a
    canary this may be the candidate or the served model.
    `deleting`: it is being deleted, which waits for a finalizer; observed without a rollout only.
    `drifted`: if the deployment differs, whether someone else has changed it. If not, the desired state has changed.
    `watched`: whether the deployment's own object changes whenever this view does.
    """

    presence: Presence
    rolled_out: bool = False
    canary_rolled_out: bool = False
    scaled_to_zero: bool = False
    owned: bool = False
    deleting: bool = False
    reason: str = ""
    message: str = ""
    remedy: str = ""
    outage: bool = False
    passing: str = ""
    drifted: bool = False
    watched: bool = True
    object: ServingObject = ServingObject()

    @property
    def is_settled(self) -> bool:
        """Whether the deployment is as desired: rolled out or, without a rollout, absent."""
        if self.rolled_out:
            return self.presence is Presence.CURRENT and not (self.reason or self.deleting or self.scaled_to_zero)
        return self.presence is Presence.ABSENT and not (self.owned or self.deleting)


@dataclass(frozen=True)
class PredictionCheck(Cleaned):
    """One prediction for the model's input example, compared with the model's own prediction at training."""

    at: datetime
    passed: bool
    value: float | None = None
    milliseconds: int = 0
    reason: str = ""
    message: str = ""
    url: str = ""
    protocol: str = ""


@dataclass(frozen=True)
class CanaryComparison(Cleaned):
    """Predictions of a candidate at its own Service. `wrong` is whether it answers with other numbers than its own.

    `reason` and `message` are those of the first failure, `served_reason` and `served_message` those of the served model's.
    Milliseconds are medians; the served model's are infinite if it has no input example.
    """

    asked: int
    failed: int = 0
    wrong: bool = False
    reason: str = ""
    message: str = ""
    milliseconds: float = 0.0
    served_milliseconds: float = 0.0
    served_reason: str = ""  # set if most of its predictions failed
    served_message: str = ""


@dataclass(frozen=True)
class PlatformVerdict(Cleaned):
    """The result of the last run of the platform checks."""

    ready: bool
    reason: str
    message: str
