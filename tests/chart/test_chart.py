"""The chart as Helm renders it."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from dev import helm
from dev.version import version
from winepipelines.metrics import Metrics
from winepipelines.settings import Settings

ROOT = Path(__file__).parents[2]
Object = dict[str, Any]
EVERYTHING = yaml.safe_load((Path(__file__).parent / "values/wine-operator/everything.yaml").read_text())
NAMESPACED = yaml.safe_load((Path(__file__).parent / "values/wine-operator/namespaced.yaml").read_text())


def _of(manifests: list[Object], kind: str) -> dict[str, Object]:
    """The manifests of a kind: namespace/name, or the name of what has no namespace."""
    found = [manifest for manifest in manifests if manifest["kind"] == kind]
    return {"/".join(filter(None, (one["metadata"].get("namespace"), one["metadata"]["name"]))): one for one in found}


def _rights_in_the_sandbox() -> dict[str, Object]:
    manifests = list(yaml.safe_load_all((ROOT / "deploy/operator/rbac.yaml").read_text()))
    return {manifest["kind"]: manifest for manifest in manifests}


def _container(manifests: list[Object]) -> Object:
    (deployment,) = _of(manifests, "Deployment").values()
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    return dict(container)


def _environment(manifests: list[Object]) -> dict[str, str]:
    return {variable["name"]: variable.get("value", "") for variable in _container(manifests)["env"]}


class TestSettings:
    def test_the_operator_starts_with_what_the_chart_gives_it(self) -> None:
        settings = Settings.from_environment(_environment(helm.template()))
        assert settings.kfp_url == "http://ml-pipeline.kubeflow.svc.cluster.local:8888"
        assert settings.max_data_bytes == 1 << 30
        assert settings.steps_image == "winepipelines/steps:0.1.0"
        assert settings.probe_port == _container(helm.template())["ports"][0]["containerPort"]

    def test_what_is_said_reaches_the_operator(self) -> None:
        settings = Settings.from_environment(_environment(helm.template(EVERYTHING)))
        assert settings.kfp_service_account == "default-editor"
        assert settings.steps_image == "registry.example.org/mirror/team/steps:1.2.3"
        assert settings.server_image == "registry.example.org/mirror/winepipelines/server:0.1.0"
        assert (settings.log_level, settings.log_format) == ("debug", "json")
        assert settings.endpoint_template == EVERYTHING["seldon"]["endpointTemplate"]

    def test_files_are_where_the_operator_looks_for_them(self) -> None:
        manifests = helm.template(EVERYTHING)
        environment = _environment(manifests)
        mounts = {mount["mountPath"] for mount in _container(manifests)["volumeMounts"]}
        for variable in ("WINE_KFP_TOKEN_FILE", "WINE_KFP_CA_FILE", "WINE_MLFLOW_CA_FILE"):
            assert str(Path(environment[variable]).parent) in mounts

    def test_the_token_is_for_kubeflow_pipelines_alone(self) -> None:
        (deployment,) = _of(helm.template(), "Deployment").values()
        volumes = {volume["name"]: volume for volume in deployment["spec"]["template"]["spec"]["volumes"]}
        (source,) = volumes["kubeflow-token"]["projected"]["sources"]
        assert source["serviceAccountToken"]["audience"] == "pipelines.kubeflow.org"

    def test_a_variable_that_a_value_sets_cannot_be_set_again(self) -> None:
        with pytest.raises(helm.HelmError, match="extraEnv: WINE_KFP_URL is set by a value of its own"):
            helm.template({"extraEnv": [{"name": "WINE_KFP_URL", "value": "http://elsewhere"}]})

    @pytest.mark.parametrize(
        "values",
        [
            {"kubflow": {}},
            {"kubeflow": {"adress": "http://kfp"}},
            {"image": {"operator": {"name": "x"}}},
            {"networkPolicy": {"egress": {"open": True}}},
            {"resources": {"limit": {}}},
            {"kubeflow": {"url": ""}},
            {"logging": {"level": "loud"}},
            {"limits": {"workers": 0}},
            {"namespaces": ["Team A"]},
            {"podSecurity": {"runAsUser": 0}},
            {"extraEnv": [{"name": "A", "vaule": "b"}]},
        ],
        ids=str,
    )
    def test_what_the_schema_does_not_know_is_refused(self, values: Object) -> None:
        with pytest.raises(helm.HelmError, match="values don't meet the specifications of the schema"):
            helm.template(values)


class TestRights:
    def test_they_are_those_of_the_sandbox(self) -> None:
        manifests = helm.template({"mlflow": {"secret": "mlflow-tracking-credentials"}})
        given = _rights_in_the_sandbox()
        assert _of(manifests, "ClusterRole")["wine-operator"]["rules"] == given["ClusterRole"]["rules"]
        assert _of(manifests, "Role")["kubeflow/wine-operator-sources"]["rules"] == given["Role"]["rules"]

    def test_the_named_source_secret_is_the_one_that_may_be_read(self) -> None:
        (role,) = _of(helm.template({"seldon": {"sourceSecret": "mine"}, "platformNamespace": "platform"}), "Role").values()
        assert role["metadata"]["namespace"] == "platform"
        assert [rule["resourceNames"] for rule in role["rules"]] == [["mine"]]

    def test_with_namespaces_nothing_is_granted_in_the_cluster(self) -> None:
        manifests = helm.template(NAMESPACED)
        assert {manifest["kind"] for manifest in manifests if manifest["kind"].startswith("Cluster")} == set()
        assert _of(manifests, "Role").keys() == {"team-a/wine-operator", "team-b/wine-operator", "kubeflow/wine-operator-sources"}
        left_out = (["apiextensions.k8s.io"], ["pipelines.kubeflow.org"])  # a cluster's, and what is asked of a token's owner
        wanted = [rule for rule in _rights_in_the_sandbox()["ClusterRole"]["rules"] if rule["apiGroups"] not in left_out]
        assert _of(manifests, "Role")["team-a/wine-operator"]["rules"] == wanted
        assert _environment(manifests)["WINE_NAMESPACES"] == "team-a,team-b"

    @pytest.mark.parametrize("values", [{}, EVERYTHING, NAMESPACED], ids=["default", "everything", "namespaced"])
    def test_every_role_is_bound_to_the_operator_alone(self, values: Object) -> None:
        manifests = helm.template(values)
        (deployment,) = _of(manifests, "Deployment").values()
        account = deployment["spec"]["template"]["spec"]["serviceAccountName"]
        roles = {name for kind in ("Role", "ClusterRole") for name in _of(manifests, kind)} - {
            name for name, role in _of(manifests, "ClusterRole").items() if "aggregate" in str(role["metadata"]["labels"])
        }
        bindings = {**_of(manifests, "RoleBinding"), **_of(manifests, "ClusterRoleBinding")}
        bound = {"/".join(filter(None, (one["metadata"].get("namespace"), one["roleRef"]["name"]))) for one in bindings.values()}
        assert bound == roles
        for binding in bindings.values():
            assert binding["subjects"] == [{"kind": "ServiceAccount", "name": account, "namespace": "kubeflow"}]

    def test_users_may_not_write_a_status(self) -> None:
        roles = {
            name: role
            for name, role in _of(helm.template(), "ClusterRole").items()
            if any(label.startswith("rbac.authorization.k8s.io/aggregate-to-") for label in role["metadata"]["labels"])
        }
        assert roles.keys() == {"wine-operator-view", "wine-operator-edit", "wine-operator-admin"}
        for name, role in roles.items():
            (rule,) = role["rules"]
            assert set(rule["resources"]) == {"winepipelines", "winepredictions"}
            assert ("create" in rule["verbs"]) == (name != "wine-operator-view")
            assert "*" not in rule["verbs"]


class TestObjects:
    def test_the_crds_are_the_projects(self) -> None:
        installed = _of(helm.template(), "CustomResourceDefinition")
        for path in (ROOT / "crds").glob("*.yaml"):
            crd = yaml.safe_load(path.read_text())
            assert installed[crd["metadata"]["name"]]["spec"] == crd["spec"]
            assert installed[crd["metadata"]["name"]]["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"

    def test_crds_can_be_left_out_or_left_to_the_chart(self) -> None:
        assert _of(helm.template({"crds": {"install": False}}), "CustomResourceDefinition") == {}
        for crd in _of(helm.template({"crds": {"keep": False}}), "CustomResourceDefinition").values():
            assert "annotations" not in crd["metadata"]

    def test_there_is_never_a_second_operator(self) -> None:
        (deployment,) = _of(helm.template(), "Deployment").values()
        assert deployment["spec"]["replicas"] == 1
        assert deployment["spec"]["strategy"] == {"type": "Recreate"}

    def test_labels_of_the_selector_cannot_be_taken_away(self) -> None:
        (deployment,) = _of(helm.template({"podLabels": {"app.kubernetes.io/name": "other"}}), "Deployment").values()
        wanted = deployment["spec"]["selector"]["matchLabels"]
        assert wanted.items() <= deployment["spec"]["template"]["metadata"]["labels"].items()

    @pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["default", "everything"])
    def test_the_policy_holds_for_the_test_as_for_the_operator(self, values: Object) -> None:
        """Else `helm test` would report on a platform that the operator is cut off from."""
        manifests = helm.template(values)
        (policy,) = _of(manifests, "NetworkPolicy").values()
        (pod,) = _of(manifests, "Pod").values()
        (deployment,) = _of(manifests, "Deployment").values()
        selector = policy["spec"]["podSelector"]["matchLabels"]
        for labels in (pod["metadata"]["labels"], deployment["spec"]["template"]["metadata"]["labels"]):
            assert selector.items() <= labels.items()

    def test_the_service_selects_the_operator_and_not_the_test(self) -> None:
        manifests = helm.template()
        (pod,) = _of(manifests, "Pod").values()
        (service,) = _of(manifests, "Service").values()
        (deployment,) = _of(manifests, "Deployment").values()
        selector = service["spec"]["selector"]
        assert not selector.items() <= pod["metadata"]["labels"].items()
        assert selector.items() <= deployment["spec"]["template"]["metadata"]["labels"].items()

    def test_the_test_is_the_doctor_with_the_operators_eyes(self) -> None:
        manifests = helm.template(EVERYTHING)
        (pod,) = _of(manifests, "Pod").values()
        (container,) = pod["spec"]["containers"]
        assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"
        assert container["command"][-1] == "doctor"
        operator = _container(manifests)
        assert all(container[field] == operator[field] for field in ("image", "env", "volumeMounts", "securityContext"))

    def test_every_object_has_the_common_labels_and_a_namespace_if_it_can(self) -> None:
        for manifest in helm.template(EVERYTHING):
            assert manifest["metadata"]["labels"]["example.org/team"] == "wine"
            in_cluster = manifest["kind"].startswith(("Cluster", "CustomResource", "ValidatingAdmission"))
            assert ("namespace" in manifest["metadata"]) != in_cluster, manifest["kind"]

    def test_two_releases_do_not_meet(self) -> None:
        def names(release: str) -> set[tuple[str, ...]]:
            manifests = helm.template(NAMESPACED, release=release)
            return {(one["kind"], one["metadata"].get("namespace", ""), one["metadata"]["name"]) for one in manifests}

        assert names("wine-a") & names("wine-b") == set()


class TestMonitoring:
    def test_it_is_opt_in(self) -> None:
        kinds = {manifest["kind"] for manifest in helm.template()}
        assert not kinds & {"ServiceMonitor", "PrometheusRule", "ConfigMap"}

    def test_alerts_ask_for_the_job_that_the_service_makes(self) -> None:
        manifests = helm.template(EVERYTHING)
        (service,) = _of(manifests, "Service").values()
        (rule,) = _of(manifests, "PrometheusRule").values()
        for alert in rule["spec"]["groups"][0]["rules"]:
            assert re.findall(r'job="([^"]*)"', alert["expr"]) == [service["metadata"]["name"]]

    def test_labels_by_which_a_prometheus_finds_it_are_there(self) -> None:
        manifests = helm.template(EVERYTHING)
        for kind in ("ServiceMonitor", "PrometheusRule"):
            (one,) = _of(manifests, kind).values()
            assert one["metadata"]["labels"]["release"] == "prometheus"

    def test_alerts_and_dashboard_ask_for_metrics_that_the_operator_has(self) -> None:
        metrics = Metrics()
        metrics.count_stages(lambda: {"Serving": 1})
        known = {sample.name for metric in metrics.registry.collect() for sample in metric.samples} | {
            metric.name for metric in metrics.registry.collect()
        }
        manifests = helm.template(EVERYTHING)
        texts = (str(_of(manifests, kind)) for kind in ("PrometheusRule", "ConfigMap"))
        asked = {name for text in texts for name in re.findall(r"winepipelines_[a-z_]+", text)}
        assert asked
        assert asked <= known


class TestWhatIsSaid:
    def test_the_notes_give_the_next_command(self) -> None:
        said = helm.notes()
        assert "helm test wine-operator --namespace kubeflow --logs" in said
        assert "kubectl wait --for=condition=Ready winepipeline/mlflow -n admin" in said
        assert "crds.keep is false" not in said

    def test_the_notes_warn_of_what_an_uninstall_would_delete(self) -> None:
        assert "crds.keep is false" in helm.notes({"crds": {"keep": False}})

    def test_the_example_for_flux_has_values_that_the_chart_takes(self) -> None:
        manifests = yaml.safe_load_all((ROOT / "deploy/gitops/flux/operator.yaml").read_text())
        (release,) = (one for one in manifests if one["kind"] == "HelmRelease")
        assert _environment(helm.template(release["spec"]["values"]))["WINE_KFP_UI_URL"]

    def test_it_can_be_packaged(self, tmp_path: Path) -> None:
        helm.run("package", str(helm.CHART), "--destination", str(tmp_path))
        assert [path.name for path in tmp_path.iterdir()] == [f"wine-operator-{version()}.tgz"]
