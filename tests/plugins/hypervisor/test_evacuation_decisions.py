"""What a flush and an unflush do about each VM, as tables, and that both come to an end."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from pvc.core.forecast import Objection
from pvc.core.model import ActualState, Outcome, OutcomeState, Policy, Vm, VmActual, VmState
from pvc.plugins.hypervisor.decide.evacuation import (
    Item,
    LayOut,
    Limits,
    Order,
    Plan,
    Stage,
    incoming,
    left_behind,
    plan_flush,
    stage,
)
from pvc.plugins.hypervisor.decide.homecoming import Wishes, plan_unflush
from pvc.plugins.hypervisor.decide.placement import Room
from pvc.plugins.hypervisor.decide.planner import Layout, Placed, Wanted
from pvc.plugins.hypervisor.host import GuestState
from tests.plugins.hypervisor.vms import ME, NOW, OTHER, THIRD, candidate, guest, vm

WAITING, MOVING, MOVED, KEPT, LEFT_ALONE = OutcomeState
STOPPED, STARTING, RUNNING, STOPPING, MIGRATING, DEPARTED, FAILED, ASTRAY = ActualState
PATIENCE = 60.0
LIMITS = Limits(parallel=1, retries=1, patience=PATIENCE, eager=1)
LONG_AGO = NOW - PATIENCE - 1


def item(
    wanted: Vm | None = None,
    state: ActualState = RUNNING,
    node: str | None = ME,
    target: str | None = None,
    seen: GuestState | None = None,
    alive: bool = True,
    **actual: Any,
) -> Item:
    wanted = wanted or vm()
    there = None if seen is None else guest(seen, uuid=wanted.uuid, name=wanted.name)
    return Item(wanted.uuid, wanted, VmActual(state, node, target, **actual), there, alive)


STAGES: list[tuple[str, Item, Stage]] = [
    ("runs here", item(seen=GuestState.RUNNING), Stage.HERE),
    ("ordered away", item(vm(node=OTHER)), Stage.LEAVING),
    ("migrates away", item(vm(node=OTHER), MIGRATING, target=OTHER), Stage.LEAVING),
    ("departed, the target has not spoken", item(vm(node=OTHER), DEPARTED, target=OTHER), Stage.LEAVING),
    ("being started here", item(state=STARTING), Stage.CHANGING),
    ("being stopped here", item(vm(state=VmState.STOPPED), STOPPING), Stage.CHANGING),
    ("wanted stopped, still runs", item(vm(state=VmState.STOPPED)), Stage.CHANGING),
    ("to be restarted", item(vm(restart=1)), Stage.CHANGING),
    ("a move was withdrawn", item(state=MIGRATING, target=OTHER), Stage.CHANGING),
    ("failed here, would be tried again here", item(state=FAILED), Stage.ASSIGNED),
    ("failed here, wanted elsewhere", item(vm(node=OTHER), FAILED), Stage.CHANGING),
    ("failed here, wanted stopped", item(vm(state=VmState.STOPPED), FAILED), Stage.CHANGING),
    ("stopped, would be started here", item(state=STOPPED, node=None), Stage.ASSIGNED),
    ("stopped and wanted so", item(vm(state=VmState.STOPPED), STOPPED, node=None), Stage.AWAY),
    ("stopped, would be started elsewhere", item(vm(node=OTHER), STOPPED, node=None), Stage.AWAY),
    ("runs elsewhere", item(vm(node=OTHER), node=OTHER), Stage.AWAY),
    ("runs elsewhere, on its way here by order only", item(node=OTHER), Stage.AWAY),
    ("arrives", item(state=MIGRATING, node=OTHER, target=ME, seen=GuestState.INCOMING), Stage.CHANGING),
    ("about to arrive", item(state=MIGRATING, node=OTHER, target=ME), Stage.CHANGING),
    (
        "was to arrive from a node that is dead",
        item(state=MIGRATING, node=OTHER, target=ME, alive=False),
        Stage.ASSIGNED,
    ),
    ("runs here without a lease", item(state=STOPPED, node=None, seen=GuestState.RUNNING), Stage.CHANGING),
    ("runs here under another's lease", item(vm(node=OTHER), node=OTHER, seen=GuestState.RUNNING), Stage.CHANGING),
    ("handed over, not confirmed yet", item(vm(node=OTHER), node=OTHER, seen=GuestState.LEAVING), Stage.AWAY),
]


@pytest.mark.parametrize(("one", "expected"), [row[1:] for row in STAGES], ids=[row[0] for row in STAGES])
def test_stage(one: Item, expected: Stage) -> None:
    assert stage(ME, one) is expected


def outcome(state: OutcomeState, **how: Any) -> Outcome:
    return Outcome("vm1", state, **{"source": ME, "since": NOW - 5, **how})


def to_others(wanted: Sequence[Wanted]) -> Layout:
    """Each VM, largest first, to the first of two other nodes that nothing speaks against."""
    placed, unplaced = [], {}
    for one in sorted(wanted, key=lambda one: (-one.vm.memory, one.vm.name)):
        node = next((name for name in (OTHER, THIRD) if name not in one.excluded), None)
        if node is None:
            unplaced[one.vm.uuid] = dict(one.excluded)
        else:
            placed.append(Placed(one.vm, node, 0))
    return Layout(tuple(placed), unplaced)


def nowhere(objections: Mapping[str, Objection]) -> LayOut:
    """No node takes anything, for these reasons."""
    return lambda wanted: Layout((), {one.vm.uuid: objections for one in wanted})


def flush(
    items: Sequence[Item],
    before: Mapping[str, Outcome] | None = None,
    lay_out: LayOut = to_others,
    limits: Limits = LIMITS,
    stopping: bool = False,
    now: float = NOW,
) -> Plan:
    return plan_flush(ME, items, before or {}, lay_out, limits, now, stopping=stopping)


def flushed(one: Item, before: Outcome | None = None, **how: Any) -> Outcome | None:
    """What becomes of a single VM in one look."""
    return flush([one], {one.uuid: before} if before else {}, **how).outcomes.get(one.uuid)


HERE = item(seen=GuestState.RUNNING)
LEAVING = item(vm(node=OTHER), MIGRATING, target=OTHER)
GONE = item(vm(node=OTHER), node=OTHER)


def test_a_vm_that_runs_here_is_ordered_away() -> None:
    plan = flush([HERE])
    assert plan.orders == (Order(HERE.uuid, OTHER),)
    assert plan.outcomes[HERE.uuid] == Outcome("vm1", MOVING, source=ME, target=OTHER, since=NOW, memory=128)
    assert not plan.finished


def test_a_vm_that_is_no_business_of_the_flush_is_not_in_its_outcomes() -> None:
    plan = flush([GONE])
    assert (plan.orders, plan.outcomes, plan.finished) == ((), {}, True)


FLUSHES: list[tuple[str, Item, Outcome, OutcomeState, str]] = [
    ("on its way", LEAVING, outcome(MOVING), MOVING, ""),
    ("has gone", GONE, outcome(MOVING), MOVED, ""),
    ("went without our doing", GONE, outcome(WAITING), MOVED, ""),
    ("was stopped", item(vm(state=VmState.STOPPED), STOPPED, None), outcome(MOVING), LEFT_ALONE, "was stopped"),
    ("was kept and has gone by itself", GONE, outcome(KEPT, why="x"), MOVED, ""),
    (
        "its move failed for good",
        item(seen=GuestState.RUNNING, failed_move="no route"),
        outcome(MOVING, target=OTHER, tries=(THIRD,)),
        KEPT,
        "no route",
    ),
    ("was kept and stays so", HERE, outcome(KEPT, why="no route"), KEPT, "no route"),
    (
        "policy keep",
        item(vm(policy=Policy.KEEP), seen=GuestState.RUNNING),
        outcome(WAITING),
        KEPT,
        "its policy is keep",
    ),
    ("starting: wait", item(state=STARTING), outcome(WAITING), WAITING, ""),
    (
        "starting for too long",
        item(state=STARTING, since=LONG_AGO),
        outcome(WAITING, since=LONG_AGO),
        KEPT,
        "has been starting for 61 s",
    ),
    (
        "waited long for its turn, starting only now",
        item(state=STARTING, since=NOW - 1),
        outcome(WAITING, since=LONG_AGO),
        WAITING,
        "",
    ),
    (
        "ordered away, then stopped, and its guest does not obey",
        item(vm(node=OTHER, state=VmState.STOPPED), STOPPING, since=LONG_AGO),
        outcome(MOVING, since=LONG_AGO),
        KEPT,
        "has been stopping for 61 s",
    ),
    (
        "the same a look later",
        item(vm(node=OTHER, state=VmState.STOPPED), STOPPING, since=LONG_AGO - 1),
        outcome(KEPT, why="has been stopping for 61 s", since=LONG_AGO - 1),
        KEPT,
        "has been stopping for 61 s",
    ),
    (
        "ordered away, then to be restarted, and its guest does not obey",
        item(vm(node=OTHER, restart=1), STOPPING, since=LONG_AGO),
        outcome(MOVING, since=LONG_AGO),
        KEPT,
        "has been stopping for 61 s",
    ),
    (
        "leaves cold: its service sets the limit",
        item(vm(node=OTHER, policy=Policy.SHUTDOWN), STOPPING, since=LONG_AGO),
        outcome(MOVING, since=LONG_AGO),
        MOVING,
        "",
    ),
    (
        "leaves cold, and its service sets no limit",
        item(vm(node=OTHER, policy=Policy.SHUTDOWN), STOPPING, since=NOW - 200),
        outcome(MOVING, since=LONG_AGO - 100),
        KEPT,
        "has been stopping for 161 s",
    ),
    (
        "ordered away and never set off",
        item(vm(node=OTHER), since=LONG_AGO),
        outcome(MOVING, since=LONG_AGO),
        KEPT,
        "has been running for 61 s",
    ),
    (
        "a long migration is no standstill",
        item(vm(node=OTHER), MIGRATING, target=OTHER, since=LONG_AGO),
        outcome(MOVING, since=LONG_AGO),
        MOVING,
        "",
    ),
    (
        "departed, and the target never says",
        item(vm(node=OTHER), DEPARTED, target=OTHER, since=LONG_AGO),
        outcome(MOVING, since=LONG_AGO),
        KEPT,
        "left for hv2, which has not said for 61 s whether it has it",
    ),
    (
        "its order was withdrawn and it stands still",
        item(vm(state=VmState.STOPPED), STOPPING, since=LONG_AGO),
        outcome(MOVING, since=LONG_AGO),
        KEPT,
        "has been stopping for 61 s",
    ),
    (
        "runs here under another's lease",
        item(vm(node=OTHER), node=OTHER, seen=GuestState.RUNNING, since=LONG_AGO),
        outcome(MOVING, since=LONG_AGO),
        KEPT,
        "runs here though hv2 holds its lease",
    ),
    (
        "waits to arrive from a node that does not send it",
        item(state=MIGRATING, node=OTHER, target=ME, since=LONG_AGO),
        outcome(WAITING, since=LONG_AGO),
        KEPT,
        "has been arriving for 61 s",
    ),
]


@pytest.mark.parametrize(
    ("one", "before", "state", "why"), [row[1:] for row in FLUSHES], ids=[row[0] for row in FLUSHES]
)
def test_what_becomes_of_a_vm_that_is_flushed(one: Item, before: Outcome, state: OutcomeState, why: str) -> None:
    after = flushed(one, before, lay_out=nowhere({}))
    assert after is not None
    assert (after.state, after.why) == (state, why)


@pytest.mark.parametrize("before", [MOVED, LEFT_ALONE])
def test_a_vm_that_came_back_is_moved_again(before: OutcomeState) -> None:
    after = flushed(HERE, outcome(before, tries=(OTHER,)))
    assert after is not None and (after.state, after.target, after.tries) == (MOVING, OTHER, ())


def test_a_failed_move_is_tried_elsewhere_and_then_given_up() -> None:
    failed = item(seen=GuestState.RUNNING, failed_move="no route")
    first = flush([failed], {failed.uuid: outcome(MOVING, target=OTHER)})
    assert first.orders == (Order(failed.uuid, THIRD),)
    assert first.outcomes[failed.uuid].tries == (OTHER,)
    second = flush([failed], first.outcomes)
    assert second.orders == () and second.finished
    assert (second.outcomes[failed.uuid].state, second.outcomes[failed.uuid].tries) == (KEPT, (OTHER, THIRD))


def test_a_guest_too_busy_for_one_target_is_not_sent_to_another() -> None:
    busy = item(seen=GuestState.RUNNING, failed_move="did not end within 60 s", unconverged=True)
    plan = flush([busy], {busy.uuid: outcome(MOVING, target=OTHER)}, limits=replace(LIMITS, retries=9))
    assert (plan.orders, plan.finished) == ((), True)
    assert (plan.outcomes[busy.uuid].state, plan.outcomes[busy.uuid].why) == (KEPT, "did not end within 60 s")


def test_a_vm_that_no_node_takes_is_kept_with_every_reason_and_the_last_error() -> None:
    against = {"hv3": Objection("is flushed"), "hv2": Objection("was tried and failed")}
    after = flushed(HERE, outcome(WAITING, tries=(OTHER,), why="no route"), lay_out=nowhere(against))
    assert after is not None
    assert after.why == "no node can take it: hv2 was tried and failed; hv3 is flushed (last try: no route)"
    alone = flushed(HERE, lay_out=nowhere({}))
    assert alone is not None and alone.why == "no node can take it: there is no other node"


def three(*names: str) -> list[Item]:
    return [
        item(vm(uuid=f"u{name}", name=name, memory=memory), seen=GuestState.RUNNING)
        for name, memory in zip(names, (100, 300, 300), strict=True)
    ]


def test_the_largest_goes_first_and_among_equals_the_first_by_name() -> None:
    assert [order.uuid for order in flush(three("a", "c", "b"), limits=replace(LIMITS, parallel=9)).orders] == [
        "ub",
        "uc",
        "ua",
    ]


@pytest.mark.parametrize("parallel", [1, 2, 3])
def test_no_more_are_in_flight_than_allowed(parallel: int) -> None:
    limits = replace(LIMITS, parallel=parallel)
    plan = flush([LEAVING, *three("a", "b", "c")], {LEAVING.uuid: outcome(MOVING)}, limits=limits)
    assert len(plan.orders) == parallel - 1
    assert sum(each.state is MOVING for each in plan.outcomes.values()) == parallel


def test_all_that_waits_is_planned_together_and_where_each_will_go_is_noted() -> None:
    seen: list[list[str]] = []

    def lay_out(wanted: Sequence[Wanted]) -> Layout:
        seen.append([one.vm.name for one in wanted])
        return to_others(wanted)

    plan = flush(three("a", "b", "c"), lay_out=lay_out)
    assert seen == [["a", "b", "c"]]
    assert [(each.state, each.target) for each in plan.outcomes.values()] == [
        (WAITING, OTHER),
        (MOVING, OTHER),
        (WAITING, OTHER),
    ]


def test_a_vm_without_a_node_is_given_up_only_once_nothing_is_in_flight_that_might_make_room() -> None:
    moving = {LEAVING.uuid: outcome(MOVING)}
    waits = flush([LEAVING, *three("a", "b", "c")], moving, lay_out=nowhere({}), limits=replace(LIMITS, parallel=2))
    assert {waits.outcomes[f"u{name}"].state for name in "abc"} == {WAITING}
    assert not waits.finished
    given_up = flush(three("a", "b", "c"), waits.outcomes, lay_out=nowhere({}))
    assert {given_up.outcomes[f"u{name}"].state for name in "abc"} == {KEPT}


def test_no_more_set_off_for_a_node_than_it_takes_at_a_time() -> None:
    plan = flush(three("a", "b", "c"), limits=replace(LIMITS, parallel=9, slots={OTHER: 2}))
    assert [order.uuid for order in plan.orders] == ["ub", "uc"]
    assert plan.outcomes["ua"].state is WAITING
    assert flush(three("a", "b", "c"), limits=replace(LIMITS, parallel=9, slots={OTHER: 0})).orders == ()


def test_another_node_is_tried_at_once_and_then_only_after_a_growing_pause() -> None:
    limits = replace(LIMITS, retries=9, eager=1)
    before = outcome(WAITING, tries=(OTHER,), since=NOW)
    assert flush([HERE], {HERE.uuid: before}, limits=limits).orders != ()
    for failures, pause in ((2, 2.0), (3, 6.0), (4, 18.0), (9, 60.0)):
        before = outcome(WAITING, tries=("x",) * failures, since=NOW)
        early = flush([HERE], {HERE.uuid: before}, limits=limits, now=NOW + pause - 0.5)
        assert (early.orders, early.pause, early.finished) == ((), 0.5, False)
        assert flush([HERE], {HERE.uuid: before}, limits=limits, now=NOW + pause).orders != ()


COMING = item(vm(home=OTHER), MIGRATING, node=OTHER, target=ME, seen=GuestState.INCOMING)


def test_what_comes_and_is_stopped_stays_where_it_was_and_is_no_business_of_the_flush() -> None:
    assert incoming(ME, [COMING, HERE, LEAVING]) == [COMING]
    first = flush([COMING])
    assert (first.orders, first.finished, first.outcomes[COMING.uuid].source) == ((), False, OTHER)
    after = flush([item(vm(node=OTHER), node=OTHER)], first.outcomes)
    assert after.finished
    assert (after.outcomes[COMING.uuid].state, after.outcomes[COMING.uuid].why) == (
        LEFT_ALONE,
        f"its move to {ME} was stopped",
    )


def test_what_comes_all_the_same_is_moved_away() -> None:
    after = flush([HERE], flush([COMING]).outcomes)
    assert after.orders == (Order(HERE.uuid, OTHER),)
    assert after.outcomes[HERE.uuid].source == ME


@pytest.mark.parametrize(
    "one", [item(vm(node=OTHER), MIGRATING, node=OTHER, target=ME), replace(COMING, source_alive=False)]
)
def test_what_nobody_wants_here_or_nobody_can_stop_is_not_stopped(one: Item) -> None:
    assert incoming(ME, [one]) == []


def test_when_stopping_nothing_new_is_ordered_and_it_ends_with_what_is_in_flight() -> None:
    plan = flush([LEAVING, *three("a", "b", "c")], {LEAVING.uuid: outcome(MOVING)}, stopping=True)
    assert (plan.orders, plan.finished) == ((), False)
    plan = flush([GONE, *three("a", "b", "c")], plan.outcomes, stopping=True)
    assert (plan.orders, plan.finished) == ((), True)
    assert left_behind(plan.outcomes) == tuple(f"{name}: its turn did not come" for name in "abc")


@pytest.mark.parametrize("state", [WAITING, MOVING])
@pytest.mark.parametrize("plan", [flush, lambda items, before: unflush(items, before)], ids=["flush", "unflush"])
def test_a_vm_that_was_undefined_meanwhile_is_not_waited_for(
    plan: Callable[[Sequence[Item], Mapping[str, Outcome]], Plan], state: OutcomeState
) -> None:
    after = plan([], {"gone": outcome(state)})
    assert after.finished
    assert (after.outcomes["gone"].state, after.outcomes["gone"].why) == (LEFT_ALONE, "is not defined any more")
    assert left_behind(after.outcomes) == ()


def test_left_behind_names_each_by_name_with_the_reason() -> None:
    outcomes = {
        "1": Outcome("web", KEPT, why="no room"),
        "2": Outcome("db", WAITING),
        "3": Outcome("a", MOVED),
        "4": Outcome("b", LEFT_ALONE, why="was stopped"),
        "5": Outcome("c", MOVING),
    }
    assert left_behind(outcomes) == ("c: its turn did not come", "db: its turn did not come", "web: no room")


# Home again.

AWAY = vm(node=OTHER, home=ME, displaced_by="op1")
DISPLACED = item(AWAY, node=OTHER)


EVERYTHING = Wishes()
FULL, ROOMY = Room(candidate(ME, memory=0)), Room(candidate(ME))


def unflush(
    items: Sequence[Item],
    before: Mapping[str, Outcome] | None = None,
    home: Room = ROOMY,
    limits: Limits = LIMITS,
    stopping: bool = False,
    wishes: Wishes = EVERYTHING,
    lay_out: LayOut = to_others,
    now: float = NOW,
) -> Plan:
    return plan_unflush(ME, items, before or {}, home, lay_out, wishes, limits, now, stopping=stopping)


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


# Every wait ends: whatever state a VM is stuck in, some time later the operation is over.

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


# Room is made at home.

ROOM = Wishes(make_room=True)


def foreign(name: str, memory: int, **how: Any) -> Item:
    return item(vm(uuid=f"u{name}", name=name, memory=memory, **{"home": THIRD, **how}), seen=GuestState.RUNNING)


def homecomer(memory: int, name: str = "vm1") -> Item:
    return item(replace(AWAY, uuid=f"u{name}", name=name, memory=memory), node=OTHER)


def full_of(items: Sequence[Item], free: int = 0) -> Room:
    """A home that has what runs there, and so much free memory beside."""
    vms = {one.uuid: one.vm.memory for one in items if one.actual.node == ME}
    return Room(candidate(ME, memory=sum(vms.values()) + free, vms=vms))


def makers(homecomers: Sequence[Item], guests: Sequence[Item], free: int = 0, **how: Any) -> list[str]:
    """Who is ordered away to make room, in order."""
    items = [*homecomers, *guests]
    plan = unflush(items, home=full_of(items, free), wishes=ROOM, limits=Limits(9, 1, 60), **how)
    return [order.uuid[1:] for order in plan.orders if order.target != ME]


def test_the_smallest_that_suffices_alone_makes_room() -> None:
    assert makers([homecomer(300)], [foreign("a", 900), foreign("b", 250), foreign("c", 400)], free=50) == ["b"]


def test_where_none_suffices_alone_the_largest_make_room() -> None:
    assert makers([homecomer(1000)], [foreign("a", 300), foreign("b", 600), foreign("c", 500)]) == ["b", "c"]


STAY: list[tuple[str, Item]] = [
    ("it is at home", foreign("a", 500, home=None)),
    ("its home is here", foreign("a", 500, home=ME)),
    ("its policy is keep", foreign("a", 500, policy=Policy.KEEP)),
]


@pytest.mark.parametrize("stays", [row[1] for row in STAY], ids=[row[0] for row in STAY])
def test_who_does_not_make_room(stays: Item) -> None:
    assert makers([homecomer(300)], [stays]) == []
    assert makers([homecomer(300)], [stays, foreign("z", 900)]) == ["z"]


def test_without_the_wish_nobody_makes_room() -> None:
    items = [homecomer(300), foreign("a", 500)]
    plan = unflush(items, home=full_of(items))
    assert (plan.orders, plan.finished) == ((), True)


def test_where_all_together_do_not_suffice_nobody_goes() -> None:
    items = [homecomer(1000), foreign("a", 300), foreign("b", 600)]
    plan = unflush(items, home=full_of(items), wishes=ROOM)
    assert (plan.orders, plan.finished) == ((), True)
    assert left_behind(plan.outcomes) == (
        "vm1: hv1 has 0 MiB free of 900, it needs 1000, and no VM of another home can make that room",
    )


def test_one_that_no_node_takes_is_passed_over_for_one_that_goes() -> None:
    def lay_out(wanted: Sequence[Wanted]) -> Layout:
        stuck = {one.vm.uuid: {OTHER: Objection("no")} for one in wanted if one.vm.name == "a"}
        return replace(to_others([one for one in wanted if one.vm.uuid not in stuck]), unplaced=stuck)

    assert makers([homecomer(300)], [foreign("a", 300), foreign("b", 400)], lay_out=lay_out) == ["b"]
    assert makers([homecomer(300)], [foreign("a", 300)], lay_out=lay_out) == []


def test_who_makes_room_is_to_go_to_its_own_home_if_it_can() -> None:
    asked: list[str | None] = []

    def lay_out(wanted: Sequence[Wanted]) -> Layout:
        asked.extend(one.preferred for one in wanted)
        return to_others(wanted)

    makers([homecomer(300)], [foreign("a", 300, home="hv9")], lay_out=lay_out)
    assert asked == ["hv9"]


def test_the_same_room_is_not_made_for_two() -> None:
    assert makers([homecomer(300, "vm1"), homecomer(300, "vm2")], [foreign("a", 300)]) == ["a"]
    both = makers([homecomer(300, "vm1"), homecomer(300, "vm2")], [foreign("a", 300), foreign("b", 300)])
    assert both == ["a", "b"]
    assert makers([homecomer(300, "vm1"), homecomer(200, "vm2")], [foreign("a", 500)]) == ["a"]


def test_those_who_make_room_leave_one_after_the_other_and_then_the_homecomer_comes() -> None:
    """With one move at a time each has to wait for the one before."""
    comes, a, b = homecomer(1000), foreign("a", 600), foreign("b", 500)
    first = unflush([comes, a, b], home=full_of([a, b]), wishes=ROOM)
    assert first.orders == (Order("ua", OTHER),)
    gone = item(replace(a.vm, node=OTHER), node=OTHER)
    second = unflush([comes, gone, b], first.outcomes, home=full_of([b], free=600), wishes=ROOM)
    assert second.orders == (Order("ub", OTHER),)
    left = item(replace(b.vm, node=OTHER), node=OTHER)
    third = unflush([comes, gone, left], second.outcomes, home=full_of([], free=1100), wishes=ROOM)
    assert third.orders == (Order(comes.uuid, ME),)


def test_one_who_could_not_leave_is_tried_again_and_then_another_makes_room() -> None:
    comes, a, b = homecomer(300), foreign("a", 300), foreign("b", 400)
    home, limits = full_of([a, b]), replace(LIMITS, eager=0)
    plan = unflush([comes, a, b], home=home, wishes=ROOM, limits=limits)
    stays = replace(a, actual=replace(a.actual, failed_move="no route"))
    plan = unflush([comes, stays, b], plan.outcomes, home=home, wishes=ROOM, limits=limits)
    assert (plan.orders, plan.pause) == ((), 2.0)
    plan = unflush([comes, stays, b], plan.outcomes, home=home, wishes=ROOM, limits=limits, now=NOW + 2)
    assert plan.orders == (Order("ua", THIRD),)
    plan = unflush([comes, stays, b], plan.outcomes, home=home, wishes=ROOM, limits=limits, now=NOW + 3)
    assert plan.outcomes["ua"].state is KEPT
    assert plan.orders == (Order("ub", OTHER),)


def test_one_who_waits_to_make_room_and_finds_no_node_any_more_is_given_up() -> None:
    comes, a, b = homecomer(1000), foreign("a", 600), foreign("b", 500)
    first = unflush([comes, a, b], home=full_of([a, b]), wishes=ROOM)
    gone = item(replace(a.vm, node=OTHER), node=OTHER)
    home = full_of([b], free=600)
    after = unflush([comes, gone, b], first.outcomes, home=home, wishes=ROOM, lay_out=nowhere({}))
    assert after.finished
    assert left_behind(after.outcomes) == (
        "b: no node can take it: there is no other node",
        "vm1: hv1 has 600 MiB free of 1100, it needs 1000, and no VM of another home can make that room",
    )
