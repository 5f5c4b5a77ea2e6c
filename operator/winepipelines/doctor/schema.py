"""Compare the installed CRDs with the fields that this operator knows. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any, get_args

from winepipelines.api.model import Model
from winepipelines.api.pipeline import KIND
from winepipelines.api.prediction import PREDICTION_KIND, PredictionSpec, PredictionStatus
from winepipelines.api.spec import Spec
from winepipelines.api.status import Status

KINDS: dict[str, dict[str, type[Model]]] = {
    KIND: {"spec": Spec, "status": Status},
    PREDICTION_KIND: {"spec": PredictionSpec, "status": PredictionStatus},
}


def missing_fields(schemas: Mapping[str, Any]) -> tuple[str, ...]:
    """List the fields of spec and status that the API server's schemas lack: it drops such fields silently."""
    found = {kind["kind"]: schema for schema in schemas.values() for kind in schema.get("x-kubernetes-group-version-kind", [])}
    return tuple(field for kind, models in KINDS.items() for field in _missing_of(kind, found.get(kind), models))


def _missing_of(kind: str, schema: Mapping[str, Any] | None, models: Mapping[str, type[Model]]) -> Iterator[str]:
    if schema is None:
        yield kind
        return
    prefix = "" if kind == KIND else f"{kind}."
    yield from (f"{prefix}{field}" for name, model in models.items() for field in _missing(schema, name, model))


def _missing(schema: Mapping[str, Any], path: str, model: type[Model]) -> Iterator[str]:
    properties = _structure(schema).get(path.rsplit(".", 1)[-1])
    if properties is None:
        yield path
        return
    for name, field in model.model_fields.items():
        inner = next(_models(field.annotation), None)
        below = f"{path}.{field.alias or name}"
        if inner is not None:
            yield from _missing(properties, below, inner)
        elif (field.alias or name) not in _structure(properties):
            yield below


def _structure(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return an object's properties, or those of a list's items."""
    return schema.get("properties") or schema.get("items", {}).get("properties") or {}


def _models(annotation: object) -> Iterator[type[Model]]:
    if isinstance(annotation, type) and issubclass(annotation, Model):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)
