"""The parts of KServe's installation in the sandbox, without servers."""

import base64
import json
from typing import Any

import pytest
import yaml
from cryptography import x509

from sandbox import certificates, rights
from sandbox.errors import SandboxError
from sandbox.kserve import installation
from sandbox.kserve.gateway import PredictorGateway
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
    ingress = {"ingressDomain": "example.com", "disableIngressCreation": True, "disableIstioVirtualHost": True}
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


@pytest.mark.parametrize("backend", ["kserve", "both"])
def test_kserve_needs_the_builtin_cluster(backend: str) -> None:
    with pytest.raises(SandboxError, match="'builtin' only"):
        Sandbox("demo", cluster="kind", backend=backend)


def test_unknown_backend_is_rejected() -> None:
    with pytest.raises(SandboxError, match="seldon, kserve"):
        Sandbox("demo", backend="triton")


def test_operators_rights_are_those_for_kserve() -> None:
    granted = [rule for manifest in rights.manifests(["kserve"]) for rule in manifest.get("rules", [])]
    kinds = {kind for rule in granted for kind in rule["resources"]}
    assert {"inferenceservices", "servingruntimes"} <= kinds
    assert "seldondeployments" not in kinds
    names = {name for rule in granted for name in rule.get("resourceNames", [])}
    assert {"wine-model-store", "mlpipeline-minio-artifact", "wine-model-key"} <= names
    assert not any("seldon" in name for name in names)
    assert [rule["verbs"] for rule in granted if rule["resources"] == ["deployments"]] == [["get"]]


def test_operators_rights_are_those_for_both_backends() -> None:
    assert rights.manifests(["seldon", "kserve"]) == list(yaml.safe_load_all(rights.ALL.read_text()))


def test_installation_in_a_cluster_has_webhooks_whose_certificate_is_for_their_service() -> None:
    hook = {"clientConfig": {"service": {"path": "/p"}}}
    release = [{"kind": "ValidatingWebhookConfiguration", "metadata": {}, "webhooks": [hook]}]
    authority, certificate, _ = certificates.for_service("hooks.kserve.svc")
    service = {"namespace": "kserve", "name": "hooks"}
    [_, made] = installation.manifests(release, service, base64.b64encode(authority).decode())
    [webhook] = made["webhooks"]
    assert webhook["clientConfig"] == {"service": {**service, "path": "/p"}, "caBundle": base64.b64encode(authority).decode()}
    parsed = x509.load_pem_x509_certificate(certificate)
    parsed.verify_directly_issued_by(x509.load_pem_x509_certificate(authority))
    names = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["hooks.kserve.svc"]
