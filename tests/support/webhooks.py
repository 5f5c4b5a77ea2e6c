"""Admission webhooks that do not answer."""

from collections.abc import Iterator
from contextlib import contextmanager

from support.cluster import Cluster


@contextmanager
def webhook_down(cluster: Cluster, name: str) -> Iterator[None]:
    """Register a webhook for SeldonDeployments on a closed port, like Seldon's when its controller is down."""
    rule = {
        "apiGroups": ["machinelearning.seldon.io"],
        "apiVersions": ["v1"],
        "operations": ["CREATE", "UPDATE"],
        "resources": ["seldondeployments"],
    }
    webhook = {
        "name": name,
        "clientConfig": {"url": "https://127.0.0.1:1/validate-machinelearning-seldon-io-v1-seldondeployment"},
        "rules": [rule],
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "failurePolicy": "Fail",
        "timeoutSeconds": 2,
    }
    kind = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration"}
    cluster.apply({**kind, "metadata": {"name": "down"}, "webhooks": [webhook]})
    try:
        yield
    finally:
        cluster.sandbox.kubectl("delete", "validatingwebhookconfiguration", "down")
