"""Real small Ceph clusters for tests: one for the session, on an address of loopback that nobody else uses."""

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pvc.core.process import SystemProcesses
from pvc.core.threads import ThreadRuntime
from pvc.lab.ceph import MiniCeph, missing_for_ceph

MONITOR_PORT = 6789
CLAIM_PORT = 6788
"""Bound on an address, it keeps other runs of these tests away from it."""


@contextmanager
def claimed_address() -> Iterator[str]:
    """An address of loopback on which no monitor listens, and that nobody else claims as long as the block lasts.

    Not 127.0.0.1: clients come from there.
    """
    for last in range(20, 250):
        address = f"127.0.19.{last}"
        with socket.socket() as claim:
            if _binds(claim, address, CLAIM_PORT):
                with socket.socket() as probe:
                    free = _binds(probe, address, MONITOR_PORT)
                if free:
                    yield address
                    return
    raise AssertionError("each of 230 addresses has a monitor, or is claimed")


def _binds(made: socket.socket, address: str, port: int) -> bool:
    try:
        made.bind((address, port))
    except OSError:
        return False
    return True


@pytest.fixture
def free_loopback() -> Iterator[str]:
    _require_ceph()
    with claimed_address() as address:
        yield address


@pytest.fixture(scope="session")
def session_ceph() -> Iterator[MiniCeph]:
    _require_ceph()
    directory = Path(tempfile.mkdtemp(prefix="pvc-ceph-", dir="/tmp"))  # sockets in it need short paths
    with claimed_address() as address:
        made = MiniCeph(directory, processes=SystemProcesses(), runtime=ThreadRuntime(), address=address, grace=3.0)
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
