"""Whether the rules of a network let a packet through: they are tried in their order, as the kernel does."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address

from pvc.plugins.networking.firewall.decide.addresses import NotAnAddress, resolved
from pvc.plugins.networking.firewall.rules import Acl, Action, Direction, PortRange, Protocol, Rule
from pvc.plugins.networking.trace.decide.case import Address


@dataclass(frozen=True, slots=True)
class Packet:
    """The first packet of a connection."""

    protocol: Protocol
    source: Address | None = None
    """None: not known."""
    destination: Address | None = None
    port: int | None = None
    """Of the destination; None: not known, or it has none."""


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of a packet."""

    action: Action | None
    """None: it cannot be told."""
    number: int = 0
    """The rule that decides, or that cannot be judged; 0: none fits, the default decides."""


def fate(acl: Acl, direction: Direction, packet: Packet) -> Fate:
    """What the rules of one direction do with a packet."""
    side = acl.side(direction)
    doubtful: list[Fate] = []
    for number, rule in enumerate(side.rules, 1):
        fits = _fits(rule, acl.sets, packet)
        if fits is None:
            doubtful.append(Fate(rule.action, number))
        elif fits:
            return _sure(doubtful, Fate(rule.action, number))
    return _sure(doubtful, Fate(side.default))


def _sure(doubtful: Sequence[Fate], found: Fate) -> Fate:
    passes = found.action is Action.ACCEPT
    otherwise = [one for one in doubtful if (one.action is Action.ACCEPT) != passes]
    return Fate(None, otherwise[0].number) if otherwise else found


def _fits(rule: Rule, sets: Mapping[str, tuple[str, ...]], packet: Packet) -> bool | None:
    """None: it cannot be told."""
    parts = (
        _protocol_fits(rule.protocol, packet),
        _address_fits(rule.source, sets, packet.source),
        _address_fits(rule.destination, sets, packet.destination),
        None if rule.source_ports else True,  # nobody knows from which port somebody will send
        _port_fits(rule.ports, packet.port),
    )
    if False in parts:
        return False
    return None if None in parts else True


def _protocol_fits(protocol: Protocol, packet: Packet) -> bool:
    is_six = isinstance(packet.destination or packet.source, IPv6Address)
    meant = Protocol.ICMPV6 if packet.protocol is Protocol.ICMP and is_six else packet.protocol
    return protocol in (Protocol.ANY, meant)


def _address_fits(entries: Sequence[str], sets: Mapping[str, tuple[str, ...]], address: Address | None) -> bool | None:
    if not entries:
        return True
    try:
        known = resolved(entries, sets)
    except NotAnAddress:
        return None
    return None if address is None else any(address in one for one in known)


def _port_fits(ranges: Sequence[PortRange], port: int | None) -> bool | None:
    if not ranges:
        return True
    return None if port is None else any(one.first <= port <= one.last for one in ranges)
