"""Why the API server rejects an object: a webhook that fails or denies it, a policy, or an exceeded quota. Pure.

If a webhook does not answer, the API server answers 500, and only its message names the webhook
(k8s.io/apiserver: admission/plugin/webhook/errors, admission/plugin/policy/validating; apimachinery: api/errors).
"""

import re
from dataclasses import dataclass

from winecontract.reasons import Reason
from winecontract.text import clean
from winepipelines.api.errors import PlatformError, Refused, Unavailable
from winepipelines.platform.answering import why_no_answer

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
DRY_RUN_UNSUPPORTED = "does not support dry run"
GROUP_AWAY = "the server is currently unable to handle the request"
WORDS_LIMIT = 500


class WebhookDown(Unavailable):
    """A webhook does not answer the API server. `remedy` is what to do about the `problem`."""

    def __init__(self, reason: Reason, problem: str, remedy: str) -> None:
        super().__init__(reason, f"{problem}. Start it: {remedy}")
        self.problem = clean(problem)
        self.remedy = clean(remedy)


class DryRunUnsupported(Refused):
    """A webhook has side effects, so that the API server does not run it for a dry run."""


@dataclass(frozen=True)
class Owner:
    """The component that runs a webhook: its name, the condition's reason, and the command that finds its pods."""

    name: str
    reason: Reason
    find: str


SERVING = Reason.SERVING_BACKEND_UNAVAILABLE
OTHER = Reason.ADMISSION_UNAVAILABLE
# By the name of the webhook; the first match counts.
OWNERS: list[tuple[re.Pattern[str], Owner]] = [
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
]
GUARD = re.compile(r"^[^.]{1,63}\.[^.]{1,63}\.(?P<kind>[a-z]{1,63})$")  # a policy of the chart's guard: release, namespace, kind
GUARDED = {"secrets", "poddefaults", "deletions", "winepipelines"}


def add_backend(webhooks: re.Pattern[str], owner: Owner, *plurals: str) -> None:
    """Register a serving backend: the names of its webhooks, their owner, and the kinds that the guard protects."""
    OWNERS.insert(0, (webhooks, owner))
    GUARDED.update(plurals)


def owner_of(webhook: str) -> Owner | None:
    """Return the owner of a webhook by its name; None if it is unknown."""
    return next((owner for pattern, owner in OWNERS if pattern.search(webhook)), None)


def failure(status: int, message: str) -> PlatformError | None:
    """Make the error for an object that admission rejected; None if the API server itself reports the problem.

    `message` is the API server's. The error's text does not change between attempts.
    """
    error = _failure(status, clean(message))
    if error is not None:
        error.status, error.diagnosed = status, True
    return error


def _failure(status: int, message: str) -> PlatformError | None:
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
            Reason.QUOTA_EXCEEDED,
            f"exceeded ResourceQuota {words}. Raise the quota, or delete what the namespace no longer needs",
        )
    if (found := NO_QUOTA_YET.search(message)) is not None:
        text = f"ResourceQuota {found['quota']} has not been counted yet: is kube-controller-manager running?"
        return Unavailable(Reason.KUBERNETES_UNAVAILABLE, text)
    if DRY_RUN_UNSUPPORTED in message:
        return DryRunUnsupported(Reason.KUBERNETES_REQUEST_REJECTED, message)
    if status == 503 and message.startswith(GROUP_AWAY):
        text = "the API server cannot reach the server of an aggregated API: kubectl get apiservices shows which"
        return Unavailable(Reason.KUBERNETES_UNAVAILABLE, text)
    return None


def _webhook_fails(webhook: str, why: str, name: str = "") -> WebhookDown:
    owner, service = owner_of(webhook), ADDRESS.search(why)
    called = name or f'the admission webhook "{webhook}"'
    where = ANY_ADDRESS.search(why)
    if service is not None:
        called += f" (Service {service['namespace']}/{service['name']})"
    elif where is not None:
        called += f" ({where['url']})"
    reason = _why_webhook_fails(why)
    find = owner.find if owner else _endpoints(service)
    who = f"{owner.name} is down or unreachable" if owner else "the server of a webhook is down or unreachable"
    problem = f"{who}: {called} does not answer the API server{f' ({reason})' if reason else ''}"
    return WebhookDown(owner.reason if owner else OTHER, problem, find)


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
        return "another server answers instead of it"
    return why_no_answer(why)


def _policy_denies(policy: str, words: str) -> Refused:
    if (found := GUARD.match(policy)) is not None and found["kind"] in GUARDED:
        message = (
            f"the guard of the operator's own chart (ValidatingAdmissionPolicy {policy}) refuses it: {_words(words)}. "
            "The chart and the operator's settings must be of one release, with the images of the chart's values: helm upgrade"
        )
    else:
        message = f"the cluster's ValidatingAdmissionPolicy {policy} refuses it: {_words(words)}. Ask the author of the policy"
    return Refused(Reason.ADMISSION_DENIED, message)


def _webhook_denies(webhook: str, words: str) -> Refused:
    owner = owner_of(webhook)
    who = owner.name if owner else "an admission webhook"
    return Refused(Reason.ADMISSION_DENIED, f'{who} (webhook "{webhook}") refuses it: {_words(words) or "without a reason"}')


def _words(text: str) -> str:
    """Put another system's message on one line and truncate it."""
    return clean(" ".join(clean(text).split()), WORDS_LIMIT)
