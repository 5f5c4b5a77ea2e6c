"""The doctor's checks of KServe: its kinds, its controller and webhooks, and the Secret that models are copied with."""

from winecontract.reasons import Reason
from winepipelines.api.naming import MANAGED_BY, MANAGED_BY_LABEL
from winepipelines.doctor.check import BackendChecks, Check
from winepipelines.doctor.checks import kubernetes, mlflow
from winepipelines.doctor.checks.kinds import absence, kind_is_served
from winepipelines.doctor.finding import Finding, failed
from winepipelines.doctor.observations import AdmissionView, ControllerView, Survey
from winepipelines.doctor.probing import Prober
from winepipelines.platform.kubernetes import Body
from winepipelines.serving import checks
from winepipelines.serving.kserve.naming import COPY_SECRET, KIND, MODEL_FORMAT, RUNTIME
from winepipelines.serving.kserve.settings import KServeSettings
from winepipelines.serving.kserve.source import ENDPOINT, FORMS, StorageSecret

LABEL = "control-plane=kserve-controller-manager"  # in KServe's own manifests and chart


async def observe_controllers(prober: Prober) -> tuple[ControllerView, ...] | None:
    """List the Deployments of KServe's controller."""
    return await checks.observe_controllers(prober, LABEL)


async def observe_admission(prober: Prober) -> AdmissionView | None:
    """Create an InferenceService as a dry run."""
    namespace, own = checks.dry_run_namespace(prober.settings), prober.systems.backend.settings
    assert isinstance(own, KServeSettings), "the backend is KServe"
    return await checks.observe_admission(prober, KIND, namespace, _example(namespace, prober.settings.server_image, own))


def inferenceservices_are_served(survey: Survey) -> Finding:
    """The API server serves InferenceServices."""
    return kind_is_served(
        survey, KIND, failed(Reason.SERVING_BACKEND_MISSING, absence(survey, KIND), f"Install {KIND.product} 0.15 or later")
    )


def kserve_controller_runs(survey: Survey) -> Finding:
    """Its Deployment has a ready pod: without one nothing is rolled out, and webhooks reject what is applied."""
    return checks.controller_runs(survey.observed(observe_controllers), LABEL, KIND.product)


def kserve_webhooks_answer(survey: Survey) -> Finding:
    """A dry run of an InferenceService passes admission: the webhooks have endpoints, and their certificate is trusted."""
    return checks.admission_passes(survey.observed(observe_admission), KIND.kind, "serving.kserve.io")


def storage_secret_is_complete(survey: Survey) -> Finding:
    """The source Secret exists and has the two keys of the object store, and the address in it is valid."""
    name = _own(survey).kserve_source_secret
    create = f"{' '.join(f'--from-literal={key}=…' for key in FORMS[0])}, or set WINE_KSERVE_SOURCE_SECRET to another"
    return checks.secret_problem(survey, name, create) or checks.store_address_is_valid(survey, name, ENDPOINT)


def kserve_can_read_artifacts(survey: Survey) -> Finding:
    """The source Secret's credentials may list and read the artifacts."""
    source = StorageSecret(_own(survey).kserve_source_secret, survey.settings.s3_endpoint_url)
    return checks.artifacts_are_readable(survey, source, KIND.product)


API, SERVED = (kubernetes.kubernetes_answers,), (inferenceservices_are_served,)
CHECKS = BackendChecks(
    platform=(
        Check(inferenceservices_are_served, needs=API),
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


def _example(namespace: str, image: str, own: KServeSettings) -> Body:
    """Build an InferenceService like those that the operator applies."""
    annotations = {"deploymentMode": own.deployment_mode, "autoscalerClass": "none", "storageSecretName": COPY_SECRET}
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
