"""What the serving platform shall do, as values. Made by `lifecycle`, carried out by `platform`; neither knows the other."""

from dataclasses import dataclass

from winepipelines.resource.spec import Runtime


@dataclass(frozen=True)
class ModelRef:
    """A model, as the serving platform needs to know it. `uri` is the address that rclone copies.

    `executor` tells whether Seldon's executor stands in front of the server. Without `image` or `executor`, those of the
    predictor that serves this model already are kept; a new one gets what the settings say. `digest` is that of the model's
    files, which the bundled server compares before it loads them, `example_digest` that of its example; empty: none was signed.
    """

    revision: int
    uri: str
    mlflow_run: str
    runtime: Runtime = Runtime.BUNDLED
    image: str = ""
    executor: bool | None = None
    digest: str = ""
    example_digest: str = ""


@dataclass(frozen=True)
class Rollout:
    """One model that serves, and maybe one on trial beside it, with a share of the traffic in percent."""

    model: ModelRef
    trial: ModelRef | None = None
    weight: int = 0
