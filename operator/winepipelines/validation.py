"""Types of the administrator's settings. Each validates one value, and its message says what to write instead.

`environment` adds which variable and which value of the chart the message is about.
"""

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from string import Formatter
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field

SHOWN = 100  # characters of a value that a message quotes
QUANTITY = re.compile(r"[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?")
LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
S3_FOLDER = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/(?!\.{1,2}(/|$))[A-Za-z0-9_=+.@-]{1,255}){0,8}")  # as outputs
S3_ADDRESS = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^\s?#]*)?")
# registry/path/name:tag@digest, as the OCI distribution specification has it
_NAME = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_REGISTRY = r"(?:(?:localhost|[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+)(?::\d+)?|[A-Za-z0-9-]+:\d+)/"
IMAGE = re.compile(
    rf"^(?:{_REGISTRY})?{_NAME}(?:/{_NAME})*(?P<tag>:[A-Za-z0-9_][A-Za-z0-9._-]{{0,127}})?(?P<digest>@sha256:[0-9a-f]{{64}})?$"
)


@dataclass(frozen=True)
class Chart:
    """Names the chart's value that sets a field, as metadata of its type."""

    value: str


def address(url: str, *, path: bool = True) -> str:
    """Check that a text is the URL of a server; `path` allows one in it.

    Raises ValueError.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError(f"{shown(url)} is not an http:// or https:// address") from None
    if parts.username is not None or parts.password is not None:  # not shown: it may be a password
        raise ValueError("the address contains a user name; put credentials into a Secret")
    if parts.scheme not in ("http", "https") or not parts.hostname or re.search(r"\s", url) or port == 0:
        raise ValueError(f"{shown(url)} is not an http:// or https:// address")
    if parts.query or parts.fragment:
        raise ValueError(f"{shown(url.split('?')[0].split('#')[0])}: leave out the query and the fragment")
    if parts.path.strip("/") and not path:
        raise ValueError(f"{shown(url)}: leave out the path")
    return url


def address_template(template: str, needed: tuple[str, ...], optional: tuple[str, ...] = ()) -> str:
    """Check that a text with fields in braces makes an address for each endpoint.

    Raises ValueError.
    """
    known = (*needed, *optional)
    try:
        fields = {name for _, name, _, _ in Formatter().parse(template) if name is not None}
    except ValueError:
        raise ValueError(f"{shown(template)}: its braces do not match") from None
    if unknown := fields - set(known):
        raise ValueError(f"has the field {{{min(unknown)}}}; the fields are {', '.join(f'{{{name}}}' for name in known)}")
    if missing := [name for name in needed if name not in fields]:
        raise ValueError(f"lacks the field {{{missing[0]}}}: several models would have the same address")
    address(template.format(**dict.fromkeys(known, "a")))
    return template


def matches(pattern: re.Pattern[str], expected: str, *, optional: bool = False) -> AfterValidator:
    """Make a validator that accepts texts that match; `optional` accepts an empty one too."""

    def validate(value: str) -> str:
        if (optional and not value) or pattern.fullmatch(value):
            return value
        raise ValueError(f"{shown(value)} is not {expected}")

    return AfterValidator(validate)


def shown(text: str) -> str:
    """Quote a text from outside, bounded."""
    return repr(text if len(text) <= SHOWN else text[:SHOWN] + "…")


def _stripped(value: object) -> object:
    return value.strip().rstrip("/") if isinstance(value, str) else value


def _parts(value: object) -> object:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _switch(value: object) -> object:
    if isinstance(value, str) and value not in ("true", "false"):
        raise ValueError(f"{shown(value)} is neither true nor false")
    return value


def _unless_empty(validate: Callable[[str], str]) -> AfterValidator:
    return AfterValidator(lambda value: validate(value) if value else value)


def _not_empty(value: str) -> str:
    if not value:
        raise ValueError("is empty")
    return value


def _without_path(url: str) -> str:
    return address(url, path=False)


def _namespaces(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if not LABEL.fullmatch(name):
            raise ValueError(f"{shown(name)} is not the name of a namespace")
        if names.count(name) > 1:
            raise ValueError(f"names {name} twice")
    return names


def _networks(networks: tuple[str, ...]) -> tuple[str, ...]:
    for network in networks:
        try:
            ipaddress.ip_network(network)
        except ValueError:
            raise ValueError(f"{shown(network)} is not a network such as 10.20.0.0/16") from None
    return networks


Text = Annotated[str, BeforeValidator(_stripped)]
"""A text without surrounding white space and without a trailing slash."""
RequiredText = Annotated[Text, AfterValidator(_not_empty)]
Url = Annotated[Text, AfterValidator(address)]
ServerUrl = Annotated[Text, AfterValidator(_without_path)]
OptionalUrl = Annotated[Text, _unless_empty(address)]
Image = Annotated[Text, matches(IMAGE, "the name of an image: registry/name:tag or registry/name@sha256:…")]
SecretName = Annotated[Text, matches(SUBDOMAIN, "the name of a Secret")]
OptionalSecretName = Annotated[Text, matches(SUBDOMAIN, "the name of a Secret", optional=True)]
OptionalServiceAccount = Annotated[Text, matches(SUBDOMAIN, "the name of a service account", optional=True)]
Namespace = Annotated[Text, matches(LABEL, "the name of a namespace")]
Quantity = Annotated[Text, matches(QUANTITY, "a quantity such as 500m or 1Gi", optional=True)]
OptionalS3Address = Annotated[Text, matches(S3_ADDRESS, "an address such as s3://mlflow", optional=True)]
S3Folder = Annotated[Text, Field(max_length=512), matches(S3_FOLDER, "a folder such as s3://mlpipeline/private")]
OptionalName = Annotated[Text, matches(re.compile("[A-Za-z]+"), "a name", optional=True)]
Names = Annotated[tuple[str, ...], BeforeValidator(_parts)]
Namespaces = Annotated[tuple[str, ...], BeforeValidator(_parts), AfterValidator(_namespaces)]
Networks = Annotated[tuple[str, ...], BeforeValidator(_parts), AfterValidator(_networks)]
Switch = Annotated[bool, BeforeValidator(_switch)]
Seconds = Annotated[float, Field(gt=0, le=10 * 365 * 86400, allow_inf_nan=False)]
Port = Annotated[int, Field(ge=0, le=65535)]
"""A TCP port; 0 is none."""
