"""Who is the gateway of a network, as pure decisions."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as some

from pvc.core.model import Outcome, OutcomeState
from pvc.plugins.networking.gateway.decide.election import (
    READY_WITHIN,
    Act,
    Candidate,
    Standing,
    Ticket,
    Wanted,
    allot,
    next_act,
    objection,
    ranked,
)
from pvc.plugins.networking.gateway.decide.moves import Choice, restored, vacated
from pvc.plugins.networking.records import Gateway

ME = "hv1"
OTHERS = Gateway(node="hv2")
MINE = Gateway(node=ME)
HELD = Standing(True, MINE, Ticket.OURS)
AWAY = Standing(True, OTHERS, Ticket.THEIRS)
FREE = Standing(True, OTHERS, Ticket.NONE)


@pytest.mark.parametrize(
    ("standing", "act"),
    [
        (HELD, Act.HOLD),
        (replace(HELD, wanted=False), Act.RELEASE),
        (replace(HELD, record=replace(MINE, next="hv2"), next_lives=True), Act.HOLD),
        (replace(HELD, record=replace(MINE, next="hv2"), next_lives=True, ready="hv2"), Act.HAND_OVER),
        (replace(HELD, record=replace(MINE, next="hv2"), next_lives=True, ready="hv3"), Act.HOLD),
        (replace(HELD, record=replace(MINE, next="hv2"), ready="hv2"), Act.RECALL),
        (replace(HELD, record=replace(MINE, next="hv2"), next_lives=True, asked=READY_WITHIN), Act.RECALL),
        (replace(HELD, record=replace(MINE, next=ME), next_lives=True, ready=ME), Act.RECALL),
        (replace(HELD, ticket=Ticket.STALE), Act.RENEW),
        (AWAY, Act.LEAVE),
        (replace(AWAY, record=replace(OTHERS, next=ME)), Act.PREPARE),
        (replace(AWAY, record=replace(OTHERS, next="hv3")), Act.LEAVE),
        (replace(AWAY, wanted=False, record=replace(OTHERS, next=ME)), Act.LEAVE),
        (FREE, Act.ELECT),
        (replace(FREE, wanted=False), Act.LEAVE),
        (replace(FREE, record=replace(OTHERS, patience=10.0), orphaned=9.9), Act.LEAVE),
        (replace(FREE, record=replace(OTHERS, patience=10.0), orphaned=10.0), Act.ELECT),
        (replace(FREE, record=replace(OTHERS, patience=10.0, next=ME), orphaned=9.9), Act.PREPARE),
        (replace(FREE, record=replace(MINE, patience=10.0)), Act.TAKE),
        (replace(FREE, record=MINE), Act.ELECT),
    ],
)
def test_a_node_does_the_one_thing_that_is_due(standing: Standing, act: Act) -> None:
    assert next_act(ME, standing) is act


standings = some.builds(
    Standing,
    some.booleans(),
    some.builds(
        Gateway,
        some.sampled_from((None, ME, "hv2")),
        next=some.sampled_from((None, ME, "hv2")),
        patience=some.sampled_from((0.0, 10.0)),
    ),
    some.sampled_from(Ticket),
    some.sampled_from(("", ME, "hv2")),
    some.floats(0, 30),
    some.floats(0, 30),
    some.booleans(),
)


@given(standings)
def test_only_who_has_the_ticket_goes_on_and_only_where_nobody_has_one_is_it_drawn(standing: Standing) -> None:
    act = next_act(ME, standing)
    assert (standing.ticket is Ticket.OURS) == (act in (Act.HOLD, Act.HAND_OVER, Act.RECALL, Act.RELEASE))
    if act in (Act.TAKE, Act.ELECT):
        assert standing.ticket is Ticket.NONE
    if act in (Act.ELECT, Act.TAKE) and standing.record.node != ME:
        assert standing.orphaned >= standing.record.patience


def candidate(name: str, *, why_not: str = "", **problems: str) -> Candidate:
    return Candidate(name, why_not, False, {"lan": "", "two": "", "out": "", **problems})


NODES = [candidate("hv1"), candidate("hv2"), candidate("hv3")]


def test_all_orphans_at_once_are_spread_over_those_with_the_fewest() -> None:
    wanted = [Wanted(name) for name in ("lan", "two", "out")]
    assert allot(wanted, NODES, {}) == {"lan": "hv1", "out": "hv2", "two": "hv3"}
    assert allot(wanted, NODES, {"hv1": 2, "hv2": 1}) == {"lan": "hv3", "out": "hv2", "two": "hv3"}


def test_a_node_that_is_being_unflushed_has_only_what_it_was_asked_to_take() -> None:
    returning = replace(candidate("hv1", why_not="is unflushing"), returns=True)
    assert allot([Wanted("lan"), Wanted("two", first="hv1")], [returning], {}) == {"two": "hv1"}


def test_who_was_asked_has_it_and_who_did_not_take_it_is_passed_over() -> None:
    assert allot([Wanted("lan", first="hv3")], NODES, {"hv3": 9}) == {"lan": "hv3"}
    assert [allot([Wanted("lan", passed=passed)], NODES, {})["lan"] for passed in range(4)] == [
        "hv1",
        "hv2",
        "hv3",
        "hv1",
    ]


def test_a_node_with_the_way_out_comes_first_but_one_without_is_better_than_none() -> None:
    without = candidate("hv1", out="no device eth1")
    assert ranked(Wanted("lan", "out"), [without, candidate("hv2")], {"hv2": 5}) == ["hv2", "hv1"]


def test_nobody_is_chosen_that_cannot_be_it_and_each_says_why() -> None:
    unfit = [candidate("hv1", why_not="is not alive"), candidate("hv2", lan="broken"), Candidate("hv3", problems={})]
    assert allot([Wanted("lan")], unfit, {}) == {}
    assert [objection(one, "lan") for one in unfit] == [
        "is not alive",
        "cannot use network lan: broken",
        "has not set up network lan yet",
    ]


def flush(record: Gateway, before: Outcome | None = None, *targets: str, stopping: bool = False) -> tuple[str, str]:
    """What becomes of it, and who is asked or why not."""
    choice = Choice(targets, "hv2 is not alive")
    move = vacated(ME, "lan", record, before, lambda: choice, 50.0, stopping=stopping)
    if move.outcome is None:
        return "nothing", ""
    return move.outcome.state.value, move.order or move.outcome.why or move.outcome.target or ""


def test_a_flush_asks_one_node_after_the_other_and_then_says_that_it_stays() -> None:
    asked = Outcome("gateway lan", OutcomeState.MOVING, source=ME, target="hv2", since=40.0, what="gateway")
    assert flush(OTHERS) == ("nothing", "")
    assert flush(MINE, None, "hv2", "hv3") == ("moving", "hv2")
    assert flush(replace(MINE, next="hv2"), asked, "hv2", "hv3") == ("moving", "hv2")
    assert flush(MINE, asked, "hv2", "hv3") == ("moving", "hv3")
    assert flush(MINE, replace(asked, tries=("hv3",)), "hv2", "hv3") == ("kept", "hv3, hv2 could not take it over")
    assert flush(MINE) == ("kept", "hv2 is not alive")
    assert flush(MINE, None, "hv2", stopping=True) == ("kept", "its turn had not come")
    assert flush(replace(OTHERS, patience=10.0), asked) == ("moving", "hv2")
    assert flush(OTHERS, asked) == ("moved", "hv2")


def unflush(record: Gateway, before: Outcome | None = None, objection: str = "") -> tuple[str, str]:
    move = restored(ME, "lan", record, before, objection, 50.0, stopping=False)
    if move.outcome is None:
        return "nothing", ""
    return move.outcome.state.value, move.order or move.outcome.why


def test_an_unflush_brings_back_what_is_at_home_here_and_nothing_else() -> None:
    away = replace(OTHERS, home=ME)
    asked = Outcome("gateway lan", OutcomeState.MOVING, source="hv2", target=ME, since=40.0, what="gateway")
    assert unflush(OTHERS) == ("nothing", "")
    assert unflush(replace(MINE, home=ME)) == ("nothing", "")
    assert unflush(away) == ("moving", ME)
    assert unflush(replace(away, next=ME), asked) == ("moving", "")
    assert unflush(replace(away, next="hv3")) == ("waiting", "")
    assert unflush(away, asked) == ("kept", "hv2 did not hand it over in time")
    assert unflush(away, None, "cannot use network lan: broken") == ("kept", "cannot use network lan: broken")
    assert unflush(replace(MINE, home=ME), asked) == ("moved", "")
    assert unflush(OTHERS, asked) == ("left alone", "was given another home")
