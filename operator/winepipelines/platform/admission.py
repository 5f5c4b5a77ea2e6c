"""What keeps the API server from taking an object: whose webhook fails, whose policy refuses, which quota is full. Pure.

The API server answers 500 when a webhook does not answer, which is no trouble of its own; the message alone tells whose it is
(k8s.io/apiserver: admission/plugin/webhook/errors, admission/plugin/policy/validating; apimachinery: api/errors).
"""

import re
from dataclasses import dataclass

from winecontract.text import clean
from winepipelines.platform.answering import why_no_answer
from winepipelines.resource.errors import PlatformError, Refused, Unavailable

WEBHOOK_FAILS = re.compile(r'failed calling webhook "(?P<webhook>[^"]{1,253})"(?P<why>.*)', re.DOTALL)
CONVERSION_FAILS = re.compile(r"conversion webhook for (?P<kind>\S{1,253}, Kind=\S{1,63}) failed(?P<why>.*)", re.DOTALL)
WEBHOOK_DENIES = re.compile(
    r'admission webhook "(?P<webhook>[^"]{1,253})" denied the request(?::|\s+without)?\s*(?P<words>.*)', re.DOTALL
)
POLICY_DENIES = re.compile(
    r"ValidatingAdmissionPolicy '(?P<policy>[^']{1,253})'(?: with binding '[^']*')? denied request: (?P<words>.*)", re.DOTALL
)
QUOTA = re.compile(r"exceeded quota: (?P<quota>[^,\s]{1,253})(?P<more>.*)", re.DOTALL)
NO_QUOTA_YET = re.compile(r"status unknown for quota: (?P<quota>[^,\s]{1,253})")
ADDRESS = re.compile(r'"https://(?P<name>[a-z0-9-]+)\.(?P<namespace>[a-z0-9-]+)\.svc(?::\d+)?/')
ANY_ADDRESS = re.compile(r'"(?P<url>https?://[^/"?\s]{1,253})')
SERVICE = re.compile(r'service "(?P<name>[a-z0-9-]+)" not found|no endpoints available for service "(?P<empty>[a-z0-9-]+)"')
GROUP_AWAY = "the server is currently unable to handle the request"
WORDS_LIMIT = 500


@dataclass(frozen=True)
class Owner:
    """Who runs a webhook: what to call it, the reason for a condition, and how to find its pods."""

    name: str
    reason: str
    find: str


SERVING = "ServingPlatformUnavailable"
OTHER = "AdmissionUnavailable"
# By the webhook's name; the first that matches counts.
OWNERS: tuple[tuple[re.Pattern[str], Owner], ...] = (
    (
        re.compile(r"seldondeployment\.(kb|k8s)\.io$|seldon"),
        Owner("Seldon's controller", SERVING, "kubectl get deployments,pods -A -l control-plane=seldon-controller-manager"),
    ),
    (
        re.compile(r"kserve|inferenceservice|trainedmodel|inferencegraph|servingruntime|llminferenceservice"),
        Owner("KServe's controller", SERVING, "kubectl get deployments,pods -A -l control-plane=kserve-controller-manager"),
    ),
    (
        re.compile(r"^admission-webhook(-deployment)?\b.*|poddefault"),
        Owner("Kubeflow's PodDefault webhook", OTHER, "kubectl get deployments,pods -A -l app=poddefaults"),
    ),
    (
        re.compile(r"istio\.io$|sidecar-injector"),
        Owner("Istio's control plane", OTHER, "kubectl get deployments,pods -A -l app=istiod"),
    ),
    (
        re.compile(r"cert-manager\.io$"),
        Owner("cert-manager's webhook", OTHER, "kubectl get deployments,pods -A -l app.kubernetes.io/name=webhook"),
    ),
    (
        re.compile(r"gatekeeper\.sh$"),
        Owner("Gatekeeper", OTHER, "kubectl get deployments,pods -A -l gatekeeper.sh/system=yes"),
    ),
    (
        re.compile(r"kyverno"),
        Owner("Kyverno", OTHER, "kubectl get deployments,pods -A -l app.kubernetes.io/part-of=kyverno"),
    ),
    (
        re.compile(r"knative\.dev$"),
        Owner("Knative's webhook", OTHER, "kubectl get deployments,pods -A -l app.kubernetes.io/part-of=knative-serving"),
    ),
)
GUARDED = re.compile(r"^[^.]{1,63}\.[^.]{1,63}\.(?:secrets|poddefaults|seldondeployments|deletions|winepipelines)$")


def owner_of(webhook: str) -> Owner | None:
    """Say who runs a webhook of this name; None where it is not known."""
    return next((owner for pattern, owner in OWNERS if pattern.search(webhook)), None)


def failure(status: int, message: str) -> PlatformError | None:
    """Name what has kept the API server from taking an object; None where it is the API server itself.

    `message` is the API server's. The error's text does not change from one try to the next.
    """
    message = clean(message)
    if (found := WEBHOOK_FAILS.search(message)) is not None:
        return _webhook_fails(found["webhook"], found["why"])
    if (found := CONVERSION_FAILS.search(message)) is not None:
        return _webhook_fails(found["kind"].lower(), found["why"], f"the conversion webhook of {found['kind']}")
    if (found := POLICY_DENIES.search(message)) is not None:
        return _policy_denies(found["policy"], found["words"])
    if (found := WEBHOOK_DENIES.search(message)) is not None:
        return _webhook_denies(found["webhook"], found["words"])
    if (found := QUOTA.search(message)) is not None:
        words = _words(f"{found['quota']}{found['more']}")
        return Refused(
            "QuotaExceeded", f"exceeded ResourceQuota {words}. Raise the quota, or delete what the namespace no longer needs"
        )
    if (found := NO_QUOTA_YET.search(message)) is not None:
        text = f"ResourceQuota {found['quota']} has not been counted yet: is kube-controller-manager running?"
        return Unavailable("KubernetesUnavailable", text)
    if status == 503 and message.startswith(GROUP_AWAY):
        text = "the API server cannot reach the server of an aggregated API: kubectl get apiservices shows which"
        return Unavailable("KubernetesUnavailable", text)
    return None


def _webhook_fails(webhook: str, why: str, name: str = "") -> Unavailable:
    owner, service = owner_of(webhook), ADDRESS.search(why)
    called = name or f'the admission webhook "{webhook}"'
    where = ANY_ADDRESS.search(why)
    if service is not None:
        called += f" (Service {service['namespace']}/{service['name']})"
    elif where is not None:
        called += f" ({where['url']})"
    reason = _why_webhook_fails(why)
    find = owner.find if owner else _endpoints(service)
    who = f"{owner.name} is down or unreachable" if owner else "whatever runs it is down or unreachable"
    message = f"{who}: {called} does not answer the API server{f' ({reason})' if reason else ''}. Start it: {find}"
    return Unavailable(owner.reason if owner else OTHER, message)


def _endpoints(service: re.Match[str] | None) -> str:
    if service is None:
        return "kubectl get validatingwebhookconfigurations,mutatingwebhookconfigurations"
    return f"kubectl -n {service['namespace']} get endpointslices -l kubernetes.io/service-name={service['name']}"


def _why_webhook_fails(why: str) -> str:
    if (service := SERVICE.search(why)) is not None:
        if service["name"]:
            return f"there is no Service {service['name']}"
        return f"the Service {service['empty']} has no ready endpoint"
    if "x509" in why or "tls:" in why:
        return "the API server does not trust its certificate: the webhook configuration has another caBundle than its server"
    if "connection refused" in why:
        return "the connection is refused"
    if "deadline exceeded" in why or "Timeout" in why or "timeout" in why.partition("?timeout")[0]:
        return "no answer in time"
    if "no such host" in why:
        return "its host has no address in DNS"
    if "expected response.uid" in why or "unexpected response" in why or "the server could not find" in why:
        return "something else answers in its place"
    return why_no_answer(why)


def _policy_denies(policy: str, words: str) -> Refused:
    if GUARDED.match(policy) is not None:
        message = (
            f"the guard of the operator's own chart (ValidatingAdmissionPolicy {policy}) refuses it: {_words(words)}. "
            "The chart and the operator's settings must be of one release, with the images of the chart's values: helm upgrade"
        )
    else:
        message = f"the cluster's ValidatingAdmissionPolicy {policy} refuses it: {_words(words)}. Ask whoever wrote the policy"
    return Refused("AdmissionDenied", message)


def _webhook_denies(webhook: str, words: str) -> Refused:
    owner = owner_of(webhook)
    who = owner.name if owner else "an admission webhook"
    return Refused("AdmissionDenied", f'{who} (webhook "{webhook}") refuses it: {_words(words) or "without a reason"}')


def _words(text: str) -> str:
    """Take another system's words: one line, bounded."""
    return clean(" ".join(clean(text).split()), WORDS_LIMIT)
