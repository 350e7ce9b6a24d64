"""The firewall of a simulated cluster: whose ports are in the rules and when, and what becomes of a network without."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

from pvc.core.coordination import Create, Put
from pvc.core.lookup import read_facts
from pvc.core.model import Severity
from pvc.core.runtime import Runtime
from pvc.plugins.hypervisor import requests
from pvc.plugins.networking.decide.attachment import published_in
from pvc.plugins.networking.decide.ports import device_of
from pvc.plugins.networking.firewall import keys
from pvc.plugins.networking.firewall.acl import change_acl
from pvc.plugins.networking.firewall.decide.membership import Ports, must_be_in_force, ports
from pvc.plugins.networking.firewall.decide.order import with_default, with_rule
from pvc.plugins.networking.firewall.packetfilter import Ruleset
from pvc.plugins.networking.firewall.rules import Acl, Action, Direction, Protocol, Rule, Side
from pvc.plugins.networking.firewall.wanted import FilteredNetwork, Port, Protection
from pvc.plugins.networking.plugin import NetworkingPlugin
from pvc.plugins.networking.records import Network, NetworkKind
from pvc.plugins.networking.requests import add
from pvc.testing.cluster import SimCluster
from pvc.testing.packetfilter import FakePacketFilter

MAC, OTHER = "52:54:00:00:00:0a", "52:54:00:00:00:0b"
LAN = Network("lan", NetworkKind.MANAGED)
DMZ = Network("dmz", NetworkKind.BRIDGED, device="eth1")
NO_WEB = Rule(Action.DROP, Protocol.TCP)
FENCE = '"pvt*" drop'


def node(number: int, **further: Any) -> Mapping[str, Any]:
    return {"address": f"10.0.0.{number}", "roles": {"networking": True}, **further}


@pytest.fixture
def cluster() -> Iterator[SimCluster]:
    """Two nodes, a managed and a bridged network."""
    with SimCluster({f"hv{number}": node(number) for number in (1, 2)}) as cluster:
        for each in cluster.nodes.values():
            each.dataplane.add("eth1")
        cluster.start()
        for network in (LAN, DMZ):
            add(cluster.client, network)
        assert until(cluster, lambda: all(state(cluster, name) == "up" for name in cluster.nodes))
        yield cluster


def until(cluster: SimCluster, condition: Callable[[], bool]) -> bool:
    return cluster.run_until(condition, 30)


def state(cluster: SimCluster, name: str, network: str = "lan") -> str:
    published = published_in(read_facts(cluster.client, name))
    return "unknown" if network not in published else published[network].problem or "up"


def text(cluster: SimCluster, name: str) -> str:
    """The rules in force on a node."""
    return "\n".join(line for chain in cluster.nodes[name].packetfilter.rules.chains for line in chain.lines)


def keep_web_out(cluster: SimCluster, network: str) -> None:
    change_acl(cluster.client, network, lambda acl: with_rule(acl, Direction.IN, NO_WEB, None))


def critical(cluster: SimCluster, name: str) -> str:
    return "\n".join(one.text for one in cluster.health(name) if one.severity is Severity.CRITICAL)


def test_a_vm_has_its_port_in_the_rules_before_it_starts_and_before_it_arrives(cluster: SimCluster) -> None:
    device = device_of(MAC)
    vm = cluster.define("a", "hv1", networks={"lan": MAC}, run=False)
    assert until(cluster, lambda: device in text(cluster, "hv1"))
    assert FENCE in text(cluster, "hv2") and device not in text(cluster, "hv2")
    requests.start(cluster.client, vm)
    cluster.settle()
    assert f'<target dev="{device}"' in cluster.nodes["hv1"].host.xml(vm.uuid)
    requests.send(cluster.client, cluster.vm("a"), "hv2", keep_home=False)
    assert until(cluster, lambda: cluster.nodes["hv2"].host.look(vm.uuid) is not None)
    assert device in text(cluster, "hv2"), "it is on its way"
    assert device in text(cluster, "hv1"), "it is not gone yet"
    cluster.settle()
    assert until(cluster, lambda: device not in text(cluster, "hv1")) and device in text(cluster, "hv2")


def test_a_rule_is_in_force_on_every_node_soon_after_it_was_made(cluster: SimCluster) -> None:
    cluster.define("a", "hv1", networks={"lan": MAC})
    cluster.define("b", "hv2", networks={"lan": OTHER})
    cluster.settle()
    keep_web_out(cluster, "lan")
    cluster.run(1)
    for name in cluster.nodes:
        assert 'meta l4proto tcp counter drop comment "lan in 1"' in text(cluster, name)


def test_vms_of_managed_networks_cannot_pretend_and_those_of_bridged_ones_can(cluster: SimCluster) -> None:
    cluster.define("a", "hv1", networks={"lan": MAC})
    cluster.define("b", "hv1", networks={"dmz": OTHER})
    cluster.settle()
    rules = text(cluster, "hv1")
    assert f'"{device_of(MAC)}" . {MAC}' in rules and "sport 67 udp dport 68 drop" in rules
    assert f". {OTHER}" not in rules and f'"{device_of(OTHER)}" accept' in rules


def test_a_network_that_nothing_filters_takes_no_vm_and_one_that_needs_no_filter_does(cluster: SimCluster) -> None:
    cluster.define("a", "hv1", networks={"lan": MAC})
    cluster.settle()
    cluster.nodes["hv1"].packetfilter.unavailable = "nft is missing; install the package nftables"
    assert until(cluster, lambda: "install the package nftables" in state(cluster, "hv1"))
    assert "no VM on it comes here" in critical(cluster, "hv1") and cluster.vm_runs("a")
    assert state(cluster, "hv1", "dmz") == "up" == state(cluster, "hv2")
    keep_web_out(cluster, "dmz")
    assert until(cluster, lambda: "install the package" in state(cluster, "hv1", "dmz"))
    late = cluster.define("b", "hv1", networks={"lan": OTHER})
    assert until(cluster, lambda: cluster.actual("b").state.value == "failed")
    assert "install the package nftables" in cluster.actual("b").reason
    cluster.nodes["hv1"].packetfilter.unavailable = ""
    assert until(cluster, lambda: state(cluster, "hv1") == state(cluster, "hv1", "dmz") == "up")
    requests.start(cluster.client, late)
    cluster.settle()


class Slow(FakePacketFilter):
    """A kernel that takes its time."""

    def __init__(self, runtime: Runtime) -> None:
        super().__init__()
        self._runtime = runtime

    def apply(self, ruleset: Ruleset) -> None:
        self._runtime.sleep(5)
        super().apply(ruleset)


def test_a_network_is_not_offered_before_its_rules_are_in_force() -> None:
    plugins: dict[str, object] = {}
    with SimCluster({"hv1": node(1)}, ready=lambda _name: plugins) as cluster:
        slow = Slow(cluster.client_process)
        hv1 = cluster.nodes["hv1"]
        plugins["networking"] = NetworkingPlugin(lambda: hv1.bridges, lambda: hv1.dataplane, lambda: slow)
        cluster.start()
        add(cluster.client, LAN)
        assert until(cluster, lambda: "pvb-lan" in hv1.dataplane.look().links)
        cluster.run(3)
        assert (slow.applied, state(cluster, "hv1")) == (0, "unknown")
        assert until(cluster, lambda: state(cluster, "hv1") == "up") and slow.applied == 1


def test_rules_that_cannot_be_read_are_those_before_or_nothing_passes(cluster: SimCluster) -> None:
    cluster.define("a", "hv1", networks={"lan": MAC})
    keep_web_out(cluster, "lan")
    cluster.settle()
    cluster.client.commit([Put(keys.acl("lan"), b"{")])
    cluster.client.commit([Create(keys.acl("dmz"), b"{")])
    assert until(cluster, lambda: "the rules of network lan cannot be read" in critical(cluster, "hv1"))
    assert '"lan in 1"' in text(cluster, "hv1")
    cluster.kill_daemon("hv1")
    cluster.run(15)
    cluster.start_daemon("hv1")
    assert until(cluster, lambda: 'counter drop comment "lan in 0"' in text(cluster, "hv1"))


def test_the_hosts_own_rules_are_kept_from_bridges_only_while_there_are_networks() -> None:
    with SimCluster({"hv1": node(1), "hv2": node(2, networking={"bridge_netfilter": "leave"})}) as cluster:
        filters = {name: each.packetfilter for name, each in cluster.nodes.items()}
        for each in filters.values():
            each.switched_on.add("bridge-nf-call-iptables")
        cluster.start()
        cluster.run(20)
        assert filters["hv1"].switched_on
        add(cluster.client, LAN)
        assert until(cluster, lambda: not filters["hv1"].switched_on)
        cluster.run(20)
        assert filters["hv2"].switched_on
        assert any("bridge-nf-call-iptables is on" in finding.text for finding in cluster.health("hv2"))
        assert not any("bridge-nf" in finding.text for finding in cluster.health("hv1"))
        assert "bridge-nf-call-iptables was on and is off now" in "\n".join(cluster.log.lines)


def test_a_vm_that_is_plugged_in_past_the_networks_name_is_told_of(cluster: SimCluster) -> None:
    cluster.nodes["hv1"].dataplane.add("vnet0", master="pvb-lan", kind="tun")
    cluster.nodes["hv1"].dataplane.add("vnet1", master="pvb-dmz", kind="tun")
    assert until(cluster, lambda: "nothing filters vnet0 on lan" in critical(cluster, "hv1"))
    assert "vnet1" not in critical(cluster, "hv1"), "there is nothing to filter"


def test_a_vm_that_runs_keeps_its_port_whatever_its_definition_has_become(cluster: SimCluster) -> None:
    cluster.nodes["hv1"].dataplane.add(device_of(MAC), master="pvb-lan", kind="tun")
    assert until(cluster, lambda: device_of(MAC) in text(cluster, "hv1"))
    assert device_of(MAC) not in text(cluster, "hv2")


def test_what_others_change_while_zookeeper_is_away_is_mended(cluster: SimCluster) -> None:
    before = cluster.nodes["hv1"].packetfilter.rules
    cluster.ensemble.stop()
    cluster.run(40)
    cluster.nodes["hv1"].packetfilter.wipe()
    assert until(cluster, lambda: cluster.nodes["hv1"].packetfilter.rules == before)


def test_one_device_name_on_two_networks_gets_nothing_through_until_it_is_plugged_into_one() -> None:
    port = Port(device_of(MAC), MAC)
    claims = [{"lan": frozenset({port})}, {"dmz": frozenset({port})}]
    assert ports(claims, {}) == Ports({}, (port.name,))
    assert ports(claims, {"dmz": frozenset({port})}) == Ports({"dmz": frozenset({port})})


def test_what_protects_or_keeps_out_must_be_in_force() -> None:
    plain = FilteredNetwork("n", "pvb-n")
    assert not must_be_in_force(plain)
    assert must_be_in_force(replace(plain, protection=Protection(dhcp_answers=True)))
    assert must_be_in_force(replace(plain, acl=with_default(Acl(), Direction.OUT, Action.DROP)))
    assert must_be_in_force(replace(plain, acl=Acl(Side(rules=(NO_WEB,)))))
    assert not must_be_in_force(replace(plain, acl=Acl(Side(rules=(Rule(Action.ACCEPT),)))))
