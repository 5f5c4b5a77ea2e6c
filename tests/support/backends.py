"""Serving backends with changed settings."""

from typing import Any

from winepipelines.pipelines.observe import Serving
from winepipelines.serving.backends import Backends
from winepipelines.serving.kinds import InstalledBackends
from winepipelines.serving.kserve.backend import KServeBackend
from winepipelines.serving.kserve.settings import KServeSettings
from winepipelines.serving.seldon.backend import SeldonBackend
from winepipelines.serving.seldon.settings import SeldonSettings
from winepipelines.serving.seldon.source import RcloneSecret
from winepipelines.settings import Settings

SOURCE = RcloneSecret((SeldonSettings().source_secret,))


def serving(backend: Any, kubernetes: Any, prober: Any) -> Serving:
    """Make what answers queries about serving, with one backend."""
    backends = Backends([backend])
    return Serving(backends, InstalledBackends(backends, kubernetes), kubernetes, prober)


def seldon_backend(settings: Settings, **changes: object) -> SeldonBackend:
    """Build the Seldon backend with changes to the operator's settings or its own."""
    own = {name: changes.pop(name) for name in list(changes) if name in SeldonSettings.model_fields}
    return SeldonBackend(settings.with_(**changes), SeldonSettings().with_(**own))


def kserve_backend(settings: Settings, **changes: object) -> KServeBackend:
    """Make the KServe backend with some of the operator's settings, or of its own, changed."""
    own = {name: changes.pop(name) for name in list(changes) if name in KServeSettings.model_fields}
    return KServeBackend(settings.with_(**changes), KServeSettings().with_(**own))
