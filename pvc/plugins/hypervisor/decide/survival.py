"""Whether the cluster would survive the loss of one more node: whether the VMs of each fit on those that are left."""

from collections.abc import Sequence
from dataclasses import dataclass

from pvc.core.model import Vm, VmState
from pvc.plugins.hypervisor.decide.placement import Candidate, Room
from pvc.plugins.hypervisor.decide.planner import Wanted, lay_out

EFFORT = 2_000
"""Effort for each node in turn; what is not found with that counts as not surviving."""


@dataclass(frozen=True, slots=True)
class Loss:
    """A node whose VMs would not all find another."""

    node: str
    vms: int
    """How many would stay down."""
    memory: int
    """MiB that they need together."""


def losses(nodes: Sequence[Candidate], head_room: int = 0) -> list[Loss]:
    """The nodes whose loss the others could not make up for, by name.

    Judged by what nodes publish of their VMs; a plugin's opinion of a placement is not asked.
    """
    found = []
    for node in sorted(nodes, key=lambda node: node.name):
        if not node.vms or Room(node).closed is not None:
            continue
        rest = [other for other in nodes if other is not node]
        layout = lay_out([Wanted(vm) for vm in vms_of(node)], rest, head_room=head_room, effort=EFFORT)
        if layout.unplaced:
            memory = sum(node.vms[uuid] for uuid in layout.unplaced)
            found.append(Loss(node.name, len(layout.unplaced), memory))
    return found


def vms_of(node: Candidate) -> list[Vm]:
    """The VMs of a node, as far as placing them needs to know them."""
    return [
        Vm(
            uuid=uuid,
            name=uuid,
            state=VmState.RUNNING,
            node=node.name,
            memory=memory,
            vcpus=node.vcpus.get(uuid, 1),
            nodes=tuple(node.limits.get(uuid, ())),
            spread=node.spread.get(uuid),
        )
        for uuid, memory in node.vms.items()
    ]
