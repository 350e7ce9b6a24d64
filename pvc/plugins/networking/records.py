"""The records of networks and of the MAC addresses on them, and how they are read."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeVar

from pvc.core import keys as core
from pvc.core.coordination import Coordinator
from pvc.core.mirror import Mirror
from pvc.core.model import Node
from pvc.core.records import Garbage, decode
from pvc.plugins.networking import keys

T = TypeVar("T")


class NetworkKind(Enum):
    """What carries the frames of a network from node to node."""

    BRIDGED = "bridged"
    """The network that a device of each node is plugged into, or a VLAN of it: pvc only bridges VMs to it."""
    MANAGED = "managed"
    """A network of the cluster's own: VXLAN tunnels between the nodes' addresses."""


@dataclass(frozen=True, slots=True)
class Upstream:
    """How the gateway of a managed network reaches what is outside the cluster."""

    network: str
    """A bridged network, which leads there."""
    ipv4: str | None = None
    """The gateway's own address there, with the length of the prefix, as 192.0.2.10/24. It moves with the gateway."""
    ipv4_gateway: str | None = None
    ipv6: str | None = None
    ipv6_gateway: str | None = None
    nat: bool = False
    """Packets leave with the gateway's own address; else the routers there must know the way to the subnets."""


@dataclass(frozen=True, slots=True)
class Network:
    """What is wanted of a network."""

    name: str
    kind: NetworkKind
    device: str = ""
    """BRIDGED: the device of each node that carries it."""
    vlan: int | None = None
    """BRIDGED: the VLAN of the device; None: its untagged frames."""
    vni: int | None = None
    """MANAGED: the VXLAN network identifier, its own in the cluster."""
    mtu: int | None = None
    """Bytes of the largest packet; None: what the device, or the way to the other nodes, lets through."""
    ipv4: str | None = None
    """MANAGED: the IPv4 subnet of the VMs on it."""
    ipv4_gateway: str | None = None
    ipv6: str | None = None
    ipv6_gateway: str | None = None
    dhcp: bool = True
    """With a gateway: it gives the VMs their addresses."""
    dhcp_range: tuple[str, str] | None = None
    """First and last IPv4 address for VMs that have no reservation; None: the whole subnet but the gateway."""
    domain: str | None = None
    """Of the VMs' names; None: `<name>.internal`."""
    dns: tuple[str, ...] = ()
    """Name servers that the gateway asks for names outside the cluster; none: it knows the cluster's alone."""
    upstream: Upstream | None = None


@dataclass(frozen=True, slots=True)
class Ports:
    """The MAC addresses of one network that are on one node."""

    macs: Mapping[str, int] = field(default_factory=dict)
    """Each with its turn, one more than that of any other node that claimed it: after a move both nodes may claim it
    for a moment, or for long if the daemon of one is dead, and the higher turn is right. No clock is asked."""
    names: Mapping[str, str] = field(default_factory=dict)
    """The VM that each belongs to."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """What VMs of a network have sent and received on one node, as the VMs see it."""

    received_bytes: int = 0
    received_packets: int = 0
    sent_bytes: int = 0
    sent_packets: int = 0


@dataclass(frozen=True, slots=True)
class Lease:
    """The addresses that belong to one MAC address of a managed network, until they are released."""

    mac: str
    name: str = ""
    """The VM that had this MAC address last, or for which it was reserved."""
    ipv4: str | None = None
    ipv6: str | None = None
    reserved: bool = False
    """An administrator chose it: it is never given to anybody else."""
    since: float = 0.0
    """Seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """Where the gateway of a managed network is. The ephemeral ticket below it is the right to be it."""

    node: str | None = None
    """The holder, or the last one."""
    since: float = 0.0
    """Seconds since the epoch."""
    next: str | None = None
    """Who has been asked to make everything ready and take over."""
    home: str | None = None
    """Where an unflush brings it back to."""
    patience: float = 0.0
    """Seconds that others leave it alone after the holder's ticket is gone: its daemon ended in order, its router goes
    on for less than that, and the daemon may come back."""


@dataclass(frozen=True, slots=True)
class Ready:
    """Who has made a gateway's router ready, in order to take it over."""

    node: str


def read_networks(source: Coordinator | Mirror) -> dict[str, Network | None]:
    """All networks by name; None for one whose record cannot be read. Raises Disconnected."""
    names = source.children(keys.NETWORKS) or ()
    if isinstance(source, Mirror):
        source.prefetch(keys.network(name) for name in names)
    found: dict[str, Network | None] = {}
    for name in names:
        znode = source.get(keys.network(name))
        if znode is not None:
            found[name] = decoded(Network, znode.data, keys.network(name))
    return found


def read_nodes(source: Mirror) -> dict[str, Node]:
    """All nodes by name, but those whose record cannot be read. Raises Disconnected."""
    names = source.children(core.NODES) or ()
    source.prefetch(core.node(name) for name in names)
    found = {}
    for name in names:
        znode = source.get(core.node(name))
        node = None if znode is None else decoded(Node, znode.data, core.node(name))
        if node is not None:
            found[name] = node
    return found


def read_ports(source: Coordinator | Mirror, network: str) -> dict[str, Ports]:
    """The MAC addresses on a network by node; none of a node whose record cannot be read. Raises Disconnected."""
    nodes = source.children(keys.ports(network)) or ()
    if isinstance(source, Mirror):
        source.prefetch(keys.node_ports(network, node) for node in nodes)
    found: dict[str, Ports] = {}
    for node in nodes:
        path = keys.node_ports(network, node)
        znode = source.get(path)
        ports = None if znode is None else decoded(Ports, znode.data, path)
        if ports is not None:
            found[node] = ports
    return found


def unread_ports(source: Coordinator | Mirror, network: str, read: Collection[str]) -> list[str]:
    """The nodes with a record of the MAC addresses on a network that are not among `read`. Raises Disconnected."""
    nodes = [node for node in source.children(keys.ports(network)) or () if node not in read]
    return [node for node in nodes if source.get(keys.node_ports(network, node)) is not None]


def read_traffic(coordinator: Coordinator, network: str) -> dict[str, Traffic]:
    """What VMs of a network have sent and received, by node. Raises Disconnected."""
    nodes = coordinator.children(keys.traffic(network)) or ()
    paths = [keys.node_traffic(network, node) for node in nodes]
    found = zip(nodes, paths, coordinator.get_many(paths), strict=True)
    read = {node: decoded(Traffic, znode.data, path) for node, path, znode in found if znode is not None}
    return {node: traffic for node, traffic in read.items() if traffic is not None}


def decoded(kind: type[T], data: bytes, path: str) -> T | None:
    """The record; None if it cannot be read."""
    try:
        return decode(kind, data, path)
    except Garbage:
        return None
