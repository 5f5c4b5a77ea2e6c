"""The base of every typed model: camelCase in the API, snake_case in code, frozen."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, PlainSerializer, ValidationError, field_validator
from pydantic.alias_generators import to_camel

from winecontract.text import cleaned


def to_rfc3339(moment: datetime) -> str:
    """Write a moment as Kubernetes does: UTC, whole seconds, `Z`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def whole_second(moment: object) -> object:
    """Cut what `to_rfc3339` does not write, so that a model equals itself after a round trip through the API."""
    return moment.replace(microsecond=0) if isinstance(moment, datetime) else moment


MOST_FAULTS = 8  # rounds: what is left out may show other faults


def _place(location: tuple[int | str, ...]) -> tuple[str, int]:
    """Name the field that a fault is in, and its position where that is a list."""
    position = location[1] if len(location) > 1 else -1
    return str(location[0]) if location else "", position if isinstance(position, int) else -1


Sha256 = Annotated[str, AfterValidator(str.lower)]  # programs print it in either case

Time = Annotated[datetime, BeforeValidator(whole_second), PlainSerializer(to_rfc3339)]


class Model(BaseModel):
    """A part of the resource. Unknown fields are ignored: a newer CRD must not stop an older operator."""

    LEAST: ClassVar[Mapping[str, Any]] = {}  # what cannot be left out, in its emptiest form

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore")

    @classmethod
    def read_leniently(cls, data: Mapping[str, Any]) -> Self:
        """Read what can be read: a field that cannot counts as left out, or as `LEAST` has it; in a list, the item does."""
        known = {**cls.LEAST, **data}
        for _ in range(MOST_FAULTS):
            try:
                return cls.model_validate(known)
            except ValidationError as error:
                for name, position in sorted({_place(item["loc"]) for item in error.errors()}, reverse=True):
                    if isinstance(items := known.get(name), list | tuple) and position >= 0:
                        known[name] = [*items[:position], *items[position + 1 :]]
                    elif name in cls.LEAST:
                        known[name] = cls.LEAST[name]
                    else:
                        known.pop(name, None)
        return cls.model_validate(dict(cls.LEAST))

    def with_(self, **changes: object) -> Self:
        """Copy it with some fields changed, and checked. Raises TypeError for a field that it does not have."""
        if unknown := changes.keys() - type(self).model_fields.keys():
            raise TypeError(f"{type(self).__name__} has no field {', '.join(sorted(unknown))}")
        return self.model_validate({**dict(self), **changes})


class StatusModel(Model):
    """A part of a status. Its texts are cleaned: most of them quote other systems, or what a person wrote."""

    @field_validator("*", mode="after")
    @classmethod
    def _clean(cls, value: Any) -> Any:
        return cleaned(value)


def compact(part: Model) -> dict[str, Any]:
    """Write a part of a status as the API has it: camelCase, without unset and empty fields."""
    return _compacted(part, part.model_dump(by_alias=True, mode="json", exclude_none=True))


def _compacted(part: Model, body: dict[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for name, field in type(part).model_fields.items():
        alias = field.alias or name
        if alias not in body:
            continue
        value, dumped = getattr(part, name), body[alias]
        if isinstance(value, Model):
            dumped = _compacted(value, dumped)
        elif isinstance(value, tuple):
            dumped = [_compacted(*item) if isinstance(item[0], Model) else item[1] for item in zip(value, dumped, strict=True)]
        if dumped not in ("", [], {}) or field.is_required() or (isinstance(value, Model) and field.default is None):
            kept[alias] = dumped
    return kept
