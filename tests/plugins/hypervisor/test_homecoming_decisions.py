"""What an unflush does about each VM, as tables, and that neither it nor a flush waits for ever."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest

from pvc.core.model import ActualState, Outcome, OutcomeState, VmState
from pvc.plugins.hypervisor.decide.evacuation import (
    Item,
    Limits,
    Order,
    Plan,
    left_behind,
)
from pvc.plugins.hypervisor.decide.homecoming import Wishes
from pvc.plugins.hypervisor.decide.placement import Room
from pvc.plugins.hypervisor.host import GuestState
from tests.plugins.hypervisor.evacuations import (
    AWAY,
    DEPARTED,
    DISPLACED,
    FAILED,
    FULL,
    KEPT,
    LEFT_ALONE,
    LIMITS,
    LONG_AGO,
    MIGRATING,
    MOVED,
    MOVING,
    RUNNING,
    STARTING,
    STOPPED,
    STOPPING,
    WAITING,
    flush,
    item,
    outcome,
    unflush,
)
from tests.plugins.hypervisor.vms import ME, NOW, OTHER, THIRD, candidate, vm


def test_a_vm_that_a_flush_took_away_is_ordered_home() -> None:
    plan = unflush([DISPLACED])
    assert plan.orders == (Order(DISPLACED.uuid, ME),)
    assert plan.outcomes[DISPLACED.uuid] == Outcome("vm1", MOVING, source=OTHER, target=ME, since=NOW, memory=128)


@pytest.mark.parametrize("one", [item(vm(node=OTHER), node=OTHER), item(vm(home=ME)), item()])
def test_a_vm_that_is_at_home_or_has_none_here_is_no_business_of_the_unflush(one: Item) -> None:
    assert unflush([one]).outcomes == {}


HOMECOMINGS: list[tuple[str, Item, Outcome, OutcomeState, str]] = [
    ("on its way", item(vm(home=ME), MIGRATING, OTHER, ME), outcome(MOVING), MOVING, ""),
    ("is home", item(vm(), RUNNING, ME), outcome(MOVING), MOVED, ""),
    (
        "was stopped meanwhile",
        item(replace(AWAY, state=VmState.STOPPED), STOPPED, None),
        outcome(WAITING),
        LEFT_ALONE,
        "was stopped",
    ),
    (
        "an administrator moved it and forgot its home",
        item(vm(node=THIRD), node=THIRD),
        outcome(WAITING),
        LEFT_ALONE,
        "an administrator moved it",
    ),
    (
        "an administrator took it from home",
        item(replace(AWAY, displaced_by=None), node=OTHER),
        outcome(WAITING),
        LEFT_ALONE,
        "an administrator took it from home",
    ),
    (
        "the node that has it is dead",
        item(AWAY, node=OTHER, alive=False),
        outcome(WAITING),
        KEPT,
        "the daemon of hv2, where it is, does not answer",
    ),
    (
        "its move failed for good",
        item(AWAY, node=OTHER, failed_move="no route"),
        outcome(MOVING, tries=(ME,)),
        KEPT,
        "no route",
    ),
    (
        "does not start at home",
        item(vm(home=ME), FAILED, ME, reason="no disk"),
        outcome(MOVING),
        KEPT,
        "no disk",
    ),
    ("what was kept stays kept", DISPLACED, outcome(KEPT, why="x"), KEPT, "x"),
    ("what was left alone stays so", DISPLACED, outcome(LEFT_ALONE, why="x"), LEFT_ALONE, "x"),
    (
        "restarts there, and its guest does not obey",
        item(replace(AWAY, restart=1), STOPPING, OTHER, since=LONG_AGO),
        outcome(WAITING, since=LONG_AGO),
        KEPT,
        "has been stopping for 61 s",
    ),
    (
        "ordered home, then to be restarted, and its guest does not obey",
        item(vm(home=ME, restart=1), STOPPING, OTHER, since=LONG_AGO),
        outcome(MOVING, since=LONG_AGO),
        KEPT,
        "has been stopping for 61 s",
    ),
    (
        "ordered home and never sets off",
        item(vm(home=ME), RUNNING, OTHER, since=LONG_AGO),
        outcome(MOVING, since=LONG_AGO),
        KEPT,
        "has been running for 61 s",
    ),
    (
        "a long migration is no standstill",
        item(vm(home=ME), MIGRATING, OTHER, ME, since=LONG_AGO),
        outcome(MOVING, since=LONG_AGO),
        MOVING,
        "",
    ),
]


@pytest.mark.parametrize(
    ("one", "before", "state", "why"), [row[1:] for row in HOMECOMINGS], ids=[row[0] for row in HOMECOMINGS]
)
def test_what_becomes_of_a_vm_on_its_way_home(one: Item, before: Outcome, state: OutcomeState, why: str) -> None:
    after = unflush([one], {one.uuid: replace(before, source=OTHER)}, home=FULL).outcomes[one.uuid]
    assert (after.state, after.why) == (state, why)


def test_a_full_home_is_reported_and_not_forced() -> None:
    plan = unflush([DISPLACED], home=Room(candidate(ME, memory=100)))
    assert (plan.orders, plan.finished) == ((), True)
    assert left_behind(plan.outcomes) == ("vm1: hv1 has 100 MiB free of 100, it needs 128",)


def test_room_at_home_is_counted_with_what_this_plan_has_promised() -> None:
    items = [item(replace(AWAY, uuid=f"u{n}", name=f"vm{n}"), node=OTHER) for n in range(3)]
    plan = unflush(items, home=Room(candidate(ME, memory=300)), limits=Limits(9, 1, 60))
    assert [order.uuid for order in plan.orders] == ["u0", "u1"]
    assert plan.outcomes["u2"].why == "hv1 has 44 MiB free of 300, it needs 128"


@pytest.mark.parametrize("state", [STARTING, STOPPING, MIGRATING])
def test_a_vm_that_is_changing_is_not_ordered_home_yet(state: ActualState) -> None:
    plan = unflush([item(AWAY, state, OTHER, since=NOW - 1)])
    assert (plan.orders, plan.finished) == ((), False)


def test_an_unflush_that_is_stopping_orders_nothing() -> None:
    plan = unflush([DISPLACED], stopping=True)
    assert (plan.orders, plan.finished) == ((), True)


def test_a_homecomer_whose_move_away_had_not_begun_stays_and_needs_no_further_room() -> None:
    waiting = item(AWAY, node=ME, seen=GuestState.RUNNING)
    plan = unflush([waiting], home=Room(candidate(ME, memory=128, vms={waiting.uuid: 128})))
    assert plan.orders == (Order(waiting.uuid, ME),)
    after = unflush([item(vm(), seen=GuestState.RUNNING)], plan.outcomes)
    assert after.finished and after.outcomes[waiting.uuid].state is MOVED


def test_with_skip_nothing_is_ordered_and_nothing_is_left_behind() -> None:
    plan = unflush([DISPLACED], wishes=Wishes(skip=True))
    assert (plan.orders, plan.finished, left_behind(plan.outcomes)) == ((), True, ())
    assert plan.outcomes[DISPLACED.uuid].state is LEFT_ALONE


def test_with_only_the_others_are_left_alone_and_take_no_room() -> None:
    one, other = (item(replace(AWAY, uuid=uuid, name=uuid), node=OTHER) for uuid in ("u1", "u2"))
    plan = unflush([one, other], home=Room(candidate(ME, memory=128)), wishes=Wishes(only=("u2",)))
    assert plan.orders == (Order("u2", ME),)
    assert plan.outcomes["u1"].state is LEFT_ALONE


def test_no_more_come_home_than_it_takes_at_a_time() -> None:
    items = [item(replace(AWAY, uuid=f"u{n}", name=f"vm{n}"), node=OTHER) for n in range(4)]
    limits = Limits(parallel=4, retries=1, patience=60, slots={ME: 2})
    first = unflush(items, limits=limits)
    assert [order.uuid for order in first.orders] == ["u0", "u1"]
    # One has come, one is on its way: of the two that may come together one more may set off.
    on_its_way = item(replace(items[1].vm, node=ME), MIGRATING, OTHER, ME)
    items = [item(vm(uuid="u0", name="vm0")), on_its_way, *items[2:]]
    second = unflush(items, first.outcomes, limits=replace(limits, slots={ME: 1}))
    assert [order.uuid for order in second.orders] == ["u2"]


MAY_TAKE_AS_LONG_AS_IT_TAKES = {MIGRATING}
"""Limited by the deadline of the migration itself, which the node that carries it out keeps."""


@pytest.mark.parametrize("state", [state for state in ActualState if state not in MAY_TAKE_AS_LONG_AS_IT_TAKES])
@pytest.mark.parametrize("before", [WAITING, MOVING])
@pytest.mark.parametrize("plan", [flush, unflush], ids=["flush", "unflush"])
def test_a_vm_that_never_changes_does_not_hold_an_operation_up_for_ever(
    plan: Callable[..., Plan], before: OutcomeState, state: ActualState
) -> None:
    node = None if state is STOPPED else (ME if plan is flush else OTHER)
    target = {DEPARTED: OTHER if plan is flush else ME}.get(state)
    for wanted in (
        vm(state=VmState.STOPPED),
        vm(restart=1, home=ME),
        vm(state=VmState.STOPPED, node=OTHER, home=ME, displaced_by="op"),
        vm(node=OTHER, restart=1, home=ME, displaced_by="op"),
        vm(node=OTHER, home=ME, displaced_by="op"),
    ):
        stuck = item(wanted, state, node, target, since=LONG_AGO)
        source = ME if plan is flush else OTHER
        outcomes: Mapping[str, Outcome] = {stuck.uuid: outcome(before, since=LONG_AGO, source=source)}
        for _ in range(4):
            after = plan([stuck], outcomes, limits=replace(LIMITS, retries=0))
            outcomes = {uuid: replace(each, since=LONG_AGO) for uuid, each in after.outcomes.items()}
        assert after.finished, (wanted, after)
