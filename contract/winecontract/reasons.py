"""Reasons: why a condition has its status, a step failed, a check failed, or an Event was recorded.

The table is `contract/reasons.yaml`, with a meaning and a remedy for each; `make generate` writes the members here and the
reference in docs. Steps, model server and operator pass reasons on as these strings, and compare nothing else: no message.
"""

from enum import Flag, StrEnum, auto
from typing import Self


class Kind(StrEnum):
    """What it takes until a reason passes."""

    INFORMATIONAL = auto()
    """Nothing is wrong."""
    PASSING = auto()
    """It may pass by itself: the operator retries."""
    PERMANENT = auto()
    """It does not pass until someone changes the resource, its data or its model."""
    PLATFORM = auto()
    """A system of the platform fails or refuses: the operator retries, and an administrator may have to act."""


class Trait(Flag):
    """What programs derive from a reason."""

    UNCOUNTED = auto()
    """A failed run with this reason does not count as an attempt."""
    UNSTARTABLE = auto()
    """A pod that waits for this reason does not start until someone corrects it."""
    ADAPTER = auto()
    """An adapter of the operator raises it while it calls a system."""
    NO_EXAMPLE = auto()
    """The model has no input example that it can be probed with."""
    FOREIGN = auto()
    """Kubernetes' or Argo's own reason, passed on."""


NONE = Trait(0)


class Reason(StrEnum):
    """A reason. The value is what status, Events, MLflow and termination messages hold."""

    kind: Kind
    traits: Trait

    def __new__(cls, value: str, kind: Kind = Kind.PASSING, traits: Trait = NONE) -> Self:
        """Make a member of the table's row."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.kind, member.traits = kind, traits
        return member

    @property
    def permanent(self) -> bool:
        """Whether another attempt fails with the same reason, unless someone changes the resource, its data or its model."""
        return self.kind is Kind.PERMANENT

    # BEGIN GENERATED: reasons
    # Prepared
    PREPARED = "Prepared", Kind.INFORMATIONAL
    APPLYING_RESOURCES = "ApplyingResources", Kind.INFORMATIONAL
    POD_DEFAULTS_SKIPPED = "PodDefaultsSkipped", Kind.INFORMATIONAL
    POD_DEFAULT_CONFLICT = "PodDefaultConflict", Kind.PLATFORM
    SOURCE_SECRET_MISSING = "SourceSecretMissing", Kind.PLATFORM
    SOURCE_SECRET_INCOMPLETE = "SourceSecretIncomplete", Kind.PLATFORM
    MLFLOW_SECRET_MISSING = "MlflowSecretMissing", Kind.PLATFORM
    MLFLOW_SECRET_INCOMPLETE = "MlflowSecretIncomplete", Kind.PLATFORM
    ARTIFACT_SECRET_MISSING = "ArtifactSecretMissing", Kind.PLATFORM
    ARTIFACT_SECRET_INCOMPLETE = "ArtifactSecretIncomplete", Kind.PLATFORM
    MODEL_KEY_INVALID = "ModelKeyInvalid", Kind.PLATFORM, Trait.ADAPTER
    MODEL_KEY_MISSING = "ModelKeyMissing", Kind.PLATFORM, Trait.ADAPTER
    NOT_MANAGED = "NotManaged", Kind.PERMANENT
    # Trained: the run
    RUN_SUBMITTING = "RunSubmitting", Kind.INFORMATIONAL
    RUN_PENDING = "RunPending", Kind.INFORMATIONAL
    RUN_IN_PROGRESS = "RunInProgress", Kind.INFORMATIONAL
    RUN_TERMINATING = "RunTerminating", Kind.INFORMATIONAL
    MODEL_PENDING = "ModelPending", Kind.INFORMATIONAL
    MODEL_LOGGED = "ModelLogged", Kind.INFORMATIONAL
    RUN_FAILED = "RunFailed", Kind.PASSING
    RUN_TERMINATED = "RunTerminated", Kind.PERMANENT
    RUN_TIMED_OUT = "RunTimedOut", Kind.PASSING
    RUN_CANCELED = "RunCanceled", Kind.PERMANENT
    RUN_DELETED = "RunDeleted", Kind.PASSING
    WORKFLOW_DELETED = "WorkflowDeleted", Kind.PASSING
    DUPLICATE_RUN = "DuplicateRun", Kind.PASSING
    SUPERSEDED = "Superseded", Kind.INFORMATIONAL
    SCHEDULE_INVALID = "ScheduleInvalid", Kind.PERMANENT
    RUNTIME_UNSUPPORTED = "RuntimeUnsupported", Kind.PLATFORM
    NAME_UNSUPPORTED = "NameUnsupported", Kind.PERMANENT
    SCALE_TO_ZERO_UNSUPPORTED = "ScaleToZeroUnsupported", Kind.PERMANENT
    TEMPLATE_REJECTED = "TemplateRejected", Kind.PERMANENT, Trait.ADAPTER
    MODEL_NOT_LOGGED = "ModelNotLogged", Kind.PERMANENT
    MODEL_RECORD_REJECTED = "ModelRecordRejected", Kind.PERMANENT
    MODEL_UNSIGNED = "ModelUnsigned", Kind.PERMANENT
    MODEL_TAMPERED = "ModelTampered", Kind.PERMANENT, Trait.ADAPTER | Trait.NO_EXAMPLE
    # Trained: pods of steps
    ERR_IMAGE_PULL = "ErrImagePull", Kind.PLATFORM, Trait.UNSTARTABLE | Trait.FOREIGN
    INVALID_IMAGE_NAME = "InvalidImageName", Kind.PLATFORM, Trait.UNSTARTABLE | Trait.FOREIGN
    ERR_IMAGE_NEVER_PULL = "ErrImageNeverPull", Kind.PLATFORM, Trait.UNSTARTABLE | Trait.FOREIGN
    CREATE_CONTAINER_CONFIG_ERROR = "CreateContainerConfigError", Kind.PLATFORM, Trait.UNSTARTABLE | Trait.FOREIGN
    CREATE_CONTAINER_ERROR = "CreateContainerError", Kind.PLATFORM, Trait.UNSTARTABLE | Trait.FOREIGN
    CRASH_LOOP_BACK_OFF = "CrashLoopBackOff", Kind.PLATFORM, Trait.FOREIGN
    UNSCHEDULABLE = "Unschedulable", Kind.PLATFORM, Trait.FOREIGN
    FAILED_CREATE = "FailedCreate", Kind.PLATFORM
    REPLICA_SET_CREATE_ERROR = "ReplicaSetCreateError", Kind.PLATFORM, Trait.FOREIGN
    POD_FAILED = "PodFailed", Kind.PLATFORM
    OOM_KILLED = "OOMKilled", Kind.PERMANENT
    DEADLINE_EXCEEDED = "DeadlineExceeded", Kind.PLATFORM, Trait.ADAPTER
    EVICTED = "Evicted", Kind.PASSING, Trait.UNCOUNTED | Trait.FOREIGN
    PREEMPTING = "Preempting", Kind.PASSING, Trait.UNCOUNTED | Trait.FOREIGN
    NODE_LOST = "NodeLost", Kind.PASSING, Trait.UNCOUNTED | Trait.FOREIGN
    NODE_SHUTDOWN = "NodeShutdown", Kind.PASSING, Trait.UNCOUNTED | Trait.FOREIGN
    TERMINATED = "Terminated", Kind.PASSING, Trait.UNCOUNTED | Trait.FOREIGN
    POD_DELETED = "PodDeleted", Kind.PASSING, Trait.UNCOUNTED
    # Trained: data and parameters
    CREDENTIALS_MISSING = "CredentialsMissing", Kind.PERMANENT
    URL_INVALID = "UrlInvalid", Kind.PERMANENT
    ADDRESS_REJECTED = "AddressRejected", Kind.PERMANENT
    DATA_UNREACHABLE = "DataUnreachable", Kind.PASSING
    DATA_NOT_FOUND = "DataNotFound", Kind.PERMANENT
    DATA_ACCESS_DENIED = "DataAccessDenied", Kind.PERMANENT
    DATA_TOO_LARGE = "DataTooLarge", Kind.PERMANENT
    CHECKSUM_MISMATCH = "ChecksumMismatch", Kind.PERMANENT
    DATA_NOT_CSV = "DataNotCsv", Kind.PERMANENT
    DATA_NOT_PARQUET = "DataNotParquet", Kind.PERMANENT
    COLUMN_MISSING = "ColumnMissing", Kind.PERMANENT
    DATA_INVALID = "DataInvalid", Kind.PERMANENT
    TOO_FEW_ROWS = "TooFewRows", Kind.PERMANENT
    ALL_ROWS_REJECTED = "AllRowsRejected", Kind.PERMANENT
    PARAMETERS_INVALID = "ParametersInvalid", Kind.PERMANENT
    TRAINING_FAILED = "TrainingFailed", Kind.PERMANENT
    MODEL_CONSTANT = "ModelConstant", Kind.PERMANENT
    # Trained: MLflow and the object store in steps
    TRACKING_UNAVAILABLE = "TrackingUnavailable", Kind.PLATFORM, Trait.UNCOUNTED
    TRACKING_REJECTED = "TrackingRejected", Kind.PLATFORM
    OBJECT_STORE_UNAVAILABLE = "ObjectStoreUnavailable", Kind.PLATFORM, Trait.UNCOUNTED | Trait.ADAPTER
    OBJECT_STORE_FULL = "ObjectStoreFull", Kind.PLATFORM
    BUCKET_MISSING = "BucketMissing", Kind.PERMANENT
    ARTIFACT_LOCATION_INVALID = "ArtifactLocationInvalid", Kind.PERMANENT
    EXPERIMENT_DELETED = "ExperimentDeleted", Kind.PERMANENT, Trait.ADAPTER
    UNEXPECTED_ERROR = "UnexpectedError", Kind.PLATFORM, Trait.ADAPTER
    # Trained: the model's files
    MODEL_ADDRESS_UNUSABLE = "ModelAddressUnusable", Kind.PLATFORM
    MODEL_MISSING = "ModelMissing", Kind.PERMANENT
    OBJECT_STORE_ACCESS_DENIED = "ObjectStoreAccessDenied", Kind.PLATFORM
    OBJECT_STORE_ENDPOINT_INVALID = "ObjectStoreEndpointInvalid", Kind.PLATFORM
    # Accepted
    ACCEPTED = "Accepted", Kind.INFORMATIONAL
    GATE_FAILED = "GateFailed", Kind.PERMANENT
    # Deployed and EndpointVerified
    ROLLOUT_IN_PROGRESS = "RolloutInProgress", Kind.INFORMATIONAL
    DEPLOYMENT_TERMINATING = "DeploymentTerminating", Kind.INFORMATIONAL
    ROLLOUT_COMPLETE = "RolloutComplete", Kind.INFORMATIONAL
    CANARY_IN_PROGRESS = "CanaryInProgress", Kind.INFORMATIONAL
    CANARY_TOO_SLOW = "CanaryTooSlow", Kind.PERMANENT
    SERVING_BACKEND_DISABLED = "ServingBackendDisabled", Kind.PERMANENT
    MIGRATION_IN_PROGRESS = "MigrationInProgress", Kind.PASSING
    MIGRATION_COMPLETE = "MigrationComplete", Kind.INFORMATIONAL
    SERVING_BACKEND_MISSING = "ServingBackendMissing", Kind.PLATFORM
    SERVING_BACKEND_UNAVAILABLE = "ServingBackendUnavailable", Kind.PLATFORM, Trait.ADAPTER
    SERVERLESS_MODE_REJECTED = "ServerlessModeRejected", Kind.PLATFORM, Trait.ADAPTER
    DEPLOYMENT_REJECTED = "DeploymentRejected", Kind.PLATFORM, Trait.ADAPTER
    DEPLOYMENT_FAILED = "DeploymentFailed", Kind.PLATFORM
    TOO_MANY_DEPLOYMENTS = "TooManyDeployments", Kind.PERMANENT, Trait.ADAPTER
    PROGRESS_DEADLINE_EXCEEDED = "ProgressDeadlineExceeded", Kind.PERMANENT
    ENDPOINT_UNREACHABLE = "EndpointUnreachable", Kind.PASSING
    ENDPOINT_STARTING = "EndpointStarting", Kind.PASSING
    MESH_ACCESS_DENIED = "MeshAccessDenied", Kind.PLATFORM
    PREDICTION_REJECTED = "PredictionRejected", Kind.PASSING
    PREDICTION_MISMATCH = "PredictionMismatch", Kind.PASSING
    PREDICTION_MATCHED = "PredictionMatched", Kind.INFORMATIONAL
    INPUT_EXAMPLE_MISSING = "InputExampleMissing", Kind.PERMANENT, Trait.ADAPTER | Trait.NO_EXAMPLE
    # PlatformReady
    CHECKS_PASSED = "ChecksPassed", Kind.INFORMATIONAL
    SETTINGS_INCOMPLETE = "SettingsIncomplete", Kind.PLATFORM
    KUBERNETES_UNREACHABLE = "KubernetesUnreachable", Kind.PLATFORM
    CRD_MISSING = "CRDMissing", Kind.PLATFORM, Trait.ADAPTER
    CRD_OUTDATED = "CRDOutdated", Kind.PLATFORM
    PERMISSION_MISSING = "PermissionMissing", Kind.PLATFORM
    KUBEFLOW_TOKEN_UNUSABLE = "KubeflowTokenUnusable", Kind.PLATFORM
    KUBEFLOW_UNREACHABLE = "KubeflowUnreachable", Kind.PLATFORM
    KUBEFLOW_UNAUTHENTICATED = "KubeflowUnauthenticated", Kind.PLATFORM
    KUBEFLOW_FORBIDDEN = "KubeflowForbidden", Kind.PLATFORM
    MLFLOW_UNREACHABLE = "MlflowUnreachable", Kind.PLATFORM
    MLFLOW_UNHEALTHY = "MlflowUnhealthy", Kind.PLATFORM
    MLFLOW_NOT_FOUND = "MlflowNotFound", Kind.PLATFORM
    ARTIFACT_ROOT_UNUSABLE = "ArtifactRootUnusable", Kind.PLATFORM
    OBJECT_STORE_UNREACHABLE = "ObjectStoreUnreachable", Kind.PLATFORM
    IMAGE_NAME_INVALID = "ImageNameInvalid", Kind.PLATFORM
    REGISTRY_UNAVAILABLE = "RegistryUnavailable", Kind.PLATFORM, Trait.FOREIGN
    TIMED_OUT = "TimedOut", Kind.PASSING
    NAMESPACE_MISSING = "NamespaceMissing", Kind.PERMANENT
    NOT_A_PROFILE = "NotAProfile", Kind.PERMANENT
    SERVICE_ACCOUNT_MISSING = "ServiceAccountMissing", Kind.PERMANENT
    DATA_HOST_CAPTURED = "DataHostCaptured", Kind.PERMANENT
    DATA_HOST_UNRESOLVED = "DataHostUnresolved", Kind.PERMANENT
    # WinePrediction
    SCORED = "Scored", Kind.INFORMATIONAL
    PIPELINE_MISSING = "PipelineMissing", Kind.PASSING
    NOTHING_SERVED = "NothingServed", Kind.PASSING
    RESULT_PENDING = "ResultPending", Kind.INFORMATIONAL
    RESULT_NOT_RECORDED = "ResultNotRecorded", Kind.PERMANENT
    RESULT_REJECTED = "ResultRejected", Kind.PERMANENT
    MODEL_UNUSABLE = "ModelUnusable", Kind.PERMANENT
    OUTPUT_IS_SOURCE = "OutputIsSource", Kind.PERMANENT
    OUTPUT_CLAIMED = "OutputClaimed", Kind.PERMANENT
    OUTPUT_EXISTS = "OutputExists", Kind.PERMANENT
    OUTPUT_REJECTED = "OutputRejected", Kind.PERMANENT
    OUTPUT_UNAVAILABLE = "OutputUnavailable", Kind.PLATFORM, Trait.UNCOUNTED
    # Ready
    SERVING = "Serving", Kind.INFORMATIONAL
    ROLLED_BACK = "RolledBack", Kind.INFORMATIONAL
    UNCHANGED = "Unchanged", Kind.INFORMATIONAL
    SUSPENDED = "Suspended", Kind.INFORMATIONAL
    CORRECTION_REQUIRED = "CorrectionRequired", Kind.INFORMATIONAL
    REVISION_IN_PROGRESS = "RevisionInProgress", Kind.INFORMATIONAL
    DELETING = "Deleting", Kind.INFORMATIONAL
    SPEC_INVALID = "SpecInvalid", Kind.PERMANENT
    # Any condition
    KUBERNETES_UNAVAILABLE = "KubernetesUnavailable", Kind.PLATFORM, Trait.ADAPTER
    KUBERNETES_REQUEST_REJECTED = "KubernetesRequestRejected", Kind.PLATFORM, Trait.ADAPTER
    OBJECT_TOO_LARGE = "ObjectTooLarge", Kind.PLATFORM, Trait.ADAPTER
    ADMISSION_UNAVAILABLE = "AdmissionUnavailable", Kind.PLATFORM, Trait.ADAPTER
    ADMISSION_DENIED = "AdmissionDenied", Kind.PLATFORM, Trait.ADAPTER
    QUOTA_EXCEEDED = "QuotaExceeded", Kind.PLATFORM, Trait.ADAPTER
    KUBEFLOW_UNAVAILABLE = "KubeflowUnavailable", Kind.PLATFORM, Trait.ADAPTER
    KUBEFLOW_REQUEST_REJECTED = "KubeflowRequestRejected", Kind.PLATFORM, Trait.ADAPTER
    TOO_MANY_RUNS = "TooManyRuns", Kind.PLATFORM, Trait.ADAPTER
    MLFLOW_UNAVAILABLE = "MlflowUnavailable", Kind.PLATFORM, Trait.ADAPTER
    MLFLOW_REQUEST_REJECTED = "MlflowRequestRejected", Kind.PLATFORM, Trait.ADAPTER
    MLFLOW_UNAUTHORIZED = "MlflowUnauthorized", Kind.PLATFORM, Trait.ADAPTER
    MLFLOW_HOST_REJECTED = "MlflowHostRejected", Kind.PLATFORM, Trait.ADAPTER
    MLFLOW_UNTRUSTED = "MlflowUntrusted", Kind.PLATFORM, Trait.ADAPTER
    # Events
    REVISION_STARTED = "RevisionStarted", Kind.INFORMATIONAL
    REQUEST_REJECTED = "RequestRejected", Kind.PERMANENT
    DATA_CHECK_FAILED = "DataCheckFailed", Kind.PASSING
    DATA_WARNING = "DataWarning", Kind.INFORMATIONAL
    COPIED_RUN_IGNORED = "CopiedRunIgnored", Kind.INFORMATIONAL
    DRIFT_CORRECTED = "DriftCorrected", Kind.INFORMATIONAL
    COPIES_UPDATED = "CopiesUpdated", Kind.INFORMATIONAL
    MODELS_RETAINED = "ModelsRetained", Kind.INFORMATIONAL
    RESOURCES_LEFT_BEHIND = "ResourcesLeftBehind", Kind.PERMANENT
    # END GENERATED: reasons


def having(trait: Trait) -> frozenset[Reason]:
    """List the reasons that have a trait."""
    return frozenset(reason for reason in Reason if trait in reason.traits)


UNCOUNTED = having(Trait.UNCOUNTED)
UNSTARTABLE = having(Trait.UNSTARTABLE)
PLATFORM_FAILURES = having(Trait.ADAPTER)
WITHOUT_EXAMPLE = having(Trait.NO_EXAMPLE)
