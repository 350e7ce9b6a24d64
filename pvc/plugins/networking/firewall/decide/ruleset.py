"""Renders networks and their rules as the chains of one nftables table of the bridge family.

Only what it has checked or written itself gets into the text. Deterministic: equal networks give equal chains.
"""

import re
from collections.abc import Iterator, Mapping, Sequence

from pvc.core.errors import PvcError
from pvc.plugins.networking.firewall.decide.addresses import Network, NotAnAddress, merged, resolved
from pvc.plugins.networking.firewall.packetfilter import Abilities, Chain, Ruleset
from pvc.plugins.networking.firewall.rules import (
    NAME,
    WITH_PORTS,
    Acl,
    Action,
    Direction,
    PortRange,
    Protocol,
    Rule,
    Side,
)
from pvc.plugins.networking.firewall.wanted import FilteredNetwork, Port, Wanted

FROM_GUESTS, TO_GUESTS = "from-guests", "to-guests"
DEVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,14}")
MAC = re.compile(r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}", re.IGNORECASE)

NEIGHBOURS = ("nd-router-solicit", "nd-router-advert", "nd-neighbor-solicit", "nd-neighbor-advert")
ALWAYS = Chain("always", ("ether type arp accept", *(f"icmpv6 type {kind} accept" for kind in NEIGHBOURS)))
"""What passes whatever the rules say: nobody finds anybody without it."""
DHCP = {
    Direction.OUT: ("udp sport 68 udp dport 67 accept", "udp sport 546 udp dport 547 accept"),
    Direction.IN: ("udp sport 67 udp dport 68 accept", "udp sport 547 udp dport 546 accept"),
}
BEGUN = "tcp flags & (ack | rst) != 0 accept"
"""A TCP segment that can open no connection. With connection tracking too: a VM that has just arrived by a migration
has its connections, and the tracking of this node has not seen them begin."""
LATER_FRAGMENT = {4: "ip frag-off & 0x1fff != 0", 6: "frag frag-off != 0"}


class Unrenderable(PvcError):
    """A network's rules, ports or name are not what they may be."""


def ruleset(wanted: Wanted, abilities: Abilities) -> Ruleset:
    """All chains that do what is wanted; none if that is nothing. Raises Unrenderable."""
    networks = sorted(wanted.networks, key=lambda network: network.name)
    _refuse_shared(networks)
    chains = [chain for network in networks for chain in chains_of(network, abilities)]
    fence = wanted.fenced
    if fence and not DEVICE.fullmatch(fence):
        raise Unrenderable(f"{fence!r} is no beginning of a device's name; use letters, digits, '_', '.' and '-'")
    if not chains and not fence:
        return Ruleset()
    made = {chain.name for chain in chains}
    out = _dispatch(FROM_GUESTS, "iifname", "prerouting", Direction.OUT, networks, made, fence)
    into = _dispatch(TO_GUESTS, "oifname", "postrouting", Direction.IN, networks, made, fence)
    return Ruleset((out, into, ALWAYS, *chains))


def chains_of(network: FilteredNetwork, abilities: Abilities) -> list[Chain]:
    """The chains that one network needs: one for each direction in which something is kept out. Raises Unrenderable."""
    _refuse_names(network)
    chains = []
    for direction in (Direction.IN, Direction.OUT):
        guard = list(_guard(network)) if direction is Direction.OUT else []
        side = network.acl.side(direction)
        if guard or side.default is not Action.ACCEPT or any(rule.action is not Action.ACCEPT for rule in side.rules):
            lines = (*guard, *_filter(network, direction, abilities))
            chains.append(Chain(chain_name(network.name, direction), lines))
    return chains if network.ports else []


def chain_name(network: str, direction: Direction) -> str:
    """The chain of a network's direction."""
    return f"{direction.value}-{network}"


def rule_name(network: str, direction: Direction, number: int) -> str:
    """What the counter of a rule goes by."""
    return f"{network} {direction.value} {number}"


def keeps_out(acl: Acl) -> bool:
    """Whether anything is denied in any direction."""
    sides = (acl.incoming, acl.outgoing)
    return any(side.default is not Action.ACCEPT or _denials(side) for side in sides)


def rejects(acl: Acl) -> bool:
    """Whether any rule tells the sender."""
    return any(rule.action is Action.REJECT for side in (acl.incoming, acl.outgoing) for rule in side.rules)


def _denials(side: Side) -> int:
    return sum(rule.action is not Action.ACCEPT for rule in side.rules)


def _dispatch(
    name: str,
    device: str,
    hook: str,
    direction: Direction,
    networks: Sequence[FilteredNetwork],
    made: set[str],
    fence: str,
) -> Chain:
    """Where every frame of every bridge comes by, and is sent to its network's chain by the port's name.

    One statement a network, not one map of verdicts for all: what is in a map ceases to be found the moment that the
    table is replaced, also by packets that are on their way through the old rules, and they would pass.
    """
    lines = [f"type filter hook {hook} priority 0; policy accept;"]
    for network in networks:
        chain = chain_name(network.name, direction)
        ports = [f'"{name}"' for name in sorted(port.name for port in network.ports)]
        if ports and (chain in made or fence):
            lines.append(f"{device} {_one_of(ports)} {f'goto {chain}' if chain in made else 'accept'}")
    lines += [f'{device} "{fence}*" drop'] if fence else []
    return Chain(name, tuple(lines))


def _guard(network: FilteredNetwork) -> Iterator[str]:
    """What a VM may not pretend to be."""
    if network.protection.source_mac and network.ports:
        own = ", ".join(
            f'"{port.name}" . {port.mac.lower()}' for port in sorted(network.ports, key=lambda port: port.name)
        )
        yield f"iifname . ether saddr != {{ {own} }} drop"
        yield f"iifname . arp saddr ether != {{ {own} }} drop"
    if network.protection.dhcp_answers:
        yield "udp sport 67 udp dport 68 drop"
        yield "udp sport 547 udp dport 546 drop"
    if network.protection.router_advertisements:
        yield "icmpv6 type nd-router-advert drop"
        yield "icmpv6 type nd-redirect drop"


def _filter(network: FilteredNetwork, direction: Direction, abilities: Abilities) -> Iterator[str]:
    """What passes always; the denials at the head; what belongs to a connection; the other rules; the default."""
    side = network.acl.side(direction)
    yield f"jump {ALWAYS.name}"
    if network.dhcp:
        yield from DHCP[direction]
    head = next((i for i, rule in enumerate(side.rules) if rule.action is Action.ACCEPT), len(side.rules))
    for number, rule in enumerate(side.rules):
        if number == head:
            yield from _connections(abilities)
        name = rule_name(network.name, direction, number + 1)
        try:
            yield from _statements(rule, name, direction, network.acl.sets, abilities)
        except NotAnAddress as error:
            raise Unrenderable(f"network {network.name}, {direction.value} {number + 1}: {error}") from error
    if head == len(side.rules):
        yield from _connections(abilities)
    yield f'counter {_default(side)} comment "{rule_name(network.name, direction, 0)}"'


def _default(side: Side) -> str:
    return "accept" if side.default is Action.ACCEPT else "drop"


def _connections(abilities: Abilities) -> Iterator[str]:
    if abilities.state:
        yield "ct state established,related accept"
    yield BEGUN


def _statements(
    rule: Rule, name: str, direction: Direction, sets: Mapping[str, tuple[str, ...]], abilities: Abilities
) -> Iterator[str]:
    """One statement for each version of IP that the rule needs to name; with ports one more for later fragments.

    Only the first fragment of a packet has its ports. To accept the others is safe: without it nothing comes of them.
    """
    end = f'counter {_verdict(rule.action, direction, abilities)} comment "{name}"'
    source, destination = resolved(rule.source, sets), resolved(rule.destination, sets)
    for version in _versions(rule):
        where = _where(rule, source, destination, version)
        if where is None:
            continue
        kind = [] if rule.protocol is Protocol.ANY else [_protocol(rule.protocol)]
        ports = [*_match_ports("sport", rule.source_ports), *_match_ports("dport", rule.ports)]
        yield " ".join([*where, *kind, *ports, end])
        if ports and rule.action is Action.ACCEPT:
            for each in (version,) if version else (4, 6):
                yield " ".join([*where, *kind, LATER_FRAGMENT[each], end])


def _versions(rule: Rule) -> Sequence[int]:
    """The versions of IP to write a rule for; 0: it does not matter."""
    if rule.protocol is Protocol.ICMP:
        return (4,)
    if rule.protocol is Protocol.ICMPV6:
        return (6,)
    return (4, 6) if rule.source or rule.destination else (0,)


def _where(rule: Rule, source: Sequence[Network], destination: Sequence[Network], version: int) -> list[str] | None:
    """The addresses in one version; None: no packet of that version fits."""
    if version == 0:
        return []
    word = "ip" if version == 4 else "ip6"
    found = [f"ether type {word}"]
    for said, networks, field in ((rule.source, source, "saddr"), (rule.destination, destination, "daddr")):
        entries = merged(networks, version)
        if said and not entries:
            return None
        if entries:
            found.append(f"{word} {field} {_one_of(entries)}")
    return found


def _protocol(protocol: Protocol) -> str:
    return f"meta l4proto {protocol.value if protocol in (*WITH_PORTS, Protocol.ICMP) else 'ipv6-icmp'}"


def _match_ports(field: str, ports: Sequence[PortRange]) -> list[str]:
    """Overlaps joined: nft before 1.0.3 refuses sets in which intervals overlap."""
    joined: list[PortRange] = []
    for each in sorted(ports):
        if joined and each.first <= joined[-1].last + 1:
            joined[-1] = PortRange(joined[-1].first, max(joined[-1].last, each.last))
        else:
            joined.append(each)
    return [f"th {field} {_one_of(list(map(str, joined)))}"] if joined else []


def _one_of(entries: Sequence[str]) -> str:
    """A set only where it must be: the time that a kernel takes for a table grows with the square of its sets."""
    return entries[0] if len(entries) == 1 else f"{{ {', '.join(entries)} }}"


def _verdict(action: Action, direction: Direction, abilities: Abilities) -> str:
    if action is Action.REJECT:
        return "reject" if abilities.reject and direction is Direction.OUT else "drop"
    return "accept" if action is Action.ACCEPT else "drop"


def _refuse_names(network: FilteredNetwork) -> None:
    if not NAME.fullmatch(network.name):
        raise Unrenderable(f"{network.name!r} is no name of a network that nftables takes; use letters, digits and '-'")
    for port in network.ports:
        _refuse_port(network, port)


def _refuse_port(network: FilteredNetwork, port: Port) -> None:
    if not DEVICE.fullmatch(port.name):
        raise Unrenderable(f"network {network.name}: {port.name!r} is no name of a device; look at the VM's definition")
    if not MAC.fullmatch(port.mac):
        raise Unrenderable(
            f"network {network.name}: {port.mac!r} of {port.name} is no MAC address; look at the definition of the VM"
        )


def _refuse_shared(networks: Sequence[FilteredNetwork]) -> None:
    """Raise Unrenderable if two networks have one name, or one port is in two places: nft would refuse it later."""
    names = [network.name for network in networks]
    ports = [port.name for network in networks for port in network.ports]
    for what, found in (("network", names), ("port", ports)):
        twice = sorted({each for each in found if found.count(each) > 1}) if len(set(found)) < len(found) else []
        if twice:
            raise Unrenderable(f"{what} {', '.join(twice)} is named twice; each can be in one place only")
