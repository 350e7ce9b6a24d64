"""The networks of a simulated cluster: what nodes publish, whom they wake, and how a VM that uses one starts or not."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from pvc.core import keys as core
from pvc.core.coordination import Put
from pvc.core.lookup import read_facts
from pvc.core.observers import VmChange, VmEvent
from pvc.plugins.hypervisor import requests
from pvc.plugins.networking import keys
from pvc.plugins.networking.decide.attachment import (
    NetworkUnusable,
    macs_of,
    needed,
    networks_of,
    ports_of,
    published_in,
    with_bridges,
)
from pvc.plugins.networking.decide.ports import device_of, port_named, stable_mac
from pvc.plugins.networking.firewall.wanted import Port
from pvc.plugins.networking.records import Network, NetworkKind, read_ports
from pvc.plugins.networking.requests import Refused, add, remove
from pvc.testing.cluster import SimCluster

MAC, OTHER = "52:54:00:00:00:0a", "52:54:00:00:00:0b"
LAN = Network("lan", NetworkKind.MANAGED)


def node(number: int, **further: Any) -> Mapping[str, Any]:
    return {"address": f"10.0.0.{number}", "roles": {"networking": True}, **further}


@pytest.fixture
def cluster() -> Iterator[SimCluster]:
    """Three nodes, and a network that is up on all of them."""
    with SimCluster({f"hv{number}": node(number) for number in (1, 2, 3)}) as cluster:
        cluster.start()
        add(cluster.client, LAN)
        assert cluster.run_until(lambda: all(state(cluster, name) == "up" for name in cluster.nodes), 10)
        yield cluster


def state(cluster: SimCluster, name: str, network: str = "lan") -> str:
    published = published_in(read_facts(cluster.client, name))
    return "unknown" if network not in published else published[network].problem or "up"


def ports(cluster: SimCluster) -> dict[str, set[str]]:
    return {name: set(claimed.macs) for name, claimed in read_ports(cluster.client, "lan").items()}


def test_a_vm_is_plugged_into_the_networks_bridge_with_its_mtu(cluster: SimCluster) -> None:
    vm = cluster.define("a", "hv1", networks={"lan": MAC})
    cluster.settle()
    live = cluster.nodes["hv1"].host.xml(vm.uuid)
    assert '<source bridge="pvb-lan"' in live and '<mtu size="1450"' in live and 'type="bridge"' in live
    assert vm.needs == {"networking": ("network:lan",)}
    cluster.run(1)
    assert ports(cluster) == {"hv1": {MAC}}


def test_a_vm_that_comes_and_goes_wakes_nobody_who_has_none_on_that_network(cluster: SimCluster) -> None:
    cluster.define("a", "hv1", networks={"lan": MAC})
    cluster.define("c", "hv3")
    cluster.settle()
    cluster.run(1)
    looks = {name: cluster.nodes[name].dataplane.looks for name in cluster.nodes}
    cluster.define("b", "hv2", networks={"lan": OTHER})
    cluster.settle()
    assert cluster.run_until(lambda: cluster.nodes["hv1"].dataplane.sends("pvx-lan", OTHER) == {"10.0.0.2"}, 1)
    assert cluster.nodes["hv3"].dataplane.looks == looks["hv3"]
    assert cluster.nodes["hv1"].dataplane.looks > looks["hv1"]


def test_a_daemon_that_restarts_withdraws_nothing_and_changes_no_device(cluster: SimCluster) -> None:
    cluster.define("a", "hv1", networks={"lan": MAC})
    cluster.define("b", "hv2", networks={"lan": OTHER})
    cluster.settle()
    cluster.run(1)
    cluster.run_until(lambda: cluster.nodes["hv1"].dataplane.sends("pvx-lan", OTHER) == {"10.0.0.2"}, 5)
    changes = {name: len(cluster.nodes[name].dataplane.changes) for name in cluster.nodes}
    cluster.kill_daemon("hv2")
    cluster.run(15)
    cluster.start_daemon("hv2")
    cluster.run(60)
    assert {name: len(cluster.nodes[name].dataplane.changes) for name in cluster.nodes} == changes
    assert ports(cluster) == {"hv1": {MAC}, "hv2": {OTHER}}


def test_a_vm_that_ended_while_the_daemon_was_away_is_claimed_no_longer_after_a_while(cluster: SimCluster) -> None:
    vm = cluster.define("a", "hv1", networks={"lan": MAC})
    cluster.settle()
    cluster.run(1)
    cluster.kill_daemon("hv1")
    requests.stop(cluster.client, vm, now=True)
    cluster.fabric.guest_powers_off(vm.uuid)
    cluster.run(15)
    cluster.start_daemon("hv1")
    cluster.run(10)
    assert ports(cluster) == {"hv1": {MAC}}
    assert cluster.run_until(lambda: ports(cluster) == {}, 60)


def test_the_new_place_counts_though_the_daemon_of_the_old_one_is_dead(cluster: SimCluster) -> None:
    vm = cluster.define("a", "hv2", networks={"lan": MAC})
    cluster.define("b", "hv1", networks={"lan": OTHER})
    cluster.settle()
    assert cluster.run_until(lambda: cluster.nodes["hv1"].dataplane.sends("pvx-lan", MAC) == {"10.0.0.2"}, 5)
    cluster.kill_daemon("hv2")
    cluster.run(15)
    xml = cluster.nodes["hv2"].host.xml(vm.uuid)
    cluster.fabric.guest_powers_off(vm.uuid)
    assert ports(cluster)["hv2"] == {MAC}
    hv3 = cluster.nodes["hv3"]
    hv3.host.start(xml)  # found there, it is not this node's VM; the claim is what is looked at here
    assert hv3.daemon is not None
    hv3.daemon.context.plugins.vm_changed(VmEvent(VmChange.ARRIVED, vm.uuid, "a", xml))
    assert cluster.run_until(lambda: cluster.nodes["hv1"].dataplane.sends("pvx-lan", MAC) == {"10.0.0.3"}, 5)
    assert ports(cluster)["hv2"] == {MAC}


def test_many_networks_with_long_problems_are_all_published(cluster: SimCluster) -> None:
    for number in range(40):
        add(cluster.client, Network(f"n{number}", NetworkKind.MANAGED))
    assert cluster.run_until(lambda: all(state(cluster, "hv1", f"n{number}") == "up" for number in range(40)), 30)
    cluster.nodes["hv1"].dataplane.refusing = "\n" * 2000
    add(cluster.client, Network("last", NetworkKind.MANAGED))
    assert cluster.run_until(lambda: "\n" in state(cluster, "hv1", "last"), 30)


def test_what_the_kernel_refuses_is_a_problem_in_words_until_it_does_not(cluster: SimCluster) -> None:
    dataplane = cluster.nodes["hv1"].dataplane
    dataplane.refusing = "addbridge was refused: Operation not permitted; look"
    add(cluster.client, Network("dmz", NetworkKind.MANAGED))
    assert cluster.run_until(lambda: state(cluster, "hv2", "dmz") == "up", 10)
    assert cluster.run_until(lambda: "Operation not permitted" in state(cluster, "hv1", "dmz"), 10)
    assert state(cluster, "hv1") == "up"
    dataplane.refusing = ""
    assert cluster.run_until(lambda: state(cluster, "hv1", "dmz") == "up", 10)


def test_a_vm_does_not_start_where_its_network_is_not_up_and_says_why(cluster: SimCluster) -> None:
    vm = cluster.define("a", "hv1", networks={"lan": MAC}, run=False)
    cluster.nodes["hv1"].dataplane.change("eth0", addresses=())
    assert cluster.run_until(lambda: state(cluster, "hv1") != "up", 30)
    requests.start(cluster.client, vm)
    assert cluster.run_until(lambda: cluster.actual("a").state.value == "failed", 10)
    assert (
        "network lan cannot be used on this node: no device of this node has its address" in cluster.actual("a").reason
    )


def test_a_network_whose_record_is_garbage_is_left_alone(cluster: SimCluster) -> None:
    before = len(cluster.nodes["hv1"].dataplane.changes)
    cluster.client.commit([Put(keys.network("lan"), b"{")])
    assert cluster.run_until(lambda: "cannot be read" in state(cluster, "hv1"), 10)
    assert len(cluster.nodes["hv1"].dataplane.changes) == before
    with pytest.raises(Refused, match="cannot be read"):
        add(cluster.client, Network("dmz", NetworkKind.MANAGED))


def test_a_network_that_nobody_uses_leaves_no_device_behind(cluster: SimCluster) -> None:
    vm = cluster.define("a", "hv1", networks={"lan": MAC})
    cluster.settle()
    with pytest.raises(Refused, match="VMs use network lan: a"):
        remove(cluster.client, "lan")
    requests.stop(cluster.client, vm, now=True)
    cluster.run(5)
    requests.undefine(cluster.client, cluster.vm("a"))
    remove(cluster.client, "lan")
    cluster.run(5)
    assert all(not link.owned for name in cluster.nodes for link in cluster.nodes[name].dataplane.look().links.values())
    assert cluster.client.get(core.node_facts("hv1")) is not None and state(cluster, "hv1") == "unknown"


XML = """<domain xmlns:qemu="http://libvirt.org/schemas/domain/qemu/1.0"><devices>
<interface type='network'><mac address='52:54:00:00:00:0A'/><source network='lan' portgroup='x'/></interface>
<interface type='network'><source network='dmz'/><mtu size='1280'/></interface>
<interface type='bridge'><source bridge='br0'/></interface></devices><qemu:commandline/></domain>"""


def test_a_definition_is_plugged_into_bridges_and_its_live_form_tells_the_mac_addresses() -> None:
    assert networks_of(XML) == ("dmz", "lan") and needed(XML) == ("network:dmz", "network:lan")
    changed = with_bridges(XML, "u1", lambda name: (f"pvb-{name}", 1450))
    assert changed is not None
    assert networks_of(changed) == () and "portgroup" not in changed and "<qemu:commandline" in changed
    assert changed.count("<mtu ") == 2 and '<mtu size="1280"' in changed
    made_up = stable_mac("u1", "dmz", 1)
    assert macs_of(changed) == {"lan": {MAC}, "dmz": {made_up}} and made_up.startswith("52:54:00:")
    assert f'<target dev="pvt{MAC.replace(":", "")}"' in changed
    ports = {network: {port.mac for port in found} for network, found in ports_of(XML, "u1").items()}
    assert ports == macs_of(changed), "what is expected of a definition is what it becomes"
    assert with_bridges("<domain><devices/></domain>", "u1", lambda name: (name, 0)) is None
    assert with_bridges("<domain", "u1", lambda name: (name, 0)) is None and networks_of("<domain") == ()


def test_two_interfaces_of_one_mac_address_are_refused_because_their_devices_would_have_one_name() -> None:
    twice = XML.replace("<interface type='network'><source network='dmz'/>", f"{PLUG.format(MAC.upper(), 'dmz')}")
    with pytest.raises(NetworkUnusable, match=f"the MAC address {MAC}"):
        with_bridges(twice, "u1", lambda name: (f"pvb-{name}", 1450))


PLUG = "<interface type='network'><mac address='{}'/><source network='{}'/><target dev='theirs'/>"


def test_a_made_up_mac_address_stays_with_its_interface_and_differs_from_all_others() -> None:
    made = {stable_mac(uuid, network, number) for uuid in ("u1", "u2") for network in ("a", "b") for number in (1, 2)}
    assert len(made) == 8 and stable_mac("U1", "a", 1) == stable_mac("u1", "a", 1)
    both = "<domain><devices>{}<interface type='network'><source network='dmz'/></interface></devices></domain>"
    alone = ports_of(both.format(""), "u1")["dmz"]
    for further in (PLUG.format(MAC, "lan"), "<interface type='network'><source network='lan'/>"):
        assert ports_of(both.format(f"{further}</interface>"), "u1")["dmz"] == alone


def test_a_devices_name_tells_its_mac_address_and_no_other_device_is_taken_for_a_vms() -> None:
    assert len(device_of(MAC)) == 15 and port_named(device_of(MAC)) == Port(device_of(MAC), MAC)
    for other in ("pvt", "pvt52540000000", "pvt5254000000zz", "vnet0", "pvb-lan", "52540000000a"):
        assert port_named(other) is None


def test_the_devices_of_many_networks_are_made_at_once_and_what_is_refused_is_told_all_the_same() -> None:
    with SimCluster({"hv1": node(1)}) as cluster:
        for number in range(20):
            add(cluster.client, Network(f"net{number}", NetworkKind.MANAGED))
        dataplane = cluster.nodes["hv1"].dataplane
        dataplane.refusing = "no room for more devices; remove some"
        cluster.start()
        assert cluster.run_until(lambda: state(cluster, "hv1", "net19") == dataplane.refusing, 10)
        dataplane.refusing = ""
        assert cluster.run_until(lambda: state(cluster, "hv1", "net19") == "up", 10)
        assert all(state(cluster, "hv1", f"net{number}") == "up" for number in range(20))
        made = dataplane.batches
        assert made >= 2
        cluster.run(60)
        assert dataplane.batches == made
