"""The service, step by step."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest
from msgspec.structs import replace

from pvc.core import keys as core_keys
from pvc.core.coordination import Create, Delete, Znode
from pvc.core.observers import VmChange
from pvc.plugins.consolelog import keys
from pvc.plugins.consolelog.decide.bounds import Limits
from pvc.plugins.consolelog.decide.follow import Start
from pvc.plugins.consolelog.decide.handover import PATIENCE
from pvc.plugins.consolelog.decide.tail import Resume
from pvc.plugins.consolelog.files import LogFile, Unfollowable
from pvc.plugins.consolelog.reader import read_page
from pvc.plugins.consolelog.ring import Chunk, Content, Event, Gap, Loss, Marker, Text, cost, decode_block
from pvc.plugins.consolelog.schema import Settings
from pvc.plugins.consolelog.service import SLOW_LOOK
from pvc.plugins.consolelog.tail import Tail
from pvc.testing.logfiles import FakeDisk
from tests.plugins.consolelog.world import DIRECTORY, PATH, STREAM, UUID, Cluster, Reader


def told(cluster: Cluster) -> list[object]:
    reader = Reader(cluster)
    reader.poll()
    return reader.story()


def test_the_first_bytes_after_silence_go_out_at_once() -> None:
    cluster = Cluster()
    cluster.start("hv1")
    cluster.steps(1.0)
    cluster.print(5)
    cluster.nodes["hv1"].step()
    assert told(cluster) == [Marker(Event.STARTED, "hv1"), STREAM[:5]]


def test_a_vm_is_published_once_per_interval_at_most() -> None:
    cluster = Cluster(settings=Settings(directory=DIRECTORY, interval=0.5))
    cluster.start("hv1")
    cluster.steps(1.0)
    before = cluster.ensemble.commits
    for _ in range(100):
        cluster.print(10)
        cluster.steps(0.02)
    assert 4 <= cluster.ensemble.commits - before <= 5


def test_a_silent_vm_costs_no_transaction_and_no_step() -> None:
    cluster = Cluster()
    cluster.start("hv1")
    cluster.steps(1.0)
    before = cluster.ensemble.commits
    assert cluster.nodes["hv1"].step() > 20
    cluster.steps(100.0, 1.0)
    assert cluster.ensemble.commits == before


def test_a_change_that_the_kernel_kept_quiet_about_is_found_by_the_slow_look() -> None:
    cluster = Cluster()
    node = cluster.nodes["hv1"]
    cluster.start("hv1")
    cluster.steps(1.0)
    node.disk._listeners.clear()
    cluster.print(5)
    node.step()
    assert told(cluster) == [Marker(Event.STARTED, "hv1")]
    cluster.steps(SLOW_LOOK, 1.0)
    assert told(cluster)[-1] == STREAM[:5]


def test_an_update_costs_about_the_new_bytes() -> None:
    cluster = Cluster(settings=Settings(directory=DIRECTORY, interval=0.05))
    cluster.start("hv1")
    for _ in range(100):
        cluster.print(1000)
        cluster.steps(0.06)
    before = cluster.ensemble.written
    for _ in range(20):
        cluster.print(1000)
        cluster.steps(0.06)
    assert cluster.ensemble.written - before < 1.4 * 20 * 1000


def test_the_ring_stays_within_its_bounds() -> None:
    cluster = Cluster()
    cluster.start("hv1")
    for _ in range(60):
        cluster.print(2000)
        cluster.steps(0.06)
        held = [
            cluster.admin.get(f"{keys.console(UUID)}/{name}")
            for name in cluster.admin.children(keys.console(UUID)) or ()
        ]
        assert sum(len(znode.data) for znode in held if znode) < 16384
    assert cluster.header()["bytes"] > 8192


def test_a_ring_of_single_bytes_stays_bounded_too() -> None:
    cluster = Cluster()
    cluster.start("hv1")
    for _ in range(400):
        cluster.print(1)
        cluster.steps(0.06, 0.06)
    assert len(cluster.admin.children(keys.console(UUID)) or ()) <= 16384 // 65


def test_a_restarted_daemon_keeps_to_the_bounds() -> None:
    cluster = Cluster()
    cluster.start("hv1")
    for _ in range(30):
        cluster.print(1000)
        cluster.steps(0.06)
        cluster.nodes["hv1"].die()
        cluster.nodes["hv1"].start()
    cluster.steps(1.0)
    header = cluster.header()
    assert header["bytes"] <= 16384
    assert len(cluster.admin.children(keys.console(UUID)) or ()) == header["number"] - header["first_number"]


def test_a_flood_is_capped_and_what_was_skipped_is_told() -> None:
    cluster = Cluster(settings=Settings(directory=DIRECTORY, interval=0.5, bytes=65536, max_rate=8192))
    reader = Reader(cluster)
    reader.poll()
    cluster.start("hv1")
    cluster.steps(1.0)
    before = cluster.ensemble.written
    for _ in range(20):
        cluster.print(40_000)
        cluster.steps(0.5, 0.05)
        reader.poll()
    assert cluster.ensemble.written - before < 65536 + 10 * 8192 * 1.2
    assert {gap.loss for gap in reader.gaps()} == {Loss.RATE}
    assert reader.place() == cluster.printed


def test_start_stop_and_crash_leave_markers() -> None:
    cluster = Cluster()
    cluster.start("hv1")
    cluster.print(4)
    cluster.steps(0.2)
    cluster.stop()
    cluster.steps(0.5)
    cluster.start("hv2")
    cluster.steps(0.5)
    cluster.stop(VmChange.CRASHED)
    cluster.steps(0.5)
    assert told(cluster) == [
        Marker(Event.STARTED, "hv1"),
        STREAM[:4],
        Marker(Event.STOPPED, "hv1"),
        Marker(Event.STARTED, "hv2"),
        Marker(Event.CRASHED, "hv2"),
    ]
    assert cluster.nodes["hv1"].disk.opened() == cluster.nodes["hv2"].disk.opened() == 0


def test_the_target_prints_nothing_before_the_source_has_handed_over() -> None:
    cluster = Cluster()
    cluster.start("hv1")
    cluster.steps(0.2)
    cluster.print(10)
    cluster.move()
    cluster.print(10)
    for _ in range(100):
        cluster.world.run_for(0.02)
        cluster.nodes["hv2"].step()
    assert told(cluster) == [Marker(Event.STARTED, "hv1")]
    cluster.steps(0.3)
    assert told(cluster) == [
        Marker(Event.STARTED, "hv1"),
        STREAM[:10],
        Marker(Event.MOVED, "hv1", "hv2"),
        STREAM[10:20],
    ]


def test_the_target_goes_on_alone_when_the_source_does_not_answer() -> None:
    cluster = Cluster()
    cluster.start("hv1")
    cluster.steps(0.2)
    cluster.print(10)
    session = cluster.nodes["hv1"].session
    assert session is not None
    session.suspend()
    cluster.move()
    cluster.print(10)
    cluster.steps(PATIENCE - 0.1, 0.1)
    assert told(cluster) == [Marker(Event.STARTED, "hv1")]
    cluster.steps(0.3, 0.1)
    expected = [Marker(Event.STARTED, "hv1"), Gap(None, Loss.NODE), Marker(Event.MOVED, "hv1", "hv2"), STREAM[10:20]]
    assert told(cluster) == expected
    session.resume()
    cluster.steps(PATIENCE * 2, 0.1)
    assert told(cluster) == expected, "the source wrote although it was no longer the writer"


def test_the_target_does_not_wait_for_a_dead_source() -> None:
    cluster = Cluster()
    cluster.start("hv1")
    cluster.steps(0.2)
    cluster.nodes["hv1"].die()
    cluster.move()
    cluster.print(10)
    cluster.steps(0.1)
    assert told(cluster)[-2:] == [Marker(Event.MOVED, "hv1", "hv2"), STREAM[:10]]


def test_the_death_of_a_source_ends_the_wait_for_it() -> None:
    cluster = Cluster()
    cluster.start("hv1")
    cluster.steps(0.2)
    session = cluster.nodes["hv1"].session
    assert session is not None
    session.suspend()
    cluster.move()
    cluster.print(10)
    cluster.steps(1.0)
    cluster.nodes["hv1"].die()
    cluster.nodes["hv2"].step()
    assert told(cluster)[-1] == STREAM[:10]


def test_what_was_printed_while_the_cluster_was_away_comes_later() -> None:
    cluster = Cluster()
    cluster.start("hv1")
    cluster.steps(0.2)
    cluster.ensemble.stop()
    cluster.print(3000)
    cluster.steps(5.0, 0.1)
    cluster.ensemble.start()
    cluster.steps(0.5)
    assert told(cluster) == [Marker(Event.STARTED, "hv1"), STREAM[:3000]]


def test_a_write_whose_answer_was_lost_is_not_repeated() -> None:
    for applied in (True, False):
        cluster = Cluster()
        cluster.start("hv1")
        cluster.steps(0.2)
        session = cluster.nodes["hv1"].session
        assert session is not None
        session.lose_next_commit(applied)
        cluster.print(100)
        cluster.steps(2.0)
        assert told(cluster) == [Marker(Event.STARTED, "hv1"), STREAM[:100]]


def test_a_file_that_is_written_to_while_it_is_rotated_is_read_to_its_end() -> None:
    disk = FakeDisk()
    disk.write(PATH, b"one")
    tail = Tail(disk.files(Cluster().runtime.signal()), PATH, "", Limits(1000, 16384))
    first = tail.look(100, ending=False)
    assert first is not None
    tail.accept(first)

    def write_and_rotate() -> None:
        disk.write(PATH, b"two")
        disk.rotate(PATH)
        disk.write(PATH, b"three")

    class Busy:
        """The open file, to which something happens right after it was asked for its size."""

        def __init__(self, file: LogFile) -> None:
            self.inode, self.read, self.close, self._size = file.inode, file.read, file.close, file.size
            self._times = 0

        def size(self) -> int:
            found = self._size()
            self._times += 1
            if self._times == 1:
                write_and_rotate()
            return found

    assert tail._file is not None
    tail._file = Busy(tail._file)
    seen: list[Content] = []
    for _ in range(4):
        piece = tail.look(100, ending=False)
        if piece is not None:
            seen += piece.contents
            tail.accept(piece)
    assert seen == [Text(b"two"), Text(b"three")]


def test_a_file_that_was_cut_and_has_grown_to_its_old_size_is_noticed() -> None:
    cluster = Cluster()
    cluster.start("hv1")
    cluster.print(50)
    cluster.steps(0.2)
    cluster.nodes["hv1"].disk.truncate(PATH)
    cluster.print(50)
    cluster.steps(0.2)
    assert told(cluster) == [Marker(Event.STARTED, "hv1"), STREAM[:50], Gap(None, Loss.FILE), STREAM[50:100]]


def test_a_file_outside_the_directory_is_reported_once_and_not_followed() -> None:
    cluster = Cluster()
    node = cluster.nodes["hv1"]
    node.disk.unfollowable[PATH] = "lies outside"
    cluster.start("hv1")
    cluster.print(10)
    cluster.steps(100.0, 1.0)
    assert told(cluster) == [Marker(Event.STARTED, "hv1")]
    assert node.warnings == [f"console log of VM {UUID}: {PATH} lies outside"]
    assert node.step() > 1.0


def test_a_file_that_cannot_be_followed_is_tried_seldom_however_often_it_is_written_to() -> None:
    cluster = Cluster()
    node = cluster.nodes["hv1"]
    node.disk.unfollowable[PATH] = "is a pipe"
    cluster.start("hv1")
    for _ in range(500):
        cluster.print(10)
        cluster.steps(0.02, 0.02)
    assert node.disk.refusals <= 2 + 10.0 / PATIENCE
    assert len(node.warnings) == 1
    del node.disk.unfollowable[PATH]
    cluster.steps(PATIENCE + 0.1)
    assert told(cluster) == [Marker(Event.STARTED, "hv1"), STREAM[:5000]]


def with_a_dead_daemon() -> Cluster:
    """It has published 100 bytes of the VM, which runs on."""
    cluster = Cluster()
    cluster.start("hv1")
    cluster.print(100)
    cluster.steps(0.2)
    cluster.nodes["hv1"].die()
    return cluster


def test_a_file_that_cannot_be_opened_when_a_daemon_takes_it_up_again_is_not_published_twice() -> None:
    cluster = with_a_dead_daemon()
    node = cluster.nodes["hv1"]
    cluster.print(50)
    node.disk.unfollowable[PATH] = "cannot be opened: too many open files"
    node.start()
    cluster.steps(0.2)
    del node.disk.unfollowable[PATH]
    cluster.steps(SLOW_LOOK + 1.0, 0.5)
    assert told(cluster) == [Marker(Event.STARTED, "hv1"), STREAM[:150]]


def test_a_place_that_cannot_be_taken_at_once_is_taken_by_a_later_look_and_recorded_all_the_while() -> None:
    disk = FakeDisk()
    disk.write(PATH, STREAM[:100])
    files = disk.files(Cluster().runtime.signal())
    first = Tail(files, PATH, "1", Limits(1000, 16384))
    piece = first.look(1000, ending=False)
    assert piece is not None and piece.mark is not None
    disk.write(PATH, STREAM[100:150])
    tail = Tail(files, PATH, "2", Limits(1000, 16384))
    tail.hold()
    disk.unfollowable[PATH] = "cannot be opened: too many open files"
    for attempt in (partial(tail.begin, Resume(piece.mark)), partial(tail.look, 1000, ending=False)):
        with pytest.raises(Unfollowable):
            attempt()
        assert tail.mark == replace(piece.mark, run="2")
    del disk.unfollowable[PATH]
    rest = tail.look(1000, ending=False)
    assert rest is not None and rest.contents == (Text(STREAM[100:150]),)
    tail.close()
    assert disk.opened() == 1  # that of the first


def test_a_vm_without_log_file_is_reported_and_left_alone() -> None:
    cluster = Cluster()
    node = cluster.nodes["hv1"]
    assert node.service is not None
    cluster.xml = lambda: "<domain><devices/></domain>"  # type: ignore[method-assign]
    node.tell(VmChange.STARTED)
    node.step()
    assert cluster.header() == {}
    assert len(node.warnings) == 1
    assert node.service.busy == 0


def test_an_undefined_vm_is_published_no_more() -> None:
    cluster = Cluster()
    cluster.start("hv1")
    cluster.print(10)
    cluster.steps(0.2)
    cluster.undefine()
    cluster.print(10)
    cluster.steps(1.0)
    service = cluster.nodes["hv1"].service
    assert service is not None and service.busy == 0
    assert cluster.header() == {}


def test_a_log_that_somebody_deleted_is_begun_anew() -> None:
    cluster = Cluster()
    cluster.start("hv1")
    cluster.print(10)
    cluster.steps(0.2)
    names = cluster.admin.children(keys.console(UUID)) or ()
    cluster.admin.commit([*(Delete(f"{keys.console(UUID)}/{name}") for name in names), Delete(keys.console(UUID))])
    cluster.print(10)
    cluster.steps(0.2)
    assert told(cluster) == [STREAM[10:20]]


def test_a_header_that_is_garbage_is_reported_once_and_holds_up_nobody() -> None:
    cluster = Cluster()
    cluster.admin.commit([Create(keys.console(UUID), b"junk")])
    cluster.start("hv1")
    cluster.steps(30.0, 0.5)
    warnings = cluster.nodes["hv1"].warnings
    assert len(warnings) == 1 and keys.console(UUID) in warnings[0]


def test_a_vm_that_left_while_the_daemon_was_down_is_handed_over_when_that_is_told() -> None:
    cluster = Cluster()
    cluster.start("hv1")
    cluster.print(10)
    cluster.steps(0.2)
    cluster.nodes["hv1"].die()
    cluster.print(10)
    cluster.here = None
    cluster.nodes["hv1"].start()
    cluster.nodes["hv1"].tell(VmChange.DEPARTED, "hv2")
    cluster.steps(0.5)
    assert told(cluster) == [Marker(Event.STARTED, "hv1"), STREAM[:20], Marker(Event.MOVED, "hv1", "hv2")]
    assert cluster.header()["writer"] == "hv2"


def test_a_vm_that_another_node_took_by_mistake_is_taken_back_by_the_lease_holder() -> None:
    cluster = Cluster()
    cluster.start("hv1")
    cluster.print(10)
    cluster.steps(0.2)
    cluster.nodes["hv2"].tell(VmChange.STARTED)
    cluster.steps(PATIENCE + 1, 0.1)
    assert cluster.header()["writer"] == "hv2"
    cluster.print(10)
    cluster.steps(PATIENCE * 2 + 1, 0.1)
    assert cluster.header()["writer"] == "hv1"
    assert told(cluster)[-1] == STREAM[10:20]


def test_a_reader_of_an_undefined_vm_comes_to_its_end() -> None:
    cluster = Cluster()
    cluster.start("hv1")
    cluster.steps(0.2)
    reader = Reader(cluster)
    reader.poll()
    assert [reader.follower.ended] == [False]
    cluster.undefine()
    reader.poll()
    assert reader.follower.ended
    assert cluster.admin.get(core_keys.vm(UUID)) is None


def test_a_slow_reader_is_told_what_the_ring_dropped() -> None:
    cluster = Cluster()
    reader = Reader(cluster)
    reader.poll()
    cluster.start("hv1")
    cluster.print(100)
    cluster.steps(0.2)
    reader.poll()
    for _ in range(20):
        cluster.print(3000)
        cluster.steps(0.1)
    reader.poll()
    assert [gap.loss for gap in reader.gaps()] == [Loss.RING]
    assert reader.place() == cluster.printed


def test_a_file_that_is_rotated_while_the_target_waits_for_the_source_is_read() -> None:
    cluster = Cluster()
    cluster.start("hv1")
    cluster.steps(0.2)
    cluster.move()
    cluster.print(10)
    cluster.nodes["hv2"].step()
    cluster.nodes["hv2"].disk.rotate(PATH)
    cluster.print(10)
    cluster.steps(0.5)
    assert told(cluster)[1:] == [Marker(Event.MOVED, "hv1", "hv2"), STREAM[:20]]


def test_what_reaches_the_file_a_moment_after_the_end_is_published() -> None:
    cluster = Cluster()
    cluster.start("hv1")
    cluster.steps(0.2)
    cluster.stop()
    cluster.nodes["hv1"].step()
    cluster.nodes["hv1"].disk.write(PATH, b"late")
    cluster.steps(0.5)
    assert told(cluster) == [Marker(Event.STARTED, "hv1"), b"late", Marker(Event.STOPPED, "hv1")]


def test_the_end_of_a_run_that_cannot_be_read_at_once_is_read_as_soon_as_it_can() -> None:
    cluster = Cluster()
    node = cluster.nodes["hv1"]
    cluster.start("hv1")
    cluster.steps(0.2)
    node.disk.fail(PATH, "the disk fails")
    cluster.print(100)
    cluster.stop()
    cluster.steps(PATIENCE - 1.0)
    node.disk.fail(PATH, "")
    cluster.steps(1.0)
    assert told(cluster) == [Marker(Event.STARTED, "hv1"), STREAM[:100], Marker(Event.STOPPED, "hv1")]


def test_the_end_of_a_run_that_cannot_be_read_is_given_up_after_a_while_and_told_as_lost() -> None:
    cluster = Cluster()
    node = cluster.nodes["hv1"]
    cluster.start("hv1")
    cluster.print(100)
    cluster.steps(0.2)
    node.disk.fail(PATH, "the disk fails")
    cluster.print(100)
    cluster.stop()
    cluster.steps(PATIENCE + 1.0)
    lost = Gap(None, Loss.FILE)
    assert told(cluster) == [Marker(Event.STARTED, "hv1"), STREAM[:100], lost, Marker(Event.STOPPED, "hv1")]
    assert node.warnings == [f"console log of VM {UUID}: the disk fails"]
    assert node.service is not None and not node.service.busy


def test_a_run_whose_file_could_never_be_opened_ends_with_word_of_the_loss() -> None:
    cluster = with_a_dead_daemon()
    node = cluster.nodes["hv1"]
    node.disk.unfollowable[PATH] = "cannot be opened: too many open files"
    node.start()
    cluster.print(100)
    cluster.steps(0.2)
    cluster.stop()
    cluster.steps(PATIENCE + 1.0)
    lost = Gap(None, Loss.FILE)
    assert told(cluster) == [Marker(Event.STARTED, "hv1"), STREAM[:100], lost, Marker(Event.STOPPED, "hv1")]


def test_a_daemon_that_dies_before_the_first_byte_leaves_word_of_its_file() -> None:
    cluster = Cluster()
    cluster.start("hv1")
    cluster.steps(0.2)
    cluster.move()
    cluster.steps(0.5)
    cluster.nodes["hv2"].die()
    cluster.print(10)
    cluster.nodes["hv2"].disk.rotate(PATH)
    cluster.print(10)
    cluster.nodes["hv2"].start()
    cluster.steps(0.5)
    assert told(cluster)[1:] == [Marker(Event.MOVED, "hv1", "hv2"), STREAM[:20]]


def test_the_ring_keeps_the_lines_that_it_promises() -> None:
    cluster = Cluster(settings=Settings(directory=DIRECTORY, interval=0.05, lines=10))
    cluster.start("hv1")
    lines = []
    for number in range(30):
        new = [b"%d.%d\n" % (number, each) for each in range(1 + number % 8)]
        lines += new
        cluster.nodes["hv1"].disk.write(PATH, b"".join(new))
        cluster.steps(0.06)
        page = read_page(cluster.admin, UUID, Start(10))
        assert page is not None
        shown = b"".join(chunk.content.data for chunk in page.chunks if isinstance(chunk.content, Text))
        assert shown == b"".join(lines[-10:])
        assert cluster.header().get("lines", 0) <= 10 + 8


def test_the_books_are_right_after_a_restart() -> None:
    cluster = Cluster()
    cluster.start("hv1")
    for number in range(60):
        cluster.print(100 + 37 * (number % 20))
        cluster.steps(0.06)
        if number in (20, 45):
            cluster.nodes["hv1"].die()
            cluster.nodes["hv1"].start()
    header = cluster.header()
    held: list[Chunk] = []
    for number in range(header["first_number"], header["number"]):
        znode = cluster.admin.get(keys.block(UUID, number))
        assert znode is not None
        held += decode_block(number, znode.data, "/")
    assert header["bytes"] == sum(cost(chunk.content) for chunk in held)
    assert header["first"] == held[0].offset


def test_a_chunk_that_is_dropped_while_it_is_fetched_counts_as_lost_with_its_size() -> None:
    cluster = Cluster()
    reader = Reader(cluster)
    reader.poll()
    cluster.start("hv1")
    cluster.print(100)
    cluster.steps(0.2)

    class Overtaken:
        """A session on which much is published between the look at the header and the fetching of chunks."""

        get, children = reader.session.get, reader.session.children

        def get_many(self, paths: Sequence[str]) -> list[Znode | None]:
            for _ in range(20):
                cluster.print(3000)
                cluster.steps(0.06)
            return reader.session.get_many(paths)

    overtaken: Any = Overtaken()
    reader.follower._coordinator = overtaken
    assert reader.follower.poll() == []
    reader.follower._coordinator = reader.session
    reader.poll()
    assert [gap.loss for gap in reader.gaps()] == [Loss.RING]
    assert reader.place() == cluster.printed


def test_a_prompt_is_published_though_its_line_has_not_ended() -> None:
    cluster = Cluster()
    cluster.start("hv1")
    cluster.steps(1.0)
    cluster.nodes["hv1"].disk.write(PATH, b"\r\nlogin: ")
    cluster.nodes["hv1"].step()
    assert told(cluster)[-1] == b"\r\nlogin: "


def test_a_file_that_comes_late_is_followed_from_its_first_byte() -> None:
    cluster = Cluster()
    cluster.start("hv1")
    cluster.nodes["hv1"].disk.delete(PATH)
    cluster.steps(2.0)
    cluster.print(100)
    cluster.steps(0.2)
    assert told(cluster) == [Marker(Event.STARTED, "hv1"), STREAM[:100]]


def test_a_line_of_megabytes_is_cut_to_what_the_ring_holds_and_what_follows_it_is_whole() -> None:
    cluster = Cluster()
    disk = cluster.nodes["hv1"].disk
    cluster.start("hv1")
    cluster.steps(0.2)
    for _ in range(6):
        disk.write(PATH, b"x" * (1 << 19))
        cluster.steps(0.3)
        assert cluster.header()["bytes"] <= 16384
    disk.write(PATH, b"\xe2\x82\xac\x00\r\nend\r\n")
    cluster.steps(0.3)
    reader = Reader(cluster)
    reader.poll()
    assert reader.text().endswith(b"x\xe2\x82\xac\x00\r\nend\r\n")
    assert cluster.header()["next"] == 6 * (1 << 19) + 11
    assert cluster.nodes["hv1"].warnings == []
