"""Who may go: the queue as a table, and what holds for every queue."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pvc.core.model import OperationKind
from pvc.plugins.flushlock.decide.queue import Draw, Hold, Place, Queue, Renew, Ticket, next_step

ME = 7
"""The present session."""


def place(number: int, operation: str | None, owner: int = 1) -> Place:
    ticket = None if operation is None else Ticket("hv1", operation, OperationKind.FLUSH, "root", 0.0)
    return Place(f"ticket-{number:010d}", owner, ticket)


MINE = place(5, "mine", ME)
OLD = place(5, "mine", 3)
JUNK = place(1, None)
A, B = place(2, "a"), place(3, "b")

TABLE = [
    ("an empty queue", [], 1, Draw()),
    ("only others", [A, B], 1, Draw()),
    ("alone", [MINE], 1, Hold(MINE.name)),
    ("first", [MINE, place(6, "c")], 1, Hold(MINE.name)),
    ("second of one", [A, MINE], 1, Queue(MINE.name, (A,))),
    ("second of two", [A, MINE], 2, Hold(MINE.name)),
    ("third of two", [A, B, MINE], 2, Queue(MINE.name, (A, B))),
    ("behind a ticket that cannot be read", [JUNK, MINE], 1, Queue(MINE.name, (JUNK,))),
    ("from an earlier session, first", [OLD], 1, Renew(OLD.name)),
    ("from an earlier session, waiting", [A, OLD], 1, Renew(OLD.name)),
    ("old and new: the old one's place", [OLD, place(9, "mine", ME)], 1, Renew(OLD.name)),
]


@pytest.mark.parametrize(("queue", "concurrent", "expected"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_next_step(queue: list[Place], concurrent: int, expected: object) -> None:
    assert next_step(queue, "mine", ME, concurrent) == expected


places = st.lists(
    st.tuples(st.none() | st.sampled_from(["a", "b", "c", "mine"]), st.sampled_from([1, 3, ME])), max_size=8
).map(lambda drawn: [place(number, operation, owner) for number, (operation, owner) in enumerate(drawn)])


@given(queue=places, concurrent=st.integers(1, 3))
def test_never_more_than_allowed_hold_it_together(queue: list[Place], concurrent: int) -> None:
    holders = 0
    for one in queue:
        if one.ticket is not None:
            step = next_step(queue, one.ticket.operation, one.owner, concurrent)
            holders += isinstance(step, Hold) and step.name == one.name
    assert holders <= concurrent


@given(queue=places, concurrent=st.integers(1, 3))
def test_a_ticket_of_an_earlier_session_never_counts(queue: list[Place], concurrent: int) -> None:
    step = next_step(queue, "mine", ME, concurrent)
    if isinstance(step, Hold | Queue):
        (owner,) = (one.owner for one in queue if one.name == step.name)
        assert owner == ME


@given(queue=places, concurrent=st.integers(1, 3))
def test_the_first_readable_ticket_of_a_live_session_goes_if_nothing_is_before_it(
    queue: list[Place], concurrent: int
) -> None:
    first = queue[0] if queue else None
    if first is not None and first.ticket is not None:
        assert isinstance(next_step(queue, first.ticket.operation, first.owner, concurrent), Hold)
