"""What gateways need of a machine: a Protocol with two implementations, and the values it speaks in.

`netns.py` is the real one, `pvc.testing.routers` the fake; tests/contract runs the same tests on both.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from pvc.core.errors import PvcError


class RouterError(PvcError):
    """This machine does not do what a router needs."""


@dataclass(frozen=True, slots=True)
class Route:
    """Where packets for one subnet go."""

    subnet: str
    """As 10.2.0.0/24 or fd00:2::/64; everything: 0.0.0.0/0 or ::/0."""
    via: str
    """Address of the next router. It may be IPv6 for an IPv4 subnet (RFC 5549)."""


@dataclass(frozen=True, slots=True)
class Leg:
    """One Ethernet device of a router: a port of one of this node's bridges."""

    bridge: str
    mac: str
    """The same on whichever node the router is, so that nobody's neighbour table has to change."""
    mtu: int
    addresses: tuple[str, ...] = ()
    """With the length of the prefix, as 10.1.0.1/24."""
    routes: tuple[Route, ...] = ()


@dataclass(frozen=True, slots=True)
class Host:
    """One VM as DHCP and DNS know it."""

    mac: str
    name: str = ""
    """A label of DNS; empty: it has no name."""
    ipv4: str | None = None
    ipv6: str | None = None


@dataclass(frozen=True, slots=True)
class Services:
    """What a router tells the VMs of its network. They get the addresses of `hosts` and no others."""

    domain: str
    dhcp4: bool = False
    dhcp6: bool = False
    """Router advertisements and DHCPv6; a subnet of /64 also lets VMs make addresses of their own."""
    lease: int = 3600
    """Seconds; an address is a VM's own for far longer, this is only when it asks again."""
    hosts: tuple[Host, ...] = ()
    names: Mapping[str, tuple[str, ...]] | None = None
    """Full names of everything in the cluster, each with its addresses."""
    forwarders: tuple[str, ...] = ()
    """Name servers that are asked for everything else; none: nobody is."""


@dataclass(frozen=True, slots=True)
class Router:
    """One network's gateway as it is wanted on this node."""

    network: str
    lan: Leg
    services: Services
    active: bool
    """False: all of it is made, but its legs are down, so that it can take over within milliseconds."""
    transit: Leg | None = None
    """To the gateways of the cluster's other networks."""
    upstream: Leg | None = None
    """Out of the cluster."""
    nat: bool = False
    """What leaves upstream gets the address of that leg; else it keeps its own."""


@dataclass(frozen=True, slots=True)
class RouterState:
    """One router as it is on this node."""

    active: bool = False
    """Its legs are up."""
    held: bool = False
    """Frames pass: `hold` was called for it within its time."""
    problem: str = ""
    """What does not work, and what to do; empty: all does."""


class Routers(Protocol):
    """The routers of one machine. All calls from one thread, but `hold` from any."""

    def look(self) -> Mapping[str, RouterState]:
        """The routers that there are, by network; whoever made them: they outlive the daemon. Raises RouterError.

        What silences them is put right, and where it cannot be they are switched off: for who keeps them, and no other.
        """

    def glance(self) -> Mapping[str, RouterState]:
        """As `look`, but everything stays as it is. Raises RouterError."""

    def settle(self, router: Router) -> None:
        """Make the router as it is wanted, or change only what is not so: packets under way and connections do not
        notice when nothing changed. Going up, it announces its addresses. Raises RouterError."""

    def remove(self, network: str) -> None:
        """Remove the router and all that belongs to it; nothing happens if there is none. Raises RouterError."""

    def hold(self, networks: Collection[str], seconds: float) -> None:
        """Let frames pass through the legs of these routers for that time, and of no others. The kernel counts the
        time: if nobody asks again, because the daemon or its session died, the router falls silent by itself before
        another node may take over. Raises RouterError."""

    def close(self) -> None:
        """Give back what is held; every router stays as it is."""
