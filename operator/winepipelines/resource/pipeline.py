"""A `WinePipeline` as the API server holds it.

Called by `reconciler`, which reads bodies, and by everything that decides on or acts for a resource.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from winecontract.text import clean
from winepipelines.resource.body import Resource
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
        return cls(**{name: clean(annotations.get(f"{GROUP}/{name}", ""))[:VALUE_LIMIT] for name in names})


@dataclass(frozen=True)
class WinePipeline(Resource[Spec, Status]):
    """The resource: its identity, what is asked, what is."""

    asks: Asks = Asks()

    @property
    def registered_model(self) -> str:
        """Name in MLflow's registry: its own, unless the spec names one. A namespace has no dot, so no two are the same."""
        return self.spec.training.registered_model or f"{self.namespace}.{self.name}"

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> Self:
        """Read a body of the API, see `Resource.read`."""
        return cls.read(body, Spec, Status, asks=Asks.from_annotations(body["metadata"].get("annotations") or {}))
