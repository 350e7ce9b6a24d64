"""Gateways of a simulated cluster: what their routers are made of, how they move, and how they fall silent."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from pvc.core import keys as core
from pvc.core.coordination import Create, Delete, Op, Put
from pvc.core.records import decode, encode
from pvc.plugins.networking import keys
from pvc.plugins.networking.gateway.book import read_leases
from pvc.plugins.networking.gateway.routers import Host, Leg, Route, Router
from pvc.plugins.networking.records import Gateway, Network, NetworkKind, Upstream
from pvc.plugins.networking.requests import add, modify, remove
from pvc.testing.cluster import SESSION_TIMEOUT, SimCluster
from pvc.testing.invariants import Invariants
from pvc.testing.steps import Steps

MAC, OTHER = "52:54:00:00:00:0a", "52:54:00:00:00:0b"
LAN = Network("lan", NetworkKind.MANAGED, ipv4="10.1.0.0/24", ipv4_gateway="10.1.0.1")
TWO = Network("two", NetworkKind.MANAGED, ipv6="fd00:2::/64", ipv6_gateway="fd00:2::1")


@pytest.fixture
def cluster() -> Iterator[SimCluster]:
    """Three nodes, and a network whose gateway is on hv1."""
    with SimCluster(
        {f"hv{n}": {"address": f"10.0.0.{n}", "roles": {"networking": True}} for n in (1, 2, 3)}
    ) as cluster:
        cluster.start()
        for node in cluster.nodes.values():
            node.dataplane.add("eth1")
        add(cluster.client, LAN)
        comes_to(cluster, "hv1")
        yield cluster


def comes_to(cluster: SimCluster, *nodes: str, within: float = 30.0) -> None:
    assert cluster.run_until(lambda: cluster.gateways.acting("lan") == list(nodes), within), record(cluster)


def record(cluster: SimCluster, network: str = "lan") -> Gateway:
    znode = cluster.client.get(keys.gateway(network))
    assert znode is not None
    return decode(Gateway, znode.data, keys.gateway(network))


def router(cluster: SimCluster, node: str, network: str = "lan") -> Router:
    return cluster.nodes[node].routers.routers[network]


def at_once(cluster: SimCluster, condition: Callable[[], bool]) -> bool:
    return cluster.run_until(condition, 1.0)


def test_a_router_has_a_leg_in_its_network_one_to_the_other_gateways_and_one_outside(cluster: SimCluster) -> None:
    add(cluster.client, TWO)
    add(cluster.client, Network("dmz", NetworkKind.BRIDGED, "eth1"))
    upstream = Upstream("dmz", "192.0.2.10/24", "192.0.2.1", nat=True)
    modify(cluster.client, "lan", {"upstream": upstream, "dns": ("192.0.2.53",)})
    assert cluster.run_until(lambda: router(cluster, "hv1").upstream is not None, 30)
    made = router(cluster, "hv1")
    assert made.lan == Leg("pvb-lan", "02:70:76:00:00:64", 1450, ("10.1.0.1/24",))
    routes = (Route("fd00:2::/64", "fe80::65"),)
    assert made.transit == Leg("pvb-_transit", "02:70:74:00:00:64", 1450, ("fe80::64/64",), routes)
    routes = (Route("0.0.0.0/0", "192.0.2.1"),)
    assert made.upstream == Leg("pvb-dmz", "02:70:75:00:00:64", 1500, ("192.0.2.10/24",), routes)
    assert made.nat and made.active
    assert (made.services.domain, made.services.dhcp4, made.services.dhcp6) == ("lan.internal", True, False)
    assert made.services.forwarders == ("192.0.2.53",)


def test_vms_are_given_addresses_and_names_that_every_gateway_knows(cluster: SimCluster) -> None:
    add(
        cluster.client, Network("far", NetworkKind.MANAGED, ipv4="10.2.0.0/24", ipv4_gateway="10.2.0.1", domain="x.org")
    )
    cluster.define("Web-1", "hv3", networks={"lan": MAC})
    cluster.define("db", "hv3", networks={"far": OTHER})
    cluster.settle()
    assert cluster.run_until(lambda: len(router(cluster, "hv1").services.names or ()) == 2, 30)
    services = router(cluster, "hv1").services
    assert services.hosts == (Host(MAC, "web-1", services.hosts[0].ipv4),)
    assert services.hosts[0].ipv4 is not None
    assert set(services.names or ()) == {"web-1.lan.internal", "db.x.org"}
    assert at_once(cluster, lambda: router(cluster, "hv2", "far").services.names == services.names)


def test_a_network_without_an_address_left_is_a_finding_of_its_gateways_node(cluster: SimCluster) -> None:
    tiny = Network("tiny", NetworkKind.MANAGED, ipv4="10.9.0.0/30", ipv4_gateway="10.9.0.1")
    add(cluster.client, tiny)
    for name, mac in (("one", MAC), ("two", OTHER)):
        cluster.define(name, "hv3", networks={"tiny": mac})
    cluster.settle()

    def full() -> list[str]:
        return [node for node in cluster.nodes if any("tiny is full" in one.text for one in cluster.health(node))]

    assert cluster.run_until(lambda: full() == cluster.gateways.acting("tiny") != [], 30)


def test_a_vm_keeps_its_address_though_nobody_can_read_that_it_is_there(cluster: SimCluster) -> None:
    tiny = Network("tiny", NetworkKind.MANAGED, ipv4="10.9.0.0/30", ipv4_gateway="10.9.0.1")
    add(cluster.client, tiny)
    cluster.define("one", "hv3", networks={"tiny": MAC})
    cluster.settle()
    assert cluster.run_until(lambda: MAC in read_leases(cluster.client, "tiny"), 30)
    had = read_leases(cluster.client, "tiny")
    cluster.kill_daemon("hv3")  # the VM runs on; what its node said of it is spoilt
    cluster.client.commit([Put(keys.node_ports("tiny", "hv3"), b"{")])
    cluster.define("two", "hv2", networks={"tiny": OTHER})

    def told() -> bool:
        (holder,) = cluster.gateways.acting("tiny") or [""]
        return holder != "" and any("cannot be read of hv3" in one.text for one in cluster.health(holder))

    assert cluster.run_until(told, 60)
    assert read_leases(cluster.client, "tiny") == had


def test_what_is_sent_to_the_gateway_goes_to_its_node_and_to_all_while_it_moves(cluster: SimCluster) -> None:
    cluster.define("a", "hv2", networks={"lan": MAC})
    cluster.settle()
    sends = cluster.nodes["hv2"].dataplane.sends
    assert at_once(cluster, lambda: sends("pvx-lan", "02:70:76:00:00:64") == {"10.0.0.1"})
    cluster.nodes["hv3"].routers.failing["lan"] = "not yet"
    cluster.nodes["hv2"].routers.failing["lan"] = "not yet"
    cluster.ask("flush", "hv1")
    assert cluster.run_until(lambda: record(cluster).next == "hv2", 5)
    assert at_once(cluster, lambda: sends("pvx-lan", "02:70:76:00:00:64") == {"10.0.0.1", "10.0.0.3"})
    comes_to(cluster, "hv1")


def test_who_sends_to_a_gateway_looks_at_no_device_while_it_is_handed_over_and_soon_after(cluster: SimCluster) -> None:
    cluster.define("a", "hv3", networks={"lan": MAC})
    cluster.settle()
    dataplane = cluster.nodes["hv3"].dataplane
    assert at_once(cluster, lambda: dataplane.sends("pvx-lan", "02:70:76:00:00:64") == {"10.0.0.1"})
    cluster.nodes["hv2"].sessions[0].latency = lambda: 0.1
    cluster.client.commit([Put(keys.gateway("lan"), encode(replace(record(cluster), next="hv2")))])
    assert cluster.run_until(lambda: record(cluster).patience > 0, 5)
    assert dataplane.sends("pvx-lan", "02:70:76:00:00:64") == {"10.0.0.1", "10.0.0.2"}, "both were sent to before"
    before = dataplane.looks
    assert cluster.run_until(lambda: record(cluster).patience == 0, 5)
    assert dataplane.looks == before
    assert at_once(cluster, lambda: dataplane.sends("pvx-lan", "02:70:76:00:00:64") == {"10.0.0.2"})


def test_a_handover_leaves_the_network_without_gateway_for_moments_only(cluster: SimCluster) -> None:
    invariants = Invariants(cluster)
    gaps: list[float] = []
    cluster.on_commit(lambda *_: gaps.append(cluster.world.time) if not cluster.gateways.acting("lan") else None)
    cluster.ask("flush", "hv1")
    assert cluster.finish("hv1").phase.value == "done"
    assert not invariants.problems()
    assert gaps and max(gaps) - min(gaps) < 0.1, gaps
    comes_to(cluster, "hv2", within=0.1)
    first = next(number for number, made in enumerate(cluster.nodes["hv2"].routers.settled) if made.active)
    assert first > 0, "it was made ready before it was the gateway"
    at_once(cluster, lambda: not cluster.nodes["hv1"].routers.routers)
    assert cluster.gateways.acting("lan") == ["hv2"] and not cluster.nodes["hv1"].routers.routers


def test_a_node_that_is_cut_off_falls_silent_before_its_session_can_expire(cluster: SimCluster) -> None:
    cluster.run(20)
    cluster.nodes["hv1"].sessions[0].suspend()
    cut = cluster.world.time
    assert cluster.run_until(lambda: not cluster.gateways.acting("lan"), 30)
    assert cluster.world.time - cut < 0.75 * SESSION_TIMEOUT
    assert cluster.client.get(keys.gateway_ticket("lan")) is not None
    comes_to(cluster, "hv2")


def test_a_hold_counts_from_before_the_proof_was_asked_for_however_late_the_answer_is(cluster: SimCluster) -> None:
    cluster.nodes["hv1"].sessions[0].latency = lambda: 2.0
    held = cluster.nodes["hv1"].routers
    cluster.run(40)
    seconds = [seconds for name, seconds in held.held if name]
    assert max(seconds[-3:]) <= 0.7 * SESSION_TIMEOUT - 4.0


def test_a_ticket_that_is_not_of_the_own_session_silences_the_router_at_once(cluster: SimCluster) -> None:
    cluster.run(5)
    for node in ("hv2", "hv3"):
        cluster.kill_daemon(node)
    cluster.run(15)
    cluster.client.commit([Delete(keys.gateway_ticket("lan"))])
    assert at_once(cluster, lambda: cluster.client.get(keys.gateway_ticket("lan")) is not None)
    comes_to(cluster, "hv1", within=1)


def test_a_ticket_of_another_session_is_noticed_though_no_watch_tells_of_it(cluster: SimCluster) -> None:
    cluster.run(5)
    cluster.nodes["hv1"].sessions[0].lose_events(10)
    path = keys.gateway_ticket("lan")
    stolen: list[Op] = [
        Delete(path),
        Create(path, ephemeral=True),
        Put(keys.gateway("lan"), encode(Gateway("elsewhere"))),
    ]
    cluster.client.commit(stolen)
    cluster.run(3)
    assert cluster.gateways.acting("lan") == []


def test_a_daemon_that_cannot_make_its_router_offers_the_gateway_to_others(cluster: SimCluster) -> None:
    cluster.nodes["hv1"].routers.failing["lan"] = "no dnsmasq; install it"
    assert cluster.run_until(
        lambda: any("cannot be made: no dnsmasq" in finding.text for finding in cluster.health("hv1")), 40
    )
    comes_to(cluster, "hv2", within=60)
    assert cluster.run_until(lambda: not any("lan" in finding.text for finding in cluster.health("hv1")), 40)


def test_a_machine_that_makes_no_routers_is_given_no_gateway(cluster: SimCluster) -> None:
    cluster.nodes["hv2"].routers.unavailable = "no nftables; install it"
    cluster.run(20)
    assert any("this node makes no gateways: no nftables" in finding.text for finding in cluster.health("hv2"))
    cluster.power_off("hv1")
    comes_to(cluster, "hv3", within=60)


def test_a_gateway_goes_with_its_network_and_with_its_address(cluster: SimCluster) -> None:
    modify(cluster.client, "lan", {"ipv4_gateway": None})
    comes_to(cluster, within=5)
    assert at_once(cluster, lambda: not cluster.nodes["hv1"].routers.routers)
    modify(cluster.client, "lan", {"ipv4_gateway": "10.1.0.2"})
    assert cluster.run_until(lambda: len(cluster.gateways.acting("lan")) == 1, 10)
    remove(cluster.client, "lan")
    comes_to(cluster, within=5)
    assert at_once(cluster, lambda: not any(node.routers.routers for node in cluster.nodes.values()))


def test_who_took_a_gateway_while_another_was_giving_it_back_keeps_it(cluster: SimCluster) -> None:
    slow = cluster.nodes["hv1"].routers
    slow.slow["lan"] = 5.0
    modify(cluster.client, "lan", {"ipv4_gateway": None})
    assert cluster.run_until(lambda: not slow.settled[-1].active, 5)
    cluster.client.commit(
        [
            Put(keys.gateway("lan"), encode(Gateway("elsewhere"))),
            Delete(keys.gateway_ticket("lan")),
            Create(keys.gateway_ticket("lan"), ephemeral=True),
        ]
    )
    cluster.run(10)
    ticket = cluster.client.get(keys.gateway_ticket("lan"))
    assert ticket is not None and ticket.owner == cluster.client.session_id
    assert not slow.routers


def test_the_network_between_gateways_is_nobodys_to_see(cluster: SimCluster) -> None:
    znode = cluster.client.get(core.node_facts("hv1"))
    assert znode is not None and b"_transit" not in znode.data
    assert "pvx-_transit" in cluster.nodes["hv1"].dataplane.look().links
    cluster.nodes["hv2"].dataplane.remove("pvb-_transit")
    cluster.nodes["hv2"].dataplane.add("pvb-_transit", kind="bridge")
    assert cluster.run_until(lambda: any("_transit" in finding.text for finding in cluster.health("hv2")), 60)


def test_a_router_that_somebody_removed_is_made_again(cluster: SimCluster) -> None:
    cluster.nodes["hv1"].routers.boot()
    comes_to(cluster, "hv1")


def test_who_has_not_heard_that_patience_was_asked_for_takes_nothing(cluster: SimCluster) -> None:
    cluster.run(5)
    cluster.nodes["hv2"].sessions[0].lose_events(1)
    Steps(cluster).perform({"stop": "hv1"})
    cluster.run(2)
    assert cluster.gateways.acting("lan") == ["hv1"]
    comes_to(cluster, "hv2")


@pytest.mark.parametrize("arrived", [False, True])
def test_a_gateway_whose_daemon_could_not_ask_for_patience_is_silent_before_another_takes_it(
    cluster: SimCluster, arrived: bool
) -> None:
    Steps(cluster).perform({"lose_answer": {"node": "hv1", "arrived": arrived}})
    Steps(cluster).perform({"stop": "hv1"})
    assert cluster.run_until(lambda: cluster.gateways.acting("lan") in (["hv2"], ["hv3"]), 60)
    assert cluster.gateways.twice == []


def test_patience_that_was_asked_for_ends_with_the_daemon_that_comes_back(cluster: SimCluster) -> None:
    cluster.kill_daemon("hv1")  # after it has asked, and before its session was closed
    cluster.client.commit([Put(keys.gateway("lan"), encode(replace(record(cluster), patience=10.0)))])
    before = cluster.client.get(keys.gateway_ticket("lan"))
    cluster.start_daemon("hv1")
    cluster.run(5)
    ticket = cluster.client.get(keys.gateway_ticket("lan"))
    assert ticket is not None and before is not None and ticket.owner != before.owner
    assert record(cluster) == Gateway("hv1", since=record(cluster).since, home="hv1")
    assert cluster.gateways.acting("lan") == ["hv1"]


def test_of_two_candidates_at_once_one_has_it_and_the_other_looks_again(cluster: SimCluster) -> None:
    slow = cluster.nodes["hv2"].sessions[0]
    cluster.power_off("hv1")
    cluster.run(9)
    slow.latency = lambda: 3.5  # its turn comes first, but the other has passed it over when its ticket is drawn
    comes_to(cluster, "hv3")
    holder = record(cluster).since
    cluster.run(30)
    slow.latency = float
    cluster.run(30)
    assert cluster.gateways.acting("lan") == ["hv3"]
    assert record(cluster).since == holder
    assert not cluster.nodes["hv2"].routers.routers


def test_a_node_that_is_not_ready_in_time_is_asked_no_longer(cluster: SimCluster) -> None:
    cluster.nodes["hv2"].routers.failing["lan"] = "no dnsmasq; install it"
    cluster.ask("flush", "hv1")
    assert cluster.run_until(lambda: record(cluster).next == "hv2", 5)
    cluster.run(15)
    assert cluster.gateways.acting("lan") == ["hv1"]
    assert cluster.finish("hv1").phase.value == "done"
    comes_to(cluster, "hv3", within=1)
    assert next(iter(cluster.operation("hv1").outcomes.values())).tries == ("hv2",)


def test_a_cancelled_flush_leaves_the_gateway_where_it_is(cluster: SimCluster) -> None:
    cluster.nodes["hv2"].routers.failing["lan"] = "no dnsmasq; install it"
    cluster.ask("flush", "hv1")
    assert cluster.run_until(lambda: record(cluster).next == "hv2", 5)
    cluster.cancel("hv1", "now")
    assert cluster.finish("hv1", 10).phase.value == "cancelled"
    assert cluster.gateways.acting("lan") == ["hv1"]
    assert record(cluster).next is None
