"""The hypervisor's part of a flush and an unflush: orders VMs away and home, and follows what becomes of them.

It writes wanted states, under the guards of its turn, and never touches a guest: the service of the node that has the
VM carries the order out. Its last word is always a fresh look.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from pvc.core import keys
from pvc.core.context import Context
from pvc.core.coordination import Check, Clash, Conflict
from pvc.core.mirror import Mirror
from pvc.core.model import Operation, Outcome, OutcomeState, Vm
from pvc.core.records import Garbage
from pvc.core.turns import Progress, Turn, TurnLost
from pvc.plugins.hypervisor.cluster import read_candidate, read_candidates
from pvc.plugins.hypervisor.decide.evacuation import (
    Item,
    Limits,
    Order,
    Plan,
    Stage,
    left_behind,
    plan_flush,
    plan_unflush,
    stage,
)
from pvc.plugins.hypervisor.decide.placement import Candidate, Choice, choose_node, lack_of_memory, refusal
from pvc.plugins.hypervisor.host import Guest, Hypervisor, HypervisorGone
from pvc.plugins.hypervisor.records import VmRecords, index_ops, read_vm
from pvc.plugins.hypervisor.settings import Settings

SILENCE = 120.0
"""Seconds that a flush waits for a hypervisor that does not answer before it ends incomplete."""


_Planner = Callable[[Turn, Sequence[Item]], Plan]


class Evacuation:
    """Flush step `vms`."""

    name = "vms"
    after: tuple[str, ...] = ()

    def __init__(self, context: Context, hypervisor: Hypervisor, settings: Settings) -> None:
        self._me = context.node
        self._context = context
        self._runtime = context.runtime
        self._hypervisor = hypervisor
        self._settings = settings
        self._mirror = Mirror(context.coordinator, context.runtime, context.operations_wake)
        self._silent_since: float | None = None
        self._operation = ""

    def vacate(self, turn: Turn) -> Progress:
        return self._go_on(turn, self._plan_flush)

    def restore(self, turn: Turn) -> Progress:
        return self._go_on(turn, self._plan_unflush)

    def _go_on(self, turn: Turn, plan_by: _Planner) -> Progress:
        if turn.operation.id != self._operation:
            self._operation = turn.operation.id
            self._mirror.forget()
        try:
            plan, left = self._plan(turn, plan_by)
            if plan.finished:  # a final state is never written from a belief: look again
                self._mirror.forget()
                plan, left = self._plan(turn, plan_by)
        except HypervisorGone as gone:
            return self._silent(turn, gone)
        self._silent_since = None
        outcomes = self._give(plan, turn)
        if turn.abort:
            self._withdraw(plan, turn)
        return Progress(outcomes, finished=plan.finished, left=left if plan.finished else ())

    def _plan(self, turn: Turn, plan_by: _Planner) -> tuple[Plan, tuple[str, ...]]:
        guests = self._hypervisor.guests()
        items, unreadable = self._items(turn.operation, guests)
        plan = plan_by(turn, items)
        return plan, (*left_behind(plan.outcomes), *unreadable)

    def _plan_flush(self, turn: Turn, items: Sequence[Item]) -> Plan:
        candidates = [node for node in read_candidates(self._mirror) if node.name != self._me]
        return plan_flush(
            self._me,
            items,
            turn.operation.outcomes,
            lambda vm, promised, excluded: self._choose(vm, candidates, items, promised, excluded),
            self._limits(turn.operation),
            self._runtime.now(),
            stopping=turn.stopping,
        )

    def _plan_unflush(self, turn: Turn, items: Sequence[Item]) -> Plan:
        return plan_unflush(
            self._me,
            items,
            turn.operation.outcomes,
            self._lack,
            self._limits(turn.operation),
            self._runtime.now(),
            stopping=turn.stopping,
        )

    def _limits(self, operation: Operation) -> Limits:
        migration = self._settings.migration
        return Limits(operation.parallel or migration.parallel, migration.retries, self._settings.shutdown_timeout)

    def _choose(
        self,
        vm: Vm,
        candidates: Sequence[Candidate],
        items: Sequence[Item],
        promised: Mapping[str, str],
        excluded: Mapping[str, str],
    ) -> Choice:
        reserved: dict[str, dict[str, int]] = {}
        spread: dict[str, dict[str, str]] = {}
        for item in items:
            target = promised.get(item.uuid) or (item.vm.node if item.vm.node != self._me else None)
            if target is not None:
                reserved.setdefault(target, {})[item.uuid] = item.vm.memory
                spread.setdefault(target, {}).update({item.uuid: item.vm.spread} if item.vm.spread else {})
        candidates = [replace(node, spread={**node.spread, **spread.get(node.name, {})}) for node in candidates]
        verdicts = self._context.plugins.placement(vm, tuple(node.name for node in candidates))
        return choose_node(vm, candidates, reserved=reserved, verdicts=verdicts, excluded=excluded)

    def _lack(self, vm: Vm, promised: Sequence[Vm]) -> str:
        home = read_candidate(self._mirror, self._me)
        if home is None:
            return "has no record"
        return lack_of_memory(vm, home, {other.uuid: other.memory for other in promised})

    def _items(self, operation: Operation, guests: Mapping[str, Guest]) -> tuple[list[Item], list[str]]:
        """Every VM that this node or the operation has business with, and what runs here that is no VM of ours."""
        indexed = self._mirror.children(keys.node_vms(self._me)) or ()
        items: list[Item] = []
        unreadable: list[str] = []
        for uuid in sorted({*indexed, *guests, *operation.outcomes}):
            try:
                records = read_vm(self._mirror, uuid)
            except Garbage as garbage:
                unreadable.append(str(garbage))
                continue
            if records is not None:
                items.append(self._item(records, guests.get(uuid)))
            elif uuid in guests:
                unreadable.append(f"{guests[uuid].name}: runs here but the cluster does not know it")
        return items, unreadable

    def _item(self, records: VmRecords, guest: Guest | None) -> Item:
        holder = records.actual.node
        alive = holder in (None, self._me) or self._mirror.get(keys.node_session(holder)) is not None
        return Item(records.vm.uuid, records.vm, records.actual, guest, alive)

    def _give(self, plan: Plan, turn: Turn) -> Mapping[str, Outcome]:
        """Commit the orders; one that comes too late for what has changed since is decided anew next time."""
        outcomes = dict(plan.outcomes)
        for order in plan.orders:
            try:
                self._order(order, turn)
            except TurnLost:
                raise
            except Conflict as conflict:
                self._context.log.debug("order for %s: %s; looking again", outcomes[order.uuid].name, conflict)
                self._mirror.forget()
                outcomes[order.uuid] = replace(outcomes[order.uuid], state=OutcomeState.WAITING, target=None)
                self._context.operations_wake.set()
        return outcomes

    def _order(self, order: Order, turn: Turn) -> None:
        records = read_vm(self._mirror, order.uuid)
        target = read_candidate(self._mirror, order.target)
        if records is None or target is None:
            raise Conflict(Check(keys.vm(order.uuid)), Clash.MISSING)
        vm = records.vm
        away = order.target != self._me
        if away and refusal(vm, target, {}):  # the version demanded below must be of the record that was judged
            raise Conflict(Check(keys.node(order.target), target.version), Clash.CHANGED)
        ordered = replace(
            vm,
            node=order.target,
            home=(vm.home or self._me) if away else vm.home,
            displaced_by=(vm.displaced_by if vm.home else turn.operation.id) if away else vm.displaced_by,
            guards=tuple(check.path for check in turn.guards),
        )
        turn.commit(
            [
                Check(keys.node(order.target), target.version),
                Check(keys.node_session(order.target)),
                *records.put(vm=ordered),
                *index_ops(self._context.coordinator, order.target, order.uuid),
            ]
        )
        self._mirror.drop(keys.vm(order.uuid))
        self._context.log.info("vm %s: ordered from %s to %s", vm.name, records.actual.node or "nowhere", order.target)

    def _withdraw(self, plan: Plan, turn: Turn) -> None:
        """Take back the orders whose moves are in flight: the node that has the VM then aborts the move."""
        for uuid, outcome in plan.outcomes.items():
            records = read_vm(self._mirror, uuid) if outcome.state is OutcomeState.MOVING else None
            if records is None or records.actual.node is None or records.vm.node == records.actual.node:
                continue
            item = self._item(records, None)
            if stage(self._me, item) is Stage.LEAVING or records.vm.node == self._me:
                turn.commit(records.put(vm=replace(records.vm, node=records.actual.node)))
                self._mirror.drop(keys.vm(uuid))

    def _silent(self, turn: Turn, gone: HypervisorGone) -> Progress:
        now = self._runtime.monotonic()
        self._silent_since = self._silent_since if self._silent_since is not None else now
        if now - self._silent_since < SILENCE and not turn.stopping:
            return Progress(turn.operation.outcomes, pause=2.0)
        return Progress(turn.operation.outcomes, finished=True, left=(str(gone),))
