"""Taking turns as an administrator sees it: the queue, leaving it, and the lock's health in `pvc status`."""

import logging

import pytest

from pvc.cli.application import STATUS, Application
from pvc.cli.exits import CANCELLED, OPERATION_FAILED
from pvc.core import keys
from pvc.core.commands import DuplicateCommand
from pvc.core.config.document import Document
from pvc.core.coordination import Coordinator, Disconnected, Put
from pvc.core.plugins import Plugins
from pvc.core.threads import ThreadRuntime
from pvc.plugins.flushlock import keys as lock_keys
from pvc.testing.coordinator import FakeEnsemble
from pvc.testing.runtime import World
from tests.cli.conftest import Keyboard


def line(keyboard: Keyboard) -> list[tuple[int, str, bool]]:
    """The queue: place, node, and whether there is a ticket."""
    rows = keyboard.type("node", "queue", "--format", "json").rows
    return [(row["place"], row["node"], row["ticket"] is not None) for row in rows]


def troubles(keyboard: Keyboard) -> list[str]:
    rows = keyboard.type("status", "--format", "json").rows["flush_lock_problems"]
    return [row["text"] for row in rows]


def test_who_waits_for_an_unflush_is_in_the_queue_without_a_ticket(limited: Keyboard) -> None:
    limited.type("node", "flush", "hv1", "--wait")
    limited.begin("node", "flush", "hv3", "--wait", "--reason", "new disk")
    limited.cluster.run(0.5)
    limited.begin("node", "unflush", "hv1")
    limited.cluster.run(0.5)
    assert line(limited) == [(0, "hv1", True), (1, "hv3", False)]
    row = limited.type("node", "queue", "--format", "json").rows[1]
    assert row["doing"].startswith("hv1 is unflushing") and row["reason"] == "new disk"
    table = limited.type("node", "queue").out.splitlines()
    assert table[0].endswith("EXPECTED END") and len(table) == 3


def test_after_a_first_flush_the_queue_says_when_the_next_may_end(keyboard: Keyboard) -> None:
    keyboard.type("node", "flush", "hv1", "--wait")
    keyboard.type("node", "unflush", "hv1", "--wait")
    keyboard.begin("node", "flush", "hv1", "--wait")
    keyboard.cluster.run(0.3)
    keyboard.begin("node", "flush", "hv2", "--wait")
    keyboard.cluster.run(0.3)
    first, second = keyboard.type("node", "queue", "--format", "json").rows
    assert first["expected_end"] > keyboard.cluster.client_process.now()
    ended = keyboard.cluster.finish("hv1").finished
    assert ended is not None and abs(first["expected_end"] - ended) < 0.5
    assert second["expected_end"] is None


@pytest.mark.parametrize("how", [(), ("--now",)])
def test_a_flush_that_is_cancelled_leaves_the_queue_wherever_it_waits(limited: Keyboard, how: tuple[str, ...]) -> None:
    limited.cluster.ask("flush", "hv1")
    limited.cluster.run(0.1)
    at_the_lock = limited.begin("node", "unflush", "hv2", "--wait")
    at_the_limit = limited.begin("node", "flush", "hv3", "--wait")
    limited.cluster.run(0.3)
    assert line(limited) == [(0, "hv1", True), (1, "hv2", True), (2, "hv3", False)]
    for node in ("hv2", "hv3"):
        assert limited.type("node", "cancel", node, *how).code == 0
    assert limited.cluster.run_until(lambda: None not in (at_the_lock.code, at_the_limit.code), 10.0)
    assert (at_the_lock.code, at_the_limit.code) == (CANCELLED, CANCELLED)
    tickets = limited.cluster.client.children
    assert limited.cluster.run_until(lambda: len(tickets(lock_keys.QUEUE) or ()) == 1, 10.0)
    assert line(limited) == [(0, "hv1", True)]


def test_who_does_not_want_to_queue_is_told_what_is_out_of_service(limited: Keyboard) -> None:
    limited.type("node", "flush", "hv1", "--wait")
    said = limited.type("node", "flush", "hv2", "--wait", "--no-queue")
    assert said.code == OPERATION_FAILED
    assert "did not want to queue: hv1 is flushed: 1 node is out of service" in said.out


def test_status_tells_who_holds_the_lock_and_how_many_wait(keyboard: Keyboard) -> None:
    assert keyboard.type("status", "--format", "json").rows["flush_lock"] == "free"
    keyboard.begin("node", "flush", "hv1", "--wait")
    keyboard.cluster.run(0.3)
    keyboard.begin("node", "flush", "hv2", "--wait")
    keyboard.cluster.run(0.3)
    held = keyboard.type("status", "--format", "json").rows["flush_lock"]
    assert held.startswith("held by the flush of hv1 by ") and held.endswith(": 0 of 2 moved; 1 waiting")
    assert troubles(keyboard) == []


def test_status_reports_a_flush_that_waits_at_the_limit(limited: Keyboard) -> None:
    limited.type("node", "flush", "hv1", "--wait")
    limited.type("node", "flush", "hv2")
    limited.cluster.run(1.0)
    assert limited.type("status", "--format", "json").rows["flush_lock"] == "free; 1 waiting"
    (text,) = troubles(limited)
    assert text.startswith("the flush of hv2 waits: hv1 is flushed") and "`pvc node unflush hv1` makes room" in text


def test_status_reports_a_ticket_that_cannot_be_read_and_a_holder_that_is_silent(keyboard: Keyboard) -> None:
    keyboard.begin("node", "flush", "hv1", "--wait")
    keyboard.cluster.run(0.3)
    (ticket,) = keyboard.cluster.client.children(lock_keys.QUEUE) or ()
    keyboard.cluster.client.commit([Put(lock_keys.ticket(ticket), b"junk")])
    row = keyboard.type("status", "--format", "json").rows
    assert row["flush_lock"].startswith("held by a ticket that cannot be read")
    assert f"ticket {ticket} cannot be read; it goes with the session of the daemon of hv1" in troubles(keyboard)[0]
    keyboard.cluster.kill_daemon("hv1")
    keyboard.cluster.run(15.0)
    assert troubles(keyboard) == ["the flush of hv1 stands still: its daemon does not answer; start pvcd there"]


def test_status_reports_settings_that_differ(keyboard: Keyboard) -> None:
    path = keys.node_facts("hv2")
    znode = keyboard.cluster.client.get(path)
    assert znode is not None and b'"flushlock.concurrent":"1"' in znode.data
    other = znode.data.replace(b'"flushlock.concurrent":"1"', b'"flushlock.concurrent":"2"')
    keyboard.cluster.client.commit([Put(path, other)])
    (text,) = troubles(keyboard)
    assert text.startswith("flushlock.concurrent differs: 1 on hv1, hv3; 2 on hv2")
    shown = keyboard.type("status").out
    assert "flush lock problems:" in shown and "2 on hv2" in shown


@pytest.fixture
def application() -> Application:
    return Application(ThreadRuntime(), Document(), Plugins(logging.getLogger()))


@pytest.mark.parametrize("name", ["mine", *STATUS])
def test_a_second_field_of_one_name_in_the_status_is_refused(application: Application, name: str) -> None:
    if name == "mine":
        application.status_part(name, lambda _coordinator: "fine")
    with pytest.raises(DuplicateCommand, match=name):
        application.status_part(name, lambda _coordinator: "fine")


def test_the_fields_that_plugins_may_not_take_are_those_of_the_status(keyboard: Keyboard) -> None:
    row = keyboard.type("status", "--format", "json").rows
    assert set(row) == {*STATUS, "flush_lock", "flush_lock_problems"}


def test_a_part_of_the_status_that_fails_hides_nothing_else(application: Application) -> None:
    def fails(coordinator: Coordinator) -> str:
        raise ValueError("a defect")

    application.status_part("bad", fails)
    application.status_part("good", lambda _coordinator: "fine")
    coordinator = FakeEnsemble(World().process("servers")).connect("client")
    assert application.status_parts(coordinator) == {"bad": "cannot be shown: a defect", "good": "fine"}


def test_a_cluster_that_does_not_answer_is_no_failure_of_a_part(application: Application) -> None:
    ensemble = FakeEnsemble(World().process("servers"))
    coordinator = ensemble.connect("client")
    application.status_part("part", lambda cluster: cluster.children("/"))
    ensemble.stop()
    with pytest.raises(Disconnected):
        application.status_parts(coordinator)
