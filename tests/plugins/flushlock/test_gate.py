"""The flush lock's gates of several nodes on one tree."""

import logging
from dataclasses import dataclass, replace

import pytest

from pvc.core.coordination import Conflict, Create, Delete, Put
from pvc.core.mirror import LOOK_AFRESH, Mirror
from pvc.core.model import Operation, OperationKind
from pvc.core.tree import tree_ops
from pvc.core.turns import Entered, Waiting
from pvc.plugins.flushlock import keys
from pvc.plugins.flushlock.gate import FlushLock
from pvc.plugins.flushlock.tickets import read_queue
from pvc.testing.coordinator import FakeCoordinator, FakeEnsemble
from pvc.testing.runtime import World


@dataclass
class Daemon:
    """One node's session, its gate and its operation."""

    session: FakeCoordinator
    gate: FlushLock
    operation: Operation

    def enter(self) -> str:
        """What the gate answers: "entered", or how many are before us."""
        answer = self.gate.enter(self.operation)
        return "entered" if isinstance(answer, Entered) else str(getattr(answer, "place", answer))

    def commit(self, path: str) -> None:
        """A transaction under the gate's guard."""
        self.session.commit([*self.gate.guard(self.operation), Create(path)])

    def leave(self) -> None:
        self.gate.leave(self.operation)


class Site:
    def __init__(self) -> None:
        self.world = World()
        self.ensemble = FakeEnsemble(self.world.process("servers"), expire_after=10.0)
        self.admin = self.ensemble.connect("admin")
        self.admin.commit(tree_ops())

    def daemon(self, node: str, concurrent: int = 1, operation: str = "") -> Daemon:
        session = self.ensemble.connect(node)
        process = self.world.process(node)
        mirror = Mirror(session, process, process.signal())
        wanted = Operation(operation or f"op-{node}", OperationKind.FLUSH, node, "root", requested=50.0)
        return Daemon(session, FlushLock(session, mirror, logging.getLogger("test"), lambda: concurrent), wanted)

    def queue(self) -> list[str]:
        return [place.ticket.node if place.ticket else "?" for place in read_queue(self.admin)]


@pytest.fixture
def site() -> Site:
    return Site()


def test_first_come_first_served_whoever_asks_most_often(site: Site) -> None:
    one, two, three = site.daemon("hv1"), site.daemon("hv2"), site.daemon("hv3")
    assert [one.enter(), two.enter(), three.enter()] == ["entered", "1", "2"]
    assert [three.enter(), three.enter(), two.enter()] == ["2", "2", "1"]
    one.leave()
    assert [three.enter(), two.enter()] == ["1", "entered"]
    two.leave()
    assert three.enter() == "entered"
    assert site.queue() == ["hv3"]


def test_who_waits_is_told_for_whom(site: Site) -> None:
    one, two = site.daemon("hv1"), site.daemon("hv2")
    one.enter()
    answer = two.gate.enter(two.operation)
    assert answer == Waiting("the flush lock is held by the flush of hv1 by root", 1, 50.0)


def test_entering_again_draws_no_second_ticket(site: Site) -> None:
    one = site.daemon("hv1")
    assert [one.enter() for _ in range(3)] == ["entered"] * 3
    assert site.queue() == ["hv1"]


def test_with_two_allowed_two_go_and_the_third_waits(site: Site) -> None:
    daemons = [site.daemon(f"hv{i}", concurrent=2) for i in range(1, 5)]
    assert [daemon.enter() for daemon in daemons] == ["entered", "entered", "2", "3"]
    daemons[1].leave()
    assert [daemon.enter() for daemon in daemons[2:]] == ["entered", "2"]


def test_a_ticket_dies_with_its_session_and_the_next_one_goes(site: Site) -> None:
    one, two = site.daemon("hv1"), site.daemon("hv2")
    assert [one.enter(), two.enter()] == ["entered", "1"]
    one.session.crash()
    assert two.enter() == "1"
    site.world.run_for(11)
    assert two.enter() == "entered"


def test_the_holder_can_commit_nothing_once_its_ticket_is_gone(site: Site) -> None:
    one, two = site.daemon("hv1"), site.daemon("hv2")
    one.enter()
    two.enter()
    one.commit("/vms/a")
    one.session.suspend()
    site.world.run_for(11)
    assert two.enter() == "entered"
    one.session.resume()
    with pytest.raises(Conflict):
        one.commit("/vms/b")
    assert one.enter() == "1"
    with pytest.raises(Conflict):
        one.commit("/vms/b")
    two.commit("/vms/c")
    assert site.admin.children("/vms") == ("a", "c")


def test_who_only_waits_can_commit_nothing(site: Site) -> None:
    one, two = site.daemon("hv1"), site.daemon("hv2")
    one.enter()
    two.enter()
    with pytest.raises(Conflict):
        two.commit("/vms/a")
    with pytest.raises(Conflict):
        site.daemon("hv3").commit("/vms/a")


def test_nobody_can_commit_after_leaving(site: Site) -> None:
    one = site.daemon("hv1")
    one.enter()
    one.leave()
    with pytest.raises(Conflict):
        one.commit("/vms/a")


def test_a_restarted_daemon_takes_over_its_ticket_in_place(site: Site) -> None:
    one, two = site.daemon("hv1"), site.daemon("hv2")
    assert [one.enter(), two.enter()] == ["entered", "1"]
    one.session.crash()
    again = site.daemon("hv1")
    assert again.enter() == "entered"
    assert site.queue() == ["hv1", "hv2"]
    site.world.run_for(60)  # the old session expires; the ticket is the new one's
    assert [again.enter(), two.enter()] == ["entered", "1"]
    again.commit("/vms/a")


def test_a_restarted_daemon_keeps_its_place_in_the_queue_too(site: Site) -> None:
    one, two, three = (site.daemon(f"hv{i}") for i in range(1, 4))
    assert [one.enter(), two.enter(), three.enter()] == ["entered", "1", "2"]
    two.session.crash()
    again = site.daemon("hv2")
    assert again.enter() == "1"
    site.world.run_for(60)
    one.leave()
    assert [three.enter(), again.enter()] == ["1", "entered"]


def test_a_ticket_that_expires_while_it_is_taken_over_is_drawn_anew(site: Site) -> None:
    one, two = site.daemon("hv1"), site.daemon("hv2")
    assert [one.enter(), two.enter()] == ["entered", "1"]
    one.session.crash()
    again = site.daemon("hv1")
    reads = 3  # the queue and its two tickets; what comes then is the take-over
    calls = 0

    def expire_in_between() -> float:
        nonlocal calls
        calls += 1
        if calls == reads + 1:
            site.world.run_for(30)
        return 0.0

    again.session.latency = expire_in_between
    assert again.enter() == "1"
    assert calls > reads + 1
    assert site.queue() == ["hv2", "hv1"]


def test_a_ticket_that_cannot_be_read_keeps_its_place(site: Site) -> None:
    one, two = site.daemon("hv1"), site.daemon("hv2")
    one.enter()
    two.enter()
    (first, _) = site.admin.children(keys.QUEUE) or ()
    site.admin.commit([Put(keys.ticket(first), b"junk")])
    answer = two.gate.enter(two.operation)
    assert isinstance(answer, Waiting)
    assert (answer.place, answer.text) == (1, f"the flush lock is held by ticket {first}, which cannot be read")
    assert one.enter() == "2"
    site.admin.commit([Delete(keys.ticket(first))])
    assert two.enter() == "entered"


def test_leaving_lets_go_of_tickets_of_earlier_sessions_as_well(site: Site) -> None:
    one = site.daemon("hv1")
    one.enter()
    one.session.crash()
    site.daemon("hv1").leave()
    assert site.queue() == []


def test_leaving_touches_nobody_elses_ticket(site: Site) -> None:
    one, two = site.daemon("hv1"), site.daemon("hv2")
    one.enter()
    two.leave()
    two.leave()
    assert site.queue() == ["hv1"]


def test_a_new_operation_of_the_node_goes_to_the_end_of_the_queue(site: Site) -> None:
    one, two = site.daemon("hv1"), site.daemon("hv2")
    one.enter()
    two.enter()
    one.leave()
    one.operation = replace(one.operation, id="another")
    assert [one.enter(), two.enter()] == ["1", "entered"]


def test_the_gate_wakes_the_operation_when_the_queue_changes(site: Site) -> None:
    session = site.ensemble.connect("hv2")
    process = site.world.process("hv2")
    wake = process.signal()
    gate = FlushLock(session, Mirror(session, process, wake), logging.getLogger("test"), lambda: 1)
    one = site.daemon("hv1")
    one.enter()
    woken: list[float] = []

    def wait() -> None:
        gate.enter(replace(one.operation, id="op-hv2", node="hv2"))
        while wake.wait(None):
            woken.append(site.world.time)
            gate.enter(replace(one.operation, id="op-hv2", node="hv2"))

    process.spawn("wait", wait)
    site.world.run_for(5)
    woken.clear()
    one.leave()
    site.world.run_for(0.1)
    assert woken == [5.0]
    process.kill()


def test_a_change_whose_news_got_lost_is_seen_all_the_same_a_while_later(site: Site) -> None:
    one, two = site.daemon("hv1"), site.daemon("hv2")
    assert [one.enter(), two.enter()] == ["entered", "1"]
    two.session.lose_events(100)
    one.leave()
    assert two.enter() == "1"
    site.world.run_for(LOOK_AFRESH)
    assert two.enter() == "entered"
