"""VMs as a flush and an unflush see them, and both as functions of few arguments, for the tests of their decisions."""

from collections.abc import Mapping, Sequence
from typing import Any

from pvc.core.forecast import Objection
from pvc.core.model import ActualState, Outcome, OutcomeState, Vm, VmActual
from pvc.plugins.hypervisor.decide.evacuation import (
    Item,
    LayOut,
    Limits,
    Plan,
    plan_flush,
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
