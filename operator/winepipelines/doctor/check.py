"""One check of the platform: what it observes, and how it evaluates that."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from winepipelines.doctor.backend import ObservedBackend
from winepipelines.doctor.finding import Finding
from winepipelines.doctor.observations import Survey
from winepipelines.doctor.probing import Prober

Evaluate = Callable[[Survey], Finding | list[Finding]]


@dataclass(frozen=True)
class Check:
    """A check is named by what must hold: its `evaluate` function's name, read as a sentence.

    `evaluate` is pure. `observe` makes the observation that it reads by `survey.observed(observe)`; a check may leave it out and
    read what `Survey` has for several checks. `needs` are the checks that must pass first; else this one is skipped.
    """

    evaluate: Evaluate
    needs: tuple[Evaluate, ...] = ()
    observe: Callable[[Prober], Awaitable[Any]] | None = None

    @property
    def name(self) -> str:
        """The name: what must hold."""
        return name_of(self.evaluate)


def name_of(evaluate: Evaluate) -> str:
    """Read a function's name as a sentence."""
    return evaluate.__name__.replace("_", " ")


@dataclass(frozen=True)
class BackendChecks:
    """The checks of a serving backend: `platform` run before those of Kubeflow Pipelines and MLflow, `artifacts` after them."""

    platform: Sequence[Check]
    artifacts: Sequence[Check]


class CheckedBackend(ObservedBackend, Protocol):
    """A serving backend as the doctor needs it."""

    @property
    def checks(self) -> BackendChecks:
        """The doctor's checks of the platform."""
