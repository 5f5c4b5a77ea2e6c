"""The chart of the sandbox: it fits the operator's chart, and warns that it is not for production."""

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from dev import helm
from dev.chart import ROOT, flat, values_of
from sandbox import manifests as platform
from sandbox.seldon import api

Object = dict[str, Any]
EVERYTHING = yaml.safe_load((Path(__file__).parent / "values/wine-sandbox/everything.yaml").read_text())
OPERATOR = yaml.safe_load((helm.CHART / "values.yaml").read_text())


def _rendered(values: Object | None = None, **options: str) -> list[Object]:
    return helm.template(values, chart=helm.SANDBOX, **options)


def _of(kind: str, values: Object | None = None) -> dict[str, Object]:
    return {one["metadata"]["name"]: one for one in _rendered(values) if one["kind"] == kind}


@pytest.mark.parametrize("system", ["kubeflow", "mlflow", "objectStore"])
def test_services_have_the_addresses_that_the_operators_chart_expects(system: str) -> None:
    url = urlsplit(OPERATOR[system]["url"])
    assert url.hostname
    name, namespace = url.hostname.split(".")[:2]
    service = _of("Service")[name]
    assert service["metadata"]["namespace"] == namespace
    assert [port["port"] for port in service["spec"]["ports"]] == [url.port]
    pod = _of("Deployment")[name]["spec"]["template"]
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    assert pod["spec"]["containers"][0]["ports"] == [{"name": "http", "containerPort": url.port}]


def test_chart_contains_the_crds_of_the_sandbox() -> None:
    files = sorted((ROOT / "sandbox/manifests").glob("*.yaml"))
    kinds = [one for file in files for one in yaml.safe_load_all(file.read_text()) if one["kind"] != "Namespace"]
    rendered = _rendered()
    assert len(kinds) >= 3
    assert [one for one in kinds if one not in rendered] == []
    assert not _of("CustomResourceDefinition", EVERYTHING)


def test_user_namespace_is_a_profile_with_the_keys_of_the_object_store() -> None:
    rendered = _rendered(EVERYTHING)
    profiles = {one["metadata"]["name"]: one for one in rendered if one["kind"] == "Namespace"}
    secrets = {
        (one["metadata"]["namespace"], one["metadata"]["name"]): one["data"] for one in rendered if one["kind"] == "Secret"
    }
    keys = secrets["kubeflow", "minio"]
    for name in EVERYTHING["users"]:
        assert profiles[name]["metadata"]["labels"].items() >= platform.namespace(name)["metadata"]["labels"].items()
        assert secrets[name, platform.ARTIFACT_SECRET] == keys
    source = secrets["kubeflow", OPERATOR["seldon"]["sourceSecret"]]
    assert source["RCLONE_CONFIG_S3_ACCESS_KEY_ID"] == keys["accesskey"]
    assert source["RCLONE_CONFIG_S3_SECRET_ACCESS_KEY"] == keys["secretkey"]


def test_keys_are_generated_for_each_installation_and_stored_in_secrets_only() -> None:
    first, second = (_rendered(), _rendered())
    keys = [
        next(one["data"] for one in each if one["metadata"]["name"] == "minio" and one["kind"] == "Secret")
        for each in (first, second)
    ]
    assert keys[0] != keys[1]
    others = yaml.safe_dump([one for one in first if one["kind"] != "Secret"])
    assert not any(value in others for value in keys[0].values())


def test_every_pod_and_served_model_runs_the_same_image() -> None:
    image = "registry.example.org/mirror/team/sandbox:1.2.3"
    pods = [one["spec"]["template"]["spec"] for one in _of("Deployment", EVERYTHING).values()]
    assert {container["image"] for pod in pods for container in (*pod["containers"], *pod.get("initContainers", []))} == {image}
    assert _of("Deployment", EVERYTHING)["seldon"]["spec"]["template"]["spec"]["containers"][0]["args"] == [f"--image={image}"]


def test_seldon_stand_in_has_the_rights_for_the_objects_it_writes() -> None:
    rules = _of("ClusterRole")["wine-sandbox-seldon"]["rules"]
    granted = {f"{rule['apiGroups'][0]}/{resource}" for rule in rules for resource in rule["resources"]}
    written = {f"{'/'.join(one.split('/')[:-2])}/{one.split('/')[-1]}" for one in (api.SDEP, *api.KINDS.values())}
    assert written <= granted


@pytest.mark.parametrize(
    "values", [{"user": ["a"]}, {"kubeflow": {"token": True}}, {"resources": {"mlflow": {}}}, {"users": ["Team A"]}], ids=str
)
def test_values_are_refused_when_the_schema_does_not_allow_them(values: Object) -> None:
    with pytest.raises(helm.HelmError, match="values don't meet the specifications of the schema"):
        _rendered(values)


def test_texts_warn_that_the_chart_is_not_for_production() -> None:
    texts = (yaml.safe_load((helm.SANDBOX / "Chart.yaml").read_text())["description"], (helm.SANDBOX / "README.md").read_text())
    for text in (*texts, helm.notes(chart=helm.SANDBOX)):
        assert "never for production" in text.lower()


def test_notes_show_the_operators_values_when_installed_in_another_namespace() -> None:
    values = dict(re.findall(r"--set (\S+)=(\S+)", helm.notes(chart=helm.SANDBOX, namespace="platform")))
    services = {one["metadata"]["name"] for one in _rendered(namespace="platform") if one["kind"] == "Service"}
    assert values.keys() <= {".".join(one.path) for one in flat(values_of(helm.CHART))}
    assert values.pop("platformNamespace") == "platform"
    assert {str(urlsplit(url).hostname) for url in values.values()} == {f"{name}.platform.svc.cluster.local" for name in services}
    assert "--set" not in helm.notes(chart=helm.SANDBOX)
