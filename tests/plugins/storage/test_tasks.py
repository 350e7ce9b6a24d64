"""Tasks on a simulated cluster: each kind, and what becomes of it when its node, its session or the storage fails."""

from collections.abc import Iterator
from typing import Any

import pytest

from pvc.core.coordination import Delete
from pvc.core.lookup import read_facts
from pvc.core.storage import Feature, Pool, StorageError, StorageUnusable
from pvc.plugins.storage import keys
from pvc.plugins.storage.decide.pools import published_in
from pvc.plugins.storage.decide.tasks import KEPT
from pvc.plugins.storage.decide.tasktexts import standing
from pvc.plugins.storage.records import (
    ENDED,
    Snapshot,
    Task,
    TaskPhase,
    Volume,
    VolumeState,
    in_hand,
    read_tasks,
    read_volumes,
)
from pvc.plugins.storage.requests.asking import Client
from pvc.plugins.storage.requests.pools import remove_lost
from pvc.testing.cluster import SimCluster
from pvc.testing.ledger import ask_task, cancel_task, last_task, unaccounted
from pvc.testing.storage import FakeContents, FakeImage

STORAGE: dict[str, Any] = {"roles": {"hypervisor": False, "storage": True}}
FILE = "/tmp/disk.img"
OFF = "it is off; switch it on"


@pytest.fixture(params=["dated", "undated"])
def cluster(request: pytest.FixtureRequest) -> Iterator[SimCluster]:
    """Three storage nodes and the pool `fast`; every part of a call to the storage takes no time."""
    with SimCluster(dict.fromkeys(("hv1", "hv2", "hv3"), STORAGE)) as cluster:
        if request.param == "undated":
            cluster.storage.features -= {Feature.DATED}
        cluster.start()
        assert done(cluster, "add pool", pool="fast").phase is TaskPhase.DONE
        cluster.run(1)
        for node in cluster.nodes:
            cluster.storage.files[node, FILE] = FakeContents(1000, "file")
        yield cluster


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


def known(cluster: SimCluster, name: str) -> Volume:
    found = volume(cluster, name)
    assert found is not None and found.task is None and found.state is VolumeState.READY
    return found


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
    assert ended(cluster, task).phase is (phase if dated else TaskPhase.DONE)


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


def test_a_task_of_a_node_that_died_is_taken_over(cluster: SimCluster) -> None:
    cluster.storage.slow(1)
    task = ask_task(cluster, "create", "hv1", pool="fast", volume="a", size=4096)
    done(cluster, "create", node="hv2", volume="s", size=4096)
    copying = ask_task(cluster, "clone", "hv1", pool="fast", volume="s", new="b", size=4096)
    assert ended(cluster, task).node == "hv1"
    cluster.run_until(lambda: now(cluster, copying).done is not None, 20)
    cluster.kill_daemon("hv1")
    over = ended(cluster, copying)
    assert (over.phase, over.node, over.attempts) == (TaskPhase.DONE, "hv2", 2)
    assert unaccounted(cluster) == []


def test_nobody_takes_over_while_the_old_attempt_may_still_run(cluster: SimCluster) -> None:
    done(cluster, "create", volume="s", size=4096)
    cluster.storage.slow(3)
    task = ask_task(cluster, "clone", "hv1", pool="fast", volume="s", new="b", size=4096)
    cluster.run_until(lambda: now(cluster, task).done is not None, 30)
    cluster.nodes["hv1"].sessions[0].suspend()
    over = ended(cluster, task, 200)  # `SimCluster.check` sees two at one volume
    assert (over.phase, over.node, over.attempts) == (TaskPhase.DONE, "hv2", 2)


def test_a_bound_task_waits_for_its_node(cluster: SimCluster) -> None:
    cluster.storage.slow(1)
    task = ask_task(cluster, "import", "hv1", pool="fast", volume="a", path=FILE, bound=True)
    cluster.run(5)
    cluster.kill_daemon("hv1")
    cluster.run(60)
    assert (now(cluster, task).phase, now(cluster, task).node) == (TaskPhase.RUNNING, "hv1")
    cluster.start_daemon("hv1")
    over = ended(cluster, task)
    assert (over.phase, over.node, over.attempts) == (TaskPhase.DONE, "hv1", 2)


def test_a_bound_task_of_a_dead_node_can_be_cancelled(cluster: SimCluster) -> None:
    cluster.storage.slow(1)
    task = ask_task(cluster, "import", "hv1", pool="fast", volume="a", path=FILE, bound=True)
    cluster.run(5)
    cluster.kill_daemon("hv1")
    cluster.run(1)
    cancel_task(cluster, "fast/a")
    assert ended(cluster, task).phase is TaskPhase.CANCELLED
    assert volume(cluster, "a") is None


def test_a_lost_session_stops_the_work_and_it_is_begun_anew(cluster: SimCluster) -> None:
    cluster.storage.slow(1)
    task = ask_task(cluster, "import", "hv1", pool="fast", volume="a", path=FILE, bound=True)
    cluster.run(5)
    cluster.lose_session("hv1")
    over = ended(cluster, task)
    assert (over.phase, over.attempts) == (TaskPhase.DONE, 2)
    assert cluster.storage.count("load") == 2
    assert unaccounted(cluster) == []


@pytest.mark.parametrize("arrived", [True, False])
def test_what_was_done_is_recognised_when_its_end_could_not_be_written(cluster: SimCluster, arrived: bool) -> None:
    cluster.storage.slow(1)
    task = ask_task(cluster, "create", "hv1", pool="fast", volume="a", size=4096)
    assert cluster.run_until(lambda: ("fast", "a") in cluster.storage.images, 20)
    cluster.nodes["hv1"].sessions[0].lose_next_commit(applied=arrived)
    over = ended(cluster, task)
    assert (over.phase, over.attempts) == (TaskPhase.DONE, 1 if arrived else 2)
    assert cluster.storage.count("create") == 1
    assert unaccounted(cluster) == []


ALTERING: list[tuple[str, str, dict[str, Any]]] = [
    ("rename", "rename", {"new": "b"}),
    ("resize", "resize", {"size": 8192}),
    ("snapshot", "add_snapshot", {"snapshot": "t"}),
    ("remove snapshot", "remove_snapshot", {"snapshot": "s"}),
    ("roll back", "roll_back", {"snapshot": "s"}),
]
"""Kinds of tasks, with the calls that carry them out and what they are about."""


def goes_on_until_it_is_seen(cluster: SimCluster, task: Task) -> Task:
    """It does not end while the storage is off; how it has ended, and then the records are right."""
    cluster.run(30)
    waits = now(cluster, task)
    assert waits.phase is TaskPhase.RUNNING and OFF in standing(waits) and "cannot be seen" in standing(waits)
    cluster.storage.spoil("")
    cluster.storage.slow(0)
    over = ended(cluster, task)
    assert unaccounted(cluster) == []
    return over


@pytest.mark.parametrize(("kind", "call", "about"), ALTERING)
def test_a_volume_is_not_written_down_as_it_was_while_nobody_sees_what_an_earlier_attempt_has_made_of_it(
    cluster: SimCluster, kind: str, call: str, about: dict[str, Any]
) -> None:
    done(cluster, "create", volume="a", size=4096)
    done(cluster, "snapshot", volume="a", snapshot="s")
    cluster.storage.slow(1)
    before = cluster.storage.count(call)
    task = ask_task(cluster, kind, "hv1", pool="fast", volume="a", **about)
    assert cluster.run_until(lambda: cluster.storage.count(call) > before, 20)
    cluster.lose_session("hv1")
    cluster.run(1.5)
    cluster.storage.spoil(OFF)
    assert goes_on_until_it_is_seen(cluster, task).phase is TaskPhase.DONE


@pytest.mark.parametrize(("kind", "call", "about"), ALTERING)
def test_what_failed_is_not_over_before_it_is_seen_what_it_has_left(
    cluster: SimCluster, kind: str, call: str, about: dict[str, Any]
) -> None:
    done(cluster, "create", volume="a", size=4096)
    done(cluster, "snapshot", volume="a", snapshot="s")
    cluster.storage.slow(1)
    before = cluster.storage.count(call)
    task = ask_task(cluster, kind, "hv1", pool="fast", volume="a", **about)
    assert cluster.run_until(lambda: cluster.storage.count(call) > before, 20)
    cluster.storage.spoil(OFF)
    assert goes_on_until_it_is_seen(cluster, task).phase is TaskPhase.DONE


def test_what_cannot_be_seen_ends_when_its_pool_is_given_up(cluster: SimCluster) -> None:
    done(cluster, "create", volume="a", size=4096)
    cluster.storage.slow(1)
    task = ask_task(cluster, "rename", "hv1", pool="fast", volume="a", new="b")
    assert cluster.run_until(lambda: cluster.storage.count("rename") > 0, 20)
    cluster.storage.spoil(OFF)
    cluster.run(90)
    assert now(cluster, task).phase is TaskPhase.RUNNING
    remove_lost(Client(cluster.client, cluster.client_process, "tester"), "fast", lambda _backend, _volumes: None)
    assert ended(cluster, task).phase is TaskPhase.FAILED
    assert volume(cluster, "a") is None


def test_a_task_that_has_changed_nothing_fails_at_once_where_the_storage_is_off(cluster: SimCluster) -> None:
    done(cluster, "create", volume="a", size=4096)
    cluster.storage.spoil(OFF)
    over = done(cluster, "resize", volume="a", size=8192)
    assert (over.phase, over.attempts) == (TaskPhase.FAILED, 1) and OFF in over.message
    assert unaccounted(cluster) == []


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
