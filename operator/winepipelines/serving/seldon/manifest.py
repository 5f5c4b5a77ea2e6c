"""Build the SeldonDeployment that serves a model. Pure."""

import copy
import math
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from winecontract.protocols import Protocol
from winecontract.signatures import DIGEST_VARIABLE
from winepipelines.api.modelrecord import ModelRecord
from winepipelines.api.naming import HASH_ANNOTATION, TEMPLATE_ANNOTATION, owner_reference
from winepipelines.api.pipeline import WinePipeline
from winepipelines.api.rollout import Rollout
from winepipelines.api.spec import Runtime
from winepipelines.platform.manifests import Manifest, Manifests, digest
from winepipelines.serving.container import CANDIDATE_DRAIN_SECONDS, DEFAULT_MEMORY, DRAIN_SECONDS, resources_of
from winepipelines.serving.seldon.naming import CANDIDATE_PREDICTOR, GRAPH, PREDICTOR
from winepipelines.serving.seldon.settings import SeldonSettings
from winepipelines.settings import Settings

TEMPLATE = "seldondeployment.yaml.j2"
NO_EXECUTOR = "seldon.io/no-engine"  # on a predictor
EXECUTOR = "executor"  # the option of a model's server: whether Seldon's executor stands in front of it, "true" or "false"
# Fields that do not decide which model runs, on which server and with how much: an upgrade that changes them keeps running pods.
RESTRICTIONS = ("automountServiceAccountToken", "securityContext")
NO_RESTRICTIONS = [None, None, None]  # as earlier releases applied it
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
PROBE_FIELDS = {"httpGet", "initialDelaySeconds", "periodSeconds", "failureThreshold"}
HTTP_FIELDS = {"path", "port", "scheme"}
PROBE_PATHS = ("/health/status", "/health/ping")
PORTS = [{"name": "http", "containerPort": 8000, "protocol": "TCP"}]
KEPT_ANNOTATIONS = (TEMPLATE_ANNOTATION, "prometheus.io/port")


def seldon_deployment(
    manifests: Manifests,
    settings: Settings,
    own: SeldonSettings,
    pipeline: WinePipeline,
    rollout: Rollout,
    live: Manifest | None = None,
) -> Manifest:
    """Build the SeldonDeployment that serves a model and, in a second predictor, its candidate.

    A predictor of `live` that runs the right model keeps its pods, whatever settings or release it was applied with.
    """
    serving, model = pipeline.spec.serving, rollout.model
    predictors = [_predictor(settings, own, PREDICTOR, model, 100 - rollout.weight)]
    if rollout.canary is not None:
        predictors.append(_predictor(settings, own, CANDIDATE_PREDICTOR, rollout.canary, rollout.weight))
    [manifest] = manifests.render(
        TEMPLATE,
        name=pipeline.name,
        namespace=pipeline.namespace,
        owner=owner_reference(pipeline),
        revision=rollout.revision,
        protocol=protocol_of(pipeline, model.runtime),
        predictors=predictors,
        replicas=serving.replicas,
        autoscaling=serving.autoscaling,
    )
    for predictor, values in zip(manifest["spec"]["predictors"], predictors, strict=True):
        [container] = predictor["componentSpecs"][0]["spec"]["containers"]
        bundled = values["runtime"] is Runtime.BUNDLED
        container["resources"] = resources_of(serving.resources, autoscaled=serving.autoscaling is not None, bundled=bundled)
    spec = manifest["spec"]
    known = {predictor.get("name"): predictor for predictor in predictors_of(live)}
    for predictor in spec["predictors"]:
        # Neither the replicas nor the share of the traffic are part of the pods.
        template = {"protocol": spec["protocol"], "predictor": {**predictor, "replicas": 0, "traffic": 100}}
        predictor["componentSpecs"][0]["metadata"]["annotations"][TEMPLATE_ANNOTATION] = digest(template)
        before = known.get(predictor["name"])
        if before is not None and live is not None and live["spec"].get("protocol") == spec["protocol"]:
            _keep_pods(predictor, before)
    manifest["metadata"]["annotations"][HASH_ANNOTATION] = digest(manifest)
    return manifest


def protocol_of(pipeline: WinePipeline, runtime: Runtime | None) -> Protocol:
    """Choose the protocol of a model's server: Seldon's own MLflow server, which may serve an earlier model, speaks only one."""
    if (runtime or pipeline.spec.serving.runtime) is Runtime.MLFLOWSERVER:
        return Protocol.SELDON
    return pipeline.spec.serving.protocol


def server_image(settings: Settings, own: SeldonSettings, runtime: Runtime) -> str:
    """Return the image of the server of a runtime."""
    return settings.server_image if runtime is Runtime.BUNDLED else own.mlflowserver_image


def needs_executor(own: SeldonSettings, runtime: Runtime) -> bool:
    """Tell whether new models of a runtime are served behind Seldon's executor. Seldon's own server always is."""
    return own.seldon_executor or runtime is not Runtime.BUNDLED


def predictors_of(live: Manifest | None) -> list[Manifest]:
    """List the predictors of a SeldonDeployment of any origin."""
    return [] if live is None else list(live["spec"].get("predictors") or [])


def containers_of(predictor: Manifest) -> Iterator[Manifest]:
    """List the model containers of a predictor of any origin."""
    for part in predictor.get("componentSpecs") or []:
        for container in (part.get("spec") or {}).get("containers") or []:
            if container.get("name") == GRAPH:
                yield container


def _keep_pods(predictor: Manifest, before: Manifest) -> None:
    """Take fields that would replace the pods and change nothing that runs from the live predictor, if it runs the right model.

    Not if its pods are replaced anyway, because somebody else changed them. What this release itself applied is left as it is:
    any difference from it is somebody else's change.
    """
    if _what_runs(predictor) != _what_runs(before):
        return
    live_part, live_container = before["componentSpecs"][0], next(containers_of(before))
    live_annotations = (live_part.get("metadata") or {}).get("annotations") or {}
    kept = copy.deepcopy(predictor)
    part = kept["componentSpecs"][0]
    [container], annotations = part["spec"]["containers"], part["metadata"]["annotations"]
    if live_annotations.get(TEMPLATE_ANNOTATION) == annotations[TEMPLATE_ANNOTATION] or not _is_ours(live_container, container):
        return
    if _restrictions(live_part["spec"], live_container) not in (_restrictions(part["spec"], container), NO_RESTRICTIONS):
        return
    _take(("progressDeadlineSeconds",), before, kept)
    _take(("terminationGracePeriodSeconds", *RESTRICTIONS), live_part["spec"], part["spec"])
    _take(("lifecycle", "ports", *PROBES, "resources", "securityContext"), live_container, container)
    _take(KEPT_ANNOTATIONS, live_annotations, annotations)
    if part["spec"] == live_part["spec"]:
        predictor.clear()
        predictor.update(kept)


def _restrictions(pod: Manifest, container: Manifest) -> list[object]:
    """List the fields that limit what a server may do."""
    return [*(pod.get(name) for name in RESTRICTIONS), container.get("securityContext")]


def _is_ours(live: Manifest, container: Manifest) -> bool:
    """Tell whether a release of the operator applies such ports, probes and hooks.

    The chart's guard rejects others, and commands above all.
    """
    waits = live.get("lifecycle") == container.get("lifecycle") or _is_wait(live.get("lifecycle"))
    return waits and live.get("ports") in (None, PORTS) and all(_is_health_check(live[name]) for name in PROBES if name in live)


def _is_health_check(probe: Manifest) -> bool:
    request = probe.get("httpGet") or {}
    return set(probe) <= PROBE_FIELDS and set(request) <= HTTP_FIELDS and request.get("path") in PROBE_PATHS


def _is_wait(lifecycle: Any) -> bool:
    try:
        command = lifecycle["preStop"]["exec"]["command"]
        return lifecycle == {"preStop": {"exec": {"command": command}}} and len(command) == 2 and command[0] == "sleep"
    except (KeyError, TypeError):
        return False


def _take(names: tuple[str, ...], source: Manifest, target: Manifest) -> None:
    for name in names:
        if name in source:
            target[name] = source[name]
        else:
            target.pop(name, None)


def _what_runs(predictor: Manifest) -> tuple[object, ...] | None:
    """List what decides which model runs, on which server and with how much; None if its form is unknown."""
    container, graph = next(containers_of(predictor), None), predictor.get("graph") or {}
    if container is None or len(predictor["componentSpecs"]) != 1:
        return None
    amounts = {kind: dict((container.get("resources") or {}).get(kind) or {}) for kind in DEFAULT_MEMORY}
    if all(amounts[kind].get("memory") == memory for kind, memory in DEFAULT_MEMORY.items()):
        for named in amounts.values():  # as earlier releases applied it: an upgrade replaces no pods
            del named["memory"]
    model = [graph.get(name) for name in ("implementation", "modelUri", "envSecretRefName", "parameters")]
    variables = {str(item.get("name")): item.get("value") for item in container.get("env") or []}
    executor = (predictor.get("annotations") or {}).get(NO_EXECUTOR)
    return (model, container.get("image"), amounts, executor, variables.get(DIGEST_VARIABLE))


def _predictor(settings: Settings, own: SeldonSettings, name: str, model: ModelRecord, traffic: int) -> dict[str, Any]:
    deadline = settings.timeouts.progress_deadline_of(model.runtime)
    executor = model.server.options.get(EXECUTOR)
    return {
        "name": name,
        "traffic": traffic,
        "uri": model.uri,
        "runtime": model.runtime,
        "image": model.server.image or server_image(settings, own, model.runtime),
        "digest": model.digest if model.runtime is Runtime.BUNDLED else "",  # Seldon's own server does not compare it
        "executor": executor == "true" if executor else needs_executor(own, model.runtime),
        "drain_seconds": DRAIN_SECONDS if name == PREDICTOR else CANDIDATE_DRAIN_SECONDS,
        "deadline": max(1, math.ceil(deadline / timedelta(seconds=1))),
    }
