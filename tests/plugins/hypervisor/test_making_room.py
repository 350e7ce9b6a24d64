"""Who leaves a full home so that a VM can come back to it."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from pvc.core.forecast import Objection
from pvc.core.model import Policy
from pvc.plugins.hypervisor.decide.evacuation import (
    Item,
    Limits,
    Order,
    left_behind,
)
from pvc.plugins.hypervisor.decide.homecoming import Wishes
from pvc.plugins.hypervisor.decide.placement import Room
from pvc.plugins.hypervisor.decide.planner import Layout, Wanted
from pvc.plugins.hypervisor.host import GuestState
from tests.plugins.hypervisor.evacuations import AWAY, KEPT, LIMITS, item, nowhere, to_others, unflush
from tests.plugins.hypervisor.vms import ME, NOW, OTHER, THIRD, candidate, vm

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
