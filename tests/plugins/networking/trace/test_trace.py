"""What a trace finds in a simulated cluster: kernels changed by hand, dead daemons, a MAC address that two VMs have."""

from collections.abc import Iterator
from xml.etree.ElementTree import fromstring

import pytest

from pvc.core import keys as core
from pvc.core.coordination import Create, Put
from pvc.core.records import encode
from pvc.plugins.hypervisor import requests
from pvc.plugins.hypervisor.decide.definition import read_definition
from pvc.plugins.networking import keys
from pvc.plugins.networking.dataplane import Entry, Forward, Withdraw
from pvc.plugins.networking.gateway.decide.wanted import lan_mac
from pvc.plugins.networking.records import Lease, Network, NetworkKind, Traffic
from pvc.plugins.networking.requests import add, modify
from pvc.plugins.networking.trace.asking import BUSY, DEAD, SILENT
from pvc.plugins.networking.trace.decide.case import Case, Probe, Result, Step
from pvc.plugins.networking.trace.decide.path import steps
from pvc.plugins.networking.trace.evidence import NotTraceable, Wish, gather
from pvc.plugins.networking.trace.records import Inquiry
from pvc.testing.cluster import XML, SimCluster

MAC, OTHER = "52:54:00:00:00:0a", "52:54:00:00:00:0b"
PORTS = {"a": "web0", "b": "web1", "c": "web2"}


@pytest.fixture
def cluster() -> Iterator[SimCluster]:
    """Three nodes with network lan; VM a is on hv1 and VM b on hv2."""
    config = {f"hv{number}": {"address": f"10.0.0.{number}", "roles": {"networking": True}} for number in (1, 2, 3)}
    with SimCluster(config) as cluster:
        cluster.start()
        add(cluster.client, Network("lan", NetworkKind.MANAGED))
        cluster.run(5)
        define(cluster, "a", "hv1", MAC)
        define(cluster, "b", "hv2", OTHER)
        yield cluster


STRANGE = "52:54:00:00:00:ff"


def define(cluster: SimCluster, name: str, node: str, mac: str) -> None:
    """A VM that runs, its port in the network's bridge."""
    uuid = cluster.client_process.new_id()
    inside = f"<mac address='{STRANGE}'/><source network='lan'/><target dev='{PORTS[name]}'/>"
    devices = f"<devices><interface type='network'>{inside}</interface></devices></domain>"
    xml = XML.format(name=name, uuid=uuid, memory=64).replace("</domain>", devices)
    vm = requests.define(cluster.client, read_definition(xml), node, needs=cluster.needs(xml))
    # Written by hand: a MAC address that another VM has is refused where it is asked for.
    cluster.client.commit([Put(core.vm_xml(uuid), xml.replace(STRANGE, mac).encode())])
    requests.start(cluster.client, vm)
    cluster.settle()
    cluster.nodes[node].dataplane.add(port(cluster, name), kind="tun", mtu=1450, master="pvb-lan")
    cluster.run(5)


def port(cluster: SimCluster, name: str) -> str:
    """The device of a VM, by its live definition."""
    node = cluster.nodes[str(cluster.actual(name).node)]
    target = fromstring(node.host.xml(cluster.vm(name).uuid)).find("devices/interface/target")
    assert target is not None
    return target.get("dev", "")


def gathered(cluster: SimCluster, wish: Wish) -> Case:
    found: list[Case | NotTraceable] = []

    def trace() -> None:
        try:
            found.append(gather(cluster.client, cluster.client_process, wish, lan_mac))
        except NotTraceable as error:
            found.append(error)

    cluster.client_process.spawn("trace", trace)
    assert cluster.run_until(lambda: bool(found), 30)
    if isinstance(found[0], NotTraceable):
        raise found[0]
    return found[0]


def traced(cluster: SimCluster, wish: Wish) -> list[Step]:
    return steps(gathered(cluster, wish), Probe())


def wrong(found: list[Step]) -> list[tuple[str, str, str]]:
    """What is not ok: result, step and node."""
    return [(step.result.value, step.what, step.node) for step in found if step.result is not Result.OK]


def test_a_way_that_is_whole_has_nothing_but_ok_and_leaves_nothing_in_the_tree(cluster: SimCluster) -> None:
    cluster.nodes["hv1"].dataplane.traffic[port(cluster, "a")] = Traffic(900, 9, 700, 7)
    found = traced(cluster, Wish("a"))
    assert wrong(found) == []
    said = {step.what: step.seen for step in found}
    assert said["forwarding"] == f"hv2, hv3 send {MAC} to 10.0.0.1"
    assert "the VM has sent 7 packets and got 9" in said["port"]
    assert said["tunnel"] == "pvx-lan, VNI 100 from 10.0.0.1"
    assert all(cluster.client.get(keys.node_trace(node)) is None for node in cluster.nodes)


def test_a_trace_mends_and_switches_nothing_of_routers(cluster: SimCluster) -> None:
    def looks() -> dict[str, int]:
        return {name: node.routers.looks for name, node in cluster.nodes.items()}

    first = looks()
    assert cluster.run_until(lambda: all(count > first[name] for name, count in looks().items()), 60)
    cluster.run(1)  # the next look of those that keep them is far
    before = looks()
    assert wrong(traced(cluster, Wish("a"))) == []
    assert looks() == before


def test_a_missing_and_a_wrong_forwarding_entry_are_named_with_their_nodes(cluster: SimCluster) -> None:
    hv2, hv3 = cluster.nodes["hv2"].dataplane, cluster.nodes["hv3"].dataplane
    hv2.apply(Withdraw("pvx-lan", Entry(MAC, "10.0.0.1")))
    hv3.apply(Forward("pvx-lan", Entry(MAC, "10.0.0.2")))
    found = traced(cluster, Wish("a"))
    assert wrong(found) == [("broken", "forwarding", "hv2"), ("broken", "forwarding", "hv3")]
    assert {step.node: step.seen for step in found if step.what == "forwarding"} == {
        "hv2": f"has no entry for {MAC}: frames for it go to all nodes",
        "hv3": f"sends {MAC} to 10.0.0.2 (hv2), not to 10.0.0.1",
    }


def test_with_another_end_only_its_node_matters_and_the_way_back_does(cluster: SimCluster) -> None:
    cluster.nodes["hv3"].dataplane.apply(Forward("pvx-lan", Entry(MAC, "10.0.0.2")))
    assert wrong(traced(cluster, Wish("a", to="b"))) == []
    cluster.nodes["hv1"].dataplane.apply(Withdraw("pvx-lan", Entry(OTHER, "10.0.0.2")))
    assert wrong(traced(cluster, Wish("a", to="b"))) == [("broken", "forwarding", "hv1")]
    assert gathered(cluster, Wish("a", to="b")).answers.keys() == {"hv1", "hv2"}


def test_a_port_in_the_wrong_bridge_or_down_is_broken(cluster: SimCluster) -> None:
    dataplane, device = cluster.nodes["hv1"].dataplane, port(cluster, "a")
    dataplane.change(device, master="br0")
    broken = [step for step in traced(cluster, Wish("a")) if step.result is Result.BROKEN]
    assert [(step.what, step.seen) for step in broken] == [("port", f"{device} is in bridge br0 instead of pvb-lan")]
    assert f"ip link set {device} master pvb-lan" in broken[0].advice
    dataplane.change(device, master="pvb-lan", up=False)
    assert wrong(traced(cluster, Wish("a"))) == [("broken", "port", "hv1")]
    dataplane.remove(device)
    assert wrong(traced(cluster, Wish("a"))) == [("broken", "port", "hv1")]


def test_of_a_dead_daemon_it_is_told_that_it_is_and_the_rest_is_answered(cluster: SimCluster) -> None:
    cluster.kill_daemon("hv3")
    cluster.run(15)
    found = traced(cluster, Wish("a"))
    assert wrong(found) == [("not known", "forwarding", "hv3")]
    assert DEAD in [step.seen for step in found]
    cluster.kill_daemon("hv1")
    cluster.run(15)
    assert ("broken", "answer", "hv1") in wrong(traced(cluster, Wish("a")))


def test_a_daemon_that_has_just_died_does_not_answer_and_the_question_is_taken_back(cluster: SimCluster) -> None:
    cluster.kill_daemon("hv3")
    found = traced(cluster, Wish("a"))
    assert [step.seen for step in found if step.result is not Result.OK] == [SILENT]
    assert cluster.client.get(keys.node_trace("hv3")) is None


def test_a_question_that_somebody_else_asks_is_waited_for_and_goes_with_its_client(cluster: SimCluster) -> None:
    cluster.kill_daemon("hv3")
    stranger = cluster.ensemble.connect("stranger")
    stranger.commit([Create(keys.node_trace("hv3"), encode(Inquiry("theirs")), ephemeral=True)])
    assert [step.seen for step in traced(cluster, Wish("a")) if step.result is not Result.OK] == [BUSY]
    stranger.close()
    assert cluster.client.get(keys.node_trace("hv3")) is None


def test_several_clients_at_once_each_get_their_answers(cluster: SimCluster) -> None:
    found: list[list[Step]] = []

    def begin(name: str) -> None:
        client, process = cluster.ensemble.connect(name), cluster.world.process(name)
        client.latency = client.delay = lambda: 0.002  # all read before any of them writes

        def trace() -> None:
            found.append(steps(gather(client, process, Wish("a")), Probe()))

        process.spawn("trace", trace)

    for number in range(5):
        begin(f"client{number}")
    assert cluster.run_until(lambda: len(found) == 5, 30)
    assert [wrong(one) for one in found] == [[]] * 5


def test_a_client_that_dies_leaves_no_question(cluster: SimCluster) -> None:
    cluster.kill_daemon("hv3")
    client, process = cluster.ensemble.connect("doomed"), cluster.world.process("doomed")

    def trace() -> None:
        gather(client, process, Wish("a"))

    process.spawn("trace", trace)
    assert cluster.run_until(lambda: cluster.client.get(keys.node_trace("hv3")) is not None, 5)
    client.crash()
    process.kill()
    assert cluster.run_until(lambda: cluster.client.get(keys.node_trace("hv3")) is None, 30)


def test_a_mac_address_that_two_vms_have_is_found_on_both_nodes(cluster: SimCluster) -> None:
    define(cluster, "c", "hv3", MAC)
    found = traced(cluster, Wish("a"))
    duplicate = next(step for step in found if step.what == "duplicate")
    assert (duplicate.node, duplicate.seen) == ("hv3", f"c has the MAC address {MAC} as well")
    assert ("broken", "published", "hv1") in wrong(found)


def test_a_claim_that_a_dead_daemon_left_behind_breaks_nothing(cluster: SimCluster) -> None:
    cluster.kill_daemon("hv2")
    cluster.run(15)
    requests.stop(cluster.client, cluster.vm("b"), now=True)
    cluster.fabric.guest_powers_off(cluster.vm("b").uuid)
    define(cluster, "c", "hv3", OTHER)
    found = traced(cluster, Wish("c", to="a"))
    assert wrong(found) == []
    told = f"{OTHER} is published by hv2 too, earlier: the later one counts"
    assert told in [step.seen for step in found]


def test_an_address_leads_to_the_vm_that_has_it(cluster: SimCluster) -> None:
    lease = Lease(OTHER, "b", "10.1.0.7")
    cluster.client.commit([Create(keys.lease("lan", OTHER), encode(lease))])
    found = traced(cluster, Wish("a", to="10.1.0.7"))
    assert {step.vm for step in found} == {"a", "b"} and wrong(found) == []


def test_what_cannot_be_traced_is_refused_in_words(cluster: SimCluster) -> None:
    cluster.define("plain", "hv1")
    cluster.settle()
    with pytest.raises(NotTraceable, match="plain has no interface on a network of the cluster"):
        traced(cluster, Wish("plain"))
    with pytest.raises(NotTraceable, match="a is not on network dmz; it is on lan"):
        traced(cluster, Wish("a", "dmz"))
    with pytest.raises(NotTraceable, match="a is a itself"):
        traced(cluster, Wish("a", to="a"))


def test_a_gateway_and_its_leases_are_followed(cluster: SimCluster) -> None:
    modify(cluster.client, "lan", {"ipv4": "10.1.0.0/24", "ipv4_gateway": "10.1.0.1"})
    cluster.run(60)
    assert wrong(traced(cluster, Wish("a"))) == wrong(traced(cluster, Wish("b"))) == []
    holder = next(step.node for step in traced(cluster, Wish("a")) if step.what == "gateway")
    guest, node = ("b", "hv2") if holder == "hv1" else ("a", "hv1")
    dataplane, way = cluster.nodes[node].dataplane, Entry(lan_mac(100), cluster.node(holder).address)
    dataplane.apply(Withdraw("pvx-lan", way))
    assert wrong(traced(cluster, Wish(guest))) == [("broken", "to gateway", node)]
    dataplane.apply(Forward("pvx-lan", way))
    cluster.nodes[holder].routers.remove("lan")
    assert wrong(traced(cluster, Wish(guest))) == [("broken", "gateway", holder)]
