"""The promise: whatever happens, a follower sees every kept byte once and in order, and is told what is missing.

Random schedules of everything that can happen to a VM, its files, its nodes and its readers. The gentle ones lose
nothing, so nothing but the ring may leave a gap; in the hostile ones files are cut and daemons die at any moment.
"""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pvc.core.observers import VmChange
from pvc.plugins.consolelog.ring import Gap
from tests.plugins.consolelog.world import NODES, PATH, STREAM, Cluster, Node, Reader, lost_by_ring, other

Op = tuple[str, int]

GENTLE = (
    *("print", "print", "print", "step", "step", "wait", "poll", "join", "move", "restart", "rotate"),
    *("die", "lose", "cut"),
)
HOSTILE = (*GENTLE, "truncate", "replace", "kill", "revive", "crash", "expire")


def schedules(names: tuple[str, ...]) -> st.SearchStrategy[list[Op]]:
    return st.lists(st.tuples(st.sampled_from(names), st.integers(1, 3000)), max_size=60)


class LateReader(Reader):
    """A reader that comes when something was printed already, and whose connection is not always there."""

    def poll(self) -> None:
        self.session.resume()
        super().poll()

    def place(self) -> int:
        """Where in STREAM it is; what it begins with may be anywhere."""
        place: int | None = None
        for told in self.story():
            if isinstance(told, Gap):
                place = None if told.skipped is None or place is None else place + told.skipped
            elif isinstance(told, bytes):
                found = STREAM.find(told) if place is None else place
                assert found >= 0 and STREAM[found : found + len(told)] == told, f"not what was printed: {told[:40]!r}"
                place = found + len(told)
        return place or 0


class Run:
    """Plays a schedule."""

    def __init__(self, append: bool) -> None:
        self.cluster = Cluster(append)
        self.reader = Reader(self.cluster)
        self.reader.poll()  # it was there before the first byte
        self.late: list[LateReader] = []
        self.cluster.start("hv1")

    def play(self, name: str, number: int) -> None:
        """One operation; one that makes no sense now does nothing."""
        getattr(self, f"_{name}")(number)
        self.reader.place()

    def check_late(self) -> None:
        """Whoever came later has the end of what the first one has, with gaps where the ring was faster."""
        first = self.reader.text()
        for late in self.late:
            late.poll()
            text = late.text()
            assert first.endswith(text) or late.gaps(), f"{len(text)} bytes that are not the end of {len(first)}"
            late.place()

    def finish(self) -> None:
        """Everything comes back to life and comes to rest; the VM prints its last bytes."""
        for node in self.cluster.nodes.values():
            if node.service is None:
                node.start()
            elif node.session is not None:
                node.session.resume()
        self.cluster.steps(2.0, 0.05)
        if self.cluster.here is None:
            self.cluster.start("hv1")
        self.cluster.steps(40.0, 0.25)
        self.cluster.print(100)
        self.cluster.steps(1.0, 0.05)
        self.reader.poll()
        self.check_late()

    def _print(self, count: int) -> None:
        if self.cluster.here is not None:
            self.cluster.print(count)

    def _step(self, number: int) -> None:
        node = self.cluster.nodes[NODES[number % 2]]
        self.cluster.world.run_for(0.01)
        if node.service is not None:
            node.step()

    def _wait(self, number: int) -> None:
        self.cluster.steps(0.2, 0.05)

    def _poll(self, number: int) -> None:
        if number % 2 or not self.late:
            self.reader.poll()
        else:
            self.late[number % len(self.late)].poll()

    def _join(self, number: int) -> None:
        """Another reader comes, from any line on; or the last one loses its session, or the connection for a while."""
        if len(self.late) < 3:
            self.late.append(LateReader(self.cluster, number % 50))
        elif number % 2:
            self.late[-1].session.expire()
        else:
            self.late[-1].session.suspend()

    def _move(self, number: int) -> None:
        here = self.cluster.here
        # Back on a node that has not handed over yet, the emulator cuts a file that was not read to its end.
        if here is None or self.cluster.header().get("writer") != here:
            return
        if self.cluster.nodes[here].service is not None:
            self.cluster.move()

    def _restart(self, number: int) -> None:
        """The VM is stopped, and started again once that is noticed."""
        here = self.cluster.here
        if here is None or self.cluster.header().get("writer", here) != here or not self._connected(here):
            return
        self.cluster.stop(VmChange.CRASHED if number % 3 == 0 else VmChange.STOPPED)
        self.cluster.steps(0.4, 0.05)
        self.cluster.start(here if number % 2 else other(here))

    def _rotate(self, number: int) -> None:
        here = self.cluster.here
        # A file that was rotated before anybody saw it may be of any earlier run.
        if here is not None and self.cluster.nodes[here].disk.opened():
            self.cluster.nodes[here].disk.rotate(PATH, keep=9)

    def _die(self, number: int) -> None:
        """The daemon of the node where the VM is published is restarted."""
        here = self.cluster.here
        if here is not None and here in self.cluster.header().get("files", {}):
            self._restart_daemon(here)

    def _lose(self, number: int) -> None:
        session = self.cluster.nodes[NODES[number % 2]].session
        if session is not None:
            session.lose_next_commit(applied=number % 3 == 0)

    def _cut(self, number: int) -> None:
        """The connection of a publisher breaks, or comes back."""
        session = self.cluster.nodes[NODES[number % 2]].session
        if session is not None:
            session.suspend() if session.state.value == "connected" else session.resume()

    def _truncate(self, number: int) -> None:
        if (node := self._known()) is not None:
            node.disk.truncate(PATH)

    def _replace(self, number: int) -> None:
        if (node := self._known()) is not None:
            node.disk.delete(PATH)

    def _known(self) -> Node | None:
        """The node of the VM, if its file has been seen: what came and went unseen leaves no trace to notice."""
        if self.cluster.here is None:
            return None
        node = self.cluster.nodes[self.cluster.here]
        inode, position, *_ = self.cluster.header().get("files", {}).get(node.name, (0, 0))
        return node if position > 3 and node.disk.inode(PATH) == inode else None

    def _kill(self, number: int) -> None:
        node = self.cluster.nodes[NODES[number % 2]]
        if node.service is None:
            return
        # What a daemon knew that died before it wrote anything about it, nobody can tell of.
        node.step()
        header = self.cluster.header()
        mine = header.get("writer") == node.name and not header.get("closed")
        if mine if self.cluster.here == node.name else not node.service.busy:
            node.die()

    def _revive(self, number: int) -> None:
        node = self.cluster.nodes[NODES[number % 2]]
        if node.service is None:
            node.start()

    def _crash(self, number: int) -> None:
        """The VM dies and is started at once, somewhere."""
        target, here, header = NODES[number % 2], self.cluster.here, self.cluster.header()
        if self.cluster.nodes[target].service is None:
            return
        # Of a run that its node has not written a word about, another node cannot know.
        if here not in (None, target) and (header.get("writer") != here or header.get("closed")):
            return
        if here is not None:
            self.cluster.stop(VmChange.CRASHED)
        self.cluster.start(target)

    def _expire(self, number: int) -> None:
        session = self.cluster.nodes[NODES[number % 2]].session
        if session is not None:
            session.expire()

    def _restart_daemon(self, name: str) -> None:
        if self.cluster.nodes[name].service is not None:
            self.cluster.nodes[name].die()
            self.cluster.nodes[name].start()

    def _connected(self, name: str) -> bool:
        session = self.cluster.nodes[name].session
        return session is not None and session.state.value == "connected"


@settings(max_examples=200, deadline=None)
@given(append=st.booleans(), schedule=schedules(GENTLE))
def test_a_follower_misses_only_what_the_ring_dropped_and_knows_how_much(append: bool, schedule: list[Op]) -> None:
    run = Run(append)
    for name, number in schedule:
        run.play(name, number)
    run.finish()
    assert all(lost_by_ring(gap) or gap.skipped is not None for gap in run.reader.gaps()), run.reader.gaps()
    assert run.reader.place() == run.cluster.printed
    assert [w for node in run.cluster.nodes.values() for w in node.warnings] == []


@settings(max_examples=200, deadline=None)
@given(schedule=schedules(HOSTILE))
@example(schedule=[("print", 32), ("step", 2), ("rotate", 1), ("crash", 2), ("print", 1)])
@example(schedule=[("print", 32), ("step", 2), ("rotate", 1), ("print", 1), ("crash", 2), ("print", 1), ("rotate", 1)])
@example(schedule=[("print", 100), ("step", 0), ("truncate", 1), ("print", 200), ("kill", 0), ("move", 1)])
def test_whatever_happens_nothing_comes_twice_or_out_of_order_or_is_missing_unannounced(schedule: list[Op]) -> None:
    run = Run(append=False)
    for name, number in schedule:
        run.play(name, number)
    run.finish()
    run.reader.place()
    last = STREAM[run.cluster.printed - 100 : run.cluster.printed]
    assert run.reader.text().endswith(last), "the last bytes did not arrive"


@pytest.mark.parametrize("append", [False, True])
def test_a_vm_that_moves_back_and_forth_loses_and_repeats_nothing(append: bool) -> None:
    run = Run(append)
    for _ in range(10):
        run.cluster.print(300)
        run.cluster.move()
        run.cluster.print(50)
        run.cluster.steps(0.05)
        run.cluster.print(20)
        run.cluster.steps(0.4)
        run.reader.poll()
    assert run.reader.gaps() == []
    assert run.reader.place() == run.cluster.printed
