"""Tasks asked for on a simulated cluster, and what has become of them."""

from typing import Any

from pvc.plugins.storage.records import ENDED, Task, Volume, VolumeState, read_tasks, read_volumes
from pvc.testing.cluster import SimCluster
from pvc.testing.ledger import ask_task
from pvc.testing.storage import FakeImage

FILE = "/tmp/disk.img"
"""A file of 1000 bytes on every node of the fixture `cluster`."""
OFF = "it is off; switch it on"


def done(cluster: SimCluster, kind: str, node: str = "hv1", pool: str = "fast", **about: Any) -> Task:
    """Ask for a task and wait for its end."""
    return ended(cluster, ask_task(cluster, kind, node, pool=pool, **about))


def ended(cluster: SimCluster, asked: Task, timeout: float = 120.0) -> Task:
    assert cluster.run_until(lambda: now(cluster, asked).phase in ENDED, timeout), now(cluster, asked)
    return now(cluster, asked)


def now(cluster: SimCluster, asked: Task) -> Task:
    task = read_tasks(cluster.client)[asked.id]
    assert task is not None
    return task


def volume(cluster: SimCluster, name: str) -> Volume | None:
    return read_volumes(cluster.client, "fast").get(name)


def image(cluster: SimCluster, name: str) -> FakeImage:
    return cluster.storage.image("fast", name)


def known(cluster: SimCluster, name: str) -> Volume:
    found = volume(cluster, name)
    assert found is not None and found.task is None and found.state is VolumeState.READY
    return found
