"""Argo's Workflows, one for each run of Kubeflow Pipelines, as hints that a run has moved. Called by `runwatch`.

One watch for all namespaces, and of metadata alone: a Workflow is as large as its pipeline, and its phase is a label. Only runs
that have not ended are in it. Kubeflow Pipelines labels a Workflow once the run's end is in its own records; that is some seconds
after Argo has ended the Workflow.
"""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass

from winepipelines.platform import metadata
from winepipelines.platform.kubernetes import Body, Kubernetes

RUN_LABEL = "pipeline/runid"
PHASE_LABEL = "workflows.argoproj.io/phase"
WORKFLOWS = metadata.Objects(
    "/apis/argoproj.io/v1alpha1/workflows", "Workflows", labels=f"{RUN_LABEL},pipeline/persistedFinalState!=true"
)


@dataclass(frozen=True)
class Hint:
    """Phases of Workflows by run id: "" before Argo's first, None where the Workflow, or the last need to look at it, is gone."""

    phases: Mapping[str, str | None]
    complete: bool = False  # there are no others


class Workflows:
    """The Workflows of all runs that have not ended."""

    def __init__(self, kubernetes: Kubernetes, backoff_seconds: tuple[float, float] = metadata.BACKOFF_SECONDS) -> None:
        """Try again after the first of `backoff_seconds`, then twice that, up to the second."""
        self._kubernetes = kubernetes
        self._backoff = backoff_seconds

    async def hints(self) -> AsyncGenerator[Hint | None]:
        """Yield all Workflows, then each that moves; None when they can no longer be watched. For ever."""
        async with aclosing(metadata.watch(self._kubernetes, WORKFLOWS, self._backoff)) as watch:
            async for seen in watch:
                if seen is None:
                    yield None
                    continue
                phases = {_label(item, RUN_LABEL): None if seen.gone else _label(item, PHASE_LABEL) for item in seen.objects}
                yield Hint(phases, seen.complete)


def _label(workflow: Body, name: str) -> str:
    return str(workflow["labels"].get(name, ""))
