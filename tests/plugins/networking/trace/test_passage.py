"""What rules do with one packet: in their order, and told as unknown where something about the packet is."""

from ipaddress import ip_address

import pytest

from pvc.plugins.networking.firewall.rules import Acl, Action, Direction, PortRange, Protocol, Rule, Side
from pvc.plugins.networking.trace.decide.case import Address
from pvc.plugins.networking.trace.decide.passage import Fate, Packet, fate

HTTP = (PortRange(80, 80), PortRange(8000, 8100))
SETS = {"friends": ("10.1.0.0/28", "fd00::/64")}
FRIEND, STRANGER, SIX = ip_address("10.1.0.5"), ip_address("10.1.0.99"), ip_address("fd00::5")
DROP_HTTP = Rule(Action.DROP, Protocol.TCP, ports=HTTP)
FRIENDS = Rule(Action.ACCEPT, source=("@friends",))


def decided(packet: Packet, *rules: Rule, default: Action = Action.ACCEPT) -> Fate:
    return fate(Acl(Side(default, rules), sets=SETS), Direction.IN, packet)


@pytest.mark.parametrize(
    ("protocol", "port", "source", "expected"),
    [
        (Protocol.TCP, 80, STRANGER, Fate(Action.DROP, 1)),
        (Protocol.TCP, 8050, FRIEND, Fate(Action.DROP, 1)),
        (Protocol.TCP, 81, FRIEND, Fate(Action.ACCEPT, 2)),
        (Protocol.TCP, 81, SIX, Fate(Action.ACCEPT, 2)),
        (Protocol.TCP, 81, STRANGER, Fate(Action.DROP)),
        (Protocol.UDP, 80, FRIEND, Fate(Action.ACCEPT, 2)),
        (Protocol.ICMP, None, STRANGER, Fate(Action.DROP)),
        (Protocol.TCP, None, FRIEND, Fate(None, 1)),
        (Protocol.TCP, None, STRANGER, Fate(Action.DROP)),
        (Protocol.TCP, 80, None, Fate(Action.DROP, 1)),
        (Protocol.UDP, 53, None, Fate(None, 2)),
    ],
)
def test_the_first_rule_that_fits_decides_and_what_is_not_known_is_said_only_if_it_matters(
    protocol: Protocol, port: int | None, source: Address | None, expected: Fate
) -> None:
    packet = Packet(protocol, source, STRANGER, port)
    assert decided(packet, DROP_HTTP, FRIENDS, default=Action.DROP) == expected


def test_a_ping_is_icmpv6_where_the_addresses_are() -> None:
    six, four = Rule(Action.DROP, Protocol.ICMPV6), Rule(Action.REJECT, Protocol.ICMP)
    assert decided(Packet(Protocol.ICMP, SIX, SIX), four, six) == Fate(Action.DROP, 2)
    assert decided(Packet(Protocol.ICMP, FRIEND, STRANGER), six, four) == Fate(Action.REJECT, 2)


def test_a_rule_about_source_ports_may_fit_or_not() -> None:
    rule = Rule(Action.DROP, Protocol.UDP, source_ports=(PortRange(53, 53),))
    assert decided(Packet(Protocol.UDP, FRIEND, STRANGER, 9), rule) == Fate(None, 1)
    assert decided(Packet(Protocol.UDP, FRIEND, STRANGER, 9), rule, default=Action.DROP) == Fate(Action.DROP)
    assert decided(Packet(Protocol.TCP, FRIEND, STRANGER, 9), rule) == Fate(Action.ACCEPT)
