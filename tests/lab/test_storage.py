"""Disks in the shared directory of a real cluster: VMs write while they are moved, killed and started again."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pvc.lab.cluster import Lab
from pvc.lab.errors import LabError
from pvc.lab.shape import Shape
from tests.lab.recordings import faults
from tests.lab.store import Recorder, Store, store

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def shop(labs_directory: Path) -> Iterator[Store]:
    """Two nodes with the role and one without."""
    with store(labs_directory, "store", hypervisor_only=("hv3",)) as made:
        yield made


@pytest.fixture(scope="module")
def recorder(shop: Store, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorder]:
    """A VM that writes to a file in the shared directory; it runs on hv1 when a test begins and when it ends."""
    with shop.recorder("writer", "hv1", shop.add_file("writer.raw"), tmp_path_factory.mktemp("consoles")) as made:
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
    shop.lab.start("node", "hv2")
    assert shop.lab.run(["cat", "/mnt/shared/note"], "hv2").stdout == "kept\n"
    shop.wait_alive("hv2")
    shop.wait("it is usable again", lambda: not any(row["problem"] for row in shop.ask("directory", "list")))


def test_a_vm_with_a_file_loses_nothing_that_it_writes_while_it_is_flushed_there_and_back(
    shop: Store, recorder: Recorder
) -> None:
    starts = recorder.said().writers
    shop.ok("node", "flush", "hv1", "--wait")
    assert shop.copies() == {"writer": ["hv2"]}, "hv3 lacks the role"
    recorder.wait_for()
    shop.ok("node", "unflush", "hv1", "--wait")
    assert shop.copies() == {"writer": ["hv1"]}
    recorder.wait_for()
    assert recorder.faults_so_far() == []
    assert recorder.said().writers == starts, "it never started anew"


def test_a_second_qemu_on_another_node_is_kept_from_a_disk_in_use(shop: Store, recorder: Recorder) -> None:
    thief = shop.lab.write_vm("thief", arguments="rate=0 record=vda", disks=[recorder.disk])
    done = shop.lab.run(["virsh", "create", str(thief)], "hv2")
    assert done.code != 0 and 'Failed to get "write" lock' in done.stderr, done
    other = shop.lab.write_vm("thief", arguments="rate=0", disks=[shop.add_file("other.raw")])
    assert shop.lab.run(["virsh", "create", str(other)], "hv2").code == 0, "the counterpart: nothing else keeps it away"
    assert shop.lab.run(["virsh", "destroy", "thief"], "hv2").code == 0
    recorder.wait_for()
    assert recorder.faults_so_far() == []


def test_a_vm_that_is_killed_starts_again_and_goes_on_after_the_last_record_on_its_disk(
    shop: Store, recorder: Recorder
) -> None:
    starts = len(recorder.said().writers)
    shop.lab.kill("qemu", "writer")
    recorder.wait_for_start(starts + 1)
    assert recorder.faults_so_far() == []


def test_a_vm_whose_node_loses_power_goes_on_when_the_node_is_back(shop: Store, recorder: Recorder) -> None:
    starts = len(recorder.said().writers)
    shop.lab.kill("node", "hv1")
    assert faults(shop.read(recorder.disk), recorder.said()) == [], "what was acknowledged was on the disk by then"
    shop.lab.start("node", "hv1")
    recorder.wait_for_start(starts + 1)
    assert shop.copies() == {"writer": ["hv1"]}
    assert recorder.faults() == []


def test_a_lab_that_would_cover_itself_with_the_shared_directory_is_refused(labs_directory: Path) -> None:
    with pytest.raises(LabError, match="see another /mnt than this machine; move /mnt/labs/mine elsewhere"):
        Lab("mine", Shape(vms=0, bare=True, storage=True), directory=Path("/mnt/labs")).up()
    assert not Path("/mnt/labs").exists()
