"""What a node answers: its devices, and what the role's other parts tell, if they can."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import pytest

from pvc.core.coordination import Create
from pvc.core.observers import VmChange, VmEvent
from pvc.core.records import decode, encode
from pvc.plugins.networking import keys
from pvc.plugins.networking.dataplane import AddBridge, Dataplane, DataplaneError, Link
from pvc.plugins.networking.firewall.packetfilter import Count, RulesetRefused
from pvc.plugins.networking.gateway.routers import Host, RouterState
from pvc.plugins.networking.records import Traffic
from pvc.plugins.networking.trace.desk import Parts, TraceDesk
from pvc.plugins.networking.trace.records import Answer, Inquiry
from pvc.testing.cluster import SimCluster
from pvc.testing.dataplane import FakeDataplane

MAC = "52:54:00:00:00:0a"
INQUIRY = Inquiry("7", ("id-a",), {"lan": (MAC,)})
LIVE = (
    "<domain><devices><interface type='bridge'><mac address='52:54:00:00:00:0A'/><source bridge='pvb-lan'/>"
    "<target dev='web0'/></interface></devices></domain>"
)


@pytest.fixture
def cluster() -> Iterator[SimCluster]:
    """One node without the role: nobody answers there but the desk of a test."""
    with SimCluster({"hv1": {}}) as cluster:
        cluster.start()
        yield cluster


def answered(
    cluster: SimCluster, parts: Parts, open_dataplane: Callable[[], Dataplane], inquiry: Inquiry = INQUIRY
) -> Inquiry:
    """What a desk makes of a question; VM a runs on its node."""
    node = cluster.nodes["hv1"]
    assert node.daemon is not None and node.process is not None
    desk, path, done = TraceDesk(node.daemon.context, open_dataplane, parts), keys.node_trace("hv1"), []
    desk.vm_changed(VmEvent(VmChange.STARTED, "id-a", "a", LIVE))
    desk.vm_changed(VmEvent(VmChange.STARTED, "id-b", "b", LIVE.replace("0A", "0B")))
    cluster.client.commit([Create(path, encode(inquiry), ephemeral=True)])
    node.process.spawn("desk", lambda: done.append(desk.step()))
    assert cluster.run_until(lambda: bool(done), 5)
    znode = cluster.client.get(path)
    assert znode is not None
    return decode(Inquiry, znode.data, path)


def devices() -> FakeDataplane:
    dataplane = FakeDataplane("10.0.0.1")
    dataplane.apply(AddBridge("pvb-lan"))
    dataplane.add("web0", kind="tun", master="pvb-lan")
    dataplane.traffic["web0"] = Traffic(1, 2, 3, 4)
    return dataplane


def lan(inquiry: Inquiry) -> Answer:
    assert inquiry.answer is not None, inquiry.error
    return inquiry.answer


def test_the_ports_of_the_vms_asked_for_are_seen_as_they_are_and_no_others(cluster: SimCluster) -> None:
    answer = lan(answered(cluster, Parts(), devices))
    assert [(port.vm, port.mac, port.device) for port in answer.ports] == [("a", MAC, "web0")]
    assert answer.ports[0].link == Link("web0", "tun", up=True, master="pvb-lan")
    assert answer.ports[0].traffic == Traffic(1, 2, 3, 4)
    seen = answer.networks["lan"]
    assert seen.bridge is not None and seen.carrier is None
    assert (seen.refusal, seen.counts, seen.routers_known, seen.hosts) == (None, None, False, None)


def test_what_other_parts_of_the_role_know_is_told_for_the_network_alone(cluster: SimCluster) -> None:
    counts: Mapping[str, Count] = {"lan in 1": Count(2, 120), "lan2 in 1": Count(9, 9)}
    parts = Parts(
        refusal=lambda network: f"{network} refused",
        counts=lambda: counts,
        routers=lambda: {"lan": RouterState(active=True)},
        hosts=lambda _network: (Host(MAC), Host("52:54:00:00:00:99")),
    )
    seen = lan(answered(cluster, parts, devices)).networks["lan"]
    assert seen.counts == {"lan in 1": Count(2, 120)}
    assert (seen.refusal, seen.hosts) == ("lan refused", (MAC,))
    assert seen.routers_known and seen.router == RouterState(active=True)


def test_a_part_that_cannot_tell_is_left_out_and_the_rest_is_answered(cluster: SimCluster) -> None:
    def refused() -> Mapping[str, Count]:
        raise RulesetRefused("nft is missing; install it")

    seen = lan(answered(cluster, Parts(counts=refused, routers=dict), devices)).networks["lan"]
    assert seen.counts is None and seen.routers_known and seen.router is None and seen.bridge is not None


def test_a_kernel_that_does_not_tell_and_a_part_that_fails_are_answers_too(cluster: SimCluster) -> None:
    def closed() -> Dataplane:
        raise DataplaneError("pyroute2 is missing; install it")

    assert answered(cluster, Parts(), closed).error == "pyroute2 is missing; install it"


def test_a_part_that_fails_does_not_leave_the_client_waiting(cluster: SimCluster) -> None:
    def failing() -> Mapping[str, Count]:
        raise ValueError("what?")

    assert "it failed with ValueError('what?')" in answered(cluster, Parts(counts=failing), devices).error


def test_an_answer_too_large_for_the_tree_is_told_instead(cluster: SimCluster) -> None:
    many = {f"lan in {number}": Count(number, number) for number in range(30_000)}
    assert "bytes" in answered(cluster, Parts(counts=lambda: many), devices).error


def test_what_has_its_answer_is_left_alone(cluster: SimCluster) -> None:
    told = replace(INQUIRY, error="told already")
    assert answered(cluster, Parts(), devices, told) == told
