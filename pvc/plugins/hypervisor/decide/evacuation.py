"""What a flush does about each VM of its node.

Orders are wanted states: `decide/vm.py` carries them out on the node that has the VM. Here it is decided when each
goes, how many at a time, what is given up, and when nothing is left to do; `decide/planner.py` says where.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

from pvc.core.forecast import Objection
from pvc.core.model import ActualState, Outcome, OutcomeState, Policy, Vm, VmActual, VmState
from pvc.plugins.hypervisor.decide.planner import Layout, Wanted
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


_DOWN_OR_UP = frozenset({ActualState.RUNNING, ActualState.STOPPING, ActualState.STARTING, ActualState.FAILED})
"""States of a VM that no migration has in hand."""


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
    pause: float | None = None
    """Seconds until a VM whose move failed may be tried again; None: none waits for that."""

    @property
    def in_flight(self) -> int:
        """How many VMs are on their way once the orders are given."""
        return sum(outcome.state is OutcomeState.MOVING for outcome in self.outcomes.values())


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
    if _is_given_up_for(me, item):
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
    eager: int = 0
    """How many failures of one VM are followed by another try at once; before later ones there is a growing pause."""
    slots: Mapping[str, int] = field(default_factory=dict)
    """How many more VMs may set off for each node now; nodes that take any number are left out."""


LayOut = Callable[[Sequence[Wanted]], Layout]
"""Finds nodes for VMs, all at once; the selector and the plugins' verdicts of each are its own business."""


def plan_flush(
    me: str,
    items: Sequence[Item],
    before: Mapping[str, Outcome],
    lay_out: LayOut,
    limits: Limits,
    now: float,
    *,
    stopping: bool,
) -> Plan:
    """The next orders that empty node `me`, of a joint plan for all that have not gone yet."""
    outcomes = still_known(before, items)
    for item in items:
        outcome = followed(me, item, before.get(item.uuid), limits, now)
        if outcome is not None:
            outcomes[item.uuid] = outcome
    waiting = [item for item in items if _may_be_ordered(me, item, outcomes.get(item.uuid))]
    if stopping or not waiting or in_flight(outcomes) >= limits.parallel:
        return Plan((), outcomes, finished(outcomes, stopping), next_try(outcomes, limits, now))
    layout = lay_out([wanted(item, outcomes[item.uuid], planned(outcomes, item.uuid)) for item in waiting])
    orders = send_off(me, layout, outcomes, limits, dict(limits.slots), now)
    for uuid, objections in layout.unplaced.items():
        if not in_flight(outcomes):  # what is in flight may fail, and leave its place to another
            why = no_target(outcomes[uuid], objections)
            outcomes[uuid] = replace(outcomes[uuid], state=OutcomeState.KEPT, target=None, why=why)
    return Plan(tuple(orders), outcomes, finished(outcomes, stopping), next_try(outcomes, limits, now))


def send_off(
    me: str, layout: Layout, outcomes: dict[str, Outcome], limits: Limits, slots: dict[str, int], now: float
) -> list[Order]:
    """Orders for as many VMs of a plan as may set off from `me` now.

    Notes in `outcomes` where each will go, and takes from `slots`, which are the limits' at first.
    """
    orders: list[Order] = []
    for placed in layout.placed:
        uuid, outcome = placed.vm.uuid, outcomes[placed.vm.uuid]
        free = in_flight(outcomes) < limits.parallel and slots.get(placed.node, 1) > 0
        if not free or pauses_until(outcome, limits) > now:
            outcomes[uuid] = replace(outcome, target=placed.node)
            continue
        if placed.node in slots:
            slots[placed.node] -= 1
        orders.append(Order(uuid, placed.node))
        outcomes[uuid] = replace(
            outcome,
            state=OutcomeState.MOVING,
            source=me,
            target=placed.node,
            since=now,
            why="",
            memory=placed.vm.memory,
        )
    return orders


def in_flight(outcomes: Mapping[str, Outcome]) -> int:
    """How many VMs are on their way."""
    return sum(outcome.state is OutcomeState.MOVING for outcome in outcomes.values())


def next_try(outcomes: Mapping[str, Outcome], limits: Limits, now: float) -> float | None:
    """Seconds until the first VM whose move failed may be tried again; None: none waits for that."""
    waiting = [outcome for outcome in outcomes.values() if outcome.state is OutcomeState.WAITING]
    later = [until - now for until in (pauses_until(outcome, limits) for outcome in waiting) if until > now]
    return min(later, default=None)


def pauses_until(outcome: Outcome, limits: Limits) -> float:
    """When a VM may be tried again, in seconds since the epoch: after 2 s, then 6, 18, at most 60."""
    failures = len(outcome.tries) - limits.eager
    if failures <= 0 or outcome.since is None:
        return 0.0
    return outcome.since + min(60.0, 2.0 * 3.0 ** (failures - 1))


def _may_be_ordered(me: str, item: Item, outcome: Outcome | None) -> bool:
    movable = stage(me, item) in (Stage.HERE, Stage.ASSIGNED)
    return movable and outcome is not None and outcome.state is OutcomeState.WAITING


def wanted(item: Item, outcome: Outcome, preferred: str | None = None) -> Wanted:
    """The VM as the planner is to see it."""
    tried = dict.fromkeys(outcome.tries, Objection("was tried and failed"))
    return Wanted(item.vm, excluded=tried, preferred=preferred)


def planned(outcomes: Mapping[str, Outcome], uuid: str) -> str | None:
    """Where the VM was to go in the plan made before: an operation does what it has announced, until a move fails and
    the plan is worth nothing any more."""
    return None if any(outcome.tries for outcome in outcomes.values()) else outcomes[uuid].target


def left_behind(outcomes: Mapping[str, Outcome]) -> tuple[str, ...]:
    """What has not moved though it should have, in words, by name."""
    held_up = (OutcomeState.KEPT, OutcomeState.WAITING, OutcomeState.MOVING)
    return tuple(
        f"{outcome.name}: {outcome.why or 'its turn did not come'}"
        for outcome in sorted(outcomes.values(), key=lambda outcome: outcome.name)
        if outcome.state in held_up
    )


def followed(me: str, item: Item, before: Outcome | None, limits: Limits, now: float) -> Outcome | None:
    """What has become of one VM of a node being emptied; None: it is no business of the flush."""
    here = stage(me, item)
    if before is None:
        if here is Stage.AWAY:
            return None
        source = item.actual.node if _arrives(me, item) or _is_given_up_for(me, item) else me
        before = Outcome(item.vm.name, OutcomeState.WAITING, source=source, since=now, memory=item.vm.memory)
    if here is Stage.AWAY:
        return _gone(me, item, before, now)
    if here is Stage.LEAVING:
        return _leaving(item, before, limits, now)
    if before.state in (OutcomeState.MOVED, OutcomeState.LEFT_ALONE):
        # It has come back, or a new one of that UUID has: begin anew.
        before = Outcome(item.vm.name, OutcomeState.WAITING, source=me, since=now, memory=item.vm.memory)
    if here is Stage.CHANGING:
        waited = waited_for(item, before, now)
        if before.state in (OutcomeState.WAITING, OutcomeState.MOVING) and waited > limits.patience:
            return replace(before, state=OutcomeState.KEPT, why=standstill(me, item, waited))
        return before
    if item.vm.policy is Policy.KEEP and here is Stage.HERE:
        return replace(before, state=OutcomeState.KEPT, why="its policy is keep")
    if before.state is OutcomeState.MOVING:
        return failed(item, before, before.target or "", limits, now)
    return before if before.source == me else replace(before, source=me)


def _leaving(item: Item, before: Outcome, limits: Limits, now: float) -> Outcome:
    """It was ordered away: it moves, unless it waits for somebody who may never answer."""
    waited = waited_for(item, before, now)
    if stands_still(item, before, waited, limits):
        return replace(before, state=OutcomeState.KEPT, why=before.why or standstill(item.actual.node, item, waited))
    since = before.since if before.state is OutcomeState.MOVING else now
    return replace(before, state=OutcomeState.MOVING, target=item.vm.node, since=since, why="")


def _arrives(me: str, item: Item) -> bool:
    """Whether the VM is on its way to `me`, and where it comes from can still stop it."""
    actual = item.actual
    return actual.state is ActualState.MIGRATING and actual.target == me != actual.node and item.source_alive


def _is_given_up_for(me: str, item: Item) -> bool:
    """Whether the node that holds the lease gives it up for `me` to start the VM, without asking whether it can: it
    shuts the VM down as its policy says, has it down, or is dead and will find it down."""
    vm, actual = item.vm, item.actual
    if vm.node != me or vm.state is not VmState.RUNNING or actual.node in (None, me) or actual.state not in _DOWN_OR_UP:
        return False
    moves = actual.state is ActualState.RUNNING and vm.policy is not Policy.SHUTDOWN
    return not (moves and item.source_alive)  # a live move asks


def incoming(me: str, items: Sequence[Item]) -> list[Item]:
    """The VMs on their way to `me` whose moves are still wanted."""
    return [item for item in items if item.vm.node == me and (_arrives(me, item) or _is_given_up_for(me, item))]


def _gone(me: str, item: Item, before: Outcome, now: float) -> Outcome:
    if before.state in (OutcomeState.MOVED, OutcomeState.LEFT_ALONE):
        return before
    if before.source != me and item.actual.node == before.source:
        return replace(before, state=OutcomeState.LEFT_ALONE, why=f"its move to {me} was stopped")
    if item.actual.state is ActualState.STOPPED and item.vm.state is VmState.STOPPED:
        return replace(before, state=OutcomeState.LEFT_ALONE, why="was stopped")
    took = now - before.since if before.state is OutcomeState.MOVING and before.since is not None else None
    return replace(before, state=OutcomeState.MOVED, target=item.actual.node or item.vm.node, why="", seconds=took)


def failed(item: Item, before: Outcome, target: str, limits: Limits, now: float) -> Outcome:
    """The move ordered before did not happen: wait for another try, or give up. A guest that was too busy for one
    target is so for any other."""
    tries = (*before.tries, target)
    again = len(tries) <= limits.retries and not item.actual.unconverged
    state = OutcomeState.WAITING if again else OutcomeState.KEPT
    why = item.actual.failed_move or "did not go"
    return replace(before, state=state, tries=tries, why=why, target=None, since=now)


def finished(outcomes: Mapping[str, Outcome], stopping: bool) -> bool:
    """Whether nothing is left to do, or nothing in flight when no more is to be begun."""
    open_states = {OutcomeState.MOVING} if stopping else {OutcomeState.MOVING, OutcomeState.WAITING}
    return not any(outcome.state in open_states for outcome in outcomes.values())


def no_target(outcome: Outcome, objections: Mapping[str, Objection]) -> str:
    """Why a VM has nowhere to go, in words."""
    reasons = "; ".join(f"{node} {objection}" for node, objection in sorted(objections.items()))
    last = f" (last try: {outcome.why})" if outcome.tries and outcome.why else ""
    return f"no node can take it: {reasons or 'there is no other node'}{last}"


def still_known(before: Mapping[str, Outcome], items: Sequence[Item]) -> dict[str, Outcome]:
    """The outcomes so far; what has vanished meanwhile is nothing to wait for."""
    known = {item.uuid for item in items}
    under_way = (OutcomeState.WAITING, OutcomeState.MOVING)
    return {
        uuid: outcome
        if uuid in known or outcome.state not in under_way
        else replace(outcome, state=OutcomeState.LEFT_ALONE, why="is not defined any more")
        for uuid, outcome in before.items()
    }


def waited_for(item: Item, before: Outcome, now: float) -> float:
    """Seconds since the operation has had to do with the VM as it is now."""
    return now - max(before.since if before.since is not None else now, item.actual.since)


def stands_still(item: Item, before: Outcome, waited: float, limits: Limits) -> bool:
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


def standstill(me: str | None, item: Item, waited: float) -> str:
    """What a VM that does not get on is at, in words."""
    actual = item.actual
    if actual.state is ActualState.DEPARTED:
        return f"left for {actual.target}, which has not said for {waited:.0f} s whether it has it"
    if item.guest is not None and actual.node not in (None, me) and actual.target != me:
        return f"runs here though {actual.node} holds its lease"
    doing = "arriving" if actual.state is ActualState.MIGRATING else actual.state.value
    return f"has been {doing} for {waited:.0f} s"
