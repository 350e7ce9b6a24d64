"""Makes the changes of devices that a record wants to the VM as it runs, and puts the definition back where one fails.

Level-triggered: whether a device is there is read from the live definition each time, so a repetition changes nothing.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from pvc.core import keys
from pvc.core.context import Context
from pvc.core.coordination import Check, Conflict, Disconnected, Op, Put
from pvc.core.decide.devices import found, keys_of, target_of, with_device, without_device
from pvc.core.mirror import Mirror
from pvc.core.model import DeviceChange, DeviceStep, Vm
from pvc.core.needs import needs_with
from pvc.core.observers import VmChange
from pvc.core.records import Garbage
from pvc.core.watchedparts import PluginFailed
from pvc.plugins.hypervisor.host import Hypervisor, HypervisorError, HypervisorGone, NoSuchGuest
from pvc.plugins.hypervisor.records import VmRecords, read_vm

LOOK = 1.0
"""Seconds between looks whether a guest has let go of a device."""
ASK_AGAIN = 6.0
"""Seconds after which a guest is asked again: one that is still booting overlooks it. QEMU refuses within five."""
LETS_GO_WITHIN = 30.0
"""Seconds after which a guest is taken not to let go of a device."""
SEES_WITHIN = 30.0
"""Seconds after which a hypervisor is taken not to let a guest see that a disk has grown."""
PREPARED_WITHIN = 5.0
"""Seconds that plugins have to make a device ready for this node: a daemon that has just begun may not have set up yet
what the device needs."""
TRIES = 5
"""How often the record of an outcome is tried again when somebody else writes at the same moment."""


@dataclass(slots=True)
class _Effort:
    """What this daemon has done for the change in hand of one VM. Times on the monotonic clock."""

    id: str
    began: float
    looked: float
    asked: float | None = None
    said: str = ""
    """What the hypervisor answered when it refused to ask the guest."""


_DONE = {
    DeviceStep.PLUG: "plugged in",
    DeviceStep.UNPLUG: "unplugged",
    DeviceStep.GROW: "seen in its new size",
}


class Unmade(HypervisorError):
    """The change cannot be made."""


class DeviceChanges:
    """Changes of devices of this node's VMs. `carry_out` runs as a job: one for a VM at a time."""

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
        self._context = context
        self._coordinator = context.coordinator
        self._hypervisor = hypervisor
        self._mirror = mirror
        self._tell = tell
        self._log: logging.Logger = context.log
        self._now = context.runtime.monotonic
        self._efforts: dict[str, _Effort] = {}

    def pause(self, uuid: str, change: DeviceChange) -> float:
        """Seconds until `carry_out` wants to be called; 0: now."""
        effort = self._efforts.get(uuid)
        if effort is None or effort.id != change.id:
            return 0.0
        return max(0.0, effort.looked + LOOK - self._now())

    def carry_out(self, records: VmRecords, change: DeviceChange) -> None:
        """Take the next step towards a change, and record the outcome when there is one. Raises Conflict."""
        try:
            self._advance(records.vm, change)
        except Conflict:
            raise
        except (HypervisorGone, NoSuchGuest, Disconnected):
            return  # nothing is known, or the VM has ended and gets it at its next start: the next look tells
        except Exception as error:  # the job's edge: an error kept for the VM would count against its next move
            self._log.warning("vm %s: %s: %s; it is tried again", records.vm.name, change.key, error)

    def _advance(self, vm: Vm, change: DeviceChange) -> None:
        effort, why = self._effort(vm.uuid, change), ""
        try:
            if not self._is_made(vm, change, effort):
                return
        except (HypervisorGone, NoSuchGuest, Disconnected):
            raise
        except Exception as error:  # whatever it was, plugins' failures included: the device is not as wanted
            why = str(error) or type(error).__name__
        if not why and change.step is not DeviceStep.GROW:
            self._tell(vm, VmChange.ADOPTED, None)
        self._record(vm, change, why)
        self._efforts.pop(vm.uuid, None)

    def _effort(self, uuid: str, change: DeviceChange) -> _Effort:
        effort, now = self._efforts.get(uuid), self._now()
        if effort is None or effort.id != change.id:
            effort = self._efforts[uuid] = _Effort(change.id, now, now)
        effort.looked = now
        return effort

    def _is_made(self, vm: Vm, change: DeviceChange, effort: _Effort) -> bool:
        """Take a step; whether the VM is as wanted. Raises what stopped it for good."""
        if change.step is DeviceStep.PLUG:
            return self._is_plugged(vm, change, effort)
        if change.step is DeviceStep.GROW:
            return self._is_seen_grown(vm, change, effort)
        return self._has_let_go(vm, change, effort)

    def _is_plugged(self, vm: Vm, change: DeviceChange, effort: _Effort) -> bool:
        if found(self._hypervisor.xml(vm.uuid), change.key) is not None:
            return True
        stored = self._definition(vm.uuid)[0]
        try:  # plugins are given the whole definition, as at a start; of what they make of it one device is wanted
            device = found(self._context.plugins.vm_definition(vm, stored), change.key)
        except PluginFailed:
            if self._now() - effort.began < PREPARED_WITHIN:
                return False
            raise
        if device is None:
            raise Unmade("it is not in the definition any more")
        try:
            self._demand_secrets(device)
            self._hypervisor.plug(vm.uuid, device)
        except (HypervisorGone, NoSuchGuest):
            raise
        except HypervisorError:
            if found(self._hypervisor.xml(vm.uuid), change.key) is None:
                raise
        return True

    def _has_let_go(self, vm: Vm, change: DeviceChange, effort: _Effort) -> bool:
        device = found(self._hypervisor.xml(vm.uuid), change.key)
        if device is None:
            return True
        now = self._now()
        if now - effort.began >= LETS_GO_WITHIN:
            advice = "stop the VM and remove it then, or try again"
            raise Unmade(f"its guest has not let go of it within {LETS_GO_WITHIN:g} s{effort.said}; {advice}")
        if effort.asked is None or now - effort.asked >= ASK_AGAIN:
            effort.asked = now
            try:
                self._hypervisor.unplug(vm.uuid, device)
                effort.said = ""
            except (HypervisorGone, NoSuchGuest):
                raise
            except HypervisorError as error:  # it may have been asked already, and be about to let go
                effort.said = f" ({error})"
        return found(self._hypervisor.xml(vm.uuid), change.key) is None

    def _is_seen_grown(self, vm: Vm, change: DeviceChange, effort: _Effort) -> bool:
        """A disk that has left meanwhile needs nothing more. A size that is not wished any more must not be set, as it
        would cut off what has been added since."""
        if change.size is None or found(self._hypervisor.xml(vm.uuid), change.key) is None:
            return True
        now = self._now()
        if effort.asked is None or now - effort.asked >= ASK_AGAIN:
            effort.asked = now
            records = read_vm(self._coordinator, vm.uuid)
            if records is None or change not in records.vm.device_changes:
                return True
            try:
                self._hypervisor.resize_disk(vm.uuid, target_of(change.key), change.size)
                return True
            except (HypervisorGone, NoSuchGuest):
                raise
            except HypervisorError as error:  # as while somebody else migrates it: it may go better in a moment
                effort.said = str(error)
        if now - effort.began >= SEES_WITHIN:
            raise Unmade(f"{effort.said}; resize the volume to the same size again, or stop the VM and start it")
        return False

    def _record(self, vm: Vm, change: DeviceChange, why: str) -> None:
        """Write that a change is made, or why not, and what follows for the definition. Raises Conflict."""
        for left in reversed(range(TRIES)):
            records = read_vm(self._coordinator, vm.uuid)
            if records is None or change.id not in [known.id for known in records.vm.device_changes]:
                return
            try:
                self._coordinator.commit(self._outcome(records, change, why))
                break
            except Conflict:
                if not left:
                    raise
            finally:
                self._mirror.drop(keys.vm(vm.uuid))
        name, step = vm.name, _DONE[change.step]
        if why:
            self._log.warning("vm %s: %s is not %s, and its definition is as before: %s", name, change.key, step, why)
        else:
            self._log.info("vm %s: %s is %s", name, change.key, step)

    def _outcome(self, records: VmRecords, change: DeviceChange, why: str) -> list[Op]:
        others = tuple(known for known in records.vm.device_changes if known.id != change.id)
        kept = (replace(change, failed=why), *others) if why else others
        if change.step is DeviceStep.GROW:  # the definition knows nothing of sizes
            return records.put(vm=replace(records.vm, device_changes=kept))
        xml, version = self._definition(records.vm.uuid)
        after = self._put_back(xml, change) if why else xml
        vm = replace(
            records.vm,
            device_changes=kept,
            needs=needs_with(self._coordinator, self._context.plugins.vm_needs, change.role, after, records.vm.needs),
        )
        path = keys.vm_xml(vm.uuid)
        definition: Op = Check(path, version) if after == xml else Put(path, after.encode(), version)
        return [*records.put(vm=vm), definition]

    def _put_back(self, xml: str, change: DeviceChange) -> str:
        """The definition as it would be without the change."""
        if change.step is DeviceStep.PLUG:
            return without_device(xml, change.key)
        return xml if change.key in keys_of(xml) else with_device(xml, change.device)

    def _definition(self, uuid: str) -> tuple[str, int]:
        path = keys.vm_xml(uuid)
        znode = self._coordinator.get(path)
        if znode is None:
            raise Garbage(path, "there is nothing")
        return znode.data.decode(errors="replace"), znode.version
