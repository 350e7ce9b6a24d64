"""What carries frames from node to node: the network's devices, and where each node sends frames for the VM."""

from collections.abc import Iterator
from ipaddress import ip_address

from pvc.core.model import Node
from pvc.plugins.networking.dataplane import FLOOD, Link
from pvc.plugins.networking.decide.dataplane import bridge_of
from pvc.plugins.networking.records import Ports
from pvc.plugins.networking.trace.decide.case import Hop, Step
from pvc.plugins.networking.trace.decide.ends import PUT_RIGHT
from pvc.plugins.networking.trace.records import NetworkSeen


def network(hop: Hop) -> Step:
    """Whether the node offers the network."""
    states = hop.case.states.get(hop.node, {})
    if hop.record is None:
        return hop.broken("network", "it does not exist, or its record cannot be read", "`pvc network list` shows all")
    if hop.network not in states:
        return hop.broken("network", "the node has not set it up yet", "look at the log of pvcd there")
    if hop.state.problem:
        return hop.broken("network", hop.state.problem, f"`pvc network info {hop.network}` shows it on each node")
    return hop.ok("network", f"up, MTU {hop.state.mtu}" + (f"; {hop.state.warning}" if hop.state.warning else ""))


def devices(hop: Hop) -> Iterator[Step]:
    """The network's bridge, and what leads out of the node."""
    seen = hop.seen
    if seen is None or hop.record is None:
        return
    bridge = bridge_of(hop.network)
    why = _why_not(seen.bridge, hop.state.mtu)
    yield hop.broken("bridge", f"{bridge} {why}", PUT_RIGHT) if why else hop.ok("bridge", f"{bridge} is up")
    what = "tunnel" if hop.case.is_managed(hop.network) else "uplink"
    link = seen.carrier
    why = _why_not(link, hop.state.mtu) or _carries_otherwise(hop, link)
    if why:
        yield hop.broken(what, f"{link.name if link else 'the device'} {why}", PUT_RIGHT)
    elif link is not None:
        far = f"VNI {link.vni} from {link.local}" if link.vni is not None else "is up"
        yield hop.ok(what, f"{link.name}, {far}" if link.vni is not None else f"{link.name} {far}")


def forwarding(hop: Hop) -> Iterator[Step]:
    """Where the others send frames for the VM, and whether this node sends frames for all to everybody."""
    if not hop.case.is_managed(hop.network):
        return
    if hop.seen is not None:
        yield _flooding(hop, hop.seen)
    for mac in hop.macs():
        fine = []
        for peer in hop.peers():
            step = _from_peer(hop, peer, mac)
            if step is None:
                fine.append(peer)
            else:
                yield step
        if fine:
            where = hop.case.nodes[hop.node].address
            yield hop.ok("forwarding", f"{', '.join(fine)} {_sends(fine)} {mac} to {where}", node=", ".join(fine))


def mtu(hop: Hop) -> Iterator[Step]:
    """Whether frames that this node lets through pass on the others too."""
    known = {node: states[hop.network].mtu for node, states in hop.case.states.items() if hop.network in states}
    others = {node: known[node] for node in hop.peers() if known.get(node)}
    different = {node: size for node, size in others.items() if size != hop.state.mtu}
    if not hop.state.mtu or not others:
        return
    if different:
        told = ", ".join(f"{size} on {node}" for node, size in different.items())
        least = min(hop.state.mtu, *different.values())
        seen = f"{hop.state.mtu} on {hop.node}, {told}: larger packets vanish"
        yield hop.broken("mtu", seen, f"`pvc network modify {hop.network} --mtu {least}`, and restart its VMs")
    else:
        yield hop.ok("mtu", f"{hop.state.mtu} on {', '.join([hop.node, *others])}")


def _from_peer(hop: Hop, peer: str, mac: str) -> Step | None:
    """What is wrong with the way from that node to the VM; None: nothing."""
    answer = hop.case.answers.get(peer, "it was not asked")
    state = hop.case.states.get(peer, {}).get(hop.network)
    if isinstance(answer, str):
        return hop.unknown("forwarding", answer, f"what {peer} sends for {mac} is not known", peer)
    if state is None or state.problem:
        why = "the network is not set up there" if state is None else state.problem
        return hop.unknown("forwarding", why, f"no VM of {peer} is on this network", peer)
    seen = answer.networks.get(hop.network, NetworkSeen())
    address = hop.case.nodes[hop.node].address
    entries = {entry.address for entry in seen.forwarding if entry.mac == mac}
    flooded = {entry.address for entry in seen.forwarding if entry.mac == FLOOD}
    if wrong := sorted(entries - {address}):
        return hop.broken("forwarding", f"sends {mac} to {_who(hop, wrong[0])}, not to {address}", PUT_RIGHT, peer)
    if not entries and address not in flooded:
        return hop.broken("forwarding", f"has no entry for {mac}, and sends nothing to {address}", PUT_RIGHT, peer)
    if not entries and hop.case.ports.get(hop.network, {}).get(peer, Ports()).macs:
        seen_there = f"has no entry for {mac}: frames for it go to all nodes"
        return hop.broken("forwarding", seen_there, PUT_RIGHT, peer)
    return None


def _flooding(hop: Hop, seen: NetworkSeen) -> Step:
    own = hop.case.nodes[hop.node]
    flooded = {entry.address for entry in seen.forwarding if entry.mac == FLOOD}
    others = [node for node in hop.case.nodes.values() if node.name != own.name and _reaches(own, node)]
    missing = sorted(node.name for node in others if node.address not in flooded)
    if missing:
        return hop.broken("flooding", f"frames for all do not go to {', '.join(missing)}", PUT_RIGHT)
    return hop.ok("flooding", f"frames for all go to {len(others)} other node{'' if len(others) == 1 else 's'}")


def _who(hop: Hop, address: str) -> str:
    names = [node.name for node in hop.case.nodes.values() if node.address == address]
    return f"{address} ({names[0]})" if names else address


def _sends(nodes: list[str]) -> str:
    return "sends" if len(nodes) == 1 else "send"


def _why_not(link: Link | None, size: int) -> str:
    if link is None:
        return "does not exist"
    if not link.up:
        return "is down"
    return f"has an MTU of {link.mtu} instead of {size}" if 0 < link.mtu < size else ""


def _carries_otherwise(hop: Hop, link: Link | None) -> str:
    """What is wrong with how a device that is up leads out of the node; empty: nothing."""
    if link is None or hop.record is None:
        return ""
    if link.master != bridge_of(hop.network):
        return f"is in bridge {link.master}" if link.master else "is in no bridge"
    if not hop.case.is_managed(hop.network):
        return ""
    if link.vni != hop.record.vni:
        return f"has VNI {link.vni} instead of {hop.record.vni}"
    address = hop.case.nodes[hop.node].address
    return f"sends from {link.local} instead of {address}" if link.local != address else ""


def _reaches(one: Node, other: Node) -> bool:
    try:
        return ip_address(one.address).version == ip_address(other.address).version
    except ValueError:
        return False
