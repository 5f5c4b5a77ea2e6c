"""A user's namespace: it has what a WinePipeline needs."""

from winecontract.reasons import Reason
from winecontract.signatures import SECRET as KEY_SECRET
from winepipelines.api.errors import PlatformError, Refused
from winepipelines.api.naming import ARTIFACT_SECRET
from winepipelines.api.observed import Presence, SecretState
from winepipelines.api.pipeline import RETRAIN
from winepipelines.doctor.checks import poddefaults
from winepipelines.doctor.checks.kubernetes import evaluate_rights
from winepipelines.doctor.checks.store import access_problem
from winepipelines.doctor.checks.systems import does_not_answer
from winepipelines.doctor.finding import Finding, Result, failed, ok, skipped, warning
from winepipelines.doctor.observations import PROFILE_ACCOUNT, SHARED_ACCOUNT, BucketView, NamespaceView, Survey
from winepipelines.doctor.rights import PIPELINES
from winepipelines.settings import Settings

PROFILE_LABEL, PROFILE = "app.kubernetes.io/part-of", "kubeflow-profile"
NAMED = 10  # WinePipelines that a finding names


def namespace_is_a_profile(survey: Survey) -> Finding:
    """The namespace has the label by which Kubeflow's webhook recognizes a profile."""
    view = _view(survey)
    command = f"kubectl get namespace {view.name} --show-labels"
    if view.labels is None:
        return skipped("This account may not read namespaces: ask an administrator", command)
    if isinstance(view.labels, Refused):
        remedy = f"Create a Profile {view.name}, or: kubectl create namespace {view.name}"
        return failed(Reason.NAMESPACE_MISSING, f"The namespace {view.name} does not exist", remedy)
    if isinstance(view.labels, PlatformError):
        return skipped(view.labels.message, command)
    if view.labels.get(PROFILE_LABEL) != PROFILE:
        message = f"{view.name} lacks the label {PROFILE_LABEL}={PROFILE}: PodDefaults change no pod in it"
        return failed(Reason.NOT_A_PROFILE, message, f"kubectl label namespace {view.name} {PROFILE_LABEL}={PROFILE}")
    return ok(f"{view.name} is labelled as a profile")


def service_account_exists(survey: Survey) -> Finding:
    """The service account of steps exists."""
    view, name = _view(survey), service_account(survey)
    command = f"kubectl -n {view.of_runs} get serviceaccount {name}"
    if view.service_account_exists is None:
        return skipped("This account may not read service accounts: ask an administrator", command)
    if isinstance(view.service_account_exists, PlatformError):
        return skipped(view.service_account_exists.message, command)
    if not view.service_account_exists:
        message = f"{view.of_runs} has no service account {name}, under which steps run"
        if isinstance(survey.kubeflow, PlatformError):
            return warning(f"{message} in multi-user mode", command)
        if not survey.kubeflow.multi_user:
            return warning(f"{message}, unless Kubeflow Pipelines has another default", command)
        return failed(
            Reason.SERVICE_ACCOUNT_MISSING,
            message,
            "Kubeflow's profile controller creates it; or set WINE_KFP_SERVICE_ACCOUNT to another",
        )
    return ok(name if view.of_runs == view.name else f"{name} in {view.of_runs}, where all runs are in single-user mode")


def service_account(survey: Survey) -> str:
    """Return the service account of runs."""
    shared = not isinstance(survey.kubeflow, PlatformError) and not survey.kubeflow.multi_user
    return survey.settings.kfp_service_account or (SHARED_ACCOUNT if shared else PROFILE_ACCOUNT)


def rights_apply_in_the_namespace(survey: Survey) -> list[Finding] | Finding:
    """The operator has its rights in the namespace: one finding for each that is missing."""
    rights = _view(survey).rights
    if isinstance(rights, PlatformError):
        return skipped(f"Rights could not be reviewed: {rights.message}", f"kubectl auth can-i --list -n {_view(survey).name}")
    multi_user = not isinstance(survey.kubeflow, PlatformError) and survey.kubeflow.multi_user
    asked = [right for right in rights.missing if multi_user or right.group != PIPELINES]
    problems = [finding for finding in evaluate_rights(rights, asked) if finding.result is not Result.OK]
    return problems or ok(f"{rights.account} has all rights in {_view(survey).name}")


def kubeflow_authorizes_runs(survey: Survey) -> Finding:
    """Kubeflow Pipelines authorizes requests for the namespace."""
    view = _view(survey)
    if view.access is None:
        return ok(f"Experiments of {view.name} can be listed")
    if view.access.status == 403:
        remedy = f"Create a RoleBinding in {view.name} for rights on {PIPELINES}, or apply deploy/operator/rbac.yaml"
        return failed(
            Reason.KUBEFLOW_FORBIDDEN, f"Kubeflow Pipelines refuses the operator in namespace {view.name} (403)", remedy
        )
    return failed(Reason.KUBEFLOW_REQUEST_REJECTED, view.access.message, "Check the log of ml-pipeline")


def artifact_secret_is_complete(survey: Survey) -> Finding:
    """The namespace of the steps has the Secret with the object store's keys."""
    view = _view(survey)
    return evaluate_artifacts(view.artifacts, view.of_runs, shared=view.of_runs != view.name)


def shared_artifact_secret_is_complete(survey: Survey) -> Finding:
    """In single-user mode all runs are in one namespace and use one Secret for the object store."""
    if survey.shared_artifacts is None:
        return ok("In multi-user mode each namespace has its own: doctor -n <namespace>")
    return evaluate_artifacts(survey.shared_artifacts, survey.settings.platform_namespace, shared=True)


def evaluate_artifacts(secret: SecretState | PlatformError, namespace: str, *, shared: bool) -> Finding:
    """Evaluate the Secret that steps use for the object store."""
    command = f"kubectl -n {namespace} describe secret {ARTIFACT_SECRET}"
    if isinstance(secret, PlatformError):
        return skipped(f"The Secret {ARTIFACT_SECRET} in {namespace} could not be read: {secret.message}", command)
    if not secret.exists and shared:
        message = f"{namespace} has no Secret {ARTIFACT_SECRET}, which runs need there in single-user mode"
        keys = "--from-literal=accesskey=… --from-literal=secretkey=…"
        return failed(
            Reason.ARTIFACT_SECRET_MISSING, message, f"kubectl -n {namespace} create secret generic {ARTIFACT_SECRET} {keys}"
        )
    if not secret.exists:
        remedy = f"Kubeflow's profile controller creates it in profiles: kubectl get profile {namespace}"
        return failed(Reason.ARTIFACT_SECRET_MISSING, f"{namespace} has no Secret {ARTIFACT_SECRET}", remedy)
    if secret.missing_keys:
        keys = ", ".join(secret.missing_keys)
        message = f"The Secret {ARTIFACT_SECRET} in {namespace} has no value for {keys}"
        return failed(Reason.ARTIFACT_SECRET_INCOMPLETE, message, f"{command}; set {keys}")
    return ok(f"{ARTIFACT_SECRET} in {namespace}")


def steps_can_read_and_write_artifacts(survey: Survey) -> Finding:
    """The steps' keys may list, read and write MLflow's artifacts, unless MLflow's server does that for them."""
    view, destination = _view(survey).bucket, survey.settings.artifacts_destination
    if destination and survey.artifact_address.startswith(f"{destination}/"):
        return ok(f"Not needed: MLflow's server keeps artifacts at {destination} with keys of its own")
    other = "let MLflow keep its artifacts where they may: --default-artifact-root, such as s3://mlpipeline/shared/mlflow"
    return _evaluate_store(survey, view, other)


def steps_can_write_outputs(survey: Survey) -> Finding:
    """The steps' keys may read and write where predictions without an output of their own write. Others are not affected."""
    other = f"set {Settings.named('WINE_PREDICTION_OUTPUT_FOLDER')} to a folder that they may use"
    found = _evaluate_store(survey, _view(survey).outputs, other)
    if found.reason not in (Reason.OBJECT_STORE_ACCESS_DENIED, Reason.BUCKET_MISSING):
        return found
    return warning(f"{found.message}: WinePredictions need spec.output", found.remedy)


def _evaluate_store(survey: Survey, view: BucketView | PlatformError | None, otherwise: str) -> Finding:
    """Evaluate what the steps' keys may do below an address."""
    if view is None:
        return skipped("The address or the keys are unknown")
    if isinstance(view, PlatformError):
        return does_not_answer(survey, "the object store", view, Reason.OBJECT_STORE_UNREACHABLE, "Check WINE_S3_ENDPOINT_URL")
    secret = f"the Secret {ARTIFACT_SECRET} in namespace {_view(survey).of_runs}"
    return access_problem(view, secret, otherwise) or ok(f"{view.uri} at {view.endpoint}")


def model_key_is_usable(survey: Survey) -> Finding:
    """The key that steps sign models with is valid, or the operator creates it."""
    view, settings = _view(survey), survey.settings
    where = f"The Secret {KEY_SECRET} in {view.of_runs}"
    if view.key is None or isinstance(view.key, PlatformError):
        why = view.key.message if view.key is not None else "it was not observed"
        return skipped(f"{where} could not be read: {why}", f"kubectl -n {view.of_runs} describe secret {KEY_SECRET}")
    if view.key.problem:
        remedy = f"kubectl -n {view.of_runs} delete secret {KEY_SECRET}: the operator creates another"
        return failed(Reason.MODEL_KEY_INVALID, f"{where} is invalid: {view.key.problem}", remedy)
    limited = settings.namespaces and view.of_runs not in settings.namespaces
    if not view.key.exists and limited:
        key = "--from-literal=current=$(openssl rand -hex 32)"
        message = f"{where} does not exist, and the operator may not create it there"
        return failed(Reason.MODEL_KEY_MISSING, message, f"kubectl -n {view.of_runs} create secret generic {KEY_SECRET} {key}")
    return ok(where if view.key.exists else f"{where} is created before the first run")


def models_are_signed(survey: Survey) -> Finding:
    """Every served model has a signed record. Models from before records were signed keep serving."""
    view = _view(survey)
    if isinstance(view.unsigned, PlatformError):
        return skipped(f"WinePipelines could not be listed: {view.unsigned.message}", f"kubectl -n {view.name} get winepipelines")
    if not view.unsigned:
        return ok("Every served model has a signed record")
    more = f" and {len(view.unsigned) - NAMED} more" if len(view.unsigned) > NAMED else ""
    message = f"These WinePipelines serve models without a signed record: {', '.join(view.unsigned[:NAMED])}{more}"
    return warning(message, f"kubectl -n {view.name} annotate --overwrite winepipeline {view.unsigned[0]} {RETRAIN}")


def names_are_available(survey: Survey) -> list[Finding]:
    """No unmanaged object has a name that the operator needs. The operator does not change such objects."""
    view = _view(survey)
    found = []
    compared = survey.observed(poddefaults.observe_pod_defaults)
    elsewhere = () if isinstance(compared, PlatformError) else compared.rivals  # another check reports them
    for item in view.objects:
        if item.kind == "PodDefault" and item.name in elsewhere:
            continue
        if isinstance(item.presence, PlatformError):
            found.append(skipped(f"{item.kind} {item.name}: {item.presence.message}"))
        elif item.presence is Presence.NOT_MANAGED:
            kind = item.resource or item.kind.lower()
            message = (
                f"{item.kind} {item.name} in {view.name} exists but is not managed by this operator, which does not change it"
            )
            remedy = f"kubectl -n {view.name} delete {kind} {item.name}"
            found.append(warning(message, remedy) if item.kind == "PodDefault" else failed(Reason.NOT_MANAGED, message, remedy))
    return found or [ok("No unmanaged object has a name that the operator needs")]


def _view(survey: Survey) -> NamespaceView:
    assert survey.namespace is not None, "these checks are run for a namespace"
    return survey.namespace
