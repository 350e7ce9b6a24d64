"""Tasks on a simulated cluster: each kind, and what becomes of it when its node, its session or the storage fails."""

import pytest

from pvc.core.coordination import Delete
from pvc.core.lookup import read_facts
from pvc.core.storage import Feature, Pool, StorageError, StorageUnusable
from pvc.plugins.storage import keys
from pvc.plugins.storage.decide.pools import published_in
from pvc.plugins.storage.decide.tasks import KEPT
from pvc.plugins.storage.records import (
    ENDED,
    Snapshot,
    TaskPhase,
    VolumeState,
    in_hand,
    read_tasks,
)
from pvc.testing.cluster import SimCluster
from pvc.testing.ledger import ask_task, cancel_task, last_task, unaccounted
from pvc.testing.storage import FakeContents, FakeImage
from tests.plugins.storage.asked import FILE, OFF, done, ended, image, known, now, volume


def test_a_pool_is_added_when_it_can_be_used(cluster: SimCluster) -> None:
    states = {node: published_in(read_facts(cluster.client, node)) for node in cluster.nodes}
    assert {node: state["fast"].problem for node, state in states.items()} == dict.fromkeys(cluster.nodes, "")
    assert states["hv1"]["fast"].total == cluster.storage.total


def test_a_pool_that_cannot_be_used_is_not_added(cluster: SimCluster) -> None:
    cluster.storage.spoil("nothing is mounted there; mount it", pool="slow")
    task = done(cluster, "add pool", pool="slow")
    assert (task.phase, task.message) == (TaskPhase.FAILED, "pool slow: nothing is mounted there; mount it")
    assert cluster.client.get(keys.pool("slow")) is None
    wrong = done(cluster, "add pool", pool="odd", proposed=Pool("odd", "fake", {"colour": "red"}))
    assert "there is no option colour" in wrong.message
    unknown = done(cluster, "add pool", pool="odd", proposed=Pool("odd", "tape", {}))
    assert "this node knows no backend tape" in unknown.message


def test_a_pool_is_not_added_twice(cluster: SimCluster) -> None:
    assert done(cluster, "add pool").message == "there is a pool fast already; choose another name"


def test_every_kind_of_task_on_volumes(cluster: SimCluster) -> None:
    assert done(cluster, "create", volume="a", size=4096).phase is TaskPhase.DONE
    made = volume(cluster, "a")
    assert made is not None and (made.state, made.size, made.task) == (VolumeState.READY, 4096, None)
    cluster.storage.writes("fast", "a", "first")
    assert done(cluster, "snapshot", volume="a", snapshot="s1").phase is TaskPhase.DONE
    cluster.storage.writes("fast", "a", "second")
    assert done(cluster, "resize", volume="a", size=8192).phase is TaskPhase.DONE
    assert done(cluster, "protect", volume="a", snapshot="s1").phase is TaskPhase.DONE
    (snapshot,) = known(cluster, "a").snapshots
    assert (snapshot.name, snapshot.size, snapshot.protected) == ("s1", 4096, True)
    assert image(cluster, "a").protected == {"s1"}
    assert done(cluster, "clone", volume="a", snapshot="s1", new="b", size=4096).phase is TaskPhase.DONE
    assert (known(cluster, "b").parent, known(cluster, "b").size) == ("a@s1", 4096)
    assert done(cluster, "clone", volume="a", new="c", size=8192).phase is TaskPhase.DONE
    assert (known(cluster, "c").parent, image(cluster, "c").contents.text) == ("", "second")
    assert done(cluster, "rename", volume="c", new="d").phase is TaskPhase.DONE
    assert volume(cluster, "c") is None and known(cluster, "d").name == "d"
    assert done(cluster, "import", volume="e", path=FILE, bound=True).phase is TaskPhase.DONE
    assert known(cluster, "e").size == 1000
    assert done(cluster, "export", volume="e", path="/tmp/out", bound=True).phase is TaskPhase.DONE
    assert cluster.storage.files["hv1", "/tmp/out"] == FakeContents(1000, "file")
    assert done(cluster, "roll back", volume="a", snapshot="s1").phase is TaskPhase.DONE
    assert (known(cluster, "a").size, image(cluster, "a").contents.text) == (4096, "first")
    assert done(cluster, "protect", volume="a", snapshot="s1", on=False).phase is TaskPhase.DONE
    assert done(cluster, "remove", volume="b").phase is TaskPhase.DONE
    assert done(cluster, "remove snapshot", volume="a", snapshot="s1").phase is TaskPhase.DONE
    assert known(cluster, "a").snapshots == () and volume(cluster, "b") is None
    assert unaccounted(cluster) == []


def test_an_image_that_pvc_has_not_made_is_left_alone(cluster: SimCluster) -> None:
    cluster.storage.images["fast", "a"] = FakeImage(FakeContents(4096, "precious"))
    task = done(cluster, "create", volume="a", size=4096)
    assert task.phase is TaskPhase.FAILED and "has an image a that pvc has not made" in task.message
    assert volume(cluster, "a") is None and image(cluster, "a").contents.text == "precious"


def test_an_image_from_before_is_not_taken_for_a_tasks_own_when_its_node_dies(cluster: SimCluster) -> None:
    cluster.run(100)
    cluster.storage.slow(1)
    task = ask_task(cluster, "create", "hv1", pool="fast", volume="a", size=4096)
    cluster.storage.images["fast", "a"] = FakeImage(FakeContents(4096, "precious"), made=cluster.storage.now() - 90)
    assert cluster.run_until(lambda: cluster.storage.count("create") + cluster.storage.count("inspect") > 0, 10)
    cluster.kill_daemon("hv1")
    over = ended(cluster, task)
    assert (over.phase, over.attempts) == (TaskPhase.FAILED, 2)
    assert "has an image a that pvc has not made" in over.message
    assert volume(cluster, "a") is None and image(cluster, "a").contents.text == "precious"


def test_a_snapshot_from_before_is_not_taken_for_a_tasks_own_when_its_node_dies(cluster: SimCluster) -> None:
    done(cluster, "create", volume="a", size=4096)
    cluster.run(100)
    cluster.storage.slow(1)
    looks = cluster.storage.count("inspect")
    task = ask_task(cluster, "snapshot", "hv1", pool="fast", volume="a", snapshot="s")
    image(cluster, "a").snapshots["s"] = FakeContents(4096, "old")
    image(cluster, "a").snapshots_made["s"] = cluster.storage.now() - 90
    assert cluster.run_until(lambda: cluster.storage.count("add_snapshot") + cluster.storage.count("inspect") > looks)
    cluster.kill_daemon("hv1")
    over = ended(cluster, task)
    assert over.phase is TaskPhase.FAILED and "has a snapshot s that pvc has not made" in over.message
    assert known(cluster, "a").snapshots == ()


@pytest.mark.parametrize(("age", "phase"), [(1, TaskPhase.DONE), (90, TaskPhase.FAILED)])
def test_an_image_that_is_there_though_making_it_failed_is_the_tasks_own_by_its_date(
    cluster: SimCluster, age: float, phase: TaskPhase
) -> None:
    cluster.run(100)
    cluster.storage.slow(1)
    cluster.storage.fail_once("create", StorageUnusable("it did not answer in time; try again"))
    task = ask_task(cluster, "create", "hv1", pool="fast", volume="a", size=4096)
    assert cluster.run_until(lambda: cluster.storage.count("create") > 0, 20)
    cluster.storage.images["fast", "a"] = FakeImage(FakeContents(4096), made=cluster.storage.now() - age)
    # Who has looked before knows that it was not there; else its date decides.
    dated = Feature.DATED in cluster.storage.features
    over = ended(cluster, task)
    assert over.phase is (phase if dated else TaskPhase.DONE)
    # A stranger's is not what somebody is to remove as what was never finished.
    assert (volume(cluster, "a") is None) is (over.phase is TaskPhase.FAILED)


def test_a_dated_storage_is_asked_once_for_what_it_makes(cluster: SimCluster) -> None:
    if Feature.DATED not in cluster.storage.features:
        pytest.skip("this storage gives no dates")
    done(cluster, "create", volume="a", size=4096)
    done(cluster, "snapshot", volume="a", snapshot="s")
    done(cluster, "clone", volume="a", snapshot="s", new="b")
    assert {call for _, call in cluster.storage.calls} == {"look", "create", "add_snapshot", "clone"}
    assert known(cluster, "b").parent == "a@s"


def test_a_task_that_fails_takes_back_the_record_of_what_it_was_to_make(cluster: SimCluster) -> None:
    cluster.storage.fail_once("load", StorageError("no room left; remove volumes"), halfway=True)
    task = done(cluster, "import", volume="a", path=FILE)
    assert (task.phase, task.message) == (TaskPhase.FAILED, "no room left; remove volumes")
    assert volume(cluster, "a") is None and ("fast", "a") not in cluster.storage.images


def test_what_failed_but_was_done_all_the_same_is_done(cluster: SimCluster) -> None:
    done(cluster, "create", volume="a", size=4096)
    cluster.storage.slow(5)
    task = ask_task(cluster, "remove", "hv1", pool="fast", volume="a")
    cluster.run(7)
    del cluster.storage.images["fast", "a"]  # so `remove` finds nothing, as after an answer that came too late
    cluster.storage.slow(0)
    assert ended(cluster, task).phase is TaskPhase.DONE
    assert volume(cluster, "a") is None


def test_a_removal_that_breaks_off_leaves_a_volume_that_does_not_look_healthy(cluster: SimCluster) -> None:
    done(cluster, "create", volume="a", size=4096)
    cluster.storage.fail_once("remove", StorageError("lost the way; try again"))
    assert done(cluster, "remove", volume="a").phase is TaskPhase.FAILED
    left = volume(cluster, "a")
    assert left is not None and (left.state, left.task) == (VolumeState.REMOVING, None)
    assert done(cluster, "remove", volume="a").phase is TaskPhase.DONE
    assert volume(cluster, "a") is None


def test_half_a_volume_stays_what_it_is_when_a_second_removal_cannot_do_anything(cluster: SimCluster) -> None:
    done(cluster, "create", volume="a", size=4096)
    cluster.storage.fail_once("remove", StorageError("lost the way; try again"))
    assert done(cluster, "remove", volume="a").phase is TaskPhase.FAILED
    cluster.storage.spoil(OFF)
    assert done(cluster, "remove", volume="a").phase is TaskPhase.FAILED
    left = volume(cluster, "a")
    assert left is not None and (left.state, left.task) == (VolumeState.REMOVING, None)
    cluster.storage.spoil("")
    assert done(cluster, "remove", volume="a").phase is TaskPhase.DONE
    assert volume(cluster, "a") is None


def test_what_was_never_finished_is_not_forgotten_when_its_removal_cannot_look(cluster: SimCluster) -> None:
    cluster.storage.slow(1)
    task = ask_task(cluster, "create", "hv1", pool="fast", volume="a", size=4096)
    assert cluster.run_until(lambda: cluster.storage.count("create") > 0, 20)
    cluster.storage.spoil(OFF)
    assert ended(cluster, task).phase is TaskPhase.FAILED
    assert done(cluster, "remove", volume="a").phase is TaskPhase.FAILED
    left = volume(cluster, "a")
    assert left is not None and (left.state, left.task) == (VolumeState.MAKING, None)
    cluster.storage.spoil("")
    cluster.storage.slow(0)
    assert done(cluster, "remove", volume="a").phase is TaskPhase.DONE
    assert volume(cluster, "a") is None


def test_a_damaged_volume_is_removed_and_nothing_else_is_done_with_it(cluster: SimCluster) -> None:
    done(cluster, "create", volume="a", size=4096)
    image(cluster, "a").damage = "has no header"
    failed = done(cluster, "rename", volume="a", new="b")
    assert (failed.phase, failed.message) == (TaskPhase.FAILED, "a has no header; remove it")
    assert known(cluster, "a").size == 4096
    assert done(cluster, "remove", volume="a").phase is TaskPhase.DONE
    assert volume(cluster, "a") is None and ("fast", "a") not in cluster.storage.images


def test_a_damaged_volume_that_is_open_is_not_removed_and_loses_nothing_of_its_record(cluster: SimCluster) -> None:
    done(cluster, "create", volume="a", size=4096)
    done(cluster, "snapshot", volume="a", snapshot="s")
    image(cluster, "a").damage = "has no header"
    cluster.storage.opens("fast", "a", "hv2")
    task = done(cluster, "remove", volume="a")
    assert task.phase is TaskPhase.FAILED and "is open on hv2" in task.message
    assert (known(cluster, "a").size, [one.name for one in known(cluster, "a").snapshots]) == (4096, ["s"])


def test_a_task_that_damages_its_volume_ends_and_the_volume_can_be_removed(cluster: SimCluster) -> None:
    done(cluster, "create", volume="a", size=4096)
    cluster.storage.slow(1)
    task = ask_task(cluster, "resize", "hv1", pool="fast", volume="a", size=8192)
    assert cluster.run_until(lambda: cluster.storage.count("resize") > 0, 20)
    image(cluster, "a").damage = "has no header"
    over = ended(cluster, task)
    assert over.phase is TaskPhase.FAILED and "has no header" in over.message
    assert done(cluster, "remove", volume="a").phase is TaskPhase.DONE


def test_half_an_image_that_a_crash_has_left_is_not_taken_for_a_whole_one(cluster: SimCluster) -> None:
    cluster.storage.features -= {Feature.DATED}
    cluster.storage.slow(1)
    task = ask_task(cluster, "import", "hv1", pool="fast", volume="a", path=FILE)
    assert cluster.run_until(lambda: cluster.storage.count("load") > 0, 20)
    cluster.kill_daemon("hv1")
    cluster.storage.images["fast", "a"] = FakeImage(FakeContents(0), damage="is empty")
    over = ended(cluster, task)
    assert (over.phase, over.attempts, over.message) == (TaskPhase.FAILED, 2, "a is empty; remove it")
    left = volume(cluster, "a")
    assert left is not None and left.state is VolumeState.MAKING
    assert done(cluster, "remove", node="hv2", volume="a").phase is TaskPhase.DONE
    assert volume(cluster, "a") is None and ("fast", "a") not in cluster.storage.images


def test_a_removal_that_the_storage_refuses_changes_nothing(cluster: SimCluster) -> None:
    done(cluster, "create", volume="a", size=4096)
    cluster.storage.opens("fast", "a", "hv2")
    task = done(cluster, "remove", volume="a")
    assert task.phase is TaskPhase.FAILED and "is open on hv2" in task.message
    assert known(cluster, "a").size == 4096


def test_an_error_that_nobody_expects_ends_the_task(cluster: SimCluster) -> None:
    done(cluster, "create", volume="a", size=4096)
    cluster.storage.files["hv1", FILE] = None  # type: ignore[assignment]
    task = done(cluster, "import", volume="b", path=FILE)
    assert task.phase is TaskPhase.FAILED and "in a way that pvc does not expect (AttributeError" in task.message
    assert volume(cluster, "b") is None


def test_what_the_storage_cannot_do_fails_with_its_reason(cluster: SimCluster) -> None:
    cluster.storage.features = frozenset()
    done(cluster, "create", volume="a", size=4096)
    task = done(cluster, "snapshot", volume="a", snapshot="s")
    assert task.phase is TaskPhase.FAILED and "this storage has no snapshots" in task.message
    assert known(cluster, "a").snapshots == ()
    strange = done(cluster, "add osd", pool="", path="/dev/sdx")
    assert strange.message == "/dev/sdx is no block device; `lsblk` shows those of the node"


def test_progress_is_written_and_seen(cluster: SimCluster) -> None:
    cluster.storage.slow(0.2)
    before = cluster.ensemble.commits
    task = ask_task(cluster, "import", "hv1", pool="fast", volume="a", path=FILE, bound=True)
    seen = set()
    while now(cluster, task).phase not in ENDED:
        cluster.run(0.1)
        seen.add(now(cluster, task).done)
    assert len(seen) >= 3 and seen <= {None, *range(0, 1001, 100)}
    assert now(cluster, task).total == 1000
    assert cluster.ensemble.commits - before <= 12


def test_a_node_carries_out_no_more_at_once_than_it_is_told(cluster: SimCluster) -> None:
    cluster.storage.slow(1)
    tasks = [ask_task(cluster, "import", "hv1", pool="fast", volume=f"v{n}", path=FILE, bound=True) for n in range(6)]
    cluster.run(3)
    assert [now(cluster, task).phase for task in tasks].count(TaskPhase.RUNNING) == 4
    for task in tasks:
        assert ended(cluster, task).phase is TaskPhase.DONE


def test_a_cancelled_import_leaves_nothing(cluster: SimCluster) -> None:
    cluster.storage.slow(1)
    task = ask_task(cluster, "import", "hv1", pool="fast", volume="a", path=FILE, bound=True)
    cluster.run(5)
    cancel_task(cluster, "fast/a")
    assert ended(cluster, task, 10).phase is TaskPhase.CANCELLED
    assert volume(cluster, "a") is None and ("fast", "a") not in cluster.storage.images


def test_rolling_back_is_not_broken_off_by_who_cancels_it(cluster: SimCluster) -> None:
    done(cluster, "create", volume="a", size=4096)
    done(cluster, "snapshot", volume="a", snapshot="s")
    cluster.storage.slow(1)
    task = ask_task(cluster, "roll back", "hv1", pool="fast", volume="a", snapshot="s")
    cluster.run(5)
    cancel_task(cluster, "fast/a")
    assert ended(cluster, task).phase is TaskPhase.DONE


def test_rolling_back_that_fails_halfway_says_what_that_means(cluster: SimCluster) -> None:
    done(cluster, "create", volume="a", size=4096)
    done(cluster, "snapshot", volume="a", snapshot="s")
    cluster.storage.fail_once("roll_back", StorageError("the way to the storage broke"), halfway=True)
    task = done(cluster, "roll back", volume="a", snapshot="s")
    assert task.phase is TaskPhase.FAILED and "fast/a may hold parts of both now" in task.message
    assert done(cluster, "roll back", volume="a", snapshot="s").phase is TaskPhase.DONE


def test_a_task_that_is_cancelled_before_it_begins_leaves_nothing(cluster: SimCluster) -> None:
    cluster.kill_daemon("hv1")
    task = ask_task(cluster, "create", "hv1", pool="fast", volume="a", size=4096, bound=True)
    cancel_task(cluster, "fast/a")
    cluster.start_daemon("hv1")
    assert ended(cluster, task).phase is TaskPhase.CANCELLED
    assert volume(cluster, "a") is None and cluster.storage.count("create") == 0


def test_a_volume_whose_record_is_gone_is_not_worked_on(cluster: SimCluster) -> None:
    cluster.kill_daemon("hv1")
    task = ask_task(cluster, "create", "hv1", pool="fast", volume="a", size=4096)
    cluster.client.commit([Delete(keys.volume("fast", "a"))])
    cluster.start_daemon("hv1")
    over = ended(cluster, task)
    assert over.phase is TaskPhase.FAILED and "does not wait for this task" in over.message
    assert cluster.storage.count("create") == 0


def test_the_last_tasks_are_kept(cluster: SimCluster) -> None:
    cluster.storage.spoil("it is off; switch it on")
    for number in range(KEPT + 5):
        ask_task(cluster, "create", "hv1", pool="fast", volume=f"v{number}", size=4096)
    assert cluster.run_until(lambda: last_task(cluster, f"fast/v{KEPT + 4}").phase in ENDED, 60)
    cluster.run(5)
    assert in_hand(cluster.client) == [] and len(read_tasks(cluster.client)) == KEPT


def test_a_pool_that_hangs_is_told_of_and_delays_nothing_else(cluster: SimCluster) -> None:
    done(cluster, "add pool", pool="slow")
    done(cluster, "create", volume="a", size=4096)
    cluster.storage.hang(pool="slow", node="hv1")
    cluster.run(20)
    states = published_in(read_facts(cluster.client, "hv1"))
    assert "does not answer within 5 s" in states["slow"].problem and states["fast"].problem == ""
    assert done(cluster, "snapshot", volume="a", snapshot="s").phase is TaskPhase.DONE
    (finding,) = cluster.health("hv1")
    assert finding.severity.value == "critical" and "pool slow cannot be used" in finding.text
    assert not cluster.health("hv2")
    cluster.storage.hang(False, pool="slow", node="hv1")
    cluster.run(15)
    assert published_in(read_facts(cluster.client, "hv1"))["slow"].problem == ""


def test_a_node_that_cannot_use_the_pool_takes_nothing_over(cluster: SimCluster) -> None:
    cluster.storage.spoil("no way there; look at the network", node="hv2")
    cluster.run(15)
    cluster.kill_daemon("hv1")
    task = ask_task(cluster, "create", "hv1", pool="fast", volume="a", size=4096)
    assert (ended(cluster, task).phase, now(cluster, task).node) == (TaskPhase.DONE, "hv3")


def test_a_snapshot_in_the_tree_has_the_time_and_the_size(cluster: SimCluster) -> None:
    done(cluster, "create", volume="a", size=4096)
    done(cluster, "snapshot", volume="a", snapshot="s")
    at = now(cluster, last_task(cluster, "fast/a")).finished
    assert at is not None and known(cluster, "a").snapshots == (Snapshot("s", at, 4096),)
