"""What a node knows of the tasks: its own at once and without looking, others' later, and none that is over."""

from dataclasses import replace

import pytest

from pvc.core.coordination import Create, Delete, Disconnected, Put
from pvc.core.mirror import Mirror
from pvc.core.records import encode
from pvc.core.tree import tree_ops
from pvc.plugins.storage import keys
from pvc.plugins.storage.records import Task, TaskKind, TaskPhase
from pvc.plugins.storage.tasks.tasklist import OTHERS, TaskList
from pvc.testing.coordinator import FakeEnsemble
from pvc.testing.runtime import World

FIRST = Task("t1", TaskKind.CREATE, "hv1", "tester", 100.0, pool="fast", volume="a", size=10)
SECOND, THIRD = replace(FIRST, id="t2", volume="b"), replace(FIRST, id="t3", volume="c")
OF_ANOTHER = replace(FIRST, id="t4", node="hv2", volume="d")


class Site:
    """A tree with tasks, and node hv1, which has looked once."""

    def __init__(self) -> None:
        self.world = World()
        ensemble = FakeEnsemble(self.world.process("ensemble"))
        self.tree = ensemble.connect("hand")
        places = (keys.STORAGE, keys.TASKS, keys.ASKED, keys.asked("hv1"), keys.asked("hv2"))
        self.tree.commit([*tree_ops(), *(Create(path) for path in places)])
        process = self.world.process("hv1")
        self.session = ensemble.connect("hv1")
        self.session.latency = self._count
        self.wake = process.signal()
        self.list = TaskList("hv1", self.session, process, Mirror(self.session, process, self.wake))
        self.trips = 0
        assert self.list.read() == {}
        self.woken()
        self.trips = 0

    def ask(self, task: Task) -> None:
        """Ask for a task as a client does."""
        self.tree.commit([Create(keys.task(task.id), encode(task)), Put(keys.asked(task.node), encode(task))])

    def write(self, task: Task) -> None:
        self.tree.commit([Put(keys.task(task.id), encode(task))])

    def remove(self, task: Task) -> None:
        self.tree.commit([Delete(keys.task(task.id))])

    def woken(self) -> bool:
        """Whether the node was, since this was last asked."""
        return self.wake.wait(0)

    def _count(self) -> float:
        self.trips += 1
        return 0.0


@pytest.fixture
def site() -> Site:
    return Site()


def test_what_a_node_is_asked_for_wakes_it_and_is_known_after_one_trip(site: Site) -> None:
    site.ask(FIRST)
    assert site.woken()
    assert site.list.read() == {"t1": FIRST} and site.trips == 1
    site.ask(SECOND)
    assert site.list.read() == {"t1": FIRST, "t2": SECOND}


def test_what_another_is_asked_for_wakes_nobody_else_and_is_seen_later(site: Site) -> None:
    site.ask(OF_ANOTHER)
    assert not site.woken()
    assert site.list.read() == {} and site.trips == 0
    site.world.run_for(OTHERS)
    assert site.list.read() == {"t4": OF_ANOTHER}
    elsewhere = replace(OF_ANOTHER, attempts=1)
    site.write(elsewhere)
    assert not site.woken() and site.list.read() == {"t4": OF_ANOTHER}
    site.world.run_for(OTHERS)
    assert site.list.read() == {"t4": elsewhere}


def test_of_several_that_it_was_asked_for_at_once_none_is_missed(site: Site) -> None:
    for task in (FIRST, SECOND, THIRD):
        site.ask(task)
    assert site.list.read() == {"t1": FIRST, "t2": SECOND, "t3": THIRD}


def test_the_first_task_that_a_node_is_asked_for_is_known_at_once(site: Site) -> None:
    site.tree.commit([Delete(keys.asked("hv1"))])
    assert site.list.read() == {}
    site.woken()
    site.trips = 0
    site.tree.commit([Create(keys.task("t1"), encode(FIRST)), Create(keys.asked("hv1"), encode(FIRST))])
    assert site.woken() and site.list.read() == {"t1": FIRST} and site.trips == 1


def test_who_could_not_look_for_several_looks_when_it_can(site: Site) -> None:
    site.ask(FIRST)
    site.ask(SECOND)
    site.session.latency = lambda: _broken_after(site)
    with pytest.raises(Disconnected):
        site.list.read()
    site.session.latency = float
    assert site.list.read() == {"t1": FIRST, "t2": SECOND}


def _broken_after(site: Site) -> float:
    """The first trip of a read succeeds, the next does not."""
    site.trips += 1
    if site.trips > 1:
        raise Disconnected("the line is cut; mend it")
    return 0.0


def test_a_record_of_what_it_is_asked_for_that_cannot_be_read_has_it_look(site: Site) -> None:
    site.tree.commit([Create(keys.task("t1"), encode(FIRST)), Put(keys.asked("hv1"), b"rubbish")])
    assert site.list.read() == {"t1": FIRST}


def test_its_own_are_watched_from_the_second_read_on(site: Site) -> None:
    site.ask(FIRST)
    unwatched = [site.list.read() and site.list.unwatched]
    cancelled = replace(FIRST, cancel=True)
    site.write(cancelled)
    assert site.list.read() == {"t1": cancelled}
    assert [*unwatched, site.list.unwatched] == [True, False]
    site.woken()
    site.write(replace(cancelled, phase=TaskPhase.RUNNING))
    assert site.woken()


def test_one_that_a_client_has_ended_is_known_no_longer(site: Site) -> None:
    site.ask(FIRST)
    site.list.read()
    site.remove(FIRST)
    assert site.list.read() == {} and not site.list.unwatched


def test_the_end_of_ones_own_is_known_without_looking(site: Site) -> None:
    site.ask(FIRST)
    site.list.read()
    site.list.note(replace(FIRST, phase=TaskPhase.RUNNING))
    site.remove(FIRST)
    site.trips = 0
    site.list.over("t1")
    assert site.list.read() == {} and site.trips == 0


def test_one_that_was_broken_off_is_looked_for_again(site: Site) -> None:
    site.ask(FIRST)
    site.list.read()
    taken = replace(FIRST, node="hv2", attempts=2)
    site.write(taken)
    site.list.forget("t1")
    assert site.list.read() == {"t1": taken}
