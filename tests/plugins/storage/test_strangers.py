"""A volume is not removed with what somebody has made past pvc, nor made smaller than anybody was asked about."""

from collections.abc import Iterator
from typing import Any

import pytest

from pvc.core.storage import Image, StorageError
from pvc.plugins.storage.decide.strangers import why_left
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
from pvc.testing.storage import FakeContents, FakeImage

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
    why = why_left(REMOVAL, volume, Image(1, "raw", snapshots=image))
    assert named in why
    assert bool(why) is bool(named)


@pytest.mark.parametrize(
    ("state", "made", "kept"),
    [
        (VolumeState.MAKING, 69.0, True),
        (VolumeState.MAKING, 71.0, False),
        (VolumeState.MAKING, None, False),
        (VolumeState.READY, 69.0, False),
        (VolumeState.REMOVING, 69.0, False),
    ],
)
def test_what_is_older_than_a_volume_that_was_never_finished_is_not_its_image(
    state: VolumeState, made: float | None, kept: bool
) -> None:
    why = why_left(REMOVAL, Volume("a", 1, state, created=100.0), Image(1, "raw", made=made))
    assert ("pvc has not made it" in why) is kept
    assert bool(why) is kept


@pytest.mark.parametrize(
    ("image", "asked", "left"),
    [(20, 15, True), (20, 10, True), (20, 5, True), (20, 20, False), (20, 30, False), (10, 5, False), (5, 10, False)],
)
def test_an_image_that_is_larger_than_was_known_is_not_made_smaller(image: int, asked: int, left: bool) -> None:
    task = Task("t", TaskKind.RESIZE, "hv1", "me", 0.0, pool="fast", volume="a", size=asked << 20)
    why = why_left(task, Volume("a", 10 << 20, VolumeState.READY), Image(image << 20, "raw"))
    assert ("has 20 MiB" in why) is left
    assert bool(why) is left


def test_what_is_gone_keeps_nothing() -> None:
    assert why_left(REMOVAL, Volume("a", 1), None) == ""


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


def test_a_volume_that_was_made_larger_by_hand_is_not_cut_by_who_wants_it_a_little_larger(cluster: SimCluster) -> None:
    cluster.storage.image("fast", "a").contents = FakeContents(16384, "much")
    task = done(cluster, "resize", volume="a", size=8192)
    assert task.phase is TaskPhase.FAILED and "has 16 KiB, more than pvc knew of" in task.message, task.message
    assert cluster.storage.image("fast", "a").contents.size == 16384
    left = record(cluster)
    assert left is not None
    assert (left.state, left.task, left.size) == (VolumeState.READY, None, 16384)
    assert done(cluster, "resize", volume="a", size=8192).phase is TaskPhase.DONE  # who asks again knows what it has


def test_an_image_that_was_there_before_a_volume_that_could_not_be_made_is_nobodys_to_remove(
    cluster: SimCluster,
) -> None:
    cluster.run(100)
    cluster.storage.slow(1)
    task = ask_task(cluster, "create", "hv1", pool="fast", volume="b", size=4096)
    assert cluster.run_until(lambda: cluster.storage.count("create") > 1, 20)
    cluster.storage.images["fast", "b"] = FakeImage(FakeContents(4096), made=cluster.storage.now() - 90)
    cluster.storage.spoil("it is off; switch it on")
    assert ended(cluster, task).phase is TaskPhase.FAILED
    cluster.storage.spoil("")
    left = read_volumes(cluster.client, "fast")["b"]
    assert left is not None and left.state is VolumeState.MAKING  # nobody could look whether it is there
    cluster.run(60)
    again = done(cluster, "remove", volume="b")
    assert again.phase is TaskPhase.FAILED and "pvc has not made it" in again.message
    assert ("fast", "b") in cluster.storage.images
    del cluster.storage.images["fast", "b"]
    assert done(cluster, "remove", volume="b").phase is TaskPhase.DONE
    assert unaccounted(cluster) == []
