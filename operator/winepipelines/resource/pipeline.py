"""A `WinePipeline` as the API server holds it.

Called by `reconciler`, which reads bodies, and by everything that decides on or acts for a resource.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Self

from winepipelines.resource.spec import Spec
from winepipelines.resource.status import Status

GROUP = "winepipelines.io"
VERSION = "v1alpha1"
PLURAL = "winepipelines"
KIND = "WinePipeline"
API_VERSION = f"{GROUP}/{VERSION}"
FINALIZER = f"{GROUP}/cleanup"
VALUE_LIMIT = 128  # characters


@dataclass(frozen=True)
class Asks:
    """What a person asks for by annotation. Each is done once for each new value."""

    retrain: str = ""  # anything
    rollback: str = ""  # a revision
    cancel: str = ""  # the revision whose run shall end

    @classmethod
    def from_annotations(cls, annotations: Mapping[str, str]) -> Self:
        """Read annotations; of a long value the beginning counts."""
        names = ("retrain", "rollback", "cancel")
        return cls(**{name: str(annotations.get(f"{GROUP}/{name}", ""))[:VALUE_LIMIT] for name in names})


@dataclass(frozen=True)
class WinePipeline:
    """The resource: its identity, what is asked, what is."""

    namespace: str
    name: str
    uid: str
    generation: int
    resource_version: str
    spec: Spec
    status: Status
    finalizers: tuple[str, ...] = ()
    deleted_at: datetime | None = None
    asks: Asks = Asks()

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> Self:
        """Read a body of the API.

        Raises pydantic.ValidationError where it does not fit the schema, as one stored under an older schema may not.
        """
        metadata = body["metadata"]
        deleted = metadata.get("deletionTimestamp")
        return cls(
            namespace=metadata["namespace"],
            name=metadata["name"],
            uid=metadata["uid"],
            generation=metadata.get("generation", 1),
            resource_version=metadata["resourceVersion"],
            spec=Spec.model_validate(body["spec"]),
            status=Status.model_validate(body.get("status") or {}),
            finalizers=tuple(metadata.get("finalizers") or ()),
            deleted_at=datetime.fromisoformat(deleted) if deleted else None,
            asks=Asks.from_annotations(metadata.get("annotations") or {}),
        )

    def with_status(self, status: Status) -> Self:
        """Copy it with another status."""
        return replace(self, status=status)
