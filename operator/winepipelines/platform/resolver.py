"""Resolve the host names of endpoints, and reject those that lead out of the cluster's Services.

Whoever may create Services in a namespace may create one of type ExternalName under the name of a model's Service. The operator,
which can reach more hosts than they can, would then send requests to any host. So the name of a Service must resolve to itself,
and to an address that a Service or a pod can have.
"""

import ipaddress
import socket
from collections.abc import Iterable

from aiohttp.abc import AbstractResolver, ResolveResult

from winecontract.text import clean
from winepipelines.endpoints import service
from winepipelines.engine.threads import Threads

NAME_LIMIT = 253


class ForeignHostError(OSError):
    """The name of a Service leads to another host, which the message names."""


class Resolver(AbstractResolver):
    """Resolves names that tenants choose, on threads of their own: a name server may hang."""

    def __init__(self) -> None:
        """Start no thread before the first name."""
        self._threads = Threads("endpoint names")

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET) -> list[ResolveResult]:
        """List the addresses of a host.

        Raises OSError if it has none, ForeignHostError if its name leads to another host.
        """
        kind, flags = socket.SOCK_STREAM, socket.AI_ADDRCONFIG | socket.AI_CANONNAME
        found = await self._threads.run(lambda: socket.getaddrinfo(host, port, family=family, type=kind, flags=flags))
        canonical = next((name for _, _, _, name, _ in found if name), "")
        if foreign := foreign_host(host, canonical, [str(address[0]) for *_, address in found]):
            raise ForeignHostError(foreign)
        numeric = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
        return [
            ResolveResult(hostname=host, host=str(address[0]), port=int(address[1]), family=family, proto=proto, flags=numeric)
            for family, _, proto, _, address in found
        ]

    async def close(self) -> None:
        """Do nothing: threads that hang cannot be ended."""


def foreign_host(host: str, canonical: str, addresses: Iterable[str]) -> str:
    """Describe the host that a Service's name leads to, and what to do; empty for a Service and for other names."""
    named = service(host)
    if not named:
        return ""
    if canonical and canonical.rstrip(".").lower() != host.rstrip(".").lower() and service(canonical) != named:
        other = clean(canonical)[:NAME_LIMIT]
        return f"its name stands for {other}. Delete the Service {named} of type ExternalName: the platform then creates its own"
    for text in addresses:
        address = ipaddress.ip_address(text.partition("%")[0])
        address = (address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None) or address
        if address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified or address.is_reserved:
            return "its name has an address that no Service has. Check the Service and the EndpointSlices of that name"
    return ""


def why_foreign(error: BaseException | None) -> str:
    """Return the message of the ForeignHostError among an error and its causes; empty if there is none."""
    while error is not None:
        if isinstance(error, ForeignHostError):
            return str(error)
        error = error.__cause__ or error.__context__
    return ""
