"""Which of what a machine holds is one OSD's own: by the lists of ceph-volume, and before anything is wiped."""

from dataclasses import replace
from typing import Any

import pytest

from pvc.core.storage import StorageError
from pvc.plugins.storage.ceph.decide.listing import lvm_osds, raw_osds
from pvc.plugins.storage.ceph.decide.remains import left, made_on, remains_of, succeeded, why_not_wipe, wiped
from pvc.plugins.storage.ceph.osdhost import Device, LocalOsd

HERE, THERE = "cluster-here", "cluster-there"
OWN = LocalOsd(3, "u3", HERE, ("/dev/sdb",))
ON_LVM = replace(OWN, lvm=True, volumes=("/dev/vg/a",))
BARE = Device("/dev/sdb", block=True, size=1 << 40, osds=(OWN,), signatures=("ceph_bluestore",))


def part(uuid: str, path: str, device: str, kind: str = "block", cluster: str = HERE) -> dict[str, Any]:
    """A logical volume, as `ceph-volume lvm list` tells of it."""
    tags = {"ceph.osd_fsid": uuid, "ceph.cluster_fsid": cluster, "ceph.type": kind}
    return {"type": kind, "path": path, "devices": [device], "tags": tags}


def test_osds_on_volumes_are_told_apart_by_cluster_and_uuid() -> None:
    found = lvm_osds(
        {
            "3": [
                part("u3", "/dev/vg/a", "/dev/nvme0n1"),
                part("u3", "/dev/vgdb/a", "/dev/sdx", "db"),
                part("old", "/dev/vg/old", "/dev/sdy"),
                part("u3b", "/dev/vg/foreign", "/dev/sdc", cluster=THERE),
                {"type": "wal", "path": "/dev/sdz1", "tags": {"PARTUUID": "p"}},
            ],
            "4": [part("u4", "/dev/vg/b", "/dev/nvme0n1")],
        }
    )
    assert found == [
        LocalOsd(3, "u3", HERE, ("/dev/nvme0n1",), ("/dev/sdx",), True, ("/dev/vg/a",)),
        LocalOsd(3, "old", HERE, ("/dev/sdy",), (), True, ("/dev/vg/old",)),
        LocalOsd(3, "u3b", THERE, ("/dev/sdc",), (), True, ("/dev/vg/foreign",)),
        LocalOsd(4, "u4", HERE, ("/dev/nvme0n1",), (), True, ("/dev/vg/b",)),
    ]


def test_a_volume_of_block_db_alone_is_on_lvm_still() -> None:
    (found,) = lvm_osds({"3": [part("u3", "/dev/vgdb/a", "/dev/sdx", "db")]})
    assert (found.lvm, found.data, found.devices, found.volumes) == (True, (), ("/dev/sdx",), ())


def test_bare_osds_are_told_with_their_further_devices_and_a_lone_one_of_these_is_nobodys() -> None:
    bare = {"osd_id": 3, "osd_uuid": "u3", "ceph_fsid": HERE, "device": "/dev/sdb", "type": "bluestore"}
    found = raw_osds({"u3": {**bare, "device_db": "/dev/sdd"}, "u9": {"osd_uuid": "u9", "device_wal": "/dev/sde"}})
    assert found == [replace(OWN, further=("/dev/sdd",))]


@pytest.mark.parametrize("answer", [{"3": [{"type": "block", "path": "x"}]}, {"3": 7}, {"x": [part("u", "p", "d")]}])
def test_a_list_that_is_not_understood_is_an_error(answer: dict[str, Any]) -> None:
    with pytest.raises(StorageError, match="pvc knows Ceph 16"):
        lvm_osds(answer)
    with pytest.raises(StorageError, match="pvc knows Ceph 16"):
        raw_osds({"u": {"device": "/dev/sdb"}})


@pytest.mark.parametrize(
    "other",
    [replace(OWN, cluster=THERE), replace(OWN, uuid="later"), replace(OWN, id=4)],
    ids=["of another cluster", "another uuid", "another number"],
)
def test_only_what_says_that_it_is_that_osd_is_its_own(other: LocalOsd) -> None:
    assert remains_of([other, OWN], HERE, 3, "u3") == OWN
    assert remains_of([other], HERE, 3, "u3") is None


def test_an_osd_was_made_on_a_device_if_it_is_this_clusters_and_has_its_data_there() -> None:
    foreign = LocalOsd(3, "x", THERE, ("/dev/sdb",))
    db = LocalOsd(5, "y", HERE, ("/dev/sdz",), ("/dev/sdb",))
    assert made_on(replace(BARE, osds=(foreign, db, OWN)), HERE) == OWN
    assert made_on(replace(BARE, osds=(foreign, db)), HERE) is None
    assert made_on(replace(BARE, osds=(OWN, replace(OWN, id=4))), HERE) is None


@pytest.mark.parametrize(
    ("device", "why"),
    [
        (BARE, ""),
        (replace(BARE, block=False), "is no block device"),
        (replace(BARE, osds=()), "holds no OSD"),
        (replace(BARE, osds=(OWN, replace(OWN, id=4))), "holds osd.3 and osd.4"),
        (replace(BARE, mounts=("/srv",)), "is mounted at /srv"),
        (replace(BARE, parts=("/dev/sdb1",)), "more than the OSD: /dev/sdb1"),
        (replace(BARE, holders=("dm-0",)), "more than the OSD: dm-0"),
        (replace(BARE, signatures=("ceph_bluestore", "LVM2_member")), "more than the OSD: LVM2_member"),
    ],
)
def test_a_bare_device_is_wiped_only_if_it_holds_that_osd_and_nothing_else(device: Device, why: str) -> None:
    assert (why in why_not_wipe(OWN, [device])) if why else why_not_wipe(OWN, [device]) == ""
    assert why_not_wipe(OWN, [BARE, device]) == why_not_wipe(OWN, [device])


def test_volumes_are_wiped_whatever_else_their_device_holds_but_not_if_there_are_copies() -> None:
    assert why_not_wipe(ON_LVM, [replace(BARE, holders=("dm-0", "dm-1"), signatures=("LVM2_member",))]) == ""
    copied = replace(ON_LVM, volumes=("/dev/vg/a", "/dev/vg/copy"))
    assert "several logical volumes say that they are osd.3" in why_not_wipe(copied, [])


def test_the_next_osd_of_that_number_matters_where_it_is_on_the_same_machine() -> None:
    later = replace(OWN, uuid="later")
    assert succeeded([OWN, later], HERE, 3, "later")
    assert not succeeded([OWN], HERE, 3, "later")
    assert not succeeded([OWN, later], HERE, 3, "")


def test_the_closing_sentence_says_what_is_empty_and_what_was_left_and_how_to_wipe_that() -> None:
    assert wiped(OWN, "hv1", ["/dev/sdb"]) == "osd.3 is removed, and /dev/sdb of hv1 is empty"
    assert wiped(ON_LVM, "hv1", []) == (
        "osd.3 is removed; what it had on /dev/sdb of hv1 is wiped, what else is there was left as it is"
    )
    assert "`ceph-volume lvm zap --destroy /dev/sdb`" in left(OWN, "hv1", "why")
    assert "`ceph-volume lvm zap --destroy --osd-id 3 --osd-fsid u3`" in left(ON_LVM, "hv1", "why")
    assert "zap --destroy VOLUME`" in left(replace(ON_LVM, volumes=("a", "b")), "hv1", "why")
