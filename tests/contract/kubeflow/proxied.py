"""The operator's adapter, connected to an endpoint through a proxy."""

import ssl
from pathlib import Path
from typing import Any

from contract.kubeflow.endpoint import Endpoint
from support.proxy import Call, Fault, Proxy

from winepipelines.api.pipeline import WinePipeline
from winepipelines.api.spec import Spec
from winepipelines.api.status import Status
from winepipelines.platform.kubeflow import Kubeflow
from winepipelines.settings import Settings


class ProxiedEndpoint:
    """An endpoint behind a proxy that records calls and injects faults."""

    def __init__(self, kfp: Endpoint, folder: Path) -> None:
        self.kfp = kfp
        self.calls: list[Call] = []
        self.faults: dict[tuple[str, str], Fault] = {}  # by method and beginning of the path; each is injected once
        tls = ssl.create_default_context(cafile=kfp.ca_file) if kfp.ca_file else None
        self.proxy = Proxy(kfp.url, before=self.before, tls=tls)
        self.token_file = folder / "token"
        self.token_file.write_text(f"{kfp.token}\n")

    def before(self, call: Call) -> Fault | None:
        self.calls.append(call)
        return next(
            (self.faults.pop(at) for at in list(self.faults) if call.method == at[0] and call.path.startswith(at[1])), None
        )

    def adapter(self, **changes: Any) -> Kubeflow:
        """Return an adapter with an administrator's settings. It has a token in multi-user mode."""
        token_file = str(self.token_file) if self.kfp.multi_user else ""
        given = {"kfp_url": self.proxy.url, "kfp_token_file": token_file, "request_seconds": 60.0}
        return Kubeflow(Settings(mlflow_url="http://mlflow", s3_endpoint_url="http://minio", **{**given, **changes}))

    def resource(self, experiment: str = "kfp-contract", **training: object) -> WinePipeline:
        """Return a resource in the endpoint's namespace."""
        data = {"url": "http://data.invalid/wine.csv"}
        spec = Spec.model_validate({"data": data, "training": {"experiment": experiment, **training}})
        return WinePipeline(self.kfp.namespace, "mlflow", "0123456789ab", 1, "1", spec, Status())

    def sent(self, method: str, path: str) -> list[Call]:
        return [call for call in self.calls if call.method == method and call.path.startswith(path)]

    async def created(self, name: str, **changes: Any) -> str:
        """Submit a run by the adapter. Return its id."""
        adapter = self.adapter(**changes)
        await adapter.create(self.resource(), name, 1)
        [run] = await adapter.runs_named(self.kfp.namespace, name)
        self.kfp.created.append(run.id)
        return run.id
