"""What VMs send and receive: added up on each node, told once a minute, and shown."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from pvc.plugins.networking.decide.ports import device_of
from pvc.plugins.networking.decide.traffic import growth
from pvc.plugins.networking.records import Network, NetworkKind, Traffic, read_traffic
from pvc.plugins.networking.requests import add, remove
from pvc.plugins.networking.traffic import TrafficService
from pvc.testing.cluster import SimCluster
from pvc.testing.dataplane import FakeDataplane

DEVICE, OTHER = device_of("52:54:00:00:00:0a"), device_of("52:54:00:00:00:0b")
SOME, MORE = Traffic(100, 2, 50, 1), Traffic(300, 6, 90, 2)


def test_what_has_come_since_is_counted_and_a_device_that_was_made_anew_begins_with_nothing() -> None:
    assert growth({"a": SOME}, {"a": SOME}) == Traffic()
    assert growth({"a": SOME}, {"a": MORE, "b": SOME}) == Traffic(300, 6, 90, 2)
    assert growth({"a": MORE}, {"a": SOME}) == SOME
    assert growth({"a": MORE}, {}) == Traffic()


@pytest.fixture
def cluster() -> Iterator[SimCluster]:
    """One node, and two networks that are up there."""
    with SimCluster({"hv1": {"address": "10.0.0.1", "roles": {"networking": True}}}) as cluster:
        cluster.start()
        for name in ("lan", "dmz"):
            add(cluster.client, Network(name, NetworkKind.MANAGED))
        assert cluster.run_until(lambda: "pvb-dmz" in dataplane(cluster).look().links, 20)
        yield cluster


def dataplane(cluster: SimCluster) -> FakeDataplane:
    return cluster.nodes["hv1"].dataplane


def count(cluster: SimCluster, device: str, traffic: Traffic, bridge: str = "pvb-lan") -> None:
    """A VM's device has counted that; the daemon looks at least every 15 seconds."""
    dataplane(cluster).traffic[device] = traffic
    if device not in dataplane(cluster).look().links:
        dataplane(cluster).add(device, master=bridge, kind="tun")
    cluster.run(20)


def told(cluster: SimCluster, network: str = "lan") -> Traffic | None:
    return read_traffic(cluster.client, network).get("hv1")


def test_traffic_of_a_networks_vms_is_told_and_goes_on_after_a_restart(cluster: SimCluster) -> None:
    count(cluster, DEVICE, SOME)
    count(cluster, OTHER, SOME)
    assert cluster.run_until(lambda: told(cluster) == Traffic(200, 4, 100, 2), 70)
    assert told(cluster, "dmz") is None
    cluster.kill_daemon("hv1")
    cluster.run(15)
    cluster.start_daemon("hv1")
    cluster.run(90)
    assert told(cluster) == Traffic(200, 4, 100, 2), "what was counted before is not counted again"
    dataplane(cluster).remove(OTHER)
    count(cluster, DEVICE, MORE)
    assert cluster.run_until(lambda: told(cluster) == Traffic(400, 8, 140, 3), 70)


def test_traffic_is_written_once_a_minute_at_most_and_not_at_all_if_there_is_none(cluster: SimCluster) -> None:
    writes: list[str] = []
    cluster.on_commit(lambda _session, ops, _made: writes.extend(op.path for op in ops if "/traffic/" in op.path))
    for number in range(1, 10):
        count(cluster, DEVICE, Traffic(number, number, 0, 0))
    assert 2 <= len(writes) <= 4
    cluster.run(70)
    before = len(writes)
    cluster.run(300)
    assert len(writes) == before


def test_traffic_that_could_not_be_written_is_written_later_and_goes_with_its_network(cluster: SimCluster) -> None:
    cluster.ensemble.stop()
    cluster.run(3)
    count(cluster, DEVICE, SOME)
    count(cluster, OTHER, SOME, "pvb-dmz")
    cluster.run(70)
    cluster.ensemble.start()
    assert cluster.run_until(lambda: told(cluster) == told(cluster, "dmz") == SOME, 200)
    count(cluster, OTHER, MORE, "pvb-dmz")
    dataplane(cluster).remove(OTHER)
    remove(cluster.client, "dmz")
    cluster.run(130)
    add(cluster.client, Network("dmz", NetworkKind.MANAGED))
    cluster.run(130)
    assert told(cluster, "dmz") is None, "what is told is not of the network that had this name before"
    count(cluster, DEVICE, MORE)
    assert cluster.run_until(lambda: told(cluster) == MORE, 70)


def test_what_a_failed_write_would_have_told_is_told_by_the_next(cluster: SimCluster) -> None:
    daemon, session = cluster.nodes["hv1"].daemon, cluster.ensemble.connect("another")
    assert daemon is not None
    service = TrafficService(replace(daemon.context, coordinator=session))
    service.counted({"lan": {}})
    service.counted({"lan": {DEVICE: SOME}})
    session.lose_next_commit(applied=False)
    service.step()
    assert told(cluster) is None
    cluster.run(5)
    service.counted({"lan": {DEVICE: MORE}})
    service.step()
    assert told(cluster) == MORE
