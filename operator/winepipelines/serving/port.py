"""The serving port: what the operator needs of a platform that serves models. One folder beside this module implements it.

Deciding speaks of models, candidates, shares and endpoints (`api.rollout.Rollout`). A backend translates that into objects of its
own: it may run the candidate as a second part of one object, as an object of its own, or as a revision inside the same object.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Protocol

from winecontract import protocols
from winepipelines.api.observed import DeploymentView, ServerView
from winepipelines.api.pipeline import WinePipeline
from winepipelines.api.rollout import Rollout
from winepipelines.api.spec import Runtime, Serving
from winepipelines.doctor.check import CheckedBackend
from winepipelines.doctor.observations import ApiKind
from winepipelines.platform import admission
from winepipelines.platform.kubernetes import Body, Kubernetes
from winepipelines.platform.manifests import Manifest


class CandidateExposure(StrEnum):
    """How a candidate is reachable before it has any traffic."""

    SECOND_PREDICTOR = "SecondPredictor"
    """A part of the served model's object, with a Service of its own."""
    SECOND_OBJECT = "SecondObject"
    """An object of its own, with a Service of its own."""
    REVISION_ADDRESS = "RevisionAddress"
    """A revision of the served model's object, with an address of its own."""


class Promotion(StrEnum):
    """What makes a candidate the served model once it has passed its checks."""

    REPLACE = "Replace"
    """The candidate's pods are removed; then the served model's pods are replaced by pods with the candidate's model."""
    SHIFT = "Shift"
    """The candidate's pods stay and receive all traffic."""


@dataclass(frozen=True)
class Capabilities:
    """What a backend can do. `protocols` maps each runtime that it serves to the protocols of that runtime's server."""

    protocols: Mapping[Runtime, tuple[protocols.Protocol, ...]]
    splits_traffic: bool
    candidate: CandidateExposure
    promotion: Promotion
    autoscaling: bool
    scales_to_zero: bool = False

    def problem(self, serving: Serving) -> str:
        """Describe what a spec requires and the backend lacks; empty if it lacks nothing."""
        if serving.runtime not in self.protocols:
            return f"It does not serve runtime {serving.runtime}. Set spec.serving.runtime to {_either(self.protocols)}."
        if serving.protocol not in self.protocols[serving.runtime]:
            known = _either(self.protocols[serving.runtime])
            return f"Runtime {serving.runtime} does not speak protocol {serving.protocol}. Set spec.serving.protocol to {known}."
        if serving.autoscaling is not None and not self.autoscaling:
            return "It does not scale models. Set spec.serving.replicas instead of spec.serving.autoscaling."
        return ""

    def scaling_problem(self, serving: Serving) -> str:
        """Describe why a model cannot be scaled to zero although the spec requires it; empty if it can, or need not."""
        if serving.autoscaling is None or serving.autoscaling.min_replicas or self.scales_to_zero:
            return ""
        return "It does not scale models to zero. Set spec.serving.autoscaling.minReplicas to 1 or more."


@dataclass(frozen=True)
class Endpoint:
    """Where a model answers, and in which protocol."""

    url: str
    protocol: protocols.Protocol


@dataclass(frozen=True)
class Endpoints:
    """The endpoint of a resource, which clients use, and those of the served model and of its candidate alone.

    `stable` leads to the candidate too, once it has a share of the traffic; the other two never mix models.
    """

    stable: Endpoint
    served: Endpoint
    candidate: Endpoint


class ServingBackend(CheckedBackend, Protocol):
    """A serving platform. It holds settings and no state; its coroutines work on the cluster that they are given.

    `CheckedBackend` has what the doctor needs too: name, kind, settings, source Secret, rights and checks.
    """

    @property
    def capabilities(self) -> Capabilities:
        """What it can do with the administrator's settings."""

    @property
    def watches(self) -> Sequence[ApiKind]:
        """The kinds whose objects wake the resource that owns them."""

    @property
    def webhooks(self) -> tuple[re.Pattern[str], admission.Owner]:
        """The names of its admission webhooks, and who runs them."""

    @property
    def templates(self) -> Sequence[str]:
        """The templates of its manifests, which must be readable at start."""

    def problem(self, pipeline: WinePipeline) -> str:
        """Describe what a resource requires and this backend lacks; empty if it lacks nothing."""

    def name_problem(self, pipeline: WinePipeline) -> str:
        """Describe why this backend cannot serve under the names of resource and namespace; empty if it can."""

    def scaling_problem(self, pipeline: WinePipeline) -> str:
        """Describe why this backend cannot scale a resource's models to zero as it requires; empty if it can, or need not."""

    def server(self, runtime: Runtime) -> ServerView:
        """Describe the server that new models of a runtime are served with."""

    def endpoints(self, pipeline: WinePipeline, runtime: Runtime | None = None) -> Endpoints:
        """Name the endpoints of a resource whose models are of `runtime`, by default the spec's."""

    def progress_deadline(self, runtime: Runtime) -> timedelta:
        """Return how long a rollout of a model of this runtime may take."""

    def manifests(self, pipeline: WinePipeline, rollout: Rollout, live: Body | None = None) -> list[Manifest]:
        """Build the objects that carry out a rollout. Pure.

        With `live`, the object that exists, pods keep running as they are where the rollout requires no others.
        """

    async def observe(self, kubernetes: Kubernetes, pipeline: WinePipeline, rollout: Rollout | None) -> DeploymentView:
        """Observe how far a rollout is; None observes only whether an object exists and whose it is."""

    async def apply(self, kubernetes: Kubernetes, pipeline: WinePipeline, rollout: Rollout) -> None:
        """Apply the objects of a rollout and delete those that it does not need.

        Raises Refused if the API server or an admission webhook rejects them.
        """

    async def delete(self, kubernetes: Kubernetes, pipeline: WinePipeline) -> None:
        """Delete the objects that serve the resource's models. Objects that it does not own stay."""

    async def release(self, kubernetes: Kubernetes, pipeline: WinePipeline) -> Body | None:
        """Remove the resource from the owners of what serves, so that it outlives the resource; return that object."""


def _either(names: Mapping[Runtime, object] | Sequence[str]) -> str:
    return " or ".join(names)
