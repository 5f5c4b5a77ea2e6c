"""What serves a resource's models on one serving backend, in the in-memory platform."""

from dataclasses import dataclass
from typing import Any

from winepipelines.api.modelrecord import ModelRecord
from winepipelines.api.rollout import Rollout
from winepipelines.api.spec import Serving


def same_pods(rollout: Rollout, other: Rollout | None) -> bool:
    """Whether the change of a rollout starts no pods."""
    pods = [
        [model and (model.uri, model.server, model.digest) for model in (one.model, one.canary)]
        for one in (rollout, other)
        if one is not None
    ]
    return len(pods) == 2 and pods[0][0] == pods[1][0] and pods[0][1] in (None, pods[1][1])


def served_as(model: ModelRecord | None) -> tuple[object, ...] | None:
    """The fields of a model that a serving backend compares."""
    if model is None:
        return None
    return (model.uri, model.mlflow_run, model.runtime, model.server, model.digest, model.example_digest)


def is_applied(rollout: Rollout, applied: Rollout) -> bool:
    """Whether a rollout is the applied one."""
    one, other = ((item.revision, served_as(item.model), served_as(item.canary), item.weight) for item in (rollout, applied))
    return one == other


@dataclass
class Deployment:
    """What serves the resource's models on one serving backend."""

    applied: Rollout | None = None  # the rollout in the deployment
    last_applied: tuple[Rollout, Serving] | None = None  # by the operator
    replicas: int = 1
    foreign: bool = False
    rolled_out: bool = False
    scaled_to_zero: bool = False  # no pod runs, and requests are not answered until a test starts one
    owned: bool = False
    held: bool = False  # a finalizer delays its deletion
    deleting: bool = False
    pods_fail: tuple[str, str] = ("", "")  # reason and message, if it does not roll out on this backend


class OfDeployment:
    """A field of the deployment on the backend that the resource is served on."""

    def __set_name__(self, _: type, name: str) -> None:
        self._name = name

    def __get__(self, world: Any, _: type | None = None) -> Any:
        return self if world is None else getattr(world.deployment(), self._name)

    def __set__(self, world: Any, value: object) -> None:
        setattr(world.deployment(), self._name, value)
