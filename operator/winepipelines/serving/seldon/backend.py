"""The Seldon backend: one SeldonDeployment per WinePipeline, whose second predictor runs the candidate."""

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from functools import cached_property
from typing import ClassVar, Self

from winecontract.protocols import Protocol
from winecontract.reasons import Reason
from winepipelines.api.errors import Refused
from winepipelines.api.modelrecord import ModelRecord, ModelServer
from winepipelines.api.naming import field_manager
from winepipelines.api.observed import DeploymentView, Presence, ServerView
from winepipelines.api.pipeline import WinePipeline
from winepipelines.api.rollout import Rollout
from winepipelines.api.spec import Runtime
from winepipelines.doctor.right import Right
from winepipelines.platform.admission import SERVING, Owner
from winepipelines.platform.kubernetes import DEPLOYMENTS, PODS, Body, Kind, KindMissing, Kubernetes
from winepipelines.platform.manifests import Manifest, Manifests
from winepipelines.platform.ownership import owners_of, presence_of, without_owner
from winepipelines.platform.workloads import trimmed
from winepipelines.serving.port import CandidateExposure, Capabilities, Endpoint, Endpoints, Promotion
from winepipelines.serving.seldon import naming, releases
from winepipelines.serving.seldon.checks import CHECKS, LABEL
from winepipelines.serving.seldon.manifest import (
    EXECUTOR,
    NO_EXECUTOR,
    TEMPLATE,
    containers_of,
    needs_executor,
    predictors_of,
    protocol_of,
    seldon_deployment,
    server_image,
)
from winepipelines.serving.seldon.naming import CANDIDATE_PREDICTOR, DEPLOYMENT_LABEL, GRAPH, PREDICTOR
from winepipelines.serving.seldon.rollout import Workloads, is_applied, is_complete_rollout, view_of_incomplete, was_applied
from winepipelines.serving.seldon.settings import SeldonSettings
from winepipelines.serving.seldon.source import KNOWN, RcloneSecret
from winepipelines.serving.storekeys import candidates
from winepipelines.settings import Settings

SELDONDEPLOYMENTS = Kind(f"{naming.KIND.group}/{naming.KIND.version}", naming.KIND.plural)
DEPLOYMENT_LIMIT = 20  # of one SeldonDeployment: there are two, and some more during a rollout
POD_LIMIT = 200  # pods that are read
PATHS = {Protocol.SELDON: "/api/v1.0/predictions", Protocol.V2: f"/v2/models/{GRAPH}/infer"}


class SeldonBackend:
    """Seldon Core 1."""

    name: ClassVar = "Seldon"
    kind: ClassVar = naming.KIND
    templates: ClassVar = (TEMPLATE,)
    watches: ClassVar = (naming.KIND,)
    rights: ClassVar = (
        Right(naming.KIND.group, naming.KIND.plural, ("get", "list", "watch", "patch", "create", "delete")),
        Right("apps", "deployments", ("list",)),  # that Seldon makes
    )
    checks: ClassVar = CHECKS
    webhooks: ClassVar = (
        re.compile(r"seldondeployment\.(kb|k8s)\.io$|seldon"),
        Owner("Seldon's controller", SERVING, f"kubectl get deployments,pods -A -l {LABEL}"),
    )
    settings_type: ClassVar = SeldonSettings
    source_type: ClassVar = RcloneSecret

    def __init__(self, settings: Settings, own: SeldonSettings | None = None) -> None:
        """Use the operator's settings and the backend's own, by default with their defaults."""
        self.settings = own or SeldonSettings()
        self.source = RcloneSecret(candidates(self.settings.source_secret, KNOWN), settings.s3_endpoint_url)
        self._operator = settings
        self._manifests = Manifests(settings.templates)

    @classmethod
    def from_environment(cls, settings: Settings, environment: Mapping[str, str], *, incomplete: bool = False) -> Self:
        """Read the backend's own settings from variables. Raises SettingsError."""
        return cls(settings, SeldonSettings.from_environment(environment, incomplete=incomplete))

    @property
    def capabilities(self) -> Capabilities:
        """What it can do: traffic is split where the platform has Istio or Ambassador for it."""
        return Capabilities(
            protocols={Runtime.BUNDLED: tuple(Protocol), Runtime.MLFLOWSERVER: (Protocol.SELDON,)},
            splits_traffic=self.settings.traffic_splitting != "none",
            candidate=CandidateExposure.SECOND_PREDICTOR,
            promotion=Promotion.REPLACE,
            autoscaling=True,
        )

    def problem(self, pipeline: WinePipeline) -> str:
        """Describe what the spec requires and Seldon lacks; empty if it lacks nothing."""
        return self.capabilities.problem(pipeline.spec.serving)

    def name_problem(self, _: WinePipeline) -> str:
        """Nothing: the CRD admits only names that fit."""
        return ""

    def scaling_problem(self, pipeline: WinePipeline) -> str:
        """Describe why Seldon cannot scale as the spec requires: a HorizontalPodAutoscaler keeps a pod."""
        return self.capabilities.scaling_problem(pipeline.spec.serving)

    def server(self, runtime: Runtime) -> ServerView:
        """Describe the server that new models of a runtime are served with."""
        prepackaged = runtime is not Runtime.BUNDLED
        return ServerView(
            version=self.settings.mlflowserver_version if prepackaged else "",
            problem=self._release_problem if prepackaged else "",
            server=ModelServer(
                image=server_image(self._operator, self.settings, runtime),
                options={EXECUTOR: str(needs_executor(self.settings, runtime)).lower()},
            ),
            takes_unsigned=self._operator.serves_unsigned,
        )

    @cached_property
    def _release_problem(self) -> str:
        return releases.problem(self.settings.mlflowserver_version)

    def endpoints(self, pipeline: WinePipeline, runtime: Runtime | None = None) -> Endpoints:
        """Name the endpoints: that of the SeldonDeployment, and that of each predictor's own Service."""
        protocol = protocol_of(pipeline, runtime)
        names = {"namespace": pipeline.namespace, "name": pipeline.name}

        def endpoint(template: str, predictor: str) -> Endpoint:
            return Endpoint(template.format(**names, predictor=predictor) + PATHS[protocol], protocol)

        return Endpoints(
            stable=endpoint(self.settings.endpoint_template, PREDICTOR),
            served=endpoint(self.settings.predictor_template, PREDICTOR),
            candidate=endpoint(self.settings.predictor_template, CANDIDATE_PREDICTOR),
        )

    def progress_deadline(self, runtime: Runtime) -> timedelta:
        """Return the deadline of a rollout: Seldon's own server installs packages when it starts."""
        return self._operator.timeouts.progress_deadline_of(runtime)

    def manifest(self, pipeline: WinePipeline, rollout: Rollout, live: Body | None = None) -> Manifest:
        """Build the SeldonDeployment of a rollout, in the place of `live`."""
        if live is not None:
            rollout = _with_servers(rollout, live)
        return seldon_deployment(self._manifests, self._operator, self.settings, pipeline, rollout, live)

    def manifests(self, pipeline: WinePipeline, rollout: Rollout, live: Body | None = None) -> list[Manifest]:
        """Build the objects of a rollout: one SeldonDeployment."""
        return [self.manifest(pipeline, rollout, live)]

    async def observe(self, kubernetes: Kubernetes, pipeline: WinePipeline, rollout: Rollout | None) -> DeploymentView:
        """Observe the SeldonDeployment and, if it is the rollout's, the Deployments and pods that Seldon made of it."""
        return replace(await self._observe(kubernetes, pipeline, rollout), object=naming.KIND.named)

    async def _observe(self, kubernetes: Kubernetes, pipeline: WinePipeline, rollout: Rollout | None) -> DeploymentView:
        presence, live = await _find(kubernetes, pipeline)
        if rollout is None:
            deleting = live is not None and "deletionTimestamp" in live["metadata"]
            return DeploymentView(presence, owned=live is not None and pipeline.uid in owners_of(live), deleting=deleting)
        if live is None or presence is not Presence.CURRENT:
            return DeploymentView(presence)
        wanted = self.manifest(pipeline, rollout, live)
        if not is_applied(live, wanted):
            return DeploymentView(Presence.DIFFERS, owned=True, drifted=was_applied(live, wanted))
        return await _observe_rollout(kubernetes, pipeline, live, wanted)

    async def apply(self, kubernetes: Kubernetes, pipeline: WinePipeline, rollout: Rollout) -> None:
        """Apply the SeldonDeployment of a rollout.

        Raises Refused if the API server, or a webhook, rejects it; the message quotes the answer.
        """
        _, live = await _find(kubernetes, pipeline)
        manifest = self.manifest(pipeline, rollout, live)
        try:
            await kubernetes.apply(SELDONDEPLOYMENTS, manifest, field_manager(pipeline))
        except Refused as error:
            message = f"The API server rejected the SeldonDeployment {pipeline.name}: {error.words}"
            raise Refused(Reason.DEPLOYMENT_REJECTED, message) from None

    async def delete(self, kubernetes: Kubernetes, pipeline: WinePipeline) -> None:
        """Delete the SeldonDeployment if the resource owns it."""
        presence, live = await _find(kubernetes, pipeline)
        if live is not None and presence is Presence.CURRENT:
            await kubernetes.delete(SELDONDEPLOYMENTS, pipeline.namespace, pipeline.name, live["metadata"]["uid"])

    async def release(self, kubernetes: Kubernetes, pipeline: WinePipeline) -> Body | None:
        """Remove the resource from the owners of its SeldonDeployment; return that."""
        presence, live = await _find(kubernetes, pipeline)
        if live is None or presence is not Presence.CURRENT:
            return None
        return await kubernetes.merge(SELDONDEPLOYMENTS, pipeline.namespace, pipeline.name, without_owner(pipeline, live))


async def _find(kubernetes: Kubernetes, pipeline: WinePipeline) -> tuple[Presence, Body | None]:
    """Read the SeldonDeployment of the resource's name, and tell whose it is."""
    try:
        live = await kubernetes.get(SELDONDEPLOYMENTS, pipeline.namespace, pipeline.name)
    except KindMissing:
        return Presence.KIND_MISSING, None
    return presence_of(pipeline, live), live


async def _observe_rollout(kubernetes: Kubernetes, pipeline: WinePipeline, live: Body, wanted: Manifest) -> DeploymentView:
    """Observe whether the rollout is complete and, if not, what prevents it."""
    selector = f"{DEPLOYMENT_LABEL}={pipeline.name}"
    deployments = await kubernetes.list(DEPLOYMENTS, pipeline.namespace, trimmed, DEPLOYMENT_LIMIT, label_selector=selector)
    if len(deployments) > DEPLOYMENT_LIMIT:
        raise Refused(
            Reason.TOO_MANY_DEPLOYMENTS,
            f"More than {DEPLOYMENT_LIMIT} Deployments in namespace {pipeline.namespace} have the label {selector}. Delete "
            f"those that Seldon did not make (kubectl -n {pipeline.namespace} get deployments -l {selector})",
        )
    autoscaling = pipeline.spec.serving.autoscaling
    if is_complete_rollout(live, wanted, deployments, autoscaling):
        several = len(wanted["spec"]["predictors"]) > 1
        return DeploymentView(Presence.CURRENT, rolled_out=True, canary_rolled_out=several, owned=True)
    pods = await kubernetes.list(PODS, pipeline.namespace, trimmed, POD_LIMIT, label_selector=selector)
    return view_of_incomplete(live, wanted, Workloads(deployments, pods), autoscaling)


def _with_servers(rollout: Rollout, live: Body) -> Rollout:
    """Keep the server of a model that a predictor serves already, where the rollout names no other."""
    canary = rollout.canary
    return Rollout(
        rollout.revision, _with_server(rollout.model, live), canary and _with_server(canary, live), weight=rollout.weight
    )


def _with_server(model: ModelRecord, live: Body) -> ModelRecord:
    predictor = next((item for item in predictors_of(live) if (item.get("graph") or {}).get("modelUri") == model.uri), None)
    if predictor is None:
        return model
    image = next((str(container.get("image") or "") for container in containers_of(predictor)), "")
    executor = "false" if (predictor.get("annotations") or {}).get(NO_EXECUTOR) == "true" else "true"
    server = model.server
    return model.with_(server=ModelServer(image=server.image or image, options={EXECUTOR: executor, **server.options}))
