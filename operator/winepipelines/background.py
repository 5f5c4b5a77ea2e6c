"""The background tasks of WinePipelines: watches of runs, the platform, Secrets, PodDefaults and serving objects."""

import contextlib
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from winepipelines.adapters import Adapters
from winepipelines.doctor.watch import PlatformWatch
from winepipelines.engine.spec import BackgroundTask, Enqueuing
from winepipelines.platform import metadata
from winepipelines.platform.namespace import copies, is_others_doing, sources
from winepipelines.runs.watch import RunWatch
from winepipelines.serving import kinds


@dataclass(frozen=True)
class Watched:
    """What the tasks watch. Runs and the platform concern both kinds, and are watched once."""

    adapters: Adapters
    runs: RunWatch
    platform: PlatformWatch


def of_pipelines(watched: Watched) -> Sequence[BackgroundTask]:
    """List the tasks: among others a watch for each source Secret, and for each kind of copy."""
    adapters = watched.adapters
    settings, sources_of = adapters.settings, [backend.source for backend in adapters.backends.enabled]
    secrets = dict.fromkeys(secret for source in sources_of for secret in sources(settings, source))
    copied_objects = dict.fromkeys(copied for source in sources_of for copied in copies(settings, source))
    return (
        BackgroundTask("run watch", lambda _pipelines: watched.runs.watch()),
        BackgroundTask("platform watch", lambda _pipelines: watched.platform.run()),
        *(BackgroundTask(f"watch of {secret.name}", functools.partial(_watch_source, adapters, secret)) for secret in secrets),
        *(
            BackgroundTask(f"watch of {copied.name}", functools.partial(_watch_copies, adapters, copied))
            for copied in copied_objects
        ),
        *(
            BackgroundTask(f"watch of {objects.name}", functools.partial(_watch_serving, adapters, objects))
            for objects in kinds.watched(adapters.backends, settings.namespaces)
        ),
    )


async def _watch_source(adapters: Adapters, source: metadata.Objects, pipelines: Enqueuing) -> None:
    """Reconcile every resource whenever one of the platform's Secrets changes, or may have changed."""
    async with contextlib.aclosing(metadata.watch(adapters.kubernetes, source)) as watch:
        async for seen in watch:
            adapters.namespace.forget(adapters.settings.platform_namespace)
            if seen is None:
                pipelines.forget()
            else:
                adapters.mlflow.forget_credentials()
                pipelines.enqueue_all()


async def _watch_copies(adapters: Adapters, copied: metadata.Objects, pipelines: Enqueuing) -> None:
    """Reconcile a namespace's resources whenever someone else changes what was created for them.

    A list is no change, but there may have been some before it.
    """
    enqueue = _enqueue_users(adapters.settings.platform_namespace, pipelines)
    async with contextlib.aclosing(metadata.watch(adapters.kubernetes, copied)) as watch:
        async for seen in watch:
            if seen is None or seen.complete:
                adapters.namespace.forget()
                pipelines.forget()
            else:
                for item in seen.objects:
                    adapters.namespace.forget(item["namespace"])
                    if seen.gone or is_others_doing(item):
                        enqueue(item["namespace"])


async def _watch_serving(adapters: Adapters, objects: metadata.Objects, pipelines: Enqueuing) -> None:
    """Reconcile a resource whenever an object that serves its models changes."""
    async with contextlib.aclosing(kinds.owners(adapters.kubernetes, objects)) as owners:
        async for key in owners:
            if key is None:
                pipelines.forget()
            else:
                pipelines.enqueue(key)


def _enqueue_users(platform_namespace: str, pipelines: Enqueuing) -> Callable[[str], None]:
    """Return what enqueues the resources that use a namespace's copies: all of them, where steps run in the platform's own."""

    def enqueue(namespace: str) -> None:
        if namespace == platform_namespace:
            pipelines.enqueue_all()
        else:
            pipelines.enqueue_namespace(namespace)

    return enqueue
