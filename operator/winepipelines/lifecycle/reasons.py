"""Reasons of conditions: one word that programs compare and documents explain (`docs/reasons.md`).

Reasons of failed steps come from the steps themselves (`pipeline/winesteps/failures.py`), reasons of unreachable systems from
the adapters in `platform`.
"""

# prepare
PREPARED = "Prepared"
PODDEFAULTS_LEFT_OUT = "PodDefaultsLeftOut"
SOURCE_SECRET_MISSING = "SourceSecretMissing"
SOURCE_SECRET_INCOMPLETE = "SourceSecretIncomplete"
MLFLOW_SECRET_MISSING = "MlflowSecretMissing"
MLFLOW_SECRET_INCOMPLETE = "MlflowSecretIncomplete"
ARTIFACT_SECRET_MISSING = "ArtifactSecretMissing"
ARTIFACT_SECRET_INCOMPLETE = "ArtifactSecretIncomplete"
MODEL_KEY_MISSING = "ModelKeyMissing"
MODEL_KEY_INVALID = "ModelKeyInvalid"
FOREIGN_OBJECT = "ForeignObject"
APPLYING = "Applying"

# train
RUNTIME_UNSUPPORTED = "RuntimeUnsupported"
SUBMITTING = "RunSubmitting"
PENDING = "RunPending"
RUNNING = "RunRunning"
ENDING = "RunEnding"
RUN_FAILED = "RunFailed"
RUN_TERMINATED = "RunTerminated"
RUN_TIMED_OUT = "RunTimedOut"
RUN_CANCELED = "RunCanceled"
SCHEDULE_INVALID = "ScheduleInvalid"
RUN_DELETED = "RunDeleted"
WORKFLOW_DELETED = "WorkflowDeleted"
STORE_UNAVAILABLE = "StoreUnavailable"
SUPERSEDED = "Superseded"
DUPLICATE_RUN = "DuplicateRun"
MODEL_PENDING = "ModelPending"
MODEL_NOT_LOGGED = "ModelNotLogged"
MODEL_RECORD_REFUSED = "ModelRecordRefused"
MODEL_UNSIGNED = "ModelUnsigned"
MODEL_TAMPERED = "ModelTampered"
MODEL_LOGGED = "ModelLogged"

# gate
ACCEPTED = "Accepted"
GATE_REFUSED = "GateRefused"

# deploy
ON_TRIAL = "OnTrial"
TRIAL_SLOW = "TrialSlow"
SERVING_PLATFORM_MISSING = "ServingPlatformMissing"
ROLLING_OUT = "RollingOut"
ROLLED_OUT = "RolledOut"
PROGRESS_DEADLINE_EXCEEDED = "ProgressDeadlineExceeded"

# verify and serve
ANSWERS = "Answers"
SERVING = "Serving"
ROLLED_BACK = "RolledBack"
UNCHANGED = "Unchanged"

# said by MLflow's adapter of a model that cannot be asked about: its example is gone, or is not the one that was signed
EXAMPLE_MISSING = "ExampleMissing"
WITHOUT_EXAMPLE = frozenset({EXAMPLE_MISSING, MODEL_TAMPERED})

# the platform as a whole; the reasons against it are those of the checks in `doctor`
CHECKS_PASSED = "ChecksPassed"

# said by a step: the platform failed it, which is not the run's fault and does not count as one of its attempts
SPARED = frozenset(
    {
        "TrackingUnavailable",
        "StoreUnavailable",
        "OutputUnavailable",
        # said of its pod: the node gave it up
        "Evicted",
        "Preempting",
        "NodeLost",
        "NodeShutdown",
        "Terminated",
        "PodDeleted",
    }
)

# what keeps a step's pod from starting until a person corrects it; others may pass by themselves, when a node has room again
CANNOT_START = frozenset(
    {"ErrImagePull", "InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError", "CreateContainerError"}
)

# said by the loop of a call that did not end in the time that a reconcile has
DEADLINE_EXCEEDED = "DeadlineExceeded"
UNEXPECTED = "Unexpected"  # a call failed by a defect

# a system of the platform does not do what it is asked: said by the adapters
PLATFORM_FAILURES = frozenset(
    {
        "KubeflowUnavailable",
        "KubeflowRefused",
        "TemplateRefused",
        "KubernetesUnavailable",
        "KubernetesRefused",
        "ObjectTooLarge",
        "TooManyDeployments",
        "TooManyRuns",
        "ServingPlatformUnavailable",
        "AdmissionUnavailable",
        "AdmissionDenied",
        "QuotaExceeded",
        "DeploymentRefused",
        "MlflowUnavailable",
        "MlflowRefused",
        "MlflowHostRefused",
        "MlflowUnauthorized",
        "MlflowUntrusted",
        "StoreUnavailable",
        EXAMPLE_MISSING,
        MODEL_TAMPERED,
        MODEL_KEY_MISSING,
        MODEL_KEY_INVALID,
        "ExperimentDeleted",
        "KindMissing",
        DEADLINE_EXCEEDED,
        UNEXPECTED,
    }
)

# any
SUSPENDED = "Suspended"
DELETING = "Deleting"
SPEC_INVALID = "SpecInvalid"
