"""Record which fields of a spec and a status a check reads, without the check's help.

`Reads.watch` copies a model into subclasses of its types that note every access to a field. They compare and behave like the
originals. `unwatched` turns what a check has made of them back.
"""

from contextvars import ContextVar
from functools import cache, cached_property
from typing import Any, TypeVar

from winepipelines.api.model import Model

M = TypeVar("M", bound=Model)
KEYS = ("type", "revision")  # that name an item of a list: reading them to find an item is not noted


class Reads:
    """The fields that were read: path, such as `status.run.state`, and value."""

    def __init__(self) -> None:
        """Start with none."""
        self.values: dict[str, object] = {}
        self._paths: dict[int, str] = {}
        self._kept: list[Model] = []  # so that no id is used twice

    def watch(self, model: M, path: str) -> M:
        """Copy a model so that reads of its fields are noted while `reading` is set to this object."""
        parts = {}
        for name, field in type(model).model_fields.items():
            value, place = getattr(model, name), f"{path}.{field.alias or name}"
            if isinstance(value, Model):
                value = self.watch(value, place)
            elif isinstance(value, tuple):
                value = tuple(
                    self.watch(item, f"{place}[{_key(item, number)}]") if isinstance(item, Model) else item
                    for number, item in enumerate(value)
                )
            parts[name] = value
        watched: M = _watched(type(model)).model_construct(model.model_fields_set, **parts)
        self._paths[id(watched)] = path
        self._kept.append(watched)
        return watched

    def note(self, model: Model, name: str, value: object) -> None:
        """Note a read, unless it only leads to a deeper field or finds an item of a list."""
        path = self._paths.get(id(model))
        if path is None or isinstance(value, Model) or (path.endswith("]") and name in KEYS):
            return
        if isinstance(value, tuple) and any(isinstance(item, Model) for item in value):
            return
        field = type(model).model_fields.get(name)
        self.values[f"{path}.{field.alias or name}" if field is not None else f"{path}.{name} (computed)"] = value


reading: ContextVar[Reads | None] = ContextVar("reading", default=None)


def unwatched(value: Any) -> Any:
    """Copy a model, or what a tuple has of them, into the original types."""
    if isinstance(value, tuple):
        return tuple(unwatched(item) for item in value)
    if not isinstance(value, Model):
        return value
    original = _original(type(value))
    parts = {name: unwatched(value.__dict__[name]) for name in original.model_fields}
    return original.model_construct(value.model_fields_set, **parts)


def _key(item: Model, number: int) -> object:
    return next((getattr(item, name) for name in KEYS if name in type(item).model_fields), number)


def _original(kind: type[Model]) -> type[Model]:
    return kind.__mro__[1] if kind.__dict__.get("IS_WATCHED") else kind


@cache
def _watched(kind: type[M]) -> type[M]:
    """Make the subclass of a type that notes reads."""
    computed = {
        name for cls in kind.__mro__ for name, member in vars(cls).items() if isinstance(member, property | cached_property)
    }

    def get(self: Model, name: str) -> Any:
        reads = reading.get()
        if reads is None or name not in kind.model_fields.keys() | computed:
            return super(kind, self).__getattribute__(name)
        token = reading.set(None)  # what a property reads itself is not noted
        try:
            value = super(kind, self).__getattribute__(name)
        finally:
            reading.reset(token)
        reads.note(self, name, value)
        return value

    def equal(self: Model, other: object) -> bool:
        if not isinstance(other, Model) or _original(type(other)) is not kind:
            return False
        return all(self.__dict__[name] == other.__dict__[name] for name in kind.model_fields)

    members = {
        "__getattribute__": get,
        "__eq__": equal,
        "__hash__": kind.__hash__,
        "__module__": kind.__module__,
        "__qualname__": kind.__qualname__,
        "__annotations__": {},
    }
    made: type[M] = type(kind.__name__, (kind,), members)
    type.__setattr__(made, "IS_WATCHED", True)
    return made
