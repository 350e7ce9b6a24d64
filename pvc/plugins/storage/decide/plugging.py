"""The disk that gives a VM a volume: the name under which the guest is offered it, and what must be so."""

import itertools
import re
from collections.abc import Collection, Iterator, Sequence
from string import ascii_lowercase

from pvc.core.model import DeviceChange, DeviceStep, Vm
from pvc.plugins.storage.decide.attachment import Attached, VolumeName, device, disks_of
from pvc.plugins.storage.records import Task
from pvc.plugins.storage.schema import SECTION

PREFIXES = {"virtio": "vd", "scsi": "sd", "sata": "sd"}
"""By bus, what the names of disks on it begin with."""
SERIAL = re.compile(r"[A-Za-z0-9_.+-]{1,20}")
"""What virtio has room for, of what libvirt takes."""


def why_no_bus(bus: str, has_scsi_controller: bool) -> str:
    """Why a VM cannot have a disk on that bus; empty: it can."""
    if bus not in PREFIXES:
        return f"there is no bus {bus!r} for disks; say one of {', '.join(PREFIXES)}"
    if bus == "scsi" and not has_scsi_controller:
        # libvirt would add one of a model that few guests have a driver for.
        return (
            "its definition has no SCSI controller; define the VM with <controller type='scsi' model='virtio-scsi'/>,"
            " or say --bus virtio"
        )
    return ""


def why_no_target(target: str, bus: str, taken: Collection[str]) -> str:
    """Why a disk on that bus cannot have that name; empty: it can."""
    prefix = PREFIXES[bus]
    if not re.fullmatch(f"{prefix}[a-z]{{1,3}}", target):
        return f"a disk on bus {bus} cannot be called {target!r}; say {prefix}a, {prefix}b, and so on"
    return f"it has a disk {target} already; choose another name, or none" if target in taken else ""


def why_no_serial(serial: str) -> str:
    """Why that cannot be the serial number of a disk; empty: it can."""
    if SERIAL.fullmatch(serial):
        return ""
    return f"{serial!r} is no serial number; use 1 to 20 letters, digits, '_', '.', '+', '-'"


def free_target(bus: str, taken: Collection[str]) -> str:
    """The first name that no disk has."""
    return next(name for name in _names(PREFIXES[bus]) if name not in taken)


def leaving(vm: Vm) -> list[Attached]:
    """The disks that a VM still has although its definition does not any more."""
    changes = [change for change in vm.device_changes if change.step is DeviceStep.UNPLUG and not change.failed]
    return [disk for change in changes if (disk := disk_in(change)) is not None]


def growths(vm: Vm, xml: str, task: Task, size: int, now: float) -> list[DeviceChange]:
    """What has a VM that runs see the new size, in bytes, that a task has given a volume: for each of its disks that is
    that volume, those included that it may not lose after all."""
    name, found = VolumeName(task.pool, task.volume), {}
    for disk in (*disks_of(xml), *leaving(vm)):
        if disk.volume == name and disk.target:
            id, key = f"{task.id}.{disk.target}", f"disk {disk.target}"
            one = device(name, disk.target, disk.bus, None)
            found[key] = DeviceChange(id, DeviceStep.GROW, key, one, SECTION, task.by, now, size=size)
    return list(found.values())


def disk_in(change: DeviceChange) -> Attached | None:
    """The disk that a change is about; None: it is about something else."""
    if change.role != SECTION:
        return None
    return next(iter(disks_of(f"<domain><devices>{change.device}</devices></domain>")), None)


def why_not_again(name: VolumeName, vm: str, disks: Sequence[Attached], going: Sequence[Attached]) -> str:
    """Why a VM that has these disks, and loses those, cannot have a volume once more; empty: it does not have it."""
    for disk in disks:
        if disk.volume == name:
            return f"{vm} has volume {name} already, as {disk.target}"
    if any(disk.volume == name for disk in going):
        return f"volume {name} is still being unplugged from {vm}; wait for that, or stop the VM"
    return ""


def _names(prefix: str) -> Iterator[str]:
    for length in itertools.count(1):
        for letters in itertools.product(ascii_lowercase, repeat=length):
            yield f"{prefix}{''.join(letters)}"
