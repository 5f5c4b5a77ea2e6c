"""One MLflow with its object store, which tests write to as the steps do, and the operator's adapter for it."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
from mlflow.entities import Metric, RunTag
from mlflow.store.model_registry.rest_store import RestStore as RegistryStore
from mlflow.store.tracking.rest_store import RestStore as TrackingStore
from mlflow.utils.rest_utils import MlflowHostCreds
from support.backends import SOURCE
from support.mlflow import KEYS, expected, signature

from sandbox.mlflow_server import destination, variant
from sandbox.plan import Info
from winecontract.signatures import Keys
from winepipelines.api.errors import PlatformError
from winepipelines.api.sourcesecret import StoreAccess
from winepipelines.platform.mlflow import MLflow
from winepipelines.settings import Settings

GROUP = "winepipelines.io"
YEAR_2100 = 4_102_444_800_000
"""Start time of forged runs, in milliseconds."""

MODEL_TAGS = {
    "namespace": "admin",
    "uid": "uid-1",
    "revision": "7",
    "kfp-run": "kfp-1",
    "model-uri": "{root}/model",
    "model-version": "1",
}
"""Tags of a model of revision 7, without their prefix."""


@dataclass
class Server:
    """One MLflow with its object store. `runs` and `registry` write as the steps do."""

    name: str
    info: Info

    def __post_init__(self) -> None:
        user = {"username": self.info.mlflow_user, "password": self.info.mlflow_password} if self.info.mlflow_user else {}
        self.credentials = {f"MLFLOW_TRACKING_{key.upper()}": value for key, value in user.items()}
        host = MlflowHostCreds(self.info.mlflow_url, **user)
        self.runs, self.registry = TrackingStore(lambda: host), RegistryStore(lambda: host)
        self.settings = Settings(
            kfp_url="http://kfp",
            mlflow_url=self.info.mlflow_url,
            s3_endpoint_url=self.info.s3_endpoint,
            mlflow_secret="mlflow-tracking-credentials" if user else "",
            artifacts_destination=destination(variant(self.name)) if variant(self.name).proxied else "",
        )

    def adapter(self, credentials: Mapping[str, str] | None = None, **settings: str) -> MLflow:
        values = self.credentials if credentials is None else credentials

        async def read() -> Mapping[str, str]:
            return values

        return MLflow(self.settings.with_(**settings), read)

    def experiment(self, name: str, root: str = "") -> str:
        found = self.runs.get_experiment_by_name(name)
        return str(found.experiment_id if found else self.runs.create_experiment(name, root or None, []))

    def log(
        self,
        experiment: str,
        tags: Mapping[str, str],
        status: str = "FINISHED",
        metrics: Mapping[str, float] = {},
        keys: Keys | None = KEYS,
        start: int = 0,
    ) -> Any:
        """Create a run. `{root}` in its tags becomes its artifact root. A run with a model is signed with `keys`, if any."""
        now = start or int(time.time() * 1000)
        run = self.runs.create_run(experiment, "someone", now, [], "by hand")
        own = {name: value.replace("{root}", run.info.artifact_uri) for name, value in tags.items()}
        signed = signature(run.info.run_id, own, metrics, keys) if keys and "model-uri" in own else {}
        written = [RunTag(name, value) for name, value in ({f"{GROUP}/{name}": own[name] for name in own} | signed).items()]
        self.runs.log_batch(run.info.run_id, [Metric(name, value, now, 0) for name, value in metrics.items()], [], written)
        self.runs.update_run_info(run.info.run_id, {"FINISHED": 3, "FAILED": 4}[status], now, "by hand")
        return run

    def access(self, **changes: str) -> StoreAccess:
        info = self.info
        keys = {"TYPE": "s3", "ENDPOINT": info.s3_endpoint, "ACCESS_KEY_ID": info.s3_access_key}
        values = {**keys, "SECRET_ACCESS_KEY": info.s3_secret_key, **changes}
        access = SOURCE.access({f"RCLONE_CONFIG_S3_{key}": value for key, value in values.items()})
        return replace(access, source=f"the Secret {SOURCE.name}", endpoint_key=SOURCE.endpoint_key)


async def refusal(adapter: MLflow) -> PlatformError:
    """Return the error of a read that must fail."""
    with pytest.raises(PlatformError) as caught:
        await adapter.records("found", expected())
    return caught.value
