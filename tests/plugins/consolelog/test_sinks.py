"""What was published goes to the sinks too, whatever a sink does: slow, failing, full, or writing files."""

import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from pvc.core.observers import VmChange
from pvc.core.sinks import ConsoleRecord, ConsoleVm
from pvc.plugins.consolelog.feeds import LAST_MOMENT, LONGEST_PAUSE, RECORD_COST, REMEMBERED, Feed, Feeds
from pvc.plugins.consolelog.filesink import CannotKeep, FileSink
from pvc.plugins.consolelog.ring import Text, placed
from pvc.testing.runtime import World
from tests.plugins.consolelog.world import NAME, STREAM, UUID, Cluster

VM = ConsoleVm(UUID, NAME, "hv1")
OTHER = ConsoleVm("other", "db", "hv1")
LOG = logging.getLogger("test")
READERS: list[int] = []


class Taker:
    """A sink that remembers; `trouble` is called before it takes anything."""

    name = "taker"

    def __init__(self, trouble: Callable[[], object] = lambda: None) -> None:
        self.trouble = trouble
        self.taken: list[tuple[ConsoleVm, ConsoleRecord]] = []
        self.closed = 0

    def write(self, vm: ConsoleVm, records: Sequence[ConsoleRecord]) -> None:
        self.trouble()
        self.taken += [(vm, each) for each in records]

    def close(self) -> None:
        self.closed += 1

    def story(self, vm: ConsoleVm = VM) -> list[object]:
        """Data, and for records that tell something the event, with what is missing."""
        return [each.data or (each.event, each.skipped) for of, each in self.taken if of == vm]


def texts(*parts: bytes, offset: int = 0) -> list[ConsoleRecord]:
    found = []
    for part in parts:
        found.append(ConsoleRecord(offset, 1.0, part))
        offset += len(part)
    return found


class Bench:
    """One feed on simulated time."""

    def __init__(self, sink: Taker, room: int = 1 << 20) -> None:
        self.world = World()
        self.runtime = self.world.process("hv1")
        self.feed = Feed(sink, self.runtime, LOG, room)


def fail() -> None:
    raise OSError("no space left")


def test_a_sink_gets_what_was_published_with_its_place_and_what_is_told_about_it() -> None:
    sink = Taker()
    cluster = Cluster(sinks=lambda: [sink])
    cluster.start("hv1")
    cluster.print(100)
    cluster.steps(0.2)
    cluster.print(50)
    cluster.steps(0.2)
    cluster.stop(VmChange.CRASHED)
    cluster.steps(0.5)
    events = [each.event for _, each in sink.taken if each.event]
    data = [each for _, each in sink.taken if each.data]
    assert events == ["started", "crashed"]
    assert b"".join(each.data for each in data) == STREAM[:150]
    assert [each.offset for each in data] == [0, 100]
    assert {vm for vm, _ in sink.taken} == {VM}


@pytest.mark.parametrize("applied", [True, False])
def test_a_sink_gets_a_write_whose_answer_was_lost_once(applied: bool) -> None:
    sink = Taker()
    cluster = Cluster(sinks=lambda: [sink])
    cluster.start("hv1")
    cluster.steps(0.2)
    session = cluster.nodes["hv1"].session
    assert session is not None
    session.lose_next_commit(applied)
    cluster.print(100)
    cluster.steps(2.0)
    assert b"".join(each.data for _, each in sink.taken) == STREAM[:100]


def test_a_sink_that_never_returns_holds_up_nothing() -> None:
    sink = Taker(lambda: never.wait(None))
    cluster = Cluster(sinks=lambda: [sink])
    never = cluster.runtime.signal()
    cluster.start("hv1")
    for _ in range(20):
        cluster.print(1000)
        cluster.steps(0.06)
    assert cluster.header()["next"] == 20_000
    assert sink.taken == []


def test_what_has_no_room_is_given_up_and_the_sink_is_told_where_and_how_much(
    caplog: pytest.LogCaptureFixture,
) -> None:
    sink = Taker()
    bench = Bench(sink, room=2 * RECORD_COST + 20)
    bench.feed.offer(VM, texts(b"0123456789"))
    bench.feed.offer(OTHER, texts(b"abcdefghij"))
    bench.feed.offer(VM, texts(b"lost", offset=10))
    bench.feed.offer(VM, texts(b"lost too", offset=14))
    bench.world.run_for(1.0)
    bench.feed.offer(VM, texts(b"more", offset=22))
    bench.world.run_for(1.0)
    assert sink.story() == [b"0123456789", ("missing", 12), b"more"]
    assert sink.story(OTHER) == [b"abcdefghij"]
    assert [each.offset for vm, each in sink.taken if each.why == "sink"] == [10]
    assert sum("does not keep up" in message for message in caplog.messages) == 1
    found = bench.feed.finding()
    assert found is not None and "lost 2 records with 12 bytes (it is too slow)" in found.text
    bench.world.run_for(REMEMBERED + 1)
    assert bench.feed.finding() is None


def test_what_was_given_up_at_two_places_is_told_at_both() -> None:
    sink = Taker(lambda: go_on.wait(None))
    bench = Bench(sink, room=3 * (RECORD_COST + 1))
    go_on = bench.runtime.signal()
    bench.feed.offer(OTHER, texts(b"1"))
    bench.feed.offer(VM, texts(b"a"))
    bench.feed.offer(OTHER, texts(b"2"))
    bench.feed.offer(VM, texts(b"b", offset=1))
    bench.world.run_for(0.1)  # the sink takes the first and is busy with it: there is room for one
    bench.feed.offer(VM, texts(b"c", offset=2))
    bench.feed.offer(VM, texts(b"d", offset=3))
    for _ in range(10):
        go_on.set()
        bench.world.run_for(0.1)
    assert sink.story() == [b"a", ("missing", 1), b"c", ("missing", 1)]


def test_what_a_sink_failed_to_take_is_told_to_it_with_what_comes_next(caplog: pytest.LogCaptureFixture) -> None:
    sink = Taker(fail)
    bench = Bench(sink)
    bench.feed.offer(VM, texts(b"0123456789"))
    bench.world.run_for(0.5)
    bench.feed.offer(VM, texts(b"abc", offset=10))
    bench.world.run_for(2.0)
    sink.trouble = lambda: None
    bench.feed.offer(VM, texts(b"more", offset=13))
    bench.world.run_for(LONGEST_PAUSE)
    assert sink.story() == [("missing", 13), b"more"]
    assert sum("no space left" in message for message in caplog.messages) == 1
    found = bench.feed.finding()
    assert found is not None and "2 records with 13 bytes" in found.text


def test_a_sink_that_wants_to_exit_is_one_that_fails() -> None:
    sink = Taker(lambda: exit(3))
    bench = Bench(sink)
    bench.feed.offer(VM, texts(b"one"))
    bench.world.run_for(1)
    finding = bench.feed.finding()
    assert finding is not None
    sink.trouble = lambda: None
    bench.feed.offer(VM, texts(b"two", offset=3))
    bench.world.run_for(5)
    assert sink.story() == [("missing", 3), b"two"]


def test_a_failing_sink_is_tried_ever_more_seldom() -> None:
    tries = []
    bench: Bench

    def note() -> None:
        tries.append(bench.runtime.monotonic())
        fail()

    bench = Bench(Taker(note))
    for number in range(10_000):
        bench.feed.offer(VM, texts(b"x", offset=number))
    bench.world.run_for(600.0)
    pauses = [after - before for before, after in pairwise(tries)]
    assert pauses[:3] == [1.0, 2.0, 4.0]
    assert max(pauses) == LONGEST_PAUSE
    assert len(tries) < 20


def test_what_is_queued_is_written_when_the_daemon_stops_and_the_sink_is_closed() -> None:
    sink = Taker()
    world = World()
    feeds = Feeds([sink], world.process("hv1"), LOG)

    def stop() -> None:
        feeds.offer(VM, lambda: placed(0, 1.0, [Text(b"last words")]))
        feeds.close()

    world.process("hv1").spawn("daemon", stop)
    world.run_for(1.0)
    assert sink.story() == [b"last words"]
    assert sink.closed == 1


def test_a_stopping_daemon_does_not_wait_for_a_sink_that_hangs(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    runtime = world.process("hv1")
    never = runtime.signal()
    sink = Taker(lambda: never.wait(None))
    feed = Feed(sink, runtime, LOG)
    feed.offer(VM, texts(b"x"))
    stopped: list[float] = []

    def stop() -> None:
        began = runtime.monotonic()
        feed.close()
        stopped.append(runtime.monotonic() - began)

    runtime.spawn("daemon", stop)
    world.run_for(60.0)
    assert len(stopped) == 1 and stopped[0] < 2 * LAST_MOMENT
    assert sink.closed == 0
    assert any("does not wait" in message for message in caplog.messages)


# The built-in sink.


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "kept" / "consoles"


def test_files_hold_what_a_vm_printed_and_beside_it_what_happened(directory: Path) -> None:
    sink = FileSink(str(directory), 1 << 20, 2)
    sink.write(VM, [ConsoleRecord(0, 5.0, event="started", node="hv1"), *texts(b"\x1b[1mone\r\n", b"\xfftwo")])
    sink.write(VM, [ConsoleRecord(12, 6.0, event="missing", skipped=7, why="rate"), *texts(b"\n", offset=19)])
    assert (directory / f"{NAME}.log").read_bytes() == b"\x1b[1mone\r\n\xfftwo\n"
    told = [json.loads(line) for line in (directory / f"{NAME}.events").read_text().splitlines()]
    assert [(each["event"], each["offset"]) for each in told] == [("started", 0), ("missing", 12)]
    assert (told[0]["node"], told[1]["skipped"], told[1]["why"]) == ("hv1", 7, "rate")


def test_files_are_rotated_by_size_and_the_oldest_goes(directory: Path) -> None:
    sink = FileSink(str(directory), 10, 2)
    for letter in b"abcdefgh":
        sink.write(VM, texts(bytes([letter]) * 6))
    found = {path.name: path.read_bytes() for path in directory.iterdir()}
    assert found == {f"{NAME}.log": b"h" * 6, f"{NAME}.log.1": b"g" * 6, f"{NAME}.log.2": b"f" * 6}


@pytest.mark.parametrize("name", ["../up", "/etc/passwd", ".", "..", "a/b", "-rf", "", "x" * 300, "é", "a\nb", "\x00"])
def test_an_odd_name_never_leads_out_of_the_directory(directory: Path, name: str) -> None:
    FileSink(str(directory), 1 << 20, 2).write(ConsoleVm(UUID, name, "hv1"), texts(b"x"))
    assert [path.name for path in directory.iterdir()] == [f"{UUID}.log"]
    assert sorted(path.name for path in directory.parent.iterdir()) == ["consoles"]


def read_pipe(path: Path) -> None:
    os.mkfifo(path)
    READERS.append(os.open(path, os.O_RDONLY | os.O_NONBLOCK))


@pytest.fixture
def readers() -> Iterator[None]:
    yield
    while READERS:
        os.close(READERS.pop())


def link(path: Path) -> None:
    path.symlink_to(path.parent.parent / "secret")


@pytest.mark.parametrize("make", [link, os.mkfifo, read_pipe, Path.mkdir])
@pytest.mark.usefixtures("readers")
def test_what_is_no_regular_file_is_never_written_to(directory: Path, make: Callable[[Path], None]) -> None:
    directory.mkdir(parents=True)
    (directory.parent / "secret").write_text("secret")
    make(directory / f"{NAME}.log")
    with pytest.raises(CannotKeep):
        FileSink(str(directory), 1 << 20, 2).write(VM, texts(b"x"))
    assert (directory.parent / "secret").read_text() == "secret"


def test_a_directory_that_cannot_be_made_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CannotKeep, match=r"check consolelog\.files\.directory"):
        FileSink(str(tmp_path / "file" / "below"), 1 << 20, 2).write(VM, texts(b"x"))
