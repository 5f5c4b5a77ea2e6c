"""Seldon Core 1 in this cluster, and what is read of a SeldonDeployment. Called by `observe` and `act`.

Its words are known here, to `seldondeployment` and `answers`, and to the templates alone.

Seldon never sets `observedGeneration`, so `Available` may be about the previous model. It is believed only when the Deployment's
init container copies the model that was asked for, and no other pod is left.
"""

import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import aiohttp
import yaml

from winepipelines.platform.answers import Asked, ask, compare
from winepipelines.platform.kubernetes import DEPLOYMENTS, PODS, Body, Kind, KindMissing, Kubernetes
from winepipelines.platform.manifests import Manifest, Manifests, covers
from winepipelines.platform.records import Example
from winepipelines.platform.seldondeployment import (
    NO_EXECUTOR,
    RESTRICTIONS,
    containers_of,
    needs_executor,
    predictors_of,
    protocol_of,
    seldon_deployment,
    server_image,
)
from winepipelines.platform.workloads import Trouble, is_complete, steady, trimmed, trouble_of
from winepipelines.resource.errors import Refused
from winepipelines.resource.naming import (
    GRAPH,
    HASH_ANNOTATION,
    MANAGED_BY,
    MANAGED_BY_LABEL,
    PIPELINE_LABEL,
    PREDICTOR,
    TEMPLATE_ANNOTATION,
    TRIAL_PREDICTOR,
    field_manager,
)
from winepipelines.resource.observed import DeploymentView, PredictionCheck, Presence, ServerView, TrialView
from winepipelines.resource.pipeline import WinePipeline
from winepipelines.resource.rollout import ModelRef, Rollout
from winepipelines.resource.spec import Protocol, Runtime
from winepipelines.settings import Settings

SELDONDEPLOYMENTS = Kind("machinelearning.seldon.io/v1", "seldondeployments")
DEPLOYMENT_LABEL = "seldon-deployment-id"
MOST_DEPLOYMENTS = 20  # of one SeldonDeployment; there are two, and some more while it changes
MOST_PODS = 200  # that are looked at
PATHS = {Protocol.SELDON: "/api/v1.0/predictions", Protocol.V2: f"/v2/models/{GRAPH}/infer"}
RELEASES = "mlflowserver.yaml"  # what Seldon's own server can read, release by release
PASSING = re.compile(  # of what Seldon makes itself: its cache has not seen what it has just made or deleted
    r"^(?:service|deployment|horizontalpodautoscaler|poddisruptionbudget|virtualservice|destinationrule|scaledobject|"
    r'seldondeployment)s?(?:\.[\w.]+)? "[^"]*" (?:not found|already exists)|the object has been modified',
    re.IGNORECASE,
)
STANDSTILL = "Deployment is no longer progressing"  # said of a Deployment, which says more itself


class Seldon:
    """Seldon Core 1 in this cluster."""

    def __init__(self, kubernetes: Kubernetes, manifests: Manifests, settings: Settings, session: aiohttp.ClientSession) -> None:
        """Use these adapters; `session` asks for predictions."""
        self._kubernetes = kubernetes
        self._manifests = manifests
        self._settings = settings
        self._session = session
        self._problem = _unreadable(settings)

    def endpoint(self, pipeline: WinePipeline, runtime: Runtime | None = None) -> str:
        """Say where predictions are asked of a model of this runtime; the spec's unless said otherwise."""
        base = self._settings.endpoint_template.format(namespace=pipeline.namespace, name=pipeline.name)
        return base + PATHS[protocol_of(pipeline, runtime)]

    def server(self, runtime: Runtime) -> ServerView:
        """Say which server a runtime has here."""
        own = runtime is not Runtime.BUNDLED
        return ServerView(
            version=self._settings.mlflowserver_version if own else "",
            problem=self._problem if own else "",
            image=server_image(self._settings, runtime),
            splits_traffic=self._settings.traffic_splitting != "none",
            executor=needs_executor(self._settings, runtime),
            takes_unsigned=self._settings.serves_unsigned,
        )

    def manifest(self, pipeline: WinePipeline, rollout: Rollout, live: Body | None = None) -> Manifest:
        """Build what serves a model, and the one on trial beside it, in the place of `live`."""
        if live is not None:
            rollout = _with_servers(rollout, live)
        return seldon_deployment(self._manifests, self._settings, pipeline, rollout, live)

    async def view(self, pipeline: WinePipeline, rollout: Rollout) -> DeploymentView:
        """See what serves, compared with what shall."""
        presence, live = await self._find(pipeline)
        if live is None or presence is not Presence.CURRENT:
            return DeploymentView(presence)
        wanted = self.manifest(pipeline, rollout, live)
        if not _is_applied(live, wanted):
            return DeploymentView(Presence.DIFFERS, owned=True, drifted=_was_applied(live, wanted))
        return await self._rollout(pipeline, live, wanted)

    async def presence(self, pipeline: WinePipeline) -> DeploymentView:
        """See whether anything serves, and whether it is owned by the resource."""
        presence, live = await self._find(pipeline)
        return DeploymentView(presence, owned=live is not None and pipeline.uid in _owners(live))

    async def apply(self, pipeline: WinePipeline, rollout: Rollout) -> None:
        """Have this served.

        Raises Refused where the API server, or a webhook of the cluster's, says no, with its own words.
        """
        _, live = await self._find(pipeline)
        manifest = self.manifest(pipeline, rollout, live)
        try:
            await self._kubernetes.apply(SELDONDEPLOYMENTS, manifest, field_manager(pipeline))
        except Refused as error:
            raise Refused("DeploymentRefused", f"the SeldonDeployment {pipeline.name} is refused: {error.words}") from None

    async def delete(self, pipeline: WinePipeline) -> None:
        """Have nothing served any more, if what serves is the resource's."""
        presence, live = await self._find(pipeline)
        if live is not None and presence is Presence.CURRENT:
            await self._kubernetes.delete(SELDONDEPLOYMENTS, pipeline.namespace, pipeline.name, live["metadata"]["uid"])

    async def release(self, pipeline: WinePipeline) -> Body | None:
        """Give up the ownership of what serves; return it."""
        presence, live = await self._find(pipeline)
        if live is None or presence is not Presence.CURRENT:
            return None
        others = [owner for owner in live["metadata"].get("ownerReferences", []) if owner["uid"] != pipeline.uid]
        patch = {"metadata": {"ownerReferences": others, "resourceVersion": live["metadata"]["resourceVersion"]}}
        return await self._kubernetes.merge(SELDONDEPLOYMENTS, pipeline.namespace, pipeline.name, patch)

    async def predict(self, pipeline: WinePipeline, example: Example, runtime: Runtime | None = None) -> PredictionCheck:
        """Ask for a prediction and compare it with what the model itself said."""
        return await ask(self._session, Asked(self.endpoint(pipeline, runtime), protocol_of(pipeline, runtime), example))

    async def compare(self, pipeline: WinePipeline, rollout: Rollout, examples: tuple[Example | None, Example]) -> TrialView:
        """Ask the model that serves, unless it has no example, and the one on trial, each at its own service, in turns."""
        assert rollout.trial is not None, "there is one on trial"
        served = self._asked(pipeline, PREDICTOR, rollout.model, examples[0]) if examples[0] is not None else None
        trial = self._asked(pipeline, TRIAL_PREDICTOR, rollout.trial, examples[1])
        return await compare(self._session, served, trial)

    def _asked(self, pipeline: WinePipeline, predictor: str, model: ModelRef, example: Example) -> Asked:
        protocol = protocol_of(pipeline, model.runtime)
        names = {"namespace": pipeline.namespace, "name": pipeline.name, "predictor": predictor}
        return Asked(self._settings.predictor_template.format(**names) + PATHS[protocol], protocol, example)

    async def _find(self, pipeline: WinePipeline) -> tuple[Presence, Body | None]:
        try:
            live = await self._kubernetes.get(SELDONDEPLOYMENTS, pipeline.namespace, pipeline.name)
        except KindMissing:
            return Presence.KIND_MISSING, None
        if live is None:
            return Presence.ABSENT, None
        labels = live["metadata"].get("labels") or {}
        ours = labels.get(MANAGED_BY_LABEL) == MANAGED_BY and labels.get(PIPELINE_LABEL) == pipeline.name
        if not ours or (_owners(live) and pipeline.uid not in _owners(live)):
            return Presence.FOREIGN, live
        return Presence.CURRENT, live

    async def _rollout(self, pipeline: WinePipeline, live: Body, wanted: Manifest) -> DeploymentView:
        """Tell whether the model is rolled out, and if not, why not."""
        selector = f"{DEPLOYMENT_LABEL}={pipeline.name}"
        deployments = await self._kubernetes.list(
            DEPLOYMENTS, pipeline.namespace, trimmed, MOST_DEPLOYMENTS, label_selector=selector
        )
        if len(deployments) > MOST_DEPLOYMENTS:
            raise Refused(
                "TooManyDeployments",
                f"more than {MOST_DEPLOYMENTS} Deployments in namespace {pipeline.namespace} have the label {selector}. Delete "
                f"those that Seldon did not make (kubectl -n {pipeline.namespace} get deployments -l {selector})",
            )
        predictors = wanted["spec"]["predictors"]
        new = [item for item in deployments if any(_is_of(item["spec"]["template"], predictor) for predictor in predictors)]
        status, autoscaling = live.get("status") or {}, pipeline.spec.serving.autoscaling
        # Whenever an autoscaler adds a pod, Seldon says Creating until that one is ready.
        settled = ("Available",) if autoscaling is None else ("Available", "Creating")
        fewest = None if autoscaling is None else autoscaling.min_replicas
        complete = all(is_complete(deployment, fewest) for deployment in deployments)
        serve = all(_serves(new, predictor, autoscaled=autoscaling is not None) for predictor in predictors)
        if serve and complete and len(new) == len(deployments) and status.get("state") in settled:
            return DeploymentView(Presence.CURRENT, rolled_out=True, trial_rolled_out=len(predictors) > 1, owned=True)
        trial_rolled_out = _trial_is_rolled_out(new, predictors, fewest)
        pods = await self._kubernetes.list(PODS, pipeline.namespace, trimmed, MOST_PODS, label_selector=selector)
        pods = [pod for pod in pods if any(_is_of(pod, predictor) for predictor in predictors)]
        troubles = [trouble for deployment in new if (trouble := trouble_of(deployment, pods)) is not None]
        troubles += _said(status)
        if troubles:
            worst = min(troubles)
            return DeploymentView(
                Presence.CURRENT,
                trial_rolled_out=trial_rolled_out,
                owned=True,
                reason=worst.reason,
                message=worst.message,
            )
        return DeploymentView(
            Presence.CURRENT,
            trial_rolled_out=trial_rolled_out,
            owned=True,
            message="Seldon is rolling the model out",
            passing=_passing(status),
        )


def _serves(deployments: list[Body], predictor: Manifest, *, autoscaled: bool) -> bool:
    """Tell whether a predictor has the Deployment that copies its model, with as many pods as it shall have."""
    serving = [
        item
        for item in deployments
        if _is_of(item["spec"]["template"], predictor) and _copied_model(item) == predictor["graph"]["modelUri"]
    ]
    return bool(serving) and (autoscaled or [item["spec"].get("replicas") for item in serving] == [predictor["replicas"]])


def _trial_is_rolled_out(deployments: list[Body], predictors: list[Manifest], fewest: int | None) -> bool:
    """Tell whether the pods of the model on trial are there, whatever becomes of those of the model that serves."""
    trials = [predictor for predictor in predictors if predictor["name"] == TRIAL_PREDICTOR]
    return bool(trials) and all(
        _serves(deployments, trial, autoscaled=fewest is not None)
        and all(is_complete(item, fewest) for item in deployments if _is_of(item["spec"]["template"], trial))
        for trial in trials
    )


def _with_servers(rollout: Rollout, live: Body) -> Rollout:
    """Keep the server that has a model already, where no other is named."""
    trial = rollout.trial
    return replace(rollout, model=_with_server(rollout.model, live), trial=trial and _with_server(trial, live))


def _with_server(model: ModelRef, live: Body) -> ModelRef:
    predictor = next((item for item in predictors_of(live) if (item.get("graph") or {}).get("modelUri") == model.uri), None)
    if predictor is None:
        return model
    image = next((str(container.get("image") or "") for container in containers_of(predictor)), "")
    executor = (predictor.get("annotations") or {}).get(NO_EXECUTOR) != "true"
    return replace(model, image=model.image or image, executor=executor if model.executor is None else model.executor)


def _annotations(item: Body) -> dict[str, str]:
    annotations: dict[str, str] = item["metadata"].get("annotations") or {}
    return annotations


def _is_of(item: Body, predictor: Manifest) -> bool:
    """Tell whether a pod, or a pod template, was made of this very predictor: an earlier one's troubles are not its own."""
    wanted = _annotations(predictor["componentSpecs"][0])
    return _annotations(item).get(TEMPLATE_ANNOTATION) == wanted[TEMPLATE_ANNOTATION]


def _owners(live: Body) -> set[str]:
    return {owner["uid"] for owner in live["metadata"].get("ownerReferences") or []}


def _is_applied(live: Body, wanted: Manifest) -> bool:
    """Tell whether a manifest is what was applied last, and whether what matters of it still stands.

    Not more: others may add what was left out, and replicas are an autoscaler's where there is one.
    """
    if not _was_applied(live, wanted):
        return False
    owners = {"ownerReferences": wanted["metadata"]["ownerReferences"]}
    mine = wanted["spec"]["predictors"]
    return (
        live["spec"].get("protocol") == wanted["spec"]["protocol"]
        and len(live["spec"]["predictors"]) == len(mine)
        and covers(live["spec"]["predictors"], [_essential(predictor) for predictor in mine])
        and covers(live["metadata"], owners)
    )


def _was_applied(live: Body, wanted: Manifest) -> bool:
    """Tell whether a manifest is what was applied last, whatever others have made of it since."""
    return _annotations(live).get(HASH_ANNOTATION) == _annotations(wanted)[HASH_ANNOTATION]


def _essential(predictor: Manifest) -> Manifest:
    """Leave out of a predictor what others may add to or decide on."""
    [part] = predictor["componentSpecs"]
    [container] = part["spec"]["containers"]
    essential: Manifest = {
        key: predictor[key] for key in ("name", "annotations", "replicas", "graph", "traffic") if key in predictor
    }
    spec = {key: part["spec"][key] for key in RESTRICTIONS if key in part["spec"]}
    spec["containers"] = [{key: container[key] for key in ("name", "image", "env", "securityContext") if key in container}]
    return {**essential, "componentSpecs": [{"spec": spec, **{key: part[key] for key in ("metadata", "hpaSpec") if key in part}}]}


def _copied_model(deployment: Body) -> str:
    """Say which model a Deployment's init container copies."""
    for container in deployment["spec"]["template"]["spec"].get("initContainers") or []:
        if container["name"] == f"{GRAPH}-model-initializer":
            return str((container.get("args") or [""])[0])
    return ""


def _said(status: Body) -> list[Trouble]:
    """Read what Seldon itself could not do, which is about its last try: it makes the Deployment last."""
    description = _failure(status)
    if not description or description.startswith(STANDSTILL) or _passing(status):
        return []
    return [Trouble(7, "DeploymentFailed", f"Seldon says: {steady(description)}")]


def _passing(status: Body) -> str:
    """Read what Seldon could not do because its own view of what it makes lagged behind: it does it again at once."""
    description = _failure(status)
    return f"Seldon says: {steady(description)}" if PASSING.search(description) else ""


def _failure(status: Body) -> str:
    return str(status.get("description") or "").strip() if status.get("state") == "Failed" else ""


def _unreadable(settings: Settings) -> str:
    """Say why Seldon's own server of this version cannot serve; "" where it can."""
    version = settings.mlflowserver_version
    table = yaml.safe_load((Path(settings.templates) / RELEASES).read_text())
    known = [row["since"] for row in table["releases"]] + [table["before"]]
    try:
        if any(_release(since) <= _release(version) < _release(before) for since, before in pairwise(known)):
            return ""
    except ValueError:
        pass
    return (
        f"runtime mlflowserver: it is not known which models the platform's server, version {version!r}, can read; the "
        f"administrator names one from {known[0]} to before {known[-1]} (WINE_MLFLOWSERVER_IMAGE, WINE_MLFLOWSERVER_VERSION), or "
        "spec.serving.runtime is bundled"
    )


def _release(version: str) -> tuple[int, ...]:
    """Read the release of a version: its first two numbers. Raises ValueError."""
    major, minor, *_ = version.split(".")
    return int(major), int(minor)
