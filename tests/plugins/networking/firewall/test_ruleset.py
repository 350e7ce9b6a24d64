"""Networks and their rules as statements of nftables."""

import json

import pytest

from pvc.plugins.networking.firewall.decide.ruleset import Unrenderable, ruleset
from pvc.plugins.networking.firewall.decide.transaction import (
    contents,
    counts,
    next_generation,
    preparation,
    rebuilding,
    switch,
)
from pvc.plugins.networking.firewall.packetfilter import Abilities, Count, Ruleset
from pvc.plugins.networking.firewall.rules import Acl, Action, Direction, PortRange, Protocol, Rule, Side
from pvc.plugins.networking.firewall.wanted import MANAGED, FilteredNetwork, Port, Wanted

ONE, TWO = Port("tap1", "52:54:00:00:00:01"), Port("tap2", "52:54:00:00:00:AB")
PLAIN = Abilities()
TOUCHING = ("add", "flush", "delete", "table")
DROPPING = Acl(Side(Action.DROP))


def network(acl: Acl, name: str = "net1", *ports: Port) -> FilteredNetwork:
    return FilteredNetwork(name, "br1", ports or (ONE,), acl)


def chain(acl: Acl, direction: Direction = Direction.IN, abilities: Abilities = PLAIN) -> tuple[str, ...]:
    made = ruleset(Wanted((network(acl),)), abilities)
    return next(each.lines for each in made.chains if each.name == f"{direction.value}-net1")


def test_nothing_is_made_where_nothing_is_kept_out() -> None:
    assert ruleset(Wanted(), PLAIN) == Ruleset()
    accepting = Acl(Side(rules=(Rule(Action.ACCEPT),)))
    assert ruleset(Wanted((network(Acl()), network(accepting, "net2", TWO))), PLAIN) == Ruleset()


def test_ports_are_sent_to_the_chain_of_their_network_and_what_is_fenced_stays_out() -> None:
    networks = (network(DROPPING, "b", TWO, ONE), network(Acl(), "a", Port("tap9", "52:54:00:00:00:09")))
    made = {each.name: each.lines for each in ruleset(Wanted(networks, "tap"), PLAIN).chains}
    assert made["to-guests"] == (
        "type filter hook postrouting priority 0; policy accept;",
        'oifname "tap9" accept',
        'oifname { "tap1", "tap2" } goto in-b',
        'oifname "tap*" drop',
    )
    assert made["from-guests"] == (
        "type filter hook prerouting priority 0; policy accept;",
        'iifname "tap9" accept',
        'iifname { "tap1", "tap2" } accept',
        'iifname "tap*" drop',
    )
    assert list(made) == ["from-guests", "to-guests", "always", "in-b"]


def test_the_order_of_networks_and_ports_makes_no_difference() -> None:
    first, second = network(DROPPING, "a", ONE), network(DROPPING, "b", TWO, Port("tap3", "52:54:00:00:00:03"))
    turned = network(DROPPING, "b", Port("tap3", "52:54:00:00:00:03"), TWO)
    assert ruleset(Wanted((first, second)), PLAIN) == ruleset(Wanted((turned, first)), PLAIN)


def test_denials_at_the_head_come_before_open_connections_and_all_others_after() -> None:
    drop, accept = Rule(Action.DROP, Protocol.UDP), Rule(Action.ACCEPT, Protocol.TCP)
    lines = chain(Acl(Side(Action.DROP, (drop, accept, drop))), abilities=Abilities(state=True))
    assert lines[1:] == (
        'meta l4proto udp counter drop comment "net1 in 1"',
        "ct state established,related accept",
        "tcp flags & (ack | rst) != 0 accept",
        'meta l4proto tcp counter accept comment "net1 in 2"',
        'meta l4proto udp counter drop comment "net1 in 3"',
        'counter drop comment "net1 in 0"',
    )
    assert "ct state established,related accept" not in chain(DROPPING)


def test_one_statement_for_each_version_of_ip_with_its_overlaps_joined() -> None:
    sets = {"web": ("10.1.0.0/16", "fd00::1"), "none": ()}
    rule = Rule(
        Action.DROP, Protocol.TCP, ("10.0.0.0/8", "@web"), ports=(PortRange(80, 90), PortRange(91, 95), PortRange(1, 1))
    )
    lines = chain(Acl(Side(rules=(rule, Rule(Action.DROP, source=("@none",)))), sets=sets))
    end = 'meta l4proto tcp th dport { 1, 80-95 } counter drop comment "net1 in 1"'
    assert lines[1:3] == (
        f"ether type ip ip saddr 10.0.0.0/8 {end}",
        f"ether type ip6 ip6 saddr fd00::1/128 {end}",
    )
    assert not any("net1 in 2" in line for line in lines), "an empty set fits nothing"


def test_reject_is_drop_where_a_kernel_cannot_and_for_what_a_vm_receives() -> None:
    acl = Acl(Side(rules=(Rule(Action.REJECT),)), Side(rules=(Rule(Action.REJECT),)))
    able = Abilities(reject=True)
    words = [chain(acl, way, abilities)[1] for way in Direction for abilities in (PLAIN, able)]
    assert [line.split()[1] for line in words] == ["drop", "drop", "drop", "reject"]


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        (Wanted((network(DROPPING, 'x" accept'),)), "no name of a network"),
        (Wanted((network(DROPPING, "x", Port("tap*", ONE.mac)),)), "no name of a device"),
        (Wanted((network(DROPPING, "x", Port("tap1", "nonsense")),)), "no MAC address"),
        (
            Wanted((network(Acl(Side(rules=(Rule(Action.DROP, source=("1.2.3.4 accept",)),)))),)),
            "net1, in 1: .* no address",
        ),
        (
            Wanted((network(Acl(Side(rules=(Rule(Action.DROP, source=("@gone",)),)))),)),
            "net1, in 1: there is no set @gone",
        ),
        (Wanted((network(DROPPING, "a"), network(DROPPING, "b"))), "port tap1 is named twice"),
        (Wanted((network(DROPPING, "a"), network(DROPPING, "a", TWO))), "network a is named twice"),
        (Wanted(fenced='"'), "no beginning of a device's name"),
    ],
)
def test_what_did_not_come_from_us_never_gets_into_the_text(wanted: Wanted, why: str) -> None:
    with pytest.raises(Unrenderable, match=why):
        ruleset(wanted, PLAIN)


def test_new_chains_are_made_beside_the_old_ones_which_go_when_packets_are_sent_to_the_new() -> None:
    made = ruleset(Wanted((network(DROPPING, "jump"),)), PLAIN)
    there = [("chain", "from-guests"), ("chain", "in-jump.1"), ("set", "theirs")]
    assert next_generation(there) == 2 and next_generation([]) == 1
    first, second = preparation(made, 2), switch(made, 2, there)
    assert "chain always.2 {" in first and "chain in-jump.2 {" in first and "hook" not in first
    assert "jump always.2\n" in first and 'comment "jump in 0"\n' in first
    assert "flush chain bridge pvc in-jump.1\n" in second and "flush chain bridge pvc from-guests\n" in second
    assert 'add rule bridge pvc to-guests oifname "tap1" goto in-jump.2\n' in second
    assert second.endswith("delete chain bridge pvc in-jump.1\ndelete set bridge pvc theirs\n")
    assert "delete chain bridge pvc from-guests" not in second


def test_nothing_but_our_table_is_ever_named() -> None:
    protected = FilteredNetwork("net1", "br1", (ONE, TWO), DROPPING, MANAGED, True)
    made = ruleset(Wanted((protected,), "tap"), PLAIN)
    there = [("chain", "in-old.1"), ("set", "theirs")]
    for text in (preparation(made, 1), switch(made, 2, there), rebuilding(made), rebuilding(Ruleset())):
        assert "ruleset" not in text
        touched = [line for line in text.splitlines() if line.partition(" ")[0] in TOUCHING]
        assert touched and all(" bridge pvc" in line for line in touched)


def test_a_listing_tells_what_is_there_and_what_rules_were_used_for() -> None:
    def used(packets: int, comment: str) -> dict[str, object]:
        return {"rule": {"comment": comment, "expr": [{"counter": {"packets": packets, "bytes": 10}}, {"drop": None}]}}

    rules = [used(1, "net1 in 1"), used(2, "net1 in 1"), {"rule": {"expr": [{"accept": None}]}}]
    listing = json.dumps(
        {
            "nftables": [
                {"metainfo": {}},
                {"table": {"name": "pvc"}},
                {"set": {"name": "s"}},
                {"chain": {"name": "c"}},
                *rules,
            ]
        }
    )
    assert contents(listing) == [("chain", "c"), ("set", "s")]
    assert counts(listing) == {"net1 in 1": Count(3, 20)}
