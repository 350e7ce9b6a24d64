"""Blocks that grow: a VM that prints a few bytes now and then, and readers that are in the middle of one."""

from hypothesis import given, settings
from hypothesis import strategies as st

from pvc.plugins.consolelog import keys
from pvc.plugins.consolelog.decide.follow import Start
from pvc.plugins.consolelog.reader import Follower, Notice
from pvc.plugins.consolelog.ring import FULL_BYTES, Text
from pvc.plugins.consolelog.schema import Settings
from tests.plugins.consolelog.test_promise import Op, Run
from tests.plugins.consolelog.world import DIRECTORY, NODES, PATH, STREAM, UUID, Cluster, lost_by_ring

DRIPS = ("drip", "drip", "drip", "drip", "step", "step", "poll", "wait", "move", "die", "lose", "cut", "restart", "lag")


class DrippingRun(Run):
    """Plays a schedule in which the VM prints little at a time."""

    def _drip(self, number: int) -> None:
        self._print(1 + number % 40)
        node = self.cluster.nodes[NODES[number % 2]]
        self.cluster.world.run_for(0.06)
        if node.service is not None:
            node.step()

    def _lag(self, number: int) -> None:
        """So much is printed that the ring drops what the reader has not seen."""
        for _ in range(12):
            self._print(number)
            self.cluster.steps(0.12, 0.06)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(DRIPS), st.integers(1, 3000)), max_size=80))
def test_readers_of_growing_blocks_see_each_byte_once(schedule: list[Op]) -> None:
    run = DrippingRun(append=False)
    for name, number in schedule:
        run.play(name, number)
    run.finish()
    assert all(lost_by_ring(gap) or gap.skipped is not None for gap in run.reader.gaps())
    assert run.reader.place() == run.cluster.printed


@given(st.lists(st.integers(1, 60), min_size=1, max_size=40), st.integers(0, 39))
@settings(max_examples=60, deadline=None)
def test_whoever_begins_at_the_end_sees_all_that_comes_after(prints: list[int], joins: int) -> None:
    cluster = Cluster()
    cluster.start("hv1")
    follower = None
    seen, began = b"", 0
    for number, count in enumerate(prints):
        if number == joins:
            cluster.steps(0.12, 0.06)
            follower, began = (
                Follower(cluster.ensemble.connect("reader"), UUID, Start(0), lambda: None),
                cluster.printed,
            )
            follower.poll()
        cluster.print(count)
        cluster.steps(0.06, 0.06)
        if follower is not None:
            seen += _text(follower)
    if follower is not None:
        cluster.steps(0.12, 0.06)
        assert seen + _text(follower) == STREAM[began : cluster.printed]


def test_a_thousand_lines_printed_one_by_one_are_few_blocks_and_cheap() -> None:
    cluster = Cluster(settings=Settings(directory=DIRECTORY, interval=0.05))
    cluster.start("hv1")
    before = cluster.ensemble.written
    size = 0
    for number in range(1200):
        line = b"[%8d.000000] usb 1-1: new device found\n" % number
        size += len(line)
        cluster.nodes["hv1"].disk.write(PATH, line)
        cluster.steps(0.06, 0.06)
    assert len(cluster.admin.children(keys.console(UUID)) or ()) <= 252
    overhead = 400 + FULL_BYTES  # header and heads, and what is in a block already
    assert cluster.ensemble.written - before < size + 1200 * overhead


def _text(follower: Follower) -> bytes:
    found = b""
    while items := follower.poll():
        chunks = [item.content for item in items if not isinstance(item, Notice)]
        found += b"".join(content.data for content in chunks if isinstance(content, Text))
    return found
