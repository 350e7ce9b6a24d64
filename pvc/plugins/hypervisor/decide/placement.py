"""Which nodes a VM may run on, and why not on the others. Every choice of a node, the daemon's and the client's, asks
here, so they never disagree."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pvc.core.context import Verdict
from pvc.core.decide.roles import HYPERVISOR
from pvc.core.forecast import Objection
from pvc.core.model import NodeState, Vm

ROLE = HYPERVISOR


@dataclass(frozen=True, slots=True)
class Candidate:
    """One node as a possible target."""

    name: str
    alive: bool
    state: NodeState
    roles: tuple[str, ...]
    memory: int | None
    """MiB that VMs may use; None: not published yet."""
    cpus: int | None = None
    load: float | None = None
    """Load average over one minute."""
    flush_asked: bool = False
    """A flush of it was asked for and has not ended."""
    fenced: bool = False
    """It was declared dead, and is not back in service yet."""
    vms: Mapping[str, int] = field(default_factory=dict)
    """MiB set aside for each VM there, by UUID."""
    vcpus: Mapping[str, int] = field(default_factory=dict)
    """Virtual processors of each of them."""
    spread: Mapping[str, str] = field(default_factory=dict)
    """Spread group of each VM there that has one."""
    limits: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The only nodes of each VM there that may not run anywhere."""
    arriving: tuple[str, ...] = ()
    """The VMs that migrate to it, by UUID."""
    inbound: int | None = None
    """How many VMs may migrate to it at the same time; None: any number."""
    version: int = 0
    """Of the node's record when this was read: a move checks it, so that nothing said since is overlooked."""
    promised: tuple[str, ...] = ()
    """Those of its VMs that were ordered there and that it does not know of yet, by UUID."""
    promises_version: int = 0
    """Of the record of what is promised to it, likewise."""


class Room:
    """What a node has left as VMs are promised to it, one after the other. Changes; everything else here does not."""

    __slots__ = ("candidate", "closed", "coming", "free", "groups", "head_room", "vcpus", "vms", "with_vcpus")

    def __init__(self, candidate: Candidate, head_room: int = 0) -> None:
        """`head_room`: MiB that are to stay free."""
        self.candidate = candidate
        self.closed = _closed(candidate)
        self.head_room = head_room
        self.vms: dict[str, int] = dict(candidate.vms)
        self.free = (candidate.memory or 0) - sum(self.vms.values())
        """MiB that are neither used nor promised; negative where more is used than there is."""
        self.vcpus = sum(candidate.vcpus.values())
        """Virtual processors of all its VMs."""
        self.coming = 0
        """Virtual processors of the VMs that are promised, and not there yet."""
        self.with_vcpus = set(candidate.vcpus)
        self.groups: dict[str, set[str]] = {}
        for uuid, group in candidate.spread.items():
            self.groups.setdefault(group, set()).add(uuid)

    def take(self, vm: Vm) -> None:
        """Promise the node a VM. One that is there already counts once, with what it needs now."""
        self.free += self.vms.get(vm.uuid, 0) - vm.memory
        self.vms[vm.uuid] = vm.memory
        if vm.uuid not in self.with_vcpus:
            self.with_vcpus.add(vm.uuid)
            self.vcpus += vm.vcpus
            self.coming += vm.vcpus
        if vm.spread:
            self.groups.setdefault(vm.spread, set()).add(vm.uuid)

    def copy(self) -> "Room":
        """A room as this one is now, to try things out in."""
        new = Room.__new__(Room)
        new.candidate, new.closed, new.head_room, new.free = self.candidate, self.closed, self.head_room, self.free
        new.vcpus, new.coming = self.vcpus, self.coming
        new.vms, new.with_vcpus = dict(self.vms), set(self.with_vcpus)
        new.groups = {group: set(uuids) for group, uuids in self.groups.items()}
        return new

    def free_for(self, vm: Vm) -> int:
        """MiB that the VM may have: its own claim, if it has one there, does not count against it."""
        return self.free + self.vms.get(vm.uuid, 0) - self.head_room

    def objection(self, vm: Vm, verdict: Verdict | None = None) -> Objection | None:
        """Why the node cannot take the VM now; None: it can."""
        if self.closed is not None:
            return self.closed
        if vm.needs and (lacking := lacks_role(vm, self.candidate.roles)):
            return lacking
        if vm.nodes and self.candidate.name not in vm.nodes:
            return Objection(
                f"is not one of its nodes ({', '.join(vm.nodes)})",
                f"widen its limit with `pvc vm modify {vm.name} --limit`",
            )
        if vm.spread and self.groups.get(vm.spread, _NOBODY) - {vm.uuid}:
            return Objection(
                f"runs another VM of spread group {vm.spread}",
                f"move that one, or take {vm.name} out of the group with `pvc vm modify {vm.name} --no-spread`",
            )
        if verdict is not None and verdict.veto:
            return Objection(verdict.veto)
        return self.lack(vm)

    def lack(self, vm: Vm) -> Objection | None:
        """Why the VM does not fit into the node's memory; None: it does."""
        if self.candidate.memory is None:
            return Objection("has not published its memory", "look at its daemon's log")
        free = self.free_for(vm)
        if vm.memory <= free:
            return None
        kept = f" ({self.head_room} kept as head-room)" if self.head_room else ""
        return Objection(
            f"has {max(0, free)} MiB free of {self.candidate.memory}{kept}, it needs {vm.memory}",
            f"free {vm.memory - free} MiB there",
        )


def lacks_role(vm: Vm, roles: Sequence[str]) -> Objection | None:
    """Why a node with these roles, which runs VMs, cannot run this one; None: it has all that the VM needs."""
    missing = next((role for role in vm.needs if role not in roles), None)
    if missing is None:
        return None
    return Objection(f"has no {missing} role, and it needs {', '.join(vm.needs[missing])}")


_NOBODY: frozenset[str] = frozenset()


def refusal(
    vm: Vm, node: Candidate, *, verdict: Verdict | None = None, head_room: int = 0, promised: tuple[Vm, ...] = ()
) -> Objection | None:
    """Why the node cannot take the VM now, beside the VMs that are promised to it; None: it can."""
    room = Room(node, head_room)
    for other in promised:
        room.take(other)
    return room.objection(vm, verdict)


def _closed(node: Candidate) -> Objection | None:
    """Why the node takes no VM at all; None: it may take some."""
    if ROLE not in node.roles:
        return Objection(f"has no {ROLE} role")
    if not node.alive:
        return Objection("its daemon does not answer", f"start pvcd on {node.name}")
    if node.fenced:
        return Objection(
            "was declared dead and is not back in service yet",
            "its daemon takes it back once nothing of before is left",
        )
    if node.state in (NodeState.FLUSHED, NodeState.FLUSHING):
        return Objection(f"is {node.state.value}", f"take it back into service with `pvc node unflush {node.name}`")
    if node.state is not NodeState.READY:
        return Objection(f"is {node.state.value}", "wait until it is ready")
    if node.flush_asked:
        return Objection("is waiting to be flushed", f"cancel that with `pvc node cancel {node.name}`")
    return None
