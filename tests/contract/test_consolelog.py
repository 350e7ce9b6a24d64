"""The console log's ring, its writer and its readers, on the fake and on a real ZooKeeper server."""

from random import Random

import pytest

from pvc.core import keys as core_keys
from pvc.core.coordination import Conflict, Coordinator, Create, Delete, Disconnected
from pvc.core.model import Vm, VmState
from pvc.core.threads import ThreadRuntime
from pvc.plugins.consolelog import keys
from pvc.plugins.consolelog.decide.bounds import Limits, texts
from pvc.plugins.consolelog.decide.follow import Start
from pvc.plugins.consolelog.following import Following
from pvc.plugins.consolelog.reader import Notice, read_page
from pvc.plugins.consolelog.ring import Chunk, Content, Event, Gap, Loss, Marker, Text
from pvc.plugins.consolelog.writer import Changed, Undefined, Writer
from tests.contract.clusters import Cluster, Told

UUID = "11111111-2222-3333-4444-555555555555"
VM = Vm(UUID, "web", VmState.RUNNING, "hv1", 64, 1)
RUNTIME = ThreadRuntime()
LIMITS = Limits(lines=1000, bytes=256 * 1024)
NOISE = Random(1).randbytes(1 << 20)


@pytest.fixture
def coordinator(cluster: Cluster) -> Coordinator:
    made = cluster.connect("hv1").coordinator
    node = (core_keys.NODES, core_keys.node("hv1"), core_keys.node_session("hv1"))
    for path in (core_keys.VMS, core_keys.vm(UUID), *node):
        if made.get(path) is None:
            made.commit([Create(path)])
    return made


def publish(writer: Writer, *contents: Content) -> None:
    if not writer.loaded:
        writer.load()
    writer.write(contents, writer="hv1", closed=False, files={})


def undefine(coordinator: Coordinator) -> None:
    names = coordinator.children(keys.console(UUID)) or ()
    coordinator.commit([Delete(f"{keys.console(UUID)}/{name}") for name in names])
    coordinator.commit([Delete(keys.console(UUID)), Delete(core_keys.vm(UUID))])


def text(items: list[Chunk | Notice]) -> bytes:
    return b"".join(i.content.data for i in items if isinstance(i, Chunk) and isinstance(i.content, Text))


def start_following(coordinator: Coordinator, lines: int) -> Told[Chunk | Notice]:
    told: Told[Chunk | Notice] = Told()

    def read() -> None:
        following = Following(coordinator, RUNTIME, Start(lines), [VM])
        while not following.ended:
            for each in following.poll():
                told(each.item)
            if not following.ended:
                following.wait()

    RUNTIME.spawn("follower", read)
    return told


def test_what_is_written_can_be_read_by_lines(coordinator: Coordinator) -> None:
    writer = Writer(coordinator, RUNTIME, UUID, LIMITS)
    assert read_page(coordinator, UUID, Start(10)) is None
    publish(writer, Marker(Event.STARTED, "hv1"), Text(b"one\ntwo\n"))
    publish(writer, Text(b"three\nfo"))
    publish(writer, Text(b"ur"))
    page = read_page(coordinator, UUID, Start(2))
    assert page is not None and not page.silent
    assert text(list(page.chunks)) == b"three\nfour"
    page = read_page(coordinator, UUID, Start(100))
    assert page is not None and page.chunks[0].content == Marker(Event.STARTED, "hv1")


def test_a_follower_gets_everything_once_and_ends_with_the_vm(cluster: Cluster, coordinator: Coordinator) -> None:
    told = start_following(cluster.connect("reader").coordinator, 10)
    writer = Writer(coordinator, RUNTIME, UUID, LIMITS)
    publish(writer, Text(b"line 0\n"))
    told.wait_until(bool)  # it has begun: one that begins later gets the last ten lines alone
    for number in range(1, 200):
        publish(writer, Text(b"line %d\n" % number))
    expected = b"".join(b"line %d\n" % number for number in range(200))
    told.wait_until(lambda items: len(text(items)) >= len(expected))
    assert text(told.events) == expected
    undefine(coordinator)
    told.wait_until(_ended)


def test_a_follower_that_loses_the_cluster_goes_on_where_it_was(cluster: Cluster, coordinator: Coordinator) -> None:
    session = cluster.connect("reader")
    told = start_following(session.coordinator, 10)
    writer = Writer(coordinator, RUNTIME, UUID, LIMITS)
    publish(writer, Text(b"before\n"))
    told.wait_until(lambda items: text(items) == b"before\n")
    session.cut()
    told.wait_until(lambda items: isinstance(items[-1], Notice))
    publish(writer, Text(b"meanwhile\n"))
    session.mend()
    told.wait_until(lambda items: text(items) == b"before\nmeanwhile\n")
    assert sum(isinstance(item, Notice) for item in told.events) == 2
    undefine(coordinator)
    told.wait_until(_ended)


@pytest.mark.parametrize("applied", [True, False])
def test_a_writer_learns_what_became_of_a_write_whose_answer_was_lost(cluster: Cluster, applied: bool) -> None:
    session = cluster.connect("hv1")
    coordinator = session.coordinator
    for path in (core_keys.VMS, core_keys.vm(UUID)):
        if coordinator.get(path) is None:
            coordinator.commit([Create(path)])
    writer = Writer(coordinator, RUNTIME, UUID, LIMITS)
    publish(writer, Text(b"one\n"))
    session.lose_next_commit(applied)
    with pytest.raises(Disconnected):
        publish(writer, Text(b"two\n"))
    session.mend()
    back: Told[None] = Told()
    coordinator.listen(lambda state: back(None))

    def happened() -> bool | None:
        try:
            return writer.load()
        except Disconnected:
            return None

    answers = [happened()]
    while answers[-1] is None:
        back.wait_until(bool)
        back.events.clear()
        answers.append(happened())
    assert answers[-1] is applied


def test_of_two_writers_one_is_told_to_look_again(cluster: Cluster, coordinator: Coordinator) -> None:
    first = Writer(coordinator, RUNTIME, UUID, LIMITS)
    second = Writer(cluster.connect("hv2").coordinator, RUNTIME, UUID, LIMITS)
    publish(first, Text(b"one\n"))
    second.load()
    publish(first, Text(b"two\n"))
    with pytest.raises(Changed):
        publish(second, Text(b"three\n"))
    publish(second, Text(b"three\n"))
    page = read_page(coordinator, UUID, Start(10))
    assert page is not None and text(list(page.chunks)) == b"one\ntwo\nthree\n"


def test_no_log_is_made_for_a_vm_that_is_not_defined(coordinator: Coordinator) -> None:
    coordinator.commit([Delete(core_keys.vm(UUID))])
    writer = Writer(coordinator, RUNTIME, UUID, LIMITS)
    writer.load()
    with pytest.raises(Undefined):
        publish(writer, Text(b"one\n"))


def test_the_largest_publication_fits_and_drops_a_thousand_chunks_with_it(coordinator: Coordinator) -> None:
    limits = Limits(lines=1_000_000, bytes=512 * 1024)
    writer = Writer(coordinator, RUNTIME, UUID, limits)
    for begin in range(0, 2600, 200):
        publish(writer, *(Text(NOISE[i * 100 : i * 100 + 100]) for i in range(begin, begin + 200)))
    for begin in range(2):
        publish(writer, *texts(NOISE[begin << 18 : (begin + 1) << 18], limits))
    publish(writer, Text(b"end\n"))
    header = writer.header
    assert header is not None and header.bytes <= limits.bytes
    kept = coordinator.children(keys.console(UUID)) or ()
    assert len(kept) == header.number - header.first_number < 1600


def test_a_block_is_not_dropped_by_the_write_that_adds_to_it(coordinator: Coordinator) -> None:
    writer = Writer(coordinator, RUNTIME, UUID, Limits(lines=1, bytes=16384))
    publish(writer, Text(b"pro"))
    publish(writer, Text(b"mpt\n" * 10))
    page = read_page(coordinator, UUID, Start(100))
    assert page is not None and text(list(page.chunks)) == b"pro" + b"mpt\n" * 10
    publish(writer, Text(b"next\n"))
    assert coordinator.children(keys.console(UUID)) == ("000000000000", "000000000001")


def test_a_writer_that_comes_anew_adds_to_the_block_that_it_finds(cluster: Cluster, coordinator: Coordinator) -> None:
    publish(Writer(coordinator, RUNTIME, UUID, LIMITS), Marker(Event.STARTED, "hv1"), Text(b"one"))
    publish(Writer(cluster.connect("hv2").coordinator, RUNTIME, UUID, LIMITS), Text(b" two\n"))
    assert coordinator.children(keys.console(UUID)) == ("000000000000",)
    page = read_page(coordinator, UUID, Start(100))
    assert page is not None and text(list(page.chunks)) == b"one two\n"


def test_a_block_that_was_deleted_by_hand_is_not_added_to(coordinator: Coordinator) -> None:
    writer = Writer(coordinator, RUNTIME, UUID, LIMITS)
    publish(writer, Text(b"one\n"))
    coordinator.commit([Delete(keys.block(UUID, 0))])
    with pytest.raises(Changed):
        publish(writer, Text(b"two\n"))
    publish(writer, Text(b"two\n"))
    page = read_page(coordinator, UUID, Start(100))
    assert page is not None and text(list(page.chunks)) == b"two\n"


def test_a_slow_reader_is_told_how_much_the_ring_dropped(cluster: Cluster, coordinator: Coordinator) -> None:
    limits = Limits(lines=10, bytes=16384)
    writer = Writer(coordinator, RUNTIME, UUID, limits)
    session = cluster.connect("reader")
    told = start_following(session.coordinator, 10)
    publish(writer, Text(b"a\n"))
    told.wait_until(lambda items: text(items) == b"a\n")
    session.cut()
    told.wait_until(lambda items: isinstance(items[-1], Notice))
    for number in range(100):
        publish(writer, Text(b"%02d\n" % number))
    session.mend()
    told.wait_until(lambda items: text(items).endswith(b"99\n"))
    gaps = [item.content for item in told.events if isinstance(item, Chunk) and isinstance(item.content, Gap)]
    shown = len(text(told.events))
    assert gaps == [Gap(302 - shown, Loss.RING)]
    undefine(coordinator)
    told.wait_until(_ended)


def _ended(items: list[Chunk | Notice]) -> bool:
    return items[-1] == Notice("the VM is no longer defined; its log is gone")


def test_a_deleted_log_cannot_be_undone_by_its_writer(coordinator: Coordinator) -> None:
    writer = Writer(coordinator, RUNTIME, UUID, LIMITS)
    publish(writer, Text(b"one\n"))
    undefine(coordinator)
    with pytest.raises(Changed):
        publish(writer, Text(b"two\n"))
    with pytest.raises(Undefined):
        publish(writer, Text(b"two\n"))
    with pytest.raises(Conflict):
        coordinator.commit([Create(keys.block(UUID, 0))])
