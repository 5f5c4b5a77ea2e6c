"""SeldonDeployments that earlier releases applied, as they were: an upgrade must not replace pods that serve."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from winepipelines.resource.pipeline import WinePipeline
from winepipelines.resource.rollout import ModelRef, Rollout
from winepipelines.resource.spec import Runtime, Spec
from winepipelines.resource.status import Status
from winepipelines.settings import Settings

FOLDER = Path(__file__).with_name("earlier_releases")
SETTINGS = Settings("http://kfp", "http://mlflow", "http://minio", server_image="s:1")
MODELS = ("s3://mlflow/1/model", "s3://mlflow/2/model")


@dataclass(frozen=True)
class Earlier:
    """One manifest, and what it was made of. `weight` is the candidate's share of the traffic; None without one."""

    case: str
    serving: dict[str, Any]
    executor: bool
    weight: int | None
    manifest: dict[str, Any]

    def __str__(self) -> str:
        return self.case

    @property
    def pipeline(self) -> WinePipeline:
        """The resource that it serves."""
        spec = Spec.model_validate({"data": {"url": "http://data/wine.csv"}, "serving": self.serving})
        return WinePipeline("admin", "mlflow", "0123456789ab", 1, "1", spec, Status())

    @property
    def rollout(self) -> Rollout:
        """What the resource's status says of the models."""
        runtime = Runtime(self.serving.get("runtime", Runtime.BUNDLED))
        served, candidate = (
            ModelRef(number, uri, f"mlflow-{number}", runtime, executor=self.executor) for number, uri in enumerate(MODELS, 1)
        )
        return Rollout(served) if self.weight is None else Rollout(served, candidate, self.weight)


def earlier_manifests() -> list[Earlier]:
    """Read all of them."""
    return [
        Earlier(**{**one, "case": f"{path.stem}-{one['case']}"})
        for path in sorted(FOLDER.glob("*.yaml"))
        for one in yaml.safe_load(path.read_text())
    ]
