"""The parts of KServe's installation in the sandbox, without servers."""

import json
from typing import Any

import pytest
import yaml

from sandbox.errors import SandboxError
from sandbox.kserve import installation, rights
from sandbox.kserve.gateway import PredictorGateway
from sandbox.places import ROOT
from sandbox.platform import Sandbox
from sandbox.seldon.podstatus import model_container

URL, AUTHORITY = "https://127.0.0.1:9443", "Y2E="


def _release() -> list[dict[str, Any]]:
    webhook = {"name": "w", "clientConfig": {"service": {"name": "s", "namespace": "n", "path": "/mutate-pods"}}}
    configuration = {
        "deploy": '{"defaultDeploymentMode": "Serverless"}',
        "ingress": '{"ingressDomain": "example.com"}',
        "agent": "{}",
    }
    return [
        {
            "kind": "CustomResourceDefinition",
            "metadata": {"name": "c", "creationTimestamp": None},
            "status": {"conditions": None},
        },
        {"kind": "ConfigMap", "metadata": {"name": "inferenceservice-config"}, "data": configuration},
        {"kind": "MutatingWebhookConfiguration", "metadata": {"name": "m"}, "webhooks": [webhook]},
    ]


def test_installation_is_for_standard_mode_and_a_webhook_server_on_this_machine() -> None:
    namespace, kind, configuration, webhooks = installation.manifests(_release(), URL, AUTHORITY)
    assert (namespace["kind"], namespace["metadata"]["name"]) == ("Namespace", "kserve")
    assert "status" not in kind, "an empty status would replace the API server's"
    assert configuration["metadata"]["namespace"] == "kserve"
    assert json.loads(configuration["data"]["deploy"]) == {"defaultDeploymentMode": "Standard"}
    ingress = {"ingressDomain": "example.com", "disableIngressCreation": True}
    assert json.loads(configuration["data"]["ingress"]) == ingress
    [webhook] = webhooks["webhooks"]
    assert webhook["clientConfig"] == {"url": f"{URL}/mutate-pods", "caBundle": AUTHORITY}


def test_gateway_finds_the_deployment_of_an_inference_service() -> None:
    found = PredictorGateway()._find("/kserve/team-a/wine/v2/models/wine/infer")
    assert found is not None
    route, path = found
    assert (route.deployment, path) == (("team-a", "wine-predictor"), "v2/models/wine/infer")
    assert route.path(path) == path, "no executor changes it"


@pytest.mark.parametrize("path", ["/", "/kserve/team-a/wine", "/seldon/team-a/wine/v2"])
def test_gateway_has_no_other_paths(path: str) -> None:
    assert PredictorGateway()._find(path) is None


def test_model_container_of_kserve_is_found_by_its_name() -> None:
    containers = [{"name": "istio-proxy"}, {"name": "kserve-container", "image": "server"}]
    assert model_container({"metadata": {"name": "p"}, "spec": {"containers": containers}})["image"] == "server"


def test_kserve_needs_the_builtin_cluster() -> None:
    with pytest.raises(SandboxError, match="'builtin' only"):
        Sandbox("demo", cluster="kind", backend="kserve")


def test_unknown_backend_is_rejected() -> None:
    with pytest.raises(SandboxError, match="seldon, kserve"):
        Sandbox("demo", backend="triton")


def test_operators_rights_are_those_for_kserve() -> None:
    manifests = list(yaml.safe_load_all((ROOT / "deploy" / "operator" / "rbac.yaml").read_text()))
    granted = [rule for manifest in map(rights.with_kserve, manifests) for rule in manifest.get("rules", [])]
    kinds = {kind for rule in granted for kind in rule["resources"]}
    assert {"inferenceservices", "servingruntimes"} <= kinds
    assert "seldondeployments" not in kinds
    names = {name for rule in granted for name in rule.get("resourceNames", [])}
    assert {"wine-model-store", "mlpipeline-minio-artifact", "wine-model-key"} <= names
    assert not any("seldon" in name for name in names)
