"""Which release of KServe a cluster has, by the schema of its CRD as the API server publishes it."""

from dataclasses import replace
from typing import Any

import pytest
from support.backends import kserve_backend
from support.kserve import PIPELINE, SETTINGS, Cluster
from support.rollouts import one
from support.survey import GOOD

from winecontract.reasons import Reason
from winepipelines.api.errors import Refused
from winepipelines.doctor.finding import Finding, Result
from winepipelines.serving.kserve.checks import CHECKS, knative_is_installed, kserve_release_is_known
from winepipelines.serving.kserve.live import SERVICES
from winepipelines.serving.kserve.releases import Detection, Releases, releases_of
from winepipelines.serving.kserve.settings import KServeSettings

OBJECT = {"type": "object"}
PREDICTOR = {"minReplicas": {"type": "integer"}}
SCHEMAS: dict[str, Any] = {
    "0.15": {"predictor": {"properties": PREDICTOR}},
    "0.16 to 0.19": {"predictor": {"properties": {**PREDICTOR, "storageUris": OBJECT}}},
    "0.20 or later": {"predictor": {"properties": {**PREDICTOR, "storageUris": OBJECT}}, "canary": OBJECT},
    "None": {},
}


def document(spec: dict[str, Any]) -> dict[str, Any]:
    """Build an OpenAPI document as the API server publishes it for one version of a group."""
    others = {"io.kserve.serving.v1beta1.InferenceServiceList": {"properties": {"items": OBJECT}}}
    service = {"properties": {"metadata": OBJECT, "spec": {"properties": spec}}}
    return {"components": {"schemas": {**others, "io.kserve.serving.v1beta1.InferenceService": service}}}


class Published:
    """An API server that publishes a schema; `reads` are the paths that were read."""

    def __init__(self, spec: dict[str, Any], version: str = "1") -> None:
        self.spec, self.version = spec, version
        self.reads: list[str] = []

    async def ask(self, _: str, path: str) -> dict[str, Any] | None:
        self.reads.append(path)
        group = "apis/serving.kserve.io/v1beta1"
        return {"paths": {group: {"serverRelativeURL": f"/openapi/v3/{group}?hash={self.version}"}, "api/v1": {}}}

    async def open(self, path: str, _: str) -> str:
        self.reads.append(path)
        return path

    async def parsed(self, _: str, __: int, keep: Any, ___: int) -> dict[str, Any]:
        def kept(value: Any) -> Any:
            return keep({name: kept(one) for name, one in value.items()}) if isinstance(value, dict) else value

        found: dict[str, Any] = kept(document(self.spec))
        return found


def detect(server: Any, detection: Detection | None = None) -> Any:
    return (detection or Detection()).releases(server)


@pytest.mark.parametrize("releases", list(SCHEMAS))
async def test_fields_of_the_crd_tell_the_release(releases: str) -> None:
    assert str(releases_of(document(SCHEMAS[releases]))) == releases
    assert str(await detect(Published(SCHEMAS[releases]))) == releases


async def test_release_is_unknown_when_kserve_is_not_installed() -> None:
    assert releases_of({}) is None

    class Without(Published):
        async def ask(self, _: str, path: str) -> dict[str, Any] | None:
            return {"paths": {"api/v1": {}}}

    assert await detect(Without({})) is None


async def test_release_is_unknown_when_discovery_is_forbidden() -> None:
    class Forbidden(Published):
        async def ask(self, _: str, path: str) -> dict[str, Any] | None:
            raise Refused(Reason.KUBERNETES_REQUEST_REJECTED, "403")

    assert await detect(Forbidden(SCHEMAS["0.15"])) is None


async def test_schema_is_read_again_only_when_it_has_changed() -> None:
    server, detection = Published(SCHEMAS["0.15"]), Detection()
    assert str(await detect(server, detection)) == "0.15"
    assert str(await detect(server, detection)) == "0.15"
    assert len([path for path in server.reads if path.endswith("v1beta1")]) == 1
    server.spec, server.version = SCHEMAS["0.20 or later"], "2"
    assert str(await detect(server, detection)) == "0.20 or later"


def test_releases_contain_their_minor_versions() -> None:
    assert 15 in Releases(15, 15)
    assert 16 not in Releases(15, 15)
    assert 21 in Releases(20)


@pytest.mark.parametrize(("releases", "mode"), [("0.15", "RawDeployment"), ("0.16 to 0.19", "Standard"), ("None", "Standard")])
async def test_new_service_has_the_name_of_the_mode_that_the_release_knows(releases: str, mode: str) -> None:
    cluster: Any = Cluster()
    cluster.published = Published(SCHEMAS[releases])
    await kserve_backend(SETTINGS, kserve_version="").apply(cluster, PIPELINE, one(1, "s3://mlflow/1/model"))
    assert cluster.live(SERVICES, "mlflow")["metadata"]["annotations"]["serving.kserve.io/deploymentMode"] == mode


async def test_setting_is_preferred_to_the_crd() -> None:
    cluster: Any = Cluster()
    cluster.published = Published(SCHEMAS["0.16 to 0.19"])
    await kserve_backend(SETTINGS, kserve_version="0.15").apply(cluster, PIPELINE, one(1, "s3://mlflow/1/model"))
    assert cluster.live(SERVICES, "mlflow")["metadata"]["annotations"]["serving.kserve.io/deploymentMode"] == "RawDeployment"
    assert cluster.published.reads == []


async def test_service_that_exists_keeps_its_name_of_the_mode_when_kserve_is_upgraded() -> None:
    cluster: Any = Cluster()
    cluster.published = Published(SCHEMAS["0.15"])
    backend: Any = kserve_backend(SETTINGS, kserve_version="")
    await backend.apply(cluster, PIPELINE, one(1, "s3://mlflow/1/model"))
    cluster.deploy("mlflow")
    cluster.published = Published(SCHEMAS["0.20 or later"], "2")
    view = await backend.observe(cluster, PIPELINE, one(1, "s3://mlflow/1/model"))
    assert view.rolled_out
    assert cluster.published.reads == []


def find(check: Any, view: object, **settings: str) -> Finding:
    """Evaluate one of the doctor's checks of KServe, which has observed `view`."""
    [made] = [one for one in CHECKS.platform if one.evaluate is check]
    assert made.observe is not None
    survey = replace(GOOD, backend_settings=KServeSettings().with_(**settings), observations={made.observe: view})
    found = check(survey)
    assert isinstance(found, Finding)
    return found


@pytest.mark.parametrize(
    ("detected", "version", "result", "text"),
    [
        (Releases(20), "", Result.OK, "KServe 0.20 or later, by its CRD"),
        (None, "0.15", Result.OK, "KServe 0.15, by WINE_KSERVE_VERSION (chart value kserve.version)"),
        (None, "", Result.WARNING, "has no schema, so that the release is unknown: 0.16 or later is assumed"),
        (Releases(20), "0.15", Result.FAILED, "WINE_KSERVE_VERSION (chart value kserve.version) is 0.15, and the CRD is that of"),
        (Refused(Reason.CRD_MISSING, "no answer"), "", Result.SKIPPED, "The CRD's schema could not be read: no answer"),
    ],
)
def test_doctor_tells_the_release_and_how_it_is_known(detected: object, version: str, result: Result, text: str) -> None:
    finding = find(kserve_release_is_known, detected, kserve_version=version)
    assert finding.result is result
    assert text in finding.message


def test_doctor_requires_knative_in_knative_mode_only() -> None:
    assert find(knative_is_installed, ()).result is Result.OK
    missing = find(knative_is_installed, (), kserve_mode="Knative")
    assert (missing.result, missing.reason) == (Result.FAILED, Reason.SERVING_BACKEND_MISSING)
    assert "Install Knative Serving" in missing.remedy
    assert find(knative_is_installed, ("v1",), kserve_mode="Knative").result is Result.OK
