"""Failures of admission: the message names the webhook, policy or quota that the API server reports."""

import pytest

from winepipelines.api.errors import Refused, Unavailable
from winepipelines.platform.admission import DryRunUnsupported, failure
from winepipelines.serving.backends import BACKENDS

assert BACKENDS  # the registry adds the webhooks of each backend
CALL = 'Internal error occurred: failed calling webhook "{webhook}": failed to call webhook: '
POST = 'Post "https://{service}.svc:443/{path}?timeout=10s": '
SELDON = CALL.format(webhook="v1.vseldondeployment.kb.io") + POST.format(
    service="seldon-webhook-service.seldon-system", path="validate-machinelearning-seldon-io-v1-seldondeployment"
)
REFUSED = "dial tcp 10.96.7.7:443: connect: connection refused"
SERVING = "ServingBackendUnavailable"
POLICY = "sdep \"wine\" is forbidden: ValidatingAdmissionPolicy '{}' with binding 'b' denied request: {}"
QUOTA = "exceeded quota: team, requested: count/secrets=1, used: count/secrets=5, limited: count/secrets=5"
KSERVE = "inferenceservice.kserve-webhook-server.validator"


@pytest.mark.parametrize(
    ("webhook", "service", "reason", "owner"),
    [
        (
            "v1.vseldondeployment.kb.io",
            "seldon-webhook-service.seldon-system",
            "ServingBackendUnavailable",
            "Seldon's controller",
        ),
        (
            "v1alpha2.mseldondeployment.kb.io",
            "seldon-webhook-service.kubeflow",
            "ServingBackendUnavailable",
            "Seldon's controller",
        ),
        (KSERVE, "kserve-webhook-server-service.kserve", "ServingBackendUnavailable", "KServe's controller"),
        ("inferenceservice.kserve-webhook-server.pod-mutator", "k.kserve", "ServingBackendUnavailable", "KServe's controller"),
        ("llminferenceservice.kserve-webhook-server.v1", "k.kserve", "ServingBackendUnavailable", "KServe's controller"),
        ("admission-webhook-deployment.kubeflow.org", "admission-webhook-service.kubeflow", "AdmissionUnavailable", "PodDefault"),
        ("admission-webhook.kubeflow.org", "admission-webhook.kubeflow", "AdmissionUnavailable", "PodDefault"),
        ("namespace.sidecar-injector.istio.io", "istiod.istio-system", "AdmissionUnavailable", "Istio"),
        ("webhook.cert-manager.io", "cert-manager-webhook.cert-manager", "AdmissionUnavailable", "cert-manager"),
        ("validation.gatekeeper.sh", "gatekeeper-webhook-service.gatekeeper-system", "AdmissionUnavailable", "Gatekeeper"),
        ("validate.kyverno.svc-fail", "kyverno-svc.kyverno", "AdmissionUnavailable", "Kyverno"),
        ("webhook.serving.knative.dev", "webhook.knative-serving", "AdmissionUnavailable", "Knative"),
        (
            "limits.example.org",
            "limits.tools",
            "AdmissionUnavailable",
            "-n tools get endpointslices -l kubernetes.io/service-name=limits",
        ),
    ],
)
def test_unavailable_webhook_is_reported_with_its_owner(webhook: str, service: str, reason: str, owner: str) -> None:
    error = failure(500, CALL.format(webhook=webhook) + POST.format(service=service, path="check") + REFUSED)
    assert isinstance(error, Unavailable), "a retry may succeed"
    assert error.reason == reason
    assert owner in error.message
    assert f'the admission webhook "{webhook}"' in error.message
    assert "the connection is refused" in error.message
    assert "kubectl" in error.message, "the message has a command"
    assert "the API server answered" not in error.message


@pytest.mark.parametrize(
    ("detail", "cause"),
    [
        (POST.format(service="s.n", path="p") + REFUSED, "the connection is refused"),
        (POST.format(service="s.n", path="p") + "context deadline exceeded", "no answer in time"),
        (POST.format(service="s.n", path="p") + "net/http: request canceled (Client.Timeout exceeded)", "no answer in time"),
        (POST.format(service="s.n", path="p") + "x509: certificate signed by unknown authority", "caBundle"),
        (POST.format(service="s.n", path="p") + "tls: failed to verify certificate: x509: certificate has expired", "caBundle"),
        (POST.format(service="s.n", path="p") + 'service "s" not found', "there is no Service s"),
        (POST.format(service="s.n", path="p") + 'no endpoints available for service "s"', "the Service s has no ready endpoint"),
        ("the server could not find the requested resource", "another server answers instead of it"),
        (POST.format(service="s.n", path="p") + "EOF", ""),
    ],
)
def test_unavailable_webhook_is_reported_with_the_cause(detail: str, cause: str) -> None:
    error = failure(500, CALL.format(webhook="v1.vseldondeployment.kb.io") + detail)
    assert error is not None
    assert cause in error.message
    assert "timeout=10s" not in error.message


def test_unavailable_webhook_is_reported_with_its_url_when_it_has_no_service() -> None:
    failed_call = 'Post "https://127.0.0.1:9443/validate?timeout=10s": ' + REFUSED
    error = failure(500, CALL.format(webhook="limits.example.org") + failed_call)
    assert error is not None
    assert "(https://127.0.0.1:9443)" in error.message


def test_message_is_the_same_for_each_retry() -> None:
    first = failure(500, SELDON + "dial tcp 10.96.7.7:443: connect: connection refused")
    second = failure(500, SELDON + "read tcp 10.0.0.1:41234->10.96.7.7:443: connect: connection refused")
    assert first is not None
    assert second is not None
    assert first.message == second.message


def test_conversion_webhook_is_identified_by_the_converted_kind() -> None:
    message = (
        "conversion webhook for machinelearning.seldon.io/v1alpha2, Kind=SeldonDeployment failed: "
        + POST.format(service="seldon-webhook-service.seldon-system", path="convert")
        + REFUSED
    )
    error = failure(500, message)
    assert isinstance(error, Unavailable)
    assert error.reason == "ServingBackendUnavailable"
    assert "Seldon's controller is down" in error.message


@pytest.mark.parametrize(
    ("message", "owner"),
    [
        ('admission webhook "v1.vseldondeployment.kb.io" denied the request: weights must sum to 100', "Seldon's controller"),
        ('admission webhook "validation.gatekeeper.sh" denied the request: [labels] you must provide owner', "Gatekeeper"),
        ('admission webhook "limits.example.org" denied the request without explanation', "an admission webhook"),
    ],
)
def test_denied_request_is_reported_with_the_webhooks_owner(message: str, owner: str) -> None:
    error = failure(400, message)
    assert isinstance(error, Refused)
    assert error.reason == "AdmissionDenied"
    assert error.message.startswith(owner)


def test_guard_of_the_chart_is_distinguished_from_other_policies() -> None:
    guard = "wine-operator.kubeflow.seldondeployments"
    error = failure(422, POLICY.format(guard, "a server of the operator's has an image"))
    assert isinstance(error, Refused)
    assert "the guard of the operator's own chart" in error.message
    assert "helm upgrade" in error.message
    other = failure(422, POLICY.format("only-signed-images", "unsigned"))
    assert other is not None
    assert "the cluster's ValidatingAdmissionPolicy only-signed-images refuses it: unsigned" in other.message


def test_exceeded_quota_is_reported_with_its_name() -> None:
    error = failure(403, f'secrets "s" is forbidden: {QUOTA}')
    assert isinstance(error, Refused)
    assert error.reason == "QuotaExceeded"
    assert "ResourceQuota team, requested: count/secrets=1" in error.message


def test_unavailable_aggregated_api_is_distinguished_from_the_api_server() -> None:
    error = failure(503, "the server is currently unable to handle the request (get wines.example.org)")
    assert isinstance(error, Unavailable)
    assert "kubectl get apiservices" in error.message


@pytest.mark.parametrize("message", ["etcdserver: request timed out", 'secrets "s" is forbidden: User "u" cannot patch', ""])
def test_failure_is_none_for_the_api_servers_own_errors(message: str) -> None:
    assert failure(500, message) is None


def test_message_of_a_webhook_is_bounded_and_printable() -> None:
    error = failure(400, 'admission webhook "w.example.org" denied the request: \x1b[31m' + "x\n" * 5000)
    assert error is not None
    assert error.message.isprintable()
    assert len(error.message) < 700


def test_webhook_without_dry_run_is_reported_as_such() -> None:
    error = failure(400, 'admission webhook "quota.example.com" does not support dry run')
    assert isinstance(error, DryRunUnsupported)
    assert "quota.example.com" in error.message
