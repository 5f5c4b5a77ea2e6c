"""The status of a `WinePipeline`, typed. Only the operator writes it."""

from enum import StrEnum

from winepipelines.api.model import StatusModel, Time, compact
from winepipelines.api.modelrecord import ModelRecord
from winepipelines.api.observed import ModelVersion


class Stage(StrEnum):
    """The current stage of the lifecycle."""

    PREPARING = "Preparing"
    TRAINING = "Training"
    GATING = "Gating"
    DEPLOYING = "Deploying"
    VERIFYING = "Verifying"
    SERVING = "Serving"
    FAILED = "Failed"
    SUSPENDED = "Suspended"


class ConditionType(StrEnum):
    """The conditions of a resource. The last three are present only while they are true (see kstatus)."""

    READY = "Ready"
    PREPARED = "Prepared"
    TRAINED = "Trained"
    ACCEPTED = "Accepted"
    DEPLOYED = "Deployed"
    ENDPOINT_VERIFIED = "EndpointVerified"
    MIGRATED = "Migrated"
    PLATFORM_READY = "PlatformReady"
    RETRAIN_PENDING = "RetrainPending"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"


class RevisionOutcome(StrEnum):
    """How a revision ended."""

    SERVED = "Served"
    FAILED = "Failed"
    GATE_FAILED = "GateFailed"
    REJECTED = "Rejected"
    UNCHANGED = "Unchanged"
    ROLLED_BACK = "RolledBack"
    CANCELED = "Canceled"
    SUPERSEDED = "Superseded"


class Trigger(StrEnum):
    """What began a revision."""

    CREATED = "Created"
    SPEC_CHANGE = "SpecChange"
    SCHEDULE = "Schedule"
    REQUEST = "Requested"
    DATA_CHANGE = "DataChange"
    ROLLBACK = "Rollback"


class Condition(StatusModel):
    """A condition, as the Kubernetes API conventions define it."""

    type: str
    status: str
    reason: str
    message: str
    observed_generation: int | None = None
    last_transition_time: Time


class StatusBase(StatusModel):
    """The fields that the status of each kind has."""

    observed_generation: int | None = None
    conditions: tuple[Condition, ...] = ()

    def condition(self, kind: ConditionType) -> Condition | None:
        """Look a condition up."""
        return next((condition for condition in self.conditions if condition.type == kind), None)

    def to_body(self) -> dict[str, object]:
        """Write it as the API has it: camelCase, unset fields left out."""
        return compact(self)


class RunProblem(StatusModel):
    """What keeps a run from succeeding: a pod that cannot start, or a platform failure.

    `since` is when the pod's problem was first observed.
    """

    reason: str
    message: str = ""
    since: Time | None = None


class Run(StatusModel):
    """The Kubeflow Pipelines run of the current revision.

    `id` is empty until Kubeflow Pipelines has shown the run, `workflow` until its Argo Workflow was seen. `settings_hash` is the
    hash of the platform's settings that it was submitted with.
    """

    name: str = ""
    id: str = ""
    url: str = ""
    state: str = ""
    workflow: str = ""
    settings_hash: str = ""
    problem: RunProblem | None = None
    attempt: int = 1
    uncounted_attempts: int = 0
    submitted_at: Time | None = None
    started_at: Time | None = None
    finished_at: Time | None = None
    end_requested_at: Time | None = None
    end_reason: str = ""
    exceeded_timeout: str = ""


class ServedModel(StatusModel):
    """A model that serves. `alias` is its alias in the model registry, once it was seen there.

    `backend` names the serving backend; it is empty in records of releases that had only one.
    """

    revision: int
    model: ModelRecord
    backend: str = ""
    serving_since: Time | None = None
    alias: str = ""


class CanaryStatus(StatusModel):
    """How far a candidate's canary has come.

    `step` counts the steps begun, from 0; `percent` is the candidate's present share of the traffic. `passed`: all steps are
    done. `promoted`: the canary's pods are gone, and the candidate takes over.
    """

    step: int = 0
    percent: int = 0
    step_started_at: Time | None = None
    passed: bool = False
    promoted: bool = False


class Rejection(StatusModel):
    """Why a candidate is not served."""

    reason: str
    message: str = ""


class Candidate(StatusModel):
    """The model of the current revision, before it serves.

    `backend` is the serving backend that it is rolled out on.
    `serving_hash` is the hash of the server and of `spec.serving` that it is rolled out with: others start a new attempt.
    `ignored_record` describes a record in MLflow with this revision's tags that another Kubeflow run wrote.
    """

    revision: int
    model: ModelRecord
    backend: str = ""
    serving_hash: str = ""
    rollout_started_at: Time | None = None
    verification_started_at: Time | None = None
    canary: CanaryStatus | None = None
    rejection: Rejection | None = None
    ignored_record: str = ""
    comparison_failure_message: str = ""


class TrafficShare(StatusModel):
    """A revision's share of the traffic."""

    revision: int
    percent: int


class Endpoint(StatusModel):
    """Where predictions are requested. `traffic` is set while a canary shares the traffic."""

    url: str
    protocol: str
    traffic: tuple[TrafficShare, ...] = ()


class Prediction(StatusModel):
    """The prediction check that the condition EndpointVerified rests on. `value` is the first predicted value."""

    time: Time
    revision: int
    value: float | None = None
    latency_milliseconds: int = 0


class Migration(StatusModel):
    """A move of the served model to another serving backend, until it answers there.

    `revision` is the one that is moved, and `started_at` when its rollout began there.
    """

    backend: str
    revision: int
    started_at: Time


class RetiringDeployment(StatusModel):
    """A deployment on a serving backend that the model has left.

    `since` is when it did. Without it, the deployment never served, and is deleted at once.
    """

    backend: str
    since: Time | None = None


class HistoryEntry(StatusModel):
    """A revision that has ended. `kubeflow_run` is the id of its run; `model` keeps only what a rollback needs."""

    revision: int
    trigger: str = ""
    outcome: RevisionOutcome
    reason: str = ""
    kubeflow_run: str = ""
    started_at: Time | None = None
    finished_at: Time | None = None
    model: ModelRecord | None = None


class Schedule(StatusModel):
    """The schedule in use, and when it is due next and was last."""

    expression: str
    time_zone: str
    next_time: Time
    last_time: Time | None = None


class HandledRequests(StatusModel):
    """The values of annotations that have been handled. `rejection_message` says why the last request was rejected."""

    retrain: str = ""
    rollback: str = ""
    cancel: str = ""
    rejection_message: str = ""


class DataCheckRun(StatusModel):
    """The run of a data check in progress. `id` is empty until Kubeflow Pipelines has shown it."""

    name: str
    id: str = ""
    inputs_hash: str = ""
    submitted_at: Time
    end_requested: bool = False


class DataCheckStatus(StatusModel):
    """Checks of whether the data at `spec.data.url` has changed.

    `count` is the number of checks begun, `run` the one in progress. `changed`: the data differs from what the newest model was
    trained on. `sha256` and `etag` are those that the last check found, `failure_message` says why it found nothing.
    """

    schedule: Schedule | None = None
    count: int = 0
    run: DataCheckRun | None = None
    checked_at: Time | None = None
    changed: bool = False
    sha256: str = ""
    etag: str = ""
    failure_message: str = ""


class Status(StatusBase):
    """The observed state of a WinePipeline."""

    stage: Stage | None = None
    revision: int = 0
    trigger: Trigger | None = None
    inputs_hash: str = ""
    run: Run | None = None
    candidate: Candidate | None = None
    served: ServedModel | None = None
    previous: ServedModel | None = None
    challenger: ModelVersion | None = None
    migration: Migration | None = None
    retiring: RetiringDeployment | None = None
    endpoint: Endpoint | None = None
    last_prediction: Prediction | None = None
    schedule: Schedule | None = None
    data_check: DataCheckStatus | None = None
    handled_requests: HandledRequests | None = None
    history: tuple[HistoryEntry, ...] = ()

    @property
    def handled(self) -> HandledRequests:
        """The requests by annotation that have been handled."""
        return self.handled_requests or HandledRequests()

    @property
    def models(self) -> tuple[ModelRecord, ...]:
        """The models that the resource has had, newest first."""
        holders = (self.candidate, *self.history, self.served, self.previous)
        return tuple(holder.model for holder in holders if holder is not None and holder.model is not None)


def known_models(status: Status) -> tuple[str, ...]:
    """List the MLflow runs of the models that a resource has had, newest first: each was found by its own Kubeflow run."""
    return tuple(dict.fromkeys(model.mlflow_run for model in status.models if model.mlflow_run))
