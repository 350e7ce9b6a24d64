"""Real small Ceph clusters for tests: one for the session, on an address of loopback that nobody else uses."""

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pvc.core.process import SystemProcesses
from pvc.core.threads import ThreadRuntime
from pvc.lab.ceph import MiniCeph, missing_for_ceph

MONITOR_PORT = 6789


def unused_address() -> str:
    """An address of loopback on which no monitor listens. Not 127.0.0.1: clients come from there."""
    for last in range(20, 250):
        address = f"127.0.19.{last}"
        with socket.socket() as probe:
            try:
                probe.bind((address, MONITOR_PORT))
            except OSError:
                continue
        return address
    raise AssertionError("each of 230 addresses has a monitor")


@pytest.fixture
def free_loopback() -> str:
    _require_ceph()
    return unused_address()


@pytest.fixture(scope="session")
def session_ceph() -> Iterator[MiniCeph]:
    _require_ceph()
    directory = Path(tempfile.mkdtemp(prefix="pvc-ceph-", dir="/tmp"))  # sockets in it need short paths
    made = MiniCeph(
        directory, processes=SystemProcesses(), runtime=ThreadRuntime(), address=unused_address(), grace=3.0
    )
    try:
        made.start()
        yield made
    finally:
        made.wipe()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def ceph(session_ceph: MiniCeph) -> MiniCeph:
    """The session's cluster, with all its daemons at work."""
    for name in session_ceph.daemons:
        assert session_ceph.running(name), f"an earlier test left {name} dead"
    return session_ceph


def _require_ceph() -> None:
    if os.geteuid() != 0:
        pytest.skip("a Ceph cluster is started as root only")
    if missing := missing_for_ceph():
        pytest.skip(missing)
