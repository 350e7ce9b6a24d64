"""The hypervisor's part of a flush and an unflush: orders VMs away and home, and follows what becomes of them.

It writes wanted states, under the guards of its turn, and never touches a guest: the service of the node that has the
VM carries the order out. Its last word is always a fresh look.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

from pvc.core import keys
from pvc.core.context import Context
from pvc.core.coordination import Check, Clash, Conflict
from pvc.core.forecast import Forecast
from pvc.core.mirror import Mirror
from pvc.core.model import Operation, OperationKind, Outcome, OutcomeState, Vm, VmActual
from pvc.core.runtime import Signal
from pvc.core.turns import Progress, Turn, TurnLost
from pvc.plugins.hypervisor.cluster import promise_op, read_candidate
from pvc.plugins.hypervisor.decide import foresight
from pvc.plugins.hypervisor.decide.evacuation import (
    Limits,
    Order,
    Plan,
    Stage,
    incoming,
    left_behind,
    plan_flush,
    stage,
)
from pvc.plugins.hypervisor.decide.homecoming import Wishes, plan_unflush
from pvc.plugins.hypervisor.decide.placement import refusal
from pvc.plugins.hypervisor.host import Hypervisor, HypervisorGone
from pvc.plugins.hypervisor.outlook import Outlook
from pvc.plugins.hypervisor.records import commit_with_index, read_vm
from pvc.plugins.hypervisor.settings import Settings

SILENCE = 120.0
"""Seconds that a flush waits for a hypervisor that does not answer before it ends incomplete."""
LOOK = 5.0
"""Seconds between looks when nothing changes."""


_Planner = Callable[[Turn, Outlook], Plan]


class _Heed:
    """The signal of the mirror of nodes: wakes the operation only when what they publish may let a VM go.

    It changes with every VM that moves, and a look costs the time between one VM and the next.
    """

    def __init__(self, wake: Signal) -> None:
        self._wake = wake
        self.on = True

    def set(self) -> None:
        if self.on:
            self._wake.set()

    def wait(self, timeout: float | None) -> bool:
        return self._wake.wait(timeout)


class Evacuation:
    """Flush step `vms`."""

    name = "vms"
    after: tuple[str, ...] = ("gateways",)

    def __init__(self, context: Context, hypervisor: Hypervisor, settings: Settings) -> None:
        self._me = context.node
        self._context = context
        self._runtime = context.runtime
        self._hypervisor = hypervisor
        self._settings = settings
        self._mirror = Mirror(context.coordinator, context.runtime, context.operations_wake)
        self._heed = _Heed(context.operations_wake)
        self._nodes = Mirror(context.coordinator, context.runtime, self._heed)
        self._silent_since: float | None = None
        self._operation = ""

    def vacate(self, turn: Turn) -> Progress:
        return self._go_on(_of_vms(turn), self._plan_flush)

    def restore(self, turn: Turn) -> Progress:
        return self._go_on(_of_vms(turn), self._plan_unflush)

    def foresee(self, operation: Operation) -> Forecast:
        outlook = self._look(operation)
        if operation.kind is OperationKind.FLUSH:
            return foresight.of_flush(
                self._me,
                outlook.items,
                outlook.unreadable,
                outlook.lay_out,
                outlook.targets,
                self._settings.placement.head_room,
            )
        return foresight.of_unflush(self._me, outlook.items, outlook.home(), outlook.lay_out, _wishes(operation))

    def _look(self, operation: Operation) -> Outlook:
        """A fresh look. Raises HypervisorGone, Disconnected."""
        outlook = Outlook(self._context, self._settings, self._mirror, self._nodes, self._hypervisor.guests())
        outlook.find(operation)
        return outlook

    def _go_on(self, turn: Turn, plan_by: _Planner) -> Progress:
        if turn.operation.id != self._operation:
            self._operation = turn.operation.id
            self._forget()
        try:
            outlook, plan = self._plan(turn, plan_by)
            if plan.finished:  # a final state is never written from a belief: look again
                self._forget()
                outlook, plan = self._plan(turn, plan_by)
        except HypervisorGone as gone:
            return self._silent(turn, gone)
        self._silent_since = None
        outcomes = self._give(plan, turn, outlook)
        if turn.abort:
            self._withdraw(plan, turn, outlook)
        return Progress(
            outcomes,
            finished=plan.finished,
            left=(*left_behind(plan.outcomes), *outlook.unreadable) if plan.finished else (),
            warnings=self._warnings(turn, outlook, plan),
            pause=LOOK if plan.pause is None else min(LOOK, plan.pause),
        )

    def _plan(self, turn: Turn, plan_by: _Planner) -> tuple[Outlook, Plan]:
        self._heed.on = True
        outlook = self._look(turn.operation)
        plan = plan_by(turn, outlook)
        self._heed.on = plan.in_flight < self._parallel(turn.operation)
        return outlook, plan

    def _plan_flush(self, turn: Turn, outlook: Outlook) -> Plan:
        self._stop_incoming(turn, outlook)
        return plan_flush(
            self._me,
            outlook.items,
            turn.operation.outcomes,
            outlook.lay_out,
            self._limits(turn.operation, outlook, eager=1),
            self._runtime.now(),
            stopping=turn.stopping,
        )

    def _plan_unflush(self, turn: Turn, outlook: Outlook) -> Plan:
        return plan_unflush(
            self._me,
            outlook.items,
            turn.operation.outcomes,
            outlook.home(),
            outlook.lay_out,
            _wishes(turn.operation),
            self._limits(turn.operation, outlook, eager=0),
            self._runtime.now(),
            stopping=turn.stopping,
        )

    def _limits(self, operation: Operation, outlook: Outlook, *, eager: int) -> Limits:
        """`eager`: a flush tries another node at once, an unflush would try the same one."""
        migration = self._settings.migration
        return Limits(
            self._parallel(operation),
            migration.retries,
            self._settings.shutdown_timeout,
            eager,
            outlook.slots(operation.outcomes, home=operation.kind is OperationKind.UNFLUSH),
        )

    def _parallel(self, operation: Operation) -> int:
        return operation.parallel or self._settings.migration.parallel

    def _warnings(self, turn: Turn, outlook: Outlook, plan: Plan) -> tuple[str, ...]:
        """Told once, when the operation has first seen what there is to move."""
        operation = turn.operation
        if operation.kind is not OperationKind.FLUSH or operation.outcomes:
            return ()
        going = {uuid: outcome.target for uuid, outcome in plan.outcomes.items() if outcome.target is not None}
        return foresight.warnings(self._me, outlook.items, outlook.targets, self._settings.placement.head_room, going)

    def _stop_incoming(self, turn: Turn, outlook: Outlook) -> None:
        """Take back the orders of VMs on their way here: the nodes that have them abort the moves."""
        for item in incoming(self._me, outlook.items):
            records = None if turn.stopping else read_vm(self._mirror, item.uuid)
            if records is None or records.actual.node is None or records.vm.node != self._me:
                continue
            source = records.actual.node
            home = records.vm.home if records.vm.home != source else None
            stays = replace(records.vm, node=source, home=home, guards=tuple(check.path for check in turn.guards))
            try:
                turn.commit(records.put(vm=stays))
                self._context.log.info("vm %s: its move here from %s is stopped", stays.name, source)
            except TurnLost:
                raise
            except Conflict:  # it has just arrived, or changed: the next look tells
                self._context.operations_wake.set()
            self._mirror.drop(keys.vm(item.uuid))
            self._mirror.drop(keys.vm_actual(item.uuid))

    def _give(self, plan: Plan, turn: Turn, outlook: Outlook) -> Mapping[str, Outcome]:
        """Commit the orders; one that comes too late for what has changed since is decided anew next time."""
        outcomes = dict(plan.outcomes)
        judged = {item.uuid: (item.vm, item.actual) for item in outlook.items}
        for order in plan.orders:
            try:
                self._order(order, turn, judged.get(order.uuid))
            except TurnLost:
                raise
            except Conflict as conflict:
                self._context.log.debug("order for %s: %s; looking again", outcomes[order.uuid].name, conflict)
                self._forget()
                outcomes[order.uuid] = replace(outcomes[order.uuid], state=OutcomeState.WAITING, target=None)
                self._context.operations_wake.set()
        return outcomes

    def _order(self, order: Order, turn: Turn, judged: tuple[Vm, VmActual] | None) -> None:
        """`judged`: the VM's records that the order was decided on. The versions demanded below are those of now."""
        records = read_vm(self._mirror, order.uuid)
        target = read_candidate(self._nodes, order.target)
        if records is None or target is None:
            raise Conflict(Check(keys.vm(order.uuid)), Clash.MISSING)
        if (records.vm, records.actual) != judged:  # an administrator may have moved it since
            raise Conflict(Check(keys.vm(order.uuid), records.vm_version), Clash.CHANGED)
        vm = records.vm
        away = order.target != self._me
        if away and refusal(vm, target):  # the version demanded below must be of the record that was judged
            raise Conflict(Check(keys.node(order.target), target.version), Clash.CHANGED)
        home = self._home_of(vm.home)
        ordered = replace(
            vm,
            node=order.target,
            home=(home or self._me) if away else vm.home,
            displaced_by=(vm.displaced_by if home else turn.operation.id) if away else vm.displaced_by,
            guards=tuple(check.path for check in turn.guards),
        )
        ops = [
            Check(keys.node(order.target), target.version),
            Check(keys.node_session(order.target)),
            promise_op(target, vm),
            *records.put(vm=ordered),
        ]
        with self._mirror.own_write({keys.vm(vm.uuid): records.vm_version + 1}):
            commit_with_index(turn.commit, ops, order.target, order.uuid)
        self._nodes.drop(keys.node_vms(target.name))
        self._context.log.info("vm %s: ordered from %s to %s", vm.name, records.actual.node or "nowhere", order.target)

    def _forget(self) -> None:
        self._mirror.forget()
        self._nodes.forget()

    def _home_of(self, home: str | None) -> str | None:
        """The home that a VM remembers, unless that node is gone for good."""
        return home if home is not None and self._nodes.get(keys.node(home)) is not None else None

    def _withdraw(self, plan: Plan, turn: Turn, outlook: Outlook) -> None:
        """Take back the orders whose moves are in flight: the node that has the VM then aborts the move."""
        for uuid, outcome in plan.outcomes.items():
            records = read_vm(self._mirror, uuid) if outcome.state is OutcomeState.MOVING else None
            if records is None or records.actual.node is None or records.vm.node == records.actual.node:
                continue
            if stage(self._me, outlook.item(records)) is Stage.LEAVING or records.vm.node == self._me:
                turn.commit(records.put(vm=replace(records.vm, node=records.actual.node)))
                self._mirror.drop(keys.vm(uuid))

    def _silent(self, turn: Turn, gone: HypervisorGone) -> Progress:
        now = self._runtime.monotonic()
        self._silent_since = self._silent_since if self._silent_since is not None else now
        if now - self._silent_since < SILENCE and not turn.stopping:
            return Progress(turn.operation.outcomes, pause=2.0)
        return Progress(turn.operation.outcomes, finished=True, left=(str(gone),))


def _wishes(operation: Operation) -> Wishes:
    return Wishes(operation.skip, operation.only, operation.make_room)


def _of_vms(turn: Turn) -> Turn:
    """The turn without what other steps have done in it."""
    outcomes = {key: outcome for key, outcome in turn.operation.outcomes.items() if outcome.what == "VM"}
    return replace(turn, operation=replace(turn.operation, outcomes=outcomes))
