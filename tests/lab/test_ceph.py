"""A small real Ceph cluster: VMs write to its volumes while they are moved, and while parts of it and of theirs die."""

import re
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pvc.lab.cluster import missing_tools
from tests.lab.guests import Guest
from tests.lab.recordings import faults
from tests.lab.store import MIB, Recorder, Store, store

pytestmark = [pytest.mark.lab, pytest.mark.ceph]

HEALTH = ("ceph", "--connect-timeout", "2", "health")
SILENT = "Ceph does not answer within"
FULL = "raise the quota of the pool"


@pytest.fixture(scope="module")
def lake(labs_directory: Path) -> Iterator[Store]:
    """Two nodes with an OSD each, and a pool with a volume in it."""
    if missing := missing_tools(ceph=True):
        pytest.skip(f"a lab with Ceph needs {', '.join(missing)}")
    with store(labs_directory, "lake", nodes=2, ceph=True) as made:
        made.ok("storage", "pool", "add", "fast", "--backend", "ceph", "--rbd-pool", "vms")
        made.ok("storage", "volume", "add", "fast", "records", "4M")
        yield made


@pytest.fixture(scope="module")
def recorder(lake: Store, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorder]:
    """A VM that writes to the volume; it runs on hv1 when a test begins and when it ends, unless the test says no."""
    with lake.recorder("writer", "hv1", "fast/records", tmp_path_factory.mktemp("consoles")) as made:
        yield made


@pytest.fixture
def keeper(lake: Store, tmp_path: Path) -> Iterator[Recorder]:
    """Another such VM, with a volume that may go back in time."""
    lake.ok("storage", "volume", "add", "fast", "kept", "4M")
    with lake.recorder("keeper", "hv1", "fast/kept", tmp_path) as made:
        yield made


def health(lake: Store, node: str = "client") -> str:
    """What Ceph says of itself; empty while it does not answer."""
    return lake.lab.run(HEALTH, node).stdout.strip()


def in_service(lake: Store, node: str) -> bool:
    record = lake.node(node)
    return bool(record["alive"]) and record["fenced"] is None


def cut_off(lake: Store) -> list[str]:
    """The machines that Ceph's blocklist keeps out; not single programs of theirs."""
    listed = lake.lab.run(["ceph", "osd", "blocklist", "ls"]).stdout
    return [line.partition(":")[0] for line in listed.splitlines() if ":0/0 " in line]


def grow(lake: Store, guest: Guest, size: int) -> None:
    """Give volume more, disk vdb of a VM that runs, so many MiB; the guest sees that, and can use all of it."""
    said = lake.ok("storage", "volume", "resize", "fast", "more", f"{size}M")
    assert f"{guest.name} sees the new size of vdb" in said
    sectors = str(size * MIB // 512)
    lake.wait("the guest has heard", lambda: guest.ok("cat /sys/class/block/vdb/size").strip() == sectors)
    guest.ok(f"echo end of {size} | dd of=/dev/vdb bs=1024 seek={size * 1024 - 1} conv=notrunc 2> /dev/null; sync")


def test_a_lab_with_ceph_comes_up_well_and_shows_its_daemons(lake: Store) -> None:
    assert health(lake) == health(lake, "hv2") == "HEALTH_OK"
    rows = {(row["host"], row["process"]): row["state"] for row in lake.lab.status()}
    for daemon in (("ceph1", "mon"), ("ceph1", "mgr"), ("hv1", "osd"), ("hv2", "osd")):
        assert rows[daemon] == "running"
    assert lake.lab.up() == []


def test_vms_user_may_make_and_read_images_from_any_node(lake: Store) -> None:
    assert lake.lab.run(["rbd", "--id", "libvirt", "create", "vms/image", "--size", "8M"], "hv1").code == 0
    assert lake.lab.run(["rbd", "--id", "libvirt", "ls", "vms"], "hv2").stdout == "image\nrecords\n"
    seen = lake.lab.run(["qemu-img", "info", "rbd:vms/image:id=libvirt"], "hv2")
    assert "virtual size: 8 MiB" in seen.stdout, seen
    assert lake.lab.run(["rbd", "--id", "libvirt", "rm", "--no-progress", "vms/image"], "hv1").code == 0


def test_the_key_of_vms_is_in_libvirts_memory_only(lake: Store, recorder: Recorder) -> None:
    ask = ["ceph-authtool", "/etc/ceph/ceph.client.libvirt.keyring", "--name", "client.libvirt", "--print-key"]
    key = lake.lab.run(ask, "hv1").stdout.strip()
    assert len(key) > 20
    for node in ("hv1", "hv2"):
        assert "ceph" in lake.lab.run(["virsh", "secret-list"], node).stdout
        assert lake.lab.run(["grep", "-r", key, "/etc/libvirt", "/var/lib/libvirt", "/run/libvirt"], node).stdout == ""
        assert key not in lake.lab.log(node, "pvcd").read_text() + lake.lab.log(node, "libvirtd").read_text()
    assert key not in lake.ok("vm", "dump", "writer")


def test_a_vm_loses_nothing_that_it_writes_while_it_is_moved_and_an_osd_dies(lake: Store, recorder: Recorder) -> None:
    starts = recorder.said().writers
    lake.ok("node", "flush", "hv1", "--wait")
    assert lake.copies() == {"writer": ["hv2"]}
    recorder.wait_for()
    assert "noout" in lake.lab.run(["ceph", "osd", "dump"]).stdout
    lake.lab.kill("osd", "hv1")
    recorder.wait_for()
    lake.wait("it is shown", lambda: "osd.0 of this node is down" in lake.findings("hv1"))
    lake.lab.start("osd", "hv1")
    lake.ok("node", "unflush", "hv1", "--wait")
    assert lake.copies() == {"writer": ["hv1"]}
    assert "noout" not in lake.lab.run(["ceph", "osd", "dump"]).stdout
    recorder.wait_for()
    recorder.demand_no_start(starts)


def test_a_vm_sees_its_disk_grow_as_it_runs_wherever_it_is(lake: Store, recorder: Recorder) -> None:
    guest = Guest(lake.lab, "writer")
    lake.ok("storage", "volume", "add", "fast", "more", "4M")
    lake.ok("vm", "disk", "add", "writer", "fast", "more")
    lake.wait("the guest sees it", lambda: guest.run("test -b /dev/vdb").code == 0)
    grow(lake, guest, 8)
    lake.ok("vm", "move", "writer", "hv2")
    grow(lake, guest, 12)
    lake.ok("vm", "move", "writer", "hv1")
    assert guest.ok("dd if=/dev/vdb bs=1024 skip=8191 count=1 2> /dev/null | head -n 1").strip() == "end of 8"
    lake.ok("vm", "disk", "remove", "writer", "fast/more")
    lake.ok("storage", "volume", "remove", "fast", "more", "--yes")
    recorder.wait_for()


def test_an_osd_that_is_killed_is_missed_and_starts_again(lake: Store, recorder: Recorder) -> None:
    lake.lab.kill("osd", "hv2")
    lake.wait("it is missed", lambda: "1 osds down" in health(lake))
    recorder.wait_for()
    assert lake.lab.up() == ["started osd on hv2"]
    assert health(lake) == "HEALTH_OK"


def test_while_the_monitor_is_stopped_vms_go_on_and_nodes_stay_alive(lake: Store, recorder: Recorder) -> None:
    lake.lab.kill("mon", "ceph1", signal.SIGSTOP)
    try:
        assert health(lake) == ""
        recorder.wait_for()
        lake.wait("it is shown", lambda: SILENT in lake.findings("hv1"))
        lake.wait("the pool's finding is there", lambda: "pool fast cannot be used" in lake.findings("hv1"))
        recorder.wait_for()
        assert all(row["alive"] for row in lake.ask("node", "list"))
    finally:
        lake.lab.kill("mon", "ceph1", signal.SIGCONT)
    recorder.wait_for()


def test_hosts_of_ceph_die_and_boot_with_what_they_had_and_a_vm_waits_for_them(lake: Store, recorder: Recorder) -> None:
    starts = recorder.said().writers
    lake.lab.kill("node", "ceph1")
    lake.lab.kill("node", "hv2")
    assert health(lake) == ""
    lake.lab.start("node", "ceph1")
    lake.wait("the OSD is missed", lambda: "1 osds down" in health(lake))
    recorder.wait_for()
    lake.lab.start("node", "hv2")
    lake.wait("all is well", lambda: health(lake) == "HEALTH_OK")
    lake.wait("the pool can be used", lambda: lake.ask("storage", "pool", "list")[0]["usable_on"] == ["hv1", "hv2"])
    recorder.demand_no_start(starts)


def test_a_full_pool_is_shown_and_its_vms_go_on_by_themselves_when_there_is_room(
    lake: Store, recorder: Recorder
) -> None:
    starts = recorder.said().writers
    assert lake.lab.run(["ceph", "osd", "pool", "set-quota", "vms", "max_bytes", "4096"]).code == 0
    try:
        lake.wait("Ceph has seen it", lambda: "full_quota" in lake.lab.run(["ceph", "osd", "dump"]).stdout)
        lake.wait("the pool's finding is there", lambda: "pool fast is full to 100 %" in lake.findings("hv1"), 120)
        assert "pool fast is full to 100 %" in str(lake.ask("storage", "status")["findings"])
        lake.wait("Ceph's own finding is there", lambda: FULL in lake.findings("hv1"))
        looks: list[int] = []

        def stands_still() -> bool:
            looks.append(len(recorder.said().acknowledged))
            return looks[-3:] == [looks[-1]] * 3

        lake.wait("the VM stands still for as long as it takes to write 40 records", stands_still, pause=1.0)
        assert FULL in lake.findings("hv1")
    finally:
        lake.lab.run(["ceph", "osd", "pool", "set-quota", "vms", "max_bytes", "0"])
    recorder.wait_for()
    recorder.demand_no_start(starts)


def test_a_volume_holds_what_was_acknowledged(recorder: Recorder) -> None:
    assert recorder.faults() == []


def test_a_vm_whose_node_lost_power_goes_on_elsewhere_once_the_node_is_declared_dead(
    lake: Store, recorder: Recorder
) -> None:
    starts = len(recorder.said().writers)
    lake.ok("vm", "start", "writer")
    recorder.wait_for_start(starts + 1)
    lake.lab.kill("node", "hv1")
    lake.wait("its session is over", lambda: not lake.node("hv1")["alive"])
    lake.ok("node", "fence", "hv1", "--reason", "no power", "--yes")
    recorder.wait_for_start(starts + 2)
    assert lake.copies() == {"writer": ["hv2"]}
    assert cut_off(lake) == [lake.lab.shape.host("hv1").address]
    lake.lab.start("node", "hv1")
    lake.wait("hv1 is in service", lambda: in_service(lake, "hv1"))
    assert cut_off(lake) == []
    lake.ok("vm", "unmigrate", "writer")
    assert lake.copies() == {"writer": ["hv1"]}


def test_a_node_that_was_only_cut_off_writes_nothing_more_once_it_is_declared_dead(
    lake: Store, recorder: Recorder
) -> None:
    starts = len(recorder.said().writers)
    lake.lab.partition("hv1", "zookeeper")
    try:
        lake.wait("its session is over", lambda: not lake.node("hv1")["alive"])
        assert lake.emulators("hv1") == ["writer"], "its guest runs on, and can reach Ceph"
        lake.ok("node", "fence", "hv1", "--yes")
        recorder.wait_for_start(starts + 1)
        assert recorder.faults() == [], "nothing is lost, and nothing comes from two"
    finally:
        lake.lab.heal("hv1")
    lake.wait("hv1 is in service", lambda: in_service(lake, "hv1"))
    assert lake.copies() == {}, "what was left of it is not taken for the VM"
    assert cut_off(lake) == []


def test_a_snapshot_of_a_vm_that_runs_holds_what_was_acknowledged_by_then_and_a_clone_of_it_is_another_disk(
    lake: Store, keeper: Recorder, tmp_path: Path
) -> None:
    before = max(keeper.said().acknowledged)
    lake.ok("storage", "snapshot", "add", "fast", "kept", "then")
    lake.ok("storage", "volume", "clone", "fast", "kept", "heir", "--snapshot", "then")
    keeper.wait_for()
    lake.refused("storage", "snapshot", "rollback", "fast", "kept", "then", "--yes")

    kept = lake.read(keeper.disk, snapshot="then")
    assert kept.highest >= before
    lake.wait("it has written more since", lambda: max(keeper.said().acknowledged) > kept.highest)
    said = keeper.said()
    by_then = tuple(number for number in said.acknowledged if number <= kept.highest)
    assert faults(kept, replace(said, acknowledged=by_then)) == []

    with lake.recorder("heir", "hv2", "fast/heir", tmp_path) as heir:
        (first,) = re.findall(r"^recording from (\d+) as", heir.console.read_text(), re.MULTILINE)
        assert int(first) == kept.highest + 1, "it goes on where the snapshot ended"
        keeper.wait_for()
    assert lake.read("fast/heir").up_to(kept.highest) == kept
    assert "heir" in lake.refused("storage", "snapshot", "remove", "fast", "kept", "then", "--yes")
    lake.ok("storage", "volume", "remove", "fast", "heir", "--yes")

    assert keeper.faults() == [], "neither snapshot nor clone has taken anything from it"
    assert lake.read(keeper.disk).highest > kept.highest
    lake.ok("storage", "snapshot", "rollback", "fast", "kept", "then", "--yes")
    assert lake.read(keeper.disk) == kept
