"""The way from the operator's adapter to an endpoint, through a proxy. Used by the tests beside this file."""

import ssl
from pathlib import Path
from typing import Any

from contract.kubeflow.endpoint import Endpoint
from support.proxy import Call, Fault, Proxy

from winepipelines.platform.kubeflow import Kubeflow
from winepipelines.resource.pipeline import WinePipeline
from winepipelines.resource.spec import Spec
from winepipelines.resource.status import Status
from winepipelines.settings import Settings


class Road:
    """The way from the adapter to the endpoint: what went along it, and what becomes of calls."""

    def __init__(self, kfp: Endpoint, folder: Path) -> None:
        self.kfp = kfp
        self.calls: list[Call] = []
        self.faults: dict[tuple[str, str], Fault] = {}  # by method and beginning of the path; each is met once
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
        """An adapter with the administrator's settings; it has a token where one is asked for."""
        token_file = str(self.token_file) if self.kfp.multi_user else ""
        given = {"kfp_url": self.proxy.url, "kfp_token_file": token_file, "request_seconds": 60.0}
        return Kubeflow(Settings(mlflow_url="http://mlflow", s3_endpoint_url="http://minio", **{**given, **changes}))

    def resource(self, experiment: str = "kfp-contract", **training: object) -> WinePipeline:
        """A resource in the endpoint's namespace."""
        data = {"url": "http://data.invalid/wine.csv"}
        spec = Spec.model_validate({"data": data, "training": {"experiment": experiment, **training}})
        return WinePipeline(self.kfp.namespace, "mlflow", "0123456789ab", 1, "1", spec, Status())

    def sent(self, method: str, path: str) -> list[Call]:
        return [call for call in self.calls if call.method == method and call.path.startswith(path)]

    async def created(self, name: str, **changes: Any) -> str:
        """Have the adapter submit a run; its id."""
        adapter = self.adapter(**changes)
        await adapter.create(self.resource(), name, 1)
        [run] = await adapter.runs_named(self.kfp.namespace, name)
        self.kfp.made.append(run.id)
        return run.id
