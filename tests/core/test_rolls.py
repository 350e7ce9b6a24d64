"""The record of a roll: one client at a time writes it, whatever becomes of sessions and answers."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from pvc.core import keys
from pvc.core.coordination import Conflict, Create, Disconnected, Op, Put
from pvc.core.model import NodeSession
from pvc.core.records import decode, encode
from pvc.core.rolls import (
    Driver,
    HeldRoll,
    Roll,
    RollExists,
    RollNode,
    RollOptions,
    RollState,
    RollTaken,
    forget_roll,
    read_driver,
    read_roll,
)
from pvc.testing.coordinator import FakeCoordinator, FakeEnsemble
from pvc.testing.runtime import World

ROLL = Roll("r1", "root@a", 5.0, RollOptions("true"), (RollNode("hv1"), RollNode("hv2")))
FLUSHING = replace(ROLL, nodes=(RollNode("hv1", RollState.FLUSHING), RollNode("hv2")))
FLUSHED = replace(ROLL, nodes=(RollNode("hv1", RollState.FLUSHED), RollNode("hv2")))


class Site:
    def __init__(self) -> None:
        self.world = World()
        self.ensemble = FakeEnsemble(self.world.process("servers"))
        self.a, self.b = self.ensemble.connect("a"), self.ensemble.connect("b")

    def held(self, session: FakeCoordinator, by: str) -> HeldRoll:
        return HeldRoll(session, self.world.process(by), Driver(by, 1))

    def begun(self) -> HeldRoll:
        held = self.held(self.a, "a")
        held.begin(ROLL)
        return held

    def taken(self) -> HeldRoll:
        found = read_roll(self.b)
        assert found is not None
        held = self.held(self.b, "b")
        held.take(found[0], found[1].version, found[0])
        return held

    def roll(self) -> Roll | None:
        found = read_roll(self.b)
        return found[0] if found else None

    def driver(self) -> str | None:
        found = read_driver(self.b)
        return found[0].by if found else None


@pytest.fixture
def site() -> Site:
    return Site()


def test_a_roll_is_read_as_it_was_written(site: Site) -> None:
    held = site.begun()
    session = NodeSession("hv1", 7, "boot", "1")
    new = replace(ROLL, nodes=(RollNode("hv1", RollState.RUNNING, 6.0, "op", session, 3, "why"), RollNode("hv2")))
    held.write(new)
    assert site.roll() == held.roll == new
    assert site.driver() == "a"


def test_there_is_one_roll_in_a_cluster(site: Site) -> None:
    site.begun()
    with pytest.raises(RollExists):
        site.held(site.b, "b").begin(ROLL)


def test_one_client_drives(site: Site) -> None:
    site.begun()
    with pytest.raises(RollTaken, match="driven by a, process 1"):
        site.taken()
    site.a.close()
    site.taken()
    assert site.driver() == "b"


def test_who_has_lost_its_session_drives_on_if_nobody_else_does(site: Site) -> None:
    held = site.begun()
    site.a.expire()
    site.a.resume()
    assert site.driver() is None
    held.write(FLUSHING)
    assert (site.driver(), site.roll()) == ("a", FLUSHING)


def test_who_has_lost_its_session_cannot_write_once_another_has_taken_over(site: Site) -> None:
    held = site.begun()
    site.a.expire()
    site.a.resume()
    other = site.taken()
    with pytest.raises(RollTaken, match="driven by b"):
        held.write(FLUSHING)
    site.b.close()
    site.b = site.ensemble.connect("b")
    with pytest.raises(RollTaken, match="somebody else"):  # by the version, though nobody drives now
        held.write(FLUSHING)
    with pytest.raises(RollTaken):
        held.end()
    assert site.roll() == other.roll


def test_a_roll_that_is_another_is_not_written_though_its_version_is_the_same(site: Site) -> None:
    held = site.begun()
    site.a.expire()
    site.a.resume()
    found = read_roll(site.b)
    assert found is not None
    forget_roll(site.b, found[1])
    site.b.commit([Create(keys.roll(), encode(replace(ROLL, id="r2")))])
    with pytest.raises(RollTaken):
        held.write(FLUSHING)


@pytest.mark.parametrize("arrived", [True, False])
def test_a_lost_answer_is_found_out(site: Site, arrived: bool) -> None:
    held = site.begun()
    site.a.lose_next_commit(arrived)
    held.write(FLUSHING, [Create("/along")])
    held.write(FLUSHED)
    assert site.roll() == FLUSHED
    assert site.b.get("/along") is not None


def test_a_write_waits_for_zookeeper(site: Site) -> None:
    held = site.begun()
    done: list[bool] = []
    site.ensemble.stop()

    def write() -> None:
        held.write(FLUSHING)
        done.append(True)

    site.world.process("a").spawn("write", write)
    site.world.run_for(60.0)
    assert not done
    site.ensemble.start()
    assert site.world.run_until(lambda: bool(done), 60.0)
    assert site.roll() == FLUSHING


def test_a_write_does_not_wait_for_ever(site: Site) -> None:
    held = site.begun()
    failed: list[str] = []

    def write() -> None:
        try:
            held.write(FLUSHING)
        except Disconnected as error:
            failed.append(str(error))

    site.ensemble.stop()
    site.world.process("a").spawn("write", write)
    assert site.world.run_until(lambda: bool(failed), 700.0)
    assert "for 600 s" in failed[0]


def test_what_goes_along_is_done_with_it_or_not_at_all(site: Site) -> None:
    held = site.begun()
    with pytest.raises(Conflict):
        held.write(FLUSHING, [Put("/missing", b"")])
    assert site.roll() == held.roll == ROLL


@pytest.mark.parametrize("arrived", [True, False])
def test_the_end_removes_the_record_though_its_answer_is_lost(site: Site, arrived: bool) -> None:
    held = site.begun()
    held.write(FLUSHING)
    site.a.lose_next_commit(arrived)
    held.end()
    assert (site.roll(), site.driver()) == (None, None)


def test_the_end_comes_also_to_a_client_whose_session_was_lost(site: Site) -> None:
    held = site.begun()
    site.a.expire()
    site.a.resume()
    held.end()
    assert site.roll() is None


def test_a_roll_that_is_driven_is_not_forgotten(site: Site) -> None:
    found = (site.begun(), read_roll(site.b))[1]
    assert found is not None
    with pytest.raises(RollTaken):
        forget_roll(site.b, found[1])
    site.a.close()
    forget_roll(site.b, found[1])
    assert site.roll() is None


def test_a_roll_that_changed_since_it_was_read_is_not_forgotten(site: Site) -> None:
    held = site.begun()
    found = read_roll(site.b)
    assert found is not None
    held.write(FLUSHING)
    site.a.close()
    with pytest.raises(RollTaken):
        forget_roll(site.b, found[1])


def test_a_record_of_a_newer_version_is_readable() -> None:
    data = encode(ROLL).replace(b'"id":', b'"later":1,"id":')
    assert decode(Roll, data, keys.roll()) == ROLL


class Counting:
    """What was committed, by whom."""

    def __init__(self, ensemble: FakeEnsemble) -> None:
        self.seen: list[tuple[str, tuple[str, ...]]] = []
        ensemble.on_commit.append(self)

    def __call__(self, session: str, ops: Sequence[Op], created: tuple[str, ...]) -> None:
        self.seen.append((session, tuple(op.path for op in ops)))


def test_every_write_checks_the_driver(site: Site) -> None:
    counting = Counting(site.ensemble)
    held = site.begun()
    held.write(FLUSHING)
    assert counting.seen[-1] == ("a", (keys.roll_driver(), keys.roll()))
