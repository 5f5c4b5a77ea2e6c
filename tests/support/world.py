"""A platform in memory, for the decisions about pipelines: it answers their questions and carries out their actions."""

from dataclasses import dataclass, field, replace

from support.memory import InMemory

from winepipelines.lifecycle.actions import (
    Action,
    ApplyChildren,
    ApplyDeployment,
    CreateDataCheck,
    CreateRun,
    DeleteDeployment,
    LeaveModels,
    ReleaseDeployment,
    RemoveAlias,
    SetAlias,
)
from winepipelines.lifecycle.questions import (
    Aliased,
    Answer,
    Children,
    DataChecked,
    Deployment,
    Platform,
    Question,
    Records,
    Server,
    Stored,
    Tried,
)
from winepipelines.resource.errors import Refused
from winepipelines.resource.observed import (
    Child,
    ChildrenView,
    DataCheck,
    DeploymentView,
    KeyState,
    LoggedModel,
    ModelVersion,
    PlatformVerdict,
    PredictionCheck,
    Presence,
    RunState,
    RunView,
    SecretState,
    ServerView,
    StepFailure,
    StoredModel,
    TrainingRecords,
    TrialView,
)
from winepipelines.resource.pipeline import Asks, WinePipeline
from winepipelines.resource.rollout import ModelRef, Rollout
from winepipelines.resource.spec import Serving, Spec
from winepipelines.resource.status import Condition, ConditionType, Status
from winepipelines.subjects import PIPELINES

URL = "http://endpoint/predict"
GOOD = Spec.model_validate({"data": {"url": "http://data/wine.csv"}})


def _same_pods(rollout: Rollout, other: Rollout | None) -> bool:
    """Tell whether nothing new has to start."""
    pods = [
        [model and (model.uri, model.image, model.executor, model.digest) for model in (one.model, one.trial)]
        for one in (rollout, other)
        if one is not None
    ]
    return len(pods) == 2 and pods[0][0] == pods[1][0] and pods[0][1] in (None, pods[1][1])


def revision_of(run: str) -> int:
    """Tell which revision a run is of, by its name: that of the resource, part of its uid, the revision, and an attempt."""
    return int(run.split("-")[2])


def digest_of(revision: int) -> str:
    """Digest of the files of a revision's model."""
    return f"sha256:{revision:064x}"


@dataclass
class World(InMemory[Status]):
    """Everything outside the operator. Tests set fields to say what is so."""

    subject = PIPELINES
    pipeline: WinePipeline = field(
        default_factory=lambda: WinePipeline("admin", "mlflow", "0123456789ab", 1, "1", GOOD, Status())
    )
    children: Presence = Presence.ABSENT
    foreign_kinds: set[str] = field(default_factory=set)  # of children that others made
    source: SecretState = SecretState("kubeflow", "source", True)
    artifacts: SecretState | None = SecretState("admin", "artifacts", True)
    records: dict[int, TrainingRecords] = field(default_factory=dict)
    writers: dict[int, str] = field(default_factory=dict)  # revision: the run that wrote its records, where that matters
    mlflow_secret: SecretState | None = None
    key: KeyState | None = KeyState("admin", exists=True)
    aliases: dict[tuple[str, str], ModelVersion] = field(default_factory=dict)  # MLflow's registry: by model and alias
    trials: dict[int, TrialView] = field(default_factory=dict)  # how a revision's model does on trial
    data_checks: dict[int, DataCheck] = field(default_factory=dict)
    known_data: tuple[str, str] = ("", "")  # what the last look at the data was told
    stored: StoredModel | None = None
    server: ServerView = ServerView("1.18.2", image="server:1")
    trouble: tuple[str, str] = ("", "")  # reason and message of what keeps a deployment from rolling out
    lost_models: set[str] = field(default_factory=set)  # addresses whose files are gone
    lost_examples: set[str] = field(default_factory=set)  # MLflow runs that were removed, and with them their models' examples
    broken_images: set[str] = field(default_factory=set)  # server images that no node can pull
    platform: PlatformVerdict | None = None
    applied: Rollout | None = None  # what the SeldonDeployment says
    asked_for: tuple[Rollout, Serving] | None = None  # when it was applied last
    replicas: int = 1
    capacity: int = 10  # replicas that there is room for
    foreign: bool = False
    rolled_out: bool = False
    owned: bool = False
    wrong_answers: set[int] = field(default_factory=set)  # revisions whose model answers wrongly
    tagged: tuple[ModelVersion, ...] = ()  # versions in MLflow that are said to be left
    mended: list[str] = field(default_factory=list)  # what was told of drift
    updated: list[str] = field(default_factory=list)  # what was told of copies that follow their source
    most_live: dict[str, int] = field(default_factory=dict)  # name: most live runs at a time

    # -- what a test does -----------------------------------------------------------------------------------------

    @property
    def alias(self) -> str:
        """The version that is the champion of the resource's registered model."""
        return self.versions.get("champion", "")

    @property
    def versions(self) -> dict[str, str]:
        """The versions of the resource's registered model that have an alias."""
        mine = self.pipeline.registered_model
        return {alias: model.version for (name, alias), model in self.aliases.items() if name == mine}

    def give_alias(self, version: str, mlflow_run: str, alias: str = "champion") -> None:
        """Someone gives a version of the resource's registered model an alias."""
        name = self.pipeline.registered_model
        self.aliases[name, alias] = ModelVersion(name, version, mlflow_run)

    @property
    def status(self) -> Status:
        """The status as it is stored."""
        return self.pipeline.status

    @property
    def resource(self) -> WinePipeline:
        """The resource as it is stored."""
        return self.pipeline

    @resource.setter
    def resource(self, resource: WinePipeline) -> None:
        self.pipeline = resource

    def condition_of_ready(self) -> Condition:
        """What is said of the resource as a whole."""
        return self.condition(ConditionType.READY)

    def ready(self) -> bool:
        """Whether the status says so."""
        condition = self.status.condition(ConditionType.READY)
        return condition is not None and condition.status == "True"

    def change(self, **spec: object) -> None:
        """Apply another spec."""
        changed = Spec.model_validate({**self.pipeline.spec.model_dump(by_alias=True), **spec})
        self.pipeline = replace(self.pipeline, spec=changed, generation=self.pipeline.generation + 1)

    def ask(self, **asks: str) -> None:
        """Annotate the resource, which leaves its generation as it is."""
        self.pipeline = replace(self.pipeline, asks=Asks(**asks))

    def run(self) -> RunView:
        """The newest run."""
        return self.runs[-1]

    def succeed(self, r2: float = 0.14, **metrics: float) -> None:
        """The newest run succeeds and has logged its model, with more metrics than r2 maybe."""
        revision = revision_of(self.run().name)
        self.move_run(RunState.SUCCEEDED)
        self.writers[revision] = self.run().id
        self.records[revision] = TrainingRecords(
            LoggedModel(
                f"s3://mlflow/{revision}/model",
                f"mlflow-{revision}",
                str(revision),
                {"r2": r2, **metrics},
                digest=digest_of(revision),
                data_sha256="a" * 64,
            )
        )

    def fail(self, reason: str = "DataUnreachable", *, permanent: bool = False) -> None:
        """The newest run fails in its first step, which says why."""
        revision = revision_of(self.run().name)
        self.move_run(RunState.FAILED, failed_step="download")
        self.writers[revision] = self.run().id
        self.records[revision] = TrainingRecords(failure=StepFailure("download", reason, "no good", permanent, self.now))

    def roll_out(self) -> None:
        """Whatever is applied comes up, until nothing more is."""
        for _ in range(4):
            self.rolled_out = True
            self.reconcile()

    def serve(self) -> None:
        """All the way, without a hitch."""
        self.reconcile()
        self.succeed()
        self.reconcile()
        self.roll_out()
        assert self.ready()
        self.reconcile()  # what is left to do when it is Ready

    # -- what the operator does -----------------------------------------------------------------------------------

    def _know(self, question: Question[object]) -> object:
        match question:
            case Children():
                names = (("PodDefault", "access-minio"), ("Secret", "seldon-init-container-secret"))
                found = [(kind, name, Presence.FOREIGN if kind in self.foreign_kinds else self.children) for kind, name in names]
                made = tuple(Child(*child) for child in found)
                return ChildrenView(self.source, self.artifacts, made, self.mlflow_secret, self.key)
            case Records(revision, run_id):
                if self.writers.get(revision, run_id) == run_id:
                    return self.records.get(revision, TrainingRecords())
                return TrainingRecords(foreign=f"MLflow run x was written by Kubeflow run {self.writers[revision]}")
            case Stored(uri) if uri in self.lost_models:
                return StoredModel(uri, False, "ModelMissing", "there is no MLmodel")
            case Stored(uri):
                return self.stored or StoredModel(uri, readable=True)
            case Server():
                return self.server
            case Deployment(rollout):
                return self._deployment(rollout)
            case Answer(model) if model.mlflow_run in self.lost_examples:
                return Refused("ExampleMissing", "the MLflow run no longer exists")
            case Answer(model):
                answering = self.applied is not None and self.rolled_out and not self._trouble_of(self.applied.model)
                asked = self.applied.model if self.applied is not None else None
                passed = answering and asked == self._with_image(model) and model.revision not in self.wrong_answers
                reason = "" if passed else "PredictionDiffers"
                return PredictionCheck(self.now, passed, 5.7, 3, reason, "" if passed else "the answer differs", URL, "seldon")
            case Tried(model, served):
                assert self.applied is not None
                assert (self.applied.trial, self.applied.model) == (model, served), "it is asked of what is there"
                if model.mlflow_run in self.lost_examples:
                    return Refused("ExampleMissing", "the MLflow run no longer exists")
                if model.revision in self.wrong_answers:
                    return TrialView(20, 20, wrong=True, reason="PredictionDiffers", message="the answer differs")
                return self.trials.get(model.revision, TrialView(20, milliseconds=4, served_milliseconds=4))
            case DataChecked(count, _):
                return self.data_checks.get(count)
            case Aliased(registered_model, alias):
                return self.aliases.get((registered_model, alias))
            case Platform():
                return self.platform
        raise AssertionError(question)

    def _deployment(self, rollout: Rollout | None) -> DeploymentView:
        if self.foreign:
            return DeploymentView(Presence.FOREIGN)
        if self.applied is None:
            return DeploymentView(Presence.ABSENT)
        current = rollout is None or (
            self._with_images(rollout) == self.applied and self.replicas == self.pipeline.spec.serving.replicas
        )
        presence = Presence.CURRENT if current else Presence.DIFFERS
        asked_for = rollout and (self._with_images(rollout), self.pipeline.spec.serving)
        trial = self.applied.trial
        of_trial = trial and self._trouble_of(trial)
        trouble = of_trial or self._trouble_of(self.applied.model) or self._lack_of_room()
        up = current and self.rolled_out
        reason, message = trouble or self.trouble if current and not (up and not trouble) else ("", "")
        return DeploymentView(
            presence,
            rolled_out=up and not trouble,
            trial_rolled_out=up and trial is not None and not of_trial and not self._lack_of_room(),
            owned=self.owned,
            reason=reason,
            message=message,
            drifted=not current and asked_for == self.asked_for,
        )

    def _trouble_of(self, model: ModelRef) -> tuple[str, str] | None:
        """Say what keeps a model's pods from starting, whoever waits for them."""
        if model.image in self.broken_images:
            return "ErrImagePull", f"the image {model.image} is not pulled"
        return ("CrashLoopBackOff", "there is no model to copy") if model.uri in self.lost_models else None

    def _lack_of_room(self) -> tuple[str, str] | None:
        return ("Unschedulable", "no node has room") if self.replicas > self.capacity else None

    def _with_image(self, model: ModelRef) -> ModelRef:
        kept = self.applied is not None and self.applied.model.uri == model.uri
        return replace(model, image=model.image or (self.applied.model.image if self.applied and kept else self.server.image))

    def _with_images(self, rollout: Rollout) -> Rollout:
        trial = self._with_image(rollout.trial) if rollout.trial else None
        return Rollout(self._with_image(rollout.model), trial, rollout.weight)

    def _do(self, action: Action) -> None:
        match action:
            case ApplyChildren(mended, updated):
                self.updated += [updated] if updated else []
                self.children = Presence.CURRENT
                self.mended += [mended] if mended else []
            case CreateRun(name, _):
                self.add_run(name)
            case ApplyDeployment(rollout, mended):
                self.mended += [mended] if mended else []
                rollout = self._with_images(rollout)
                self.rolled_out = self.rolled_out and _same_pods(rollout, self.applied)
                self.applied, self.owned = rollout, True
                self.replicas = self.pipeline.spec.serving.replicas
                self.asked_for = (rollout, self.pipeline.spec.serving)
            case DeleteDeployment():
                self.applied = None
            case ReleaseDeployment():
                self.owned = False
            case SetAlias(model, alias):
                self.aliases[model.registered_model, alias] = model
            case RemoveAlias(model, alias):
                if self.aliases.get((model.registered_model, alias)) == model:
                    del self.aliases[model.registered_model, alias]
            case LeaveModels(models, retired):
                self.tagged = models
                if retired:
                    self.aliases = {alias: model for alias, model in self.aliases.items() if model not in models}
            case CreateDataCheck(name, _, sha256, etag):
                self.known_data = (sha256, etag)
                self.add_run(name)

    def add_run(self, name: str) -> None:
        """Kubeflow Pipelines has another run of a name."""
        super().add_run(name)
        live = sum(run.live for run in self.runs if run.name == name)
        self.most_live[name] = max(self.most_live.get(name, 0), live)
