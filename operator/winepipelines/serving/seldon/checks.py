"""The doctor's checks of Seldon: its kind, its controller and webhooks, and the Secret that models are copied with."""

from winecontract.reasons import Reason
from winepipelines.api.errors import PlatformError
from winepipelines.api.naming import MANAGED_BY, MANAGED_BY_LABEL
from winepipelines.doctor.check import BackendChecks, Check
from winepipelines.doctor.checks import kubernetes, mlflow
from winepipelines.doctor.checks.kinds import absence, kind_is_served
from winepipelines.doctor.finding import Finding, failed
from winepipelines.doctor.observations import AdmissionView, ControllerView, Survey
from winepipelines.doctor.probing import Prober
from winepipelines.platform.kubernetes import Body
from winepipelines.serving import checks
from winepipelines.serving.seldon.naming import COPY_SECRET, GRAPH, KIND, PREDICTOR
from winepipelines.serving.seldon.settings import SeldonSettings
from winepipelines.serving.seldon.source import KNOWN, PREFIX, RcloneSecret
from winepipelines.serving.storekeys import candidates

LABEL = "control-plane=seldon-controller-manager"  # in Seldon's own manifests and chart
TYPE, ENDPOINT = f"{PREFIX}TYPE", f"{PREFIX}ENDPOINT"


async def observe_controllers(prober: Prober) -> tuple[ControllerView, ...] | None:
    """List the Deployments of Seldon's controller."""
    return await checks.observe_controllers(prober, LABEL)


async def observe_admission(prober: Prober) -> AdmissionView | None:
    """Create a SeldonDeployment as a dry run."""
    namespace = checks.dry_run_namespace(prober.settings)
    return await checks.observe_admission(prober, KIND, namespace, _example(namespace, prober.settings.server_image))


def seldondeployments_are_served(survey: Survey) -> Finding:
    """The API server serves SeldonDeployments."""
    remedy = f"Install {KIND.product} (1.17.1 is the last release under Apache-2.0)"
    return kind_is_served(survey, KIND, failed(Reason.SERVING_BACKEND_MISSING, absence(survey, KIND), remedy))


def seldon_controller_runs(survey: Survey) -> Finding:
    """Its Deployment has a ready pod: without one nothing is rolled out, and webhooks reject what is applied."""
    return checks.controller_runs(survey.observed(observe_controllers), LABEL, "Seldon")


def seldon_webhooks_answer(survey: Survey) -> Finding:
    """A dry run of a SeldonDeployment passes admission: the webhooks' Service has endpoints, and their certificate is trusted."""
    return checks.admission_passes(survey.observed(observe_admission), KIND.kind, "seldon")


def source_secret_is_complete(survey: Survey) -> Finding:
    """The source Secret exists and has what rclone needs."""
    name = checks.source_name(survey, _source(survey))
    create = f"--from-env-file=<file with {PREFIX}… lines>, or set WINE_SOURCE_SECRET to another"
    if problem := checks.secret_problem(survey, name, create):
        return problem
    assert not isinstance(survey.source, PlatformError), "it could be read"
    if survey.source.public.get(TYPE, "s3") != "s3":
        where = f"The Secret {name} in namespace {survey.settings.platform_namespace}"
        return failed(Reason.SOURCE_SECRET_INCOMPLETE, f"{where} has another {TYPE} than s3", f"{TYPE}=s3")
    return checks.store_address_is_valid(survey, name, ENDPOINT)


def seldon_can_read_artifacts(survey: Survey) -> Finding:
    """The source Secret's credentials may list and read the artifacts."""
    return checks.artifacts_are_readable(survey, _source(survey), "Seldon")


API, SERVED = (kubernetes.kubernetes_answers,), (seldondeployments_are_served,)
CHECKS = BackendChecks(
    platform=(
        Check(seldondeployments_are_served, needs=API),
        Check(seldon_controller_runs, needs=SERVED, observe=observe_controllers),
        Check(seldon_webhooks_answer, needs=SERVED, observe=observe_admission),
        Check(source_secret_is_complete, needs=API),
    ),
    artifacts=(Check(seldon_can_read_artifacts, needs=(source_secret_is_complete, mlflow.artifacts_are_in_the_store)),),
)


def _own(survey: Survey) -> SeldonSettings:
    own = survey.backend_settings
    assert isinstance(own, SeldonSettings), "the survey is of this backend"
    return own


def _source(survey: Survey) -> RcloneSecret:
    return RcloneSecret(candidates(_own(survey).source_secret, KNOWN), survey.settings.s3_endpoint_url)


def _example(namespace: str, image: str) -> Body:
    """Build a SeldonDeployment like those that the operator applies."""
    graph = {"name": GRAPH, "type": "MODEL", "modelUri": "s3://wine-operator/doctor", "envSecretRefName": COPY_SECRET}
    part = {"spec": {"containers": [{"name": GRAPH, "image": image}]}}
    return {
        "apiVersion": f"{KIND.group}/{KIND.version}",
        "kind": KIND.kind,
        "metadata": {"name": checks.DRY_RUN_NAME, "namespace": namespace, "labels": {MANAGED_BY_LABEL: MANAGED_BY}},
        "spec": {
            "protocol": "seldon",
            "predictors": [{"name": PREDICTOR, "replicas": 1, "graph": graph, "componentSpecs": [part]}],
        },
    }
