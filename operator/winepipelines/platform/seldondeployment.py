"""The SeldonDeployment that serves a model, as it shall be: no cluster is asked. Called by `seldon` and `render`."""

import math
from datetime import timedelta
from typing import Any

from winepipelines.platform.manifests import Manifest, Manifests, digest
from winepipelines.resource.naming import HASH_ANNOTATION, PREDICTOR, TEMPLATE_ANNOTATION, TRIAL_PREDICTOR, owner_reference
from winepipelines.resource.pipeline import WinePipeline
from winepipelines.resource.rollout import ModelRef, Rollout
from winepipelines.resource.spec import Protocol, Resources, Runtime
from winepipelines.settings import Settings

CPU_REQUEST = "250m"  # a share of the request is what an autoscaler aims at: every container must have one


def seldon_deployment(manifests: Manifests, settings: Settings, pipeline: WinePipeline, rollout: Rollout) -> Manifest:
    """Build the SeldonDeployment that serves a model, and the one on trial beside it."""
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
        resources=_resources(serving.resources, autoscaled=serving.autoscaling is not None),
    )
    for predictor in manifest["spec"]["predictors"]:
        # Neither other replicas nor another share of the traffic make other pods.
        template = {"protocol": manifest["spec"]["protocol"], "predictor": {**predictor, "replicas": 0, "traffic": 100}}
        predictor["componentSpecs"][0]["metadata"]["annotations"][TEMPLATE_ANNOTATION] = digest(template)
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


def _predictor(settings: Settings, name: str, model: ModelRef, traffic: int) -> dict[str, Any]:
    policy = settings.policy
    patience = policy.progress_deadline if model.runtime is Runtime.BUNDLED else policy.slow_progress_deadline
    return {
        "name": name,
        "traffic": traffic,
        "uri": model.uri,
        "runtime": model.runtime,
        "image": model.image or server_image(settings, model.runtime),
        "deadline": max(1, math.ceil(patience / timedelta(seconds=1))),
    }


def _resources(wished: Resources, *, autoscaled: bool) -> dict[str, Any]:
    resources = wished.model_dump()
    if autoscaled and "cpu" not in {**wished.requests, **wished.limits}:
        resources["requests"] = {**wished.requests, "cpu": CPU_REQUEST}
    return resources
