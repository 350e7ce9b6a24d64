"""EVPN in a simulated cluster: daemons that are started, found, mended and ended, and what nodes say of it."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from pvc.core.lookup import read_facts
from pvc.plugins.networking import keys
from pvc.plugins.networking.dataplane import FLOOD, Entry, Forward
from pvc.plugins.networking.decide.attachment import published_in
from pvc.plugins.networking.evpn.daemons import Program
from pvc.plugins.networking.records import Network, NetworkKind
from pvc.plugins.networking.requests import add
from pvc.testing.cluster import SimCluster

ALL = {Program.ZEBRA, Program.BGPD}


def node(number: int, **networking: Any) -> Mapping[str, Any]:
    section = {"fabric": "evpn", **networking}
    return {"address": f"10.0.0.{number}", "roles": {"networking": True}, "networking": section}


@pytest.fixture
def cluster() -> Iterator[SimCluster]:
    """Three nodes with EVPN, and a network that is up on all of them."""
    with SimCluster({f"hv{number}": node(number) for number in (1, 2, 3)}) as cluster:
        cluster.start()
        add(cluster.client, Network("lan", NetworkKind.MANAGED))
        assert cluster.run_until(lambda: all(state(cluster, name) == "up" for name in cluster.nodes), 20)
        yield cluster


def state(cluster: SimCluster, name: str) -> str:
    published = published_in(read_facts(cluster.client, name))
    return "unknown" if "lan" not in published else published["lan"].problem or "up"


def findings(cluster: SimCluster, name: str) -> str:
    daemon = cluster.nodes[name].daemon
    assert daemon is not None
    return "\n".join(finding.text for finding in daemon.findings())


def test_every_node_talks_to_every_other(cluster: SimCluster) -> None:
    frr = {name: cluster.nodes[name].frr for name in cluster.nodes}
    assert all(set(daemons.running) == ALL for daemons in frr.values())
    assert frr["hv2"].peers == {"10.0.0.1", "10.0.0.3"}
    assert read_facts(cluster.client, "hv1").extra[keys.FABRIC] == "evpn, AS 65000, port 179"
    assert cluster.nodes["hv1"].dataplane.look().forwarding == {"pvx-lan": frozenset()}


def test_a_pvcd_that_restarts_finds_its_daemons_and_leaves_them_as_they_are(cluster: SimCluster) -> None:
    frr = cluster.nodes["hv1"].frr
    started = list(frr.started)
    cluster.restart_daemon("hv1")
    cluster.run(60)
    assert frr.started == started and frr.peers == {"10.0.0.2", "10.0.0.3"}
    assert state(cluster, "hv1") == "up"


def test_a_daemon_that_dies_is_started_again_and_with_zebra_all(cluster: SimCluster) -> None:
    node = cluster.nodes["hv1"]
    node.frr.started.clear()
    node.frr.kill(Program.BGPD)
    assert cluster.run_until(lambda: node.frr.peers == {"10.0.0.2", "10.0.0.3"}, 20)
    assert node.frr.started == [Program.BGPD]
    node.dataplane.apply(Forward("pvx-lan", Entry(FLOOD, "10.0.0.9")))
    cluster.run(60)
    assert node.dataplane.sends("pvx-lan", FLOOD) == {"10.0.0.9"}, "FRR's entries are not pvc's to take"
    node.frr.kill(Program.ZEBRA)
    assert cluster.run_until(lambda: set(node.frr.running) == ALL and len(node.frr.started) == 3, 20)
    assert node.frr.started == [Program.BGPD, Program.ZEBRA, Program.BGPD]
    assert node.dataplane.sends("pvx-lan", FLOOD) == set(), "nobody has looked after it meanwhile"


def test_without_frr_the_networks_are_unusable_and_say_so_until_it_is_there(cluster: SimCluster) -> None:
    frr = cluster.nodes["hv1"].frr
    frr.missing = "there is no /usr/lib/frr/bgpd; install Debian's package `frr`"
    frr.kill(Program.BGPD)
    assert cluster.run_until(lambda: "install Debian's package `frr`" in state(cluster, "hv1"), 30)
    assert "install Debian's package `frr`" in findings(cluster, "hv1")
    assert state(cluster, "hv2") == "up"
    frr.missing = ""
    assert cluster.run_until(lambda: state(cluster, "hv1") == "up", 30)


def test_a_tunnel_of_somebody_elses_keeps_frr_from_starting_and_is_reported_while_it_runs(cluster: SimCluster) -> None:
    node = cluster.nodes["hv1"]
    node.dataplane.add("flannel.1", kind="vxlan", vni=1)
    assert cluster.run_until(lambda: "may change the entries of the tunnel flannel.1" in findings(cluster, "hv1"), 30)
    assert state(cluster, "hv1") == "up"
    node.frr.kill(Program.ZEBRA)
    node.frr.kill(Program.BGPD)
    assert cluster.run_until(lambda: "FRR would change the tunnel flannel.1" in state(cluster, "hv1"), 30)
    cluster.run(60)
    assert not node.frr.running
    node.dataplane.remove("flannel.1")
    assert cluster.run_until(lambda: state(cluster, "hv1") == "up", 60)


def test_a_session_that_is_down_is_a_warning_with_the_nodes_name(cluster: SimCluster) -> None:
    cluster.nodes["hv1"].frr.down.add("10.0.0.3")
    assert cluster.run_until(lambda: "no BGP session with hv3 (10.0.0.3)" in findings(cluster, "hv1"), 30)
    assert state(cluster, "hv1") == "up"
    cluster.nodes["hv1"].frr.down.clear()
    assert cluster.run_until(lambda: "no BGP session" not in findings(cluster, "hv1"), 30)


def test_a_node_that_is_static_again_ends_its_daemons_and_the_others_name_it(cluster: SimCluster) -> None:
    frr = cluster.nodes["hv1"].frr
    cluster.kill_daemon("hv1")
    cluster.configure("hv1", node(1, fabric="static"))
    cluster.start_daemon("hv1")
    assert cluster.run_until(lambda: not frr.running, 60)
    assert cluster.run_until(lambda: cluster.nodes["hv1"].dataplane.sends("pvx-lan", FLOOD) != set(), 60)
    assert cluster.run_until(lambda: "hv1: static" in findings(cluster, "hv2"), 400)
    assert "hv2, hv3: evpn, AS 65000" in findings(cluster, "hv1")


def test_route_reflectors_are_the_only_peers_and_an_ipv6_address_is_refused() -> None:
    nodes = {"hv1": node(1, evpn={"neighbors": ["10.0.0.250"]}), "hv2": {**node(2), "address": "2001:db8::2"}}
    with SimCluster(nodes) as cluster:
        cluster.start()
        assert cluster.run_until(lambda: cluster.nodes["hv1"].frr.peers == {"10.0.0.250"}, 30)
        assert cluster.run_until(lambda: "needs an IPv4 address" in findings(cluster, "hv2"), 30)
        assert not cluster.nodes["hv2"].frr.running


def test_a_node_that_is_a_route_reflector_talks_to_all_and_the_others_to_it() -> None:
    with SimCluster({f"hv{number}": node(number, evpn={"neighbors": ["10.0.0.1"]}) for number in (1, 2, 3)}) as cluster:
        cluster.start()
        frr = {name: cluster.nodes[name].frr for name in cluster.nodes}
        assert cluster.run_until(lambda: frr["hv1"].peers == {"10.0.0.2", "10.0.0.3"}, 30)
        assert cluster.run_until(lambda: frr["hv2"].peers == frr["hv3"].peers == {"10.0.0.1"}, 30)
        assert "route-reflector-client" in frr["hv1"].running[Program.BGPD]
