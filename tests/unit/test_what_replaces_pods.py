"""What replaces the pods of a served model, and what does not: every setting of the operator, and every field of the spec.

A new field fails here until it is listed. docs/serving.md ("What replaces pods") has the list for people.
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.earlier import SETTINGS as EARLIER_SETTINGS
from support.earlier import Earlier, earlier_manifests
from support.rollouts import one

from sandbox.seldon import objects
from winepipelines.platform.manifests import Manifests
from winepipelines.platform.seldon import Seldon, _is_applied
from winepipelines.resource.pipeline import WinePipeline
from winepipelines.resource.policy import Policy
from winepipelines.resource.rollout import Rollout
from winepipelines.resource.spec import Spec
from winepipelines.resource.status import Status
from winepipelines.settings import PREFIX, REPOSITORY, Settings
from winepipelines.validation import CHOICES
from wineserver.environment import Environment

Object = dict[str, Any]
NOBODY: Any = None  # building asks no server
SETTINGS = Settings("http://kfp", "http://mlflow", "http://minio", server_image="registry/server:1")
MODEL = "s3://mlflow/1/model"
FILES = ("templates", "crds")  # parts of the operator's image

# A change of these begins a revision: pods are replaced when its model takes over, if it is another one. A name that ends in a
# dot stands for all fields below it but those that are listed in KEEPS.
NEW_MODEL = (
    "data.",
    *("training.algorithm", "training.parameters.", "training.search.", "training.testFraction", "training.seed"),
    *("training.experiment", "training.registeredModel", "serving.runtime"),
)
# These change what the server of the same model speaks, or how much it may use: pods are replaced.
REPLACES = ("serving.protocol", "serving.resources.requests", "serving.resources.limits")
# An autoscaler needs a CPU request: setting or removing `autoscaling` replaces pods where spec.serving.resources names no CPU.
AUTOSCALING = "serving.autoscaling."
KEEPS = (
    "data.checkSchedule",
    "data.credentialsOverHTTP",  # without a credentialsSecret; with one, a revision begins
    *("training.schedule", "training.timeZone", "training.timeout", "training.attempts"),
    *("training.resources.requests", "training.resources.limits", "gate[].", "serving.replicas", "serving.canary."),
    *("suspend", "historyLimit", "deletionPolicy"),
)
VALUES = {
    "training.schedule": "0 3 * * 1",
    "training.timeZone": "Europe/Berlin",
    "data.checkSchedule": "0 6 * * *",
    "training.timeout": "45m",
    "serving.canary.pause": "1m",
    "serving.canary.steps": [20, 40],
}


def _schema() -> Object:
    crd = yaml.safe_load((REPOSITORY / "crds/winepipelines.yaml").read_text())
    schema: Object = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    return schema


def _leaves(schema: Object, path: str = "") -> Iterator[tuple[str, Object]]:
    """List the fields that hold something themselves, as data.url or gate[].metric."""
    inside = schema.get("items", {}) if schema.get("type") == "array" else schema
    if "properties" not in inside:
        yield path, schema
        return
    path += "[]" if inside is not schema else ""
    for name, field in inside["properties"].items():
        yield from _leaves(field, f"{path}.{name}" if path else name)


FIELDS = dict(_leaves(_schema()))


def _other(path: str, schema: Object) -> Any:
    """Another value than a field has in `SPEC`."""
    if path in VALUES:
        return VALUES[path]
    if "enum" in schema:
        return next(value for value in reversed(schema["enum"]) if value != schema.get("default"))
    if schema.get("type") == "array":
        return [_other(path, schema["items"])]
    if schema.get("type") == "object":
        return {"cpu": "2"}
    return {"integer": 4, "number": 0.125, "boolean": True}.get(schema.get("type", ""), "other")


def _changed(path: str) -> Object:
    """The spec with one field changed."""
    spec: Any = {"data": {"url": "http://data/wine.csv"}}
    place, steps = spec, path.split(".")
    for number, step in enumerate(steps):
        name = step.removesuffix("[]")
        value = _other(path, FIELDS[path]) if number == len(steps) - 1 else {}
        if step.endswith("[]"):
            place[name] = [{"metric": "r2"} | value]
            place = place[name][0]
        else:
            place = place.setdefault(name, value) if number < len(steps) - 1 else place.update({name: value})
    if path.startswith(AUTOSCALING):
        spec["serving"]["autoscaling"].setdefault("maxReplicas", 5)
    if path == "training.algorithm":
        spec["training"]["parameters"] = {}
    changed: Object = spec
    return changed


def _pipeline(spec: Object) -> WinePipeline:
    return WinePipeline("admin", "mlflow", "0123456789ab", 1, "1", Spec.model_validate(spec), Status())


GUIDE = _pipeline({"data": {"url": "http://data/wine.csv"}})


def _seldon(settings: Settings) -> Seldon:
    return Seldon(NOBODY, Manifests(settings.templates), settings, NOBODY)


def _stored(manifest: Object) -> Object:
    """A manifest as the API server has it: with what others and defaults add."""
    live = copy.deepcopy(manifest)
    live["metadata"] |= {"uid": "1", "generation": 1, "resourceVersion": "7"}
    for predictor in live["spec"]["predictors"]:
        predictor["graph"] |= {"type": "MODEL", "children": []}
    return live


def _pods(manifest: Object) -> list[Object]:
    """What Seldon makes pods of, for each predictor."""
    return [predictor.deployment["spec"]["template"] for predictor in objects.predictors(_stored(manifest))]


def _settings() -> Iterator[tuple[str, Settings]]:
    """The settings, with each in turn another one."""
    for setting in fields(Settings):
        before: Any = getattr(SETTINGS, setting.name)
        if setting.name == "policy" or setting.name in FILES:
            continue
        after: Any = f"{before}-other"
        if choices := CHOICES.get(PREFIX + setting.name.upper()):
            after = next(choice for choice in choices if choice != before)
        elif isinstance(before, bool):
            after = not before
        elif isinstance(before, int | float):
            after = before + 7
        elif isinstance(before, tuple):
            after = (*before, "team")
        yield setting.name, replace(SETTINGS, **{setting.name: after})
    for patience in fields(Policy):
        longer = getattr(SETTINGS.policy, patience.name) + timedelta(seconds=77)
        yield patience.name, replace(SETTINGS, policy=replace(SETTINGS.policy, **{patience.name: longer}))


CHANGED_SETTINGS = dict(_settings())
DIGEST = "sha256:" + "a" * 64
SIGNED = replace(one(1, MODEL, image="registry/server:1", executor=False).model, digest=DIGEST)
ROLLOUTS = {
    "signed": Rollout(SIGNED),
    "bundled": one(1, MODEL, image="registry/server:1", executor=False),
    "executor": one(1, MODEL, image="registry/server:1", executor=True),
    "mlflowserver": one(1, MODEL, "mlflowserver", "registry/mlflowserver:1.18.2", executor=True),
    "a status of before servers were recorded": one(1, MODEL),
}


@pytest.mark.parametrize("served", ROLLOUTS)
@pytest.mark.parametrize("name", CHANGED_SETTINGS)
def test_no_setting_of_the_operator_replaces_pods_of_a_served_model(name: str, served: str) -> None:
    live = _stored(_seldon(SETTINGS).manifest(GUIDE, ROLLOUTS[served]))
    wanted = _seldon(CHANGED_SETTINGS[name]).manifest(GUIDE, ROLLOUTS[served], live)
    assert _pods(wanted) == _pods(live)
    assert _is_applied(live, wanted), "nothing is even applied"


def _variables(manifest: Object) -> Object:
    [predictor] = manifest["spec"]["predictors"]
    [container] = predictor["componentSpecs"][0]["spec"]["containers"]
    return {item["name"]: item["value"] for item in container.get("env", [])}


def test_the_bundled_server_gets_the_digest_and_another_one_replaces_its_pods() -> None:
    live = _stored(_seldon(SETTINGS).manifest(GUIDE, ROLLOUTS["signed"]))
    assert _variables(live) == {"MODEL_DIGEST": DIGEST}
    other = Rollout(replace(SIGNED, digest="sha256:" + "b" * 64))
    wanted = _seldon(SETTINGS).manifest(GUIDE, other, live)
    assert _pods(wanted) != _pods(live)
    assert not _is_applied(live, wanted)
    stripped = copy.deepcopy(live)
    stripped["spec"]["predictors"][0]["componentSpecs"][0]["spec"]["containers"][0].pop("env")
    assert not _is_applied(stripped, _seldon(SETTINGS).manifest(GUIDE, ROLLOUTS["signed"], stripped)), "that is drift"


def test_a_model_of_before_records_were_signed_keeps_its_pods() -> None:
    live = _stored(_seldon(SETTINGS).manifest(GUIDE, ROLLOUTS["bundled"]))
    assert _variables(live) == {}
    assert _is_applied(live, _seldon(SETTINGS).manifest(GUIDE, ROLLOUTS["bundled"], live))


def test_seldons_own_server_gets_no_digest() -> None:
    rollout = Rollout(replace(ROLLOUTS["mlflowserver"].model, digest=DIGEST))
    assert _variables(_seldon(SETTINGS).manifest(GUIDE, rollout)) == {}


def test_a_candidate_keeps_its_pods_too() -> None:
    candidate = one(2, "s3://mlflow/2/model", image="registry/server:2", executor=False).model
    rollout = Rollout(ROLLOUTS["executor"].model, candidate, 10)
    live = _stored(_seldon(SETTINGS).manifest(GUIDE, rollout))
    slower = replace(SETTINGS, policy=replace(SETTINGS.policy, progress_deadline=timedelta(hours=1)))
    assert _pods(_seldon(slower).manifest(GUIDE, replace(rollout, weight=50), live)) == _pods(live)


def test_a_new_model_gets_the_deadline_of_now() -> None:
    live = _stored(_seldon(SETTINGS).manifest(GUIDE, ROLLOUTS["bundled"]))
    slower = replace(SETTINGS, policy=replace(SETTINGS.policy, progress_deadline=timedelta(hours=1)))
    [predictor] = _seldon(slower).manifest(GUIDE, one(2, "s3://mlflow/2/model"), live)["spec"]["predictors"]
    assert predictor["progressDeadlineSeconds"] == 3600


def test_another_operator_that_probes_and_drains_otherwise_keeps_the_pods(tmp_path: Path) -> None:
    template = (REPOSITORY / "templates/manifests/seldondeployment.yaml.j2").read_text()
    (tmp_path / "manifests").mkdir()
    later = template.replace("periodSeconds: 2", "periodSeconds: 4").replace("drain_seconds + 30", "drain_seconds + 40")
    assert later != template
    (tmp_path / "manifests/seldondeployment.yaml.j2").write_text(later)
    for served in ("bundled", "executor"):
        live = _stored(_seldon(SETTINGS).manifest(GUIDE, ROLLOUTS[served]))
        seldon = Seldon(NOBODY, Manifests(tmp_path), SETTINGS, NOBODY)
        assert _pods(seldon.manifest(GUIDE, ROLLOUTS[served], live)) == _pods(live)
        assert _pods(seldon.manifest(GUIDE, replace(ROLLOUTS[served], model=one(2, MODEL + "2").model), live)) != _pods(live)


def test_a_server_is_out_of_its_service_before_it_stops() -> None:
    rollout = Rollout(one(1, MODEL).model, one(2, MODEL + "2").model, 10)
    for predictor in _seldon(SETTINGS).manifest(GUIDE, rollout)["spec"]["predictors"]:
        pod = predictor["componentSpecs"][0]["spec"]
        [container] = pod["containers"]
        probe, waited = container["readinessProbe"], int(container["lifecycle"]["preStop"]["exec"]["command"][1])
        assert probe["periodSeconds"] * probe["failureThreshold"] + 2 <= Environment.drain, "every node has heard of it"
        finishes = 15  # seconds: IDLE and GRACE of wineserver.server
        assert waited + Environment.drain + finishes < pod["terminationGracePeriodSeconds"]


@pytest.mark.parametrize("earlier", earlier_manifests(), ids=str)
def test_an_upgrade_applies_nothing_to_what_an_earlier_release_applied(earlier: Earlier) -> None:
    live = _stored(earlier.manifest)
    wanted = _seldon(EARLIER_SETTINGS).manifest(earlier.pipeline, earlier.rollout, live)
    assert _pods(wanted) == _pods(live)
    assert _is_applied(live, wanted)
    assert wanted["spec"] == earlier.manifest["spec"]


@pytest.mark.parametrize("earlier", earlier_manifests(), ids=str)
def test_the_next_model_is_restricted_beside_one_that_an_earlier_release_applied(earlier: Earlier) -> None:
    rollout = Rollout(earlier.rollout.model, replace(earlier.rollout.model, uri="s3://mlflow/3/model"), 10)
    wanted = _seldon(EARLIER_SETTINGS).manifest(earlier.pipeline, rollout, _stored(earlier.manifest))
    served, candidate = (predictor["componentSpecs"][0]["spec"] for predictor in wanted["spec"]["predictors"])
    assert served == earlier.manifest["spec"]["predictors"][0]["componentSpecs"][0]["spec"]
    assert candidate["automountServiceAccountToken"] is False
    assert candidate["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    [container] = candidate["containers"]
    assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def _tampered(live: Object, change: Callable[[Object], object]) -> Object:
    """What an earlier release applied, and somebody has changed."""
    changed = _stored(live)
    change(changed["spec"]["predictors"][0]["componentSpecs"][0]["spec"])
    return changed


TAMPERED: dict[str, Callable[[Object], object]] = {
    "a privileged pod": lambda pod: pod.update(securityContext={"runAsUser": 0}),
    "a privileged container": lambda pod: pod["containers"][0].update(securityContext={"privileged": True}),
    "a token": lambda pod: pod.update(automountServiceAccountToken=True),
    "a command as a probe": lambda pod: pod["containers"][0].update(startupProbe={"exec": {"command": ["id"]}}),
    "a probe of another host": lambda pod: pod["containers"][0]["livenessProbe"]["httpGet"].update(host="10.0.0.1"),
    "a command at the end": lambda pod: pod["containers"][0].update(lifecycle={"preStop": {"exec": {"command": ["id"]}}}),
    "another port": lambda pod: pod["containers"][0].update(ports=[{"containerPort": 22, "hostPort": 22}]),
    "a container": lambda pod: pod["containers"].append({"name": "more", "image": "more"}),
    "a volume": lambda pod: pod.update(volumes=[{"name": "more", "emptyDir": {}}]),
}


@pytest.mark.parametrize("earlier", earlier_manifests(), ids=str)
@pytest.mark.parametrize("change", TAMPERED)
def test_what_somebody_has_changed_gets_the_pods_of_this_release(earlier: Earlier, change: str) -> None:
    live = _tampered(earlier.manifest, TAMPERED[change])
    seldon = _seldon(EARLIER_SETTINGS)
    fresh, wanted = seldon.manifest(earlier.pipeline, earlier.rollout), seldon.manifest(earlier.pipeline, earlier.rollout, live)
    assert wanted["spec"]["predictors"][0]["componentSpecs"] == fresh["spec"]["predictors"][0]["componentSpecs"]


@pytest.mark.parametrize("change", TAMPERED)
def test_what_somebody_has_changed_of_what_this_release_applied_is_restored(change: str) -> None:
    applied = _seldon(SETTINGS).manifest(GUIDE, ROLLOUTS["bundled"])
    assert _seldon(SETTINGS).manifest(GUIDE, ROLLOUTS["bundled"], _tampered(applied, TAMPERED[change])) == applied


def test_every_field_of_the_spec_is_listed() -> None:
    unlisted = [path for path in FIELDS if not _is_listed(path, (*NEW_MODEL, *REPLACES, AUTOSCALING, *KEEPS))]
    assert unlisted == [], "say in this file, and in docs/serving.md, whether a change of it replaces pods"


def _is_listed(path: str, names: tuple[str, ...]) -> bool:
    def named(name: str) -> bool:
        return path == name or (name.endswith(".") and path.startswith(name))

    kept = any(map(named, KEEPS))
    return any(named(name) and (name in KEEPS or not kept) for name in names)


@pytest.mark.parametrize("path", FIELDS)
def test_a_field_of_the_spec_replaces_pods_only_where_it_is_listed_to(path: str) -> None:
    changed = _pipeline(_changed(path))
    assert changed.spec != GUIDE.spec, "not another value"
    if _is_listed(path, NEW_MODEL):
        assert changed.spec.inputs != GUIDE.spec.inputs
        return
    assert changed.spec.inputs == GUIDE.spec.inputs
    for served in ("bundled", "executor"):
        live = _stored(_seldon(SETTINGS).manifest(GUIDE, ROLLOUTS[served]))
        wanted = _seldon(SETTINGS).manifest(changed, ROLLOUTS[served], live)
        replaced = _pods(wanted) != _pods(live)
        assert replaced == (_is_listed(path, (*REPLACES, AUTOSCALING)))


def test_autoscaling_keeps_pods_whose_cpu_is_named() -> None:
    serving: Object = {"resources": {"requests": {"cpu": "500m"}}}
    before, after = (
        _pipeline({"data": {"url": "http://data/wine.csv"}, "serving": wished})
        for wished in (serving, {**serving, "autoscaling": {"maxReplicas": 3}})
    )
    live = _stored(_seldon(SETTINGS).manifest(before, ROLLOUTS["bundled"]))
    assert _pods(_seldon(SETTINGS).manifest(after, ROLLOUTS["bundled"], live)) == _pods(live)


def test_pods_of_earlier_releases_keep_their_unlimited_memory() -> None:
    live = _stored(_seldon(SETTINGS).manifest(GUIDE, ROLLOUTS["bundled"]))
    part = live["spec"]["predictors"][0]["componentSpecs"][0]
    part["spec"]["containers"][0]["resources"] = {"requests": {}, "limits": {}}
    part["metadata"]["annotations"]["winepipelines.io/template"] = "of-an-earlier-release"
    assert _pods(_seldon(SETTINGS).manifest(GUIDE, ROLLOUTS["bundled"], live)) == _pods(live)


def test_a_command_that_someone_else_put_in_is_not_taken_over() -> None:
    live = _stored(_seldon(SETTINGS).manifest(GUIDE, ROLLOUTS["bundled"]))
    [container] = live["spec"]["predictors"][0]["componentSpecs"][0]["spec"]["containers"]
    ours = container["lifecycle"]
    container["lifecycle"] = {"preStop": {"exec": {"command": ["sh", "-c", "id"]}}}
    wanted = _seldon(SETTINGS).manifest(GUIDE, ROLLOUTS["bundled"], live)
    assert wanted["spec"]["predictors"][0]["componentSpecs"][0]["spec"]["containers"][0]["lifecycle"] == ours
