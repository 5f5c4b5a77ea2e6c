"""Watch Argo Workflows, one for each run of Kubeflow Pipelines, as hints that the state of a run has changed.

There is one watch for all namespaces, or one for each that the operator is limited to. It transfers metadata only: a Workflow is
as large as its pipeline, and its phase is a label. Only runs that have not ended are watched: Kubeflow Pipelines labels a
Workflow after it has stored the run's end, some seconds after Argo has ended the Workflow.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from winepipelines.platform import metadata
from winepipelines.platform.kubernetes import Body, Kind, Kubernetes

RUN_LABEL = "pipeline/runid"
PHASE_LABEL = "workflows.argoproj.io/phase"
NOT_ENDED = f"{RUN_LABEL},pipeline/persistedFinalState!=true"
WORKFLOWS = Kind("argoproj.io/v1alpha1", "workflows")


@dataclass(frozen=True)
class Hint:
    """Phases of Workflows by run id: "" before Argo sets the first, None once the Workflow is deleted or its run has ended."""

    phases: Mapping[str, str | None]
    complete: bool = False  # there are no others


class Workflows:
    """The Workflows of all runs that have not ended."""

    def __init__(
        self,
        kubernetes: Kubernetes,
        backoff_seconds: tuple[float, float] = metadata.BACKOFF_SECONDS,
        namespaces: Sequence[str] = (),
    ) -> None:
        """Retry after the first of `backoff_seconds`, then after twice as long, up to the second. No `namespaces` means all."""
        self._kubernetes = kubernetes
        self._backoff = backoff_seconds
        self._namespaces = namespaces

    def hints(self) -> AsyncGenerator[Hint | None]:
        """Yield all Workflows, then each change; None when the watch fails. Never ends.

        With several namespaces there is no None: while one cannot be watched, its Workflows are reported as deleted.
        """
        return self._of_each() if self._namespaces else self._of("")

    async def _of(self, namespace: str) -> AsyncGenerator[Hint | None]:
        name = f"Workflows in {namespace}" if namespace else "Workflows"
        objects = metadata.Objects(WORKFLOWS.path(namespace), name, labels=NOT_ENDED, shown=(RUN_LABEL, PHASE_LABEL))
        async with aclosing(metadata.watch(self._kubernetes, objects, self._backoff)) as watch:
            async for seen in watch:
                if seen is None:
                    yield None
                    continue
                phases = {_label(item, RUN_LABEL): None if seen.gone else _label(item, PHASE_LABEL) for item in seen.objects}
                yield Hint(phases, seen.complete)

    async def _of_each(self) -> AsyncGenerator[Hint | None]:
        heard: asyncio.Queue[tuple[str, Hint | None]] = asyncio.Queue()

        async def listen(namespace: str) -> None:
            async with aclosing(self._of(namespace)) as hints:
                async for hint in hints:
                    heard.put_nowait((namespace, hint))

        known: dict[str, set[str]] = {namespace: set() for namespace in self._namespaces}
        listeners = asyncio.gather(*map(listen, self._namespaces))
        try:
            while True:
                following = asyncio.ensure_future(heard.get())
                await asyncio.wait((following, listeners), return_when=asyncio.FIRST_COMPLETED)
                if not following.done():
                    following.cancel()
                    await listeners  # they end only by an unexpected error
                namespace, hint = following.result()
                phases = dict(hint.phases) if hint is not None else {}
                if hint is None or hint.complete:
                    phases = dict.fromkeys(known[namespace]) | phases
                known[namespace] = {run for run in known[namespace] | phases.keys() if phases.get(run, "") is not None}
                yield Hint(phases)
        finally:
            listeners.cancel()


def _label(workflow: Body, name: str) -> str:
    return str(workflow["labels"].get(name, ""))
