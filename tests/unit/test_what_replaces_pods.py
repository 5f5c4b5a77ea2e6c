"""Which changes replace the pods of a served model, for every setting of the operator and every field of the spec.

A new field fails here until it is listed. docs/explanation/serving.md ("What replaces pods") has the list for users.
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.backends import seldon_backend
from support.earlier import SETTINGS as EARLIER_SETTINGS
from support.earlier import Earlier, earlier_manifests
from support.rollouts import one

from sandbox.seldon import objects
from winepipelines.api.pipeline import WinePipeline
from winepipelines.api.rollout import Rollout
from winepipelines.api.spec import Spec
from winepipelines.api.status import Status
from winepipelines.api.timeouts import Timeouts
from winepipelines.environment import constraints
from winepipelines.serving.seldon.backend import SeldonBackend
from winepipelines.serving.seldon.rollout import is_applied
from winepipelines.serving.seldon.settings import SeldonSettings
from winepipelines.settings import REPOSITORY, Settings
from wineserver.environment import Environment

Object = dict[str, Any]
SETTINGS = Settings(
    kfp_url="http://kfp", mlflow_url="http://mlflow", s3_endpoint_url="http://minio", server_image="registry/server:1"
)
MODEL = "s3://mlflow/1/model"
FILES = ("templates", "crds")  # files in the operator's image

# A change of these starts a revision. Its model, if it is another one, gets pods of its own. A name that ends in a dot stands for
# all fields below it, except those in KEEPS.
NEW_MODEL = (
    "data.",
    *("training.algorithm", "training.parameters.", "training.search.", "training.testFraction", "training.seed"),
    *("training.experiment", "training.registeredModel", "serving.runtime"),
)
# These change protocol or resources of the same model's server, which replaces its pods.
REPLACES = ("serving.protocol", "serving.resources.requests", "serving.resources.limits")
# An autoscaler needs a CPU request: setting or removing `autoscaling` replaces pods where spec.serving.resources names no CPU.
AUTOSCALING = "serving.autoscaling."
KEEPS = (
    "data.checkSchedule",
    "data.credentialsOverHTTP",  # without a credentialsSecret; with one, a revision begins
    *("training.schedule", "training.timeZone", "training.timeout", "training.attempts", "training.pods"),
    *("training.resources.requests", "training.resources.limits", "gate[].", "serving.replicas", "serving.canary."),
    *("serving.backend", "serving.migrationGrace"),  # a move makes pods of its own; those of the earlier deployment stay
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
    """List the fields without subfields by path, such as data.url or gate[].metric."""
    inside = schema.get("items", {}) if schema.get("type") == "array" else schema
    if "properties" not in inside:
        yield path, schema
        return
    path += "[]" if inside is not schema else ""
    for name, field in inside["properties"].items():
        yield from _leaves(field, f"{path}.{name}" if path else name)


FIELDS = dict(_leaves(_schema()))


def _other(path: str, schema: Object) -> Any:
    """Return a value that differs from the field's default."""
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
    """Return the spec with one field changed."""
    spec: Any = {"data": {"url": "http://data/wine.csv"}}
    parent, names = spec, path.split(".")
    for number, step in enumerate(names):
        name = step.removesuffix("[]")
        value = _other(path, FIELDS[path]) if number == len(names) - 1 else {}
        if step.endswith("[]"):
            parent[name] = [{"metric": "r2"} | value]
            parent = parent[name][0]
        else:
            parent = parent.setdefault(name, value) if number < len(names) - 1 else parent.update({name: value})
    if path.startswith(AUTOSCALING):
        spec["serving"]["autoscaling"].setdefault("maxReplicas", 5)
    if path == "training.algorithm":
        spec["training"]["parameters"] = {}
    changed: Object = spec
    return changed


def _pipeline(spec: Object) -> WinePipeline:
    return WinePipeline("admin", "mlflow", "0123456789ab", 1, "1", Spec.model_validate(spec), Status())


GUIDE = _pipeline({"data": {"url": "http://data/wine.csv"}})


def _stored(manifest: Object) -> Object:
    """Return a manifest as the API server stores it, with defaults and fields of others."""
    live = copy.deepcopy(manifest)
    live["metadata"] |= {"uid": "1", "generation": 1, "resourceVersion": "7"}
    for predictor in live["spec"]["predictors"]:
        predictor["graph"] |= {"type": "MODEL", "children": []}
    return live


def _pods(manifest: Object) -> list[Object]:
    """Return the pod templates that Seldon creates, one for each predictor."""
    return [predictor.deployment["spec"]["template"] for predictor in objects.predictors(_stored(manifest))]


def _settings() -> Iterator[tuple[str, SeldonBackend]]:
    """Build one backend for each setting, with another value of it."""
    own = SeldonSettings()
    for name, field in (Settings.model_fields | SeldonSettings.model_fields).items():
        before: Any = getattr(own if name in SeldonSettings.model_fields else SETTINGS, name)
        if name == "timeouts" or name in FILES:
            continue
        after: Any = f"{before}-other"
        if choices := constraints(field).get("enum"):
            after = next(choice for choice in choices if choice != before)
        elif isinstance(before, bool):
            after = not before
        elif isinstance(before, int | float):
            after = before + 7
        elif isinstance(before, tuple):
            after = (*before, "team")
        yield name, seldon_backend(SETTINGS, **{name: after})
    for name in Timeouts.model_fields:
        longer = getattr(SETTINGS.timeouts, name) + timedelta(seconds=77)
        yield name, seldon_backend(SETTINGS, timeouts=SETTINGS.timeouts.model_copy(update={name: longer}))


CHANGED_SETTINGS = dict(_settings())
DIGEST = "sha256:" + "a" * 64
SIGNED = one(1, MODEL, image="registry/server:1", executor=False).model.with_(digest=DIGEST)
ROLLOUTS = {
    "signed": Rollout(1, SIGNED),
    "bundled": one(1, MODEL, image="registry/server:1", executor=False),
    "executor": one(1, MODEL, image="registry/server:1", executor=True),
    "mlflowserver": one(1, MODEL, "mlflowserver", "registry/mlflowserver:1.18.2", executor=True),
    "no recorded server": one(1, MODEL),
}


@pytest.mark.parametrize("served", ROLLOUTS)
@pytest.mark.parametrize("name", CHANGED_SETTINGS)
def test_setting_of_the_operator_does_not_replace_pods(name: str, served: str) -> None:
    live = _stored(seldon_backend(SETTINGS).manifest(GUIDE, ROLLOUTS[served]))
    desired = CHANGED_SETTINGS[name].manifest(GUIDE, ROLLOUTS[served], live)
    assert _pods(desired) == _pods(live)
    assert is_applied(live, desired), "the deployment must count as applied"


def _variables(manifest: Object) -> Object:
    [predictor] = manifest["spec"]["predictors"]
    [container] = predictor["componentSpecs"][0]["spec"]["containers"]
    return {item["name"]: item["value"] for item in container.get("env", [])}


def test_bundled_server_gets_the_digest_and_another_digest_replaces_its_pods() -> None:
    live = _stored(seldon_backend(SETTINGS).manifest(GUIDE, ROLLOUTS["signed"]))
    assert _variables(live) == {"MODEL_DIGEST": DIGEST}
    other = Rollout(1, SIGNED.with_(digest="sha256:" + "b" * 64))
    desired = seldon_backend(SETTINGS).manifest(GUIDE, other, live)
    assert _pods(desired) != _pods(live)
    assert not is_applied(live, desired)
    stripped = copy.deepcopy(live)
    stripped["spec"]["predictors"][0]["componentSpecs"][0]["spec"]["containers"][0].pop("env")
    assert not is_applied(stripped, seldon_backend(SETTINGS).manifest(GUIDE, ROLLOUTS["signed"], stripped)), (
        "a removed digest is drift"
    )


def test_model_without_digest_keeps_its_pods() -> None:
    live = _stored(seldon_backend(SETTINGS).manifest(GUIDE, ROLLOUTS["bundled"]))
    assert _variables(live) == {}
    assert is_applied(live, seldon_backend(SETTINGS).manifest(GUIDE, ROLLOUTS["bundled"], live))


def test_seldons_mlflow_server_gets_no_digest() -> None:
    rollout = Rollout(1, ROLLOUTS["mlflowserver"].model.with_(digest=DIGEST))
    assert _variables(seldon_backend(SETTINGS).manifest(GUIDE, rollout)) == {}


def test_candidate_keeps_its_pods_when_weight_and_deadline_change() -> None:
    candidate = one(2, "s3://mlflow/2/model", image="registry/server:2", executor=False).model
    rollout = Rollout(1, ROLLOUTS["executor"].model, candidate, 10)
    live = _stored(seldon_backend(SETTINGS).manifest(GUIDE, rollout))
    slower = SETTINGS.with_(timeouts=SETTINGS.timeouts.model_copy(update={"progress_deadline": timedelta(hours=1)}))
    assert _pods(seldon_backend(slower).manifest(GUIDE, replace(rollout, weight=50), live)) == _pods(live)


def test_new_model_gets_the_present_progress_deadline() -> None:
    live = _stored(seldon_backend(SETTINGS).manifest(GUIDE, ROLLOUTS["bundled"]))
    slower = SETTINGS.with_(timeouts=SETTINGS.timeouts.model_copy(update={"progress_deadline": timedelta(hours=1)}))
    [predictor] = seldon_backend(slower).manifest(GUIDE, one(2, "s3://mlflow/2/model"), live)["spec"]["predictors"]
    assert predictor["progressDeadlineSeconds"] == 3600


def test_pods_are_kept_when_a_later_release_changes_probes_and_drain_time(tmp_path: Path) -> None:
    template = (REPOSITORY / "templates/manifests/seldondeployment.yaml.j2").read_text()
    (tmp_path / "manifests").mkdir()
    later = template.replace("periodSeconds: 2", "periodSeconds: 4").replace("drain_seconds + 30", "drain_seconds + 40")
    assert later != template
    (tmp_path / "manifests/seldondeployment.yaml.j2").write_text(later)
    for served in ("bundled", "executor"):
        live = _stored(seldon_backend(SETTINGS).manifest(GUIDE, ROLLOUTS[served]))
        seldon = seldon_backend(SETTINGS, templates=str(tmp_path))
        assert _pods(seldon.manifest(GUIDE, ROLLOUTS[served], live)) == _pods(live)
        assert _pods(seldon.manifest(GUIDE, replace(ROLLOUTS[served], model=one(2, MODEL + "2").model), live)) != _pods(live)


def test_server_leaves_its_service_before_it_stops() -> None:
    rollout = Rollout(1, one(1, MODEL).model, one(2, MODEL + "2").model, 10)
    for predictor in seldon_backend(SETTINGS).manifest(GUIDE, rollout)["spec"]["predictors"]:
        pod = predictor["componentSpecs"][0]["spec"]
        [container] = pod["containers"]
        probe, pre_stop = container["readinessProbe"], int(container["lifecycle"]["preStop"]["exec"]["command"][1])
        assert probe["periodSeconds"] * probe["failureThreshold"] + 2 <= Environment.drain, (
            "endpoints must be removed on every node before the server stops"
        )
        finish_seconds = 15  # seconds: IDLE and GRACE of wineserver.server
        assert pre_stop + Environment.drain + finish_seconds < pod["terminationGracePeriodSeconds"]


@pytest.mark.parametrize("earlier", earlier_manifests(), ids=str)
def test_upgrade_does_not_change_a_deployment_of_an_earlier_release(earlier: Earlier) -> None:
    live = _stored(earlier.manifest)
    desired = seldon_backend(EARLIER_SETTINGS).manifest(earlier.pipeline, earlier.rollout, live)
    assert _pods(desired) == _pods(live)
    assert is_applied(live, desired)
    assert desired["spec"] == earlier.manifest["spec"]


@pytest.mark.parametrize("earlier", earlier_manifests(), ids=str)
def test_next_model_is_restricted_beside_a_deployment_of_an_earlier_release(earlier: Earlier) -> None:
    rollout = Rollout(1, earlier.rollout.model, earlier.rollout.model.with_(uri="s3://mlflow/3/model"), 10)
    desired = seldon_backend(EARLIER_SETTINGS).manifest(earlier.pipeline, rollout, _stored(earlier.manifest))
    served, candidate = (predictor["componentSpecs"][0]["spec"] for predictor in desired["spec"]["predictors"])
    assert served == earlier.manifest["spec"]["predictors"][0]["componentSpecs"][0]["spec"]
    assert candidate["automountServiceAccountToken"] is False
    assert candidate["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    [container] = candidate["containers"]
    assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def _tampered(live: Object, change: Callable[[Object], object]) -> Object:
    """Return a stored manifest whose pod someone has changed."""
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
def test_tampered_deployment_of_an_earlier_release_gets_the_pods_of_this_release(earlier: Earlier, change: str) -> None:
    live = _tampered(earlier.manifest, TAMPERED[change])
    seldon = seldon_backend(EARLIER_SETTINGS)
    fresh, desired = seldon.manifest(earlier.pipeline, earlier.rollout), seldon.manifest(earlier.pipeline, earlier.rollout, live)
    assert desired["spec"]["predictors"][0]["componentSpecs"] == fresh["spec"]["predictors"][0]["componentSpecs"]


@pytest.mark.parametrize("change", TAMPERED)
def test_tampered_deployment_of_this_release_is_restored(change: str) -> None:
    applied = seldon_backend(SETTINGS).manifest(GUIDE, ROLLOUTS["bundled"])
    assert seldon_backend(SETTINGS).manifest(GUIDE, ROLLOUTS["bundled"], _tampered(applied, TAMPERED[change])) == applied


def test_fields_of_the_spec_are_all_listed() -> None:
    unlisted = [path for path in FIELDS if not _is_listed(path, (*NEW_MODEL, *REPLACES, AUTOSCALING, *KEEPS))]
    assert unlisted == [], "list the fields in this file and in docs/explanation/serving.md: does a change replace pods?"


def _is_listed(path: str, names: tuple[str, ...]) -> bool:
    def covers(name: str) -> bool:
        return path == name or (name.endswith(".") and path.startswith(name))

    kept = any(map(covers, KEEPS))
    return any(covers(name) and (name in KEEPS or not kept) for name in names)


@pytest.mark.parametrize("path", FIELDS)
def test_field_of_the_spec_replaces_pods_only_when_it_is_listed(path: str) -> None:
    changed = _pipeline(_changed(path))
    assert changed.spec != GUIDE.spec, "the field must get another value"
    if _is_listed(path, NEW_MODEL):
        assert changed.spec.inputs != GUIDE.spec.inputs
        return
    assert changed.spec.inputs == GUIDE.spec.inputs
    for served in ("bundled", "executor"):
        live = _stored(seldon_backend(SETTINGS).manifest(GUIDE, ROLLOUTS[served]))
        desired = seldon_backend(SETTINGS).manifest(changed, ROLLOUTS[served], live)
        replaced = _pods(desired) != _pods(live)
        assert replaced == (_is_listed(path, (*REPLACES, AUTOSCALING)))


def test_autoscaling_keeps_pods_when_a_cpu_request_is_set() -> None:
    serving: Object = {"resources": {"requests": {"cpu": "500m"}}}
    before, after = (
        _pipeline({"data": {"url": "http://data/wine.csv"}, "serving": spec})
        for spec in (serving, {**serving, "autoscaling": {"maxReplicas": 3}})
    )
    live = _stored(seldon_backend(SETTINGS).manifest(before, ROLLOUTS["bundled"]))
    assert _pods(seldon_backend(SETTINGS).manifest(after, ROLLOUTS["bundled"], live)) == _pods(live)


def test_pods_of_an_earlier_release_keep_their_unlimited_memory() -> None:
    live = _stored(seldon_backend(SETTINGS).manifest(GUIDE, ROLLOUTS["bundled"]))
    part = live["spec"]["predictors"][0]["componentSpecs"][0]
    part["spec"]["containers"][0]["resources"] = {"requests": {}, "limits": {}}
    part["metadata"]["annotations"]["winepipelines.io/template"] = "of-an-earlier-release"
    assert _pods(seldon_backend(SETTINGS).manifest(GUIDE, ROLLOUTS["bundled"], live)) == _pods(live)


def test_command_that_someone_else_added_is_replaced() -> None:
    live = _stored(seldon_backend(SETTINGS).manifest(GUIDE, ROLLOUTS["bundled"]))
    [container] = live["spec"]["predictors"][0]["componentSpecs"][0]["spec"]["containers"]
    ours = container["lifecycle"]
    container["lifecycle"] = {"preStop": {"exec": {"command": ["sh", "-c", "id"]}}}
    desired = seldon_backend(SETTINGS).manifest(GUIDE, ROLLOUTS["bundled"], live)
    assert desired["spec"]["predictors"][0]["componentSpecs"][0]["spec"]["containers"][0]["lifecycle"] == ours
