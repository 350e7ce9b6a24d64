"""Tasks that are broken off and begun anew: when a node, its session or the storage fails on the way."""

from typing import Any

import pytest

from pvc.core.storage import Feature, Unsupported
from pvc.plugins.storage.decide.tasktexts import standing
from pvc.plugins.storage.records import Task, TaskPhase, VolumeState
from pvc.plugins.storage.requests.asking import Client
from pvc.plugins.storage.requests.pools import remove_lost
from pvc.testing.cluster import SimCluster
from pvc.testing.ledger import ask_task, cancel_task, unaccounted
from pvc.testing.storage import FakeContents, FakeImage
from tests.plugins.storage.asked import FILE, OFF, done, ended, image, now, volume


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


def under_way(cluster: SimCluster, kind: str, call: str, about: dict[str, Any]) -> Task:
    """A task that changes the volume `a`, which has the snapshot `s`, and that is just at it."""
    done(cluster, "create", volume="a", size=4096)
    done(cluster, "snapshot", volume="a", snapshot="s")
    cluster.storage.slow(1)
    before = cluster.storage.count(call)
    task = ask_task(cluster, kind, "hv1", pool="fast", volume="a", **about)
    assert cluster.run_until(lambda: cluster.storage.count(call) > before, 20)
    return task


@pytest.mark.parametrize(("kind", "call", "about"), ALTERING)
def test_a_volume_is_not_written_down_as_it_was_while_nobody_sees_what_an_earlier_attempt_has_made_of_it(
    cluster: SimCluster, kind: str, call: str, about: dict[str, Any]
) -> None:
    task = under_way(cluster, kind, call, about)
    cluster.lose_session("hv1")
    cluster.run(1.5)
    cluster.storage.spoil(OFF)
    assert goes_on_until_it_is_seen(cluster, task).phase is TaskPhase.DONE


@pytest.mark.parametrize(("kind", "call", "about"), ALTERING)
def test_what_failed_is_not_over_before_it_is_seen_what_it_has_left(
    cluster: SimCluster, kind: str, call: str, about: dict[str, Any]
) -> None:
    task = under_way(cluster, kind, call, about)
    cluster.storage.spoil(OFF)
    assert goes_on_until_it_is_seen(cluster, task).phase is TaskPhase.DONE


@pytest.mark.parametrize("node", ["lives", "is gone as well"])
def test_what_cannot_be_seen_ends_when_its_pool_is_given_up(cluster: SimCluster, node: str) -> None:
    done(cluster, "create", volume="a", size=4096)
    cluster.storage.slow(1)
    task = ask_task(cluster, "rename", "hv1", pool="fast", volume="a", new="b")
    assert cluster.run_until(lambda: cluster.storage.count("rename") > 0, 20)
    cluster.storage.spoil(OFF)
    cluster.run(90)
    assert now(cluster, task).phase is TaskPhase.RUNNING
    if node != "lives":
        cluster.kill_daemon("hv1")
        cluster.run(60)
    remove_lost(Client(cluster.client, cluster.client_process, "tester"), "fast", lambda _backend, _volumes: None)
    assert ended(cluster, task).phase is TaskPhase.FAILED
    assert volume(cluster, "a") is None


def test_a_task_about_a_file_of_a_node_that_is_gone_ends_with_its_pool(cluster: SimCluster) -> None:
    cluster.storage.slow(5)
    task = ask_task(cluster, "import", "hv1", pool="fast", volume="a", path=FILE, bound=True)
    assert cluster.run_until(lambda: now(cluster, task).phase is TaskPhase.RUNNING, 20)
    cluster.kill_daemon("hv1")
    cluster.storage.spoil(OFF)
    cluster.run(90)
    assert now(cluster, task).phase is TaskPhase.RUNNING
    remove_lost(Client(cluster.client, cluster.client_process, "tester"), "fast", lambda _backend, _volumes: None)
    assert ended(cluster, task).phase is TaskPhase.FAILED


def test_a_task_that_has_changed_nothing_fails_at_once_where_the_storage_is_off(cluster: SimCluster) -> None:
    done(cluster, "create", volume="a", size=4096)
    cluster.storage.spoil(OFF)
    over = done(cluster, "resize", volume="a", size=8192)
    assert (over.phase, over.attempts) == (TaskPhase.FAILED, 1) and OFF in over.message
    assert unaccounted(cluster) == []


def halfway(cluster: SimCluster, call: str, kind: str, **about: Any) -> Task:
    """A task whose node dies as it carries it out, and that has not been taken over yet."""
    cluster.storage.slow(2)
    task = ask_task(cluster, kind, "hv1", pool="fast", volume="a", **about)
    before = cluster.storage.count(call)
    assert cluster.run_until(lambda: cluster.storage.count(call) > before, 20)
    cluster.kill_daemon("hv1")
    cluster.storage.slow(0)
    return task


def waits_for_what_is_left(cluster: SimCluster, task: Task) -> None:
    """It is tried again as long as the image is open, and says why."""
    assert cluster.run_until(lambda: now(cluster, task).attempts >= 3, 60)
    waits = now(cluster, task)
    assert waits.phase is TaskPhase.RUNNING and "an earlier attempt may still be at fast/a: " in standing(waits)


@pytest.mark.parametrize(("kind", "call", "about"), [*ALTERING, ("remove", "remove", {})])
def test_what_an_earlier_attempt_has_left_at_work_is_waited_for(
    cluster: SimCluster, kind: str, call: str, about: dict[str, Any]
) -> None:
    done(cluster, "create", volume="a", size=4096)
    done(cluster, "snapshot", volume="a", snapshot="s")
    cluster.storage.features -= {Feature.LIVE_RESIZE, Feature.LIVE_SNAPSHOTS}
    task = halfway(cluster, call, kind, **about)
    cluster.storage.opens("fast", "a", "hv1")  # its program goes on without the daemon
    waits_for_what_is_left(cluster, task)
    cluster.storage.closes("fast", "a", "hv1")
    assert ended(cluster, task).phase is TaskPhase.DONE
    assert unaccounted(cluster) == []


def test_half_a_removal_that_waits_can_be_cancelled_and_the_volume_does_not_look_healthy(cluster: SimCluster) -> None:
    done(cluster, "create", volume="a", size=4096)
    task = halfway(cluster, "remove", "remove")
    cluster.storage.opens("fast", "a", "hv1")
    waits_for_what_is_left(cluster, task)
    cancel_task(cluster, "fast/a")
    over = ended(cluster, task)
    assert (over.phase, over.message) == (TaskPhase.CANCELLED, "it was cancelled on the way")
    left = volume(cluster, "a")
    assert left is not None and (left.state, left.task) == (VolumeState.REMOVING, None)


def test_a_later_attempt_at_a_removal_that_is_refused_makes_nothing_healthy(cluster: SimCluster) -> None:
    done(cluster, "create", volume="a", size=4096)
    task = halfway(cluster, "remove", "remove")
    cluster.storage.fail_once("remove", Unsupported("this storage removes nothing any more"))
    assert ended(cluster, task).phase is TaskPhase.FAILED
    left = volume(cluster, "a")
    assert left is not None and (left.state, left.task) == (VolumeState.REMOVING, None)


@pytest.mark.parametrize(("kind", "call", "about"), ALTERING)
def test_what_has_begun_to_change_a_volume_is_not_broken_off_between_two_attempts(
    cluster: SimCluster, kind: str, call: str, about: dict[str, Any]
) -> None:
    done(cluster, "create", volume="a", size=4096)
    done(cluster, "snapshot", volume="a", snapshot="s")
    task = halfway(cluster, call, kind, **about)
    cancel_task(cluster, "fast/a")
    assert ended(cluster, task).phase is TaskPhase.DONE
    assert unaccounted(cluster) == []


@pytest.mark.parametrize(
    ("kind", "call", "about"), [("create", "create", {"size": 4096}), ("snapshot", "add_snapshot", {"snapshot": "t"})]
)
def test_what_an_earlier_attempt_makes_at_the_last_moment_is_the_tasks_own(
    cluster: SimCluster, kind: str, call: str, about: dict[str, Any]
) -> None:
    if Feature.DATED not in cluster.storage.features:
        pytest.skip("who has looked before knows it by that")
    if kind == "snapshot":
        done(cluster, "create", volume="a", size=4096)
    task = halfway(cluster, call, kind, **about)
    cluster.storage.slow(2)
    before = cluster.storage.count(call)
    assert cluster.run_until(lambda: cluster.storage.count(call) > before, 120)
    if kind == "snapshot":
        image(cluster, "a").snapshots["t"] = FakeContents(4096)
        image(cluster, "a").snapshots_made["t"] = cluster.storage.now()
    else:
        cluster.storage.images["fast", "a"] = FakeImage(FakeContents(4096), made=cluster.storage.now())
    assert ended(cluster, task).phase is TaskPhase.DONE
    assert unaccounted(cluster) == []


def test_a_later_attempt_at_a_roll_back_that_is_refused_says_what_that_means(cluster: SimCluster) -> None:
    done(cluster, "create", volume="a", size=4096)
    done(cluster, "snapshot", volume="a", snapshot="s")
    task = halfway(cluster, "roll_back", "roll back", snapshot="s")
    cluster.storage.fail_once("roll_back", Unsupported("this storage rolls nothing back any more"))
    over = ended(cluster, task)
    assert over.phase is TaskPhase.FAILED and "fast/a may hold parts of both now" in over.message


def test_a_file_that_was_there_before_is_not_taken_for_an_export(cluster: SimCluster) -> None:
    done(cluster, "create", volume="a", size=4096)
    old = cluster.storage.files["hv1", "/backup/a.raw"] = FakeContents(7, "yesterday")
    task = halfway(cluster, "save", "export", path="/backup/a.raw", bound=True)
    cluster.start_daemon("hv1")
    over = ended(cluster, task)
    assert over.phase is TaskPhase.FAILED and "there is a file /backup/a.raw already" in over.message
    assert cluster.storage.files["hv1", "/backup/a.raw"] == old


def test_a_file_that_an_earlier_attempt_has_written_is_the_export(cluster: SimCluster) -> None:
    done(cluster, "create", volume="a", size=4096)
    cluster.storage.slow(1)
    task = ask_task(cluster, "export", "hv1", pool="fast", volume="a", path="/backup/a.raw", bound=True)
    assert cluster.run_until(lambda: ("hv1", "/backup/a.raw") in cluster.storage.files, 30)
    cluster.nodes["hv1"].sessions[0].lose_next_commit(applied=False)
    over = ended(cluster, task)
    assert (over.phase, over.attempts) == (TaskPhase.DONE, 2)
