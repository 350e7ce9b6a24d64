"""Following several logs at once: nothing is missed, repeated or mixed up, whatever happens to the reader."""

from dataclasses import dataclass, field
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pvc.core import keys as core_keys
from pvc.core.coordination import Create, Delete, Put
from pvc.core.model import Node, Vm, VmState
from pvc.core.records import encode
from pvc.plugins.consolelog import keys
from pvc.plugins.consolelog.decide.bounds import Limits
from pvc.plugins.consolelog.decide.follow import Start
from pvc.plugins.consolelog.following import SLOW_LOOK, Following, Told
from pvc.plugins.consolelog.reader import Notice
from pvc.plugins.consolelog.ring import Chunk, Content, Event, Gap, Loss, Marker, Text
from pvc.plugins.consolelog.writer import Writer
from pvc.testing.coordinator import FakeCoordinator, FakeEnsemble
from pvc.testing.runtime import World

LIMITS = Limits(lines=20, bytes=16384)
EVERYTHING = Start()
NAMES = ("web", "db", "ci")
HV1 = core_keys.node("hv1")


def uuid_of(name: str) -> str:
    return f"11111111-2222-3333-4444-{NAMES.index(name):012d}"


class Logs:
    """The logs of three VMs in a tree, written by hand; `hv1` lives and has the first two."""

    def __init__(self) -> None:
        self.world = World()
        self.runtime = self.world.process("test")
        self.ensemble = FakeEnsemble(self.runtime)
        self.admin = self.ensemble.connect("admin")
        self.truth = dict.fromkeys(NAMES, b"")
        self.vms = {name: Vm(uuid_of(name), name, VmState.RUNNING, "hv1", 64, 1) for name in NAMES}
        self.admin.commit([Create(path) for path in (core_keys.NODES, core_keys.VMS, core_keys.NAMES)])
        self.admin.commit(
            [
                Create(HV1, encode(Node("hv1"))),
                Create(core_keys.node_session("hv1")),
                Create(core_keys.node_vms("hv1")),
                *(Create(core_keys.vm(vm.uuid), encode(vm)) for vm in self.vms.values()),
                *(Create(core_keys.node_vm("hv1", uuid_of(name))) for name in NAMES[:2]),
            ]
        )
        self._writers = {name: Writer(self.admin, self.runtime, vm.uuid, LIMITS) for name, vm in self.vms.items()}

    def publish(self, name: str, *contents: Content, writer: str = "hv1", closed: bool = False) -> None:
        ring = self._writers[name]
        if not ring.loaded:
            ring.load()
        self.world.run_for(0.01)
        ring.write(contents, writer=writer, closed=closed, files={})
        self.truth[name] += b"".join(each.data for each in contents if isinstance(each, Text))

    def say(self, name: str, data: bytes, writer: str = "hv1") -> None:
        self.publish(name, Text(data), writer=writer)

    def undefine(self, name: str) -> None:
        self.delete(name)
        self.admin.commit([Delete(core_keys.vm(uuid_of(name)))])

    def delete(self, name: str) -> None:
        """Delete a log, which its writer then begins anew."""
        path = keys.console(uuid_of(name))
        chunks = [f"{path}/{each}" for each in self.admin.children(path) or ()]
        self.admin.commit([Delete(each) for each in (*chunks, path)])
        self._writers[name].loaded = False

    def follow(self, *names: str, node: str | None = None, start: Start = EVERYTHING) -> "Reader":
        session = self.ensemble.connect("reader")
        return Reader(session, Following(session, self.runtime, start, [self.vms[name] for name in names], node))


@dataclass
class Reader:
    """Somebody who follows; `poll` reads all there is."""

    session: FakeCoordinator
    following: Following
    told: list[Told] = field(default_factory=list)

    def poll(self) -> "Reader":
        for _ in range(1000):
            new = self.following.poll()
            self.told += new
            if not new:
                return self
        raise AssertionError(f"it never comes to an end: {self.told[-3:]}")

    def text(self, name: str) -> bytes:
        return b"".join(
            told.item.content.data
            for told in self.told
            if told.vm == name and isinstance(told.item, Chunk) and isinstance(told.item.content, Text)
        )

    def gaps(self, name: str) -> list[Gap]:
        return [
            told.item.content
            for told in self.told
            if told.vm == name and isinstance(told.item, Chunk) and isinstance(told.item.content, Gap)
        ]

    def markers(self, name: str) -> list[Marker]:
        return [
            told.item.content
            for told in self.told
            if told.vm == name and isinstance(told.item, Chunk) and isinstance(told.item.content, Marker)
        ]

    def count_calls(self) -> list[float]:
        """A list that gets longer with each call to the cluster."""
        calls: list[float] = []

        def count() -> float:
            calls.append(0.0)
            return 0.0

        self.session.latency = count
        return calls

    def notices(self) -> list[tuple[str, str]]:
        return [(told.vm, told.item.text) for told in self.told if isinstance(told.item, Notice)]

    def is_true_to(self, truth: bytes, name: str) -> bool:
        """Whether what was told of a VM is all of the truth, with gaps as long as what is missing."""
        place = 0
        for told in self.told:
            if told.vm != name or not isinstance(told.item, Chunk):
                continue
            content = told.item.content
            if isinstance(content, Gap):
                place += content.skipped or 0
            elif isinstance(content, Text):
                if truth[place : place + len(content.data)] != content.data:
                    return False
                place += len(content.data)
        return place == len(truth)


def test_lines_come_in_the_order_of_publication_and_then_of_arrival() -> None:
    logs = Logs()
    for number in range(3):
        logs.say("web", b"web %d\n" % number)
        logs.say("db", b"db %d\n" % number)
    reader = logs.follow("db", "web").poll()
    assert [told.vm for told in reader.told] == ["web", "db"] * 3
    logs.say("db", b"later\n")
    reader.poll()
    assert reader.told[-1].vm == "db"


def move(logs: Logs, name: str, source: str, target: str) -> None:
    logs.publish(name, Marker(Event.MOVED, source, target), writer=target)


def test_a_reader_of_a_node_gets_what_its_vms_print_there_and_what_brings_and_takes_them() -> None:
    logs = Logs()
    logs.say("web", b"one\n")
    logs.say("ci", b"elsewhere\n", writer="hv2")
    reader = logs.follow(node="hv1").poll()
    assert (reader.text("web"), reader.text("ci")) == (b"one\n", b"")
    logs.admin.commit([Create(core_keys.node_vm("hv1", uuid_of("ci")))])  # it is ordered to hv1
    reader.poll()
    logs.say("ci", b"still elsewhere\n", writer="hv2")
    reader.poll()
    move(logs, "ci", "hv2", "hv1")
    logs.say("ci", b"here\n")
    reader.poll()
    assert reader.text("ci") == b"here\n"
    assert Marker(Event.MOVED, "hv2", "hv1") in reader.markers("ci")


def test_a_vm_that_is_away_from_its_home_is_not_heard_there_until_it_is_back() -> None:
    logs = Logs()
    logs.say("web", b"one\n")
    reader = logs.follow(node="hv1").poll()
    for there in (b"two\n", b"three\n"):
        move(logs, "web", "hv1", "hv2")
        logs.say("web", there, writer="hv2")
        move(logs, "web", "hv2", "hv1")
        logs.say("web", b"home\n")
        if there == b"two\n":
            reader.poll()
    assert reader.poll().text("web") == b"one\nhome\nhome\n"
    assert len(reader.markers("web")) == 4


def test_a_vm_whose_markers_are_missing_is_where_its_log_is_written() -> None:
    logs = Logs()
    logs.say("web", b"one\n")
    reader = logs.follow(node="hv1").poll()
    logs.say("web", b"unnoticed\n", writer="hv2")
    reader.poll()
    logs.say("web", b"two\n", writer="hv2")
    reader.poll()
    logs.say("web", b"unheard\n", writer="hv1")
    reader.poll()
    logs.say("web", b"three\n", writer="hv1")
    assert reader.poll().text("web") == b"one\nunnoticed\nthree\n"


def test_a_vm_that_leaves_the_node_for_good_is_followed_to_its_last_word_there() -> None:
    logs = Logs()
    logs.say("web", b"one\n")
    reader = logs.follow(node="hv1").poll()
    logs.admin.commit([Delete(core_keys.node_vm("hv1", uuid_of("web")))])
    reader.poll()
    logs.publish("web", Text(b"last\n"), Marker(Event.MOVED, "hv1", "hv2"), writer="hv2")
    assert reader.poll().text("web") == b"one\nlast\n"
    reads = reader.count_calls()
    logs.say("web", b"over there\n", writer="hv2")
    reader.poll()
    logs.say("web", b"and further\n", writer="hv2")
    reader.poll()
    assert reader.text("web") == b"one\nlast\n"
    assert reads == []
    assert not reader.following.ended


def test_a_vm_that_was_named_is_followed_wherever_it_goes() -> None:
    logs = Logs()
    reader = logs.follow("web", node="hv1").poll()
    logs.admin.commit([Delete(core_keys.node_vm("hv1", uuid_of("web")))])
    logs.say("web", b"over there\n", writer="hv2")
    assert reader.poll().text("web") == b"over there\n"


def test_reading_ends_when_the_last_of_the_vms_is_undefined() -> None:
    logs = Logs()
    logs.say("web", b"one\n")
    logs.say("db", b"two\n")
    reader = logs.follow("web", "db").poll()
    logs.undefine("web")
    assert not reader.poll().following.ended
    logs.undefine("db")
    assert reader.poll().following.ended
    assert reader.notices()[-1] == ("db", "the VM is no longer defined; its log is gone")


def test_a_log_that_was_deleted_and_begun_anew_is_read_from_its_beginning() -> None:
    logs = Logs()
    logs.say("web", b"one\n")
    reader = logs.follow("web").poll()
    logs.delete("web")
    logs.say("web", b"two\n")
    reader.poll()
    assert reader.text("web") == b"one\ntwo\n"
    assert reader.notices() == [("web", "the log was deleted and begun anew")]


def test_a_log_that_is_garbage_does_not_stop_the_others() -> None:
    logs = Logs()
    logs.say("web", b"one\n")
    logs.say("db", b"two\n")
    logs.admin.commit([Put(keys.console(uuid_of("web")), b"garbage")])
    reader = logs.follow("web", "db").poll()
    assert reader.text("db") == b"two\n"
    assert reader.following.garbage == 1
    assert reader.notices()[0][1].startswith("its log is not followed any more: ")


def test_a_writer_that_falls_silent_is_named_with_the_age_of_what_is_there_and_so_is_its_return() -> None:
    logs = Logs()
    logs.say("web", b"one\n")
    reader = logs.follow("web").poll()
    logs.world.run_for(200.0)
    logs.admin.commit([Delete(core_keys.node_session("hv1"))])
    reader.poll()
    assert reader.notices()[0][1].startswith("node hv1, which writes this log, does not answer; last output 3 min ago")
    logs.admin.commit([Create(core_keys.node_session("hv1"))])
    reader.poll()
    assert reader.notices()[1:] == [("web", "its log is written again, by node hv1")]


def test_of_a_vm_that_was_stopped_nothing_is_missing_when_its_node_dies() -> None:
    logs = Logs()
    logs.publish("web", Text(b"one\n"), Marker(Event.STOPPED, "hv1"), closed=True)
    logs.admin.commit([Delete(core_keys.node_session("hv1"))])
    assert logs.follow("web").poll().notices() == []


def test_a_lost_connection_is_said_once_waited_out_and_read_on_from_where_it_was() -> None:
    logs = Logs()
    for name in NAMES:
        logs.say(name, b"before\n")
    reader = logs.follow(*NAMES).poll()
    reader.session.expire()
    reader.poll().poll()
    for name in NAMES:
        logs.say(name, b"meanwhile\n")
    assert reader.poll().notices() == [("", "no connection to the cluster; waiting for it")]
    reader.session.resume()
    reader.poll()
    assert reader.notices()[1:] == [("", "connected to the cluster again")]
    assert all(reader.text(name) == b"before\nmeanwhile\n" for name in NAMES)


@pytest.mark.parametrize("at_call", range(1, 9))
def test_a_connection_that_breaks_at_any_call_costs_no_word(at_call: int) -> None:
    logs = Logs()
    logs.admin.commit([Create("/nodes/hv2"), Create(core_keys.node_session("hv2"))])
    logs.say("web", b"one\n")
    logs.say("db", b"two\n", writer="hv2")
    reader = logs.follow("web", "db").poll()
    logs.say("web", b"three\n")
    logs.say("db", b"four\n", writer="hv2")
    logs.admin.commit([Delete(core_keys.node_session(node)) for node in ("hv1", "hv2")])
    calls = reader.count_calls()
    count = reader.session.latency

    def break_once() -> float:
        if len(calls) == at_call - 1:
            reader.session.suspend()
        return count()

    reader.session.latency = break_once
    reader.poll()
    reader.session.resume()
    reader.poll()
    assert (reader.text("web"), reader.text("db")) == (b"one\nthree\n", b"two\nfour\n")
    silent = [name for name, notice in reader.notices() if "does not answer" in notice]
    assert sorted(silent) == ["db", "web"], reader.notices()


def test_a_watch_that_never_fires_is_made_up_for_by_a_slow_look() -> None:
    logs = Logs()
    logs.say("web", b"one\n")
    reader = logs.follow("web").poll()
    reader.session.lose_events(10)
    logs.say("web", b"two\n")
    assert reader.poll().text("web") == b"one\n"
    logs.runtime.spawn("reader", lambda: reader.following.wait(None))
    logs.world.run_for(SLOW_LOOK)
    assert reader.poll().text("web") == b"one\ntwo\n"


def test_a_change_of_one_log_costs_no_reads_of_the_others() -> None:
    logs = Logs()
    for name in NAMES:
        logs.say(name, b"one\n")
    reader = logs.follow(*NAMES).poll()
    calls = reader.count_calls()
    logs.say("db", b"two\n")
    reader.poll()
    assert len(calls) == 2  # the header, and the chunks at once


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 1 << 32))
def test_a_reader_that_races_with_the_ring_is_told_of_all_that_escapes_it(seed: int) -> None:
    logs = Logs()
    chance = Random(seed)
    reader = logs.follow(*NAMES).poll()
    reader.session.latency = lambda: chance.uniform(0.0, 0.2)

    def read() -> None:
        while True:
            reader.told += reader.following.poll()
            reader.following.wait(1.0)

    logs.runtime.spawn("reader", read)
    for _ in range(60):
        name = chance.choice(NAMES)
        logs.publish(name, *(Text(b"%d\n" % chance.randrange(1 << 30)) for _ in range(chance.randrange(1, 30))))
        logs.world.run_for(chance.uniform(0.0, 0.1))
    logs.world.run_for(10.0)
    assert all(reader.is_true_to(logs.truth[name], name) for name in NAMES), reader.told
    logs.runtime.kill()


OPS = st.sampled_from(
    ["say", "say", "say", "flood", "poll", "cut", "mend", "expire", "restart", "gap", "leave", "come"]
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(OPS, st.sampled_from(NAMES), st.integers(1, 60)), max_size=60), st.booleans())
def test_whatever_happens_every_follower_gets_what_was_kept_once_and_in_order_with_true_gaps(
    steps: list[tuple[str, str, int]], late: bool
) -> None:
    logs = Logs()
    # One reader is there from the first byte on, one comes in the middle, one follows the node besides.
    readers = [logs.follow(*NAMES).poll(), logs.follow(*NAMES, node="hv1").poll()]
    joined: tuple[Reader, dict[str, bytes]] | None = None
    for count, (op, name, number) in enumerate(steps):
        if late and count == len(steps) // 2:
            before = dict(logs.truth)
            joined = logs.follow(*NAMES, start=Start(0)).poll(), before
            readers.append(joined[0])
        _play(logs, readers[number % len(readers)], op, name, number)
    for reader in readers:
        reader.session.resume()
        reader.poll()
    for reader in readers[:2]:
        assert all(reader.is_true_to(logs.truth[name], name) for name in NAMES), reader.told
        assert all(gap.loss is not Loss.RING or gap.skipped for name in NAMES for gap in reader.gaps(name))
    if joined is not None:
        for name in NAMES:
            assert joined[0].is_true_to(logs.truth[name][len(joined[1][name]) :], name)


def _play(logs: Logs, reader: Reader, op: str, name: str, number: int) -> None:
    if op == "say":
        logs.say(name, b"%s %d of %d bytes" % (name.encode(), len(logs.truth[name]), number) + b"\n" * (number % 3))
    elif op == "flood":
        logs.publish(name, *(Text(b"%d\n" % (len(logs.truth[name]) + each)) for each in range(number)))
    elif op == "restart":
        logs.publish(name, Marker(Event.CRASHED, "hv1"), Marker(Event.STARTED, "hv2"), writer="hv2")
    elif op == "gap":
        logs.publish(name, Gap(number, Loss.RATE))
        logs.truth[name] += b"?" * number
    elif op == "poll":
        reader.poll()
    elif op == "cut":
        reader.session.suspend()
    elif op == "mend":
        reader.session.resume()
    elif op == "expire":
        reader.session.expire()
    else:
        _change_place(logs, uuid_of(name), op == "come")


def _change_place(logs: Logs, uuid: str, comes: bool) -> None:
    path = core_keys.node_vm("hv1", uuid)
    is_there = logs.admin.get(path) is not None
    if comes and not is_there:
        logs.admin.commit([Create(path)])
    elif is_there and not comes:
        logs.admin.commit([Delete(path)])
