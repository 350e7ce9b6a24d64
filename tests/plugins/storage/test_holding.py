"""Who may begin with a task and write to it: the last attempt alone, whatever the others believe."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from pvc.core.context import Context
from pvc.core.coordination import Conflict, Create, Delete, Put
from pvc.core.records import encode
from pvc.core.storage import Image
from pvc.plugins.storage import keys
from pvc.plugins.storage.decide.tasks import Outcome
from pvc.plugins.storage.records import Task, TaskPhase, Volume, VolumeState, read_tasks, read_volumes
from pvc.plugins.storage.tasks.holding import Cancelled, Hold, Lost, begin
from pvc.testing.cluster import SimCluster
from pvc.testing.ledger import ask_task

DONE = Outcome(TaskPhase.DONE, "made", {"a": Image(4096, "raw")})


@pytest.fixture
def cluster() -> Iterator[SimCluster]:
    """Two nodes without the role: nobody is at tasks but the test. Calls take no time."""
    with SimCluster(2, latency=(0.0, 0.0)) as cluster:
        cluster.start()
        cluster.client.commit([Create(path) for path in (keys.STORAGE, keys.POOLS, keys.TASKS, keys.ENDED_TASKS)])
        cluster.client.commit([Create(keys.pool("fast")), Create(keys.volumes("fast"))])
        yield cluster


@pytest.fixture
def asked(cluster: SimCluster) -> Task:
    return ask_task(cluster, "create", "hv1", pool="fast", volume="a", size=4096)


def context(cluster: SimCluster, node: str) -> Context:
    daemon = cluster.nodes[node].daemon
    assert daemon is not None
    return daemon.context


def held(cluster: SimCluster, asked: Task, node: str = "hv1", of: str = "hv1") -> Hold:
    hold = begin(context(cluster, node), replace(asked, node=of))
    assert hold is not None
    return hold


def in_tree(cluster: SimCluster, asked: Task) -> Task:
    task = read_tasks(cluster.client)[asked.id]
    assert task is not None
    return task


def take_over(cluster: SimCluster, asked: Task) -> Hold:
    """The session of hv1 ends, and hv2 begins anew; hv1 is back at once."""
    cluster.lose_session("hv1")
    return held(cluster, asked, "hv2")


def test_a_task_is_begun_by_one_alone(cluster: SimCluster, asked: Task) -> None:
    held(cluster, asked)
    assert begin(context(cluster, "hv2"), replace(asked, node="hv1")) is None
    assert (in_tree(cluster, asked).node, in_tree(cluster, asked).attempts) == ("hv1", 1)


def test_a_task_that_another_node_has_taken_is_not_taken_from_it(cluster: SimCluster, asked: Task) -> None:
    hold = held(cluster, asked, "hv2")
    cluster.client.commit([Delete(keys.task_ticket(asked.id))])
    assert begin(context(cluster, "hv1"), replace(asked, node="hv1")) is None
    assert hold.task.node == "hv2"


def test_an_attempt_whose_end_was_not_written_is_followed_by_another_of_the_same_session(
    cluster: SimCluster, asked: Task
) -> None:
    held(cluster, asked)
    assert held(cluster, asked).task.attempts == 2


def test_what_a_first_attempt_begins_with_is_written_at_once_and_is_no_work_yet(
    cluster: SimCluster, asked: Task
) -> None:
    hold = begin(context(cluster, "hv1"), replace(asked, node="hv1"), lambda _pool: "making")
    assert hold is not None and in_tree(cluster, asked).doing == "making"
    touched = [hold.touched]
    before = cluster.client.get(keys.task(asked.id))
    hold.stage("making")
    touched.append(hold.touched)
    assert touched == [False, True] and cluster.client.get(keys.task(asked.id)) == before
    again = begin(context(cluster, "hv1"), replace(asked, node="hv1"), lambda _pool: "making anew")
    assert again is not None and again.touched and in_tree(cluster, asked).doing == "making"


def test_the_osd_that_a_task_has_begun_with_is_known_to_later_attempts_and_stages(
    cluster: SimCluster, asked: Task
) -> None:
    first = held(cluster, asked)
    first.stage("emptying", osd_uuid="u3")
    first.stage("stopping")
    assert (in_tree(cluster, asked).doing, in_tree(cluster, asked).osd_uuid) == ("stopping", "u3")
    assert held(cluster, asked).task.osd_uuid == "u3"


def test_what_somebody_writes_into_the_record_of_a_volume_during_the_work_is_kept(
    cluster: SimCluster, asked: Task
) -> None:
    hold = held(cluster, asked)
    path = keys.volume("fast", "a")
    znode, volume = cluster.client.get(path), read_volumes(cluster.client, "fast")["a"]
    assert znode is not None and volume is not None
    cluster.client.commit([Put(path, encode(replace(volume, by="somebody")), znode.version)])
    hold.end(DONE)
    after = read_volumes(cluster.client, "fast")["a"]
    assert after is not None and (after.by, after.state) == ("somebody", VolumeState.READY)


def test_a_task_that_has_ended_is_not_begun(cluster: SimCluster, asked: Task) -> None:
    held(cluster, asked).end(DONE)
    assert in_tree(cluster, asked).phase is TaskPhase.DONE
    assert begin(context(cluster, "hv1"), replace(asked, node="hv1")) is None


def test_an_attempt_that_was_taken_over_writes_nothing(cluster: SimCluster, asked: Task) -> None:
    first = held(cluster, asked)
    take_over(cluster, asked)
    with pytest.raises(Lost):
        first.stage("making")
    with pytest.raises(Lost):
        first(1, 2)
    with pytest.raises(Lost):
        first.end(DONE)
    assert (in_tree(cluster, asked).node, in_tree(cluster, asked).phase) == ("hv2", TaskPhase.RUNNING)


def test_an_attempt_that_was_taken_over_writes_nothing_even_in_the_same_session(
    cluster: SimCluster, asked: Task
) -> None:
    first = held(cluster, asked)
    second = held(cluster, asked)
    with pytest.raises(Lost):
        first.stage("making")
    with pytest.raises(Lost):
        first.end(DONE)
    second.stage("making")
    second.end(DONE)
    assert in_tree(cluster, asked).phase is TaskPhase.DONE


def test_a_request_to_cancel_is_heard_by_whoever_writes(cluster: SimCluster, asked: Task) -> None:
    hold = held(cluster, asked)
    cancelled = replace(in_tree(cluster, asked), cancel=True)
    cluster.client.commit([Put(keys.task(asked.id), encode(cancelled))])
    hold.stage("making")
    assert in_tree(cluster, asked).cancel and in_tree(cluster, asked).doing == "making"
    with pytest.raises(Cancelled):
        hold(1, 2)


def test_the_end_is_written_though_somebody_asked_for_it_meanwhile(cluster: SimCluster, asked: Task) -> None:
    hold = held(cluster, asked)
    cancelled = replace(in_tree(cluster, asked), cancel=True)
    cluster.client.commit([Put(keys.task(asked.id), encode(cancelled))])
    hold.end(DONE)
    assert in_tree(cluster, asked).phase is TaskPhase.DONE
    assert cluster.client.get(keys.task_ticket(asked.id)) is None
    assert read_volumes(cluster.client, "fast") == {
        "a": Volume("a", 4096, VolumeState.READY, created=asked.requested, task=None, format="raw")
    }


def test_a_task_is_not_begun_while_its_volume_changes(cluster: SimCluster, asked: Task) -> None:
    it = context(cluster, "hv1")
    coordinator, usual = cluster.nodes["hv1"].sessions[0], cluster.nodes["hv1"].sessions[0].latency
    calls = iter(range(100))

    def change_at_the_second_call() -> float:
        if next(calls) == 1:  # everything is read in the first, and written in the second
            cluster.client.commit([Put(keys.volume("fast", "a"), encode(Volume("a", 1, task="other")))])
        return usual()

    coordinator.latency = change_at_the_second_call
    with pytest.raises(Conflict):
        begin(it, replace(asked, node="hv1"))
    assert in_tree(cluster, asked).phase is TaskPhase.ASKED


def test_the_pool_of_a_volume_that_comes_is_rewritten(cluster: SimCluster, asked: Task) -> None:
    volume = Outcome(TaskPhase.FAILED, "no", {"a": None})
    before = cluster.client.get(keys.volumes("fast"))
    held(cluster, asked).end(volume)
    after = cluster.client.get(keys.volumes("fast"))
    assert before is not None and after is not None and after.version == before.version + 1
    assert read_volumes(cluster.client, "fast") == {}
