"""EVPN: what FRR is told, which steps lead there, and what is said of it."""

from dataclasses import replace
from typing import Any

import pytest

from pvc.core.config.document import parse
from pvc.core.config.problems import ConfigError
from pvc.core.config.validation import validate
from pvc.plugins.networking.dataplane import FLOOD, Entry, Forward, Link, Seen, Withdraw
from pvc.plugins.networking.decide.dataplane import Plan, View, plan
from pvc.plugins.networking.evpn.daemons import Program, Speaker
from pvc.plugins.networking.evpn.daemons import Seen as Frr
from pvc.plugins.networking.evpn.decide.bgp import (
    End,
    Start,
    Step,
    Sweep,
    Tell,
    bgpd_text,
    commands,
    disagreement,
    fabric_in_words,
    next_steps,
    peers_of,
    problem,
    texts,
    warnings,
)
from pvc.plugins.networking.records import Network, NetworkKind
from pvc.plugins.networking.schema import SCHEMA, EvpnSettings, Fabric, settings_from
from pvc.testing.dataplane import FakeDataplane

ME = Speaker("10.0.0.1")
BFD = replace(ME, bfd=True)
PEERS = ["10.0.0.2", "10.0.0.10"]
ZEBRA, BFDD, BGPD = Program.ZEBRA, Program.BFDD, Program.BGPD


def running(speaker: Speaker, *peers: str) -> Frr:
    return Frr(texts(speaker), dict.fromkeys(peers, True))


def test_everything_but_the_peers_is_in_the_text() -> None:
    assert bgpd_text(replace(BFD, asn=65001, port=1790)).splitlines() == [
        "! listens on 10.0.0.1 port 1790",
        "router bgp 65001",
        " bgp router-id 10.0.0.1",
        " no bgp default ipv4-unicast",
        " timers bgp 3 9",
        " coalesce-time 10",
        " neighbor fabric peer-group",
        " neighbor fabric remote-as internal",
        " neighbor fabric update-source 10.0.0.1",
        " neighbor fabric timers connect 1",
        " neighbor fabric advertisement-interval 0",
        " neighbor fabric bfd 3 300 300",
        " address-family l2vpn evpn",
        "  neighbor fabric activate",
        "  advertise-all-vni",
        " exit-address-family",
    ]
    assert list(texts(ME)) == [ZEBRA, BGPD] and list(texts(BFD)) == [ZEBRA, BFDD, BGPD]
    assert "bfd" not in bgpd_text(ME)


def test_peers_that_come_and_go_are_told_and_nothing_else() -> None:
    head = ("configure terminal", "router bgp 65000")
    assert commands(ME, PEERS, PEERS) == ()
    assert commands(ME, ["10.0.0.3"], PEERS) == (
        *head,
        "no neighbor 10.0.0.3",
        "neighbor 10.0.0.2 peer-group fabric",
        "neighbor 10.0.0.10 peer-group fabric",
    )
    assert commands(replace(ME, port=1790), (), ["10.0.0.2"])[2:] == (
        "neighbor 10.0.0.2 peer-group fabric",
        "neighbor 10.0.0.2 port 1790",
    )


def test_all_nodes_are_peers_or_the_reflectors_and_of_a_reflector_all() -> None:
    nodes = ["10.0.0.1", "10.0.0.3", "10.0.0.2", "hv4", "", "2001:db8::1"]
    assert peers_of(ME, (), nodes) == ["10.0.0.2", "10.0.0.3"]
    assert peers_of(ME, ["10.0.0.2", "10.9.9.9"], nodes) == ["10.0.0.2", "10.9.9.9"]
    reflector = replace(ME, reflects=True)
    assert peers_of(reflector, ["10.0.0.1", "10.9.9.9"], nodes) == ["10.0.0.2", "10.0.0.3", "10.9.9.9"]
    assert "  neighbor fabric route-reflector-client" in bgpd_text(reflector).splitlines()
    assert "reflector" not in bgpd_text(ME)


START = (Start(ZEBRA, texts(ME)[ZEBRA]), Start(BGPD, texts(ME)[BGPD]))
TELL = Tell(commands(ME, (), PEERS))


@pytest.mark.parametrize(
    ("seen", "speaker", "steps"),
    [
        (Frr(), ME, (Sweep(), *START, TELL)),
        (running(ME, *PEERS), ME, ()),
        (running(ME, "10.0.0.2"), ME, (Tell(commands(ME, ["10.0.0.2"], PEERS)),)),
        (Frr({ZEBRA: texts(ME)[ZEBRA]}), ME, (START[1], TELL)),
        (Frr({BGPD: texts(ME)[BGPD]}, {"10.0.0.2": True}), ME, (End(BGPD), Sweep(), *START, TELL)),
        (running(replace(ME, asn=1), *PEERS), ME, (End(BGPD), START[1], TELL)),
        (running(BFD, *PEERS), ME, (End(BGPD), End(BFDD), START[1], TELL)),
        (Frr({ZEBRA: "", BGPD: texts(ME)[BGPD]}), ME, (End(BGPD), End(ZEBRA), Sweep(), *START, TELL)),
        (running(BFD, *PEERS), None, (End(BGPD), End(BFDD), End(ZEBRA))),
        (Frr(), None, ()),
    ],
)
def test_each_state_of_the_daemons_has_its_next_steps(
    seen: Frr, speaker: Speaker | None, steps: tuple[Step, ...]
) -> None:
    assert next_steps(seen, speaker, PEERS) == steps


def test_what_speaks_against_it_is_told_with_what_to_do() -> None:
    ours, theirs = Link("pvx-lan", "vxlan", owned=True), Link("flannel.1", "vxlan")
    assert problem("10.0.0.1", {"pvx-lan": ours}) == ""
    assert "needs an IPv4 address" in problem("2001:db8::1", {}) and "needs an IPv4" in problem("hv1", {})
    assert "FRR would change the tunnel flannel.1, not made by pvc; remove that" in problem("10.0.0.1", {"f": theirs})
    assert "may change the entries of the tunnel flannel.1" in warnings({"f": theirs, "o": ours}, {}, {})[0]
    down = warnings({}, {"10.0.0.2": False, "10.0.0.3": True, "10.0.0.10": False}, {"10.0.0.10": "hv10"})
    assert len(down) == 1 and down[0].startswith("no BGP session with 10.0.0.2, hv10 (10.0.0.10): no frames go there;")


def test_nodes_that_have_another_fabric_are_named() -> None:
    own = fabric_in_words(ME)
    assert disagreement(own, {"hv2": own}) == ""
    told = disagreement(own, {"hv2": own, "hv3": "static", "hv4": fabric_in_words(replace(ME, asn=1)), "hv5": "static"})
    assert "(hv4: evpn, AS 1, port 179; hv3, hv5: static)" in told and "restart pvcd" in told
    assert "is static, but" in disagreement(fabric_in_words(None), {"hv2": own})


LAN = Network("lan", NetworkKind.MANAGED, vni=100)
OUT = Network("out", NetworkKind.BRIDGED, device="eth1")


def view(seen: Seen, **further: Any) -> View:
    networks = {"lan": LAN, "out": OUT}
    known: dict[str, Any] = {"address": "10.0.0.1", "peers": {"hv2": "10.0.0.2"}, "told": False, **further}
    return View(networks, seen, **known)


def settled(host: FakeDataplane, **further: Any) -> Plan:
    for changes in plan(view(host.look(), **further)).changes.values():
        for change in changes:
            host.apply(change)
    return plan(view(host.look(), **further))


def test_tunnels_are_made_as_ever_but_their_entries_are_frrs() -> None:
    host = FakeDataplane("10.0.0.1")
    host.add("eth1")
    assert settled(host).mtus == {"lan": 1450, "out": 1500}
    seen = host.look()
    assert seen.forwarding == {"pvx-lan": frozenset()}
    assert (seen.links["pvx-lan"].learns, seen.links["pvx-lan"].up) == (False, True)
    host.apply(Forward("pvx-lan", Entry(FLOOD, "10.0.0.9")))
    assert plan(view(host.look())).changes == {}
    assert Withdraw("pvx-lan", Entry(FLOOD, "10.0.0.9")) in plan(view(host.look(), told=True)).changes["lan"]


def test_without_frr_no_managed_network_is_up_though_its_devices_are() -> None:
    host = FakeDataplane("10.0.0.1")
    host.add("eth1")
    last = settled(host, unfit="install FRR")
    assert (last.changes, last.problems, last.mtus) == ({}, {"lan": "install FRR"}, {"out": 1500})
    assert host.look().links["pvb-lan"].up


def section(text: str) -> dict[str, Any]:
    roles = "roles: {hypervisor: false, networking: true}\nplugins: {flushlock: false, consolelog: false}\n"
    document = parse(f"node: hv1\n{roles}networking: {text}\n", "pvc.yaml")
    config = validate(document, {"networking": SCHEMA}, ["networking", "storage"], host_name="hv1")
    return dict(config.section("networking"))


def test_the_section_is_typed_and_static_unless_it_says_otherwise() -> None:
    assert (settings_from(section("{}")).fabric, settings_from(section("{}")).evpn) == (Fabric.STATIC, EvpnSettings())
    given = settings_from(section("{fabric: evpn, evpn: {asn: 4200000000, neighbors: [10.0.0.9], port: 1790}}"))
    assert (given.fabric, given.evpn) == (Fabric.EVPN, EvpnSettings(4200000000, ("10.0.0.9",), 1790))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{fabric: bgp}", "static"),
        ("{evpn: {asn: 0}}", "asn"),
        ("{evpn: {asn: 4294967295}}", "asn"),
        ("{evpn: {port: 0}}", "port"),
        ("{evpn: {neighbors: [hv2]}}", "IPv4 address of a neighbor"),
        ('{evpn: {neighbors: ["2001:db8::1"]}}', "IPv4 address of a neighbor"),
        ("{evpn: {neighbors: [224.0.0.1]}}", "224.0.0.1 is no address of a neighbor"),
        ("{evpn: {neighbor: []}}", "neighbors"),
        ("{evpn: {bfd: 'yes'}}", "bfd"),
    ],
)
def test_nonsense_in_the_section_is_refused(text: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        section(text)
