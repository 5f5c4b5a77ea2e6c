"""A proxy in front of each system that the operator calls, for tests that break connections."""

import json
import ssl
from base64 import b64encode
from collections.abc import Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Self

import yaml
from support.cluster import Cluster
from support.operator import OperatorProcess
from support.proxy import Proxy

from sandbox.plan import load

SYSTEMS = ("api", "kfp", "mlflow", "store", "gateway")


class Systems:
    """Proxies by name, and an operator that uses them, which is not started. Steps and model servers connect directly."""

    def __init__(self, cluster: Cluster, changes: Mapping[str, str] | None = None) -> None:
        self._cluster = cluster
        self._changes = changes or {}
        self._stack = ExitStack()
        self.proxies: dict[str, Proxy] = {}

    def __enter__(self) -> Self:
        info, backend = self._cluster.info, self._cluster.backend
        plan = load(self._cluster.sandbox.folder)
        assert plan is not None
        tls = ssl.create_default_context(cafile=plan.certificates / "ca.crt")
        upstreams = {
            "api": Proxy(plan.url("apiserver", "https"), tls=tls),
            "kfp": Proxy(info.kfp_url),
            "mlflow": Proxy(info.mlflow_url),
            "store": Proxy(info.s3_endpoint, keep_host=True),
            "gateway": Proxy(backend.gateway(info)),
        }
        self.proxies = {name: self._stack.enter_context(proxy) for name, proxy in upstreams.items()}
        kubeconfig = yaml.safe_load(info.operator_kubeconfig.read_text())
        for entry in kubeconfig["clusters"]:
            entry["cluster"] = {"server": self.proxies["api"].url}
        through = info.folder / "operator-through-proxy.kubeconfig"
        through.write_text(yaml.safe_dump(kubeconfig))
        through.chmod(0o600)
        self._address = self._store_address()
        self._point_store(b64encode(self.proxies["store"].url.encode()).decode())
        self.operator = OperatorProcess(
            self._cluster.sandbox,
            {
                "KUBECONFIG": str(through),
                "WINE_KFP_URL": self.proxies["kfp"].url,
                "WINE_MLFLOW_URL": self.proxies["mlflow"].url,
                "WINE_STEPS_MLFLOW_URL": info.mlflow_url,
                backend.setting: self.proxies["gateway"].url + backend.base,
                **self._changes,
            },
        )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.operator.kill()
        self._stack.close()
        self._point_store(self._address)

    def _store_address(self) -> str | None:
        """Return the store's address as the platform's Secret has it, in base64, or None."""
        backend = self._cluster.backend
        secret = self._cluster.get("secrets", "kubeflow", backend.source)
        assert secret is not None
        address: str | None = secret["data"].get(backend.address)
        return address

    def _point_store(self, address: str | None) -> None:
        """Change the store's address, in base64, in the platform's Secret, or remove it."""
        backend = self._cluster.backend
        patch = json.dumps({"data": {backend.address: address}})
        self._cluster.sandbox.kubectl("-n", "kubeflow", "patch", "secret", backend.source, "-p", patch)
