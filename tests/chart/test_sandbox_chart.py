"""The chart of the laptop's platform: it is what the operator's chart expects, and says that it is not for production."""

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
def test_a_service_is_where_the_operators_chart_looks_for_it(system: str) -> None:
    url = urlsplit(OPERATOR[system]["url"])
    assert url.hostname
    name, namespace = url.hostname.split(".")[:2]
    service = _of("Service")[name]
    assert service["metadata"]["namespace"] == namespace
    assert [port["port"] for port in service["spec"]["ports"]] == [url.port]
    pod = _of("Deployment")[name]["spec"]["template"]
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    assert pod["spec"]["containers"][0]["ports"] == [{"name": "http", "containerPort": url.port}]


def test_it_has_the_kinds_of_the_sandbox() -> None:
    files = sorted((ROOT / "sandbox/manifests").glob("*.yaml"))
    kinds = [one for file in files for one in yaml.safe_load_all(file.read_text()) if one["kind"] != "Namespace"]
    rendered = _rendered()
    assert len(kinds) >= 3
    assert [one for one in kinds if one not in rendered] == []
    assert not _of("CustomResourceDefinition", EVERYTHING)


def test_a_users_namespace_is_a_profile_that_reaches_the_store_with_the_keys_that_the_store_has() -> None:
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


def test_keys_are_made_anew_for_each_installation_and_stand_in_secrets_alone() -> None:
    first, second = (_rendered(), _rendered())
    keys = [
        next(one["data"] for one in each if one["metadata"]["name"] == "minio" and one["kind"] == "Secret")
        for each in (first, second)
    ]
    assert keys[0] != keys[1]
    others = yaml.safe_dump([one for one in first if one["kind"] != "Secret"])
    assert not any(value in others for value in keys[0].values())


def test_every_pod_runs_the_one_image_and_so_do_served_models() -> None:
    image = "registry.example.org/mirror/team/sandbox:1.2.3"
    pods = [one["spec"]["template"]["spec"] for one in _of("Deployment", EVERYTHING).values()]
    assert {container["image"] for pod in pods for container in (*pod["containers"], *pod.get("initContainers", []))} == {image}
    assert _of("Deployment", EVERYTHING)["seldon"]["spec"]["template"]["spec"]["containers"][0]["args"] == [f"--image={image}"]


def test_seldons_stand_in_may_do_what_it_does() -> None:
    rules = _of("ClusterRole")["wine-sandbox-seldon"]["rules"]
    granted = {f"{rule['apiGroups'][0]}/{resource}" for rule in rules for resource in rule["resources"]}
    written = {f"{'/'.join(one.split('/')[:-2])}/{one.split('/')[-1]}" for one in (api.SDEP, *api.KINDS.values())}
    assert written <= granted


@pytest.mark.parametrize(
    "values", [{"user": ["a"]}, {"kubeflow": {"token": True}}, {"resources": {"mlflow": {}}}, {"users": ["Team A"]}], ids=str
)
def test_what_the_schema_does_not_know_is_refused(values: Object) -> None:
    with pytest.raises(helm.HelmError, match="values don't meet the specifications of the schema"):
        _rendered(values)


def test_it_says_that_it_is_not_for_production() -> None:
    said = (yaml.safe_load((helm.SANDBOX / "Chart.yaml").read_text())["description"], (helm.SANDBOX / "README.md").read_text())
    for text in (*said, helm.notes(chart=helm.SANDBOX)):
        assert "never for production" in text.lower()


def test_in_another_namespace_the_notes_say_how_the_operator_finds_it() -> None:
    said = dict(re.findall(r"--set (\S+)=(\S+)", helm.notes(chart=helm.SANDBOX, namespace="platform")))
    services = {one["metadata"]["name"] for one in _rendered(namespace="platform") if one["kind"] == "Service"}
    assert said.keys() <= {".".join(value.path) for value in flat(values_of(helm.CHART))}
    assert said.pop("platformNamespace") == "platform"
    assert {str(urlsplit(url).hostname) for url in said.values()} == {f"{name}.platform.svc.cluster.local" for name in services}
    assert "--set" not in helm.notes(chart=helm.SANDBOX)
