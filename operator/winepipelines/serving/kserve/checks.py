"""The doctor's checks of KServe: its kinds, its controller and webhooks, and the Secret that models are copied with."""

from winecontract.reasons import Reason
from winepipelines.api.errors import PlatformError
from winepipelines.api.naming import MANAGED_BY, MANAGED_BY_LABEL
from winepipelines.doctor.check import BackendChecks, Check
from winepipelines.doctor.checks import kubernetes, mlflow
from winepipelines.doctor.checks.kinds import absence, kind_is_served
from winepipelines.doctor.finding import Finding, failed, ok, skipped, warning
from winepipelines.doctor.observations import AdmissionView, ControllerView, Survey
from winepipelines.doctor.probing import Prober
from winepipelines.platform.kubernetes import Body
from winepipelines.serving import checks
from winepipelines.serving.kserve.modes import Mode, name_of
from winepipelines.serving.kserve.naming import COPY_SECRET, KIND, MODEL_FORMAT, RUNTIME
from winepipelines.serving.kserve.releases import Detection, Releases
from winepipelines.serving.kserve.settings import KServeSettings
from winepipelines.serving.kserve.source import KNOWN, StorageSecret
from winepipelines.serving.storekeys import ENDPOINT, KUBEFLOW, candidates

KNATIVE = "serving.knative.dev"
LABEL = "control-plane=kserve-controller-manager"  # in KServe's own manifests and chart


async def observe_controllers(prober: Prober) -> tuple[ControllerView, ...] | None:
    """List the Deployments of KServe's controller."""
    return await checks.observe_controllers(prober, LABEL)


async def observe_admission(prober: Prober) -> AdmissionView | None:
    """Create an InferenceService as a dry run."""
    namespace, own = checks.dry_run_namespace(prober.settings), prober.systems.backend.settings
    assert isinstance(own, KServeSettings), "the backend is KServe"
    releases = await observe_releases(prober) if own.minor is None else Releases(own.minor)
    mode = name_of(own.mode, None, None if releases is None else releases.first)
    return await checks.observe_admission(prober, KIND, namespace, _example(namespace, prober.settings.server_image, own, mode))


async def observe_releases(prober: Prober) -> Releases | None:
    """Read the releases of KServe that the CRD can be of."""
    return await Detection().releases(prober.kubernetes)


async def observe_knative(prober: Prober) -> tuple[str, ...]:
    """List the versions in which the API server serves Knative's Services."""
    return await prober.cluster.versions(KNATIVE)


def inferenceservices_are_served(survey: Survey) -> Finding:
    """The API server serves InferenceServices."""
    return kind_is_served(
        survey, KIND, failed(Reason.SERVING_BACKEND_MISSING, absence(survey, KIND), f"Install {KIND.product} 0.15 or later")
    )


def kserve_release_is_known(survey: Survey) -> Finding:
    """The CRD tells the release, or a setting does, and they agree: the name of the deployment mode depends on it."""
    releases, version = survey.observed(observe_releases), _own(survey).kserve_version
    setting = KServeSettings.named("WINE_KSERVE_VERSION")
    command = f"kubectl get deployments -A -l {LABEL} -o wide"
    if isinstance(releases, PlatformError):
        return skipped(f"The CRD's schema could not be read: {releases.message}", command)
    minor = _own(survey).minor
    if releases is None and minor is None:
        message = f"The CRD of {KIND.kind}s has no schema, so that the release is unknown: 0.16 or later is assumed"
        return warning(message, f"Set {setting} to the release that this shows: {command}")
    if releases is not None and minor is not None and minor not in releases:
        message = f"{setting} is {version}, and the CRD is that of {releases}"
        return failed(Reason.DEPLOYMENT_REJECTED, message, f"Unset {setting}: the operator then reads the release from the CRD")
    return ok(f"KServe {releases}, by its CRD" if minor is None else f"KServe {version}, by {setting}")


def knative_is_installed(survey: Survey) -> Finding:
    """The API server serves Knative's Services, if new InferenceServices use Knative mode."""
    versions, mode = survey.observed(observe_knative), _own(survey).mode
    if mode is not Mode.KNATIVE:
        return ok(f"Not needed: new {KIND.kind}s use {mode} mode")
    if isinstance(versions, PlatformError):
        return skipped(
            f"The API server's groups could not be read: {versions.message}", f"kubectl api-resources --api-group={KNATIVE}"
        )
    if not versions:
        setting = KServeSettings.named("WINE_KSERVE_MODE")
        message = f"The API server does not serve {KNATIVE}: Knative Serving is not installed"
        return failed(Reason.SERVING_BACKEND_MISSING, message, f"Install Knative Serving, or set {setting} to Standard")
    return ok(f"The API server serves {KNATIVE} in {', '.join(versions)}")


def kserve_controller_runs(survey: Survey) -> Finding:
    """Its Deployment has a ready pod: without one nothing is rolled out, and webhooks reject what is applied."""
    return checks.controller_runs(survey.observed(observe_controllers), LABEL, KIND.product)


def kserve_webhooks_answer(survey: Survey) -> Finding:
    """A dry run of an InferenceService passes admission: the webhooks have endpoints, and their certificate is trusted."""
    return checks.admission_passes(survey.observed(observe_admission), KIND.kind, "serving.kserve.io")


def storage_secret_is_complete(survey: Survey) -> Finding:
    """The source Secret exists and has the two keys of the object store, and the address in it is valid."""
    name = checks.source_name(survey, _source(survey))
    create = f"{' '.join(f'--from-literal={key}=…' for key in KUBEFLOW.keys)}, or set WINE_KSERVE_SOURCE_SECRET to another"
    return checks.secret_problem(survey, name, create) or checks.store_address_is_valid(survey, name, ENDPOINT)


def kserve_can_read_artifacts(survey: Survey) -> Finding:
    """The source Secret's credentials may list and read the artifacts."""
    return checks.artifacts_are_readable(survey, _source(survey), KIND.product)


API, SERVED = (kubernetes.kubernetes_answers,), (inferenceservices_are_served,)
CHECKS = BackendChecks(
    platform=(
        Check(inferenceservices_are_served, needs=API),
        Check(kserve_release_is_known, needs=SERVED, observe=observe_releases),
        Check(knative_is_installed, needs=SERVED, observe=observe_knative),
        Check(kserve_controller_runs, needs=SERVED, observe=observe_controllers),
        Check(kserve_webhooks_answer, needs=SERVED, observe=observe_admission),
        Check(storage_secret_is_complete, needs=API),
    ),
    artifacts=(Check(kserve_can_read_artifacts, needs=(storage_secret_is_complete, mlflow.artifacts_are_in_the_store)),),
)


def _own(survey: Survey) -> KServeSettings:
    own = survey.backend_settings
    assert isinstance(own, KServeSettings), "the survey is of this backend"
    return own


def _source(survey: Survey) -> StorageSecret:
    return StorageSecret(candidates(_own(survey).kserve_source_secret, KNOWN), survey.settings.s3_endpoint_url)


def _example(namespace: str, image: str, own: KServeSettings, mode: str) -> Body:
    """Build an InferenceService like those that the operator applies."""
    annotations = {"deploymentMode": mode, "autoscalerClass": "none", "storageSecretName": COPY_SECRET}
    model = {
        "modelFormat": {"name": MODEL_FORMAT},
        "runtime": own.kserve_runtime or RUNTIME,
        "storageUri": "s3://wine-operator/doctor/",
        "image": image,
    }
    return {
        "apiVersion": f"{KIND.group}/{KIND.version}",
        "kind": KIND.kind,
        "metadata": {
            "name": checks.DRY_RUN_NAME,
            "namespace": namespace,
            "labels": {MANAGED_BY_LABEL: MANAGED_BY},
            "annotations": {f"{KIND.group}/{name}": value for name, value in annotations.items()},
        },
        "spec": {"predictor": {"minReplicas": 1, "model": model}},
    }
