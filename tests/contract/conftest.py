"""Fixtures of the contract tests: each test of `cluster` runs on the fake and on a real server."""

import threading
from collections.abc import Iterator

import pytest

from pvc.core.process import SystemProcesses
from pvc.core.threads import ThreadRuntime
from pvc.testing.zookeeper import ZooKeeperServer, free_port, missing_for_server
from tests.contract.cephclusters import ceph, free_loopback, session_ceph
from tests.contract.clusters import Cluster, FakeCluster, RealCluster
from tests.contract.rbdstorage import rbd

__all__ = ["ceph", "free_loopback", "rbd", "session_ceph"]  # fixtures, from here on known to all tests below


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(10.0)
        assert not thread.is_alive(), f"{thread.name} outlived the test"


@pytest.fixture(scope="session")
def zookeeper_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZooKeeperServer]:
    if missing := missing_for_server():
        pytest.skip(missing)
    directory = tmp_path_factory.mktemp("zookeeper")
    server = ZooKeeperServer(SystemProcesses(), ThreadRuntime(), directory, free_port())
    server.start()
    yield server
    server.stop()


@pytest.fixture(params=["fake", pytest.param("zookeeper", marks=pytest.mark.zookeeper)])
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    made: Cluster
    made = FakeCluster() if request.param == "fake" else RealCluster(request.getfixturevalue("zookeeper_server"))
    yield made
    made.close()
