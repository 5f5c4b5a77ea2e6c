"""What shall serve, for tests that ask the Seldon adapter."""

from winepipelines.resource.rollout import ModelRef, Rollout
from winepipelines.resource.spec import Runtime


def one(revision: int, uri: str, runtime: str = Runtime.BUNDLED, image: str = "", executor: bool | None = None) -> Rollout:
    """One model and nothing on trial."""
    return Rollout(ModelRef(revision, uri, f"mlflow-{revision}", Runtime(runtime), image, executor))
