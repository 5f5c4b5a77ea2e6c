"""Whose webhook, policy or quota keeps the API server from taking an object: by the API server's own words."""

import pytest

from winepipelines.platform.admission import failure
from winepipelines.resource.errors import Refused, Unavailable

CALL = 'Internal error occurred: failed calling webhook "{webhook}": failed to call webhook: '
POST = 'Post "https://{service}.svc:443/{path}?timeout=10s": '
SELDON = CALL.format(webhook="v1.vseldondeployment.kb.io") + POST.format(
    service="seldon-webhook-service.seldon-system", path="validate-machinelearning-seldon-io-v1-seldondeployment"
)
REFUSED = "dial tcp 10.96.7.7:443: connect: connection refused"
SERVING = "ServingPlatformUnavailable"
POLICY = "sdep \"wine\" is forbidden: ValidatingAdmissionPolicy '{}' with binding 'b' denied request: {}"
QUOTA = "exceeded quota: team, requested: count/secrets=1, used: count/secrets=5, limited: count/secrets=5"
KSERVE = "inferenceservice.kserve-webhook-server.validator"


@pytest.mark.parametrize(
    ("webhook", "service", "reason", "who"),
    [
        (
            "v1.vseldondeployment.kb.io",
            "seldon-webhook-service.seldon-system",
            "ServingPlatformUnavailable",
            "Seldon's controller",
        ),
        (
            "v1alpha2.mseldondeployment.kb.io",
            "seldon-webhook-service.kubeflow",
            "ServingPlatformUnavailable",
            "Seldon's controller",
        ),
        (KSERVE, "kserve-webhook-server-service.kserve", "ServingPlatformUnavailable", "KServe's controller"),
        ("inferenceservice.kserve-webhook-server.pod-mutator", "k.kserve", "ServingPlatformUnavailable", "KServe's controller"),
        ("llminferenceservice.kserve-webhook-server.v1", "k.kserve", "ServingPlatformUnavailable", "KServe's controller"),
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
def test_a_webhook_that_is_down_is_named_by_its_owner(webhook: str, service: str, reason: str, who: str) -> None:
    error = failure(500, CALL.format(webhook=webhook) + POST.format(service=service, path="check") + REFUSED)
    assert isinstance(error, Unavailable), "it may be back at any time"
    assert error.reason == reason
    assert who in error.message
    assert f'the admission webhook "{webhook}"' in error.message
    assert "the connection is refused" in error.message
    assert "kubectl" in error.message, "what to do"
    assert "the API server answered" not in error.message


@pytest.mark.parametrize(
    ("why", "said"),
    [
        (POST.format(service="s.n", path="p") + REFUSED, "the connection is refused"),
        (POST.format(service="s.n", path="p") + "context deadline exceeded", "no answer in time"),
        (POST.format(service="s.n", path="p") + "net/http: request canceled (Client.Timeout exceeded)", "no answer in time"),
        (POST.format(service="s.n", path="p") + "x509: certificate signed by unknown authority", "caBundle"),
        (POST.format(service="s.n", path="p") + "tls: failed to verify certificate: x509: certificate has expired", "caBundle"),
        (POST.format(service="s.n", path="p") + 'service "s" not found', "there is no Service s"),
        (POST.format(service="s.n", path="p") + 'no endpoints available for service "s"', "the Service s has no ready endpoint"),
        ("the server could not find the requested resource", "something else answers in its place"),
        (POST.format(service="s.n", path="p") + "EOF", ""),
    ],
)
def test_why_a_webhook_does_not_answer(why: str, said: str) -> None:
    error = failure(500, CALL.format(webhook="v1.vseldondeployment.kb.io") + why)
    assert error is not None
    assert said in error.message
    assert "timeout=10s" not in error.message


def test_a_webhook_behind_an_address_is_named_by_it() -> None:
    words = 'Post "https://127.0.0.1:9443/validate?timeout=10s": ' + REFUSED
    error = failure(500, CALL.format(webhook="limits.example.org") + words)
    assert error is not None
    assert "(https://127.0.0.1:9443)" in error.message


def test_what_differs_from_try_to_try_is_left_out() -> None:
    first = failure(500, SELDON + "dial tcp 10.96.7.7:443: connect: connection refused")
    second = failure(500, SELDON + "read tcp 10.0.0.1:41234->10.96.7.7:443: connect: connection refused")
    assert first is not None
    assert second is not None
    assert first.message == second.message


def test_a_conversion_webhook_is_named_by_the_kind_that_it_converts() -> None:
    message = (
        "conversion webhook for machinelearning.seldon.io/v1alpha2, Kind=SeldonDeployment failed: "
        + POST.format(service="seldon-webhook-service.seldon-system", path="convert")
        + REFUSED
    )
    error = failure(500, message)
    assert isinstance(error, Unavailable)
    assert error.reason == "ServingPlatformUnavailable"
    assert "Seldon's controller is down" in error.message


@pytest.mark.parametrize(
    ("message", "who"),
    [
        ('admission webhook "v1.vseldondeployment.kb.io" denied the request: weights must sum to 100', "Seldon's controller"),
        ('admission webhook "validation.gatekeeper.sh" denied the request: [labels] you must provide owner', "Gatekeeper"),
        ('admission webhook "limits.example.org" denied the request without explanation', "an admission webhook"),
    ],
)
def test_a_refusal_is_named_by_who_refuses(message: str, who: str) -> None:
    error = failure(400, message)
    assert isinstance(error, Refused)
    assert error.reason == "AdmissionDenied"
    assert error.message.startswith(who)


def test_the_charts_own_guard_is_told_from_other_policies() -> None:
    guard = "wine-operator.kubeflow.seldondeployments"
    error = failure(422, POLICY.format(guard, "a server of the operator's has an image"))
    assert isinstance(error, Refused)
    assert "the guard of the operator's own chart" in error.message
    assert "helm upgrade" in error.message
    other = failure(422, POLICY.format("only-signed-images", "unsigned"))
    assert other is not None
    assert "the cluster's ValidatingAdmissionPolicy only-signed-images refuses it: unsigned" in other.message


def test_a_quota_is_named() -> None:
    error = failure(403, f'secrets "s" is forbidden: {QUOTA}')
    assert isinstance(error, Refused)
    assert error.reason == "QuotaExceeded"
    assert "ResourceQuota team, requested: count/secrets=1" in error.message


def test_an_aggregated_api_that_is_away_is_not_the_api_server() -> None:
    error = failure(503, "the server is currently unable to handle the request (get things.example.org)")
    assert isinstance(error, Unavailable)
    assert "kubectl get apiservices" in error.message


@pytest.mark.parametrize("message", ["etcdserver: request timed out", 'secrets "s" is forbidden: User "u" cannot patch', ""])
def test_the_api_servers_own_trouble_is_left_to_it(message: str) -> None:
    assert failure(500, message) is None


def test_foreign_words_are_bounded_and_printable() -> None:
    error = failure(400, 'admission webhook "w.example.org" denied the request: \x1b[31m' + "x\n" * 5000)
    assert error is not None
    assert error.message.isprintable()
    assert len(error.message) < 700
