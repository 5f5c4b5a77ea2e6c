"""The rights that the doctor checks are exactly those that the manifest grants."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from support.backends import kserve_backend, seldon_backend
from support.settings import SETTINGS

from winepipelines.doctor.right import Right
from winepipelines.doctor.rights import ROLE, rights
from winepipelines.serving.port import ServingBackend
from winepipelines.settings import Settings

MANIFEST = Path(__file__).parents[2] / "deploy/operator/rbac.yaml"
WITH_MLFLOW_SECRET = SETTINGS.with_(mlflow_secret="mlflow-tracking-credentials")


def in_manifest() -> Iterator[tuple[str, str, str, str, str]]:
    """List each right of the manifest: group, resource, verb, name and namespace, where empty means any."""
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


def listed(make: Callable[[Settings], ServingBackend]) -> Iterator[tuple[str, str, str, str, str]]:
    for right in rights(WITH_MLFLOW_SECRET, make(WITH_MLFLOW_SECRET)):
        for verb in right.verbs:
            yield right.group, right.resource, verb, right.name, right.namespace


def test_listed_rights_are_those_of_the_manifest() -> None:
    both = {*listed(seldon_backend), *listed(kserve_backend)}
    missing, extra = set(in_manifest()) - both, both - set(in_manifest())
    assert not missing, f"rbac.yaml grants what doctor/rights.py does not list: {sorted(missing)}"
    assert not extra, f"doctor/rights.py lists what rbac.yaml does not grant: {sorted(extra)}"


@pytest.mark.parametrize("make", [seldon_backend, kserve_backend])
def test_each_right_is_listed_once(make: Callable[[Settings], ServingBackend]) -> None:
    assert len(list(listed(make))) == len(set(listed(make)))


def test_right_to_read_the_source_secret_is_not_listed_where_all_of_its_name_may_be_read() -> None:
    name = "mlpipeline-minio-artifact"

    def verbs(*namespaces: str) -> set[tuple[str, ...]]:
        settings = SETTINGS.with_(namespaces=namespaces)
        found = rights(settings, kserve_backend(settings))
        return {right.verbs for right in found if right.name == name and right.namespace == "kubeflow"}

    assert verbs() == set()
    assert verbs("red") == {("get", "list", "watch")}
    found = rights(SETTINGS.with_(namespaces=("red", "kubeflow")), kserve_backend(SETTINGS))
    assert [(right.namespace, right.verbs) for right in found if right.name == name] == [
        ("red", ("get", "list", "watch")),
        ("kubeflow", ("get", "list", "watch")),
    ]


def test_role_has_the_name_in_the_manifest() -> None:
    bodies = [body for body in yaml.safe_load_all(MANIFEST.read_text()) if body["kind"] in ("ClusterRole", "Role")]
    assert {body["metadata"]["name"] for body in bodies} == {ROLE}


def test_rule_of_a_right_is_valid_yaml() -> None:
    right = Right("", "secrets", ("get", "watch"), "source", "kubeflow")
    assert yaml.safe_load(right.rule(("watch",))) == {
        "apiGroups": [""],
        "resources": ["secrets"],
        "resourceNames": ["source"],
        "verbs": ["watch"],
    }


def test_no_right_on_the_mlflow_secret_is_listed_when_none_is_configured() -> None:
    assert not any("mlflow-tracking" in right.name for right in rights(SETTINGS, seldon_backend(SETTINGS)))


def test_right_on_the_source_secret_has_its_configured_name_and_namespace() -> None:
    settings = WITH_MLFLOW_SECRET.with_(platform_namespace="platform")
    found = rights(settings, seldon_backend(settings, source_secret="other"))
    assert Right("", "secrets", ("get", "list", "watch"), "other", "platform") in found


def test_rights_are_limited_to_the_configured_namespaces() -> None:
    settings = SETTINGS.with_(namespaces=("red", "white"))
    found = rights(settings, seldon_backend(settings))
    assert {right.namespace for right in found} == {"red", "white", "kubeflow"}
    assert not any(right.resource == "customresourcedefinitions" for right in found)
    assert Right("", "secrets", ("get", "list", "watch"), "wine-model-key", "kubeflow") in found, (
        "the namespace of runs in single-user mode"
    )


def test_another_backend_has_its_own_rights_and_no_others() -> None:
    ours, theirs = rights(SETTINGS, kserve_backend(SETTINGS)), rights(SETTINGS, seldon_backend(SETTINGS))
    groups = {right.group for right in ours} ^ {right.group for right in theirs}
    assert groups == {"serving.kserve.io", "machinelearning.seldon.io"}
    names = {right.name for right in ours} - {right.name for right in theirs}
    assert names == {"wine-model-store"}
