"""Has VMs that run with a volume see its new size: the wish is written with the end of the task that resized it.

So there is no moment at which a volume has grown and nobody knows that a VM is to see it. Changes no image.
"""

from collections.abc import Iterable, Sequence

from pvc.core import keys as core
from pvc.core.coordination import Check, Coordinator, Op, Put
from pvc.core.devices import AT_REST, failed, waiting, with_growths
from pvc.core.lookup import all_vms
from pvc.core.model import DeviceChange, DeviceStep, Vm, VmActual
from pvc.core.records import encode
from pvc.plugins.storage.decide.attachment import VolumeName, users_of
from pvc.plugins.storage.decide.plugging import disk_in, growths
from pvc.plugins.storage.records import Task, decoded


def wishes(coordinator: Coordinator, task: Task, size: int, now: float) -> list[Op]:
    """What has all VMs that run with the volume of a task see its new size, in bytes, at `now`; and what makes the
    transaction fail if one starts, or gets the volume, meanwhile. Raises Disconnected."""
    index = coordinator.get(core.VMS)
    ops: list[Op] = [] if index is None else [Check(core.VMS, index.version)]
    vms, _ = all_vms(coordinator)
    for vm in users_of(VolumeName(task.pool, task.volume), vms):
        ops += _of_one(coordinator, vm.uuid, task, size, now)
    return ops


def wished_by(coordinator: Coordinator, task: Task) -> list[tuple[Vm, DeviceChange]]:
    """The VMs that have the volume of a task that resized it, each with what the task wished of it if it ran then; see
    `core.devices.ending`. Raises Disconnected."""
    vms, _ = all_vms(coordinator)
    users = users_of(VolumeName(task.pool, task.volume), vms)
    found = []
    for vm, xml in zip(users, coordinator.get_many([core.vm_xml(vm.uuid) for vm in users]), strict=True):
        text = "" if xml is None else xml.data.decode(errors="replace")
        found += [(vm, change) for change in growths(vm, text, task, task.size or 0, task.requested)]
    return found


def unseen(coordinator: Coordinator, vms: Iterable[Vm], name: VolumeName) -> tuple[str, bool]:
    """Which VM that runs is still to see a size that the volume has got, in words, or empty; and whether one could not
    be made to see it. Raises Disconnected."""
    waits, lost = "", False
    for vm in vms:
        path = core.vm_actual(vm.uuid)
        znode = coordinator.get(path)
        actual = decoded(VmActual, znode.data, path) if znode else None
        if actual is None or actual.state in AT_REST:
            continue
        if _growths_of(waiting(vm), name):
            waits = waits or f"VM {vm.name}" + (f" on {actual.node}" if actual.node else "")
        lost = lost or _growths_of(failed(vm), name)
    return waits, lost


def _growths_of(changes: Iterable[DeviceChange], name: VolumeName) -> bool:
    grows = (disk_in(change) for change in changes if change.step is DeviceStep.GROW)
    return any(disk is not None and disk.volume == name for disk in grows)


def _of_one(coordinator: Coordinator, uuid: str, task: Task, size: int, now: float) -> Sequence[Op]:
    paths = [core.vm(uuid), core.vm_actual(uuid), core.vm_xml(uuid)]
    record, actual, xml = coordinator.get_many(paths)
    if record is None or actual is None or xml is None:
        return []  # it has been undefined a moment ago
    vm, is_now = decoded(Vm, record.data, paths[0]), decoded(VmActual, actual.data, paths[1])
    if vm is None or is_now is None or is_now.state in AT_REST:
        return [Check(paths[1], actual.version)]
    new = growths(vm, xml.data.decode(errors="replace"), task, size, now)
    if not new:
        return []
    return [Put(paths[0], encode(with_growths(vm, new)), record.version), Check(paths[1], actual.version)]
