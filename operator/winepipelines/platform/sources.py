"""Find the Secret that models are copied with, where the administrator leaves its name to the operator."""

from collections.abc import Awaitable, Callable

from winepipelines.api.observed import SecretState
from winepipelines.api.sourcesecret import SourceSecret
from winepipelines.platform.kubernetes import Body


async def find_source(get: Callable[[str], Awaitable[Body | None]], source: SourceSecret) -> tuple[SourceSecret, Body | None]:
    """Return the first Secret by one of the names that is complete, else the first that exists, with its name alone.

    `get` reads a Secret of the platform's namespace. If there is none, all names stay.
    """
    incomplete = None
    for name in source.names:
        secret = await get(name)
        if secret is None:
            continue
        if not missing_keys(source, secret):
            return source.narrowed(name), secret
        incomplete = incomplete or (source.narrowed(name), secret)
    return incomplete or (source, None)


def missing_keys(source: SourceSecret, secret: Body | None) -> tuple[str, ...]:
    """List the keys without a value, of the form that the Secret has."""
    data = (secret or {}).get("data") or {}
    return tuple(key for key in source.required_keys(data.keys()) if not data.get(key))


def source_state(namespace: str, source: SourceSecret, secret: Body | None) -> SecretState:
    """Tell whether the source Secret exists, which keys of its form have no value, and which other names were tried."""
    missing = missing_keys(source, secret)
    return SecretState(namespace, source.name, secret is not None, missing, others=source.names[1:] if secret is None else ())
