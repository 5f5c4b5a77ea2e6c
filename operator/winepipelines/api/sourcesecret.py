"""The Secret that a serving backend copies models with: its form is the backend's, its place the operator's."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol


class StoreOperation(StrEnum):
    """What credentials are used for below a prefix of an object store."""

    LIST = "list"
    READ = "read"
    WRITE = "write"


@dataclass(frozen=True)
class StoreAccess:
    """The address of an object store and credentials for it.

    `source` names the Secret that they come from, `endpoint_key` its key with the address; for messages only.
    """

    endpoint: str
    access_key: str
    secret_key: str = field(repr=False)
    region: str = "us-east-1"
    source: str = ""
    endpoint_key: str = ""


class SourceSecret(Protocol):
    """The administrator's Secret in the platform's namespace, and its copy in each user's namespace."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names that the administrator's Secret may have, the preferred one first."""

    @property
    def name(self) -> str:
        """The preferred name, or the only one."""

    def narrowed(self, name: str) -> "SourceSecret":
        """Return the Secret by one of its names."""

    @property
    def copy_name(self) -> str:
        """The name of its copy."""

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys that must have a value, in the form that is documented first."""

    def required_keys(self, present: Collection[str]) -> tuple[str, ...]:
        """List the keys that must have a value in a Secret with these keys: the form of the Secret decides."""

    @property
    def endpoint_key(self) -> str:
        """The key with the address of the object store."""

    @property
    def public_keys(self) -> tuple[str, ...]:
        """The keys whose values are no secret."""

    def copied(self, data: Mapping[str, str]) -> dict[str, str]:
        """Build the data of the copy from the Secret's; both are encoded in base64."""

    def annotations(self, data: Mapping[str, str]) -> dict[str, str]:
        """Build the annotations of the copy from the Secret's data, which are encoded in base64."""

    def access(self, values: Mapping[str, str]) -> StoreAccess:
        """Read the address and the credentials of the object store from the Secret's values."""
