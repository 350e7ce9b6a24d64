"""What waits for somebody is told by one node: tasks of nodes that are away, volumes that nobody finishes."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from pvc.core.coordination import Create, Delete
from pvc.core.model import Severity
from pvc.core.records import encode
from pvc.plugins.storage import keys
from pvc.plugins.storage.decide.leftovers import MOST_TOLD, findings, stranded, unfinished
from pvc.plugins.storage.records import ENDED, Task, TaskKind, TaskPhase, Volume, VolumeState, read_tasks
from pvc.testing.cluster import SimCluster
from pvc.testing.ledger import ask_task, cancel_task
from pvc.testing.storage import FakeContents

TASK = Task("t1", TaskKind.IMPORT, "hv3", "me", 1.0, bound=True, pool="fast", volume="a", path="/a")
MAKING = Volume("a", 1, VolumeState.MAKING)


@pytest.mark.parametrize(
    ("task", "told"),
    [
        (TASK, True),
        (replace(TASK, phase=TaskPhase.RUNNING), True),
        (replace(TASK, bound=False), False),
        (replace(TASK, node="hv1"), False),
        (replace(TASK, cancel=True), False),
        *((replace(TASK, phase=phase), False) for phase in ENDED),
    ],
)
def test_tasks_that_nobody_takes_over_wait(task: Task, told: bool) -> None:
    assert stranded([task], {"hv3"}) == [task] * told


@pytest.mark.parametrize(
    ("volume", "tasks", "told"),
    [
        (MAKING, {}, True),
        (replace(MAKING, state=VolumeState.REMOVING), {}, True),
        (replace(MAKING, state=VolumeState.READY), {}, False),
        (replace(MAKING, task="t1"), {"t1": TASK}, False),
        (replace(MAKING, task="t1"), {"t1": replace(TASK, phase=TaskPhase.DONE)}, True),
        (replace(MAKING, task="t1"), {"t1": None}, True),
        (replace(MAKING, task="t1"), {}, False),
        (replace(MAKING, task="t1", state=VolumeState.READY), {"t1": None}, False),
    ],
)
def test_volumes_that_no_task_sees_to_are_unfinished(volume: Volume, tasks: dict[str, Task | None], told: bool) -> None:
    assert unfinished({("fast", "a"): volume}, tasks) == [("fast", volume)] * told


def test_each_finding_says_what_to_do_and_many_are_summed_up() -> None:
    one, two = findings([TASK], [("fast", replace(MAKING, state=VolumeState.REMOVING))])
    assert (one.source, one.severity) == ("storage", Severity.WARNING)
    assert one.text == (
        "task import fast/a from /a waits for node hv3, whose daemon does not answer: start pvcd there, or end the task"
        " with `pvc storage task cancel t1`"
    )
    assert "may be gone in part; ask for that again: `pvc storage volume remove fast a`" in two.text
    many = findings([TASK] * (MOST_TOLD + 2), [("fast", MAKING)] * MOST_TOLD)
    assert len(many) == 2 * MOST_TOLD + 1 and many[MOST_TOLD].text.startswith("2 more tasks wait for nodes")


@pytest.fixture
def cluster() -> Iterator[SimCluster]:
    """Three nodes with the role and a file on hv3, and the pool fast."""
    role = {"roles": {"hypervisor": False, "storage": True}}
    with SimCluster(dict.fromkeys(("hv1", "hv2", "hv3"), role)) as cluster:
        cluster.start()
        ask_task(cluster, "add pool", "hv1", pool="fast")
        cluster.run(5)
        cluster.storage.files["hv3", "/a"] = FakeContents(1000)
        yield cluster


def told(cluster: SimCluster) -> dict[str, list[str]]:
    """What nodes report about the storage."""
    found = {name: [one.text for one in cluster.health(name) if one.source == "storage"] for name in cluster.nodes}
    return {name: texts for name, texts in found.items() if texts}


def test_the_first_node_tells_of_a_task_whose_node_is_away_until_it_is_back(cluster: SimCluster) -> None:
    cluster.kill_daemon("hv3")
    ask_task(cluster, "import", "hv3", pool="fast", volume="a", path="/a", bound=True)
    assert cluster.run_until(lambda: bool(told(cluster)), 120)
    (text,) = told(cluster)["hv1"]
    assert "task import fast/a from /a waits for node hv3" in text and list(told(cluster)) == ["hv1"]
    cluster.start_daemon("hv3")
    assert cluster.run_until(lambda: not told(cluster), 120)
    assert all(task is not None and task.phase is TaskPhase.DONE for task in read_tasks(cluster.client).values())


def test_a_task_that_waits_for_a_dead_node_can_be_ended_as_the_finding_says(cluster: SimCluster) -> None:
    cluster.kill_daemon("hv3")
    ask_task(cluster, "import", "hv3", pool="fast", volume="a", path="/a", bound=True)
    assert cluster.run_until(lambda: bool(told(cluster)), 120)
    cancel_task(cluster, "fast/a")
    assert cluster.run_until(lambda: not told(cluster), 120)
    assert cluster.run_until(lambda: cluster.client.get(keys.volume("fast", "a")) is None, 120)


def test_the_next_node_tells_when_the_first_is_away(cluster: SimCluster) -> None:
    cluster.client.commit([Create(keys.volume("fast", "a"), encode(MAKING))])
    assert cluster.run_until(lambda: list(told(cluster)) == ["hv1"], 120)
    assert told(cluster)["hv1"] == [
        "volume fast/a was never finished; remove it: `pvc storage volume remove fast a`",
    ]
    cluster.kill_daemon("hv1")
    assert cluster.run_until(lambda: "hv2" in told(cluster) and "hv3" not in told(cluster), 120)
    cluster.start_daemon("hv1")
    assert cluster.run_until(lambda: list(told(cluster)) == ["hv1"], 120)
    cluster.client.commit([Delete(keys.volume("fast", "a"))])
    assert cluster.run_until(lambda: not told(cluster), 120)


def test_a_volume_that_is_being_made_is_nothing_to_tell_of(cluster: SimCluster) -> None:
    cluster.storage.slow(4)
    ask_task(cluster, "import", "hv3", pool="fast", volume="a", path="/a", bound=True)
    for _ in range(60):
        cluster.run(1)
        assert not told(cluster)
    assert cluster.storage.image("fast", "a").contents.size == 1000
