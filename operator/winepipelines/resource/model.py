"""The base of every typed model: camelCase outside, snake_case inside, frozen.

Called by `resource.spec` and `resource.status`.
"""

from datetime import UTC, datetime
from typing import Annotated, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer
from pydantic.alias_generators import to_camel


def to_rfc3339(moment: datetime) -> str:
    """Write a moment as Kubernetes does: UTC, whole seconds, `Z`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def whole_second(moment: object) -> object:
    """Cut what `to_rfc3339` does not write, so that a model equals itself after a round trip through the API."""
    return moment.replace(microsecond=0) if isinstance(moment, datetime) else moment


Time = Annotated[datetime, BeforeValidator(whole_second), PlainSerializer(to_rfc3339)]


class Model(BaseModel):
    """A part of the resource. Unknown fields are ignored: a newer CRD must not stop an older operator."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore")

    def with_(self, **changes: object) -> Self:
        """Copy it with some fields changed, and checked."""
        return self.model_validate({**dict(self), **changes})
