"""The rights that the doctor looks for are those that the manifest grants: no more, no less."""

from collections.abc import Iterator
from pathlib import Path

import yaml

from winepipelines.doctor.rights import ROLE, Right, rights
from winepipelines.settings import Settings

MANIFEST = Path(__file__).parents[2] / "deploy/operator/rbac.yaml"
SETTINGS = Settings("http://kfp", "http://mlflow", "http://minio", mlflow_secret="mlflow-tracking-credentials")


def granted() -> Iterator[tuple[str, str, str, str, str]]:
    """List each right of the manifest: group, resource, verb, name and namespace, which are empty where anything will do."""
    for body in yaml.safe_load_all(MANIFEST.read_text()):
        if body["kind"] not in ("ClusterRole", "Role"):
            continue
        namespace = body["metadata"].get("namespace", "")
        for rule in body["rules"]:
            for group in rule["apiGroups"]:
                for resource in rule["resources"]:
                    for verb in rule["verbs"]:
                        for name in rule.get("resourceNames", [""]):
                            yield group, resource, verb, name, namespace


def wanted() -> Iterator[tuple[str, str, str, str, str]]:
    for right in rights(SETTINGS):
        for verb in right.verbs:
            yield right.group, right.resource, verb, right.name, right.namespace


def test_the_list_is_the_manifests() -> None:
    missing, extra = set(granted()) - set(wanted()), set(wanted()) - set(granted())
    assert not missing, f"rbac.yaml grants what doctor/rights.py does not list: {sorted(missing)}"
    assert not extra, f"doctor/rights.py lists what rbac.yaml does not grant: {sorted(extra)}"


def test_no_right_is_listed_twice() -> None:
    assert len(list(wanted())) == len(set(wanted()))


def test_the_role_that_is_named_is_the_manifests() -> None:
    bodies = [body for body in yaml.safe_load_all(MANIFEST.read_text()) if body["kind"] in ("ClusterRole", "Role")]
    assert {body["metadata"]["name"] for body in bodies} == {ROLE}


def test_a_rule_is_yaml_that_grants_it() -> None:
    right = Right("", "secrets", ("get", "watch"), "source", "kubeflow")
    assert yaml.safe_load(right.rule(("watch",))) == {
        "apiGroups": [""],
        "resources": ["secrets"],
        "resourceNames": ["source"],
        "verbs": ["watch"],
    }


def test_without_a_secret_for_mlflow_no_right_on_one_is_needed() -> None:
    assert not any("mlflow-tracking" in right.name for right in rights(Settings("http://kfp", "http://mlflow", "http://minio")))


def test_the_source_secret_is_the_administrators() -> None:
    settings = Settings("http://kfp", "http://mlflow", "http://minio", source_secret="other", platform_namespace="platform")
    assert Right("", "secrets", ("get", "list", "watch"), "other", "platform") in rights(settings)


def test_an_operator_of_some_namespaces_needs_its_rights_there_alone() -> None:
    settings = Settings("http://kfp", "http://mlflow", "http://minio", namespaces=("red", "white"))
    found = rights(settings)
    assert {right.namespace for right in found} == {"red", "white", "kubeflow"}
    assert not any(right.resource == "customresourcedefinitions" for right in found)
    assert Right("", "secrets", ("get", "list", "watch"), "wine-model-key", "kubeflow") in found, "of runs in single-user mode"
