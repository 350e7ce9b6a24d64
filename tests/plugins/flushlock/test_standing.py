"""How the lock stands, in words: who is listed in which order, when it may be over, what is reported as wrong."""

from dataclasses import replace

import pytest

from pvc.core.commands import when
from pvc.core.model import Operation, OperationKind, Outcome, OutcomeState, Phase
from pvc.plugins.flushlock.decide.queue import Place, ticket_of
from pvc.plugins.flushlock.decide.standing import (
    Member,
    concurrent,
    doing,
    entries,
    expected_ends,
    lock_in_words,
    problems,
)

NOW = 1000.0
FLUSH = Operation(id="op1", kind=OperationKind.FLUSH, node="hv1", by="root@x", requested=50.0, phase=Phase.MOVING)
VMS = {
    "a": Outcome("vm1", OutcomeState.MOVED, "hv1", "hv2", seconds=4.0, memory=100),
    "b": Outcome("vm2", OutcomeState.MOVING, "hv1", "hv2", since=NOW - 1, memory=100),
    "c": Outcome("vm3", OutcomeState.WAITING, "hv1", memory=200),
}
ALIKE = {"concurrent": "1", "max_flushed": "off"}


def member(number: int, operation: Operation | None = None, session: int | None = None) -> Member:
    return Member(f"hv{number}", number if session is None else session, True, ALIKE, operation)


def asked(number: int, **how: object) -> Operation:
    """A flush of node `number` that waits."""
    wanted = replace(FLUSH, id=f"op{number}", node=f"hv{number}", requested=50.0 + number, phase=Phase.QUEUED)
    return replace(wanted, **how)  # type: ignore[arg-type]  # fields of Operation


def place(number: int, operation: Operation | None, owner: int | None = None) -> Place:
    return Place(f"t{number}", number if owner is None else owner, ticket_of(operation) if operation else None)


def named(*members: Member) -> dict[str, Member]:
    return {each.name: each for each in members}


HOLDER = replace(FLUSH, outcomes=VMS)


def test_tickets_come_in_their_order_and_then_who_waits_elsewhere_by_request() -> None:
    third, second, fourth = asked(3), asked(2), asked(4, phase=Phase.DONE)
    members = named(member(1, HOLDER), member(2, second), member(3, third), member(4, fourth), member(5, asked(5)))
    line = entries([place(1, HOLDER), place(5, asked(5))], members)
    assert [entry.ticket.node if entry.ticket else "?" for entry in line] == ["hv1", "hv5", "hv2", "hv3"]
    assert [entry.place is not None for entry in line] == [True, True, False, False]


@pytest.mark.parametrize(
    "in_hand", [None, asked(1, id="another"), replace(FLUSH, phase=Phase.DONE)], ids=["none", "another", "ended"]
)
def test_a_ticket_whose_operation_its_node_does_not_have_in_hand_has_none(in_hand: Operation | None) -> None:
    (first, *_) = entries([place(1, FLUSH)], named(member(1, in_hand)))
    assert first.operation is None and first.ticket is not None


def test_the_end_of_who_waits_comes_after_all_before_it() -> None:
    later = asked(2, outcomes={"c": VMS["c"]}, began=60.0)
    members = named(member(1, HOLDER), member(2, later), member(3, asked(3)), member(4, asked(4)))
    line = entries([place(1, HOLDER), place(2, later), place(3, asked(3))], members)
    assert expected_ends(line, [HOLDER], NOW) == [NOW + 11, NOW + 19, None, None]


def test_behind_somebody_whose_end_nobody_knows_it_is_unknown_too() -> None:
    known = asked(2, outcomes={"a": replace(VMS["a"], state=OutcomeState.WAITING)})
    line = entries([place(9, None), place(2, known)], named(member(2, known)))
    assert expected_ends(line, [HOLDER], NOW) == [None, None]


def test_the_lock_in_one_sentence() -> None:
    members = named(member(1, HOLDER), member(2, asked(2)), member(3, asked(3)))
    assert lock_in_words([], 1) == "free"
    line = entries([place(1, HOLDER), place(2, asked(2))], members)
    held = f"held by the flush of hv1 by root@x since {when(50.0)}: 1 of 3 moved"
    assert lock_in_words(line, 1) == f"{held}; 2 waiting"
    assert lock_in_words(line, 2) == f"{held}; held by the flush of hv2 by root@x since {when(52.0)}: queued; 1 waiting"
    assert lock_in_words(entries([], named(member(2, asked(2)))), 1) == "free; 1 waiting"
    assert lock_in_words(entries([place(1, None)], {}), 1) == "held by a ticket that cannot be read"


def test_how_many_go_together_is_what_the_nodes_that_answer_publish() -> None:
    silent = replace(member(3, session=0), settings={"concurrent": "7"})
    assert concurrent(named(member(1), replace(member(2), settings={"concurrent": "2"}), silent)) == 2
    assert concurrent({}) == 1


def test_what_an_operation_does() -> None:
    assert doing(HOLDER, member(1)) == "1 of 3 moved, moving vm2 -> hv2"
    assert doing(asked(1, waiting="hv2 is flushed"), member(1)) == "hv2 is flushed"
    assert doing(FLUSH, member(1)) == "moving"
    assert doing(HOLDER, member(1, session=0)) == "its daemon does not answer"


def said(queue: list[Place], *members: Member) -> list[tuple[str, str]]:
    found = problems(entries(queue, named(*members)), named(*members))
    return [(problem.node, problem.text) for problem in found]


def test_a_lock_that_goes_round_has_no_problems() -> None:
    assert said([place(1, HOLDER), place(2, asked(2))], member(1, HOLDER), member(2, asked(2)), member(3)) == []


PROBLEMS = [
    ("unreadable", [place(3, None)], member(3), "hv3", "t3 cannot be read; it goes with the session of the daemon of"),
    ("unreadable, of nobody", [place(9, None)], member(3), "", "a daemon that is gone; if it stays, delete it"),
    ("ended", [place(1, FLUSH)], member(1), "hv1", "its operation has ended or was replaced; it goes with the session"),
    ("silent holder", [place(1, FLUSH)], member(1, FLUSH, 0), "hv1", "its daemon does not answer; it goes when"),
    ("earlier session", [place(1, FLUSH, 8)], member(1, FLUSH), "hv1", "of an earlier session of the daemon"),
    ("waits at the limit", [], member(2, asked(2, waiting="hv1 is flushed")), "hv2", "the flush of hv2 waits: hv1 is"),
    ("stands still", [], member(1, FLUSH, 0), "hv1", "the flush of hv1 stands still: its daemon does not answer"),
]


@pytest.mark.parametrize(
    ("queue", "of", "node", "text"), [row[1:] for row in PROBLEMS], ids=[row[0] for row in PROBLEMS]
)
def test_what_is_wrong_with_the_lock_is_said(queue: list[Place], of: Member, node: str, text: str) -> None:
    ((at, words),) = said(queue, of)
    assert at == node
    assert text in words


def test_nodes_that_are_configured_differently_are_named() -> None:
    other = replace(member(2), settings={"concurrent": "2", "max_flushed": "off"})
    ((_, words),) = said([], member(1), other, member(3), replace(member(4, session=0), settings={"concurrent": "9"}))
    assert words == "flushlock.concurrent differs: 1 on hv1, hv3; 2 on hv2; make it the same in pvc.yaml on all nodes"


def test_nodes_that_take_no_turns_beside_those_that_do_are_named() -> None:
    without = replace(member(2), takes_turns=False, settings={})
    ((_, words),) = said([], member(1), without)
    assert words.startswith("hv2 flush without taking turns")
    assert said([], without) == []
