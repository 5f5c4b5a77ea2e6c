"""Build the InferenceServices that serve a model and its candidate, and the ServingRuntime that they name. Pure."""

from typing import Any

from winepipelines.api.modelrecord import ModelRecord
from winepipelines.api.naming import TEMPLATE_ANNOTATION, owner_reference
from winepipelines.api.pipeline import WinePipeline
from winepipelines.api.spec import Runtime
from winepipelines.platform.manifests import Manifest, Manifests, digest
from winepipelines.serving.container import CANDIDATE_DRAIN_SECONDS, DRAIN_SECONDS, resources_of
from winepipelines.serving.kserve.modes import Mode, mode_of, name_of, with_canonical_mode
from winepipelines.serving.kserve.naming import COPY_SECRET, MODEL_FORMAT, RUNTIME, candidate_name
from winepipelines.serving.kserve.settings import KServeSettings
from winepipelines.settings import Settings

SERVICE_TEMPLATE, RUNTIME_TEMPLATE = "inferenceservice.yaml.j2", "servingruntime.yaml.j2"
SCALE_FIELDS = ("minReplicas", "maxReplicas", "scaleMetric", "scaleTarget", "canaryTrafficPercent")  # not put into pods
POD_FIELDS = ("automountServiceAccountToken", "securityContext", "terminationGracePeriodSeconds", "model")
RESTRICTIONS = ("automountServiceAccountToken", "securityContext")
SERVER_FIELDS = (
    *("modelFormat", "runtime", "storageUri", "image", "env", "ports", "securityContext"),
    *("terminationMessagePolicy", "lifecycle", "startupProbe", "readinessProbe", "livenessProbe"),
)
# What decides which model runs, and on which server. An upgrade that changes other fields keeps running pods.
WHAT_RUNS = ("modelFormat", "runtime", "storageUri", "image")
ANNOTATIONS = tuple(
    f"serving.kserve.io/{name}" for name in ("deploymentMode", "autoscalerClass", "storageSecretName", "enable-tag-routing")
)


class Builder:
    """The templates and the settings."""

    def __init__(self, settings: Settings, own: KServeSettings) -> None:
        """Use the operator's settings and the backend's own."""
        self._settings = settings
        self._own = own
        self._manifests = Manifests(settings.templates)

    def runtime(self, pipeline: WinePipeline) -> Manifest | None:
        """Build the ServingRuntime of a namespace; None where the administrator has one for the cluster."""
        if self._own.kserve_runtime:
            return None
        [manifest] = self._manifests.render(
            RUNTIME_TEMPLATE,
            name=RUNTIME,
            namespace=pipeline.namespace,
            owner=owner_reference(pipeline),
            model_format=MODEL_FORMAT,
            image=self._settings.server_image,
        )
        return manifest

    def service(
        self,
        pipeline: WinePipeline,
        model: ModelRecord,
        live: Manifest | None,
        *,
        minor: int | None = None,
        candidate: bool = False,
        percent: int | None = None,
    ) -> Manifest:
        """Build the InferenceService of a model, in the place of `live`.

        If `live` serves the right model, its pods are kept, whatever settings or release it was applied with. `minor` is the
        release that a new one is for; None is that of the settings. `percent` is the newest revision's share in Knative mode.
        """
        if live is not None and not model.server.image and _model_of(live).get("storageUri") == storage_uri(model):
            model = model.with_(server=model.server.with_(image=str(_model_of(live).get("image") or "")))
        serving, mode = pipeline.spec.serving, mode_of(live, self._own.mode)
        [manifest] = self._manifests.render(
            SERVICE_TEMPLATE,
            name=candidate_name(pipeline) if candidate else pipeline.name,
            namespace=pipeline.namespace,
            pipeline=pipeline.name,
            owner=owner_reference(pipeline),
            mode=name_of(mode, live, self._own.minor if minor is None else minor),
            knative=mode is Mode.KNATIVE,
            percent=percent,
            secret=COPY_SECRET,
            model_format=MODEL_FORMAT,
            runtime=self._own.kserve_runtime or RUNTIME,
            uri=storage_uri(model),
            image=model.server.image or self._settings.server_image,
            digest=model.digest,
            replicas=serving.replicas,
            autoscaling=serving.autoscaling,
            drain_seconds=CANDIDATE_DRAIN_SECONDS if candidate else DRAIN_SECONDS,
        )
        server = manifest["spec"]["predictor"]["model"]
        bundled = model.runtime is Runtime.BUNDLED
        server["resources"] = resources_of(serving.resources, autoscaled=serving.autoscaling is not None, bundled=bundled)
        manifest["metadata"]["annotations"][TEMPLATE_ANNOTATION] = template_of(manifest)
        if live is not None:
            _keep_pods(manifest, live)
        return manifest


def storage_uri(model: ModelRecord) -> str:
    """Return the address of a model's folder. Without the slash KServe copies siblings whose names begin like the folder's."""
    return f"{model.uri.rstrip('/')}/"


def template_of(service: Manifest) -> str:
    """Hash what decides how the pods of an InferenceService are made: the resources, and before them all else.

    The resources have a hash of their own, because KServe adds its defaults to them. The number of pods is no part of it.
    """
    return _without_resources(service) + digest(_model_of(service).get("resources") or {})


def _without_resources(service: Manifest) -> str:
    predictor = {name: value for name, value in _predictor_of(service).items() if name in POD_FIELDS}
    server = {name: value for name, value in _model_of(service).items() if name in SERVER_FIELDS}
    annotations = {name: value for name, value in _canonical_annotations(service).items() if name in ANNOTATIONS}
    return digest({"annotations": annotations, "predictor": {**predictor, "model": server}})


def annotations_of(item: Manifest) -> dict[str, Any]:
    """Return the annotations of an object of any origin."""
    return dict(item["metadata"].get("annotations") or {})


def _canonical_annotations(service: Manifest) -> dict[str, Any]:
    return with_canonical_mode(annotations_of(service))


def essential(service: Manifest) -> Manifest:
    """Leave out of an InferenceService what others may write in another form: quantities have several."""
    predictor = _predictor_of(service)
    server = {name: value for name, value in predictor["model"].items() if name != "resources"}
    return {"predictor": {**predictor, "model": server}}


def _keep_pods(manifest: Manifest, live: Manifest) -> None:
    """Take fields that would replace the pods and change nothing that runs from the live InferenceService.

    Only if its annotation proves that the operator applied it like this: what others changed is corrected.
    """
    before, wanted = str(annotations_of(live).get(TEMPLATE_ANNOTATION) or ""), template_of(manifest)
    proven = _without_resources(live) + wanted[len(_without_resources(manifest)) :]
    if before in ("", wanted) or before != proven or _what_runs(manifest) != _what_runs(live):
        return
    predictor, theirs = manifest["spec"]["predictor"], _predictor_of(live)
    server = {name: value for name, value in _model_of(live).items() if name in SERVER_FIELDS}
    kept = {name: theirs[name] for name in POD_FIELDS if name in theirs and name != "model"}
    scale = {name: predictor[name] for name in SCALE_FIELDS if name in predictor}
    model = {**server, "resources": predictor["model"]["resources"]}
    manifest["spec"]["predictor"] = {**scale, **kept, "model": model}
    manifest["metadata"]["annotations"][TEMPLATE_ANNOTATION] = before


def _what_runs(service: Manifest) -> list[object]:
    """List what decides which model runs, on which server, and with which restrictions."""
    predictor, server = _predictor_of(service), _model_of(service)
    fields = [server.get(name) for name in (*WHAT_RUNS, "env", "securityContext")]
    return [
        *fields,
        *(predictor.get(name) for name in RESTRICTIONS),
        *(_canonical_annotations(service).get(name) for name in ANNOTATIONS),
    ]


def _predictor_of(service: Manifest) -> dict[str, Any]:
    return dict((service.get("spec") or {}).get("predictor") or {})


def _model_of(service: Manifest) -> dict[str, Any]:
    return dict(_predictor_of(service).get("model") or {})
