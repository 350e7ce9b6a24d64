"""Giving VMs volumes as disks, and taking them: what the storage role adds to core's changing of devices."""

from collections.abc import Sequence
from dataclasses import dataclass

from pvc.core import keys as core
from pvc.core.coordination import Coordinator, Op, Put
from pvc.core.decide.devices import found, key_of
from pvc.core.devices import Refused
from pvc.core.lookup import all_vms
from pvc.core.model import DeviceChange, DeviceStep, Vm
from pvc.core.runtime import Runtime
from pvc.plugins.storage import keys
from pvc.plugins.storage.attachments import is_rid_of, look
from pvc.plugins.storage.decide.attachment import (
    Attached,
    VolumeName,
    chosen,
    device,
    disks_of,
    has_scsi_controller,
    why_not_now,
)
from pvc.plugins.storage.decide.names import why_no_name
from pvc.plugins.storage.decide.plugging import (
    free_target,
    leaving,
    why_no_bus,
    why_no_serial,
    why_no_target,
    why_not_again,
)
from pvc.plugins.storage.schema import SECTION


@dataclass(frozen=True, slots=True)
class PlugIn:
    """Proposes one disk more; see `core.devices.Propose`."""

    coordinator: Coordinator
    runtime: Runtime
    by: str
    vm: Vm
    name: VolumeName
    bus: str = "virtio"
    target: str | None = None
    """None: the first that is free."""
    serial: str | None = None

    def __call__(self, xml: str) -> tuple[DeviceChange, Sequence[Op]]:
        """Raises Refused, Disconnected."""
        for part in (self.name.pool, self.name.volume):
            if why := why_no_name("pool or volume", part):
                raise Refused(f"{why}; `pvc storage pool list` shows the pools")
        guards = self._guards()
        vms = all_vms(self.coordinator)[0]
        own = next((vm for vm in vms if vm.uuid == self.vm.uuid), self.vm)
        others = [vm for vm in vms if vm.uuid != self.vm.uuid]
        volume = look(self.coordinator, [self.name], others)[self.name]
        if why := why_not_again(self.name, own.name, disks_of(xml), self._leaving(own)):
            raise Refused(why)
        if why := why_not_now(self.name, volume):
            raise Refused(f"{own.name} cannot have volume {self.name}: {why}")
        target = self._target(own, xml)
        one = device(self.name, target, self.bus, self.serial)
        return _change(self.runtime, self.by, DeviceStep.PLUG, one), guards

    def _leaving(self, vm: Vm) -> list[Attached]:
        """The disks that it still has as it runs, although its definition does not any more."""
        return [] if is_rid_of(self.coordinator, vm, self.name) else leaving(vm)

    def _guards(self) -> list[Op]:
        """What makes one of two repeat its request that want the same volume at the same moment: another disk, a task
        of the volume, or the definition of another VM."""
        paths = [keys.volume(self.name.pool, self.name.volume), core.VMS]
        znodes = self.coordinator.get_many(paths)
        return [
            Put(path, znode.data, znode.version)
            for path, znode in zip(paths, znodes, strict=True)
            if znode is not None  # a volume that is not there is refused below
        ]

    def _target(self, vm: Vm, xml: str) -> str:
        """The name of the new disk. Raises Refused for one, a bus or a serial number that makes no sense."""
        taken = {disk.target for disk in (*disks_of(xml), *self._leaving(vm))}
        why = why_no_bus(self.bus, has_scsi_controller(xml))
        if not why and self.serial is not None:
            why = why_no_serial(self.serial)
        if not why and self.target is not None:
            why = why_no_target(self.target, self.bus, taken)
        if why:
            raise Refused(f"{vm.name} cannot have this disk: {why}")
        return self.target or free_target(self.bus, taken)


@dataclass(frozen=True, slots=True)
class Unplug:
    """Proposes to take out the disk that `what`, a target or the name of a volume, means."""

    runtime: Runtime
    by: str
    vm: Vm
    what: str

    def __call__(self, xml: str) -> tuple[DeviceChange, Sequence[Op]]:
        """Raises Refused."""
        one = chosen(self.vm.name, disks_of(xml), self.what)
        if isinstance(one, str):
            raise Refused(one)
        disk = found(xml, f"disk {one.target}")
        assert disk is not None
        return _change(self.runtime, self.by, DeviceStep.UNPLUG, disk), []


def _change(runtime: Runtime, by: str, step: DeviceStep, disk: str) -> DeviceChange:
    return DeviceChange(runtime.new_id(), step, key_of(disk), disk, SECTION, by, runtime.now())
