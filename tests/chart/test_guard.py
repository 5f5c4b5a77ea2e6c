"""The guard lets the operator write what it writes, and nothing of what its rights alone would let a thief of its token write."""

import copy
from collections.abc import Callable
from functools import cache
from typing import Any

import celpy
import pytest
from celpy.adapter import json_to_cel
from celpy.evaluation import CELEvalError

from dev import helm
from dev.lint_manifests import rendered

Object = dict[str, Any]
OPERATOR = "system:serviceaccount:kubeflow:wine-operator"
EARLIER = "old.example.org/winepipelines/server"
RESOURCES = {"Secret": "secrets", "PodDefault": "poddefaults", "SeldonDeployment": "seldondeployments"}


@cache
def _policies() -> dict[str, Object]:
    found = [one for one in helm.template() if one["kind"] == "ValidatingAdmissionPolicy"]
    return {one["spec"]["matchConstraints"]["resourceRules"][0]["resources"][0]: one["spec"] for one in found}


@cache
def _program(expression: str) -> celpy.Runner:
    environment = celpy.Environment()
    return environment.program(environment.compile(expression))


def _holds(expression: str, variables: Object) -> bool:
    try:
        return bool(_program(expression).evaluate({name: json_to_cel(value) for name, value in variables.items()}))
    except CELEvalError:
        return False  # failurePolicy Fail


def _refused(manifest: Object, user: str = OPERATOR, before: Object | None = None) -> list[str]:
    """What the guard says to a user's writing a manifest; nothing where it lets it pass or is not asked."""
    spec = _policies()[RESOURCES[manifest["kind"]]]
    assert spec["failurePolicy"] == "Fail"
    request = {"userInfo": {"username": user}, "operation": "CREATE" if before is None else "UPDATE"}
    variables = {"object": manifest, "oldObject": before, "request": request}
    if not all(_holds(condition["expression"], variables) for condition in spec["matchConditions"]):
        return []
    return [one["message"] for one in spec["validations"] if not _holds(one["expression"], variables)]


OWN = {f"{manifest['kind']} {manifest['metadata']['name']}": manifest for _, manifest in rendered()}
GUARDED = {name: manifest for name, manifest in OWN.items() if manifest["kind"] in RESOURCES}


def _changed(kind: str, change: Callable[[Object], object]) -> Object:
    manifest = copy.deepcopy(next(one for one in GUARDED.values() if one["kind"] == kind))
    change(manifest)
    return manifest


def _predictor(manifest: Object) -> Any:
    return manifest["spec"]["predictors"][0]


def _pod(manifest: Object) -> Any:
    return _predictor(manifest)["componentSpecs"][0]["spec"]


def _server(manifest: Object) -> Any:
    return _pod(manifest)["containers"][0]


def _hook(manifest: Object) -> Any:
    return _server(manifest)["lifecycle"]["preStop"]["exec"]


def test_every_kind_that_the_operator_makes_is_guarded() -> None:
    assert {manifest["kind"] for manifest in OWN.values()} == RESOURCES.keys()
    assert _policies().keys() == set(RESOURCES.values())


@pytest.mark.parametrize("name", GUARDED)
def test_what_the_operator_makes_passes(name: str) -> None:
    assert _refused(GUARDED[name]) == []


def test_the_server_of_an_earlier_release_passes_and_so_does_a_model_on_trial() -> None:
    """An upgrade leaves what serves as it is, which may have to be mended later; and the next model comes up beside it."""
    name = str(_server(_changed("SeldonDeployment", lambda _: None))["image"]).rpartition(":")[0]

    def beside(manifest: Object) -> None:
        _server(manifest)["image"] = f"{name}:0.0.1"
        trial = copy.deepcopy(_predictor(manifest))
        trial["componentSpecs"][0]["spec"]["containers"][0]["image"] = f"{name}@sha256:{'0' * 64}"
        manifest["spec"]["predictors"].append({**trial, "name": "candidate"})

    assert _refused(_changed("SeldonDeployment", beside)) == []


def test_the_server_of_an_earlier_registry_passes_where_the_administrator_names_it() -> None:
    def earlier(manifest: Object) -> None:
        _server(manifest)["image"] = f"{EARLIER}:0.1.0"

    manifest = _changed("SeldonDeployment", earlier)
    assert _refused(manifest)
    named = helm.template({"guard": {"serverRepositories": [EARLIER]}})
    policy = next(one for one in named if one["metadata"]["name"].endswith("seldondeployments") and "validations" in one["spec"])
    assert all(_holds(one["expression"], {"object": manifest, "oldObject": None}) for one in policy["spec"]["validations"])


def test_a_server_behind_seldons_executor_passes() -> None:
    def behind(manifest: Object) -> None:
        _predictor(manifest).pop("annotations")
        for name in ("lifecycle", "ports"):
            _server(manifest).pop(name)
        _pod(manifest).pop("terminationGracePeriodSeconds")

    assert _refused(_changed("SeldonDeployment", behind)) == []


def _adds_a_variable(**variable: object) -> Callable[[Object], object]:
    return lambda it: it["spec"]["env"].append(variable)


ATTACKS: dict[str, dict[str, Callable[[Object], object]]] = {
    "Secret": {
        "another name": lambda it: it["metadata"].update(name="planted"),
        "a service account's token": lambda it: it.update(type="kubernetes.io/service-account-token"),
    },
    "PodDefault": {
        "for every pod": lambda it: it["spec"]["selector"].update(matchLabels={}),
        "for others' pods": lambda it: it["spec"]["selector"].update(matchLabels={"app": "notebook"}),
        "a sidecar": lambda it: it["spec"].update(sidecars=[{"name": "mine"}]),
        "a command": lambda it: it["spec"].update(command=["sh"]),
        "a service account": lambda it: it["spec"].update(serviceAccountName="default-editor"),
        "a volume": lambda it: it["spec"].update(volumes=[{"name": "root", "hostPath": {"path": "/"}}]),
        "a shell's variable": _adds_a_variable(name="PROMPT_COMMAND", value="id"),
        "another Secret": _adds_a_variable(name="AWS_X", valueFrom={"secretKeyRef": {"name": "other", "key": "k"}}),
    },
    "SeldonDeployment": {
        "another image": lambda it: _server(it).update(image="evil"),
        "an image whose name begins alike": lambda it: _server(it).update(image=_server(it)["image"].replace(":", "-evil:")),
        "an image without a tag": lambda it: _server(it).update(image=_server(it)["image"].rpartition(":")[0]),
        "no image": lambda it: _server(it).pop("image"),
        "a second container": lambda it: _pod(it)["containers"].append({"name": "x", "image": "evil"}),
        "an init container": lambda it: _pod(it).update(initContainers=[{"name": "x"}]),
        "a service account": lambda it: _pod(it).update(serviceAccountName="default-editor"),
        "a volume": lambda it: _pod(it).update(volumes=[{"name": "x", "secret": {"secretName": "other"}}]),
        "the node's network": lambda it: _pod(it).update(hostNetwork=True),
        "a command": lambda it: _server(it).update(command=["sh"]),
        "a hook": lambda it: _server(it).update(lifecycle={}),
        "a command before the end": lambda it: _hook(it).update(command=["sh", "-c", "id"]),
        "a command beside the wait": lambda it: _hook(it)["command"].append("x"),
        "a request before the end": lambda it: _server(it)["lifecycle"]["preStop"].update(httpGet={"port": 80}),
        "a command after the start": lambda it: _server(it)["lifecycle"].update(postStart={"exec": {"command": ["id"]}}),
        "a Secret as variables": lambda it: _server(it).update(envFrom=[{"secretRef": {"name": "other"}}]),
        "privileges": lambda it: _server(it).update(securityContext={"privileged": True}),
        "a model with another Secret": lambda it: _predictor(it)["graph"].update(envSecretRefName="other"),
        "another initializer": lambda it: _predictor(it)["graph"].update(storageInitializerImage="evil"),
        "a graph's service account": lambda it: _predictor(it)["graph"].update(serviceAccountName="default-editor"),
        "an explainer": lambda it: _predictor(it).update(explainer={"containerSpec": {"image": "evil"}}),
        "the orchestrator's variables": lambda it: _predictor(it).update(svcOrchSpec={"env": [{"name": "X"}]}),
        "a second predictor": lambda it: it["spec"]["predictors"].append({"name": "x", "graph": {}}),
        "a predictor without a server": lambda it: _predictor(it).pop("componentSpecs"),
    },
}
CASES = [(kind, attack) for kind, attacks in ATTACKS.items() for attack in attacks]


@pytest.mark.parametrize(("kind", "attack"), CASES)
def test_a_thief_of_its_token_is_refused(kind: str, attack: str) -> None:
    assert _refused(_changed(kind, ATTACKS[kind][attack]))


@pytest.mark.parametrize(("kind", "attack"), CASES)
def test_a_thief_can_turn_nothing_that_is_there_into_it(kind: str, attack: str) -> None:
    manifest = _changed(kind, ATTACKS[kind][attack])
    assert _refused(manifest, before=_changed(kind, lambda _: None))


def test_what_a_user_has_added_to_a_poddefault_does_not_stop_the_operator() -> None:
    def add(it: Object) -> None:
        it["spec"]["env"].append({"name": "HTTP_PROXY", "value": "http://proxy"})
        it["spec"]["volumes"] = [{"name": "mine", "emptyDir": {}}]

    before = _changed("PodDefault", add)
    assert _refused(before, before=before) == []
    after = copy.deepcopy(before)
    after["spec"]["volumes"].append({"name": "root", "hostPath": {"path": "/"}})
    assert _refused(after, before=before)


@pytest.mark.parametrize(("kind", "attack"), CASES)
def test_nobody_else_is_asked(kind: str, attack: str) -> None:
    assert _refused(_changed(kind, ATTACKS[kind][attack]), user="system:serviceaccount:admin:default-editor") == []


def test_the_user_is_the_operators_service_account() -> None:
    manifests = helm.template({"serviceAccount": {"name": "wine"}}, namespace="platform")
    for policy in (one for one in manifests if one["kind"] == "ValidatingAdmissionPolicy"):
        (condition,) = policy["spec"]["matchConditions"]
        assert condition["expression"] == "request.userInfo.username == 'system:serviceaccount:platform:wine'"


def test_every_policy_is_bound() -> None:
    manifests = helm.template()
    policies = {one["metadata"]["name"] for one in manifests if one["kind"] == "ValidatingAdmissionPolicy"}
    bindings = [one["spec"] for one in manifests if one["kind"] == "ValidatingAdmissionPolicyBinding"]
    assert {binding["policyName"] for binding in bindings} == policies
    assert all(binding["validationActions"] == ["Deny"] for binding in bindings)
