"""Which PodDefaults cannot act on one pod together: the rules of Kubeflow's webhook. Pure.

The webhook merges all PodDefaults whose selectors match a pod into it. It refuses the pod if two of them, or one and the pod
itself, have different content under one name: components/poddefaults-webhooks/main.go in https://github.com/kubeflow/dashboard
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from winepipelines.api.naming import ARTIFACT_SECRET, MLFLOW_SECRET
from winepipelines.api.observed import Rival

Object = Mapping[str, Any]
MERGED = (
    ("env", "name"),
    ("volumes", "name"),
    ("volumeMounts", "name"),
    ("volumeMounts", "mountPath"),
    ("tolerations", "key"),
    ("initContainers", "name"),
    ("sidecars", "name"),
)
"""Fields of a PodDefault that are lists, with the key by which the webhook compares their items."""
MAPS = ("annotations", "labels")
STEP_LABELS = {
    "pipelines.kubeflow.org/v2_component": "true",
    "pipeline/runid": "",
    "workflows.argoproj.io/completed": "false",
    "workflows.argoproj.io/workflow": "",
}
"""The labels of the pods of steps. Kubeflow Pipelines and Argo set them; those of one run alone have no value here."""


def _from_secret(name: str, variable: str, key: str, *, optional: bool) -> dict[str, Any]:
    return {"name": variable, "valueFrom": {"secretKeyRef": {"name": name, "key": key, "optional": optional}}}


STEP_VARIABLES = (
    _from_secret(ARTIFACT_SECRET, "AWS_ACCESS_KEY_ID", "accesskey", optional=False),
    _from_secret(ARTIFACT_SECRET, "AWS_SECRET_ACCESS_KEY", "secretkey", optional=False),
    *(
        _from_secret(MLFLOW_SECRET, variable, variable, optional=True)
        for variable in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
    ),
)
"""The variables of steps that others may set, too: those of the object store and MLflow. The compiled pipelines have them."""


def find_rival(ours: Object, foreign: Sequence[Object]) -> Rival | None:
    """Return the PodDefault beside which one of ours cannot exist, if there is one; one that gives all of its variables first.

    It selects the pods that ours selects, and has its name or sets one of its names to something else.
    """
    spec, name = _mapping(ours.get("spec")), _name(ours)
    labels = _mapping(_mapping(spec.get("selector")).get("matchLabels"))
    wanted = [variable for variable, _ in _items(spec, "env", "name")]
    rivals = []
    for other in foreign:
        others = _mapping(other.get("spec"))
        if not selects(others, labels):
            continue
        conflicts, given = conflicts_of(spec, others), {variable for variable, _ in _items(others, "env", "name")}
        lacks = tuple(variable for variable in wanted if variable not in given)
        if conflicts or (_name(other) == name and not lacks):
            rivals.append(Rival(_name(other), conflicts, lacks))
    return min(rivals, key=lambda rival: (bool(rival.lacks), rival.name), default=None)


def find_refusal(foreign: Sequence[Object]) -> Rival | None:
    """Return the PodDefault for which the webhook refuses the pods of steps, if there is one."""
    for other in sorted(foreign, key=_name):
        spec = _mapping(other.get("spec"))
        if selects(spec, STEP_LABELS) and (conflicts := conflicts_of({"env": STEP_VARIABLES}, spec)):
            return Rival(_name(other), conflicts)
    return None


def conflicts_of(one: Object, other: Object) -> tuple[str, ...]:
    """List the names to which two specs of PodDefaults give different content."""
    found: dict[str, None] = {}
    for field, key in MERGED:
        known = dict(_items(one, field, key))
        found.update((name, None) for name, item in _items(other, field, key) if name in known and known[name] != item)
    for field in MAPS:
        mine, theirs = _mapping(one.get(field)), _mapping(other.get(field))
        found.update((name, None) for name in theirs if name in mine and mine[name] != theirs[name])
    return tuple(found)


def selects(spec: Object, labels: Mapping[str, Any]) -> bool:
    """Whether a PodDefault's selector matches a pod with these labels. An empty selector matches every pod."""
    selector = _mapping(spec.get("selector"))
    wanted = _mapping(selector.get("matchLabels"))
    expressions = selector.get("matchExpressions")
    return all(labels.get(name) == value for name, value in wanted.items()) and all(
        _holds(_mapping(expression), labels) for expression in (expressions if isinstance(expressions, list) else ())
    )


def _holds(expression: Object, labels: Mapping[str, Any]) -> bool:
    value, values = labels.get(str(expression.get("key"))), expression.get("values") or ()
    match expression.get("operator"):
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
    return False


def _items(spec: Object, field: str, key: str) -> Iterator[tuple[str, Object]]:
    """Yield the items of a list with their names. An empty value is the same as none."""
    found = spec.get(field)
    for item in found if isinstance(found, (list, tuple)) else ():
        if isinstance(item, Mapping) and isinstance(name := item.get(key), str):
            yield name, {part: value for part, value in item.items() if value not in ("", None)}


def _mapping(value: object) -> Object:
    return value if isinstance(value, Mapping) else {}


def _name(body: Object) -> str:
    return str(_mapping(body.get("metadata")).get("name", ""))
