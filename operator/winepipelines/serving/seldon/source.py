"""The Secret that Seldon's initializer copies models with: settings of rclone, as environment variables."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import ClassVar

from winepipelines.api.sourcesecret import StoreAccess
from winepipelines.serving.seldon.naming import COPY_SECRET

PREFIX = "RCLONE_CONFIG_S3_"
COPIED_KEYS = re.compile(rf"{PREFIX}[A-Z0-9_]+")


@dataclass(frozen=True)
class RcloneSecret:
    """A Secret with rclone's settings of one remote, `S3`.

    The copy has only keys of that remote: the initializer gets the whole Secret as its environment, and any other variable could
    change what rclone does.
    """

    name: str
    copy_name: ClassVar = COPY_SECRET
    keys: ClassVar = tuple(f"{PREFIX}{key}" for key in ("TYPE", "ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "ENDPOINT"))
    public_keys: ClassVar = (f"{PREFIX}TYPE", f"{PREFIX}ENDPOINT")
    endpoint_key: ClassVar = f"{PREFIX}ENDPOINT"

    def required_keys(self, _: Collection[str]) -> tuple[str, ...]:
        """List the keys that must have a value: the Secret has one form."""
        return self.keys

    def copied(self, data: Mapping[str, str]) -> dict[str, str]:
        """Copy the keys of the remote and no other."""
        return {key: value for key, value in data.items() if COPIED_KEYS.fullmatch(key)}

    def annotations(self, _: Mapping[str, str]) -> dict[str, str]:
        """Add none: the initializer reads only keys."""
        return {}

    def access(self, values: Mapping[str, str]) -> StoreAccess:
        """Read the settings as rclone does: an endpoint without a scheme is https."""
        endpoint = values.get(self.endpoint_key, "")
        return StoreAccess(
            endpoint if "://" in endpoint or not endpoint else f"https://{endpoint}",
            values.get(f"{PREFIX}ACCESS_KEY_ID", ""),
            values.get(f"{PREFIX}SECRET_ACCESS_KEY", ""),
            values.get(f"{PREFIX}REGION") or "us-east-1",
        )
