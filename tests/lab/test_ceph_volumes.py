"""Volumes in a real Ceph cluster: VMs write to them while they are moved and while parts of Ceph are dead."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from pvc.lab.cluster import missing_tools
from tests.lab.guests import Guest
from tests.lab.recordings import faults
from tests.lab.store import MIB, Recorder, Store, store

pytestmark = [pytest.mark.lab, pytest.mark.ceph]


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
    """A VM that writes to the volume; it runs on hv1 when a test begins and when it ends."""
    with lake.recorder("writer", "hv1", "fast/records", tmp_path_factory.mktemp("consoles")) as made:
        yield made


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
    lake.wait("it is shown", lambda: "osd.0 of this node is down" in str(lake.node("hv1")["findings"]))
    lake.lab.start("osd", "hv1")
    lake.ok("node", "unflush", "hv1", "--wait")
    assert lake.copies() == {"writer": ["hv1"]}
    assert "noout" not in lake.lab.run(["ceph", "osd", "dump"]).stdout
    recorder.wait_for()
    assert recorder.said().writers == starts, "it never started anew"


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


def test_while_the_monitor_is_stopped_vms_go_on_and_nodes_stay_alive(lake: Store, recorder: Recorder) -> None:
    lake.lab.kill("mon", "ceph1", signal.SIGSTOP)
    try:
        recorder.wait_for()
        silent = "VMs with disks on it may stand still"
        lake.wait("it is shown", lambda: silent in str(lake.node("hv1")["findings"]))
        recorder.wait_for()
        assert all(row["alive"] for row in lake.ask("node", "list"))
    finally:
        lake.lab.kill("mon", "ceph1", signal.SIGCONT)
    recorder.wait_for()


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
    assert cut_off(lake) == [address(lake, "hv1")]
    lake.lab.start("node", "hv1")
    lake.wait("hv1 is in service", lambda: lake.node("hv1")["alive"] and lake.node("hv1")["fenced"] is None)
    assert cut_off(lake) == []
    lake.ok("vm", "unmigrate", "writer")
    assert lake.copies() == {"writer": ["hv1"]}
    assert recorder.faults() == []


def test_a_node_that_was_only_cut_off_writes_nothing_more_once_it_is_declared_dead(
    lake: Store, recorder: Recorder
) -> None:
    starts = len(recorder.said().writers)
    lake.ok("vm", "start", "writer")
    recorder.wait_for_start(starts + 1)
    lake.lab.partition("hv1", "zookeeper")
    try:
        lake.wait("its session is over", lambda: not lake.node("hv1")["alive"])
        assert lake.emulators("hv1") == ["writer"], "its guest runs on, and can reach Ceph"
        lake.ok("node", "fence", "hv1", "--yes")
        recorder.wait_for_start(starts + 2)
        lake.ok("vm", "stop", "writer", "--yes")
        said = recorder.said()
        assert faults(lake.read(recorder.disk), said) == [], "nothing is lost, and nothing comes from two"
    finally:
        lake.lab.heal("hv1")
    lake.wait("hv1 is in service", lambda: lake.node("hv1")["alive"] and lake.node("hv1")["fenced"] is None)
    assert lake.copies() == {}
    assert cut_off(lake) == []


def grow(lake: Store, guest: Guest, size: int) -> None:
    """Give volume more, disk vdb of a VM that runs, so many MiB; the guest sees that, and can use all of it."""
    said = lake.ok("storage", "volume", "resize", "fast", "more", f"{size}M")
    assert f"{guest.name} sees the new size of vdb" in said
    sectors = str(size * MIB // 512)
    lake.wait("the guest has heard", lambda: guest.ok("cat /sys/class/block/vdb/size").strip() == sectors)
    guest.ok(f"echo end of {size} | dd of=/dev/vdb bs=1024 seek={size * 1024 - 1} conv=notrunc 2> /dev/null; sync")


def cut_off(lake: Store) -> list[str]:
    """The machines that Ceph's blocklist keeps out; not single programs of theirs."""
    listed = lake.lab.run(["ceph", "osd", "blocklist", "ls"]).stdout
    return [line.partition(":")[0] for line in listed.splitlines() if ":0/0 " in line]


def address(lake: Store, node: str) -> str:
    return lake.lab.shape.host(node).address
