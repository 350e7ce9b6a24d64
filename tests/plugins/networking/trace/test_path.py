"""What can break on a way, one thing at a time: each is found, and nothing else is."""

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest

from pvc.core.model import ActualState, Node, Vm, VmActual, VmState
from pvc.plugins.networking.dataplane import FLOOD, Entry, Link
from pvc.plugins.networking.decide.attachment import NetworkState
from pvc.plugins.networking.firewall.packetfilter import Count
from pvc.plugins.networking.firewall.rules import Acl, Action, PortRange, Protocol, Rule, Side
from pvc.plugins.networking.gateway.routers import RouterState
from pvc.plugins.networking.records import Gateway, Lease, Network, NetworkKind, Ports
from pvc.plugins.networking.trace.decide.case import Case, End, Probe, Result, Step
from pvc.plugins.networking.trace.decide.interfaces import Interface
from pvc.plugins.networking.trace.decide.path import is_broken, steps
from pvc.plugins.networking.trace.records import Answer, NetworkSeen, PortSeen

A, B, ROUTER = "52:54:00:00:00:0a", "52:54:00:00:00:0b", "02:70:76:00:00:64"
LAN = Network("lan", NetworkKind.MANAGED, vni=100, ipv4="10.1.0.0/24", ipv4_gateway="10.1.0.1", ipv6="fd00::/64")
ONE, TWO, THREE = "10.0.0.1", "10.0.0.2", "10.0.0.3"
ADDRESSES = {"hv1": ONE, "hv2": TWO, "hv3": THREE}
DENYING = Acl(Side(Action.DROP, (Rule(Action.ACCEPT, Protocol.TCP, ports=(PortRange(22, 22),)),)))
FLOODS = {
    node: tuple(Entry(FLOOD, other) for other in ADDRESSES.values() if other != own) for node, own in ADDRESSES.items()
}


def end(name: str, node: str, mac: str) -> End:
    vm = Vm(f"id-{name}", name, VmState.RUNNING, node, 64, 1)
    return End(vm, VmActual(ActualState.RUNNING, node), (Interface("lan", mac),), {"lan": (mac,)})


def seen(node: str, *entries: Entry, **further: Any) -> NetworkSeen:
    bridge = Link("pvb-lan", "bridge", owned=True, up=True, mtu=1450)
    tunnel = Link(
        "pvx-lan",
        "vxlan",
        owned=True,
        up=True,
        mtu=1450,
        master="pvb-lan",
        learns=False,
        vni=100,
        local=ADDRESSES[node],
    )
    router = RouterState(active=True, held=True) if node == "hv3" else None
    facts = {"refusal": "", "counts": {}, "routers_known": True, "router": router, "hosts": (A, B), **further}
    return NetworkSeen(bridge, tunnel, (*FLOODS[node], *entries), **facts)


def port(name: str, mac: str, device: str) -> PortSeen:
    link = Link(device, "tun", up=True, mtu=1450, master="pvb-lan")
    return PortSeen(f"id-{name}", name, "lan", mac, device, link)


ANSWERS: dict[str, Answer] = {
    "hv1": Answer((port("a", A, "web0"),), {"lan": seen("hv1", Entry(B, TWO), Entry(ROUTER, THREE))}),
    "hv2": Answer((port("b", B, "web1"),), {"lan": seen("hv2", Entry(A, ONE), Entry(ROUTER, THREE))}),
    "hv3": Answer((), {"lan": seen("hv3")}),
}
WHOLE = Case(
    ends=(end("a", "hv1", A),),
    networks={"lan": LAN},
    nodes={name: Node(name, roles=("networking",), address=address) for name, address in ADDRESSES.items()},
    states={node: {"lan": NetworkState(1450)} for node in ADDRESSES},
    ports={"lan": {"hv1": Ports({A: 1}), "hv2": Ports({B: 1})}},
    gateways={"lan": Gateway("hv3", 1000.0)},
    tickets=frozenset({"lan"}),
    gateway_macs={"lan": ROUTER},
    leases={"lan": {A: Lease(A, "a", "10.1.0.5"), B: Lease(B, "b", "10.1.0.6")}},
    acls={"lan": Acl()},
    asked=frozenset(ADDRESSES),
    answers=ANSWERS,
)
PAIR = replace(WHOLE, ends=(end("a", "hv1", A), end("b", "hv2", B)))


def judged(case: Case, probe: Probe | None = None) -> list[tuple[str, str, str]]:
    """Result, step and node of whatever is not ok."""
    found = steps(case, probe or Probe())
    assert is_broken(found) == any(step.result is Result.BROKEN for step in found)
    return [(step.result.value, step.what, step.node) for step in found if step.result is not Result.OK]


def on(node: str, **changes: Any) -> Mapping[str, Any]:
    """The case's answers with another view of network lan on a node."""
    answer = ANSWERS[node]
    return {"answers": {**ANSWERS, node: replace(answer, networks={"lan": replace(answer.networks["lan"], **changes)})}}


def plugged(**changes: Any) -> Mapping[str, Any]:
    """The answers with another port of VM a; `link` holds changes of its device."""
    one = ANSWERS["hv1"].ports[0]
    if isinstance(changes.get("link"), dict):
        assert one.link is not None
        changes["link"] = replace(one.link, **changes["link"])
    return {"answers": {**ANSWERS, "hv1": replace(ANSWERS["hv1"], ports=(replace(one, **changes),))}}


def carrier(**changes: Any) -> Mapping[str, Any]:
    link = ANSWERS["hv1"].networks["lan"].carrier
    assert link is not None
    return on("hv1", carrier=replace(link, **changes))


def actual(state: ActualState, node: str | None = "hv1") -> Mapping[str, Any]:
    return {"ends": (replace(WHOLE.ends[0], actual=VmActual(state, node)),)}


def test_nothing_is_wrong_where_all_is_as_it_should_be() -> None:
    assert judged(WHOLE) == [] and judged(PAIR) == []
    found = [step.what for step in steps(WHOLE, Probe())]
    assert found == [
        *("vm", "interface", "network", "bridge", "tunnel", "port", "published", "flooding", "forwarding", "mtu"),
        *("firewall", "gateway", "to gateway", "lease"),
    ]


FAULTS: Mapping[str, tuple[Mapping[str, Any], list[tuple[str, str, str]]]] = {
    "stopped": (actual(ActualState.STOPPED, None), [("broken", "vm", "")]),
    "failed": (actual(ActualState.FAILED), [("broken", "vm", "hv1")]),
    "on a node without the role": (actual(ActualState.RUNNING, "hv9"), [("broken", "vm", "hv9")]),
    "its node is silent": (
        {"answers": {**ANSWERS, "hv1": "silent"}},
        [("broken", "answer", "hv1")],
    ),
    "live with another MAC": (
        {"ends": (replace(WHOLE.ends[0], interfaces=(Interface("lan", B),)),)},
        [("broken", "interface", "hv1")],
    ),
    "live with fewer": (
        {"ends": (replace(WHOLE.ends[0], interfaces=(Interface("lan", A), Interface("lan", B))),)},
        [("broken", "interface", "hv1")],
    ),
    "network unusable": (
        {"states": {**WHOLE.states, "hv1": {"lan": NetworkState(problem="no")}}},
        [("broken", "network", "hv1")],
    ),
    "network not set up": ({"states": {**WHOLE.states, "hv1": {}}}, [("broken", "network", "hv1")]),
    "no bridge": (on("hv1", bridge=None), [("broken", "bridge", "hv1")]),
    "bridge down": (on("hv1", bridge=Link("pvb-lan", "bridge", mtu=1450)), [("broken", "bridge", "hv1")]),
    "bridge too small": (
        on("hv1", bridge=Link("pvb-lan", "bridge", up=True, mtu=1280)),
        [("broken", "bridge", "hv1")],
    ),
    "no tunnel": (on("hv1", carrier=None), [("broken", "tunnel", "hv1")]),
    "tunnel down": (carrier(up=False), [("broken", "tunnel", "hv1")]),
    "tunnel elsewhere": (carrier(master="br0"), [("broken", "tunnel", "hv1")]),
    "tunnel of another VNI": (carrier(vni=101), [("broken", "tunnel", "hv1")]),
    "tunnel from another address": (carrier(local="10.9.9.9"), [("broken", "tunnel", "hv1")]),
    "port gone": (plugged(link=None), [("broken", "port", "hv1")]),
    "port in no bridge": (plugged(link={"master": ""}), [("broken", "port", "hv1")]),
    "port down": (plugged(link={"up": False}), [("broken", "port", "hv1")]),
    "port too large": (plugged(link={"mtu": 9000}), [("broken", "port", "hv1")]),
    "port unnamed": (plugged(device="", link=None), [("not known", "port", "hv1")]),
    "not published": ({"ports": {"lan": {"hv2": Ports({B: 1})}}}, [("broken", "published", "hv1")]),
    "published later elsewhere": (
        {"ports": {"lan": {"hv1": Ports({A: 1}), "hv2": Ports({A: 2, B: 1})}}},
        [("broken", "published", "hv1")],
    ),
    "published earlier elsewhere by a live node": (
        {"ports": {"lan": {"hv1": Ports({A: 2}), "hv2": Ports({A: 1, B: 1})}}},
        [("broken", "published", "hv1")],
    ),
    "another VM of that MAC": (
        {"answers": {**ANSWERS, "hv3": replace(ANSWERS["hv3"], ports=(port("c", A, "web2"),))}},
        [("broken", "duplicate", "hv3")],
    ),
    "flooding incomplete": (
        on("hv1", forwarding=(Entry(FLOOD, TWO), Entry(ROUTER, THREE))),
        [("broken", "flooding", "hv1")],
    ),
    "a peer without entry": (on("hv2", forwarding=FLOODS["hv2"]), [("broken", "forwarding", "hv2")]),
    "a peer with a wrong entry": (
        on("hv3", forwarding=(*FLOODS["hv3"], Entry(A, TWO))),
        [("broken", "forwarding", "hv3")],
    ),
    "a peer that sends nothing": (on("hv3", forwarding=()), [("broken", "forwarding", "hv3")]),
    "a silent peer": ({"answers": {**ANSWERS, "hv2": "silent"}}, [("not known", "forwarding", "hv2")]),
    "a peer without the network": (
        {"states": {**WHOLE.states, "hv2": {"lan": NetworkState(problem="no")}}},
        [("not known", "forwarding", "hv2")],
    ),
    "another MTU there": (
        {"states": {**WHOLE.states, "hv2": {"lan": NetworkState(8950)}}},
        [("broken", "mtu", "hv1")],
    ),
    "rules refused": (on("hv1", refusal="nft refuses"), [("broken", "firewall", "hv1")]),
    "rules not in force": ({"acls": {"lan": DENYING}}, [("broken", "firewall", "hv1")]),
    "rules unreadable": ({"acls": {"lan": None}}, [("broken", "firewall", "hv1")]),
    "rules of which nothing is known": (
        {"acls": {"lan": DENYING}, **on("hv1", counts=None)},
        [("not known", "firewall", "hv1")],
    ),
    "no gateway": ({"gateways": {}}, [("broken", "gateway", "hv1")]),
    "gateway without ticket": ({"tickets": frozenset()}, [("broken", "gateway", "hv3")]),
    "gateway without router": (on("hv3", router=None), [("broken", "gateway", "hv3")]),
    "router ailing": (on("hv3", router=RouterState(True, True, "ill")), [("broken", "gateway", "hv3")]),
    "router passive": (on("hv3", router=RouterState()), [("broken", "gateway", "hv3")]),
    "router fallen silent": (on("hv3", router=RouterState(active=True)), [("broken", "gateway", "hv3")]),
    "router not known": (on("hv3", routers_known=False, router=None), [("not known", "gateway", "hv1")]),
    "gateway sought elsewhere": (
        on("hv1", forwarding=(*FLOODS["hv1"], Entry(ROUTER, TWO))),
        [("broken", "to gateway", "hv1")],
    ),
    "no entry for the gateway": (on("hv1", forwarding=FLOODS["hv1"]), [("broken", "to gateway", "hv1")]),
    "no lease": ({"leases": {"lan": {}}}, [("broken", "lease", "hv1")]),
    "DHCP does not know": (on("hv3", hosts=(B,)), [("broken", "lease", "hv3")]),
    "DHCP is not known": (on("hv3", hosts=None), [("not known", "lease", "hv3")]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_one_thing_that_is_wrong_is_found_and_nothing_else(fault: str) -> None:
    changes, expected = FAULTS[fault]
    assert judged(replace(WHOLE, **changes)) == expected


def test_what_a_move_leaves_for_a_moment_breaks_nothing() -> None:
    moving = replace(WHOLE, gateways={"lan": Gateway("hv3", 1000.0, next="hv2")}, **on("hv1", forwarding=FLOODS["hv1"]))
    assert judged(moving) == []
    stale = {"lan": {"hv1": Ports({A: 2}), "hv2": Ports({A: 1})}}
    dead: Mapping[str, Any] = {"answers": {**ANSWERS, "hv2": "its daemon is not alive"}}
    assert judged(replace(WHOLE, ports=stale, **dead)) == [("not known", "forwarding", "hv2")]
    assert judged(replace(WHOLE, **actual(ActualState.MIGRATING))) == []


def test_a_later_claim_of_a_node_whose_daemon_is_dead_takes_the_frames_away() -> None:
    later = {"lan": {"hv1": Ports({A: 1}), "hv2": Ports({A: 2})}}
    dead: Mapping[str, Any] = {"answers": {**ANSWERS, "hv2": "its daemon is not alive"}}
    assert judged(replace(WHOLE, ports=later, **dead)) == [
        ("broken", "published", "hv1"),
        ("not known", "forwarding", "hv2"),
    ]


def test_of_two_ends_both_are_looked_at_and_third_nodes_do_not_matter() -> None:
    assert judged(replace(PAIR, **on("hv2", forwarding=FLOODS["hv2"]))) == [
        ("broken", "forwarding", "hv2"),
        ("broken", "to gateway", "hv2"),
    ]
    assert judged(replace(PAIR, **on("hv3", forwarding=(Entry(A, TWO), *FLOODS["hv3"])))) == [
        ("broken", "forwarding", "hv3")  # which has the gateway
    ]
    without = replace(PAIR, gateways={}, networks={"lan": replace(LAN, ipv4_gateway=None)})
    assert judged(replace(without, **on("hv3", forwarding=()))) == []
    back = replace(without, **on("hv1", forwarding=FLOODS["hv1"]))
    assert judged(back) == [("broken", "forwarding", "hv1")]


def rules(case: Case, probe: Probe) -> list[Step]:
    return [step for step in steps(case, probe) if step.what.startswith("rules")]


def test_the_rules_of_both_directions_are_asked_about_the_packet() -> None:
    counted = {"lan in 0": Count(3, 300), "lan in 1": Count(9, 900)}
    answers = {
        node: replace(of, networks={"lan": replace(of.networks["lan"], counts=counted)}) for node, of in ANSWERS.items()
    }
    case = replace(PAIR, acls={"lan": DENYING}, answers=answers)
    out, into = rules(case, Probe())
    assert (out.result, out.vm, into.result, into.vm) == (Result.OK, "a", Result.BROKEN, "b")
    assert into.seen == "the default stops icmp from 10.1.0.5 to 10.1.0.6: drop"
    assert [step.result for step in rules(case, Probe(Protocol.TCP, 22))] == [Result.OK, Result.OK]
    assert [step.result for step in rules(case, Probe(Protocol.TCP, 23))] == [Result.OK, Result.BROKEN]
    assert [step.result for step in rules(case, Probe(Protocol.TCP))] == [Result.OK, Result.UNKNOWN]
    said = [step.seen for step in steps(case, Probe()) if step.what == "firewall"]
    assert said[0] == "in drop after 1 rule, out accept after no rules; stopped packets on this node: 3 by in default"


def test_an_address_outside_is_reached_through_a_gateway_and_one_inside_is_not() -> None:
    bare = replace(WHOLE, networks={"lan": replace(LAN, ipv4_gateway=None)}, gateways={})
    assert judged(replace(bare, address=ip_address("192.0.2.1"))) == [("not known", "gateway", "")]
    assert judged(replace(bare, address=ip_address("10.1.0.99"))) == []
    assert judged(replace(WHOLE, address=ip_address("192.0.2.1"))) == []
    closed = Acl(outgoing=Side(Action.ACCEPT, (Rule(Action.REJECT, destination=("192.0.2.0/24",)),)))
    assert judged(replace(WHOLE, address=ip_address("192.0.2.1"), acls={"lan": closed})) == [
        ("broken", "firewall", "hv1"),
        ("broken", "rules out", "hv1"),
    ]


def test_two_networks_are_joined_by_the_gateways_of_both() -> None:
    dmz = Network("dmz", NetworkKind.MANAGED, vni=101)
    other = End(PAIR.ends[1].vm, PAIR.ends[1].actual, (Interface("dmz", B),), {"dmz": (B,)})
    case = replace(WHOLE, ends=(WHOLE.ends[0], other), networks={"lan": LAN, "dmz": dmz})
    found = [step for step in steps(case, Probe()) if step.what == "gateway"]
    assert [(step.result, step.network) for step in found] == [(Result.OK, "lan"), (Result.UNKNOWN, "dmz")]
    assert "leads out of network dmz, which has no gateway" in found[1].seen


def test_a_bridged_network_has_an_uplink_and_no_forwarding() -> None:
    dmz = Network("lan", NetworkKind.BRIDGED, "eth1")
    uplink = Link("eth1", up=True, mtu=1500, master="pvb-lan")
    case = replace(WHOLE, networks={"lan": dmz}, gateways={}, **on("hv1", carrier=uplink))
    assert judged(case) == []
    assert {"tunnel", "forwarding"}.isdisjoint(step.what for step in steps(case, Probe()))
    assert judged(replace(case, **on("hv1", carrier=replace(uplink, master="")))) == [("broken", "uplink", "hv1")]
