"""An in-memory platform for the decisions about pipelines: it answers their queries and carries out their actions."""

from dataclasses import dataclass, field, replace

from support.deployments import Deployment, OfDeployment, is_applied, same_pods, served_as
from support.memory import InMemory

from winecontract.reasons import Reason
from winepipelines.api.errors import Refused
from winepipelines.api.modelrecord import ModelRecord, ModelServer, TrainingData
from winepipelines.api.observed import (
    BackendsView,
    CanaryComparison,
    Child,
    ChildrenView,
    DataCheckResult,
    DeploymentView,
    KeyState,
    ModelVersion,
    PlatformVerdict,
    PredictionCheck,
    Presence,
    Rival,
    RunState,
    RunView,
    SecretState,
    ServerView,
    StepFailure,
    StoredModel,
    TrainingRecords,
)
from winepipelines.api.pipeline import AnnotationRequests, WinePipeline
from winepipelines.api.rollout import Rollout
from winepipelines.api.spec import Spec
from winepipelines.api.status import Condition, ConditionType, Status
from winepipelines.controllers import PIPELINES
from winepipelines.engine.decision import Query
from winepipelines.pipelines.actions import (
    Action,
    ApplyChildren,
    ApplyDeployment,
    CreateDataCheck,
    CreateRun,
    DeleteDeployment,
    ReleaseDeployment,
    RemoveAlias,
    SetAlias,
    TagOrphanedModels,
)
from winepipelines.pipelines.queries import (
    CheckArtifact,
    CompareCanary,
    GetAlias,
    GetBackends,
    GetChildren,
    GetDataCheck,
    GetDeployment,
    GetPlatformHealth,
    GetRecords,
    GetServer,
    ProbeEndpoint,
)

URL = "http://endpoint/predict"
GOOD = Spec.model_validate({"data": {"url": "http://data/wine.csv"}})


def revision_of(run: str) -> int:
    """Read the revision from a run's name: name of the resource, part of its uid, revision, attempt."""
    return int(run.split("-")[2])


def digest_of(revision: int) -> str:
    """The digest of the files of a revision's model."""
    return f"sha256:{revision:064x}"


SELDON, KSERVE = "Seldon", "KServe"


@dataclass
class World(InMemory[Status]):
    """The environment of the operator. Tests set its fields to set up a state."""

    controller = PIPELINES
    pipeline: WinePipeline = field(
        default_factory=lambda: WinePipeline("admin", "mlflow", "0123456789ab", 1, "1", GOOD, Status())
    )
    children: Presence = Presence.ABSENT
    unmanaged_kinds: set[str] = field(default_factory=set)  # kinds of children that exist and are not managed by the operator
    withheld: Child | None = None  # the PodDefault of ours that conflicts with one of others
    refusal: Rival | None = None  # the PodDefault of others for which the pods of steps are refused
    source: SecretState = SecretState("kubeflow", "source", True)
    artifacts: SecretState | None = SecretState("admin", "artifacts", True)
    records: dict[int, TrainingRecords] = field(default_factory=dict)
    writers: dict[int, str] = field(default_factory=dict)  # id of the run that wrote the records, by revision
    mlflow_secret: SecretState | None = None
    key: KeyState | None = KeyState("admin", exists=True)
    aliases: dict[tuple[str, str], ModelVersion] = field(default_factory=dict)  # MLflow's registry, by registered model and alias
    canaries: dict[int, CanaryComparison] = field(default_factory=dict)  # comparison of the canary, by revision
    data_checks: dict[int, DataCheckResult] = field(default_factory=dict)
    checked_data: tuple[str, str] = ("", "")  # digest and ETag that the last data check was submitted with
    stored: StoredModel | None = None
    server: ServerView = ServerView("1.18.2", server=ModelServer(image="server:1"))
    servers: dict[str, ServerView] = field(default_factory=dict)  # by backend, where it is not `server`
    pod_problem: tuple[str, str] = ("", "")  # reason and message, if the deployment does not roll out
    lost_models: set[str] = field(default_factory=set)  # URIs of models whose files were deleted
    lost_examples: set[str] = field(default_factory=set)  # MLflow runs that were deleted, with their models' input examples
    broken_images: set[str] = field(default_factory=set)  # images of the model server that no node can pull
    platform: PlatformVerdict | None = None
    backends: BackendsView = BackendsView((SELDON, KSERVE), SELDON, SELDON)
    deployments: dict[str, Deployment] = field(default_factory=lambda: {SELDON: Deployment(), KSERVE: Deployment()})
    capacity: int = 10  # replicas that fit on the nodes
    wrong_answers: set[int] = field(default_factory=set)  # revisions whose model fails its prediction check
    tagged: tuple[ModelVersion, ...] = ()  # versions that were tagged as orphaned in MLflow
    drift_corrected: list[str] = field(default_factory=list)  # messages about corrected drift
    updated: list[str] = field(default_factory=list)  # messages about copied Secrets that were updated
    most_live: dict[str, int] = field(default_factory=dict)  # highest number of live runs at a time, by name

    applied = OfDeployment()
    last_applied = OfDeployment()
    replicas = OfDeployment()
    foreign = OfDeployment()
    rolled_out = OfDeployment()
    owned = OfDeployment()

    # -- for tests ------------------------------------------------------------------------------------------------

    @property
    def home(self) -> str:
        """The backend that the resource is served on."""
        holders = (self.status.served, self.status.candidate)
        names = (self.backends.named(holder.backend) for holder in holders if holder is not None)
        return next(names, self.backends.unnamed)

    def deployment(self, backend: str = "") -> Deployment:
        """Return the deployment on a backend, by default on that which serves."""
        return self.deployments[backend or self.home]

    @property
    def alias(self) -> str:
        """The version with the alias `champion` of the resource's registered model, or an empty string."""
        return self.versions.get("champion", "")

    @property
    def versions(self) -> dict[str, str]:
        """The versions of the resource's registered model, by alias."""
        mine = self.pipeline.registered_model
        return {alias: model.version for (name, alias), model in self.aliases.items() if name == mine}

    def set_alias(self, version: str, mlflow_run: str, alias: str = "champion") -> None:
        """Set an alias of the resource's registered model, as a user would."""
        name = self.pipeline.registered_model
        self.aliases[name, alias] = ModelVersion(name, version, mlflow_run)

    @property
    def status(self) -> Status:
        """The stored status."""
        return self.pipeline.status

    @property
    def resource(self) -> WinePipeline:
        """The stored resource."""
        return self.pipeline

    @resource.setter
    def resource(self, resource: WinePipeline) -> None:
        self.pipeline = resource

    def ready_condition(self) -> Condition:
        """Return the condition Ready."""
        return self.condition(ConditionType.READY)

    def ready(self) -> bool:
        """Whether the condition Ready is True."""
        condition = self.status.condition(ConditionType.READY)
        return condition is not None and condition.status == "True"

    def change(self, **spec: object) -> None:
        """Apply another spec."""
        changed = Spec.model_validate({**self.pipeline.spec.model_dump(by_alias=True), **spec})
        self.pipeline = replace(self.pipeline, spec=changed, generation=self.pipeline.generation + 1)

    def annotate(self, **requests: str) -> None:
        """Set the annotations that request something. The generation stays the same."""
        self.pipeline = replace(self.pipeline, requests=AnnotationRequests(**requests))

    def run(self) -> RunView:
        """The newest run."""
        return self.runs[-1]

    def succeed(self, r2: float = 0.14, **metrics: float) -> None:
        """Let the newest run succeed, with a logged model and its metrics."""
        revision = revision_of(self.run().name)
        self.move_run(RunState.SUCCEEDED)
        self.writers[revision] = self.run().id
        self.records[revision] = TrainingRecords(
            ModelRecord(
                uri=f"s3://mlflow/{revision}/model",
                mlflow_run=f"mlflow-{revision}",
                version=str(revision),
                metrics={"r2": r2, **metrics},
                digest=digest_of(revision),
                data=TrainingData(sha256="a" * 64),
            )
        )

    def fail(self, reason: str = "DataUnreachable", *, permanent: bool = False) -> None:
        """Let the newest run fail in its first step, with a recorded reason."""
        revision = revision_of(self.run().name)
        self.move_run(RunState.FAILED, failed_step="download")
        self.writers[revision] = self.run().id
        self.records[revision] = TrainingRecords(failure=StepFailure("download", reason, "no good", permanent, self.now))

    def roll_out(self) -> None:
        """Let every applied deployment roll out, and reconcile until the operator applies none."""
        for _ in range(4):
            for deployment in self.deployments.values():
                deployment.rolled_out = True
            self.reconcile()

    def train(self) -> None:
        """Let the run succeed, and start the rollout of its model."""
        self.reconcile()
        self.succeed()
        self.reconcile()

    def pass_rollout_deadline(self) -> None:
        """Let the progress deadline of the rollout pass."""
        self.reconcile()
        self.pass_time(minutes=16)
        self.reconcile()

    def serve(self) -> None:
        """Train, deploy and verify a model without a failure."""
        self.train()
        self.roll_out()
        assert self.ready()
        self.reconcile()  # the last writes follow Ready

    # -- the operator ---------------------------------------------------------------------------------------------

    def _answer_other(self, query: Query[object]) -> object:
        match query:
            case GetBackends():
                return self.backends
            case GetChildren():
                names = (("PodDefault", "access-minio"), ("Secret", "seldon-init-container-secret"))
                found = [
                    (kind, name, Presence.NOT_MANAGED if kind in self.unmanaged_kinds else self.children) for kind, name in names
                ]
                made = tuple(Child(*child) if self.withheld is None or child[0] == "Secret" else self.withheld for child in found)
                return ChildrenView(self.source, self.artifacts, made, self.mlflow_secret, self.key, self.refusal)
            case GetRecords(revision, run_id):
                if self.writers.get(revision, run_id) == run_id:
                    return self.records.get(revision, TrainingRecords())
                return TrainingRecords(foreign=f"MLflow run x was written by Kubeflow run {self.writers[revision]}")
            case CheckArtifact(uri) if uri in self.lost_models:
                return StoredModel(uri, False, "ModelMissing", "there is no MLmodel")
            case CheckArtifact(uri):
                return self.stored or StoredModel(uri, readable=True)
            case GetServer(_, backend):
                return self.servers.get(self.backends.named(backend), self.server)
            case GetDeployment(rollout, backend):
                return self._deployment(rollout, self._at(backend))
            case ProbeEndpoint(model, _) if model.mlflow_run in self.lost_examples:
                return Refused(Reason.INPUT_EXAMPLE_MISSING, "the MLflow run no longer exists")
            case ProbeEndpoint(_, backend) if self._at(backend).scaled_to_zero:
                return PredictionCheck(
                    self.now, False, None, 0, Reason.ENDPOINT_UNREACHABLE, f"{URL} does not answer", URL, "seldon"
                )
            case ProbeEndpoint(model, backend):
                deployment = self._at(backend)
                applied = deployment.applied
                answers = applied is not None and deployment.rolled_out and not self._pod_problem_of(applied.model)
                is_served = applied is not None and served_as(applied.model) == served_as(self._with_image(model, deployment))
                passed = answers and is_served and applied is not None and applied.revision not in self.wrong_answers
                reason = "" if passed else "PredictionMismatch"
                return PredictionCheck(self.now, passed, 5.7, 3, reason, "" if passed else "the answer differs", URL, "seldon")
            case CompareCanary(model, served, backend):
                compared = self._at(backend).applied
                assert compared is not None
                applied_models = [served_as(compared.canary), served_as(compared.model)]
                assert applied_models == [served_as(model), served_as(served)], "the models compared are those deployed"
                if model.mlflow_run in self.lost_examples:
                    return Refused(Reason.INPUT_EXAMPLE_MISSING, "the MLflow run no longer exists")
                if model.revision in self.wrong_answers:
                    return CanaryComparison(20, 20, wrong=True, reason="PredictionMismatch", message="the answer differs")
                return self.canaries.get(model.revision, CanaryComparison(20, milliseconds=4, served_milliseconds=4))
            case GetDataCheck(count, _):
                return self.data_checks.get(count)
            case GetAlias(registered_model, alias):
                return self.aliases.get((registered_model, alias))
            case GetPlatformHealth():
                return self.platform
        raise AssertionError(query)

    def _at(self, backend: str) -> Deployment:
        """Return the deployment that a query or an action names."""
        return self.deployments[self.backends.named(backend)]

    def _deployment(self, rollout: Rollout | None, deployment: Deployment) -> DeploymentView:
        if deployment.foreign:
            return DeploymentView(Presence.NOT_MANAGED)
        if deployment.applied is None:
            return DeploymentView(Presence.ABSENT)
        serving, desired_rollout = self.pipeline.spec.serving, rollout and self._with_images(rollout, deployment)
        current = desired_rollout is None or (
            is_applied(desired_rollout, deployment.applied) and deployment.replicas == serving.replicas
        )
        presence = Presence.CURRENT if current else Presence.DIFFERS
        desired = desired_rollout and (desired_rollout, serving)
        canary = deployment.applied.canary
        canary_problem = canary and self._pod_problem_of(canary)
        fails = deployment.pods_fail if deployment.pods_fail[0] else None
        capacity_problem = self._capacity_problem(deployment)
        pod_problem = canary_problem or self._pod_problem_of(deployment.applied.model) or capacity_problem or fails
        up = current and deployment.rolled_out
        reason, message = pod_problem or self.pod_problem if current and not (up and not pod_problem) else ("", "")
        return DeploymentView(
            presence,
            rolled_out=up and not pod_problem,
            canary_rolled_out=up and canary is not None and not canary_problem and not capacity_problem,
            scaled_to_zero=up and not pod_problem and deployment.scaled_to_zero,
            owned=deployment.owned,
            deleting=deployment.deleting,
            reason=reason,
            message=message,
            drifted=not current and desired == deployment.last_applied,
        )

    def _pod_problem_of(self, model: ModelRecord) -> tuple[str, str] | None:
        """Return reason and message, if a model's pods cannot start."""
        if model.server.image in self.broken_images:
            return "ErrImagePull", f"the image {model.server.image} is not pulled"
        return ("CrashLoopBackOff", "there is no model to copy") if model.uri in self.lost_models else None

    def _capacity_problem(self, deployment: Deployment) -> tuple[str, str] | None:
        return ("Unschedulable", "no node has room") if deployment.replicas > self.capacity else None

    def _with_image(self, model: ModelRecord, deployment: Deployment) -> ModelRecord:
        kept = deployment.applied is not None and deployment.applied.model.uri == model.uri
        server = deployment.applied.model.server if deployment.applied and kept else self.server.server
        return model if model.server.image else model.with_(server=server)

    def _with_images(self, rollout: Rollout, deployment: Deployment) -> Rollout:
        canary = self._with_image(rollout.canary, deployment) if rollout.canary else None
        return Rollout(rollout.revision, self._with_image(rollout.model, deployment), canary, rollout.weight)

    def _perform_other(self, action: Action) -> None:
        match action:
            case ApplyChildren(drift_corrected, updated, _):
                self.updated += [updated] if updated else []
                self.children = Presence.CURRENT
                self.withheld = self.withheld and replace(self.withheld, presence=Presence.WITHHELD)
                self.drift_corrected += [drift_corrected] if drift_corrected else []
            case CreateRun(name, _):
                self.add_run(name)
            case ApplyDeployment(rollout, drift_corrected, backend):
                self.drift_corrected += [drift_corrected] if drift_corrected else []
                deployment, serving = self._at(backend), self.pipeline.spec.serving
                rollout = self._with_images(rollout, deployment)
                deployment.rolled_out = deployment.rolled_out and same_pods(rollout, deployment.applied)
                deployment.applied, deployment.owned = rollout, True
                deployment.replicas = serving.replicas
                deployment.last_applied = (rollout, serving)
            case DeleteDeployment(backend) if self._at(backend).held:
                self._at(backend).deleting = True
            case DeleteDeployment(backend):
                self._at(backend).applied = None
            case ReleaseDeployment(backend):
                self._at(backend).owned = False
            case SetAlias(model, alias):
                self.aliases[model.registered_model, alias] = model
            case RemoveAlias(model, alias):
                if self.aliases.get((model.registered_model, alias)) == model:
                    del self.aliases[model.registered_model, alias]
            case TagOrphanedModels(models, retired):
                self.tagged = models
                if retired:
                    self.aliases = {alias: model for alias, model in self.aliases.items() if model not in models}
            case CreateDataCheck(name, _, sha256, etag):
                self.checked_data = (sha256, etag)
                self.add_run(name)

    def add_run(self, name: str) -> None:
        """Add a run with a name to Kubeflow Pipelines."""
        super().add_run(name)
        live = sum(run.live for run in self.runs if run.name == name)
        self.most_live[name] = max(self.most_live.get(name, 0), live)
