"""What an administrator types becomes a rule, or a list of all that is wrong with it."""

import pytest

from pvc.plugins.networking.firewall.decide.typed import RuleRefused, Typed, default_of, direction_of, rule_of, set_of
from pvc.plugins.networking.firewall.rules import Action, PortRange, Protocol, Rule

SETS = {"web": ("10.0.0.1",), "six": ("fd00::/8",), "empty": ()}


@pytest.mark.parametrize(
    ("typed", "rule"),
    [
        (Typed("in", "accept"), Rule(Action.ACCEPT)),
        (
            Typed("in", "accept", "tcp", source="10.0.0.0/8", ports="22,80-90", comment=" ssh and web "),
            Rule(
                Action.ACCEPT,
                Protocol.TCP,
                ("10.0.0.0/8",),
                ports=(PortRange(22, 22), PortRange(80, 90)),
                comment="ssh and web",
            ),
        ),
        (
            Typed("out", "reject", "udp", destination="FD00::1, @web,10.0.0.7/32,@web", source_ports="1-65535"),
            Rule(
                Action.REJECT,
                Protocol.UDP,
                destination=("fd00::1", "@web", "10.0.0.7"),
                source_ports=(PortRange(1, 65535),),
            ),
        ),
        (Typed("in", "drop", "icmpv6", source="@six"), Rule(Action.DROP, Protocol.ICMPV6, ("@six",))),
        (Typed("in", "drop", "icmp", source="@empty"), Rule(Action.DROP, Protocol.ICMP, ("@empty",))),
    ],
)
def test_what_is_typed_becomes_a_rule(typed: Typed, rule: Rule) -> None:
    assert rule_of(typed, SETS) == rule


@pytest.mark.parametrize(
    ("typed", "problem"),
    [
        (Typed("inn", "drop"), "direction: 'inn' is none; allowed: in, out; did you mean in?"),
        (Typed("in", "deny"), "--action: 'deny' is none; allowed: accept, drop, reject"),
        (
            Typed("in", "reject"),
            "--action reject: a bridge can tell only a VM that sends; for `in` allowed: accept, drop",
        ),
        (Typed("in", "drop", "http"), "--protocol: 'http' is none; allowed: any, tcp, udp, sctp, icmp, icmpv6"),
        (Typed("in", "drop", ports="22"), "--protocol any: has no ports; with ports allowed: tcp, udp, sctp"),
        (Typed("in", "drop", "icmp", source_ports="2"), "--protocol icmp: has no ports"),
        (Typed("in", "drop", "tcp", ports="0"), "--ports: '0' is no port; allowed: ports and ranges from 1 to 65535"),
        (Typed("in", "drop", "tcp", ports="65536"), "--ports: '65536' is no port"),
        (Typed("in", "drop", "tcp", ports="9-3"), "--ports: '9-3' ends before it begins"),
        (Typed("in", "drop", "tcp", ports="ssh"), "--ports: 'ssh' is no port"),
        (Typed("in", "drop", "tcp", ports="²"), "--ports: '²' is no port"),
        (Typed("in", "drop", "tcp", source_ports=","), "--from-ports: ',' is empty"),
        (
            Typed("in", "drop", source="10.0.0.1/8"),
            "--from: '10.0.0.1/8' is an address within a network; say 10.0.0.1 or",
        ),
        (Typed("in", "drop", source="host.example"), "--from: 'host.example' is no address; allowed: an address"),
        (Typed("in", "drop", source="fe80::1%eth0"), "--from: 'fe80::1%eth0' is no address"),
        (
            Typed("in", "drop", destination="@wbe"),
            "--to: there is no set '@wbe'; sets of this network: @empty, @six, @web",
        ),
        (Typed("in", "drop", destination=" , "), "--to: ' , ' is empty"),
        (
            Typed("in", "drop", source="@six", destination="@web"),
            "--from is IPv6 but --to is IPv4: no packet fits that",
        ),
        (Typed("in", "drop", "icmp", source="fd00::1"), "--protocol is IPv4 but --from is IPv6"),
        (Typed("in", "drop", comment="a\nb"), "--comment: at most 200 printable characters"),
        (Typed("in", "drop", comment="x" * 201), "--comment: at most 200 printable characters"),
        (Typed("in", "drop", "tcp", ports=",".join(map(str, range(1, 1002)))), "--ports: 1001 entries; at most 1000"),
    ],
)
def test_what_is_no_rule_is_refused_with_what_is_allowed(typed: Typed, problem: str) -> None:
    with pytest.raises(RuleRefused) as refused:
        rule_of(typed, SETS)
    (found,) = refused.value.problems
    assert found.startswith(problem)


def test_all_that_is_wrong_is_said_at_once() -> None:
    typed = Typed("up", "deny", "tpc", "10.0.0.1/8,@no", "x", "0", "99999", "\a")
    with pytest.raises(RuleRefused) as refused:
        rule_of(typed, {})
    options = [line.partition(":")[0] for line in str(refused.value).splitlines()]
    assert options == [
        *("direction", "--action", "--protocol", "--from", "--from", "--to", "--from-ports", "--ports", "--comment")
    ]
    assert "sets of this network: none yet" in str(refused.value)
    assert "did you mean tcp?" in str(refused.value)


def test_a_set_holds_addresses_and_networks_each_once_and_no_sets() -> None:
    assert set_of("web-1", ["10.0.0.1/32,fd00::/8", "10.0.0.1"]) == ("10.0.0.1", "fd00::/8")
    assert set_of("none", []) == ()
    with pytest.raises(RuleRefused) as refused:
        set_of("Web", ["@web", "10.0.0.1/8"])
    assert [line.partition(";")[0] for line in refused.value.problems] == [
        "set: 'Web' is no name of a set",
        "set: '@web': a set cannot hold a set",
        "set: '10.0.0.1/8' is an address within a network",
    ]


def test_a_direction_and_a_default_are_checked_too() -> None:
    assert default_of("drop") is Action.DROP
    with pytest.raises(RuleRefused, match="allowed: accept, drop"):
        default_of("reject")
    with pytest.raises(RuleRefused, match="allowed: in, out"):
        direction_of("both")
