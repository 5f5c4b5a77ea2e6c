"""The SeldonDeployment that serves a model, as it shall be: no cluster is asked. Called by `seldon` and `render`."""

import copy
import math
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from winecontract.signatures import DIGEST_VARIABLE
from winepipelines.platform.manifests import Manifest, Manifests, digest
from winepipelines.resource.naming import GRAPH, HASH_ANNOTATION, PREDICTOR, TEMPLATE_ANNOTATION, TRIAL_PREDICTOR, owner_reference
from winepipelines.resource.pipeline import WinePipeline
from winepipelines.resource.rollout import ModelRef, Rollout
from winepipelines.resource.spec import Protocol, Resources, Runtime
from winepipelines.settings import Settings

CPU_REQUEST = "250m"  # a share of the request is what an autoscaler aims at: every container must have one
DEFAULT_MEMORY = {"requests": "256Mi", "limits": "2Gi"}
"""Memory of the bundled server where spec.serving.resources names none: idle it has 250 MiB, and 300 MiB more at the worst."""
NO_EXECUTOR = "seldon.io/no-engine"  # on a predictor
# Seconds for which the server of an ending pod takes new requests. kube-proxy needs one or two. Where no other pod is ready, it
# sends requests to the ending one all that time: a single pod that is deleted or evicted is replaced meanwhile.
DRAIN_SECONDS = 30
TRIAL_DRAIN_SECONDS = 5  # the other predictor serves on
# What does not decide which model runs, on what and with how much: an upgrade that brings others leaves running pods alone.
RESTRICTIONS = ("automountServiceAccountToken", "securityContext")
NO_RESTRICTIONS = [None, None, None]  # as earlier releases applied it
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
PROBE_FIELDS = {"httpGet", "initialDelaySeconds", "periodSeconds", "failureThreshold"}
HTTP_FIELDS = {"path", "port", "scheme"}
PROBE_PATHS = ("/health/status", "/health/ping")
PORTS = [{"name": "http", "containerPort": 8000, "protocol": "TCP"}]
KEPT_ANNOTATIONS = (TEMPLATE_ANNOTATION, "prometheus.io/port")


def seldon_deployment(
    manifests: Manifests, settings: Settings, pipeline: WinePipeline, rollout: Rollout, live: Manifest | None = None
) -> Manifest:
    """Build the SeldonDeployment that serves a model, and the one on trial beside it.

    A predictor of `live` that runs what it shall keeps its pods, whatever settings or operator it was applied with.
    """
    serving, model = pipeline.spec.serving, rollout.model
    predictors = [_predictor(settings, PREDICTOR, model, 100 - rollout.weight)]
    if rollout.trial is not None:
        predictors.append(_predictor(settings, TRIAL_PREDICTOR, rollout.trial, rollout.weight))
    [manifest] = manifests.render(
        "seldondeployment.yaml.j2",
        name=pipeline.name,
        namespace=pipeline.namespace,
        owner=owner_reference(pipeline),
        revision=model.revision,
        protocol=protocol_of(pipeline, model.runtime),
        predictors=predictors,
        replicas=serving.replicas,
        autoscaling=serving.autoscaling,
    )
    for predictor, told in zip(manifest["spec"]["predictors"], predictors, strict=True):
        [container] = predictor["componentSpecs"][0]["spec"]["containers"]
        bundled = told["runtime"] is Runtime.BUNDLED
        container["resources"] = _resources(serving.resources, autoscaled=serving.autoscaling is not None, bundled=bundled)
    spec = manifest["spec"]
    known = {predictor.get("name"): predictor for predictor in predictors_of(live)}
    for predictor in spec["predictors"]:
        # Neither other replicas nor another share of the traffic make other pods.
        template = {"protocol": spec["protocol"], "predictor": {**predictor, "replicas": 0, "traffic": 100}}
        predictor["componentSpecs"][0]["metadata"]["annotations"][TEMPLATE_ANNOTATION] = digest(template)
        before = known.get(predictor["name"])
        if before is not None and live is not None and live["spec"].get("protocol") == spec["protocol"]:
            _keep_pods(predictor, before)
    manifest["metadata"]["annotations"][HASH_ANNOTATION] = digest(manifest)
    return manifest


def protocol_of(pipeline: WinePipeline, runtime: Runtime | None) -> Protocol:
    """Choose what a model's server speaks: Seldon's own one, while it still serves an earlier model, has no choice."""
    if (runtime or pipeline.spec.serving.runtime) is Runtime.MLFLOWSERVER:
        return Protocol.SELDON
    return pipeline.spec.serving.protocol


def server_image(settings: Settings, runtime: Runtime) -> str:
    """Say which image serves models of a runtime."""
    return settings.server_image if runtime is Runtime.BUNDLED else settings.mlflowserver_image


def needs_executor(settings: Settings, runtime: Runtime) -> bool:
    """Tell whether new models of a runtime are served behind Seldon's executor. Seldon's own server always is."""
    return settings.seldon_executor or runtime is not Runtime.BUNDLED


def predictors_of(live: Manifest | None) -> list[Manifest]:
    """List the predictors of a SeldonDeployment, whoever made it."""
    return [] if live is None else list(live["spec"].get("predictors") or [])


def containers_of(predictor: Manifest) -> Iterator[Manifest]:
    """List the model's containers of a predictor, whoever made it."""
    for part in predictor.get("componentSpecs") or []:
        for container in (part.get("spec") or {}).get("containers") or []:
            if container.get("name") == GRAPH:
                yield container


def _keep_pods(predictor: Manifest, before: Manifest) -> None:
    """Take over, where a predictor runs already what it shall, what would replace its pods and change nothing that runs.

    Not where its pods are replaced all the same, because somebody else has changed them. What this very release applied is not
    looked at: any difference is somebody else's doing.
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
    """List what keeps a server from more than it needs."""
    return [*(pod.get(name) for name in RESTRICTIONS), container.get("securityContext")]


def _is_ours(live: Manifest, container: Manifest) -> bool:
    """Tell whether a container's ports, probes and hook are such as a release of the operator applies.

    The chart's guard refuses others, and commands above all.
    """
    waits = live.get("lifecycle") == container.get("lifecycle") or _is_wait(live.get("lifecycle"))
    return waits and live.get("ports") in (None, PORTS) and all(_asks_health(live[name]) for name in PROBES if name in live)


def _asks_health(probe: Manifest) -> bool:
    asked = probe.get("httpGet") or {}
    return set(probe) <= PROBE_FIELDS and set(asked) <= HTTP_FIELDS and asked.get("path") in PROBE_PATHS


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
    """Name all that decides which model runs, on what and with how much."""
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


def _predictor(settings: Settings, name: str, model: ModelRef, traffic: int) -> dict[str, Any]:
    policy = settings.policy
    patience = policy.progress_deadline if model.runtime is Runtime.BUNDLED else policy.slow_progress_deadline
    return {
        "name": name,
        "traffic": traffic,
        "uri": model.uri,
        "runtime": model.runtime,
        "image": model.image or server_image(settings, model.runtime),
        "digest": model.digest if model.runtime is Runtime.BUNDLED else "",  # Seldon's own server compares nothing
        "executor": needs_executor(settings, model.runtime) if model.executor is None else model.executor,
        "drain_seconds": DRAIN_SECONDS if name == PREDICTOR else TRIAL_DRAIN_SECONDS,
        "deadline": max(1, math.ceil(patience / timedelta(seconds=1))),
    }


def _resources(wished: Resources, *, autoscaled: bool, bundled: bool) -> dict[str, dict[str, str | int]]:
    resources = {"requests": dict(wished.requests), "limits": dict(wished.limits)}
    named = {**wished.requests, **wished.limits}
    if autoscaled and "cpu" not in named:
        resources["requests"]["cpu"] = CPU_REQUEST
    if bundled and "memory" not in named:
        for kind, memory in DEFAULT_MEMORY.items():
            resources[kind]["memory"] = memory
    return resources
