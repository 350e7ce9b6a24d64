"""What `rbd` and `ceph` say (outputs of Ceph 16.2.15), and what pools' options may be."""

import json
import time
from collections.abc import Sequence
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pvc.core.storage import (
    BadPool,
    Image,
    ImageExists,
    ImageInUse,
    NoSuchImage,
    Pool,
    Room,
    StorageError,
    StorageUnusable,
)
from pvc.plugins.storage.ceph.decide.conf import Monitor
from pvc.plugins.storage.ceph.decide.images import (
    STALE,
    ImageSnapshot,
    Options,
    cut_off_in,
    earlier_parts,
    entry_of,
    image_in,
    is_left,
    late_osds,
    machines,
    moment_of,
    must_be_name,
    must_be_whole,
    old_parts,
    options_of,
    owners_in,
    part_of,
    qemu_name,
    refusal,
    room_in,
    snapshots_in,
    source_of,
    volume_names,
    watchers_in,
)

INFO = json.loads(
    '{"name":"cl","id":"10b44af63d80","size":67108864,"objects":16,"order":22,"object_size":4194304,"snapshot_count":0,'
    '"block_name_prefix":"rbd_data.10b44af63d80","format":2,"features":["layering","exclusive-lock"],"flags":[],'
    '"create_timestamp":"Mon Nov 23 01:57:09 2026",'
    '"parent":{"pool":"vms","pool_namespace":"","image":"a","id":"10202ddaa79b","snapshot":"s","trash":false,'
    '"overlap":67108864}}'
)
SNAPSHOTS = json.loads(
    '[{"id":4,"name":"s","size":67108864,"protected":"true","timestamp":"Mon Nov 23 01:57:06 2026"},'
    '{"id":5,"name":"x","size":1024,"protected":"false","timestamp":"Mon Nov 23 01:57:08 2026"}]'
)
DF = json.loads(
    '{"stats":{"total_bytes":9663676416},"pools":[{"name":"other","id":2,"stats":{"stored":1,"max_avail":2}},'
    '{"name":"vms","id":1,"stats":{"stored":22021582,"objects":29,"bytes_used":66162217,"max_avail":3023676672}}]}'
)
STATUS = json.loads('{"watchers":[{"address":"10.0.0.7:0/1711452706","client":4130,"cookie":139687503073920}]}')
LOCKS = json.loads('[{"id":"auto 139687503073920","locker":"client.4130","address":"10.0.0.8:0/17"}]')
DUMP = json.loads(
    '{"epoch":9,"blocklist":{"[fd00::2]:0/0":"2036-11-20T01:57:05","10.0.0.1:0/23":"2026-11-24T01:55:13"}}'
)


def test_an_image_and_its_snapshots_are_read() -> None:
    snapshots = snapshots_in(SNAPSHOTS)
    moments = tuple(datetime(2026, 11, 23, 1, 57, second).timestamp() for second in (6, 8, 9))
    assert snapshots == [
        ImageSnapshot("s", 67108864, True, moments[0]),
        ImageSnapshot("x", 1024, False, moments[1]),
    ]
    assert image_in(INFO, snapshots) == Image(67108864, "raw", None, ("s", "x"), "a@s", moments[2], moments[:2])


@pytest.mark.parametrize("text", [None, "", "yesterday", "Mon Nov 23 01:57 2026", "Mon Nov 31 01:57:06 2026"])
def test_a_date_that_cannot_be_read_is_none(text: str | None) -> None:
    assert moment_of(text) is None


def test_room_counts_each_byte_once_and_no_copies() -> None:
    assert room_in(DF, "vms") == Room(22021582 + 3023676672, 3023676672)
    with pytest.raises(StorageUnusable, match="no pool nowhere; make it"):
        room_in(DF, "nowhere")


@pytest.mark.parametrize(
    ("quota", "free"),
    [(0, 3023676672), (22021582 + 4096, 4096), (4096, 0), (1 << 60, 3023676672)],
    ids=["none", "nearly reached", "exceeded", "more than there is"],
)
def test_a_pool_has_no_more_room_than_its_quota_leaves(quota: int, free: int) -> None:
    (pool,) = (one for one in DF["pools"] if one["name"] == "vms")
    limited = {"pools": [{**pool, "stats": {**pool["stats"], "quota_bytes": quota}}]}
    assert room_in(limited, "vms") == Room(22021582 + free, free)


def test_clients_stand_for_their_machines() -> None:
    assert machines([*watchers_in(STATUS), *owners_in(LOCKS), "10.0.0.7:0/3"]) == ("10.0.0.7", "10.0.0.8")
    assert machines(["[fd00::1]:0/5", "v1:10.0.0.1:0/4"]) == ("fd00::1", "10.0.0.1")


def test_a_machine_is_cut_off_with_all_its_clients() -> None:
    assert [entry_of(address) for address in ("10.0.0.1", "fd00:0::1")] == ["10.0.0.1:0/0", "[fd00::1]:0/0"]
    assert cut_off_in(DUMP) == {"[fd00::2]:0/0", "10.0.0.1:0/23"}
    assert cut_off_in({"blacklist": {"10.0.0.1:0/0": ""}}) == {"10.0.0.1:0/0"}
    for odd in ("hv1", "", "10.0.0.1:0/0", "10.0.0.0/24"):
        with pytest.raises(StorageError, match="no address"):
            entry_of(odd)


def test_an_osd_is_late_until_it_says_that_it_has_the_map() -> None:
    told = (
        'osd.0: {"whoami":0,"state":"active","oldest_map":1,"newest_map":13,"num_pgs":8}\n\n'
        'osd.1: {"whoami":1,"state":"active","oldest_map":1,"newest_map":12,"num_pgs":8}\n'
        "osd.2: Error ENXIO: problem getting command descriptions\n"
    )
    dump = {"osds": [{"osd": number, "up": up} for number, up in ((0, 1), (1, 1), (2, 1), (3, 0))]}
    assert late_osds(dump, told, 13) == [1, 2]
    assert late_osds(dump, told, 12) == [2]


@pytest.mark.parametrize(
    ("code", "said", "kind", "words"),
    [
        (2, "rbd: error opening image disk: (2) No such file or directory", NoSuchImage, "no disk;"),
        (2, "rbd: error opening pool 'vms': (2) No such file", StorageUnusable, "opening pool 'vms'"),
        (2, "rbd: couldn't connect to the cluster!\nrbd: listing images failed", StorageUnusable, "couldn't connect"),
        (17, "Image copy: 0% complete...failed.\nrbd: copy failed: (17) File exists", ImageExists, "a new already"),
        (16, "rbd: error: image still has watchers", ImageInUse, "disk is in use: error: image still has watchers"),
        (39, "Removing image: 0% complete...failed.\nrbd: image has snapshots", ImageInUse, "in use: image has snap"),
        (108, "rbd: error opening image a: (108) Cannot send", StorageUnusable, "cut this machine off"),
        (110, "", StorageUnusable, "ended with code 110"),
        (1, "rbd: listing images failed: (1) Operation not permitted", StorageError, "Operation not permitted"),
    ],
)
def test_why_rbd_failed_is_told_by_its_exit_code(code: int, said: str, kind: type[StorageError], words: str) -> None:
    found = refusal(code, said, "disk", "new")
    assert type(found) is kind
    assert words in str(found)


def test_a_hypervisor_is_told_of_all_monitors() -> None:
    monitors = [Monitor("10.0.0.1", 6789), Monitor("fd00::1")]
    assert source_of("vms", "disk", monitors, "libvirt", "u-1") == (
        '<source protocol=\'rbd\' name="vms/disk"><host name="10.0.0.1" port=\'6789\'/><host name="fd00::1"/>'
        '<auth username="libvirt"><secret type=\'ceph\' uuid="u-1"/></auth></source>'
    )


def test_qemu_is_told_of_files_with_any_name() -> None:
    told = qemu_name("vms", "disk", "now", '/etc/a "b":@=/ceph.conf', "admin")
    assert json.loads(told.removeprefix("json:"))["file"] == {
        "driver": "rbd",
        "pool": "vms",
        "image": "disk",
        "snapshot": "now",
        "conf": '/etc/a "b":@=/ceph.conf',
        "user": "admin",
    }


def test_a_pool_is_called_like_ceph_s_unless_it_says_otherwise() -> None:
    assert options_of(Pool("fast", "ceph")) == Options("fast", "libvirt")
    assert options_of(Pool("fast", "ceph", {"pool": "rbd", "user": "vms"})) == Options("rbd", "vms")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"pol": "x"}, "no option pol; did you mean 'pool'"),
        ({"path": "/x"}, "no option path; there are pool, user"),
        ({"pool": "a/b"}, "pool cannot be 'a/b'"),
        ({"pool": "--all"}, "pool cannot be '--all'"),
        ({"user": ""}, "user cannot be ''"),
        ({"user": "client.libvirt"}, "leave `client.` out"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, str], words: str) -> None:
    with pytest.raises(BadPool, match="pool fast: ") as refused:
        options_of(Pool("fast", "ceph", options))
    assert words in str(refused.value)


@pytest.mark.parametrize("name", ["", ".x", "-x", "a/b", "a@b", "a b", "x" * 64])
def test_names_that_no_volume_can_have_are_refused(name: str) -> None:
    with pytest.raises(StorageError, match="cannot be the name"):
        must_be_name(name)


@pytest.mark.parametrize("size", [0, -512, 511, 513])
def test_sizes_that_no_image_can_have_are_refused(size: int) -> None:
    with pytest.raises(StorageError, match="multiple of 512"):
        must_be_whole(size)


@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", fullmatch=True), st.floats(0, 4e9))
def test_what_is_being_made_is_no_volume_and_is_left_only_for_its_own_name(name: str, now: float) -> None:
    part = part_of(name, now, "0123456789abcdef")
    assert len(part) <= 96
    assert volume_names([part, name]) == [name]
    assert earlier_parts([part, name], name) == [part]
    assert earlier_parts([part, name], f"{name}x") == []
    assert old_parts([part, name], f"{name}x", now) == []
    assert old_parts([part, name], f"{name}x", now + STALE + 1) == [part]
    assert old_parts([part, name], name, now + STALE + 1) == []


WRITTEN = 1_700_000_000.0
THEN = {"modify_timestamp": time.strftime("%a %b %d %H:%M:%S %Y", time.localtime(WRITTEN))}


@pytest.mark.parametrize(
    ("watchers", "info", "age", "left"),
    [
        ((), THEN, STALE + 1, True),
        ((), THEN, STALE - 1, False),
        (("10.0.0.1:0/23",), THEN, STALE + 1, False),
        ((), {}, STALE + 1, False),
    ],
)
def test_an_old_part_is_left_if_nobody_has_it_open_and_it_was_not_written_to_for_a_day(
    watchers: Sequence[str], info: dict[str, str], age: float, left: bool
) -> None:
    assert is_left(watchers, info, WRITTEN + age) is left
