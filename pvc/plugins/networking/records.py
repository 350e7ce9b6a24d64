"""The records of networks and of the MAC addresses on them, and how they are read."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeVar

from pvc.core.coordination import Coordinator
from pvc.core.mirror import Mirror
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


@dataclass(frozen=True, slots=True)
class Ports:
    """The MAC addresses of one network that are on one node."""

    macs: Mapping[str, int] = field(default_factory=dict)
    """Each with its turn, one more than that of any other node that claimed it: after a move both nodes may claim it
    for a moment, or for long if the daemon of one is dead, and the higher turn is right. No clock is asked."""


def read_networks(source: Coordinator | Mirror) -> dict[str, Network | None]:
    """All networks by name; None for one whose record cannot be read. Raises Disconnected."""
    names = source.children(keys.NETWORKS) or ()
    if isinstance(source, Mirror):
        source.prefetch(keys.network(name) for name in names)
    found: dict[str, Network | None] = {}
    for name in names:
        znode = source.get(keys.network(name))
        if znode is not None:
            found[name] = _decoded(Network, znode.data, keys.network(name))
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
        ports = None if znode is None else _decoded(Ports, znode.data, path)
        if ports is not None:
            found[node] = ports
    return found


def _decoded(kind: type[T], data: bytes, path: str) -> T | None:
    try:
        return decode(kind, data, path)
    except Garbage:
        return None
