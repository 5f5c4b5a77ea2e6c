"""Decide from which IP addresses data may be fetched. Does no I/O except reading the environment.

A user's address, or a redirect of its host, must not give the step access to the cluster's internal network: the metadata service
of a cloud, the node, the step's own pod. The administrator's settings are variables of the step's container.
"""

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from winecontract.reasons import Reason
from winesteps.failures import StepFailure

ALLOWED, PRIVATE = "WINE_DATA_ALLOWED_NETWORKS", "WINE_DATA_PRIVATE_NETWORKS"
"""Variables: networks that are always allowed, separated by commas, and a value of `PrivateNetworks`."""
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class PrivateNetworks(StrEnum):
    """Policy for private addresses.

    `direct`: allowed if the resource's own address resolves to one, and in redirects from there. `allow`: in any redirect, too.
    """

    DIRECT = "direct"
    ALLOW = "allow"
    REFUSE = "refuse"


def _networks(*networks: str) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(network) for network in networks)


_NEVER = {
    "a loopback address": _networks("127.0.0.0/8", "::1/128"),
    "the metadata service of a cloud": _networks(
        "169.254.169.254/32",
        "169.254.170.0/24",  # credentials of AWS containers
        "100.100.100.200/32",  # Alibaba
        "168.63.129.16/32",  # Azure
        "192.0.0.192/32",  # Oracle
        "fd00:ec2::/32",  # AWS
        "fd20:ce::254/128",  # Google
    ),
    "a link-local address": _networks("169.254.0.0/16", "fe80::/10"),
    "a multicast address": _networks("224.0.0.0/4", "ff00::/8"),
    "a reserved address": _networks("0.0.0.0/8", "240.0.0.0/4", "::/128"),
}
"""Networks from which data is never fetched; the first match is reported."""
_EMBEDDING = _networks("64:ff9b::/96", "64:ff9b:1::/48", "::/96", "::ffff:0:0:0/96")
"""IPv6 networks whose addresses end in an IPv4 address: translated (NAT64, SIIT) and compatible ones."""
_ISATAP = (0x00005EFE, 0x02005EFE)


def _embedded(address: Address) -> tuple[Address, ...]:
    """Return an address and the IPv4 addresses that it embeds."""
    if isinstance(address, ipaddress.IPv4Address):
        return (address,)
    found: list[Address | None] = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    interface = int(address) & (2**64 - 1)
    if any(address in network for network in _EMBEDDING) or interface >> 32 in _ISATAP:
        found.append(ipaddress.IPv4Address(int(address) & (2**32 - 1)))
    if address.ipv4_mapped:
        return (address.ipv4_mapped,)
    return (address, *(one for one in found if one is not None))


def _is_private(address: Address) -> bool:
    return not address.is_global or (isinstance(address, ipaddress.IPv6Address) and address.is_site_local)


@dataclass(frozen=True)
class Networks:
    """The administrator's policy."""

    allowed: tuple[Network, ...] = ()
    private: PrivateNetworks = PrivateNetworks.DIRECT

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Networks":
        """Read the variables of the step's container.

        Raises:
            StepFailure: ParametersInvalid.

        """
        try:
            allowed = _networks(*filter(None, (part.strip() for part in environment.get(ALLOWED, "").split(","))))
            private = PrivateNetworks(environment.get(PRIVATE) or PrivateNetworks.DIRECT)
        except ValueError:
            message = f"A variable of the step is invalid. Set {ALLOWED} to networks such as 10.0.0.0/8, and {PRIVATE} to one of "
            raise StepFailure(Reason.PARAMETERS_INVALID, message + f"{', '.join(PrivateNetworks)}.") from None
        return cls(allowed, private)

    def refusal(self, text: str, *, private_is_allowed: bool) -> str:
        """Return why an IP address is rejected; empty if data may be fetched from it.

        Args:
            text: the address, as the resolver writes it.
            private_is_allowed: whether private addresses are accepted, see `PrivateNetworks`.

        """
        address = ipaddress.ip_address(text.partition("%")[0])
        for one in _embedded(address):
            if any(one in network for network in self.allowed):
                continue
            for kind, networks in _NEVER.items():
                if any(one in network for network in networks):
                    return kind
            if not private_is_allowed and _is_private(one):
                return "a private address"
        return ""

    def is_private(self, text: str) -> bool:
        """Tell whether an address is private, as the allowed networks can be."""
        return any(map(_is_private, _embedded(ipaddress.ip_address(text.partition("%")[0]))))
