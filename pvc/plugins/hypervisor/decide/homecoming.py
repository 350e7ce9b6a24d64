"""What an unflush does about each VM whose home the node is, and how it makes room for them where that is asked for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pvc.core.model import ActualState, Outcome, OutcomeState, Policy, Vm, VmState
from pvc.plugins.hypervisor.decide.evacuation import (
    Item,
    LayOut,
    Limits,
    Order,
    Plan,
    Stage,
    failed,
    finished,
    followed,
    in_flight,
    next_try,
    no_target,
    pauses_until,
    planned,
    send_off,
    stage,
    stands_still,
    standstill,
    still_known,
    waited_for,
    wanted,
)
from pvc.plugins.hypervisor.decide.placement import Room
from pvc.plugins.hypervisor.decide.planner import Wanted

UNSETTLED = (ActualState.STARTING, ActualState.STOPPING, ActualState.MIGRATING)
"""States in which a VM is not ordered anywhere."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What an unflush was asked for besides bringing everything home."""

    skip: bool = False
    """Bring nothing home."""
    only: tuple[str, ...] = ()
    """Bring only these home, by UUID; empty: all."""
    make_room: bool = False
    """Where home is full, move VMs away that have their home elsewhere."""


def plan_unflush(
    me: str,
    items: Sequence[Item],
    before: Mapping[str, Outcome],
    home: Room,
    lay_out: LayOut,
    wishes: Wishes,
    limits: Limits,
    now: float,
    *,
    stopping: bool,
) -> Plan:
    """The next orders that bring home to node `me` what a flush took away. What is largest goes first; what does not
    fit is kept where it is and does not stop what does."""
    outcomes = still_known(before, items)
    for item in items:
        outcome = _followed(me, item, before.get(item.uuid), wishes, limits, now)
        if outcome is not None:
            outcomes[item.uuid] = outcome
    home = home.copy()
    for item in items:
        if _comes_home(me, outcomes.get(item.uuid), OutcomeState.MOVING):
            home.take(item.vm)
    if stopping:
        return Plan((), outcomes, finished(outcomes, stopping), next_try(outcomes, limits, now))
    slots = dict(limits.slots)
    orders = _send_makers(me, items, outcomes, lay_out, limits, slots, now)
    for item in sorted(items, key=lambda item: (-item.vm.memory, item.vm.name)):
        if item.actual.state in UNSETTLED or not _comes_home(me, outcomes.get(item.uuid), OutcomeState.WAITING):
            continue
        lack = home.lack(item.vm)
        if lack is None:
            orders.extend(_send_home(me, item, outcomes, limits, slots, now))
        elif wishes.make_room:
            orders.extend(_make_room(me, item, items, outcomes, home, lay_out, limits, slots, now))
        else:
            outcomes[item.uuid] = replace(outcomes[item.uuid], state=OutcomeState.KEPT, why=f"{me} {lack}")
        if outcomes[item.uuid].state is not OutcomeState.KEPT:
            home.take(item.vm)  # what room is made for counts too: the next one must not have it
    return Plan(tuple(orders), outcomes, finished(outcomes, stopping), next_try(outcomes, limits, now))


def _send_home(
    me: str, item: Item, outcomes: dict[str, Outcome], limits: Limits, slots: dict[str, int], now: float
) -> list[Order]:
    outcome = outcomes[item.uuid]
    free = in_flight(outcomes) < limits.parallel and slots.get(me, 1) > 0
    if not free or pauses_until(outcome, limits) > now:
        outcomes[item.uuid] = replace(outcome, target=me)
        return []
    if me in slots:
        slots[me] -= 1
    outcomes[item.uuid] = replace(
        outcome,
        state=OutcomeState.MOVING,
        source=_from(me, item),
        target=me,
        since=now,
        why="",
        memory=item.vm.memory,
    )
    return [Order(item.uuid, me)]


def _from(me: str, item: Item) -> str | None:
    """Where it comes from; None if it has not left yet, or runs nowhere. What comes from `me` makes room."""
    return item.actual.node if item.actual.node != me else None


def _comes_home(me: str, outcome: Outcome | None, state: OutcomeState) -> bool:
    return outcome is not None and outcome.state is state and outcome.source != me


def _send_makers(
    me: str,
    items: Sequence[Item],
    outcomes: dict[str, Outcome],
    lay_out: LayOut,
    limits: Limits,
    slots: dict[str, int],
    now: float,
) -> list[Order]:
    """Orders for VMs that were chosen to make room and have not left yet."""
    waiting = [
        item
        for item in items
        if stage(me, item) in (Stage.HERE, Stage.ASSIGNED)
        and _leaves(me, outcomes.get(item.uuid))
        and outcomes[item.uuid].state is OutcomeState.WAITING
    ]
    if not waiting:
        return []
    layout = lay_out(
        [wanted(item, outcomes[item.uuid], planned(outcomes, item.uuid) or item.vm.home) for item in waiting]
    )
    for uuid, objections in layout.unplaced.items():
        why = no_target(outcomes[uuid], objections)
        outcomes[uuid] = replace(outcomes[uuid], state=OutcomeState.KEPT, target=None, why=why)
    return send_off(me, layout, outcomes, limits, slots, now)


def _make_room(
    me: str,
    item: Item,
    items: Sequence[Item],
    outcomes: dict[str, Outcome],
    home: Room,
    lay_out: LayOut,
    limits: Limits,
    slots: dict[str, int],
    now: float,
) -> list[Order]:
    """Orders that move VMs of other homes away for one that has its home here; it is kept if none would do."""
    leaving = sum(one.vm.memory for one in items if _leaves(me, outcomes.get(one.uuid)))
    needed = item.vm.memory - home.free_for(item.vm) - leaving
    if needed <= 0:
        return []  # what is on its way out makes the room
    foreign = [one for one in items if _is_foreign(me, one) and one.uuid not in outcomes]
    while chosen := fewest(needed, [one.vm for one in foreign]):
        layout = lay_out([Wanted(vm, preferred=vm.home) for vm in chosen])
        if not layout.unplaced:
            for vm in chosen:
                outcomes[vm.uuid] = Outcome(vm.name, OutcomeState.WAITING, source=me, since=now, memory=vm.memory)
            return send_off(me, layout, outcomes, limits, slots, now)
        foreign = [one for one in foreign if one.uuid not in layout.unplaced]
    why = f"{me} {home.lack(item.vm)}, and no VM of another home can make that room"
    outcomes[item.uuid] = replace(outcomes[item.uuid], state=OutcomeState.KEPT, why=why)
    return []


def fewest(needed: int, vms: Sequence[Vm]) -> list[Vm]:
    """The VMs to move so that at least so many MiB are free: the smallest that suffices alone, else the largest ones;
    none if all together do not suffice."""
    by_size = sorted(vms, key=lambda vm: (vm.memory, vm.name))
    for vm in by_size:
        if vm.memory >= needed:
            return [vm]
    chosen: list[Vm] = []
    while needed > 0 and by_size:
        chosen.append(by_size.pop())
        needed -= chosen[-1].memory
    return chosen if needed <= 0 else []


def _leaves(me: str, outcome: Outcome | None) -> bool:
    """Whether the VM makes room, or is about to."""
    under_way = (OutcomeState.WAITING, OutcomeState.MOVING)
    return outcome is not None and outcome.source == me and outcome.state in under_way


def _is_foreign(me: str, item: Item) -> bool:
    movable = stage(me, item) is Stage.HERE and item.vm.policy is not Policy.KEEP
    return movable and item.vm.home not in (None, me)


def _followed(
    me: str, item: Item, before: Outcome | None, wishes: Wishes, limits: Limits, now: float
) -> Outcome | None:
    """What has become of one VM; None: it is no business of the unflush."""
    before = before or _begun(me, item, wishes, now)
    if before is None:
        return None
    if before.source == me:
        return followed(me, item, before, limits, now)
    return _homing(me, item, before, limits, now)


def _begun(me: str, item: Item, wishes: Wishes, now: float) -> Outcome | None:
    vm = item.vm
    if vm.home != me or vm.node == me:
        return None
    outcome = Outcome(vm.name, OutcomeState.WAITING, source=_from(me, item), since=now, memory=vm.memory)
    if wishes.skip or (wishes.only and item.uuid not in wishes.only):
        return replace(outcome, state=OutcomeState.LEFT_ALONE, why="was not to be moved")
    return outcome


def _homing(me: str, item: Item, before: Outcome, limits: Limits, now: float) -> Outcome:
    vm, actual = item.vm, item.actual
    if before.state in (OutcomeState.MOVED, OutcomeState.LEFT_ALONE, OutcomeState.KEPT):
        return before
    if vm.node == actual.node == me and actual.state is ActualState.RUNNING:
        took = now - before.since if before.state is OutcomeState.MOVING and before.since is not None else None
        return replace(before, state=OutcomeState.MOVED, target=me, why="", seconds=took)
    if vm.state is VmState.STOPPED:
        return replace(before, state=OutcomeState.LEFT_ALONE, why="was stopped")
    if vm.home != me and vm.node != me:
        return replace(before, state=OutcomeState.LEFT_ALONE, why="an administrator moved it")
    if vm.displaced_by is None and vm.node != me:
        return replace(before, state=OutcomeState.LEFT_ALONE, why="an administrator took it from home")
    if actual.node is not None and not item.source_alive:
        return replace(
            before, state=OutcomeState.KEPT, why=f"the daemon of {actual.node}, where it is, does not answer"
        )
    if before.state is OutcomeState.MOVING and vm.node != me:
        return failed(item, before, me, limits, now)
    if vm.node == me and actual.node == me and actual.state is ActualState.FAILED:
        return replace(before, state=OutcomeState.KEPT, why=actual.reason)
    waited = waited_for(item, before, now)
    if stands_still(item, before, waited, limits):
        return replace(before, state=OutcomeState.KEPT, why=standstill(actual.node, item, waited))
    if vm.node == me:
        return replace(before, state=OutcomeState.MOVING, target=me)
    return before
