"""The KServe backend: one InferenceService per WinePipeline and, in Standard mode, a second one for the candidate.

In Standard mode, promotion changes the address of the model under the same name. The Deployment of the InferenceService then
replaces its pods one after the other, and its Service always has a pod that answers.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import ClassVar, Self

from winecontract import protocols
from winecontract.protocols import Protocol
from winecontract.reasons import Reason
from winepipelines.api.errors import PlatformError, Refused
from winepipelines.api.modelrecord import ModelServer
from winepipelines.api.naming import MANAGED_BY, MANAGED_BY_LABEL, field_manager
from winepipelines.api.observed import DeploymentView, Presence, ServerView
from winepipelines.api.pipeline import WinePipeline
from winepipelines.api.rollout import Rollout
from winepipelines.api.spec import Runtime
from winepipelines.doctor.right import Right
from winepipelines.platform.admission import SERVING, Owner, WebhookDown
from winepipelines.platform.kubernetes import DEPLOYMENTS, PODS, Body, Kind, Kubernetes
from winepipelines.platform.manifests import Manifest
from winepipelines.platform.ownership import owners_of, without_owner
from winepipelines.platform.workloads import trimmed
from winepipelines.serving.kserve import knative, modes, naming
from winepipelines.serving.kserve.checks import CHECKS, LABEL
from winepipelines.serving.kserve.live import SERVICES, SERVING_RUNTIMES, Found, find, foreign_predictor
from winepipelines.serving.kserve.manifest import RUNTIME_TEMPLATE, SERVICE_TEMPLATE, Builder
from winepipelines.serving.kserve.modes import Mode, mode_of
from winepipelines.serving.kserve.naming import OBJECT_LABEL, PREDICTOR, SOURCE_ANNOTATION, candidate_name
from winepipelines.serving.kserve.releases import Detection
from winepipelines.serving.kserve.rollout import (
    Service,
    being_deleted,
    is_applied,
    is_rolled_out,
    is_unanswered,
    view_of_incomplete,
    was_applied,
)
from winepipelines.serving.kserve.settings import KServeSettings
from winepipelines.serving.kserve.source import KNOWN, StorageSecret
from winepipelines.serving.port import CandidateExposure, Capabilities, Endpoint, Endpoints, Promotion
from winepipelines.serving.storekeys import candidates
from winepipelines.settings import Settings

POD_LIMIT = 200  # pods that are read
PATHS = {protocols.DEFAULT: "/api/v1.0/predictions", Protocol.V2: "/v2/models/{name}/infer"}


class KServeBackend:
    """KServe in Standard mode, or in Knative mode (see `knative`)."""

    name: ClassVar = "KServe"
    kind: ClassVar = naming.KIND
    templates: ClassVar = (SERVICE_TEMPLATE, RUNTIME_TEMPLATE)
    watches: ClassVar = (naming.KIND, naming.RUNTIME_KIND)
    rights: ClassVar = (
        Right(naming.KIND.group, naming.KIND.plural, ("get", "list", "watch", "patch", "create", "delete")),
        Right(naming.RUNTIME_KIND.group, naming.RUNTIME_KIND.plural, ("get", "list", "watch", "patch", "create")),
        Right("apps", "deployments", ("get",)),  # that KServe makes, or would change
        Right("", "services", ("get",)),  # that KServe would change
    )
    checks: ClassVar = CHECKS
    webhooks: ClassVar = (
        re.compile(r"kserve|inferenceservice|trainedmodel|inferencegraph|servingruntime"),
        Owner("KServe's controller", SERVING, f"kubectl get deployments,pods -A -l {LABEL}"),
    )
    settings_type: ClassVar = KServeSettings
    source_type: ClassVar = StorageSecret

    def __init__(self, settings: Settings, own: KServeSettings | None = None) -> None:
        """Use the operator's settings and the backend's own, by default with their defaults."""
        self.settings = own or KServeSettings()
        self.source = StorageSecret(candidates(self.settings.kserve_source_secret, KNOWN), settings.s3_endpoint_url)
        self._operator = settings
        self._builder = Builder(settings, self.settings)
        self._detection = Detection()
        self._modes: dict[str, Mode] = {}  # of InferenceServices that exist, by the uid of their resource

    @classmethod
    def from_environment(cls, settings: Settings, environment: Mapping[str, str], *, incomplete: bool = False) -> Self:
        """Read the backend's own settings from variables. Raises SettingsError."""
        return cls(settings, KServeSettings.from_environment(environment, incomplete=incomplete))

    @property
    def capabilities(self) -> Capabilities:
        """What it can do: only Knative splits traffic."""
        knative = self.settings.mode is Mode.KNATIVE
        return Capabilities(
            protocols={Runtime.BUNDLED: tuple(Protocol)},
            splits_traffic=knative,
            candidate=CandidateExposure.REVISION_ADDRESS if knative else CandidateExposure.SECOND_OBJECT,
            promotion=Promotion.SHIFT if knative else Promotion.REPLACE,
            autoscaling=True,
            scales_to_zero=knative,
        )

    def problem(self, pipeline: WinePipeline) -> str:
        """Describe what the resource requires and KServe lacks; its names must fit into one of KServe's host names."""
        return self.capabilities.problem(pipeline.spec.serving) or naming.name_problem(pipeline)

    def name_problem(self, pipeline: WinePipeline) -> str:
        """Describe why no InferenceService can have this name; empty if one can."""
        return naming.name_problem(pipeline)

    def scaling_problem(self, pipeline: WinePipeline) -> str:
        """Describe why KServe cannot scale to zero as the spec requires: only Knative mode can."""
        mode = self._modes.get(pipeline.uid, self.settings.mode)
        return modes.scaling_problem(pipeline, mode, self.settings.mode)

    def server(self, _: Runtime) -> ServerView:
        """Describe the bundled server."""
        return ServerView(server=ModelServer(image=self._operator.server_image), takes_unsigned=self._operator.serves_unsigned)

    def endpoints(self, pipeline: WinePipeline, _: Runtime | None = None) -> Endpoints:
        """Name the endpoints: the Services of the InferenceService and of its candidate, or in Knative mode those of its tags."""
        protocol = pipeline.spec.serving.protocol
        path = PATHS[protocol].format(name=pipeline.name)

        def endpoint(name: str) -> Endpoint:
            address = self.settings.kserve_endpoint_template.format(namespace=pipeline.namespace, name=name)
            return Endpoint(address + path, protocol)

        stable = endpoint(pipeline.name)
        if self._modes.get(pipeline.uid, self.settings.mode) is Mode.KNATIVE:
            served, candidate = (endpoint(f"{tag}-{pipeline.name}") for tag in (knative.PREVIOUS, knative.LATEST))
            return Endpoints(stable, served, candidate)
        return Endpoints(stable=stable, served=stable, candidate=endpoint(candidate_name(pipeline)))

    def progress_deadline(self, runtime: Runtime) -> timedelta:
        """Return the operator's own deadline: KServe has no field for one."""
        return self._operator.timeouts.progress_deadline_of(runtime)

    def manifests(self, pipeline: WinePipeline, rollout: Rollout, live: Body | None = None) -> list[Manifest]:
        """Build the objects of a rollout, in the order in which they are applied. `live` is the InferenceService that serves."""
        runtime = self._builder.runtime(pipeline)
        if mode_of(live, self.settings.mode) is Mode.KNATIVE:
            share = None if rollout.canary is None else rollout.weight
            newest = self._builder.service(pipeline, rollout.canary or rollout.model, live, percent=share)
            return [manifest for manifest in (runtime, newest) if manifest is not None]
        served = self._builder.service(pipeline, rollout.model, live)
        candidate = self._candidate(pipeline, rollout, None, None)
        return [manifest for manifest in (runtime, served, candidate) if manifest is not None]

    def _candidate(self, pipeline: WinePipeline, rollout: Rollout, live: Body | None, minor: int | None) -> Manifest | None:
        if rollout.canary is None:
            return None
        return self._builder.service(pipeline, rollout.canary, live, minor=minor, candidate=True)

    async def _minor(self, kubernetes: Kubernetes) -> int | None:
        """Return the first of the releases that the cluster may have, which decides how a new InferenceService is written."""
        if self.settings.minor is not None:
            return self.settings.minor
        releases = await self._detection.releases(kubernetes)
        return None if releases is None else releases.first

    async def observe(self, kubernetes: Kubernetes, pipeline: WinePipeline, rollout: Rollout | None) -> DeploymentView:
        """Observe the InferenceServices and, if they are the rollout's, the Deployments and pods that KServe made of them."""
        found = await find(kubernetes, pipeline)
        view = self._owned(pipeline, found) if rollout is None else await self._observe(kubernetes, pipeline, rollout, found)
        return replace(view, object=naming.KIND.named)

    @staticmethod
    def _owned(pipeline: WinePipeline, found: Found) -> DeploymentView:
        """Observe whether anything serves the resource's models; its candidate counts too."""
        if found.presence is Presence.CURRENT or found.candidate_presence is not Presence.CURRENT:
            presence, live = found.presence, found.served
        else:
            presence, live = found.candidate_presence, found.candidate
        deleting = live is not None and "deletionTimestamp" in live["metadata"]
        return DeploymentView(presence, owned=live is not None and pipeline.uid in owners_of(live), deleting=deleting)

    async def _observe(self, kubernetes: Kubernetes, pipeline: WinePipeline, rollout: Rollout, found: Found) -> DeploymentView:
        if found.presence not in (Presence.KIND_MISSING, Presence.NOT_MANAGED) and (
            obstacle := await self._obstacle(kubernetes, pipeline, rollout, found)
        ):
            return DeploymentView(Presence.NOT_MANAGED, owned=True, reason=Reason.NOT_MANAGED, message=obstacle)
        if found.served is None or found.presence is not Presence.CURRENT:
            self._modes.pop(pipeline.uid, None)
            return DeploymentView(found.presence)
        mode = self._modes[pipeline.uid] = mode_of(found.served, self.settings.mode)
        if mode is Mode.KNATIVE:
            return await self._observe_knative(kubernetes, pipeline, rollout, found)
        if rollout.weight:
            return DeploymentView(Presence.CURRENT, owned=True, reason=Reason.DEPLOYMENT_FAILED, message=_no_split(pipeline))
        if problem := self.scaling_problem(pipeline):
            return DeploymentView(Presence.CURRENT, owned=True, reason=Reason.SCALE_TO_ZERO_UNSUPPORTED, message=problem)
        wanted = self._builder.service(pipeline, rollout.model, found.served)
        candidate = self._candidate(pipeline, rollout, found.candidate, None)
        if not is_applied(found.served, wanted):
            return DeploymentView(Presence.DIFFERS, owned=True, drifted=was_applied(found.served, wanted))
        if not found.runtime_is(self._builder.runtime(pipeline)):
            return DeploymentView(Presence.DIFFERS, owned=True, drifted=found.runtime_was_changed)
        if candidate is None:
            if found.candidate_is_in_place:
                return DeploymentView(Presence.DIFFERS, owned=True)
        elif found.candidate is None or not is_applied(found.candidate, candidate):
            return DeploymentView(Presence.DIFFERS, owned=True)
        return await self._observe_rollout(kubernetes, pipeline, found, wanted, candidate)

    async def _obstacle(self, kubernetes: Kubernetes, pipeline: WinePipeline, rollout: Rollout, found: Found) -> str:
        """Describe an object of somebody else that the rollout, or KServe for it, would change; empty if there is none."""
        if mode_of(found.served, self.settings.mode) is Mode.KNATIVE:
            return found.obstacle(pipeline, candidate=False)
        candidate = rollout.canary is not None
        names = [pipeline.name] if found.served is None else []
        names += [candidate_name(pipeline)] if candidate and found.candidate is None else []
        return found.obstacle(pipeline, candidate=candidate) or await foreign_predictor(kubernetes, pipeline, names)

    async def _observe_knative(
        self, kubernetes: Kubernetes, pipeline: WinePipeline, rollout: Rollout, found: Found
    ) -> DeploymentView:
        """Observe an InferenceService in Knative mode."""
        assert found.served is not None, "it is in place"
        wanted = await self._knative_service(kubernetes, pipeline, rollout, found.served)
        if not is_applied(found.served, wanted):
            return DeploymentView(Presence.DIFFERS, owned=True, drifted=was_applied(found.served, wanted))
        if not found.runtime_is(self._builder.runtime(pipeline)):
            return DeploymentView(Presence.DIFFERS, owned=True, drifted=found.runtime_was_changed)
        if found.candidate_is_in_place:
            return DeploymentView(Presence.DIFFERS, owned=True)
        # Pods that start and end with the requests do not change the InferenceService.
        return replace(await knative.observe(kubernetes, found.served, wanted, rollout), watched=False)

    async def _knative_service(
        self, kubernetes: Kubernetes, pipeline: WinePipeline, rollout: Rollout, live: Body | None, minor: int | None = None
    ) -> Manifest:
        """Build the one InferenceService: its newest revision is the candidate's as long as there is one."""
        share = await knative.percent(kubernetes, live, rollout)
        return self._builder.service(pipeline, rollout.canary or rollout.model, live, minor=minor, percent=share)

    @staticmethod
    async def _observe_rollout(
        kubernetes: Kubernetes, pipeline: WinePipeline, found: Found, wanted: Manifest, candidate: Manifest | None
    ) -> DeploymentView:
        """Observe whether the rollout is complete and, if not, what prevents it."""
        autoscaling = pipeline.spec.serving.autoscaling
        pairs = [(wanted, found.served), (candidate, found.candidate)]
        services = [await _with_deployment(kubernetes, Service(make, live)) for make, live in pairs if make and live]
        complete = [is_rolled_out(service, autoscaling) for service in services]
        canary_rolled_out = candidate is not None and complete[-1]
        ends = candidate is None and found.candidate_presence is Presence.CURRENT  # an earlier candidate is being deleted
        if all(complete) and not ends:
            return DeploymentView(Presence.CURRENT, rolled_out=True, canary_rolled_out=canary_rolled_out, owned=True)
        if deleted := next((live for _, live in pairs if live and "deletionTimestamp" in live["metadata"]), None):
            return being_deleted(deleted)
        services = [await _with_pods(kubernetes, service) for service in services]
        for service in services:
            if is_unanswered(service) and (view := await _outage(kubernetes, pipeline, service.wanted)) is not None:
                return view
        return view_of_incomplete(services, canary_rolled_out=canary_rolled_out)

    async def apply(self, kubernetes: Kubernetes, pipeline: WinePipeline, rollout: Rollout) -> None:
        """Apply the ServingRuntime, which must exist first, and the InferenceServices; delete a candidate that is not needed.

        Raises Refused if the API server, or a webhook, rejects one; the message quotes the answer.
        """
        found = await find(kubernetes, pipeline)
        if obstacle := await self._obstacle(kubernetes, pipeline, rollout, found):
            raise Refused(Reason.NOT_MANAGED, obstacle)
        runtime = self._builder.runtime(pipeline)
        if runtime is not None and not found.runtime_is(runtime):
            await _apply(kubernetes, SERVING_RUNTIMES, runtime, pipeline)
        is_new = found.served is None or (rollout.canary is not None and found.candidate is None)
        minor = await self._minor(kubernetes) if is_new else None
        if mode_of(found.served, self.settings.mode) is Mode.KNATIVE:
            if found.served is None and not await knative.is_installed(kubernetes):
                raise Refused(Reason.SERVERLESS_MODE_REJECTED, knative.NOT_INSTALLED)
            service = await self._knative_service(kubernetes, pipeline, rollout, found.served, minor)
            await _apply(kubernetes, SERVICES, service, pipeline)
            if found.candidate_is_in_place:
                await _delete(kubernetes, found.candidate)
            return
        await _apply(kubernetes, SERVICES, self._builder.service(pipeline, rollout.model, found.served, minor=minor), pipeline)
        candidate = self._candidate(pipeline, rollout, found.candidate, minor)
        if candidate is not None:
            await _apply(kubernetes, SERVICES, candidate, pipeline)
        elif found.candidate_is_in_place:
            await _delete(kubernetes, found.candidate)

    async def delete(self, kubernetes: Kubernetes, pipeline: WinePipeline) -> None:
        """Delete the InferenceServices if the resource owns them. Its ServingRuntime goes with the last owner."""
        found = await find(kubernetes, pipeline)
        if found.candidate_is_in_place:
            await _delete(kubernetes, found.candidate)
        if found.presence is Presence.CURRENT:
            await _delete(kubernetes, found.served)

    async def release(self, kubernetes: Kubernetes, pipeline: WinePipeline) -> Body | None:
        """Remove the resource from the owners of its InferenceService; return that. It owns its ServingRuntime from then on."""
        found = await find(kubernetes, pipeline)
        if found.candidate_is_in_place:
            await _delete(kubernetes, found.candidate)
        live = found.served
        if live is None or found.presence is not Presence.CURRENT:
            return None
        runtime = self._builder.runtime(pipeline)
        if runtime is not None and found.runtime is not None and not found.runtime_is_foreign:
            await kubernetes.apply(SERVING_RUNTIMES, _owned_by(runtime, live), f"{MANAGED_BY}-{live['metadata']['uid'][:8]}")
        return await kubernetes.merge(SERVICES, pipeline.namespace, pipeline.name, without_owner(pipeline, live))


def _no_split(pipeline: WinePipeline) -> str:
    """Explain that an InferenceService from before `kserve.mode: Knative` cannot carry out steps of a canary."""
    where, name = pipeline.namespace, pipeline.name
    return (
        f"InferenceService {where}/{name} is in Standard mode, which splits no traffic, and KServe does not change the mode of "
        f"one that exists. Remove spec.serving.canary, or delete the InferenceService (kubectl -n {where} delete isvc {name}): "
        "it is made again in Knative mode, and requests fail until it is ready"
    )


def _owned_by(runtime: Manifest, service: Body) -> Manifest:
    """Build the ServingRuntime with an InferenceService as its owner: it must stay as long as that."""
    metadata = service["metadata"]
    owner = {"apiVersion": service["apiVersion"], "kind": service["kind"], "name": metadata["name"], "uid": metadata["uid"]}
    labels = {MANAGED_BY_LABEL: MANAGED_BY}
    named = {name: runtime["metadata"][name] for name in ("name", "namespace")}
    return {**runtime, "metadata": {**named, "labels": labels, "ownerReferences": [owner]}}


async def _apply(kubernetes: Kubernetes, kind: Kind, manifest: Manifest, pipeline: WinePipeline) -> None:
    try:
        await kubernetes.apply(kind, manifest, field_manager(pipeline))
    except Refused as error:
        message = f"The API server rejected the {manifest['kind']} {manifest['metadata']['name']}: {error.words}"
        raise Refused(Reason.DEPLOYMENT_REJECTED, message) from None


async def _outage(kubernetes: Kubernetes, pipeline: WinePipeline, wanted: Manifest) -> DeploymentView | None:
    """Ask KServe's webhook, which the controller itself answers, whether the controller runs; None if it does."""
    try:
        await kubernetes.apply(SERVICES, wanted, field_manager(pipeline), dry_run=True)
    except WebhookDown as error:
        return DeploymentView(Presence.CURRENT, owned=True, reason=error.reason, message=error.message, outage=True)
    except PlatformError:
        pass  # a problem of another kind, which the rollout shows
    return None


async def _delete(kubernetes: Kubernetes, live: Body | None) -> None:
    if live is not None:
        metadata = live["metadata"]
        await kubernetes.delete(SERVICES, metadata["namespace"], metadata["name"], metadata["uid"])


async def _with_deployment(kubernetes: Kubernetes, service: Service) -> Service:
    """Read the Deployment that KServe made of an InferenceService. One that it did not make does not count."""
    metadata = service.live["metadata"]
    deployment = await kubernetes.get(DEPLOYMENTS, metadata["namespace"], f"{metadata['name']}{PREDICTOR}")
    if deployment is None or metadata["uid"] not in owners_of(deployment):
        return service
    return replace(service, deployments=[trimmed(deployment, (SOURCE_ANNOTATION,))])


async def _with_pods(kubernetes: Kubernetes, service: Service) -> Service:
    """Read the pods of an InferenceService."""
    metadata = service.live["metadata"]
    selector = f"{OBJECT_LABEL}={metadata['name']}"
    keep = partial(trimmed, annotations=(SOURCE_ANNOTATION,))
    return replace(service, pods=await kubernetes.list(PODS, metadata["namespace"], keep, POD_LIMIT, label_selector=selector))
