"""The lab's small Ceph cluster is a real one, and can be broken and mended."""

from pathlib import Path

import pytest

from pvc.core.process import SystemProcesses
from pvc.core.threads import ThreadRuntime
from pvc.lab.ceph import MiniCeph
from pvc.lab.cephtexts import Place
from pvc.lab.deadline import wait_until
from pvc.lab.errors import LabError

pytestmark = pytest.mark.ceph

DEADLINE = 60.0


def test_an_osd_that_dies_is_missed_and_found_again(ceph: MiniCeph) -> None:
    def up() -> list[int]:
        return [osd["osd"] for osd in ceph.ceph("osd", "dump")["osds"] if osd["up"]]

    ceph.kill_daemon("osd.1")
    try:
        assert not ceph.running("osd.1")
        wait_until(ThreadRuntime(), DEADLINE, lambda: None if up() == [0, 2] else f"up are {up()}")
    finally:
        ceph.start_daemon("osd.1")
        ceph.wait_healthy()
    assert up() == [0, 1, 2]


def test_what_was_written_is_there_after_a_stop_and_a_start_by_another(tmp_path: Path, free_loopback: str) -> None:
    first = _cluster(tmp_path / "c", free_loopback, osds=1)
    try:
        first.start()
        number = first.add_osd(Place("hv9", free_loopback))
        first.wait_healthy()
        first.ceph("config-key", "set", "note", "still here")
        first.stop()
        assert [name for name in first.daemons if first.running(name)] == []
        again = _cluster(tmp_path / "c", free_loopback, osds=1)
        again.start()
        assert (number, again.daemons) == (1, ("mon.a", "mgr.x", "osd.0", "osd.1"))
        assert len([osd for osd in again.ceph("osd", "dump")["osds"] if osd["up"]]) == 2
    finally:
        first.wipe()
    assert not (tmp_path / "c").exists()


def test_a_directory_with_something_else_in_it_is_left_alone(tmp_path: Path, free_loopback: str) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(LabError, match="holds something that is not a finished cluster"):
        _cluster(tmp_path, free_loopback, osds=1).start()
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def _cluster(directory: Path, address: str, osds: int) -> MiniCeph:
    return MiniCeph(directory, processes=SystemProcesses(), runtime=ThreadRuntime(), address=address, osds=osds)
