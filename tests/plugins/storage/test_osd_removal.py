"""A simulated cluster in which OSDs are removed: only what is that one OSD's goes, whatever has its number by then."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from pvc.core.coordination import Put
from pvc.core.records import encode
from pvc.plugins.storage import keys
from pvc.plugins.storage.ceph import requests
from pvc.plugins.storage.ceph.osdhost import Device, LocalOsd
from pvc.plugins.storage.records import ENDED, Task, TaskPhase, read_tasks
from pvc.plugins.storage.requests.asking import Client, cancel
from pvc.testing.cluster import SimCluster

STORAGE = {"roles": {"storage": True}}
NODES = ("hv1", "hv2", "hv3", "hv4")
FOREIGN = "another-cluster"


@pytest.fixture
def cluster() -> Iterator[SimCluster]:
    """Four storage nodes with an OSD each, osd.0 on hv1."""
    with SimCluster(dict.fromkeys(NODES, STORAGE)) as cluster:
        for name in NODES:
            cluster.osd_host(name).add_osd("/dev/sdb")
        yield cluster


def asked(cluster: SimCluster, id: int) -> Task:
    return requests.remove_osd(Client(cluster.client, cluster.client_process, "tester"), id, lambda seat: None)


def now(cluster: SimCluster, task: Task) -> Task:
    found = read_tasks(cluster.client)[task.id]
    assert found is not None
    return found


def ended(cluster: SimCluster, task: Task) -> Task:
    assert cluster.run_until(lambda: now(cluster, task).phase in ENDED, 300), now(cluster, task)
    return now(cluster, task)


def removed(cluster: SimCluster, id: int) -> Task:
    cluster.start()
    cluster.run(35)
    return ended(cluster, asked(cluster, id))


def half_removed(cluster: SimCluster, id: int) -> Task:
    """A removal whose daemon was killed once the OSD was out; somebody has purged the OSD since."""
    cluster.start()
    cluster.run(35)
    task = asked(cluster, id)
    assert cluster.run_until(lambda: not cluster.ceph.osds[id].inside, 30)
    cluster.kill_daemon("hv1")
    cluster.run(30)
    cluster.ceph.osds.pop(id)
    return task


def on(cluster: SimCluster, node: str, path: str) -> list[str]:
    return [osd.uuid for osd in cluster.osd_host(node).devices[path].osds]


def test_the_other_osds_on_the_same_device_stay(cluster: SimCluster) -> None:
    host = cluster.osd_host("hv1")
    one, other = host.add_osd("/dev/nvme0n1", lvm=True), host.add_osd("/dev/nvme0n1", lvm=True)
    kept = cluster.ceph.osds[other].uuid
    task = removed(cluster, one)
    assert task.phase is TaskPhase.DONE
    assert f"osd.{one} is removed; what it had on /dev/nvme0n1 of hv1 is wiped, what else is there" in task.message
    assert on(cluster, "hv1", "/dev/nvme0n1") == [kept]
    task = ended(cluster, asked(cluster, other))
    assert task.message == f"osd.{other} is removed, and /dev/nvme0n1 of hv1 is empty"


def test_the_osd_of_that_number_of_another_cluster_stays(cluster: SimCluster) -> None:
    host = cluster.osd_host("hv1")
    foreign = LocalOsd(0, "foreign", FOREIGN, ("/dev/sda",))
    host.devices = {"/dev/sda": Device("/dev/sda", block=True, size=1 << 40, osds=(foreign,)), **host.devices}
    assert removed(cluster, 0).message == "osd.0 is removed, and /dev/sdb of hv1 is empty"
    assert on(cluster, "hv1", "/dev/sda") == ["foreign"]


def test_an_osd_whose_bare_device_holds_more_is_left_as_it_is(cluster: SimCluster) -> None:
    host = cluster.osd_host("hv1")
    host.devices["/dev/sdb"] = replace(host.devices["/dev/sdb"], signatures=("ceph_bluestore", "LVM2_member"))
    task = removed(cluster, 0)
    assert task.phase is TaskPhase.FAILED
    assert "osd.0 is left as it is" in task.message and "LVM2_member" in task.message
    assert cluster.ceph.osds[0].inside and len(on(cluster, "hv1", "/dev/sdb")) == 1


def test_a_device_that_has_come_to_hold_more_meanwhile_is_not_wiped(cluster: SimCluster) -> None:
    cluster.start()
    cluster.run(35)
    task = asked(cluster, 0)
    assert cluster.run_until(lambda: not cluster.ceph.osds[0].inside, 30)
    host = cluster.osd_host("hv1")
    host.devices["/dev/sdb"] = replace(host.devices["/dev/sdb"], parts=("/dev/sdb1",))
    task = ended(cluster, task)
    assert task.phase is TaskPhase.DONE and 0 not in cluster.ceph.osds
    assert "was not wiped: /dev/sdb holds more than the OSD: /dev/sdb1" in task.message
    assert "`ceph-volume lvm zap --destroy /dev/sdb`" in task.message
    assert len(on(cluster, "hv1", "/dev/sdb")) == 1


@pytest.mark.parametrize("last", ["emptying", "empty"])
def test_a_removal_that_is_cancelled_once_its_node_is_dead_is_taken_back_by_another(
    cluster: SimCluster, last: str
) -> None:
    """By one that reaches Ceph, though others come before it; it stops no daemon and purges nothing."""
    cluster.ceph.without.add("hv2")
    cluster.start()
    cluster.run(35)
    task = asked(cluster, 0)
    assert cluster.run_until(lambda: not cluster.ceph.osds[0].inside, 30)
    cluster.kill_daemon("hv1")
    cluster.run(30 if last == "empty" else 2)
    cancel(Client(cluster.client, cluster.client_process, "tester"), task.id)
    task = ended(cluster, task)
    assert task.phase is TaskPhase.CANCELLED and task.node in ("hv3", "hv4")
    assert cluster.ceph.osds[0].inside and cluster.ceph.osds[0].up
    assert len(on(cluster, "hv1", "/dev/sdb")) == 1


def test_a_new_osd_of_that_number_is_not_touched_by_a_removal_that_goes_on(cluster: SimCluster) -> None:
    task = half_removed(cluster, 0)
    assert cluster.osd_host("hv2").add_osd("/dev/sdc") == 0
    new = cluster.ceph.osds[0]
    cluster.start_daemon("hv1")
    task = ended(cluster, task)
    assert (task.phase, task.attempts) == (TaskPhase.DONE, 2)
    assert task.message == "osd.0 is removed, and /dev/sdb of hv1 is empty"
    assert cluster.ceph.osds[0] == new and new.inside and new.up
    assert on(cluster, "hv2", "/dev/sdc") == [new.uuid] and on(cluster, "hv1", "/dev/sdb") == []


def test_a_new_osd_of_that_number_on_the_same_node_keeps_ceph_volume_from_the_old_one(cluster: SimCluster) -> None:
    old = cluster.osd_host("hv1").devices["/dev/sdb"].osds[0].uuid
    task = half_removed(cluster, 0)
    assert cluster.osd_host("hv1").add_osd("/dev/sdc") == 0
    new = cluster.ceph.osds[0]
    cluster.start_daemon("hv1")
    task = ended(cluster, task)
    assert task.phase is TaskPhase.DONE
    assert "on /dev/sdb of hv1 was not wiped: the osd.0 that Ceph has now is on hv1 as well" in task.message
    assert cluster.ceph.osds[0] == new
    assert (on(cluster, "hv1", "/dev/sdb"), on(cluster, "hv1", "/dev/sdc")) == ([old], [new.uuid])


def test_a_removal_that_has_not_noted_which_osd_it_meant_touches_none(cluster: SimCluster) -> None:
    task = half_removed(cluster, 0)
    cluster.osd_host("hv1").add_osd("/dev/sdc")
    new = cluster.ceph.osds[0]
    cluster.client.commit([Put(keys.task(task.id), encode(replace(now(cluster, task), osd_uuid="")))])
    cluster.start_daemon("hv1")
    task = ended(cluster, task)
    assert task.phase is TaskPhase.FAILED and "has not noted which OSD was osd.0 then" in task.message
    assert cluster.ceph.osds[0] == new
    assert len(on(cluster, "hv1", "/dev/sdb")) == len(on(cluster, "hv1", "/dev/sdc")) == 1


def test_the_only_device_with_that_number_is_not_wiped_if_it_is_the_new_osds(cluster: SimCluster) -> None:
    host = cluster.osd_host("hv1")
    task = half_removed(cluster, 0)
    del host.devices["/dev/sdb"]
    assert host.add_osd("/dev/sdb") == 0
    new = cluster.ceph.osds[0]
    cluster.start_daemon("hv1")
    task = ended(cluster, task)
    assert "its device was not found on hv1, and nothing was wiped" in task.message
    assert cluster.ceph.osds[0] == new and on(cluster, "hv1", "/dev/sdb") == [new.uuid]
