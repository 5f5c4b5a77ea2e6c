"""The parts that every kind of this operator has, as the API server holds them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Generic, Self, TypeVar

from winepipelines.api.model import Model

SpecT = TypeVar("SpecT", bound=Model)
StatusT = TypeVar("StatusT", bound=Model)


@dataclass(frozen=True)
class Resource(Generic[SpecT, StatusT]):
    """A resource: identity, spec and status."""

    namespace: str
    name: str
    uid: str
    generation: int
    resource_version: str
    spec: SpecT
    status: StatusT
    finalizers: tuple[str, ...] = ()
    deleted_at: datetime | None = None

    @classmethod
    def read(cls, body: Mapping[str, Any], spec: type[SpecT], status: type[StatusT], **more: Any) -> Self:
        """Read an API body; `more` has the fields that only one kind has.

        Raises pydantic.ValidationError if the spec does not fit the schema, for example if it was stored under an older one.
        The spec of a resource that is being deleted is read leniently, so that cleanup is possible.
        """
        metadata = body["metadata"]
        deleted = metadata.get("deletionTimestamp")
        return cls(
            namespace=metadata["namespace"],
            name=metadata["name"],
            uid=metadata["uid"],
            generation=metadata.get("generation", 1),
            resource_version=metadata["resourceVersion"],
            spec=spec.read_leniently(body["spec"]) if deleted else spec.model_validate(body["spec"]),
            status=status.read_leniently(body.get("status") or {}),
            finalizers=tuple(metadata.get("finalizers") or ()),
            deleted_at=datetime.fromisoformat(deleted) if deleted else None,
            **more,
        )

    def with_status(self, status: StatusT) -> Self:
        """Return a copy with another status."""
        return replace(self, status=status)
