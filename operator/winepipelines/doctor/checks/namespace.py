"""A user's namespace: would a WinePipeline work in it?"""

from urllib.parse import urlsplit

from winecontract.signatures import SECRET as KEY_SECRET
from winepipelines.doctor.checks.kubernetes import judge_rights
from winepipelines.doctor.checks.systems import does_not_answer
from winepipelines.doctor.finding import Finding, Result, failed, ok, skipped, warning
from winepipelines.doctor.observations import PROFILE_ACCOUNT, SHARED_ACCOUNT, NamespaceView, Survey, answered
from winepipelines.doctor.rights import PIPELINES
from winepipelines.lifecycle.gate import RETRAIN
from winepipelines.resource.errors import PlatformError, Refused
from winepipelines.resource.naming import ARTIFACT_SECRET
from winepipelines.resource.observed import Presence, SecretState

PROFILE_LABEL, PROFILE = "app.kubernetes.io/part-of", "kubeflow-profile"
NAMED = 10  # WinePipelines that a finding names
SHORT_NAMES = {"SeldonDeployment": "sdep"}


def namespace_is_a_profile(survey: Survey) -> Finding:
    """It has the label by which Kubeflow's webhook knows a profile."""
    view = _view(survey)
    look = f"kubectl get namespace {view.name} --show-labels"
    if view.labels is None:
        return skipped("whoever runs this may not look at namespaces: an administrator may", look)
    if isinstance(view.labels, Refused):
        mend = f"create a Profile {view.name}, or: kubectl create namespace {view.name}"
        return failed("NamespaceMissing", f"there is no namespace {view.name}", mend)
    if isinstance(view.labels, PlatformError):
        return skipped(view.labels.message, look)
    if view.labels.get(PROFILE_LABEL) != PROFILE:
        says = f"{view.name} lacks the label {PROFILE_LABEL}={PROFILE}: PodDefaults change no pod in it"
        return failed("NotAProfile", says, f"kubectl label namespace {view.name} {PROFILE_LABEL}={PROFILE}")
    return ok(f"{view.name} is labelled as a profile")


def service_account_is_there(survey: Survey) -> Finding:
    """Steps run under it."""
    view, name = _view(survey), service_account(survey)
    look = f"kubectl -n {view.of_runs} get serviceaccount {name}"
    if view.service_account_exists is None:
        return skipped("whoever runs this may not look at service accounts: an administrator may", look)
    if isinstance(view.service_account_exists, PlatformError):
        return skipped(view.service_account_exists.message, look)
    if not view.service_account_exists:
        says = f"{view.of_runs} has no service account {name}, under which steps run"
        if isinstance(survey.kubeflow, PlatformError):
            return warning(f"{says} in multi-user mode", look)
        if not survey.kubeflow.multi_user:
            return warning(f"{says} unless Kubeflow Pipelines names another by default", look)
        return failed(
            "ServiceAccountMissing", says, "Kubeflow's profile controller makes it; or name another in WINE_KFP_SERVICE_ACCOUNT"
        )
    return ok(name if view.of_runs == view.name else f"{name} in {view.of_runs}, where all runs are in single-user mode")


def service_account(survey: Survey) -> str:
    """Name the account that runs get."""
    shared = not isinstance(survey.kubeflow, PlatformError) and not survey.kubeflow.multi_user
    return survey.settings.kfp_service_account or (SHARED_ACCOUNT if shared else PROFILE_ACCOUNT)


def rights_reach_the_namespace(survey: Survey) -> list[Finding] | Finding:
    """What is missing there of the operator's rights, each on a line of its own."""
    rights = _view(survey).rights
    if isinstance(rights, PlatformError):
        return skipped(f"rights could not be asked for: {rights.message}", f"kubectl auth can-i --list -n {_view(survey).name}")
    multi_user = not isinstance(survey.kubeflow, PlatformError) and survey.kubeflow.multi_user
    asked = [right for right in rights.missing if multi_user or right.group != PIPELINES]
    troubles = [finding for finding in judge_rights(rights, asked) if finding.result is not Result.OK]
    return troubles or ok(f"{rights.account} has them all in {_view(survey).name}")


def kubeflow_runs_may_start(survey: Survey) -> Finding:
    """Kubeflow Pipelines answers about the namespace."""
    view = _view(survey)
    if view.access is None:
        return ok(f"a list of experiments in {view.name} is answered")
    if answered(view.access.message) == 403:
        mend = f"a RoleBinding in {view.name} of rights on {PIPELINES}, or the ClusterRoleBinding of deploy/operator/rbac.yaml"
        return failed("KubeflowForbidden", f"Kubeflow Pipelines refuses the operator in namespace {view.name} (403)", mend)
    return failed("KubeflowRefused", view.access.message, "the log of ml-pipeline")


def artifact_secret_is_complete(survey: Survey) -> Finding:
    """The Secret with the object store's keys, in the namespace in which steps run."""
    view = _view(survey)
    return judge_artifacts(view.artifacts, view.of_runs, shared=view.of_runs != view.name)


def shared_artifact_secret_is_complete(survey: Survey) -> Finding:
    """In single-user mode all runs are in one namespace, and reach the object store with one Secret."""
    if survey.shared_artifacts is None:
        return ok("in multi-user mode each namespace has its own: doctor -n <namespace>")
    return judge_artifacts(survey.shared_artifacts, survey.settings.platform_namespace, shared=True)


def judge_artifacts(secret: SecretState | PlatformError, namespace: str, *, shared: bool) -> Finding:
    """Judge the Secret that steps reach the object store with."""
    look = f"kubectl -n {namespace} describe secret {ARTIFACT_SECRET}"
    if isinstance(secret, PlatformError):
        return skipped(f"the Secret {ARTIFACT_SECRET} in {namespace} could not be read: {secret.message}", look)
    if not secret.exists and shared:
        says = f"{namespace} has no Secret {ARTIFACT_SECRET}, which runs need there in single-user mode"
        keys = "--from-literal=accesskey=… --from-literal=secretkey=…"
        return failed("ArtifactSecretMissing", says, f"kubectl -n {namespace} create secret generic {ARTIFACT_SECRET} {keys}")
    if not secret.exists:
        mend = f"Kubeflow's profile controller makes it: is {namespace} a profile? kubectl get profile {namespace}"
        return failed("ArtifactSecretMissing", f"{namespace} has no Secret {ARTIFACT_SECRET}", mend)
    if secret.missing_keys:
        keys = ", ".join(secret.missing_keys)
        says = f"the Secret {ARTIFACT_SECRET} in {namespace} has no value for {keys}"
        return failed("ArtifactSecretIncomplete", says, f"{look}; set {keys}")
    return ok(f"{ARTIFACT_SECRET} in {namespace}")


def steps_can_read_artifacts(survey: Survey) -> Finding:
    """The store knows the keys that steps have. Writing is not tried: a check leaves nothing behind."""
    view, bucket = _view(survey), _view(survey).bucket
    if bucket is None:
        return skipped("nothing shows the artifact root")
    if isinstance(bucket, PlatformError):
        return does_not_answer(survey, "the object store", bucket, "StoreUnreachable", "is WINE_S3_ENDPOINT_URL its address?")
    name = urlsplit(bucket.uri).netloc
    if bucket.code:
        secret = f"the Secret {ARTIFACT_SECRET} of {view.of_runs}"
        says = f"{bucket.endpoint} refuses {bucket.uri} to the keys in {secret} ({bucket.code})"
        return failed("StoreAccessDenied", says, f"keys in that Secret that may list, read and write bucket {name}")
    return ok(f"{bucket.uri} at {bucket.endpoint}; writing is not tried")


def model_key_is_usable(survey: Survey) -> Finding:
    """The key that steps sign models with is there, or the operator makes it."""
    view, settings = _view(survey), survey.settings
    where = f"the Secret {KEY_SECRET} in {view.of_runs}"
    if view.key is None or isinstance(view.key, PlatformError):
        why = view.key.message if view.key is not None else "nobody has looked"
        return skipped(f"{where} could not be read: {why}", f"kubectl -n {view.of_runs} describe secret {KEY_SECRET}")
    if view.key.problem:
        mend = f"kubectl -n {view.of_runs} delete secret {KEY_SECRET}: the operator makes another"
        return failed("ModelKeyInvalid", f"{where} is of no use: {view.key.problem}", mend)
    limited = settings.namespaces and view.of_runs not in settings.namespaces
    if not view.key.exists and limited:
        key = "--from-literal=current=$(openssl rand -hex 32)"
        says = f"{where} does not exist, and the operator may not make it there"
        return failed("ModelKeyMissing", says, f"kubectl -n {view.of_runs} create secret generic {KEY_SECRET} {key}")
    return ok(where if view.key.exists else f"{where} is made before the first run")


def models_are_signed(survey: Survey) -> Finding:
    """No model serves whose files nobody vouches for: those of before records were signed go on serving."""
    view = _view(survey)
    if isinstance(view.unsigned, PlatformError):
        return skipped(f"WinePipelines could not be listed: {view.unsigned.message}", f"kubectl -n {view.name} get winepipelines")
    if not view.unsigned:
        return ok("every model that serves has a signed record")
    more = f" and {len(view.unsigned) - NAMED} more" if len(view.unsigned) > NAMED else ""
    says = f"these WinePipelines serve models without a signed record: {', '.join(view.unsigned[:NAMED])}{more}"
    return warning(says, f"kubectl -n {view.name} annotate --overwrite winepipeline {view.unsigned[0]} {RETRAIN}")


def names_are_free(survey: Survey) -> list[Finding]:
    """Objects that others made under our names are left alone, and are in the way."""
    view = _view(survey)
    found = []
    for item in view.objects:
        if isinstance(item.presence, PlatformError):
            found.append(skipped(f"{item.kind} {item.name}: {item.presence.message}"))
        elif item.presence is Presence.FOREIGN:
            kind = SHORT_NAMES.get(item.kind, item.kind.lower())
            says = f"{item.kind} {item.name} in {view.name} was made by someone else and is left alone"
            mend = f"kubectl -n {view.name} delete {kind} {item.name}"
            found.append(warning(says, mend) if item.kind == "PodDefault" else failed("ForeignObject", says, mend))
    return found or [ok("nobody else has objects under the operator's names")]


def _view(survey: Survey) -> NamespaceView:
    assert survey.namespace is not None, "these checks are run for a namespace"
    return survey.namespace
