"""What the serving backend is to serve, as a value: `pipelines` decides it, `serving` carries it out."""

from dataclasses import dataclass

from winepipelines.api.modelrecord import ModelRecord


@dataclass(frozen=True)
class Rollout:
    """The model that serves and, beside it, a candidate with `weight` percent of the traffic.

    `revision` is the one that `model` serves as. A model without a server image, or without one of the backend's options, keeps
    those that it is served with already; one that is new gets those of the settings.
    """

    revision: int
    model: ModelRecord
    canary: ModelRecord | None = None
    weight: int = 0
