"""What the serving platform shall do, as values. Made by `lifecycle`, carried out by `platform`; neither knows the other."""

from dataclasses import dataclass

from winepipelines.resource.spec import Runtime


@dataclass(frozen=True)
class ModelRef:
    """A model, as the serving platform needs to know it. `uri` is the address that rclone copies.

    Without an `image`, that of the server which has this model already is kept.
    """

    revision: int
    uri: str
    mlflow_run: str
    runtime: Runtime = Runtime.BUNDLED
    image: str = ""


@dataclass(frozen=True)
class Rollout:
    """One model that serves, and maybe one on trial beside it, with a share of the traffic in percent."""

    model: ModelRef
    trial: ModelRef | None = None
    weight: int = 0
