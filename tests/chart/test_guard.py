"""The admission policies on a real API server, with the operator's own token.

They admit every object that the operator applies, and refuse everything else. Every request is a dry run.
The CRD is Seldon's own.
"""

import copy
import json
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from support.cluster import eventually
from support.earlier import earlier_manifests
from support.guard import CRD, NAMESPACE, POLICY, RIGHTS, Guarded, applied, shared
from support.guard_attacks import ATTACKS, CASES, EARLIER, GUIDE, KINDS, OWN, changed, labels, pod_of, predictor_of, server_of

from dev import helm
from winepipelines.platform.modelkeys import without_key

Object = dict[str, Any]
NEW_OBJECTS = {"another name", "the name of another resource", "no owner"}  # an existing object may lose its owner

# -- admitted --


@pytest.mark.parametrize("name", OWN)
def test_guard_admits_the_operators_objects(guard: Guarded, name: str) -> None:
    assert guard.operator.create(OWN[name]) == ""
    assert guard.operator.apply(OWN[name]) == ""
    with guard.existing(OWN[name]):
        assert guard.operator.apply(OWN[name]) == ""


@pytest.mark.parametrize("case", EARLIER)
def test_guard_admits_corrections_of_objects_of_an_earlier_release(guard: Guarded, case: str) -> None:
    """Such objects lack today's restrictions; adding them would replace their pods."""
    earlier = EARLIER[case]
    assert "does not run as root" in guard.operator.create(earlier.manifest), "a new object must have the restrictions"
    with guard.existing(earlier.manifest):
        live = guard.cluster.get("seldondeployment", NAMESPACE, "mlflow")
        assert live is not None
        drift_corrected = applied(earlier, live)
        assert drift_corrected["spec"] == earlier.manifest["spec"]
        assert guard.operator.apply(drift_corrected) == ""
        scaled = copy.deepcopy(drift_corrected)
        scaled["spec"]["predictors"][0].update(replicas=3)
        assert guard.operator.apply(scaled) == ""
        another = copy.deepcopy(drift_corrected)
        another["spec"]["predictors"][0]["graph"]["modelUri"] = "s3://mlflow/9/model"
        assert "does not run as root" in guard.operator.apply(another), "another model must have the restrictions"


def test_guard_admits_the_digest_of_the_model(guard: Guarded) -> None:
    def digest(manifest: Object) -> None:
        server_of(manifest)["env"] = [{"name": "MODEL_DIGEST", "value": f"sha256:{'0' * 64}"}]

    assert guard.operator.create(changed("SeldonDeployment", digest)) == ""


def test_guard_admits_server_images_of_earlier_releases_and_named_registries(guard: Guarded) -> None:
    """An upgrade does not change what is serving, and the operator may have to correct it later."""
    for image in ("s:0.0.1", f"s@sha256:{'0' * 64}", "docker.io/seldonio/mlflowserver:1.17.1"):
        assert guard.operator.create(changed("SeldonDeployment", lambda it: server_of(it).update(image=image))) == ""  # noqa: B023
    assert "has an image" in guard.operator.create(changed("SeldonDeployment", lambda it: server_of(it).update(image="t:0.0.1")))


def test_guard_admits_models_from_the_named_locations_only(guard: Guarded) -> None:
    def at(uri: str) -> str:
        return guard.operator.create(changed("SeldonDeployment", lambda it: predictor_of(it)["graph"].update(modelUri=uri)))

    guard.install(modelLocations=["s3://mlflow", "s3://shared/models/"])
    try:
        eventually(lambda: at("s3://other/1/model") != "")
        assert at("s3://mlflow/1/model") == at("s3://shared/models/1") == ""
        assert at("s3://mlflow-other/1/model")
        assert at("s3://shared/other/1")
    finally:
        guard.install()
        eventually(lambda: at("s3://other/1/model") == "")


def test_guard_admits_the_operator_when_others_added_fields(guard: Guarded) -> None:
    """Their fields may stay; the operator may not change them."""
    for name in OWN:
        manifest = copy.deepcopy(OWN[name])
        manifest["metadata"]["labels"]["team"] = "wine"
        manifest["metadata"]["annotations"] = manifest["metadata"].get("annotations", {}) | {"example.org/note": "kept"}
        if manifest["kind"] == "PodDefault":
            manifest["spec"]["volumes"] = [{"name": "mine", "emptyDir": {}}]
            manifest["spec"]["env"].append({"name": "HTTP_PROXY", "value": "http://proxy"})
        if manifest["kind"] == "Secret":
            manifest["data"]["LD_PRELOAD"] = "eA=="  # the operator removes it with its next request
        if manifest["kind"] == "SeldonDeployment":
            manifest["spec"]["replicas"] = 2  # as kubectl scale does
        assert POLICY in guard.operator.create(manifest)
        with guard.existing(manifest):
            assert guard.operator.apply(OWN[name]) == ""
            for change in ({"labels": {"team": "other"}}, {"annotations": {"example.org/note": "other"}}):
                assert POLICY in guard.operator.merge(manifest, {"metadata": change})


def test_guard_admits_removing_the_owner(guard: Guarded) -> None:
    with guard.existing(GUIDE):
        assert guard.operator.merge(GUIDE, {"metadata": {"ownerReferences": []}}) == ""


def test_guard_admits_a_retained_deployment_as_owner_of_a_secret(guard: Guarded) -> None:
    owner = {"apiVersion": GUIDE["apiVersion"], "kind": GUIDE["kind"], "name": "mlflow", "uid": "1"}
    secret = copy.deepcopy(shared()["seldon-init-container-secret"])
    with guard.existing(secret):
        del secret["data"], secret["type"], secret["metadata"]["labels"]
        secret["metadata"]["ownerReferences"] = [owner]
        assert guard.operator.apply(secret, "wine-operator-1") == ""


def test_guard_admits_creating_the_model_key_but_not_changing_it(guard: Guarded) -> None:
    owned = without_key(earlier_manifests()[0].pipeline, NAMESPACE)
    made = {**owned, "type": "Opaque", "stringData": {"current": "0" * 64}}
    assert guard.operator.create(made) == ""
    with guard.existing(made):
        assert guard.operator.apply(owned) == ""
        assert "never changes one that is there" in guard.operator.merge(made, {"stringData": {"current": "1" * 64}})
        assert POLICY in guard.operator.merge(made, {"stringData": {"previous": "1" * 64}})


# -- refused --


BY_RBAC = {("Secret", "another name")}  # RBAC restricts the names, except for create


@pytest.mark.parametrize(("kind", "attack"), CASES)
def test_guard_refuses_an_attack_with_the_operators_token(guard: Guarded, kind: str, attack: str) -> None:
    manifest = changed(kind, ATTACKS[kind][attack])
    assert POLICY in guard.operator.create(manifest)
    if (kind, attack) not in BY_RBAC:
        assert POLICY in guard.operator.apply(manifest)


@pytest.mark.parametrize("kind", KINDS)
def test_guard_refuses_an_attack_as_an_update_of_an_existing_object(guard: Guarded, kind: str) -> None:
    with guard.existing(changed(kind, lambda _: None)):
        for attack in ATTACKS[kind].keys() - NEW_OBJECTS:
            refusal = guard.operator.replace(changed(kind, ATTACKS[kind][attack]))
            assert POLICY in refusal or "field is immutable" in refusal, attack


def test_guard_refuses_a_field_that_only_a_later_schema_has(guard: Guarded) -> None:
    """The policies list the allowed fields, so that an unknown field is refused."""
    schema = json.loads(CRD.read_text())
    part = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/predictors/items"
    pod = f"{part}/properties/componentSpecs/items/properties/spec"
    resources = f"{pod}/properties/containers/items/properties/resources"
    opened = [{"op": "add", "path": f"{at}/x-kubernetes-preserve-unknown-fields", "value": True} for at in (part, pod, resources)]
    later: dict[str, Callable[[Object], object]] = {
        "a predictor's": lambda it: predictor_of(it).update(unheardOf={}),
        "a pod's": lambda it: pod_of(it).update(resourceClaims=[{"name": "gpu", "resourceClaimName": "gpu"}]),
        "a container's": lambda it: server_of(it)["resources"].update(claims=[{"name": "gpu"}]),
    }
    sandbox, name = guard.cluster.sandbox, f"crd/{schema['metadata']['name']}"
    sandbox.kubectl("patch", name, "--type=json", "-p", json.dumps(opened))
    try:
        for field, change in later.items():
            manifest = changed("SeldonDeployment", change)
            eventually(lambda: "unknown field" not in guard.operator.create(manifest))  # noqa: B023
            assert POLICY in guard.operator.create(manifest), field
    finally:
        sandbox.kubectl("replace", "-f", str(CRD))


@pytest.mark.parametrize("kind", KINDS)
def test_guard_refuses_to_change_objects_of_others(guard: Guarded, kind: str) -> None:
    def theirs(manifest: Object) -> None:
        manifest["metadata"]["labels"]["app.kubernetes.io/managed-by"] = "somebody"

    with guard.existing(changed(kind, theirs)):
        assert "changes no object that it did not create" in guard.operator.apply(changed(kind, lambda _: None))


def test_guard_refuses_to_delete_seldondeployments_of_others(guard: Guarded) -> None:
    with guard.existing(GUIDE):
        assert guard.operator.delete(GUIDE) == ""
    with guard.existing(changed("SeldonDeployment", labels("app.kubernetes.io/managed-by", "somebody"))):
        assert "deletes no object that it did not create" in guard.operator.delete(GUIDE)


def test_guard_refuses_to_delete_poddefaults_of_others(guard: Guarded) -> None:
    ours = changed("PodDefault", lambda _: None)
    with guard.existing(ours):
        assert guard.operator.delete(ours) == ""
    with guard.existing(changed("PodDefault", labels("app.kubernetes.io/managed-by", "somebody"))):
        assert "deletes no object that it did not create" in guard.operator.delete(ours)


@pytest.mark.parametrize(
    ("name", "patch"),
    [
        ("spec", {"spec": {"suspend": True}}),
        ("another data URL", {"spec": {"data": {"url": "http://evil.example"}}}),
        ("annotations", {"metadata": {"annotations": {"winepipelines.io/retrain": "now"}}}),
        ("labels", {"metadata": {"labels": {"a": "b"}}}),
        ("others' finalizers", {"metadata": {"finalizers": ["winepipelines.io/cleanup"]}}),
        ("another finalizer", {"metadata": {"finalizers": ["example.org/theirs", "example.org/mine"]}}),
        ("owners", {"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "a", "uid": "1"}]}}),
    ],
)
def test_guard_admits_only_the_finalizer_on_resources_of_users(guard: Guarded, name: str, patch: Object) -> None:
    metadata = {"name": "mlflow", "namespace": NAMESPACE, "finalizers": ["example.org/theirs"]}
    resource = {
        "apiVersion": "winepipelines.io/v1alpha1",
        "kind": "WinePipeline",
        "metadata": metadata,
        "spec": {"data": {"url": "http://data/wine.csv"}},
    }
    guard.cluster.apply(resource)
    eventually(lambda: "but its finalizer" in guard.operator.merge(resource, {"spec": {"suspend": True}}))
    assert "but its finalizer" in guard.operator.merge(resource, patch), name
    both = ["example.org/theirs", "winepipelines.io/cleanup"]
    assert guard.operator.merge(resource, {"metadata": {"finalizers": both}}) == ""


# -- the policies themselves --


def test_every_writable_secret_has_a_list_of_its_keys() -> None:
    named = {
        name
        for manifest in yaml.safe_load_all(RIGHTS.read_text())
        if manifest["kind"] == "ClusterRole"
        for rule in manifest["rules"]
        if rule["resources"] == ["secrets"] and "patch" in rule["verbs"]
        for name in rule["resourceNames"]
    }
    [policy] = (one for one in _policies() if one["metadata"]["name"].endswith(".secrets"))
    [keys] = (one["expression"] for one in policy["spec"]["variables"] if one["name"] == "keys")
    assert named <= set(re.findall(r'"([a-z-]+)": dyn', keys))


def _policies(values: Object | None = None, namespace: str = "kubeflow") -> list[Object]:
    return [one for one in helm.template(values, namespace=namespace) if one["kind"] == "ValidatingAdmissionPolicy"]


def test_policies_match_the_operators_service_account() -> None:
    for policy in _policies({"serviceAccount": {"name": "wine"}}, namespace="platform"):
        if policy["metadata"]["name"].endswith(".limits"):  # it applies to every user
            continue
        (condition,) = policy["spec"]["matchConditions"]
        assert condition["expression"] == "request.userInfo.username == 'system:serviceaccount:platform:wine'"
        assert policy["spec"]["failurePolicy"] == "Fail"


def test_every_policy_is_bound() -> None:
    bindings = [one["spec"] for one in helm.template() if one["kind"] == "ValidatingAdmissionPolicyBinding"]
    assert Counter(binding["policyName"] for binding in bindings) == Counter(one["metadata"]["name"] for one in _policies())
    assert all(binding["validationActions"] == ["Deny"] for binding in bindings)
