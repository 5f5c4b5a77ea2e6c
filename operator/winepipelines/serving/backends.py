"""The registry of serving backends. To add one, implement `port.ServingBackend` in a folder beside this and list it here."""

import os
from collections.abc import Iterator, Mapping

from winepipelines.environment import EnvironmentSettings, SettingsError
from winepipelines.platform import admission
from winepipelines.serving.kserve.backend import KServeBackend
from winepipelines.serving.port import ServingBackend
from winepipelines.serving.seldon.backend import SeldonBackend
from winepipelines.settings import Settings

BACKENDS: dict[str, type[SeldonBackend] | type[KServeBackend]] = {"seldon": SeldonBackend, "kserve": KServeBackend}
DEFAULT = next(iter(BACKENDS))
for _backend in BACKENDS.values():
    admission.add_backend(
        *_backend.webhooks, *(right.resource for right in _backend.rights if right.group == _backend.kind.group)
    )


def backend_of(settings: Settings, environment: Mapping[str, str] = os.environ, *, incomplete: bool = False) -> ServingBackend:
    """Make the backend that the settings name; its own settings are read from the environment.

    `incomplete` accepts what the doctor judges. Raises SettingsError.
    """
    name = settings.serving_backend or DEFAULT
    if name not in BACKENDS:
        known = ", ".join(BACKENDS)
        raise SettingsError(f"{Settings.named('WINE_SERVING_BACKEND')}: {name[:100]!r} is not one of {known}")
    return BACKENDS[name].from_environment(settings, environment, incomplete=incomplete)


def all_settings() -> Iterator[type[EnvironmentSettings]]:
    """List the classes of settings: the operator's and those of every backend."""
    yield Settings
    for backend in BACKENDS.values():
        yield backend.settings_type
