"""The libvirt door where libvirt does not answer. What it does with one that works is in tests/contract."""

import logging
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pvc.core.threads import ThreadRuntime
from pvc.plugins.hypervisor.host import HypervisorGone

pytest.importorskip("libvirt")

from pvc.plugins.hypervisor.libvirt import MOST_ATTEMPTS, LibvirtHypervisor

LOG = logging.getLogger("tests.libvirt")


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(10.0)
        assert not thread.is_alive(), f"{thread.name} outlived the test"


def door_to(path: Path) -> LibvirtHypervisor:
    return LibvirtHypervisor(f"qemu+unix:///system?socket={path}", ThreadRuntime(), LOG, connect_seconds=0.1)


def test_a_missing_libvirt_is_gone_and_the_message_says_where_it_was_looked_for(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    door = door_to(tmp_path / "sock")
    with pytest.raises(HypervisorGone, match=f"{tmp_path}/sock.*is libvirtd running"):
        door.guests()
    door.close()
    assert capfd.readouterr().err == ""  # libvirt itself would print the error as well


def test_a_libvirt_that_hangs_is_gone_after_a_while_and_does_not_eat_threads(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "sock"))
        silent.listen()
        door = door_to(tmp_path / "sock")
        for _ in range(MOST_ATTEMPTS):
            with pytest.raises(HypervisorGone, match="no answer in time"):
                door.guests()
        before = threading.active_count()
        with pytest.raises(HypervisorGone, match="hangs"):
            door.guests()
        assert threading.active_count() == before
    door.close()


def test_a_closed_door_stays_closed(tmp_path: Path) -> None:
    door = door_to(tmp_path / "sock")
    door.close()
    door.close()
    with pytest.raises(HypervisorGone, match="closed"):
        door.guests()
