"""What one look of a flush or unflush finds: the VMs it has to do with, the nodes they could go to, a joint plan.

Reads only, through the operation's mirror; all choices are made in `decide/`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from pvc.core import keys
from pvc.core.context import Context
from pvc.core.mirror import Mirror
from pvc.core.model import Operation, Outcome, OutcomeState, Vm, VmState
from pvc.core.records import Garbage
from pvc.plugins.hypervisor.cluster import prefetch_nodes, read_candidate, read_candidates
from pvc.plugins.hypervisor.decide.evacuation import Item, Stage, stage
from pvc.plugins.hypervisor.decide.placement import Candidate, Room
from pvc.plugins.hypervisor.decide.planner import Layout, Wanted, lay_out, selector_of
from pvc.plugins.hypervisor.host import Guest
from pvc.plugins.hypervisor.records import VmRecords, prefetch_vms, read_vm
from pvc.plugins.hypervisor.settings import Settings


class Outlook:
    """One look. Made anew for each; raises Disconnected where it must ask and cannot."""

    def __init__(
        self, context: Context, settings: Settings, mirror: Mirror, nodes: Mirror, guests: Mapping[str, Guest]
    ) -> None:
        """`nodes`: the mirror that nodes as targets are read through."""
        self._me = context.node
        self._context = context
        self._placement = settings.placement
        self._mirror = mirror
        self._nodes = nodes
        self._guests = guests
        self.items: list[Item] = []
        self.unreadable: list[str] = []
        """What is in the way without being a VM that can be handled."""
        self._targets: list[Candidate] | None = None

    def find(self, operation: Operation) -> None:
        """Fill `items` with every VM that this node or the operation has business with."""
        indexed = self._mirror.children(keys.node_vms(self._me)) or ()
        uuids = sorted({*indexed, *self._guests, *operation.outcomes})
        prefetch_vms(self._mirror, uuids)
        for uuid in uuids:
            try:
                records = read_vm(self._mirror, uuid)
            except Garbage as garbage:
                self.unreadable.append(str(garbage))
                continue
            if records is not None:
                self.items.append(self.item(records))
            elif uuid in self._guests:
                self.unreadable.append(f"{self._guests[uuid].name}: runs here but the cluster does not know it")

    def item(self, records: VmRecords) -> Item:
        """One VM as the operation sees it."""
        holder = records.actual.node
        alive = holder in (None, self._me) or self._mirror.get(keys.node_session(holder)) is not None
        return Item(records.vm.uuid, records.vm, records.actual, self._guests.get(records.vm.uuid), alive)

    @property
    def targets(self) -> list[Candidate]:
        """The other nodes."""
        if self._targets is None:
            prefetch_nodes(self._nodes, set(self._nodes.children(keys.NODES) or ()) - {self._me})
            self._targets = read_candidates(self._nodes, without=self._me)
        return self._targets

    def home(self) -> Room:
        """The room on this node for VMs that come home. What is seen to be gone counts so: facts lag behind."""
        node = read_candidate(self._nodes, self._me)
        if node is None:
            raise LookupError(f"{keys.node(self._me)} has vanished")
        gone = {item.uuid for item in self.items if stage(self._me, item) is Stage.AWAY and item.guest is None}
        return Room(replace(node, vms={uuid: memory for uuid, memory in node.vms.items() if uuid not in gone}))

    def lay_out(self, wanted: Sequence[Wanted]) -> Layout:
        """A joint plan for these VMs, with what is on its way already and with plugins' opinions."""
        names = tuple(node.name for node in self.targets)
        placing = {one.vm.uuid for one in wanted}
        promised: dict[str, list[Vm]] = {}
        for item in self.items:  # what is stopped needs no room anywhere, whichever node it is assigned to
            runs = item.vm.state is VmState.RUNNING
            if runs and item.vm.node != self._me and item.uuid not in placing:
                promised.setdefault(item.vm.node, []).append(item.vm)
        return lay_out(
            [
                replace(
                    one,
                    selector=selector_of(one.vm, self._placement.selector),
                    verdicts=self._context.plugins.placement(one.vm, names),
                )
                for one in wanted
            ],
            self.targets,
            head_room=self._placement.head_room,
            promised=promised,
        )

    def slots(self, outcomes: Mapping[str, Outcome], *, home: bool) -> dict[str, int]:
        """How many more VMs may set off for each node that takes a limited number at a time."""
        found = {}
        own = read_candidate(self._nodes, self._me) if home else None
        for node in [*self.targets, *([own] if own else [])]:
            if node.inbound is not None:
                ours = {
                    uuid
                    for uuid, outcome in outcomes.items()
                    if outcome.state is OutcomeState.MOVING and outcome.target == node.name
                }
                found[node.name] = max(0, node.inbound - len({*node.arriving, *ours}))
        return found
