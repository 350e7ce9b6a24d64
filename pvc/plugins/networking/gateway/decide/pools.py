"""The addresses that a network has to give, of each version of IP; big subnets are never written out."""

from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from pvc.plugins.networking.records import Network

MOST_IPV6 = 2**32 - 1
"""How far into an IPv6 subnet addresses are given, so that they stay short; VMs' own ones (SLAAC) are beyond that."""


@dataclass(frozen=True, slots=True)
class Pool:
    """The addresses of one version of IP, as numbers."""

    version: int
    hosts: range
    """What can be reserved: the subnet without what is no host's; the gateway is among them."""
    given: range
    """What is given without a reservation."""
    gateway: int

    def may(self, number: int | None, *, reserved: bool = False) -> bool:
        """Whether a VM can have this address."""
        return number is not None and number != self.gateway and number in (self.hosts if reserved else self.given)

    @property
    def size(self) -> int:
        """How many addresses are given."""
        return len(self.given) - (self.gateway in self.given)

    def choose(self, mac: str, taken: Collection[int | None]) -> int | None:
        """A free address; of one MAC address the same again if it is still free. None: there is none."""
        first = int.from_bytes(blake2b(mac.encode(), digest_size=8).digest(), "big") % len(self.given)
        for step in range(len(self.given)):
            number = self.given[(first + step) % len(self.given)]
            if number != self.gateway and number not in taken:
                return number
        return None

    def text(self, number: int) -> str:
        """The address as it is written."""
        return str(IPv4Address(number) if self.version == 4 else IPv6Address(number))


def pools(network: Network) -> dict[int, Pool]:
    """By version of IP; none of one that the network has no subnet and gateway of, or whose record makes no sense."""
    found = {}
    for version, subnet, gateway in ((4, network.ipv4, network.ipv4_gateway), (6, network.ipv6, network.ipv6_gateway)):
        hosts, own = host_range(subnet, version), number_of(gateway, version)
        if hosts is None or own is None:
            continue
        given = _given(network.dhcp_range, hosts) if version == 4 else hosts[:MOST_IPV6]
        if given:
            found[version] = Pool(version, hosts, given, own)
    return found


def host_range(subnet: str | None, version: int) -> range | None:
    """The addresses of a subnet that hosts can have; None: it is no subnet of that version of IP."""
    try:
        parsed = None if subnet is None else ip_network(subnet)
    except ValueError:
        return None
    if parsed is None or parsed.version != version:
        return None
    first, last = int(parsed.network_address), int(parsed.broadcast_address)
    return range(first + 1, last) if version == 4 else range(first + 1, last + 1)


def why_no_host(network: Network, address: str, version: int) -> str:
    """Why a VM of the network cannot have this address; empty: it can."""
    subnet, gateway = (network.ipv4, network.ipv4_gateway) if version == 4 else (network.ipv6, network.ipv6_gateway)
    hosts, number = host_range(subnet, version), number_of(address, version)
    if hosts is None:
        return f"{address}: network {network.name} has no IPv{version} subnet"
    if number is None or number not in hosts:
        return f"{address} is no address of a host in {subnet}"
    return f"{address} is the gateway's" if number == number_of(gateway, version) else ""


@lru_cache(maxsize=2**15)
def number_of(text: str | None, version: int) -> int | None:
    """The address as a number; None: it is none of that version of IP."""
    try:
        parsed = None if text is None else ip_address(text)
    except ValueError:
        return None
    return int(parsed) if parsed is not None and parsed.version == version else None


def _given(wanted: tuple[str, str] | None, hosts: range) -> range:
    if wanted is None:
        return hosts
    first, last = (number_of(text, 4) for text in wanted)
    if first is None or last is None:
        return hosts[:0]
    return range(max(first, hosts.start), min(last + 1, hosts.stop))
