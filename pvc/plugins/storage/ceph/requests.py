"""What clients ask about OSDs and flags, each a task of one node. Reads of Ceph what nodes publish in the tree."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pvc.core import keys as core
from pvc.core.coordination import Coordinator, Op, Put
from pvc.core.lookup import NotFound, all_nodes, demand_role, find_node, nearest, read_facts
from pvc.plugins.storage import keys
from pvc.plugins.storage.ceph.cluster import FLAGS
from pvc.plugins.storage.ceph.published import CephState, OsdState, best_of, osds_in, state_in
from pvc.plugins.storage.decide.names import is_text
from pvc.plugins.storage.records import Task, TaskKind, in_hand
from pvc.plugins.storage.requests.asking import Client, ask, make_places
from pvc.plugins.storage.requests.ledger import Refused
from pvc.plugins.storage.schema import SECTION


@dataclass(frozen=True, slots=True)
class Seat:
    """One OSD, and the node that it belongs to."""

    id: int
    node: str
    alive: bool
    """Whether the daemon of that node answers."""
    osd: OsdState


@dataclass(frozen=True, slots=True)
class Sight:
    """Ceph as nodes publish it."""

    states: Mapping[str, CephState]
    """Of nodes that are alive, by name."""
    seats: tuple[Seat, ...]
    """The OSDs of all nodes, by number."""

    @property
    def state(self) -> CephState | None:
        """The state to believe; None: no node knows of a Ceph."""
        return best_of(self.states.values())


def read_sight(coordinator: Coordinator) -> Sight:
    """What nodes publish of Ceph. Raises Disconnected."""
    states: dict[str, CephState] = {}
    seats: list[Seat] = []
    for node in all_nodes(coordinator)[0]:
        if SECTION not in node.roles:
            continue
        alive = coordinator.get(core.node_session(node.name)) is not None
        facts = read_facts(coordinator, node.name)
        state = state_in(facts)
        if alive and state is not None:
            states[node.name] = state
        seats += [Seat(id, node.name, alive, osd) for id, osd in osds_in(facts).items()]
    return Sight(states, tuple(sorted(seats, key=lambda seat: (seat.id, not seat.alive))))


def osd_number(text: str) -> int:
    """The number of an OSD that was named as 3 or osd.3. Raises Refused."""
    digits = text.removeprefix("osd.")
    if not (digits.isascii() and digits.isdigit() and len(digits) < 7):
        raise Refused(f"{text!r} is no OSD; write its number, as 3 or osd.3")
    return int(digits)


def add_osd(client: Client, node: str, device: str) -> Task:
    """Make an OSD of a device of a node. Raises Refused, NotFound, LacksRole, Disconnected."""
    if not device.startswith("/dev/") or ".." in device.split("/") or not is_text(device):
        raise Refused(f"{device!r} is no device; write its path on {node}, as /dev/sdb")

    def check(sight: Sight, tasks: Sequence[Task]) -> str:
        demand_role(client.coordinator, find_node(client.coordinator, node), SECTION)
        _demand_reach(sight, node)
        for task in tasks:
            if task.kind is TaskKind.ADD_OSD and (task.node, task.path) == (node, device):
                raise Refused(f"an OSD is being made of {device} of {node} already; {_how(task)}")
        return node

    return _asked(client, TaskKind.ADD_OSD, check, path=device)


def remove_osd(client: Client, id: int, consent: Callable[[Seat], None]) -> Task:
    """Empty an OSD, take it out of Ceph, and wipe its device. Raises Refused, NotFound, Disconnected."""

    def check(sight: Sight, tasks: Sequence[Task]) -> str:
        seat = _seat(sight, id)
        _demand_reach(sight, seat.node)
        _demand_unhandled(id, tasks)
        others = [one for one in sight.seats if one.id != id and one.osd.inside]
        state = sight.state
        if not others and state is not None and state.osds <= 1:
            raise Refused(f"osd.{id} is the only one: all data would be lost; add another one first")
        consent(seat)
        return seat.node

    return _asked(client, TaskKind.REMOVE_OSD, check, osd=id)


def mark_osd(client: Client, id: int, inside: bool) -> Task:
    """Mark an OSD in or out. Raises Refused, NotFound, Disconnected."""

    def check(sight: Sight, tasks: Sequence[Task]) -> str:
        state = sight.state
        known = {seat.id: seat.node for seat in sight.seats}
        if id not in known and (state is None or id not in state.strangers):
            _seat(sight, id)
        _demand_unhandled(id, tasks)
        return _worker(client, sight, known.get(id, ""))

    return _asked(client, TaskKind.MARK_OSD, check, osd=id, on=inside)


def set_flag(client: Client, flag: str, on: bool) -> Task:
    """Set or unset a flag of Ceph. Raises Refused, NotFound, Disconnected."""
    if flag not in FLAGS:
        close = nearest(flag, FLAGS)
        hint = f"did you mean {' or '.join(close)}?" if close else f"there are: {', '.join(FLAGS)}"
        raise NotFound(f"Ceph has no flag {flag!r}; {hint}")

    def check(sight: Sight, tasks: Sequence[Task]) -> str:
        return _worker(client, sight, client.own)

    return _asked(client, TaskKind.SET_FLAG, check, flag=flag, on=on)


def _asked(client: Client, kind: TaskKind, check: Callable[[Sight, Sequence[Task]], str], **fields: Any) -> Task:
    """Ask the node that `check` names. Whoever asks about OSDs rewrites one record, so that two see each other."""

    def attempt() -> tuple[Task, Sequence[Op]]:
        znode = client.coordinator.get(keys.TASKS)
        node = check(read_sight(client.coordinator), in_hand(client.coordinator))
        task = client.new_task(kind, node, bound=True, **fields)
        return task, [Put(keys.TASKS, b"", znode.version)] if znode is not None else []

    make_places(client.coordinator)
    return ask(client, attempt)


def _seat(sight: Sight, id: int) -> Seat:
    for seat in sight.seats:
        if seat.id == id:
            return seat
    if sight.state is not None and id in sight.state.strangers:
        raise Refused(f"osd.{id} is on no node with the storage role; see to it where it is, with Ceph's own tools")
    known = sorted((seat.id for seat in sight.seats), key=lambda one: (abs(one - id), one))[:3]
    hint = f"did you mean {' or '.join(map(str, known))}?" if known else "no node has published any"
    raise NotFound(f"there is no osd.{id}; {hint} `pvc storage osd list` shows them all")


def _demand_reach(sight: Sight, node: str) -> None:
    """Raise Refused unless a node is alive and reaches Ceph."""
    state = sight.states.get(node)
    if state is None:
        raise Refused(
            f"node {node} does not answer, or has not seen a Ceph; its pvcd must run, and find Ceph's configuration"
        )
    if state.problem:
        raise Refused(f"node {node} cannot ask Ceph: {state.problem}")


def _demand_unhandled(id: int, tasks: Sequence[Task]) -> None:
    for task in tasks:
        if task.osd == id:
            raise Refused(f"osd.{id} is busy: {task.kind.value} by {task.by} is {task.phase.value}; {_how(task)}")


def _worker(client: Client, sight: Sight, first: str) -> str:
    """A node that reaches Ceph; `first`, if it does."""
    able = sorted(node for node, state in sight.states.items() if not state.problem)
    if not able:
        told = "; ".join(f"{node}: {state.problem}" for node, state in sorted(sight.states.items()))
        raise Refused(f"no node can ask Ceph now: {told or 'none has seen one'}; mend that and ask again")
    return next((node for node in (first, client.own) if node in able), able[0])


def _how(task: Task) -> str:
    return f"`pvc storage task watch {task.id}` follows it, `pvc storage task cancel {task.id}` ends it"
