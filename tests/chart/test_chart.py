"""The chart as Helm renders it."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from dev import helm
from dev.version import version
from sandbox import rights
from winepipelines.doctor.rights import in_namespaces
from winepipelines.doctor.rights import rights as rights_of
from winepipelines.metrics import Metrics
from winepipelines.serving.backends import backends_of
from winepipelines.serving.seldon.settings import SeldonSettings
from winepipelines.settings import Settings

ROOT = Path(__file__).parents[2]
Object = dict[str, Any]
EVERYTHING = yaml.safe_load((Path(__file__).parent / "values/wine-operator/everything.yaml").read_text())
NAMESPACED = yaml.safe_load((Path(__file__).parent / "values/wine-operator/namespaced.yaml").read_text())


def _of(manifests: list[Object], kind: str) -> dict[str, Object]:
    """Index the manifests of a kind by namespace/name, or by name if the kind is cluster-scoped."""
    found = [manifest for manifest in manifests if manifest["kind"] == kind]
    return {"/".join(filter(None, (one["metadata"].get("namespace"), one["metadata"]["name"]))): one for one in found}


def _rights_in_the_sandbox() -> dict[str, Object]:
    return {manifest["kind"]: manifest for manifest in rights.manifests(["seldon"])}


def _container(manifests: list[Object]) -> Object:
    (deployment,) = _of(manifests, "Deployment").values()
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    return dict(container)


def _environment(manifests: list[Object]) -> dict[str, str]:
    return {variable["name"]: variable.get("value", "") for variable in _container(manifests)["env"]}


class TestSettings:
    def test_operator_reads_its_settings_from_the_charts_variables(self) -> None:
        settings = Settings.from_environment(_environment(helm.template()))
        assert settings.kfp_url == "http://ml-pipeline.kubeflow.svc.cluster.local:8888"
        assert settings.max_data_bytes == 1 << 30
        assert settings.steps_image == "winepipelines/steps:0.1.0"
        assert settings.probe_port == _container(helm.template())["ports"][0]["containerPort"]

    def test_values_reach_the_operators_settings(self) -> None:
        settings = Settings.from_environment(_environment(helm.template(EVERYTHING)))
        assert settings.kfp_service_account == "default-editor"
        assert settings.steps_image == "registry.example.org/mirror/team/steps:1.2.3"
        assert settings.server_image == "registry.example.org/mirror/winepipelines/server:0.1.0"
        assert (settings.log_level, settings.log_format) == ("debug", "json")
        own = SeldonSettings.from_environment(_environment(helm.template(EVERYTHING)))
        assert own.endpoint_template == EVERYTHING["seldon"]["endpointTemplate"]

    def test_files_named_by_variables_are_mounted(self) -> None:
        manifests = helm.template(EVERYTHING)
        environment = _environment(manifests)
        mounts = {mount["mountPath"] for mount in _container(manifests)["volumeMounts"]}
        for variable in ("WINE_KFP_TOKEN_FILE", "WINE_KFP_CA_FILE", "WINE_MLFLOW_CA_FILE"):
            assert str(Path(environment[variable]).parent) in mounts

    def test_token_has_the_audience_of_kubeflow_pipelines(self) -> None:
        (deployment,) = _of(helm.template(), "Deployment").values()
        volumes = {volume["name"]: volume for volume in deployment["spec"]["template"]["spec"]["volumes"]}
        (source,) = volumes["kubeflow-token"]["projected"]["sources"]
        assert source["serviceAccountToken"]["audience"] == "pipelines.kubeflow.org"

    def test_extra_variable_is_refused_when_a_value_sets_it(self) -> None:
        with pytest.raises(helm.HelmError, match="extraEnv: WINE_KFP_URL is set by a value of its own"):
            helm.template({"extraEnv": [{"name": "WINE_KFP_URL", "value": "http://elsewhere"}]})

    @pytest.mark.parametrize(
        "values",
        [
            {"kubflow": {}},
            {"kubeflow": {"adress": "http://kfp"}},  # sic
            {"image": {"operator": {"name": "x"}}},
            {"networkPolicy": {"egress": {"open": True}}},
            {"resources": {"limit": {}}},
            {"kubeflow": {"url": ""}},
            {"logging": {"level": "loud"}},
            {"limits": {"workers": 0}},
            {"namespaces": ["Team A"]},
            {"podSecurity": {"runAsUser": 0}},
            {"extraEnv": [{"name": "A", "vaule": "b"}]},  # sic
        ],
        ids=str,
    )
    def test_values_are_refused_when_the_schema_does_not_allow_them(self, values: Object) -> None:
        with pytest.raises(helm.HelmError, match="values don't meet the specifications of the schema"):
            helm.template(values)


class TestRights:
    def test_rules_are_those_of_the_sandbox(self) -> None:
        manifests = helm.template({"mlflow": {"secret": "mlflow-tracking-credentials"}, "serving": {"backend": "Seldon"}})
        given = _rights_in_the_sandbox()
        assert _of(manifests, "ClusterRole")["wine-operator"]["rules"] == given["ClusterRole"]["rules"]
        assert _of(manifests, "Role")["kubeflow/wine-operator-sources"]["rules"] == given["Role"]["rules"]

    def test_source_secret_is_the_only_secret_that_may_be_read(self) -> None:
        values = {"serving": {"backend": "Seldon"}, "seldon": {"sourceSecret": "mine"}, "platformNamespace": "platform"}
        (role,) = _of(helm.template(values), "Role").values()
        assert role["metadata"]["namespace"] == "platform"
        assert [rule["resourceNames"] for rule in role["rules"]] == [["mine"]]

    @pytest.mark.parametrize("backend", ["seldon", "kserve"])
    @pytest.mark.parametrize("namespaces", [[], ["team-a"], ["kubeflow"]], ids=str)
    def test_automatic_source_secret_grants_what_the_operator_needs_once(self, backend: str, namespaces: list[str]) -> None:
        values = {"serving": {"backend": backend}, backend: {"sourceSecret": "auto"}, "namespaces": namespaces}
        environment = _environment(helm.template(values))
        settings = Settings.from_environment(environment)
        [enabled] = backends_of(settings, environment).enabled
        sources = {
            one.name: one.verbs
            for one in rights_of(settings, enabled)
            if one.namespace == "kubeflow" and one.resource == "secrets" and "watch" in one.verbs and "patch" not in one.verbs
        }
        if "kubeflow" in namespaces:  # granted there with the rights of any namespace
            del sources["mlpipeline-minio-artifact"]
        rules = _of(helm.template(values), "Role")["kubeflow/wine-operator-sources"]["rules"]
        granted = {name: tuple(rule["verbs"]) for rule in rules for name in rule["resourceNames"]}
        assert granted == sources
        assert len(granted) >= 2

    def test_rules_on_serving_objects_are_those_of_the_backend(self) -> None:
        values = {"serving": {"backend": "kserve"}, "kserve": {"sourceSecret": "mine"}}
        settings = Settings.from_environment(_environment(helm.template(values)))
        wanted = {
            (right.group, right.resource, verb, right.name)
            for backend in backends_of(settings, {}).enabled
            for right in in_namespaces(settings, backend)
            for verb in right.verbs
        }
        manifests = helm.template({**values, "mlflow": {"secret": "credentials"}})
        rules = _of(manifests, "ClusterRole")["wine-operator"]["rules"]
        granted = {
            (group, resource, verb, name)
            for rule in rules
            for group in rule["apiGroups"]
            for resource in rule["resources"]
            for verb in rule["verbs"]
            for name in rule.get("resourceNames", [""])
        }
        without = {one for one in granted if "wine-mlflow-credentials" not in one and one[0] != "apiextensions.k8s.io"}
        assert without == wanted
        assert _of(manifests, "Role")["kubeflow/wine-operator-sources"]["rules"][0]["resourceNames"] == ["mine", "credentials"]

    @pytest.mark.parametrize(
        ("values", "verbs"),
        [
            ({}, []),
            ({"namespaces": ["team-a", "kubeflow"]}, []),
            ({"namespaces": ["team-a"]}, [["get", "list", "watch"]]),
        ],
    )
    def test_right_to_read_the_source_secret_is_granted_once(self, values: Object, verbs: list[list[str]]) -> None:
        manifests = helm.template({"serving": {"backend": "kserve"}, **values})
        rules = _of(manifests, "Role").get("kubeflow/wine-operator-sources", {"rules": []})["rules"]
        assert [rule["verbs"] for rule in rules if "mlpipeline-minio-artifact" in rule["resourceNames"]] == verbs

    @pytest.mark.parametrize(
        ("backend", "kinds"),
        [
            ({}, {"seldondeployments", "inferenceservices", "servingruntimes"}),
            ({"backend": "Seldon"}, {"seldondeployments"}),
            ({"backend": "kserve"}, {"inferenceservices", "servingruntimes"}),
            ({"backends": ["KServe"]}, {"inferenceservices", "servingruntimes"}),
            (
                {"backend": "seldon", "backends": ["seldon", "kserve"]},
                {"seldondeployments", "inferenceservices", "servingruntimes"},
            ),
        ],
    )
    def test_guard_covers_the_kinds_of_the_enabled_backends_only(self, backend: Object, kinds: set[str]) -> None:
        policies = _of(helm.template({"serving": backend}), "ValidatingAdmissionPolicy")
        common = {"secrets", "poddefaults", "deletions", "winepipelines", "limits"}
        assert {name.rpartition(".")[2] for name in policies} - common == kinds

    def test_namespaces_value_grants_no_cluster_wide_rights(self) -> None:
        manifests = helm.template({**NAMESPACED, "serving": {"backend": "Seldon"}})
        assert {manifest["kind"] for manifest in manifests if manifest["kind"].startswith("Cluster")} == set()
        assert _of(manifests, "Role").keys() == {"team-a/wine-operator", "team-b/wine-operator", "kubeflow/wine-operator-sources"}
        left_out = (
            ["apiextensions.k8s.io"],
            ["pipelines.kubeflow.org"],
        )  # rules for cluster-scoped objects and for the owner of a token
        expected = [rule for rule in _rights_in_the_sandbox()["ClusterRole"]["rules"] if rule["apiGroups"] not in left_out]
        assert _of(manifests, "Role")["team-a/wine-operator"]["rules"] == expected
        assert _environment(manifests)["WINE_NAMESPACES"] == "team-a,team-b"

    @pytest.mark.parametrize("values", [{}, EVERYTHING, NAMESPACED], ids=["default", "everything", "namespaced"])
    def test_every_role_is_bound_to_the_operator_only(self, values: Object) -> None:
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

    def test_roles_of_users_do_not_include_the_status(self) -> None:
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
    def test_crds_equal_those_in_the_crds_folder(self) -> None:
        installed = _of(helm.template(), "CustomResourceDefinition")
        for path in (ROOT / "crds").glob("*.yaml"):
            crd = yaml.safe_load(path.read_text())
            assert installed[crd["metadata"]["name"]]["spec"] == crd["spec"]
            assert installed[crd["metadata"]["name"]]["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"

    def test_crds_are_left_out_or_deleted_with_the_release_by_value(self) -> None:
        assert _of(helm.template({"crds": {"install": False}}), "CustomResourceDefinition") == {}
        for crd in _of(helm.template({"crds": {"keep": False}}), "CustomResourceDefinition").values():
            assert "annotations" not in crd["metadata"]

    def test_deployment_never_runs_two_operators(self) -> None:
        (deployment,) = _of(helm.template(), "Deployment").values()
        assert deployment["spec"]["replicas"] == 1
        assert deployment["spec"]["strategy"] == {"type": "Recreate"}

    def test_pod_labels_cannot_override_the_selectors_labels(self) -> None:
        (deployment,) = _of(helm.template({"podLabels": {"app.kubernetes.io/name": "other"}}), "Deployment").values()
        expected = deployment["spec"]["selector"]["matchLabels"]
        assert expected.items() <= deployment["spec"]["template"]["metadata"]["labels"].items()

    @pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["default", "everything"])
    def test_network_policy_covers_the_test_pod_and_the_operator(self, values: Object) -> None:
        """Otherwise `helm test` could reach a platform that the operator cannot reach."""
        manifests = helm.template(values)
        (policy,) = _of(manifests, "NetworkPolicy").values()
        (pod,) = _of(manifests, "Pod").values()
        (deployment,) = _of(manifests, "Deployment").values()
        selector = policy["spec"]["podSelector"]["matchLabels"]
        for labels in (pod["metadata"]["labels"], deployment["spec"]["template"]["metadata"]["labels"]):
            assert selector.items() <= labels.items()

    def test_service_selects_the_operator_but_not_the_test_pod(self) -> None:
        manifests = helm.template()
        (pod,) = _of(manifests, "Pod").values()
        (service,) = _of(manifests, "Service").values()
        (deployment,) = _of(manifests, "Deployment").values()
        selector = service["spec"]["selector"]
        assert not selector.items() <= pod["metadata"]["labels"].items()
        assert selector.items() <= deployment["spec"]["template"]["metadata"]["labels"].items()

    def test_test_pod_runs_doctor_with_the_operators_settings(self) -> None:
        manifests = helm.template(EVERYTHING)
        (pod,) = _of(manifests, "Pod").values()
        (container,) = pod["spec"]["containers"]
        assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"
        assert container["command"][-1] == "doctor"
        operator = _container(manifests)
        assert all(container[field] == operator[field] for field in ("image", "env", "volumeMounts", "securityContext"))

    def test_every_object_has_the_common_labels_and_a_namespace_if_namespaced(self) -> None:
        for manifest in helm.template(EVERYTHING):
            assert manifest["metadata"]["labels"]["example.org/team"] == "wine"
            in_cluster = manifest["kind"].startswith(("Cluster", "CustomResource", "ValidatingAdmission"))
            assert ("namespace" in manifest["metadata"]) != in_cluster, manifest["kind"]

    def test_two_releases_share_no_object(self) -> None:
        def names(release: str) -> set[tuple[str, ...]]:
            manifests = helm.template(NAMESPACED, release=release)
            return {(one["kind"], one["metadata"].get("namespace", ""), one["metadata"]["name"]) for one in manifests}

        assert names("wine-a") & names("wine-b") == set()


class TestMonitoring:
    def test_monitoring_objects_are_opt_in(self) -> None:
        kinds = {manifest["kind"] for manifest in helm.template()}
        assert not kinds & {"ServiceMonitor", "PrometheusRule", "ConfigMap"}

    def test_alerts_select_the_job_of_the_service(self) -> None:
        manifests = helm.template(EVERYTHING)
        (service,) = _of(manifests, "Service").values()
        (rule,) = _of(manifests, "PrometheusRule").values()
        for alert in rule["spec"]["groups"][0]["rules"]:
            assert re.findall(r'job="([^"]*)"', alert["expr"]) == [service["metadata"]["name"]]

    def test_monitoring_objects_have_the_labels_that_prometheus_selects(self) -> None:
        manifests = helm.template(EVERYTHING)
        for kind in ("ServiceMonitor", "PrometheusRule"):
            (one,) = _of(manifests, kind).values()
            assert one["metadata"]["labels"]["release"] == "prometheus"

    def test_alerts_and_dashboard_use_only_metrics_of_the_operator(self) -> None:
        metrics = Metrics()
        metrics.count_stages(lambda: {"Serving": 1})
        known = {sample.name for metric in metrics.registry.collect() for sample in metric.samples} | {
            metric.name for metric in metrics.registry.collect()
        }
        manifests = helm.template(EVERYTHING)
        texts = (str(_of(manifests, kind)) for kind in ("PrometheusRule", "ConfigMap"))
        used = {name for text in texts for name in re.findall(r"winepipelines_[a-z_]+", text)}
        assert used
        assert used <= known


PLATFORMS = sorted(helm.CHART.glob("values-*.yaml"))


class TestPlatforms:
    @pytest.mark.parametrize("path", PLATFORMS, ids=lambda path: path.stem)
    def test_values_of_a_platform_are_valid_settings_and_explained(self, path: Path) -> None:
        environment = _environment(helm.template(yaml.safe_load(path.read_text())))
        settings = Settings.from_environment(environment)
        (backend,) = backends_of(settings, environment).enabled
        assert (backend.name, len(backend.source.names) > 1) == ("KServe", True)
        assert path.name in (ROOT / "docs/how-to/install-on-kubeflow.md").read_text()

    def test_values_of_every_platform_are_there(self) -> None:
        assert [path.stem for path in PLATFORMS] == ["values-charmed-1.11", "values-kserve-only", "values-kubeflow-26.03"]

    @pytest.mark.parametrize(
        ("backend", "labels"),
        [
            ("kserve", {"app.kubernetes.io/managed-by": "wine-operator", "component": "predictor"}),
            ("seldon", {"app.kubernetes.io/managed-by": "seldon-core"}),
        ],
    )
    def test_mesh_policy_admits_the_operator_to_pods_of_models_only(self, backend: str, labels: Object) -> None:
        policy = {"create": True, "namespaces": ["team-a", "team-b"], "trustDomain": "example.org"}
        values = {"serving": {"backend": backend}, "mesh": {"authorizationPolicy": policy}, "serviceAccount": {"name": "wine"}}
        policies = _of(helm.template(values, namespace="platform"), "AuthorizationPolicy")
        assert {name.partition("/")[0] for name in policies} == {"team-a", "team-b"}
        for one in policies.values():
            assert one["spec"]["selector"] == {"matchLabels": labels}
            assert one["spec"]["action"] == "ALLOW"
            assert one["spec"]["rules"] == [{"from": [{"source": {"principals": ["example.org/ns/platform/sa/wine"]}}]}]

    def test_mesh_policy_is_opt_in_and_needs_namespaces(self) -> None:
        assert _of(helm.template(), "AuthorizationPolicy") == {}
        with pytest.raises(helm.HelmError, match=r"mesh\.authorizationPolicy\.namespaces: name the namespaces of models"):
            helm.template({"mesh": {"authorizationPolicy": {"create": True}}})
        limited = {"namespaces": ["red"], "mesh": {"authorizationPolicy": {"create": True}}}
        assert {name.partition("/")[0] for name in _of(helm.template(limited), "AuthorizationPolicy")} == {"red"}


class TestNotesAndPackage:
    def test_notes_show_the_next_commands(self) -> None:
        notes = helm.notes()
        assert "helm test wine-operator --namespace kubeflow --logs" in notes
        assert "kubectl wait --for=condition=Ready winepipeline/mlflow -n admin" in notes
        assert "crds.keep is false" not in notes

    def test_notes_warn_when_an_uninstall_deletes_the_crds(self) -> None:
        assert "crds.keep is false" in helm.notes({"crds": {"keep": False}})

    def test_flux_example_has_valid_values(self) -> None:
        manifests = yaml.safe_load_all((ROOT / "deploy/gitops/flux/operator.yaml").read_text())
        (release,) = (one for one in manifests if one["kind"] == "HelmRelease")
        assert _environment(helm.template(release["spec"]["values"]))["WINE_KFP_UI_URL"]

    def test_chart_can_be_packaged(self, tmp_path: Path) -> None:
        helm.run("package", str(helm.CHART), "--destination", str(tmp_path))
        assert [path.name for path in tmp_path.iterdir()] == [f"wine-operator-{version()}.tgz"]
