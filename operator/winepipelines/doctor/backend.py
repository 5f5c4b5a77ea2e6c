"""What the doctor observes of the serving backend. `check.CheckedBackend` adds the checks, `serving.port` all else."""

from collections.abc import Sequence
from typing import Protocol

from winepipelines.api.sourcesecret import SourceSecret
from winepipelines.doctor.observations import ServingKind
from winepipelines.doctor.right import Right
from winepipelines.environment import EnvironmentSettings


class ObservedBackend(Protocol):
    """A serving backend as the doctor sees it. Its properties need no cluster."""

    @property
    def name(self) -> str:
        """The name of the platform in messages."""

    @property
    def kind(self) -> ServingKind:
        """The kind of the object that serves a model."""

    @property
    def settings(self) -> EnvironmentSettings:
        """The administrator's settings of this backend."""

    @property
    def source(self) -> SourceSecret:
        """The Secret that models are copied with: the administrator's, and its copy in users' namespaces."""

    @property
    def rights(self) -> Sequence[Right]:
        """The rights that it needs in users' namespaces, except those on Secrets."""
