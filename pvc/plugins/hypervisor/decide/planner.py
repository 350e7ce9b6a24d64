"""Where several VMs go at once: a joint plan, made before anything moves, in which no node is promised too much.

Largest VM first, each to the best node that is left (first fit decreasing, the usual heuristic for bin packing: Garey
and Johnson 1979). Where that leaves a VM without a node, a bounded search with backtracking looks for a plan that has
room for all of them. The same question always has the same answer.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from pvc.core.context import Verdict
from pvc.core.forecast import Objection
from pvc.core.model import Vm
from pvc.plugins.hypervisor.decide.placement import Candidate, Room

EFFORT = 200_000
"""Pairs of VM and node that the search looks at before it gives up: a fraction of a second, and enough for everything
there is to try with six VMs and four nodes."""


class Selector(Enum):
    """What makes a node the best of those that can take a VM; among equals the first by name."""

    MEM = "mem"
    """Most memory free."""
    VCPUS = "vcpus"
    """Fewest virtual processors for each of its own."""
    LOAD = "load"
    """Lowest load for each processor; each virtual processor promised to it counts as one more to come."""
    VMS = "vms"
    """Fewest VMs."""


SELECTOR_OPTION = "hypervisor.placement.selector"


def selector_of(vm: Vm, otherwise: Selector) -> Selector:
    """The selector of a VM's own; `otherwise` if it has none, or none that this version knows."""
    named = vm.options.get(SELECTOR_OPTION)
    return next((selector for selector in Selector if selector.value == named), otherwise)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A VM that needs a node."""

    vm: Vm
    selector: Selector = Selector.MEM
    excluded: Mapping[str, Objection] = field(default_factory=dict)
    """Further reasons against nodes, by name."""
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    """What plugins say of nodes. A better score goes before the selector."""
    preferred: str | None = None
    """Of the nodes that can take it and that plugins score alike this one is the best."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A VM and its node."""

    vm: Vm
    node: str
    free_after: int
    """MiB that the node has left then."""


@dataclass(frozen=True, slots=True)
class Layout:
    """A joint plan."""

    placed: tuple[Placed, ...]
    """In the order in which the VMs should go."""
    unplaced: Mapping[str, Mapping[str, Objection]]
    """By UUID of each VM that has no node: what speaks against each."""


def lay_out(
    wanted: Iterable[Wanted],
    nodes: Iterable[Candidate],
    *,
    head_room: int = 0,
    promised: Mapping[str, Sequence[Vm]] | None = None,
    effort: int = EFFORT,
) -> Layout:
    """A node for each VM, or the reasons against every node.

    `head_room`: MiB to leave free on each. `promised`: VMs on their way, by node, whether or not it knows of them.
    """
    inventory = sorted(nodes, key=lambda node: node.name)
    ordered = sorted(wanted, key=lambda one: (-one.vm.memory, one.vm.name, one.vm.uuid))
    layout = _greedy(ordered, _rooms(inventory, head_room, promised or {}))
    if not layout.unplaced:
        return layout
    rooms = _rooms(inventory, head_room, promised or {})
    possible = [one for one in ordered if _choices(one, rooms)]
    if len(possible) == len(layout.placed):
        return layout
    found = _search(possible, rooms, effort)
    return layout if found is None else _follow(ordered, rooms, found)


def _rooms(nodes: Iterable[Candidate], head_room: int, promised: Mapping[str, Sequence[Vm]]) -> list[Room]:
    rooms = [Room(node, head_room) for node in nodes]
    for room in rooms:
        for vm in promised.get(room.candidate.name, ()):
            room.take(vm)
    return rooms


def _greedy(ordered: Sequence[Wanted], rooms: Sequence[Room]) -> Layout:
    placed: list[Placed] = []
    rest, before = list(ordered), -1
    while len(placed) > before:  # again as long as it helps: a VM may need less than what is set aside for it there
        before = len(placed)
        left: list[Wanted] = []
        for one in rest:
            room = _best(one, rooms)
            if room is None:
                left.append(one)
            else:
                placed.append(_take(one, room))
        rest = left
    return Layout(tuple(placed), {one.vm.uuid: objections(one, rooms) for one in rest})


def _follow(ordered: Sequence[Wanted], rooms: Sequence[Room], found: Mapping[str, str]) -> Layout:
    """The layout that the search has found, and what becomes of those that it left out."""
    by_name = {room.candidate.name: room for room in rooms}
    placed = [_take(one, by_name[found[one.vm.uuid]]) for one in ordered if one.vm.uuid in found]
    rest = _greedy([one for one in ordered if one.vm.uuid not in found], rooms)
    return Layout((*placed, *rest.placed), rest.unplaced)


def _take(one: Wanted, room: Room) -> Placed:
    room.take(one.vm)
    return Placed(one.vm, room.candidate.name, room.free)


def objections(one: Wanted, rooms: Iterable[Room]) -> dict[str, Objection]:
    """What speaks against each node, by name; nodes that can take the VM are left out."""
    found = {room.candidate.name: _objection(one, room) for room in rooms}
    return {name: objection for name, objection in found.items() if objection is not None}


def _objection(one: Wanted, room: Room) -> Objection | None:
    name = room.candidate.name
    excluded = one.excluded.get(name) if one.excluded else None
    return excluded or room.objection(one.vm, one.verdicts.get(name) if one.verdicts else None)


def _best(one: Wanted, rooms: Iterable[Room]) -> Room | None:
    best: Room | None = None
    best_rank: tuple[float, bool, float] = (0.0, False, 0.0)
    for room in rooms:  # by name: among equals the first one stays
        if _objection(one, room) is None:
            rank = _rank(one, room)
            if best is None or rank < best_rank:
                best, best_rank = room, rank
    return best


def _choices(one: Wanted, rooms: Sequence[Room]) -> list[Room]:
    """The nodes that can take the VM, best first."""
    able = [room for room in rooms if _objection(one, room) is None]
    return sorted(able, key=lambda room: _rank(one, room))


def _rank(one: Wanted, room: Room) -> tuple[float, bool, float]:
    """How a node compares with others, less is better."""
    verdict = one.verdicts.get(room.candidate.name) if one.verdicts else None
    return (-verdict.score if verdict else 0.0, room.candidate.name != one.preferred, _measure(one, room))


def _measure(one: Wanted, room: Room) -> float:
    node = room.candidate
    match one.selector:
        case Selector.MEM:
            return -room.free_for(one.vm)
        case Selector.VCPUS:
            return room.vcpus / (node.cpus or 1)
        case Selector.LOAD:
            return ((node.load or 0.0) + room.coming) / (node.cpus or 1)
        case Selector.VMS:
            return len(room.vms)


def _most(wanted: Sequence[Wanted], room: Room) -> int:
    """MiB that these VMs together could have on a node at the most."""
    if room.closed is not None:
        return 0
    own = sum(room.vms.get(one.vm.uuid, 0) for one in wanted)
    return max(0, room.free - room.head_room + own)


class _Exhausted(Exception):
    """The search has tried as much as it may."""


def _search(wanted: Sequence[Wanted], rooms: Sequence[Room], effort: int) -> dict[str, str] | None:
    """Nodes for all of them, by UUID; None: there is no such plan, or the effort did not suffice to find one.

    Depth first, the VM with fewest nodes to go to next: what cannot work shows early.
    """
    left = effort

    def place(rest: Sequence[Wanted], rooms: Sequence[Room]) -> dict[str, str] | None:
        nonlocal left
        if not rest:
            return {}
        left -= len(rest) * len(rooms)
        if left < 0:
            raise _Exhausted
        open_ = [(one, _choices(one, rooms)) for one in rest]
        one, choices = min(open_, key=lambda pair: len(pair[1]))  # the first of equals is the largest
        others = [other for other in rest if other is not one]
        for room in choices:
            taken = room.copy()
            taken.take(one.vm)
            found = place(others, [taken if other is room else other for other in rooms])
            if found is not None:
                return {one.vm.uuid: room.candidate.name, **found}
        return None

    if sum(one.vm.memory for one in wanted) > sum(_most(wanted, room) for room in rooms):
        return None
    try:
        return place(wanted, rooms)
    except _Exhausted:
        return None
