"""From the networks that are wanted and the devices that there are: what to change, in order, and what cannot be.

Level-triggered: the same question is asked until the answer is nothing. Only devices that bear pvc's mark are changed,
save that the device of a bridged network is plugged into its bridge; a bridge with VMs on it is never removed.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address

from pvc.plugins.networking.dataplane import (
    FLOOD,
    AddBridge,
    AddTunnel,
    AddVlan,
    Change,
    Entry,
    Forward,
    Link,
    Mute,
    Plug,
    Raise,
    Remove,
    Resize,
    Seen,
    StopLearning,
    Withdraw,
)
from pvc.plugins.networking.decide.networks import OURS
from pvc.plugins.networking.records import Network, NetworkKind

BRIDGE, TUNNEL, VLAN = OURS
OVERHEAD = {4: 50, 6: 70}
"""Bytes that VXLAN adds to a packet, by version of IP on the way: IP, UDP, VXLAN and Ethernet header."""


@dataclass(frozen=True, slots=True)
class View:
    """What one decision is made from."""

    networks: Mapping[str, Network | None]
    """None: its record cannot be read, so its devices are left alone."""
    seen: Seen
    address: str = ""
    """This node's, which its tunnels send from; empty or a name: there are no tunnels."""
    peers: Mapping[str, str] = field(default_factory=dict)
    """The addresses of the other nodes with the role, whether they answer or not, by name."""
    elsewhere: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """By network, of the MAC addresses on other nodes, the name of the node."""
    told: bool = True
    """pvc tells the tunnels what goes where; else FRR does, and their entries are left alone."""
    unfit: str = ""
    """Why no managed network can be used on this node, though its devices can be made; empty: they can."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The answer."""

    changes: Mapping[str, tuple[Change, ...]]
    """By network, in the order in which they are to be made; nothing where all is as it should be."""
    problems: Mapping[str, str]
    """By network, why it cannot be used on this node."""
    warnings: Mapping[str, str]
    """By network, what is not as it should be though it can be used."""
    mtus: Mapping[str, int]
    """By network that can be used, the MTU of the VMs on it."""


class Impossible(Exception):
    """A network cannot be used; the text says why."""


def bridge_of(network: str) -> str:
    """The bridge that VMs on a network are plugged into, the same on every node."""
    return f"{BRIDGE}{network}"


def network_of(bridge: str) -> str | None:
    """The network whose bridge that is; None: of none."""
    return bridge.removeprefix(BRIDGE) if bridge.startswith(BRIDGE) else None


def plan(view: View) -> Plan:
    """What to do on this node."""
    changes: dict[str, tuple[Change, ...]] = {}
    problems: dict[str, str] = {}
    warnings: dict[str, str] = {}
    mtus: dict[str, int] = {}
    for name, steps, kept in _leftovers(view):  # first: a new network may have the VNI of one that is gone
        changes[name] = steps
        if kept:
            problems[name] = kept
    for name, network in sorted(view.networks.items()):
        try:
            if network is None:
                raise Impossible("its record cannot be read; repair it, or remove the network and add it anew")
            mtus[name] = _mtu(network, view)
            changes[name] = tuple(_build(network, mtus[name], view))
            if view.unfit and network.kind is NetworkKind.MANAGED:
                raise Impossible(view.unfit)
        except Impossible as why:
            problems[name] = str(why)
            mtus.pop(name, None)
        if name not in problems and (warning := _warning(view)) and network and network.kind is NetworkKind.MANAGED:
            warnings[name] = warning
    return Plan({name: steps for name, steps in changes.items() if steps}, problems, warnings, mtus)


def _build(network: Network, mtu: int, view: View) -> Iterator[Change]:
    bridge, links = bridge_of(network.name), view.seen.links
    found = _ours(bridge, "bridge", links)
    if found is None:
        yield AddBridge(bridge)
        found = Link(bridge, "bridge", owned=True, speaks_ipv6=True)
    if found.speaks_ipv6:
        yield Mute(bridge)
    if network.kind is NetworkKind.MANAGED:
        yield from _tunnel(network, bridge, mtu, view)
    else:
        yield from _uplink(network, bridge, mtu, links)
    if found.mtu != mtu:
        yield Resize(bridge, mtu)
    if not found.up:
        yield Raise(bridge)


def _tunnel(network: Network, bridge: str, mtu: int, view: View) -> Iterator[Change]:
    name = f"{TUNNEL}{network.name}"
    vni = network.vni or 0
    found = _ours(name, "vxlan", view.seen.links)
    _demand_free(vni, name, view.seen.links)
    if found is not None and (found.vni, found.local) != (vni, view.address):  # of an earlier address of this node
        yield Remove(name)
        found = None
    entries = view.seen.forwarding.get(name, frozenset()) if found else frozenset()
    if found is None:
        yield AddTunnel(name, vni, view.address)
        found = Link(name, "vxlan", owned=True, mtu=-1, speaks_ipv6=True)
    if found.speaks_ipv6:
        yield Mute(name)
    if found.mtu != mtu:
        yield Resize(name, mtu)
    if found.master != bridge:
        yield Plug(name, bridge)
    if found.learns or found.master != bridge:
        yield StopLearning(name)
    if view.told:
        yield from _forwarding(name, entries, _wanted(network.name, view))
    if not found.up:
        yield Raise(name)


def _forwarding(name: str, has: frozenset[Entry], wants: frozenset[Entry]) -> Iterator[Change]:
    """A MAC address that has moved is overwritten, never without an entry in between."""
    kept = {entry.mac for entry in wants if entry.mac != FLOOD}
    for entry in sorted(wants - has, key=_order):
        yield Forward(name, entry)
    for entry in sorted(has - wants, key=_order):
        if entry.mac not in kept:
            yield Withdraw(name, entry)


def _wanted(network: str, view: View) -> frozenset[Entry]:
    usable = {node: address for node, address in view.peers.items() if _reachable(address, view.address)}
    flood = {Entry(FLOOD, address) for address in usable.values()}
    known = view.elsewhere.get(network, {})
    return frozenset(flood | {Entry(mac, usable[node]) for mac, node in known.items() if node in usable})


def _uplink(network: Network, bridge: str, mtu: int, links: Mapping[str, Link]) -> Iterator[Change]:
    carrier = links[network.device]
    port, found = carrier.name, carrier
    if network.vlan is not None:
        port = f"{VLAN}{network.name}"
        present = _ours(port, "vlan", links)
        if present is not None and (present.parent, present.vlan) != (network.device, network.vlan):
            yield Remove(port)
            present = None
        if present is None:
            yield AddVlan(port, network.device, network.vlan)
            present = Link(port, "vlan", owned=True, mtu=-1, speaks_ipv6=True)
        if present.speaks_ipv6:
            yield Mute(port)
        if present.mtu != mtu:
            yield Resize(port, mtu)
        if not carrier.up:
            yield Raise(carrier.name)
        found = present
    if found.master != bridge:
        yield Plug(port, bridge)
    if not found.up:
        yield Raise(port)


def _mtu(network: Network, view: View) -> int:
    """Raises Impossible."""
    room, way = _room(network, view)
    if network.mtu is not None and network.mtu > room:
        raise Impossible(
            f"its MTU is {network.mtu}, and {way} lets {room} through; raise that, or use "
            f"`pvc network modify {network.name} --mtu {room}`"
        )
    return network.mtu or room


def _room(network: Network, view: View) -> tuple[int, str]:
    """Bytes that the way out of the node lets through, and what that way is. Raises Impossible."""
    if network.kind is NetworkKind.BRIDGED:
        carrier = _carrier(network, view.seen.links)
        return carrier.mtu, f"device {carrier.name}"
    if not _version(view.address):
        raise Impossible("this node has no IP address of its own in its configuration; set `address` in pvc.yaml")
    under = [link for link in view.seen.links.values() if view.address in link.addresses]
    if not under:
        raise Impossible(f"no device of this node has its address {view.address}; correct `address` in pvc.yaml")
    return under[0].mtu - OVERHEAD[_version(view.address)], f"device {under[0].name}, less the tunnel's own bytes,"


def _carrier(network: Network, links: Mapping[str, Link]) -> Link:
    """Raises Impossible unless the device can be plugged into a bridge without cutting anything off."""
    carrier = links.get(network.device)
    if carrier is None:
        raise Impossible(f"this node has no device {network.device}")
    if network.vlan is None and carrier.addresses:
        raise Impossible(
            f"device {carrier.name} has the node's own address {carrier.addresses[0]}, and would be cut off in a "
            "bridge; use a device without one, or a VLAN of it"
        )
    if network.vlan is None and carrier.master not in ("", bridge_of(network.name)):
        raise Impossible(f"device {carrier.name} is a port of {carrier.master}; take it out there")
    return carrier


def _ours(name: str, kind: str, links: Mapping[str, Link]) -> Link | None:
    """The device of that name if it is pvc's; None if there is none. Raises Impossible if it is somebody else's."""
    found = links.get(name)
    if found is not None and (not found.owned or found.kind != kind):
        raise Impossible(f"device {name} exists and was not made by pvc; rename or remove it")
    return found


def _demand_free(vni: int, name: str, links: Mapping[str, Link]) -> None:
    for link in links.values():
        if link.vni == vni and link.name != name and not link.owned:
            raise Impossible(f"device {link.name}, which is not pvc's, uses VNI {vni}; remove it or change its VNI")


def _warning(view: View) -> str:
    unusable = [name for name, address in sorted(view.peers.items()) if not _reachable(address, view.address)]
    if not unusable:
        return ""
    return (
        f"no tunnel leads to {', '.join(unusable)}: set `address` in pvc.yaml there to an IP address like this node's"
    )


def _leftovers(view: View) -> Iterator[tuple[str, tuple[Change, ...], str]]:
    """What is pvc's and belongs to no network any more: by former network, what to do, and what keeps it."""
    links = view.seen.links
    ours = sorted(link.name for link in links.values() if link.owned and link.name.startswith(OURS))
    gone = {name[len(BRIDGE) :]: None for name in ours if name[len(BRIDGE) :] not in view.networks}
    for network in gone:
        bridge, parts = bridge_of(network), [f"{TUNNEL}{network}", f"{VLAN}{network}"]
        plugged = [link.name for link in links.values() if link.master == bridge and _may_be_a_vm(link)]
        if plugged:
            yield network, (), f"it was removed, but {', '.join(plugged)} is plugged into {bridge}; restart that VM"
            continue
        yield network, tuple(Remove(name) for name in (*parts, bridge) if name in ours), ""


def _may_be_a_vm(port: Link) -> bool:
    """Whether a VM may be behind a port of a bridge, rather than the device that carried the network."""
    return port.kind in ("tun", "veth", "macvtap")


def _reachable(address: str, own: str) -> bool:
    return _version(address) != 0 and _version(address) == _version(own)


def _version(address: str) -> int:
    """Of IP; 0: it is no address."""
    try:
        return ip_address(address).version
    except ValueError:
        return 0


def _order(entry: Entry) -> tuple[bool, str, str]:
    return entry.mac != FLOOD, entry.mac, entry.address
