"""The small real Ceph cluster of a lab: it comes up well, and its daemons and hosts die and come back like others."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from pvc.lab.cluster import missing_tools
from tests.lab.store import Store, store

pytestmark = [pytest.mark.lab, pytest.mark.ceph]

HEALTH = ("ceph", "--connect-timeout", "5", "health")


@pytest.fixture(scope="module")
def pond(labs_directory: Path) -> Iterator[Store]:
    """Two nodes with an OSD each."""
    if missing := missing_tools(ceph=True):
        pytest.skip(f"a lab with Ceph needs {', '.join(missing)}")
    with store(labs_directory, "pond", nodes=2, ceph=True) as made:
        yield made


def health(pond: Store, node: str = "client") -> str:
    """What Ceph says of itself; empty while it does not answer."""
    return pond.lab.run(HEALTH, node).stdout.strip()


def test_a_lab_with_ceph_comes_up_well_and_shows_its_daemons(pond: Store) -> None:
    assert health(pond) == health(pond, "hv2") == "HEALTH_OK"
    rows = {(row["host"], row["process"]): row["state"] for row in pond.lab.status()}
    for daemon in (("ceph1", "mon"), ("ceph1", "mgr"), ("hv1", "osd"), ("hv2", "osd")):
        assert rows[daemon] == "running"
    assert pond.lab.up() == []


def test_vms_user_may_make_and_read_images_from_any_node(pond: Store) -> None:
    assert pond.lab.run(["rbd", "--id", "libvirt", "create", "vms/image", "--size", "8M"], "hv1").code == 0
    assert pond.lab.run(["rbd", "--id", "libvirt", "ls", "vms"], "hv2").stdout == "image\n"
    seen = pond.lab.run(["qemu-img", "info", "rbd:vms/image:id=libvirt"], "hv2")
    assert "virtual size: 8 MiB" in seen.stdout, seen
    assert pond.lab.run(["rbd", "--id", "libvirt", "rm", "--no-progress", "vms/image"], "hv1").code == 0


def test_an_osd_that_is_killed_is_missed_and_starts_again(pond: Store) -> None:
    pond.lab.kill("osd", "hv1")
    pond.wait("it is missed", lambda: "1 osds down" in health(pond))
    assert pond.lab.up() == ["started osd on hv1"]
    assert health(pond) == "HEALTH_OK"


def test_a_monitor_that_is_stopped_answers_nobody_and_delays_no_node(pond: Store) -> None:
    pond.lab.kill("mon", "ceph1", signal.SIGSTOP)
    try:
        assert health(pond) == ""
        assert all(row["alive"] for row in pond.ask("node", "list"))
    finally:
        pond.lab.kill("mon", "ceph1", signal.SIGCONT)
    pond.wait("it answers", lambda: health(pond).startswith("HEALTH"))


def test_hosts_of_ceph_die_and_boot_with_what_they_had(pond: Store) -> None:
    pond.lab.kill("node", "ceph1")
    pond.lab.kill("node", "hv2")
    assert health(pond) == ""
    pond.lab.start("node", "ceph1")
    pond.wait("the OSD is missed", lambda: "1 osds down" in health(pond))
    pond.lab.start("node", "hv2")
    pond.wait("all is well", lambda: health(pond) == "HEALTH_OK")
