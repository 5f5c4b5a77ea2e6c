"""DNS and connections, to find out why a system cannot be reached. Nothing is requested from it."""

import asyncio
import contextlib
import ipaddress
import socket
from dataclasses import dataclass
from pathlib import Path

RESOLV_CONF = Path("/etc/resolv.conf")


@dataclass(frozen=True)
class SearchDomains:
    """The resolver's search list. A name with fewer dots than `ndots` is tried with the domains first."""

    domains: tuple[str, ...] = ()
    ndots: int = 1


class Network:
    """The network of this machine or pod."""

    async def resolve(self, name: str) -> tuple[str, ...]:
        """List the addresses of a name, sorted; empty if it has none.

        Raises OSError if no name server answers.
        """
        try:
            found = await asyncio.get_running_loop().getaddrinfo(name, None, type=socket.SOCK_STREAM)
        except UnicodeError:  # an empty or overlong label
            return ()
        except socket.gaierror as error:
            if error.errno in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)):
                return ()
            raise
        return tuple(sorted({str(address[0]) for *_, address in found}))

    async def connects(self, host: str, port: int) -> bool:
        """Whether the host accepts a connection."""
        try:
            _, writer = await asyncio.open_connection(host, port)
        except OSError:
            return False
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return True

    def search_domains(self) -> SearchDomains:
        """Read the resolver's search list."""
        domains: tuple[str, ...] = ()
        ndots = 1
        try:
            lines = RESOLV_CONF.read_text().splitlines()
        except OSError:
            return SearchDomains()
        for line in lines:
            keyword, *values = line.split() or [""]
            if keyword in ("search", "domain"):
                domains = tuple(value.rstrip(".") for value in values if value.rstrip("."))
            elif keyword == "options":
                ndots = next((int(value[6:]) for value in values if value.startswith("ndots:") and value[6:].isdigit()), ndots)
        return SearchDomains(domains, ndots)


def is_address(host: str) -> bool:
    """Tell an IP address from a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
