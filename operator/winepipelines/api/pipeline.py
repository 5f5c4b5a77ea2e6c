"""A `WinePipeline` as the API server holds it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from winecontract.text import clean
from winepipelines.api.body import Resource
from winepipelines.api.spec import Spec
from winepipelines.api.status import Status

GROUP = "winepipelines.io"
VERSION = "v1alpha1"
PLURAL = "winepipelines"
KIND = "WinePipeline"
API_VERSION = f"{GROUP}/{VERSION}"
FINALIZER = f"{GROUP}/cleanup"
RETRAIN = f"{GROUP}/retrain=<new value>"  # the annotation, for messages
VALUE_LIMIT = 128  # characters


@dataclass(frozen=True)
class AnnotationRequests:
    """Requests by annotation. Each is handled once for each new value."""

    retrain: str = ""  # any value
    rollback: str = ""  # a revision
    cancel: str = ""  # the revision whose run to terminate

    @classmethod
    def from_annotations(cls, annotations: Mapping[str, str]) -> Self:
        """Read annotations. Long values are cut."""
        names = ("retrain", "rollback", "cancel")
        return cls(**{name: clean(annotations.get(f"{GROUP}/{name}", ""))[:VALUE_LIMIT] for name in names})


@dataclass(frozen=True)
class WinePipeline(Resource[Spec, Status]):
    """A WinePipeline: identity, spec, status and annotation requests."""

    requests: AnnotationRequests = AnnotationRequests()

    @property
    def registered_model(self) -> str:
        """Name in MLflow's model registry, unique unless the spec names it: a namespace contains no dot."""
        return self.spec.training.registered_model or f"{self.namespace}.{self.name}"

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> Self:
        """Read an API body; see `Resource.read`."""
        return cls.read(
            body, Spec, Status, requests=AnnotationRequests.from_annotations(body["metadata"].get("annotations") or {})
        )
