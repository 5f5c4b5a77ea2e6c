"""The registry of serving backends. To add one, implement `port.ServingBackend` in a folder beside this and list it here."""

import os
from collections.abc import Iterator, Mapping, Sequence

from winecontract.reasons import Reason
from winepipelines.api.errors import Refused
from winepipelines.api.spec import Runtime
from winepipelines.environment import EnvironmentSettings, SettingsError
from winepipelines.platform import admission
from winepipelines.serving.kserve.backend import KServeBackend
from winepipelines.serving.port import ServingBackend
from winepipelines.serving.seldon.backend import SeldonBackend
from winepipelines.settings import AUTO, Settings
from winepipelines.validation import shown

BACKENDS: dict[str, type[SeldonBackend] | type[KServeBackend]] = {"seldon": SeldonBackend, "kserve": KServeBackend}
for _backend in BACKENDS.values():
    admission.add_backend(
        *_backend.webhooks, *(right.resource for right in _backend.rights if right.group == _backend.kind.group)
    )


class Backends:
    """The enabled serving backends, in the order in which `auto` chooses.

    `default` is the name of the one that serves resources without a choice of their own; empty chooses the first whose kind the
    API server serves. `optional`: the settings do not list them, so that one that is not installed is no problem beside another.
    """

    def __init__(self, enabled: Sequence[ServingBackend], default: str = "", *, optional: bool = False) -> None:
        self.enabled = tuple(enabled)
        self.default = default
        self.optional = optional and len(enabled) > 1
        self._named = {backend.name: backend for backend in enabled}
        self.unnamed = next((one.name for one in BACKENDS.values() if one.name in self._named), self.enabled[0].name)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the enabled backends."""
        return tuple(self._named)

    def get(self, name: str) -> ServingBackend:
        """Return a backend by its name; an empty one is that of records without a name. Raises Refused if it is not enabled."""
        backend = self._named.get(name or self.unnamed)
        if backend is None:
            raise Refused(Reason.SERVING_BACKEND_DISABLED, f"The serving backend {name} is not enabled on this platform")
        return backend

    def server_version(self, runtime: Runtime) -> str:
        """Return the version of a runtime's server, empty for the bundled one. At most one backend has a server of its own."""
        return next((version for backend in self.enabled if (version := backend.server(runtime).version)), "")

    def first(self, missing: Sequence[str] = ()) -> str:
        """Name the backend of resources without a choice, where the API server lacks the kinds of those that are `missing`."""
        return self.default or next((name for name in self.names if name not in missing), self.names[0])


def backends_of(settings: Settings, environment: Mapping[str, str] = os.environ, *, incomplete: bool = False) -> Backends:
    """Make the backends that the settings enable; their own settings are read from the environment.

    `incomplete` accepts what the doctor judges. Raises SettingsError.
    """
    default = _key(settings.serving_backend, "WINE_SERVING_BACKEND", (AUTO, *BACKENDS)) if settings.serving_backend else AUTO
    listed = dict.fromkeys(_key(name, "WINE_SERVING_BACKENDS", tuple(BACKENDS)) for name in settings.serving_backends)
    keys = [*listed] or ([*BACKENDS] if default == AUTO else [default])
    if default not in (AUTO, *keys):
        raise SettingsError(
            f"{Settings.named('WINE_SERVING_BACKEND')}: {default} is not one of {Settings.named('WINE_SERVING_BACKENDS')}, "
            f"which has {', '.join(keys)}"
        )
    enabled = [BACKENDS[key].from_environment(settings, environment, incomplete=incomplete) for key in keys]
    return Backends(enabled, "" if default == AUTO else BACKENDS[default].name, optional=not listed)


def _key(name: str, variable: str, known: Sequence[str]) -> str:
    """Read a backend's name, in any case of letters."""
    if name.lower() not in known:
        raise SettingsError(f"{Settings.named(variable)}: {shown(name)} is not one of {', '.join(known)}")
    return name.lower()


def all_settings() -> Iterator[type[EnvironmentSettings]]:
    """List the classes of settings: the operator's and those of every backend."""
    yield Settings
    for backend in BACKENDS.values():
        yield backend.settings_type
