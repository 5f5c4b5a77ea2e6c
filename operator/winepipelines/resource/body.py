"""What every kind of the operator's has, as the API server holds it. Called by `resource.pipeline` and `resource.prediction`."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Generic, Self, TypeVar

from winepipelines.resource.model import Model

SpecT = TypeVar("SpecT", bound=Model)
StatusT = TypeVar("StatusT", bound=Model)


@dataclass(frozen=True)
class Resource(Generic[SpecT, StatusT]):
    """A resource: its identity, what is asked, what is."""

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
        """Read a body of the API, and what `more` a kind has.

        Raises pydantic.ValidationError where the spec does not fit the schema, as one stored under an older schema may not.
        The spec of a resource that is being deleted is read as far as it can be: there is something to clean up.
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
        """Copy it with another status."""
        return replace(self, status=status)
