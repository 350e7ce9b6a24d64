"""The VM itself, its ports, and who says that it has its MAC addresses."""

from collections.abc import Iterator

from pvc.core.model import ActualState
from pvc.plugins.networking.decide.dataplane import bridge_of
from pvc.plugins.networking.trace.decide.case import Case, End, Hop, Result, Step
from pvc.plugins.networking.trace.records import PortSeen

RUNS = (ActualState.RUNNING, ActualState.MIGRATING, ActualState.STOPPING)
PUT_RIGHT = "pvcd there puts it right within 15 s; if it does not, look at its log"


def whereabouts(case: Case, end: End) -> Iterator[Step]:
    """Whether the VM runs, and whether its node can be asked."""
    actual, name = end.actual, end.vm.name
    node = actual.node or ""
    if actual.state not in RUNS or not node:
        why = f": {actual.reason}" if actual.reason else ""
        advice = f"`pvc vm info {name}` says more; `pvc vm start {name}` starts it"
        yield Step("vm", Result.BROKEN, f"it does not run, it is {actual.state.value}{why}", advice, name, node=node)
        return
    if node not in case.nodes:
        seen = f"it runs on {node}, which has not the role networking"
        yield Step("vm", Result.BROKEN, seen, f"move it: `pvc vm move {name}`", name, node=node)
        return
    moving = actual.state is ActualState.MIGRATING
    seen = f"it runs on {node}" + (f" and is moving to {actual.target}; look again afterwards" if moving else "")
    yield Step("vm", Result.OK, seen, "", name, node=node)
    answer = case.answers.get(node, "")
    if isinstance(answer, str):
        yield Step("answer", Result.BROKEN, answer, "what only this node can see is not known", name, node=node)


def interfaces(case: Case, end: End) -> Iterator[Step]:
    """Whether the running VM has the interfaces that its definition names, network by network."""
    node = end.actual.node or ""
    answer = case.answer(node)
    if answer is None:
        return
    live = [(port.network, port.mac) for port in answer.ports if port.uuid == end.vm.uuid]
    defined = [(one.network, one.mac) for one in end.interfaces]
    for network in sorted({name for name, _ in (*live, *defined)}):
        has = sorted(mac for name, mac in live if name == network)
        wants = sorted(mac for name, mac in defined if name == network)
        chosen = [mac for mac in wants if mac]
        told = ", ".join(has) or "none"
        name = end.vm.name
        if len(has) == len(wants) and set(chosen) <= set(has):
            yield Step("interface", Result.OK, told, "", name, network, node)
        else:
            seen = f"running with {told}, defined with {', '.join(mac or 'any' for mac in wants) or 'none'}"
            advice = f"a start takes the definition: `pvc vm restart {name}`"
            yield Step("interface", Result.BROKEN, seen, advice, name, network, node)


def ports(hop: Hop) -> Iterator[Step]:
    """Whether each of the VM's ports is where it should be."""
    for port in hop.ports():
        yield _port(hop, port)


def claims(hop: Hop) -> Iterator[Step]:
    """Whether the cluster knows that each MAC address is on this node, and nobody else has it."""
    for mac in hop.macs():
        yield _claim(hop, mac)
        yield from _doubles(hop, mac)


def _port(hop: Hop, port: PortSeen) -> Step:
    bridge, link, device = bridge_of(hop.network), port.link, port.device
    if not device:
        return hop.unknown("port", f"libvirt does not say which device {port.mac} has", "look at `virsh domiflist`")
    if link is None:
        return hop.broken("port", f"there is no device {device}, which {port.mac} is to have", "restart the VM")
    if link.master != bridge:
        where = f"in bridge {link.master}" if link.master else "in no bridge"
        return hop.broken(
            "port", f"{device} is {where} instead of {bridge}", f"`ip link set {device} master {bridge}` on {hop.node}"
        )
    if not link.up:
        return hop.broken("port", f"{device} is down", f"`ip link set {device} up` on {hop.node}")
    if link.mtu > hop.state.mtu > 0:
        return hop.broken(
            "port",
            f"{device} has an MTU of {link.mtu}, the network lets {hop.state.mtu} through",
            "restart the VM: it keeps the MTU that it was started with",
        )
    return hop.ok("port", f"{device} in {bridge}, MTU {link.mtu}{_counted(port)}")


def _counted(port: PortSeen) -> str:
    if port.traffic is None:
        return ""
    return f"; the VM has sent {port.traffic.sent_packets} packets and got {port.traffic.received_packets}"


def _claim(hop: Hop, mac: str) -> Step:
    turns = {node: of.macs[mac] for node, of in hop.case.ports.get(hop.network, {}).items() if mac in of.macs}
    if hop.node not in turns:
        instead = f", {' and '.join(sorted(turns))} has" if turns else ""
        return hop.broken("published", f"{hop.node} has not published {mac}{instead}", PUT_RIGHT)
    winner = max(sorted(turns), key=lambda node: turns[node])
    others = sorted(turns.keys() - {hop.node})
    if winner != hop.node:
        seen = f"{winner} has published {mac} later than {hop.node}, and gets its frames"
        return hop.broken("published", seen, f"no other VM may have {mac}; if none has, restart pvcd on {winner}")
    if not others:
        return hop.ok("published", f"{mac} is on {hop.node}")
    seen = f"{mac} is published by {' and '.join(others)} too, earlier"
    if any(hop.case.answer(node) is not None for node in others):
        return hop.broken("published", seen, f"no other VM may have {mac}; `pvc vm list --node` tells who is there")
    return hop.ok("published", f"{seen}: the later one counts")


def _doubles(hop: Hop, mac: str) -> Iterator[Step]:
    for node in sorted(hop.case.answers):
        answer = hop.case.answer(node)
        for port in () if answer is None else answer.ports:
            if (port.network, port.mac) == (hop.network, mac) and port.uuid != hop.end.vm.uuid:
                advice = f"give one of the two VMs another MAC address, and restart it: {port.vm}, {hop.end.vm.name}"
                yield hop.broken("duplicate", f"{port.vm} has the MAC address {mac} as well", advice, node)
