"""What is: the status of a `WinePipeline`, typed. Written by the operator alone."""

from enum import StrEnum

from pydantic import Field

from winepipelines.resource.model import StatusModel, Time
from winepipelines.resource.spec import Runtime
from winepipelines.resource.table import TableRead


class Stage(StrEnum):
    """The first thing that is not yet as it should be."""

    PREPARING = "Preparing"
    TRAINING = "Training"
    GATING = "Gating"
    DEPLOYING = "Deploying"
    VERIFYING = "Verifying"
    SERVING = "Serving"
    FAILED = "Failed"
    SUSPENDED = "Suspended"


class ConditionType(StrEnum):
    """The conditions of a resource. `Reconciling` and `Stalled` are there only while they are true (kstatus)."""

    READY = "Ready"
    PREPARED = "Prepared"
    TRAINED = "Trained"
    ACCEPTED = "Accepted"
    DEPLOYED = "Deployed"
    ANSWERING = "Answering"
    PLATFORM_READY = "PlatformReady"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"


class Outcome(StrEnum):
    """How a revision ended."""

    SERVED = "Served"
    FAILED = "Failed"
    REFUSED = "Refused"
    REJECTED = "Rejected"
    UNCHANGED = "Unchanged"
    ROLLED_BACK = "RolledBack"
    CANCELED = "Canceled"
    SUPERSEDED = "Superseded"


class Trigger(StrEnum):
    """Why a revision began."""

    CREATED = "Created"
    SPEC_CHANGE = "SpecChange"
    SCHEDULE = "Schedule"
    REQUEST = "Requested"
    DATA_CHANGE = "DataChange"
    ROLLBACK = "Rollback"


class Condition(StatusModel):
    """One statement about the resource, in the form that Kubernetes gives to conditions."""

    type: str
    status: str
    reason: str
    message: str
    observed_generation: int | None = None
    last_transition_time: Time


class Stated(StatusModel):
    """What the status of every kind has."""

    observed_generation: int | None = None
    conditions: tuple[Condition, ...] = ()

    def condition(self, kind: ConditionType) -> Condition | None:
        """Look a condition up."""
        return next((condition for condition in self.conditions if condition.type == kind), None)

    def to_body(self) -> dict[str, object]:
        """Write it as the API has it: camelCase, empty fields left out."""
        body = self.model_dump(by_alias=True, mode="json", exclude_none=True)
        return {key: value for key, value in body.items() if value not in ("", [], {})}


class Run(StatusModel):
    """The Kubeflow Pipelines run of the present revision. `id` is empty until it was seen there.

    `workflow` is its Argo Workflow, once that was seen; `settings` the hash of the platform's settings it was submitted with.
    `problem` is what keeps one of its steps from starting, since `problem_since`.
    """

    name: str = ""
    id: str = ""
    url: str = ""
    state: str = ""
    workflow: str = ""
    settings: str = ""
    problem: str = ""
    problem_message: str = ""
    problem_since: Time | None = None
    attempt: int = 1
    spared: int = 0
    submitted_at: Time | None = None
    started_at: Time | None = None
    finished_at: Time | None = None
    end_requested_at: Time | None = None
    end_reason: str = ""
    exceeded_timeout: str = ""


class TrainedModel(StatusModel):
    """A model that a revision has logged, for a runtime. `uri` is the address that the serving platform copies.

    `image` is the server's that it was first to be served with, and stays so; a status of before that was written has none.
    `executor` tells likewise whether Seldon's executor stands in front of it: before that was written it always did. `inputs` is
    the hash of the spec that it was made of; `origin` the revision that made it, where that is another one. `version` is one of
    `registered_model` in MLflow's registry. `digest` is that of its files, as the train step has signed it; a model that was
    recorded before records were signed has none. `example_digest` is that of the example that its answers are compared with.
    """

    revision: int
    uri: str
    mlflow_run: str = ""
    version: str = ""
    runtime: Runtime = Runtime.BUNDLED
    image: str = ""
    executor: bool = True
    registered_model: str = ""
    digest: str = ""
    example_digest: str = ""
    metrics: dict[str, float] = Field(default_factory=dict)
    inputs: str = ""
    origin: int | None = None
    data_sha256: str = ""
    data_etag: str = ""
    data_version: str = ""
    data: TableRead | None = None
    warnings: tuple[str, ...] = ()


class ServedModel(TrainedModel):
    """A model that answers. `alias` is what the registry calls it, once that was seen there."""

    since: Time | None = None
    alias: str = ""


class Trial(StatusModel):
    """How far a candidate has come beside the model that serves.

    `step` counts the shares of traffic that it has had, from 0: none yet; `weight` is the present one in percent. `passed` says
    that it has been tried, `promoted` that its pods are gone, and it takes over.
    """

    step: int = 0
    weight: int = 0
    since: Time | None = None
    passed: bool = False
    promoted: bool = False


class Candidate(TrainedModel):
    """The model of the present revision. `ignored` names a record in MLflow that another Kubeflow run wrote in its name."""

    served_problem: str = ""
    ignored: str = ""
    trial: Trial | None = None
    deploying_since: Time | None = None
    verifying_since: Time | None = None
    rejected: str = ""
    rejected_message: str = ""
    settings_hash: str = ""


class Endpoint(StatusModel):
    """Where predictions are asked."""

    url: str
    protocol: str
    traffic: str = ""


class Prediction(StatusModel):
    """The prediction check that the condition Answering rests on."""

    at: Time
    revision: int
    value: float | None = None
    milliseconds: int = 0


class HistoryEntry(StatusModel):
    """A revision that has ended."""

    revision: int
    trigger: str = ""
    outcome: Outcome
    reason: str = ""
    run: str = ""
    uri: str = ""
    metrics: dict[str, float] = Field(default_factory=dict)
    mlflow_run: str = ""
    version: str = ""
    runtime: Runtime = Runtime.BUNDLED
    image: str = ""
    executor: bool = True
    digest: str = ""
    example_digest: str = ""
    inputs: str = ""
    origin: int | None = None
    started: Time | None = None
    finished: Time | None = None


class Clock(StatusModel):
    """A schedule's next and last tick. `schedule` is the one that they are of, with its time zone."""

    schedule: str
    due: Time
    last: Time | None = None


class Requests(StatusModel):
    """Annotations that have been dealt with. `problem` says why the last one could not be."""

    retrain: str = ""
    rollback: str = ""
    cancel: str = ""
    problem: str = ""


class DataCheck(StatusModel):
    """The looks at what is behind `spec.data.url`.

    `name` is the run's, while one looks; `changed` says that there are other bytes than the newest model was made of; `problem`
    why the last look told nothing.
    """

    clock: Clock | None = None
    count: int = 0
    name: str = ""
    run: str = ""
    inputs: str = ""
    ending: bool = False
    submitted_at: Time | None = None
    checked_at: Time | None = None
    changed: bool = False
    sha256: str = ""
    etag: str = ""
    problem: str = ""


class Status(Stated):
    """What is."""

    stage: Stage | None = None
    revision: int = 0
    trigger: Trigger | None = None
    inputs: str = ""
    run: Run | None = None
    candidate: Candidate | None = None
    served: ServedModel | None = None
    previous: ServedModel | None = None
    challenger: str = ""
    endpoint: Endpoint | None = None
    prediction: Prediction | None = None
    next_run: Time | None = None
    clock: Clock | None = None
    data_check: DataCheck | None = None
    requests: Requests | None = None
    history: tuple[HistoryEntry, ...] = ()

    @property
    def asked(self) -> Requests:
        """What has been dealt with of what a person asks for by annotation."""
        return self.requests or Requests()


def known_models(status: Status) -> tuple[str, ...]:
    """List the MLflow runs of the models that a resource has had, newest first: each was found by its own Kubeflow run."""
    models = (status.candidate, *status.history, status.served, status.previous)
    return tuple(dict.fromkeys(model.mlflow_run for model in models if model is not None and model.mlflow_run))
