"""`pvc vm disk`: giving VMs volumes as disks, as they run. Talks to the tree only."""

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Annotated, Any

import typer

from pvc.core import keys as core
from pvc.core.commands import CommandLine, Size
from pvc.core.coordination import Coordinator
from pvc.core.devices import Ending, Propose, ending, failed, request_change, waiting
from pvc.core.lookup import find_vm
from pvc.core.model import DeviceChange, DeviceStep, Vm
from pvc.core.waiting import wait_for
from pvc.plugins.storage import keys
from pvc.plugins.storage.decide.attachment import Attached, VolumeName, disks_of
from pvc.plugins.storage.decide.plugging import disk_in
from pvc.plugins.storage.plugging import PlugIn, Unplug
from pvc.plugins.storage.records import Volume, decoded

COLUMNS = ("target", "bus", "pool", "volume", "size", "file", "state", "reason")
TIMED_OUT = 6
"""The wait ended before the thing waited for did; the same code as for operations."""
UNDER_WAY = {
    DeviceStep.PLUG: "is being plugged in",
    DeviceStep.UNPLUG: "is being unplugged",
    DeviceStep.GROW: "has grown, and is not seen so yet",
}
LOST = {
    DeviceStep.PLUG: "could not be plugged in",
    DeviceStep.UNPLUG: "could not be unplugged",
    DeviceStep.GROW: "has grown, and is not seen so",
}

Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until the VM, if it runs, is as the definition.")]
Timeout = Annotated[float, typer.Option(min=0, metavar="SECONDS", help="How long to wait.")]


class Bus(Enum):
    """What the guest sees the disk on."""

    VIRTIO = "virtio"
    SCSI = "scsi"
    SATA = "sata"


def add_commands(cli: CommandLine) -> None:
    """Add to the group `vm disk`."""
    group = cli.group("vm disk")
    Name = Annotated[str, typer.Argument(metavar="VM", help="Name or UUID.", autocompletion=cli.complete_vms)]

    @group.command("add")
    def add(
        name: Name,
        pool: Annotated[str, typer.Argument(metavar="POOL", help="Its pool.", autocompletion=_pools(cli))],
        volume: Annotated[str, typer.Argument(metavar="VOLUME", help="Its name.", autocompletion=_volumes(cli))],
        bus: Annotated[Bus, typer.Option(help="What the guest sees the disk on.")] = Bus.VIRTIO,
        target: Annotated[str | None, typer.Option(help="What the disk is called; default: a free name.")] = None,
        serial: Annotated[str | None, typer.Option(help="Serial number that the guest sees.")] = None,
        wait: Wait = True,
        timeout: Timeout = 60.0,
    ) -> None:
        """Give a VM a volume as a disk: in its definition, and at once if it runs."""
        vm = find_vm(cli.connect(), name)
        what = VolumeName(pool, volume)
        change = _request(cli, vm, PlugIn(cli.connect(), cli.runtime, cli.user, vm, what, bus.value, target, serial))
        _follow(cli, vm, change, wait, timeout)

    @group.command("remove")
    def remove(
        name: Name,
        what: Annotated[str, typer.Argument(metavar="TARGET|VOLUME", help="Such as vdb, or POOL/VOLUME, or VOLUME.")],
        wait: Wait = True,
        timeout: Timeout = 60.0,
    ) -> None:
        """Take a disk from a VM: from its definition, and at once if it runs and its guest lets go.

        The volume stays as it is.
        """
        vm = find_vm(cli.connect(), name)
        _follow(cli, vm, _request(cli, vm, Unplug(cli.runtime, cli.user, vm, what)), wait, timeout)

    @group.command("list", listing=True)
    def list_disks(name: Name) -> None:
        """Show the disks of a VM, with the sizes of its volumes, and what is still to be done or has failed."""
        coordinator = cli.connect()
        vm = find_vm(coordinator, name)
        znode = coordinator.get(core.vm_xml(vm.uuid))
        xml = "" if znode is None else znode.data.decode(errors="replace")
        rows = [_row(*shown) for shown in _shown(vm, xml)]
        cli.show([{**row, "size": size} for row, size in zip(rows, _sizes(coordinator, rows), strict=True)], COLUMNS)


def _request(cli: CommandLine, vm: Vm, propose: Propose) -> DeviceChange:
    return request_change(cli.connect(), vm, propose, cli.vm_needs, cli.verdicts)


def _follow(cli: CommandLine, vm: Vm, change: DeviceChange, wait: bool, timeout: float) -> None:
    """Say what has become of a change; ends the command if it was not made."""
    what = _described(change)
    if change.step is DeviceStep.PLUG:
        done, to_be = f"{vm.name} has {what}", f"{vm.name} is to have {what}"
    else:
        done, to_be = f"{vm.name} has {what} no more", f"{vm.name} is to lose {what}"
    if not wait:
        cli.say(to_be)
        return
    try:
        end: Ending | None = wait_for(cli.connect(), cli.runtime, lambda mirror: ending(mirror, vm, change), timeout)
    except KeyboardInterrupt:
        cli.fail(f"detached; {to_be}, see `pvc vm disk list {vm.name}`", 130)
    if end is None:
        cli.fail(f"{to_be}, and that is not done after {timeout:g} s; see `pvc vm disk list {vm.name}`", TIMED_OUT)
    if end.why:
        cli.fail(f"{to_be}, and that is not done: {end.why}")
    cli.say(f"{done} from its next start on" if end.at_next_start else done)


def _shown(vm: Vm, xml: str) -> list[tuple[Attached, str, str]]:
    """The disks of a VM, what is the matter with each, and why."""
    waits = [(disk, change) for change in waiting(vm) if (disk := disk_in(change))]
    lost = [(disk, change) for change in failed(vm) if (disk := disk_in(change))]
    stays = {disk.target: (LOST[change.step], change.failed) for disk, change in lost if _is_of_one_that_stays(change)}
    stays |= {disk.target: (UNDER_WAY[change.step], "") for disk, change in waits if _is_of_one_that_stays(change)}
    stays |= {disk.target: (UNDER_WAY[change.step], "") for disk, change in waits if change.step is DeviceStep.PLUG}
    return [
        *((disk, *stays.get(disk.target, ("", ""))) for disk in disks_of(xml)),
        *((disk, UNDER_WAY[change.step], "") for disk, change in waits if change.step is DeviceStep.UNPLUG),
        *((disk, LOST[change.step], change.failed) for disk, change in lost if not _is_of_one_that_stays(change)),
    ]


def _is_of_one_that_stays(change: DeviceChange) -> bool:
    return change.step is DeviceStep.GROW


def _sizes(coordinator: Coordinator, rows: Sequence[Mapping[str, Any]]) -> list[Size | None]:
    """The size of each row's volume; None: it is none, or its record cannot be read. Raises Disconnected."""
    paths = [keys.volume(row["pool"], row["volume"]) if row["volume"] else "" for row in rows]
    asked = list(dict.fromkeys(path for path in paths if path))
    known = dict(zip(asked, coordinator.get_many(asked), strict=True))
    volumes = ((znode := known.get(path)) and decoded(Volume, znode.data, path) for path in paths)
    return [Size(volume.size) if volume else None for volume in volumes]


def _row(disk: Attached, state: str, reason: str = "") -> dict[str, Any]:
    return {
        "target": disk.target or None,
        "bus": disk.bus or None,
        "pool": disk.volume.pool if disk.volume else None,
        "volume": disk.volume.volume if disk.volume else None,
        "file": disk.file or None,
        "state": state or None,
        "reason": reason or None,
    }


def _described(change: DeviceChange) -> str:
    disk = disk_in(change)
    if disk is None:
        return change.key
    return f"volume {disk.volume} as {disk.target}" if disk.volume else f"disk {disk.target}"


def _pools(cli: CommandLine) -> Callable[[str], list[str]]:
    def complete(incomplete: str) -> list[str]:
        return cli.complete_below(keys.POOLS, incomplete)

    return complete


def _volumes(cli: CommandLine) -> Callable[[typer.Context, str], list[str]]:
    def complete(context: typer.Context, incomplete: str) -> list[str]:
        return cli.complete_below(keys.volumes(str(context.params.get("pool"))), incomplete)

    return complete
