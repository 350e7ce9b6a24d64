"""The long work on one VM: starting it and migrating it. Runs beside the service, one job per VM at a time.

A job begins with a transaction that claims what it is about to do, and ends with one that records what it found. If it
dies in between, the next look at the records and at the hypervisor tells how to go on.
"""

import logging
from collections.abc import Callable
from dataclasses import replace

from pvc.core import keys
from pvc.core.context import Context
from pvc.core.coordination import Check, Clash, Conflict, Coordinator, Create, Op
from pvc.core.devices import without_growths
from pvc.core.errors import NotNow
from pvc.core.mirror import Mirror
from pvc.core.model import ActualState, Node, Vm, VmActual
from pvc.core.observers import VmChange
from pvc.core.records import Garbage, decode
from pvc.core.states import note
from pvc.plugins.hypervisor.decide.vm import failures_after, now_on
from pvc.plugins.hypervisor.host import Hypervisor, HypervisorError, MigrationOptions, NoSuchGuest
from pvc.plugins.hypervisor.records import VmRecords, read_vm
from pvc.plugins.hypervisor.settings import MigrationSettings


class OrderVoid(HypervisorError):
    """The operation that ordered a move has lost its turn: the move must not begin."""


class VmJobs:
    """Starts and migrates VMs of this node."""

    def __init__(
        self,
        context: Context,
        hypervisor: Hypervisor,
        mirror: Mirror,
        tell: Callable[[Vm, VmChange, str | None], None],
        demand_secrets: Callable[[str], None],
    ) -> None:
        """`tell(vm, change, peer)` tells the observers; `demand_secrets(xml)` sees to it that the hypervisor knows what
        a definition refers to."""
        self._demand_secrets = demand_secrets
        self._tell = tell
        self._me = context.node
        self._context = context
        self._coordinator: Coordinator = context.coordinator
        self._hypervisor = hypervisor
        self._mirror = mirror
        self._log: logging.Logger = context.log

    def start(self, records: VmRecords, claim: tuple[Op, ...]) -> None:
        """Claim the lease under `claim`, start the guest, record that it runs. Raises what stopped it, recorded."""
        vm = records.vm
        starting = replace(
            records.actual,
            state=ActualState.STARTING,
            node=self._me,
            target=None,
            since=self._context.runtime.now(),
            reason="",
            generation=vm.generation,
            restart=vm.restart,
            failures=0 if vm.generation > records.actual.generation else records.actual.failures,
            failed_move="",
            unconverged=False,
            evicts=None,
            freed=None,
        )
        records = self._claimed(records, starting, claim)
        try:
            xml = self._definition(records)
            self._demand_secrets(xml)
            # What was asked may have taken so long that this node was declared dead, and the VM runs elsewhere.
            self._coordinator.commit([Check(keys.vm_actual(vm.uuid), records.actual_version)])
            self._hypervisor.start(xml)
        except Exception as error:  # whatever it was, plugins' failures included: the VM has not started
            self._start_failed(records, error)
            raise
        running = replace(starting, state=ActualState.RUNNING, since=self._context.runtime.now())
        self._commit(records, running, "started", ())
        self._tell(records.vm, VmChange.STARTED, None)

    def migrate(self, records: VmRecords, target: str, version: int, settings: MigrationSettings) -> None:
        """Claim the move under the guards of who ordered it, migrate, record the new holder of the lease.

        `version`: of the target's record when the target was found fit; a flush asked for since then changes it.
        Raises OrderVoid or HypervisorError; where the guest is then must be looked up.
        """
        node = self._target(target)
        options = _options(node, settings)
        migrating = replace(
            records.actual,
            state=ActualState.MIGRATING,
            target=target,
            evicts=None,
            since=self._context.runtime.now(),
            failed_move="",
            unconverged=False,
        )
        guards = tuple(Check(path) for path in records.vm.guards)
        try:
            records = self._claim_move(records, migrating, guards, target, version)
        except Conflict as conflict:
            if conflict.op in guards:
                raise OrderVoid(f"the operation that ordered its move to {target} has lost its turn") from conflict
            raise
        self._hypervisor.migrate(records.vm.uuid, options)
        self._tell(records.vm, VmChange.DEPARTED, target)
        self._arrived(records, target)

    def discard(self, records: VmRecords) -> None:
        """Power off the copy of a VM that runs elsewhere, if the records still say so at this very moment.

        The check matters: they say so only until the holder of the lease lets the VM go.
        """
        self._coordinator.commit(records.put())
        try:
            self._hypervisor.destroy(records.vm.uuid)
        except NoSuchGuest:  # it has gone by itself
            return

    def _arrived(self, records: VmRecords, target: str) -> None:
        """Give the lease away, unless the target, which sees the guest too, was faster."""
        actual = replace(
            records.actual,
            state=ActualState.RUNNING,
            node=target,
            target=None,
            since=self._context.runtime.now(),
            reason=f"arrived from {self._me}",
            evicts=None,
        )
        vm = records.vm
        for _attempt in range(2):
            try:
                self._write(records, actual, f"runs on {target}", (), now_on(vm, target) if vm.node == target else vm)
                return
            except Conflict:
                fresh = read_vm(self._coordinator, vm.uuid)
                if fresh is None or fresh.actual != records.actual:
                    return
                records, vm = fresh, fresh.vm

    def _claimed(self, records: VmRecords, starting: VmActual, claim: tuple[Op, ...]) -> VmRecords:
        """Claim the lease; the guest will see every disk as it is then, so what it was to be told of sizes is void."""
        vm = without_growths(records.vm)
        self._write(records, starting, "starting", claim, vm)
        if vm == records.vm:
            return replace(records, actual=starting, actual_version=records.actual_version + 1)
        self._mirror.drop(keys.vm(vm.uuid))
        return VmRecords(vm, records.vm_version + 1, starting, records.actual_version + 1)

    def _start_failed(self, records: VmRecords, error: Exception) -> None:
        if self._hypervisor.look(records.vm.uuid) is not None:
            return  # it runs all the same: the next look records that
        put_off = isinstance(error, NotNow) or isinstance(error.__cause__, NotNow)  # a plugin's is wrapped
        failed = replace(
            records.actual,
            state=ActualState.FAILED,
            since=self._context.runtime.now(),
            failures=failures_after(records.actual.failures, put_off=put_off),
            reason=f"did not start: {error}",
        )
        self._commit(records, failed, failed.reason, ())

    def _definition(self, records: VmRecords) -> str:
        path = keys.vm_xml(records.vm.uuid)
        znode = self._coordinator.get(path)
        if znode is None:
            raise Garbage(path, "there is nothing")
        return self._context.plugins.vm_definition(records.vm, znode.data.decode(errors="replace"))

    def _target(self, name: str) -> Node:
        znode = self._mirror.get(keys.node(name))
        if znode is None:
            raise HypervisorError(f"there is no node {name}")
        return decode(Node, znode.data, keys.node(name))

    def _claim_move(
        self, records: VmRecords, migrating: VmActual, guards: tuple[Check, ...], target: str, version: int
    ) -> VmRecords:
        """Demand that the target is as it was looked at, alive, and will look at the VM: whoever ordered the move has
        seen to that, unless the target has forgotten the VM since."""
        index, why = keys.node_vm(target, records.vm.uuid), f"to {target}"
        demands = (*guards, Check(keys.node(target), version), Check(keys.node_session(target)))
        try:
            return self._commit(records, migrating, why, (*demands, Check(index)))
        except Conflict as conflict:
            if conflict.op.path != index or conflict.clash is not Clash.MISSING:
                raise
        return self._commit(records, migrating, why, (*demands, Create(index)))

    def _commit(self, records: VmRecords, actual: VmActual, why: str, ops: tuple[Op, ...]) -> VmRecords:
        self._write(records, actual, why, ops, records.vm)
        return replace(records, actual=actual, actual_version=records.actual_version + 1)

    def _write(self, records: VmRecords, actual: VmActual, why: str, ops: tuple[Op, ...], vm: Vm) -> None:
        self._coordinator.commit([*ops, *records.put(vm=vm, actual=actual)])
        self._mirror.drop(keys.vm_actual(records.vm.uuid))
        note(self._log, f"vm {records.vm.name}", records.actual.state.value, actual.state.value, why)


def _options(node: Node, settings: MigrationSettings) -> MigrationOptions:
    address = node.address or node.name
    return MigrationOptions(
        uri=settings.uri.format(address=f"[{address}]" if ":" in address else address, node=node.name),
        address=node.address,
        bandwidth=settings.bandwidth,
        downtime=settings.downtime[0],
        auto_converge=settings.auto_converge,
        post_copy=settings.post_copy,
        connections=settings.connections,
        tls=settings.tls,
    )
