"""A directory that nodes of a real cluster share: VMs write to volumes and files in it while they are moved, killed and
started again."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pvc.lab.cluster import Lab
from pvc.lab.errors import LabError
from pvc.lab.shape import Shape
from tests.lab.guests import Guest
from tests.lab.recordings import faults
from tests.lab.store import MIB, Recorder, Store, store

pytestmark = pytest.mark.lab

DISK = "shared/records"


@pytest.fixture(scope="module")
def shop(labs_directory: Path) -> Iterator[Store]:
    """Two nodes with the role and one without."""
    with store(labs_directory, "store", hypervisor_only=("hv3",)) as made:
        yield made


@pytest.fixture(scope="module")
def market(shop: Store) -> Store:
    """With a pool of qcow2 files and a volume in it."""
    shop.ok("storage", "pool", "add", "shared", "--path", "/mnt/shared")
    shop.ok("storage", "volume", "add", "shared", "records", "4M")
    return shop


@pytest.fixture(scope="module")
def recorder(market: Store, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorder]:
    """A VM that writes to the volume; it runs on hv1 when a test begins and when it ends."""
    with market.recorder("writer", "hv1", DISK, tmp_path_factory.mktemp("consoles")) as made:
        yield made


@pytest.fixture(scope="module")
def filer(shop: Store, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorder]:
    """A VM that writes to a file in the shared directory, beside the first."""
    with shop.recorder("filer", "hv1", shop.add_file("filer.raw"), tmp_path_factory.mktemp("consoles")) as made:
        yield made


def test_nodes_have_the_role_and_a_hypervisor_only_one_has_not(shop: Store) -> None:
    roles = {row["name"]: row["roles"] for row in shop.ask("node", "list")}
    both = ["hypervisor", "storage"]
    assert roles == {"hv1": both, "hv2": both, "hv3": ["hypervisor"]}
    shown = {row["host"]: row["roles"] for row in shop.lab.status() if row["process"] == "host"}
    assert shown["hv1"] == "hypervisor storage" and shown["hv3"] == "hypervisor"
    shop.wait("both have looked", lambda: len(shop.ask("directory", "list")) == 2)
    rows = shop.ask("directory", "list")
    assert [(row["node"], row["path"], row["problem"]) for row in rows] == [
        ("hv1", "/mnt/shared", None),
        ("hv2", "/mnt/shared", None),
    ]


def test_all_hosts_see_the_shared_directory_and_it_outlives_a_node(shop: Store) -> None:
    assert shop.lab.run(["sh", "-c", "echo kept > /mnt/shared/note"], "hv2").code == 0
    shop.lab.kill("node", "hv2")
    assert shop.lab.run(["cat", "/mnt/shared/note"], "hv1").stdout == "kept\n"
    before = shop.node("hv2")["facts_at"]
    shop.lab.start("node", "hv2")
    assert shop.lab.run(["cat", "/mnt/shared/note"], "hv2").stdout == "kept\n"
    shop.wait_alive("hv2")
    shop.wait("it has looked again", lambda: shop.node("hv2")["facts_at"] != before)

    def usable() -> bool:
        problems = {row["node"]: row["problem"] for row in shop.ask("directory", "list")}
        return problems == {"hv1": None, "hv2": None}

    shop.wait("it is usable again", usable)


def test_a_volume_is_an_image_of_its_pool_and_is_listed(market: Store) -> None:
    (row,) = market.ask("storage", "volume", "list", "shared")
    assert (row["pool"], row["name"], row["size"]) == ("shared", "records", 4 * MIB)
    assert (market.shared / "records.qcow2").exists()
    assert "did you mean records" in market.refused("storage", "volume", "info", "shared", "recrods")


def test_what_a_vm_uses_is_not_removed_nor_given_to_another(market: Store, recorder: Recorder) -> None:
    assert "writer" in market.refused("storage", "volume", "remove", "shared", "records", "--yes")
    market.refused("storage", "pool", "remove", "shared", "--yes")
    xml = market.lab.write_vm("thief", arguments="rate=0", disks=[DISK])
    assert "writer" in market.refused("vm", "define", str(xml), "--node", "hv2")
    recorder.wait_for()


def test_vms_lose_nothing_that_they_write_while_they_are_flushed_there_and_back_twice(
    market: Store, recorder: Recorder, filer: Recorder
) -> None:
    both = (recorder, filer)
    starts = [one.said().writers for one in both]
    for _ in range(2):
        market.ok("node", "flush", "hv1", "--wait")
        assert market.copies() == {"filer": ["hv2"], "writer": ["hv2"]}, "hv3 lacks the role"
        for one in both:
            one.wait_for()
        market.ok("node", "unflush", "hv1", "--wait")
        assert market.copies() == {"filer": ["hv1"], "writer": ["hv1"]}
        for one in both:
            one.wait_for()
    assert filer.faults_so_far() == []
    for one, names in zip(both, starts, strict=True):
        one.demand_no_start(names)


def test_a_second_qemu_on_another_node_is_kept_from_a_disk_in_use(
    market: Store, recorder: Recorder, filer: Recorder
) -> None:
    for disk in (filer.disk, "/mnt/shared/records.qcow2"):
        thief = market.lab.write_vm("thief", arguments="rate=0 record=vda", disks=[disk])
        done = market.lab.run(["virsh", "create", str(thief)], "hv2")
        assert done.code != 0 and 'Failed to get "write" lock' in done.stderr, done
    other = market.lab.write_vm("thief", arguments="rate=0", disks=[market.add_file("other.raw")])
    assert market.lab.run(["virsh", "create", str(other)], "hv2").code == 0, (
        "the counterpart: nothing else keeps it away"
    )
    assert market.lab.run(["virsh", "destroy", "thief"], "hv2").code == 0
    recorder.wait_for()
    filer.wait_for()
    assert filer.faults_so_far() == []


def test_a_disk_is_plugged_into_a_vm_that_runs_and_goes_where_the_vm_goes(market: Store, recorder: Recorder) -> None:
    guest = Guest(market.lab, "writer")
    market.ok("storage", "volume", "add", "shared", "more", "1M")
    market.ok("vm", "disk", "add", "writer", "shared", "more")
    market.wait("the guest sees it", lambda: guest.run("test -b /dev/vdb").code == 0)
    guest.ok("echo written here > /dev/vdb; sync")
    market.ok("vm", "move", "writer", "hv2")
    assert guest.ok("dd if=/dev/vdb bs=12 count=1 2> /dev/null") == "written here"
    market.ok("vm", "disk", "remove", "writer", "shared/more")
    market.wait("it has gone", lambda: guest.run("test -e /dev/vdb").code != 0)
    market.ok("storage", "volume", "remove", "shared", "more", "--yes")
    assert not (market.shared / "more.qcow2").exists()
    market.ok("vm", "move", "writer", "hv1")
    recorder.wait_for()


def test_a_vm_that_is_killed_starts_again_and_goes_on_after_the_last_record_on_its_disk(
    market: Store, filer: Recorder
) -> None:
    starts = len(filer.said().writers)
    market.lab.kill("qemu", "filer")
    filer.wait_for_start(starts + 1)
    assert filer.faults_so_far() == []


def test_vms_whose_node_loses_power_go_on_when_the_node_is_back(
    market: Store, recorder: Recorder, filer: Recorder
) -> None:
    both = (recorder, filer)
    starts = [len(one.said().writers) for one in both]
    market.lab.kill("node", "hv1")
    assert faults(market.read(filer.disk), filer.said()) == [], "what was acknowledged was on the disk by then"
    market.lab.start("node", "hv1")
    for one, before in zip(both, starts, strict=True):
        one.wait_for_start(before + 1)
    assert market.copies() == {"filer": ["hv1"], "writer": ["hv1"]}
    assert filer.faults() == []


def test_a_vm_whose_node_lost_power_goes_on_elsewhere_once_the_node_is_declared_dead(
    market: Store, recorder: Recorder
) -> None:
    starts = len(recorder.said().writers)
    market.lab.kill("node", "hv1")
    market.wait("its session is over", lambda: not market.node("hv1")["alive"])
    market.ok("node", "fence", "hv1", "--reason", "no power", "--yes")
    recorder.wait_for_start(starts + 1)
    assert market.copies()["writer"] == ["hv2"], "hv3 lacks the role"
    market.lab.start("node", "hv1")
    market.wait("hv1 is in service", lambda: market.node("hv1")["alive"] and market.node("hv1")["fenced"] is None)
    market.ok("vm", "unmigrate", "writer")
    assert market.copies()["writer"] == ["hv1"]
    recorder.wait_for()


def test_a_volume_holds_what_was_acknowledged_and_after_a_rollback_what_it_held_then(
    market: Store, recorder: Recorder
) -> None:
    assert recorder.faults() == []
    kept = market.read(DISK)
    market.ok("storage", "snapshot", "add", "shared", "records", "before")
    starts = len(recorder.said().writers)
    market.ok("vm", "start", "writer")
    recorder.wait_for_start(starts + 1)
    market.refused("storage", "snapshot", "rollback", "shared", "records", "before", "--yes")
    assert recorder.faults() == []
    assert market.read(DISK).highest > kept.highest

    market.ok("storage", "snapshot", "rollback", "shared", "records", "before", "--yes")
    assert market.read(DISK) == kept
    market.ok("storage", "snapshot", "remove", "shared", "records", "before", "--yes")


def test_an_image_that_was_written_to_a_file_and_read_again_is_the_same(market: Store, recorder: Recorder) -> None:
    before = market.read(DISK)
    market.ok("storage", "volume", "export", "shared", "records", "/mnt/shared/out.img", "--node", "hv2")
    market.ok("storage", "volume", "import", "shared", "again", "/mnt/shared/out.img", "--node", "hv1")
    assert market.read("shared/again") == before
    market.ok("storage", "volume", "remove", "shared", "again", "--yes")


def test_a_full_directory_is_shown_and_a_vm_that_it_halts_goes_on_when_there_is_room(
    market: Store, tmp_path: Path
) -> None:
    """Only hv1 has the file system: that others see it, too, changes nothing about its being full."""
    small = "mkdir /mnt/small && mount -t tmpfs -o size=6M none /mnt/small"
    assert market.lab.run(["sh", "-c", small], "hv1").code == 0
    market.ok("storage", "pool", "add", "small", "--path", "/mnt/small", "--node", "hv1")
    market.ok("storage", "volume", "add", "small", "records", "4M")
    with market.recorder("halted", "hv1", "small/records", tmp_path) as recorder:
        assert market.lab.run(["dd", "if=/dev/zero", "of=/mnt/small/big", "bs=4k"], "hv1").code != 0
        market.wait("the VM is shown to stand still", lambda: "VM halted stands still" in market.findings("hv1"))
        market.wait("the pool's finding is there", lambda: "pool small is full to" in market.findings("hv1"))
        assert "pool small is full to" in str(market.ask("storage", "status")["findings"])
        assert market.vm("halted")["state"] == "running", "it is this node's, whatever it does"
        assert market.lab.run(["rm", "/mnt/small/big"], "hv1").code == 0
        assert market.lab.run(["virsh", "resume", "halted"], "hv1").code == 0
        recorder.wait_for()
        market.wait("nothing is left to be done", lambda: "stands still" not in market.findings("hv1"))
        assert len(recorder.said().writers) == 1, "it never started anew"
        market.ok("vm", "stop", "halted", "--yes")
        assert faults(market.read(recorder.disk, node="hv1"), recorder.said()) == []


def test_a_lab_that_would_cover_itself_with_the_shared_directory_is_refused(labs_directory: Path) -> None:
    with pytest.raises(LabError, match="see another /mnt than this machine; move /mnt/labs/mine elsewhere"):
        Lab("mine", Shape(vms=0, bare=True, storage=True), directory=Path("/mnt/labs")).up()
    assert not Path("/mnt/labs").exists()
