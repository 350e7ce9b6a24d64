"""A volume is not removed with snapshots that somebody has made past pvc: nobody was asked about those."""

from collections.abc import Iterator
from typing import Any

import pytest

from pvc.core.storage import Image, StorageError
from pvc.plugins.storage.decide.strangers import why_kept
from pvc.plugins.storage.records import (
    ENDED,
    Snapshot,
    Task,
    TaskKind,
    TaskPhase,
    Volume,
    VolumeState,
    read_tasks,
    read_volumes,
)
from pvc.testing.cluster import SimCluster
from pvc.testing.ledger import ask_task, unaccounted
from pvc.testing.storage import FakeContents

REMOVAL = Task("t", TaskKind.REMOVE, "hv1", "me", 0.0, pool="fast", volume="a")
STORAGE: dict[str, Any] = {"roles": {"hypervisor": False, "storage": True}}


@pytest.mark.parametrize(
    ("record", "image", "named"),
    [
        ((), (), ""),
        (("s", "t"), ("s", "t"), ""),
        (("s", "t"), ("t",), ""),
        (("s", "t"), (), ""),
        ((), ("mine",), "not made: mine;"),
        (("s",), ("x", "s", "y"), "not made: x, y;"),
        (("s",), ("x",), "not made: x;"),
    ],
)
def test_only_snapshots_that_the_record_lacks_keep_an_image(
    record: tuple[str, ...], image: tuple[str, ...], named: str
) -> None:
    volume = Volume("a", 1, snapshots=tuple(Snapshot(name, 0.0, 1) for name in record))
    why = why_kept(REMOVAL, volume, Image(1, "raw", snapshots=image))
    assert named in why
    assert bool(why) is bool(named)


def test_what_is_gone_keeps_nothing() -> None:
    assert why_kept(REMOVAL, Volume("a", 1), None) == ""


@pytest.fixture
def cluster() -> Iterator[SimCluster]:
    """Two storage nodes, and in the pool `fast` the volume `a` with the snapshots `s` and `t`."""
    with SimCluster(dict.fromkeys(("hv1", "hv2"), STORAGE)) as cluster:
        cluster.start()
        done(cluster, "add pool")
        cluster.run(1)
        done(cluster, "create", volume="a", size=4096)
        for name in ("s", "t"):
            done(cluster, "snapshot", volume="a", snapshot=name)
        yield cluster


def done(cluster: SimCluster, kind: str, **about: Any) -> Task:
    return ended(cluster, ask_task(cluster, kind, "hv1", pool="fast", **about))


def ended(cluster: SimCluster, asked: Task) -> Task:
    assert cluster.run_until(lambda: now(cluster, asked).phase in ENDED, 120), now(cluster, asked)
    return now(cluster, asked)


def now(cluster: SimCluster, asked: Task) -> Task:
    task = read_tasks(cluster.client)[asked.id]
    assert task is not None
    return task


def record(cluster: SimCluster) -> Volume | None:
    return read_volumes(cluster.client, "fast").get("a")


def snap_by_hand(cluster: SimCluster) -> dict[str, FakeContents]:
    snapshots = cluster.storage.image("fast", "a").snapshots
    snapshots["mine"] = FakeContents(4096)
    return snapshots


def test_a_volume_with_a_snapshot_of_somebody_else_is_kept_whole(cluster: SimCluster) -> None:
    snapshots = snap_by_hand(cluster)
    task = done(cluster, "remove", volume="a")
    assert task.phase is TaskPhase.FAILED
    assert "not made: mine;" in task.message
    left = record(cluster)
    assert left is not None
    assert (left.state, left.task, [one.name for one in left.snapshots]) == (VolumeState.READY, None, ["s", "t"])
    assert cluster.storage.count("remove") == 0
    del snapshots["mine"]
    assert done(cluster, "remove", volume="a").phase is TaskPhase.DONE
    assert record(cluster) is None
    assert unaccounted(cluster) == []


def test_a_removal_that_another_node_takes_over_goes_on_though_snapshots_are_gone(cluster: SimCluster) -> None:
    cluster.storage.slow(5)
    task = ask_task(cluster, "remove", "hv1", pool="fast", volume="a")
    assert cluster.run_until(lambda: cluster.storage.count("remove") > 0, 30)
    cluster.kill_daemon("hv1")
    del cluster.storage.image("fast", "a").snapshots["s"]
    over = ended(cluster, task)
    assert (over.phase, over.attempts) == (TaskPhase.DONE, 2)
    assert record(cluster) is None


def test_a_removal_that_is_asked_for_again_goes_on_though_snapshots_are_gone(cluster: SimCluster) -> None:
    cluster.storage.fail_once("remove", StorageError("lost the way; try again"))
    assert done(cluster, "remove", volume="a").phase is TaskPhase.FAILED
    del cluster.storage.image("fast", "a").snapshots["s"]
    assert done(cluster, "remove", volume="a").phase is TaskPhase.DONE
    assert record(cluster) is None


@pytest.mark.parametrize("how", ["taken over", "again"])
def test_half_a_volume_is_not_taken_for_whole_because_somebody_made_a_snapshot_of_it(
    cluster: SimCluster, how: str
) -> None:
    if how == "again":
        cluster.storage.fail_once("remove", StorageError("lost the way; try again"))
        done(cluster, "remove", volume="a")
        snap_by_hand(cluster)
        task = ask_task(cluster, "remove", "hv1", pool="fast", volume="a")
    else:
        cluster.storage.slow(5)
        task = ask_task(cluster, "remove", "hv1", pool="fast", volume="a")
        assert cluster.run_until(lambda: cluster.storage.count("remove") > 0, 30)
        cluster.kill_daemon("hv1")
        snap_by_hand(cluster)
    assert "not made: mine;" in ended(cluster, task).message
    left = record(cluster)
    assert left is not None
    assert (left.state, left.task) == (VolumeState.REMOVING, None)
