"""The forms in which Secrets hold the keys of an S3 store: those of charms, of Kubeflow itself and of AWS's tools. Pure."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Self

from winepipelines.api.sourcesecret import StoreAccess

ACCESS_KEY, SECRET_KEY = "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"
ENDPOINT, REGION = "AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION"
DEFAULT_REGION = "us-east-1"
AUTO = "auto"
"""The name that stands for the first known Secret which is there."""
PREFIXED = re.compile(r"([A-Z0-9_]*S3_)(?:ACCESS_KEY_ID|SECRET_ACCESS_KEY)")
"""Keys of a remote that is named S3, after a prefix that depends on the program which reads them."""


@dataclass(frozen=True)
class Form:
    """Names of the two keys, and of the values that may be beside them, the first that has one counts."""

    access_key: str
    secret_key: str
    endpoints: tuple[str, ...] = (ENDPOINT,)
    regions: tuple[str, ...] = (REGION,)

    @property
    def keys(self) -> tuple[str, str]:
        """The keys that must have a value."""
        return self.access_key, self.secret_key


KUBEFLOW = Form("accesskey", "secretkey")
"""The form of the Secret for artifacts that Kubeflow Pipelines has in its own namespace and in every profile."""
AWS = Form(ACCESS_KEY, SECRET_KEY)


@dataclass(frozen=True)
class SecretNames:
    """The names that a Secret may have, the preferred one first."""

    names: tuple[str, ...]

    @property
    def name(self) -> str:
        """The preferred name, or the only one."""
        return self.names[0]

    def narrowed(self, name: str) -> Self:
        """Return the Secret by one of its names."""
        return replace(self, names=(name,))


def candidates(name: str, known: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names that an administrator's setting stands for: the known ones for `auto`, else the one that it is."""
    return known if name == AUTO else (name,)


def form_of(present: Collection[str]) -> Form:
    """Return the form of a Secret with these keys: that of AWS's tools if it has one of its keys."""
    if any(key in present for key in AWS.keys):
        return AWS
    prefixes = sorted(match[1] for key in present if (match := PREFIXED.fullmatch(key)) is not None)
    if not prefixes:
        return KUBEFLOW
    prefix = prefixes[0]
    return Form(
        f"{prefix}ACCESS_KEY_ID", f"{prefix}SECRET_ACCESS_KEY", (f"{prefix}ENDPOINT", ENDPOINT), (f"{prefix}REGION", REGION)
    )


def access_of(values: Mapping[str, str], endpoint: str) -> StoreAccess:
    """Read the two keys and the store's address, by default `endpoint`. An address without a scheme is https."""
    form = form_of(values.keys())
    found = _first(values, form.endpoints) or endpoint
    return StoreAccess(
        found if "://" in found or not found else f"https://{found}",
        values.get(form.access_key, ""),
        values.get(form.secret_key, ""),
        _first(values, form.regions) or DEFAULT_REGION,
    )


def _first(values: Mapping[str, str], names: tuple[str, ...]) -> str:
    return next((found for name in names if (found := values.get(name, "").strip())), "")
