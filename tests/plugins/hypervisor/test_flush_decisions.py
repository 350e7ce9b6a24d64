"""What a flush does about each VM, as tables."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import pytest

from pvc.core.forecast import Objection
from pvc.core.model import Outcome, OutcomeState, Policy, VmState
from pvc.plugins.hypervisor.decide.evacuation import (
    Item,
    Order,
    Plan,
    Stage,
    incoming,
    left_behind,
    stage,
)
from pvc.plugins.hypervisor.decide.planner import Layout, Wanted
from pvc.plugins.hypervisor.host import GuestState
from tests.plugins.hypervisor.evacuations import (
    DEPARTED,
    FAILED,
    KEPT,
    LEFT_ALONE,
    LIMITS,
    LONG_AGO,
    MIGRATING,
    MOVED,
    MOVING,
    STARTING,
    STOPPED,
    STOPPING,
    WAITING,
    flush,
    flushed,
    item,
    nowhere,
    outcome,
    to_others,
    unflush,
)
from tests.plugins.hypervisor.vms import ME, NOW, OTHER, THIRD, vm

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
    ("is to be shut down elsewhere for us", item(vm(policy=Policy.SHUTDOWN), node=OTHER), Stage.CHANGING),
    ("shuts down elsewhere for us", item(vm(policy=Policy.SHUTDOWN), STOPPING, node=OTHER), Stage.CHANGING),
    ("is down elsewhere for us", item(state=FAILED, node=OTHER), Stage.CHANGING),
    ("ran on a node that is dead, and is to come here", item(node=OTHER, alive=False), Stage.CHANGING),
    ("shuts down elsewhere for good", item(vm(state=VmState.STOPPED), STOPPING, node=OTHER), Stage.AWAY),
    ("shuts down elsewhere for another", item(vm(node=THIRD), STOPPING, node=OTHER), Stage.AWAY),
    ("departed for another before it was to come here", item(state=DEPARTED, node=OTHER, target=THIRD), Stage.AWAY),
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
