"""The guard on a real API server, with the operator's own token: it admits all that the operator applies, and nothing else.

Nothing is left behind: every request is a dry run. The CRD is Seldon's own.
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
NEW_OBJECTS = {"another name", "the name of another resource", "no owner"}  # what is there may lose its owner

# -- what is admitted --


@pytest.mark.parametrize("name", OWN)
def test_what_the_operator_makes_is_admitted(guard: Guarded, name: str) -> None:
    assert guard.operator.create(OWN[name]) == ""
    assert guard.operator.apply(OWN[name]) == ""
    with guard.existing(OWN[name]):
        assert guard.operator.apply(OWN[name]) == ""


@pytest.mark.parametrize("case", EARLIER)
def test_what_an_earlier_release_applied_may_be_mended_and_followed(guard: Guarded, case: str) -> None:
    """It runs without the restrictions of today, and its pods are not replaced."""
    earlier = EARLIER[case]
    assert "does not run as root" in guard.operator.create(earlier.manifest), "a new one has to have them"
    with guard.existing(earlier.manifest):
        live = guard.cluster.get("seldondeployment", NAMESPACE, "mlflow")
        assert live is not None
        mended = applied(earlier, live)
        assert mended["spec"] == earlier.manifest["spec"]
        assert guard.operator.apply(mended) == ""
        scaled = copy.deepcopy(mended)
        scaled["spec"]["predictors"][0].update(replicas=3)
        assert guard.operator.apply(scaled) == ""
        another = copy.deepcopy(mended)
        another["spec"]["predictors"][0]["graph"]["modelUri"] = "s3://mlflow/9/model"
        assert "does not run as root" in guard.operator.apply(another), "another model runs with them"


def test_the_digest_of_the_model_is_admitted(guard: Guarded) -> None:
    def digest(manifest: Object) -> None:
        server_of(manifest)["env"] = [{"name": "MODEL_DIGEST", "value": f"sha256:{'0' * 64}"}]

    assert guard.operator.create(changed("SeldonDeployment", digest)) == ""


def test_a_server_of_an_earlier_release_is_admitted_and_of_a_registry_that_is_named(guard: Guarded) -> None:
    """An upgrade leaves what serves as it is, which may have to be mended later."""
    for image in ("s:0.0.1", f"s@sha256:{'0' * 64}", "docker.io/seldonio/mlflowserver:1.17.1"):
        assert guard.operator.create(changed("SeldonDeployment", lambda it: server_of(it).update(image=image))) == ""  # noqa: B023
    assert "has an image" in guard.operator.create(changed("SeldonDeployment", lambda it: server_of(it).update(image="t:0.0.1")))


def test_models_come_from_the_named_locations_alone(guard: Guarded) -> None:
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


def test_what_others_have_added_stays_and_does_not_stop_the_operator(guard: Guarded) -> None:
    """What they have added may stay; the operator may not change it."""
    for name in OWN:
        manifest = copy.deepcopy(OWN[name])
        manifest["metadata"]["labels"]["team"] = "wine"
        manifest["metadata"]["annotations"] = manifest["metadata"].get("annotations", {}) | {"example.org/note": "kept"}
        if manifest["kind"] == "PodDefault":
            manifest["spec"]["volumes"] = [{"name": "mine", "emptyDir": {}}]
            manifest["spec"]["env"].append({"name": "HTTP_PROXY", "value": "http://proxy"})
        if manifest["kind"] == "Secret":
            manifest["data"]["LD_PRELOAD"] = "eA=="  # which the operator takes away with its next request
        if manifest["kind"] == "SeldonDeployment":
            manifest["spec"]["replicas"] = 2  # as kubectl scale does
        assert POLICY in guard.operator.create(manifest)
        with guard.existing(manifest):
            assert guard.operator.apply(OWN[name]) == ""
            for change in ({"labels": {"team": "other"}}, {"annotations": {"example.org/note": "other"}}):
                assert POLICY in guard.operator.merge(manifest, {"metadata": change})


def test_an_owner_may_be_given_up(guard: Guarded) -> None:
    with guard.existing(GUIDE):
        assert guard.operator.merge(GUIDE, {"metadata": {"ownerReferences": []}}) == ""


def test_a_secret_may_live_as_long_as_a_deployment_that_stays(guard: Guarded) -> None:
    owner = {"apiVersion": GUIDE["apiVersion"], "kind": GUIDE["kind"], "name": "mlflow", "uid": "1"}
    secret = copy.deepcopy(shared()["seldon-init-container-secret"])
    with guard.existing(secret):
        del secret["data"], secret["type"], secret["metadata"]["labels"]
        secret["metadata"]["ownerReferences"] = [owner]
        assert guard.operator.apply(secret, "wine-operator-1") == ""


def test_the_key_of_models_is_made_and_never_changed(guard: Guarded) -> None:
    owned = without_key(earlier_manifests()[0].pipeline, NAMESPACE)
    made = {**owned, "type": "Opaque", "stringData": {"current": "0" * 64}}
    assert guard.operator.create(made) == ""
    with guard.existing(made):
        assert guard.operator.apply(owned) == ""
        assert "never changes one that is there" in guard.operator.merge(made, {"stringData": {"current": "1" * 64}})
        assert POLICY in guard.operator.merge(made, {"stringData": {"previous": "1" * 64}})


# -- what is refused --


BY_RBAC = {("Secret", "another name")}  # whose names RBAC knows, for all but creating


@pytest.mark.parametrize(("kind", "attack"), CASES)
def test_the_operators_token_cannot_be_used_to(guard: Guarded, kind: str, attack: str) -> None:
    manifest = changed(kind, ATTACKS[kind][attack])
    assert POLICY in guard.operator.create(manifest)
    if (kind, attack) not in BY_RBAC:
        assert POLICY in guard.operator.apply(manifest)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_that_is_there_can_be_turned_into_it(guard: Guarded, kind: str) -> None:
    with guard.existing(changed(kind, lambda _: None)):
        for attack in ATTACKS[kind].keys() - NEW_OBJECTS:
            refusal = guard.operator.replace(changed(kind, ATTACKS[kind][attack]))
            assert POLICY in refusal or "field is immutable" in refusal, attack


def test_a_field_that_only_a_later_schema_has_is_refused(guard: Guarded) -> None:
    """The list is of what may be there, so that it does not have to know what else there is."""
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
def test_objects_of_others_are_not_changed(guard: Guarded, kind: str) -> None:
    def theirs(manifest: Object) -> None:
        manifest["metadata"]["labels"]["app.kubernetes.io/managed-by"] = "somebody"

    with guard.existing(changed(kind, theirs)):
        assert "changes no object that it did not create" in guard.operator.apply(changed(kind, lambda _: None))


def test_seldondeployments_of_others_are_not_deleted(guard: Guarded) -> None:
    with guard.existing(GUIDE):
        assert guard.operator.delete(GUIDE) == ""
    with guard.existing(changed("SeldonDeployment", labels("app.kubernetes.io/managed-by", "somebody"))):
        assert "deletes no SeldonDeployment that it did not create" in guard.operator.delete(GUIDE)


@pytest.mark.parametrize(
    ("name", "patch"),
    [
        ("spec", {"spec": {"suspend": True}}),
        ("another table", {"spec": {"data": {"url": "http://evil.example"}}}),
        ("annotations", {"metadata": {"annotations": {"winepipelines.io/retrain": "now"}}}),
        ("labels", {"metadata": {"labels": {"a": "b"}}}),
        ("others' finalizers", {"metadata": {"finalizers": ["winepipelines.io/cleanup"]}}),
        ("another finalizer", {"metadata": {"finalizers": ["example.org/theirs", "example.org/mine"]}}),
        ("owners", {"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "a", "uid": "1"}]}}),
    ],
)
def test_resources_of_users_are_not_changed_but_for_the_operators_finalizer(guard: Guarded, name: str, patch: Object) -> None:
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


def test_every_secret_that_may_be_written_has_its_keys_named() -> None:
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


def test_the_user_is_the_operators_service_account() -> None:
    for policy in _policies({"serviceAccount": {"name": "wine"}}, namespace="platform"):
        if policy["metadata"]["name"].endswith(".limits"):  # which holds for everyone
            continue
        (condition,) = policy["spec"]["matchConditions"]
        assert condition["expression"] == "request.userInfo.username == 'system:serviceaccount:platform:wine'"
        assert policy["spec"]["failurePolicy"] == "Fail"


def test_every_policy_is_bound() -> None:
    bindings = [one["spec"] for one in helm.template() if one["kind"] == "ValidatingAdmissionPolicyBinding"]
    assert Counter(binding["policyName"] for binding in bindings) == Counter(one["metadata"]["name"] for one in _policies())
    assert all(binding["validationActions"] == ["Deny"] for binding in bindings)
