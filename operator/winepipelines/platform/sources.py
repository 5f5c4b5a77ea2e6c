"""Find the Secret that models are copied with, where the administrator leaves its name to the operator.

A profile of Kubeflow has a Secret with keys of its own for the store that steps write to. Models are copied with these if they
are in that store: then no key of the platform gets into the profile.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from winepipelines.api.naming import ARTIFACT_SECRET
from winepipelines.api.observed import SecretState
from winepipelines.api.sourcesecret import SourceSecret
from winepipelines.endpoints import are_written_alike
from winepipelines.platform.kubernetes import Body, secret_values

ARTIFACT_KEYS = ("accesskey", "secretkey")
DEFAULT_REGION = "us-east-1"


@dataclass(frozen=True)
class FoundSource:
    """The Secret that the models of a namespace are copied with, where it is, and why it is this one."""

    source: SourceSecret
    secret: Body | None
    namespace: str
    why: str

    @property
    def state(self) -> SecretState:
        """Whether it exists and is complete."""
        return source_state(self.namespace, self.source, self.secret)


@dataclass(frozen=True)
class Places:
    """Where Secrets are looked for: the platform's namespace, the resource's, and whether steps run there."""

    platform: str
    profile: str
    has_steps: bool
    endpoint: str  # of the store that steps write to


async def find_source_of(get: Callable[[str, str], Awaitable[Body | None]], source: SourceSecret, places: Places) -> FoundSource:
    """Return the Secret for the models of a namespace; `get` reads a Secret of a namespace.

    Of the profile's Secret only the two keys are used: users can change it, and must not choose the store.
    """
    found, secret = await find_source(lambda name: get(places.platform, name), source)
    chosen = FoundSource(found, secret, places.platform, "the administrator named it")
    if len(source.names) == 1 or ARTIFACT_SECRET not in source.names:
        return chosen
    if not places.has_steps:
        why = f"steps do not run in {places.profile}"
    elif secret is not None and not _is_store_of_steps(found, secret, places):
        why = "it is for another store or region than steps write to, or has settings that the profile's Secret has not"
    else:
        data = ((await get(places.profile, ARTIFACT_SECRET)) or {}).get("data") or {}
        keys = {key: data[key] for key in ARTIFACT_KEYS if data.get(key)}
        if len(keys) == len(ARTIFACT_KEYS):
            own = "the profile has it for the store that steps write to"
            return FoundSource(source.narrowed(ARTIFACT_SECRET), {"data": keys}, places.profile, own)
        why = f"{places.profile} has no complete Secret {ARTIFACT_SECRET}"
    return FoundSource(found, secret, places.platform, why)


def _is_store_of_steps(source: SourceSecret, secret: Body, places: Places) -> bool:
    """Whether a Secret of the platform has nothing but keys for the store that steps write to, in the default region."""
    access, known = source.access(secret_values(secret)), (places.platform, places.profile)
    plain = source.narrowed(ARTIFACT_SECRET).copied(dict.fromkeys(ARTIFACT_KEYS, ""))
    has_more = any(key not in plain and not key.endswith("_REGION") for key in source.copied(secret.get("data") or {}))
    return access.region == DEFAULT_REGION and not has_more and are_written_alike(access.endpoint, places.endpoint, known)


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
