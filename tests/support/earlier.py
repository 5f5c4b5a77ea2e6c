"""SeldonDeployments as earlier releases applied them, for tests that upgrades do not replace their pods."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from support.rollouts import model

from winepipelines.api.pipeline import WinePipeline
from winepipelines.api.rollout import Rollout
from winepipelines.api.spec import Runtime, Spec
from winepipelines.api.status import Status
from winepipelines.settings import Settings

FOLDER = Path(__file__).with_name("earlier_releases")
SETTINGS = Settings(kfp_url="http://kfp", mlflow_url="http://mlflow", s3_endpoint_url="http://minio", server_image="s:1")
MODELS = ("s3://mlflow/1/model", "s3://mlflow/2/model")


@dataclass(frozen=True)
class Earlier:
    """A manifest and its inputs. `weight` is the candidate's share of the traffic, or None without a candidate."""

    case: str
    serving: dict[str, Any]
    executor: bool
    weight: int | None
    manifest: dict[str, Any]

    def __str__(self) -> str:
        return self.case

    @property
    def pipeline(self) -> WinePipeline:
        """The resource of the deployment."""
        spec = Spec.model_validate({"data": {"url": "http://data/wine.csv"}, "serving": self.serving})
        return WinePipeline("admin", "mlflow", "0123456789ab", 1, "1", spec, Status())

    @property
    def rollout(self) -> Rollout:
        """The rollout according to the resource's status."""
        runtime = Runtime(self.serving.get("runtime", Runtime.BUNDLED))
        served, candidate = (model(number, uri, runtime, executor=self.executor) for number, uri in enumerate(MODELS, 1))
        return Rollout(1, served) if self.weight is None else Rollout(1, served, candidate, self.weight)


def earlier_manifests() -> list[Earlier]:
    """Read all manifests of earlier releases."""
    return [
        Earlier(**{**one, "case": f"{path.stem}-{one['case']}"})
        for path in sorted(FOLDER.glob("*.yaml"))
        for one in yaml.safe_load(path.read_text())
    ]
