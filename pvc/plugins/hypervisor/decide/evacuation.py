"""What a flush does about each VM of its node, and what an unflush does about each VM whose home it is.

Orders are wanted states: `decide/vm.py` carries them out on the node that has the VM. Here it is decided who goes
where, how many at a time, what is given up, and when nothing is left to do.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from pvc.core.model import ActualState, Outcome, OutcomeState, Policy, Vm, VmActual, VmState
from pvc.plugins.hypervisor.decide.placement import Choice
from pvc.plugins.hypervisor.host import Guest, GuestState


class Stage(Enum):
    """How a VM stands towards a node that is being emptied."""

    AWAY = "away"
    """It is not here and will not start here."""
    HERE = "here"
    """It runs here and can be moved."""
    ASSIGNED = "assigned"
    """It does not run, but would be started here."""
    LEAVING = "leaving"
    """It has been ordered away."""
    CHANGING = "changing"
    """It starts, stops or arrives: wait until it is clear what it is."""


@dataclass(frozen=True, slots=True)
class Item:
    """One VM as the operation's look found it."""

    uuid: str
    vm: Vm
    actual: VmActual
    guest: Guest | None
    source_alive: bool = True
    """Whether the daemon of the node that holds the lease answers."""


@dataclass(frozen=True, slots=True)
class Order:
    """Have a VM go to a node."""

    uuid: str
    target: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do now, and what has become of everything so far."""

    orders: tuple[Order, ...]
    outcomes: Mapping[str, Outcome]
    finished: bool


def stage(me: str, item: Item) -> Stage:
    """How the VM stands towards node `me`."""
    vm, actual = item.vm, item.actual
    if actual.state is ActualState.ASTRAY and item.guest is None:
        return Stage.AWAY
    if actual.node == me:
        if actual.state is ActualState.FAILED:
            return Stage.ASSIGNED if vm.node == me and vm.state is VmState.RUNNING else Stage.CHANGING
        if vm.node != me:
            return Stage.LEAVING
        if actual.state is ActualState.RUNNING and vm.state is VmState.RUNNING and vm.restart <= actual.restart:
            return Stage.HERE
        return Stage.CHANGING
    if actual.target == me and (item.guest is not None or item.source_alive):
        return Stage.CHANGING
    if item.guest is not None and (actual.node is None or item.guest.state is not GuestState.LEAVING):
        return Stage.CHANGING  # whatever the records say: a node with a guest is not empty
    if vm.node == me and vm.state is VmState.RUNNING and (actual.node is None or actual.target == me):
        return Stage.ASSIGNED
    return Stage.AWAY


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one operation."""

    parallel: int
    retries: int
    patience: float
    """Seconds to wait for a VM that is neither up nor down before it is given up."""


def plan_flush(
    me: str,
    items: Sequence[Item],
    before: Mapping[str, Outcome],
    choose: Callable[[Vm, Mapping[str, str], Mapping[str, str]], Choice],
    limits: Limits,
    now: float,
    *,
    stopping: bool,
) -> Plan:
    """The next orders that empty node `me`.

    `choose(vm, promised, excluded)` picks a target; `promised` maps the VMs ordered in this very plan to their targets,
    `excluded` maps nodes to reasons against them. Largest VM first, by name among equals.
    """
    outcomes = _still_known(before, items)
    for item in items:
        outcome = _progressed(me, item, before.get(item.uuid), limits, now)
        if outcome is not None:
            outcomes[item.uuid] = outcome
    orders: list[Order] = []
    in_flight = sum(outcome.state is OutcomeState.MOVING for outcome in outcomes.values())
    for item in sorted(items, key=lambda item: (-item.vm.memory, item.vm.name)):
        outcome = outcomes.get(item.uuid)
        movable = stage(me, item) in (Stage.HERE, Stage.ASSIGNED)
        if stopping or outcome is None or outcome.state is not OutcomeState.WAITING or not movable:
            continue
        if in_flight >= limits.parallel:
            break
        promised = {order.uuid: order.target for order in orders}
        choice = choose(item.vm, promised, dict.fromkeys(outcome.tries, "was tried and failed"))
        if choice.node is None:
            outcomes[item.uuid] = replace(outcome, state=OutcomeState.KEPT, why=_no_target(outcome, choice))
            continue
        orders.append(Order(item.uuid, choice.node))
        outcomes[item.uuid] = replace(
            outcome, state=OutcomeState.MOVING, source=me, target=choice.node, since=now, why=""
        )
        in_flight += 1
    return Plan(tuple(orders), outcomes, _finished(outcomes, stopping))


def plan_unflush(
    me: str,
    items: Sequence[Item],
    before: Mapping[str, Outcome],
    lack: Callable[[Vm, Sequence[Vm]], str],
    limits: Limits,
    now: float,
    *,
    stopping: bool,
) -> Plan:
    """The next orders that bring home to node `me` what a flush took away.

    `lack(vm, promised)` says why a VM does not fit at home beside those ordered in this plan; empty: it does.
    """
    outcomes = _still_known(before, items)
    orders: list[Order] = []
    promised: list[Vm] = []
    for item in items:
        outcome = _homing(me, item, before.get(item.uuid), limits, now)
        if outcome is not None:
            outcomes[item.uuid] = outcome
    in_flight = sum(outcome.state is OutcomeState.MOVING for outcome in outcomes.values())
    for item in sorted(items, key=lambda item: (-item.vm.memory, item.vm.name)):
        outcome = outcomes.get(item.uuid)
        if stopping or outcome is None or outcome.state is not OutcomeState.WAITING:
            continue
        if item.actual.state in (ActualState.STARTING, ActualState.STOPPING, ActualState.MIGRATING):
            continue
        if in_flight >= limits.parallel:
            break
        why = lack(item.vm, promised)
        if why:
            outcomes[item.uuid] = replace(outcome, state=OutcomeState.KEPT, why=f"{me} {why}")
            continue
        orders.append(Order(item.uuid, me))
        promised.append(item.vm)
        outcomes[item.uuid] = replace(
            outcome, state=OutcomeState.MOVING, source=item.actual.node, target=me, since=now, why=""
        )
        in_flight += 1
    return Plan(tuple(orders), outcomes, _finished(outcomes, stopping))


def left_behind(outcomes: Mapping[str, Outcome]) -> tuple[str, ...]:
    """What has not moved though it should have, in words, by name."""
    held_up = (OutcomeState.KEPT, OutcomeState.WAITING, OutcomeState.MOVING)
    return tuple(
        f"{outcome.name}: {outcome.why or 'its turn did not come'}"
        for outcome in sorted(outcomes.values(), key=lambda outcome: outcome.name)
        if outcome.state in held_up
    )


def _progressed(me: str, item: Item, before: Outcome | None, limits: Limits, now: float) -> Outcome | None:
    """What has become of one VM of a node being emptied; None: it is no business of the flush."""
    here = stage(me, item)
    if before is None:
        if here is Stage.AWAY:
            return None
        before = Outcome(item.vm.name, OutcomeState.WAITING, source=me, since=now)
    if here is Stage.AWAY:
        return _gone(item, before, now)
    if here is Stage.LEAVING:
        return _leaving(item, before, limits, now)
    if before.state in (OutcomeState.MOVED, OutcomeState.LEFT_ALONE):
        # It has come back, or a new one of that UUID has: begin anew.
        before = Outcome(item.vm.name, OutcomeState.WAITING, source=me, since=now)
    if here is Stage.CHANGING:
        waited = _waited(item, before, now)
        if before.state in (OutcomeState.WAITING, OutcomeState.MOVING) and waited > limits.patience:
            return replace(before, state=OutcomeState.KEPT, why=_standstill(me, item, waited))
        return before
    if item.vm.policy is Policy.KEEP and here is Stage.HERE:
        return replace(before, state=OutcomeState.KEPT, why="its policy is keep")
    if before.state is OutcomeState.MOVING:
        return _failed(before, before.target or "", item.actual.failed_move or "did not go", limits)
    return before


def _leaving(item: Item, before: Outcome, limits: Limits, now: float) -> Outcome:
    """It was ordered away: it moves, unless it waits for somebody who may never answer."""
    waited = _waited(item, before, now)
    if _stands_still(item, before, waited, limits):
        return replace(before, state=OutcomeState.KEPT, why=before.why or _standstill(item.actual.node, item, waited))
    since = before.since if before.state is OutcomeState.MOVING else now
    return replace(before, state=OutcomeState.MOVING, target=item.vm.node, since=since, why="")


def _gone(item: Item, before: Outcome, now: float) -> Outcome:
    if before.state in (OutcomeState.MOVED, OutcomeState.LEFT_ALONE):
        return before
    if item.actual.state is ActualState.STOPPED and item.vm.state is VmState.STOPPED:
        return replace(before, state=OutcomeState.LEFT_ALONE, why="was stopped")
    took = now - before.since if before.state is OutcomeState.MOVING and before.since is not None else None
    return replace(before, state=OutcomeState.MOVED, target=item.actual.node or item.vm.node, why="", seconds=took)


def _failed(before: Outcome, target: str, why: str, limits: Limits) -> Outcome:
    """The move ordered before did not happen: wait for another try, or give up."""
    tries = (*before.tries, target)
    state = OutcomeState.WAITING if len(tries) <= limits.retries else OutcomeState.KEPT
    return replace(before, state=state, tries=tries, why=why, target=None)


def _homing(me: str, item: Item, before: Outcome | None, limits: Limits, now: float) -> Outcome | None:
    """What has become of one VM on its way home; None: it is no business of the unflush."""
    vm, actual = item.vm, item.actual
    if before is None and (vm.home != me or vm.node == me):
        return None
    if before is None:
        before = Outcome(vm.name, OutcomeState.WAITING, source=actual.node, since=now)
    if before.state in (OutcomeState.MOVED, OutcomeState.LEFT_ALONE, OutcomeState.KEPT):
        return before
    if actual.node == me and actual.state is ActualState.RUNNING:
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
        return _failed(before, me, actual.failed_move or "did not go", limits)
    if vm.node == me and actual.node == me and actual.state is ActualState.FAILED:
        return replace(before, state=OutcomeState.KEPT, why=actual.reason)
    waited = _waited(item, before, now)
    if _stands_still(item, before, waited, limits):
        return replace(before, state=OutcomeState.KEPT, why=_standstill(actual.node, item, waited))
    if vm.node == me:
        return replace(before, state=OutcomeState.MOVING, target=me)
    return before


def _finished(outcomes: Mapping[str, Outcome], stopping: bool) -> bool:
    open_states = {OutcomeState.MOVING} if stopping else {OutcomeState.MOVING, OutcomeState.WAITING}
    return not any(outcome.state in open_states for outcome in outcomes.values())


def _no_target(outcome: Outcome, choice: Choice) -> str:
    reasons = "; ".join(f"{node} {why}" for node, why in sorted(choice.reasons.items()))
    last = f" (last try: {outcome.why})" if outcome.tries and outcome.why else ""
    return f"no node can take it: {reasons or 'there is no other node'}{last}"


def _still_known(before: Mapping[str, Outcome], items: Sequence[Item]) -> dict[str, Outcome]:
    """The outcomes so far; what has vanished meanwhile is nothing to wait for."""
    known = {item.uuid for item in items}
    under_way = (OutcomeState.WAITING, OutcomeState.MOVING)
    return {
        uuid: outcome
        if uuid in known or outcome.state not in under_way
        else replace(outcome, state=OutcomeState.LEFT_ALONE, why="is not defined any more")
        for uuid, outcome in before.items()
    }


def _waited(item: Item, before: Outcome, now: float) -> float:
    """Seconds since the operation has had to do with the VM as it is now."""
    return now - max(before.since if before.since is not None else now, item.actual.since)


def _stands_still(item: Item, before: Outcome, waited: float, limits: Limits) -> bool:
    """Whether it has been on its way, or between two states, for too long: whoever should act may never do so.

    A migration has a deadline of its own, and so has a guest that is to leave by shutting down: the node that carries
    it out keeps it, if it can.
    """
    state = item.actual.state
    own_deadline = state is ActualState.STOPPING and item.vm.policy is Policy.SHUTDOWN
    waits_for_turn = before.state is OutcomeState.WAITING and state not in (
        ActualState.STARTING,
        ActualState.STOPPING,
        ActualState.DEPARTED,
    )
    if state is ActualState.MIGRATING or waits_for_turn:
        return False
    return waited > limits.patience * (2 if own_deadline else 1)


def _standstill(me: str | None, item: Item, waited: float) -> str:
    actual = item.actual
    if actual.state is ActualState.DEPARTED:
        return f"left for {actual.target}, which has not said for {waited:.0f} s whether it has it"
    if item.guest is not None and actual.node not in (None, me) and actual.target != me:
        return f"runs here though {actual.node} holds its lease"
    doing = "arriving" if actual.state is ActualState.MIGRATING else actual.state.value
    return f"has been {doing} for {waited:.0f} s"
