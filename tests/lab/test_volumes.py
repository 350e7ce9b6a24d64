"""Pools and volumes of a real cluster in a directory that nodes share, made and used by the command line only."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.guests import Guest
from tests.lab.store import MIB, Recorder, Store, store

pytestmark = pytest.mark.lab

DISK = "shared/records"


@pytest.fixture(scope="module")
def market(labs_directory: Path) -> Iterator[Store]:
    """Two nodes with the role and one without, and a pool of qcow2 files with a volume in it."""
    with store(labs_directory, "volumes", hypervisor_only=("hv3",)) as made:
        made.ok("storage", "pool", "add", "shared", "--path", "/mnt/shared")
        made.ok("storage", "volume", "add", "shared", "records", "4M")
        yield made


@pytest.fixture(scope="module")
def recorder(market: Store, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorder]:
    """A VM that writes to the volume; it runs on hv1 when a test begins and when it ends."""
    with market.recorder("writer", "hv1", DISK, tmp_path_factory.mktemp("consoles")) as made:
        yield made


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


def test_a_vm_loses_nothing_that_it_writes_while_it_is_flushed_back_and_forth(
    market: Store, recorder: Recorder
) -> None:
    starts = recorder.said().writers
    for _ in range(2):
        market.ok("node", "flush", "hv1", "--wait")
        assert market.copies() == {"writer": ["hv2"]}, "hv3 lacks the role"
        recorder.wait_for()
        market.ok("node", "unflush", "hv1", "--wait")
        assert market.copies() == {"writer": ["hv1"]}
        recorder.wait_for()
    assert recorder.said().writers == starts, "it never started anew"


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
