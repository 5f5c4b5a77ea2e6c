"""Each check of settings, cluster and images: an outage or misconfiguration fails it, and no other check."""

from dataclasses import replace

import pytest
from support.survey import (
    BACKEND,
    GOOD,
    OPERATOR,
    PLATFORM,
    RIGHTS,
    SETTINGS,
    evaluate,
    find,
    observed,
    only_failure,
    skipped,
    without,
)

from winecontract.reasons import Reason
from winepipelines.api.errors import Refused, Unavailable
from winepipelines.doctor.check import Evaluate
from winepipelines.doctor.checks import DATA_HOST
from winepipelines.doctor.checks import NAMESPACE as NAMESPACE_CHECKS
from winepipelines.doctor.finding import SETTINGS_REASON, Result
from winepipelines.doctor.observations import (
    PODDEFAULTS,
    WINEPIPELINES,
    AdmissionView,
    ControllerView,
    ImagePullProblem,
)
from winepipelines.doctor.right import Right
from winepipelines.platform.admission import DryRunUnsupported, WebhookDown
from winepipelines.serving.seldon.naming import KIND


def test_every_check_passes_on_a_healthy_platform() -> None:
    report = evaluate(GOOD)
    assert [finding for finding in report.findings if finding.result is not Result.OK] == []
    assert report.exit_status == 0
    assert {check.name for check in (*PLATFORM, *NAMESPACE_CHECKS, *DATA_HOST)} - {
        finding.check for finding in report.findings
    } == {
        "rights are granted",  # a line for each right instead
        "kubeflow rights are granted",
    }


def test_check_needs_earlier_checks_only() -> None:
    before: set[Evaluate] = set()
    for check in (*PLATFORM, *NAMESPACE_CHECKS, *DATA_HOST):
        assert set(check.needs) <= before, check.name
        before.add(check.evaluate)


class TestSettings:
    def test_missing_address_is_named_with_an_example(self) -> None:
        seen = replace(GOOD, settings=SETTINGS.with_(kfp_url=""), kubeflow=Refused(SETTINGS_REASON, "no address"))
        finding = only_failure(seen)
        assert finding.check == "settings are complete"
        assert "WINE_KFP_URL" in finding.message
        assert "WINE_KFP_URL=http://" in finding.remedy
        assert evaluate(seen).exit_status == 2
        assert find(seen, "kubeflow answers").result is Result.SKIPPED
        assert find(seen, "mlflow answers").result is Result.OK

    @pytest.mark.parametrize("url", ["ml-pipeline:8888", "ftp://x", "http://", "http://x:port"])
    def test_malformed_address_fails(self, url: str) -> None:
        finding = only_failure(replace(GOOD, settings=SETTINGS.with_(mlflow_url=url)))
        assert finding.message.startswith("WINE_MLFLOW_URL")

    @pytest.mark.parametrize("template", ["http://{pod}", "http://same-for-all", "http://{namespace"])
    def test_endpoint_template_must_distinguish_resources(self, template: str) -> None:
        finding = only_failure(replace(GOOD, backend_settings=BACKEND.settings.with_(endpoint_template=template)))
        assert finding.remedy.startswith("WINE_ENDPOINT_TEMPLATE=http://{name}-wine-super-model.{namespace}.svc")


class TestKubernetes:
    def test_dependent_checks_are_skipped_when_unreachable(self) -> None:
        error = Unavailable(Reason.KUBERNETES_UNAVAILABLE, "the API server cannot be reached")
        seen = replace(GOOD, kubernetes=error, identity=error, rights=error, source=error)
        finding = only_failure(seen)
        assert finding.reason == "KubernetesUnreachable"
        assert "KUBECONFIG" in finding.remedy
        assert {"source secret is complete", "rights are granted", "seldon can read artifacts"} <= skipped(seen)
        assert find(seen, "mlflow answers").result is Result.OK
        assert find(seen, "seldondeployments are served").message == "Needs: kubernetes answers"

    def test_unknown_identity_passes_on_an_older_release(self) -> None:
        assert find(replace(GOOD, identity=""), "kubernetes answers").result is Result.OK

    def test_missing_right_is_named_with_its_rule(self) -> None:
        pods = Right("", "pods", ("list",))
        finding = only_failure(replace(GOOD, rights=replace(RIGHTS, missing={**RIGHTS.missing, pods: ("list",)})))
        assert finding.check == "right: pods"
        assert finding.message == f"{OPERATOR} may not list"
        assert "kubectl apply -f deploy/operator/rbac.yaml" in finding.remedy
        assert '{apiGroups: [""], resources: [pods], verbs: [list]}' in finding.remedy

    def test_rule_grants_the_missing_verbs_only(self) -> None:
        secret = next(right for right in RIGHTS.missing if right.namespace)
        finding = only_failure(replace(GOOD, rights=replace(RIGHTS, missing={**RIGHTS.missing, secret: ("watch",)})))
        assert f"resourceNames: [{BACKEND.source.name}], verbs: [watch]" in finding.remedy
        assert "the Role wine-operator in kubeflow" in finding.remedy

    def test_missing_right_of_a_person_is_a_warning(self) -> None:
        pods = Right("", "pods", ("list",))
        own = replace(RIGHTS, account="jane", own=False, missing={**RIGHTS.missing, pods: ("list",)})
        finding = find(replace(GOOD, identity="jane", rights=own), "right: pods")
        assert finding.result is Result.WARNING
        assert "your rights" in finding.message


class TestKinds:
    def test_missing_crd_fails(self) -> None:
        seen = replace(GOOD, kinds=without(WINEPIPELINES, "v1"))
        finding = only_failure(seen)
        assert finding.remedy == "kubectl apply --server-side -f crds/"
        assert "it serves v1 of that group" in finding.message
        assert skipped(seen) == {"winepipeline schema is current"}

    def test_outdated_crd_fails(self) -> None:
        fields = tuple(f"spec.field{number}" for number in range(7))
        finding = only_failure(observed(missing_fields=fields))
        assert finding.reason == "CRDOutdated"
        assert "spec.field4 and 2 more" in finding.message

    def test_missing_serving_platform_fails(self) -> None:
        finding = only_failure(replace(GOOD, kinds=without(KIND, "v1alpha2")))
        assert finding.reason == "ServingBackendMissing"
        assert "v1alpha2" in finding.message

    def test_missing_poddefaults_are_a_warning(self) -> None:
        seen = replace(GOOD, kinds=without(PODDEFAULTS))
        assert evaluate(seen).failures == ()
        assert find(seen, "poddefaults are served").result is Result.WARNING
        assert skipped(seen) == {"poddefaults act on pods"}

    def test_missing_poddefault_webhook_is_a_warning(self) -> None:
        finding = find(observed(webhooks=()), "poddefaults act on pods")
        assert finding.result is Result.WARNING
        assert "/apply-poddefault" in finding.message

    def test_webhook_check_is_skipped_without_rights(self) -> None:
        finding = find(observed(webhooks=None), "poddefaults act on pods")
        assert finding.result is Result.SKIPPED
        assert finding.remedy == "kubectl get mutatingwebhookconfigurations"


class TestServing:
    CONTROLLER = ControllerView("seldon-system", "seldon-controller-manager", 1, 0)
    DOWN = WebhookDown(
        Reason.SERVING_BACKEND_UNAVAILABLE,
        'Seldon\'s controller is down or unreachable: the admission webhook "v1.vseldondeployment.kb.io" does not answer the API '
        "server (the connection is refused)",
        "kubectl get deployments,pods -A",
    )

    def test_controller_without_a_ready_pod_fails(self) -> None:
        finding = only_failure(observed(controllers=(self.CONTROLLER,)))
        assert finding.reason == "ServingBackendUnavailable"
        assert "seldon-controller-manager in seldon-system has 0 of 1 pods ready" in finding.message
        assert "kubectl -n seldon-system describe" in finding.remedy

    def test_controller_scaled_to_zero_fails_with_the_command_to_scale_it(self) -> None:
        finding = only_failure(observed(controllers=(replace(self.CONTROLLER, wanted=0),)))
        assert finding.remedy == "kubectl -n seldon-system scale deployment seldon-controller-manager --replicas=1"

    def test_unreachable_webhook_fails(self) -> None:
        finding = only_failure(observed(admission=AdmissionView("kubeflow", self.DOWN)))
        assert finding.reason == "ServingBackendUnavailable"
        assert finding.message.startswith("Seldon's controller is down")
        assert finding.remedy == "kubectl get deployments,pods -A"

    def test_dry_run_rejected_by_a_policy_is_a_warning(self) -> None:
        error = Refused(Reason.ADMISSION_DENIED, "Gatekeeper refuses it: labels")
        seen = observed(admission=AdmissionView("kubeflow", error))
        assert evaluate(seen).failures == ()
        assert find(seen, "seldon webhooks answer").result is Result.WARNING

    def test_check_is_skipped_when_it_cannot_observe(self) -> None:
        unseen = observed(controllers=None, admission=None)
        assert skipped(unseen) == {"seldon controller runs", "seldon webhooks answer"}
        assert find(unseen, "seldon controller runs").remedy.startswith("kubectl get deployments")
        other = observed(
            controllers=(),
            admission=AdmissionView("kubeflow", DryRunUnsupported(Reason.KUBERNETES_REQUEST_REJECTED, "x")),
        )
        assert skipped(other) == {"seldon controller runs", "seldon webhooks answer"}


class TestImages:
    @pytest.mark.parametrize("image", ["UPPER/case:1", "image:", "http://registry/image:1", "image@sha256:12"])
    def test_malformed_image_name_fails(self, image: str) -> None:
        finding = only_failure(replace(GOOD, settings=SETTINGS.with_(steps_image=image)))
        assert finding.reason == "ImageNameInvalid"
        assert finding.remedy.startswith("WINE_STEPS_IMAGE=")

    @pytest.mark.parametrize(
        ("image", "result"),
        [
            ("registry.example.org:5000/team/wine-server:1.2", Result.OK),
            ("wine@sha256:" + "0" * 64, Result.OK),
            ("wine", Result.WARNING),
            ("wine:latest", Result.WARNING),
        ],
    )
    def test_mutable_image_tag_is_a_warning(self, image: str, result: Result) -> None:
        assert find(replace(GOOD, settings=SETTINGS.with_(server_image=image)), "image names are valid").result is result

    def test_pod_that_cannot_pull_is_named(self) -> None:
        pull = ImagePullProblem("admin", "wine-0", SETTINGS.steps_image, "ImagePullBackOff")
        finding = find(observed(pulls=(pull,)), "images can be pulled")
        assert finding.result is Result.WARNING
        assert "wine-0 in admin" in finding.message
        assert finding.remedy.startswith("kubectl -n admin describe pod wine-0")
