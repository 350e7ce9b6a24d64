"""What stands around a network: its firewall, its gateway, and the addresses of its VMs."""

from collections.abc import Iterator
from ipaddress import ip_network

from pvc.core.commands import when
from pvc.plugins.networking.firewall.decide.ruleset import keeps_out, rule_name
from pvc.plugins.networking.firewall.rules import Acl, Action, Direction
from pvc.plugins.networking.records import Gateway, Network
from pvc.plugins.networking.trace.decide.case import Address, Case, End, Hop, Probe, Step, addresses_of
from pvc.plugins.networking.trace.decide.ends import PUT_RIGHT
from pvc.plugins.networking.trace.decide.passage import Packet, fate
from pvc.plugins.networking.trace.records import NetworkSeen


def firewall(hop: Hop) -> Iterator[Step]:
    """Whether the network's rules are in force for the VM, and what they have stopped."""
    acl, seen = hop.case.acls.get(hop.network), hop.seen
    if hop.record is None:
        return
    if acl is None:
        yield hop.broken("firewall", "the record of its rules cannot be read", "repair it with zkCli.sh, or delete it")
    elif seen is not None and seen.refusal:
        yield hop.broken("firewall", f"the rules are not in force: {seen.refusal}", "look at the findings of the node")
    elif not keeps_out(acl):
        yield hop.ok("firewall", "there are no rules that keep anything out")
    elif seen is None or seen.counts is None:
        yield hop.unknown("firewall", f"{_defaults(acl)}; whether the rules are in force is not known")
    elif not seen.counts:
        yield hop.broken("firewall", f"{_defaults(acl)}; the rules are not in force", PUT_RIGHT)
    else:
        yield hop.ok("firewall", f"{_defaults(acl)}; {_stopped(hop.network, acl, seen)}")


def gateway(hop: Hop) -> Iterator[Step]:
    """Whether the network's gateway is somewhere, works, and is reached from the VM's node."""
    if hop.record is None or not (hop.record.ipv4_gateway or hop.record.ipv6_gateway):
        return
    found = hop.case.gateways.get(hop.network)
    if found is None or found.node is None:
        yield hop.broken("gateway", "no node has it", "a node with the role takes it if it can; look at their findings")
        return
    node = found.node
    since = f"{node} has it since {when(found.since)}"
    if hop.network not in hop.case.tickets:
        yield hop.broken("gateway", f"{node} had it, and nobody has it now", "another takes it soon; look again", node)
        return
    yield _router(hop, found, since)
    yield from _way_to_gateway(hop, found)


def lease(hop: Hop) -> Iterator[Step]:
    """Which addresses belong to the VM, and whether DHCP gives it those."""
    record = hop.record
    if record is None or not record.dhcp or not (record.ipv4_gateway or record.ipv6_gateway):
        return
    found = hop.case.gateways.get(hop.network, Gateway())
    seen = hop.case.seen(found.node, hop.network)
    for mac in hop.macs():
        known = hop.case.leases.get(hop.network, {}).get(mac)
        if known is None:
            advice = f"{found.node or 'the gateway'} gives it one while the VM runs; look at the log of pvcd there"
            yield hop.broken("lease", f"no address belongs to {mac}", advice)
            continue
        told = f"{mac} has {' and '.join(map(str, addresses_of(known)))}" + (", reserved" if known.reserved else "")
        if found.node is None:  # which is told already
            yield hop.ok("lease", told)
        elif seen is None or seen.hosts is None:
            yield hop.unknown("lease", f"{told}; whether DHCP knows that is not known", node=found.node)
        elif mac not in seen.hosts:
            yield hop.broken("lease", f"{told}, and DHCP of {found.node} does not know it", PUT_RIGHT, found.node)
        else:
            yield hop.ok("lease", f"{told}, and DHCP knows it", found.node)


def passage(case: Case, probe: Probe) -> Iterator[Step]:
    """Whether the rules let a packet go from the VM to where the way leads."""
    source = case.ends[0]
    other = case.opposite(source)
    if other is None and case.address is None:
        return
    pairs = _pairs(case, source, other)
    if not pairs:
        return
    first, second = pairs
    destination = case.address or _address_of(case, other, second, 4)
    version = destination.version if destination is not None else 4
    own = _address_of(case, source, first, version)
    packet = Packet(probe.protocol, own, destination, probe.port)
    yield _passes(case, source, first, Direction.OUT, packet)
    if other is not None and second:
        yield _passes(case, other, second, Direction.IN, packet)


def needs_gateways(case: Case) -> bool:
    """Whether the way leads from one network to another, or out of the cluster."""
    if case.opposite(case.ends[0]) is None:
        return case.address is not None and not any(_holds(one, case.address) for one in case.networks.values())
    return _shared(case) is None


def _router(hop: Hop, found: Gateway, since: str) -> Step:
    node = found.node or ""
    seen = hop.case.seen(node, hop.network)
    if seen is None or not seen.routers_known:
        why = hop.case.answers.get(node)
        return hop.unknown(
            "gateway", f"{since}; its router is not known" + (f": {why}" if isinstance(why, str) else "")
        )
    if seen.router is None:
        return hop.broken("gateway", f"{since}, and there is no router there", PUT_RIGHT, node)
    if seen.router.problem:
        return hop.broken("gateway", f"{since}: {seen.router.problem}", "look at the findings of that node", node)
    if not seen.router.active or not seen.router.held:
        what = "is not active" if not seen.router.active else "lets nothing pass"
        return hop.broken("gateway", f"{since}, and its router {what}", "look at the log of pvcd there", node)
    return hop.ok("gateway", f"{since}, and its router is active", node)


def _way_to_gateway(hop: Hop, found: Gateway) -> Iterator[Step]:
    mac, seen = hop.case.gateway_macs.get(hop.network), hop.seen
    holder = hop.case.nodes.get(found.node or "")
    moving = bool(found.next or found.patience)
    if mac is None or seen is None or holder is None or moving or holder.name == hop.node:
        return
    entries = {entry.address for entry in seen.forwarding if entry.mac == mac}
    if entries - {holder.address}:
        wrong = ", ".join(sorted(entries - {holder.address}))
        yield hop.broken("to gateway", f"{mac} is sent to {wrong}, not to {holder.address}", PUT_RIGHT)
    elif not entries:
        yield hop.broken("to gateway", f"there is no entry for {mac}: frames for it go to all nodes", PUT_RIGHT)
    else:
        yield hop.ok("to gateway", f"{mac} is sent to {holder.address} ({holder.name})")


def _passes(case: Case, end: End, network: str, direction: Direction, packet: Packet) -> Step:
    acl = case.acls.get(network)
    hop = Hop(case, end, network, end.actual.node or "")
    what = f"rules {direction.value}"
    probe = _described(packet)
    if acl is None:
        return hop.unknown(what, f"whether {probe} passes is not known: the rules cannot be read")
    decided = fate(acl, direction, packet)
    by = f"rule {decided.number}" if decided.number else "the default"
    if decided.action is None:
        return hop.unknown(
            what, f"whether {probe} passes depends on {by}", "say --protocol and --port, or reserve an address"
        )
    if decided.action is Action.ACCEPT:
        return hop.ok(what, f"{by} lets {probe} pass")
    return hop.broken(what, f"{by} stops {probe}: {decided.action.value}", "change that rule, or put one before it")


def _pairs(case: Case, source: End, other: End | None) -> tuple[str, str] | None:
    """The network that a packet leaves, and the one that it comes to."""
    own = [name for name in case.networks if any(one.network == name for one in source.interfaces)]
    if other is None:
        return (_containing(case, own) or own[0], "") if own else None
    if shared := _shared(case):
        return shared, shared
    theirs = [name for name in case.networks if any(one.network == name for one in other.interfaces)]
    held = [name for name in theirs if _keeps(case, name)]
    return (own[0], (held or theirs)[0]) if own and theirs else None


def _shared(case: Case) -> str | None:
    sets = [{one.network for one in end.interfaces} & case.networks.keys() for end in case.ends]
    shared = sorted(set.intersection(*sets)) if len(sets) > 1 else []
    return shared[0] if shared else None


def _containing(case: Case, names: list[str]) -> str | None:
    return next((name for name in names if _keeps(case, name)), None)


def _holds(network: Network | None, address: Address) -> bool:
    """Whether an address is in the network's subnets."""
    subnets = [] if network is None else [network.ipv4, network.ipv6]
    return any(address in ip_network(subnet) for subnet in subnets if subnet)


def _keeps(case: Case, network: str) -> bool:
    """Whether the address that the way leads to belongs to a VM on that network."""
    return any(case.address in addresses_of(one) for one in case.leases.get(network, {}).values())


def _address_of(case: Case, end: End | None, network: str, version: int) -> Address | None:
    if end is None:
        return None
    leases = case.leases.get(network, {})
    known = [leases[mac] for mac in end.macs.get(network, ()) if mac in leases]
    return next((one for lease in known for one in addresses_of(lease) if one.version == version), None)


def _described(packet: Packet) -> str:
    port = f" to port {packet.port}" if packet.port is not None else ""
    ends = f" from {packet.source or 'an unknown address'} to {packet.destination or 'an unknown address'}"
    return f"{packet.protocol.value}{port}{ends}"


def _defaults(acl: Acl) -> str:
    return ", ".join(f"{way.value} {acl.side(way).default.value} after {_rules(acl, way)}" for way in Direction)


def _rules(acl: Acl, way: Direction) -> str:
    count = len(acl.side(way).rules)
    return f"{count or 'no'} rule{'' if count == 1 else 's'}"


def _stopped(network: str, acl: Acl, seen: NetworkSeen) -> str:
    """How many packets the denials have counted."""
    counts = seen.counts or {}
    found = []
    for way in Direction:
        side = acl.side(way)
        denials = [number for number, rule in enumerate(side.rules, 1) if rule.action is not Action.ACCEPT]
        for number in (*denials, *([0] if side.default is not Action.ACCEPT else [])):
            count = counts.get(rule_name(network, way, number))
            if count is not None and count.packets:
                found.append(f"{count.packets} by {way.value} {number or 'default'}")
    return f"stopped packets on this node: {', '.join(found) or 'none'}"
