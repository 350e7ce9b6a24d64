"""The question to a node and its answer: what the node sees of some networks, MAC addresses and VMs. Values only."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pvc.plugins.networking.dataplane import Entry, Link
from pvc.plugins.networking.firewall.packetfilter import Count
from pvc.plugins.networking.gateway.routers import RouterState
from pvc.plugins.networking.records import Traffic


@dataclass(frozen=True, slots=True)
class PortSeen:
    """One interface of a VM that runs on the node."""

    uuid: str
    vm: str
    network: str
    mac: str
    device: str = ""
    """By the live definition; empty: it does not say."""
    link: Link | None = None
    """The device as it is; None: there is none of that name."""
    traffic: Traffic | None = None


@dataclass(frozen=True, slots=True)
class NetworkSeen:
    """What the node has of one network."""

    bridge: Link | None = None
    carrier: Link | None = None
    """What leads out of the node: the tunnel, the VLAN, or the device itself."""
    forwarding: tuple[Entry, ...] = ()
    """Of the tunnel, for frames to all and to the MAC addresses that were asked for."""
    refusal: str | None = None
    """Why the rules are not in force; empty: they are; None: not known."""
    counts: Mapping[str, Count] | None = None
    """Of the network's rules, by `<network> <direction> <number>`; None: not known."""
    routers_known: bool = False
    router: RouterState | None = None
    """None, if routers are known: the node has none for the network."""
    hosts: tuple[str, ...] | None = None
    """Those of the MAC addresses that the router's DHCP knows; None: not known."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a node sees, at one moment."""

    ports: tuple[PortSeen, ...] = ()
    """All of the VMs that were asked for, and whatever else has one of the MAC addresses."""
    networks: Mapping[str, NetworkSeen] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Inquiry:
    """What is asked of a node, and what it answers."""

    id: str
    vms: tuple[str, ...] = ()
    """UUIDs."""
    macs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The networks, each with the MAC addresses that matter."""
    answer: Answer | None = None
    error: str = ""
    """Why there is no answer."""

    @property
    def open(self) -> bool:
        """Whether it waits for its answer."""
        return self.answer is None and not self.error
