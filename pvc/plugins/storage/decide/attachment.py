"""VMs and the cluster's volumes: which a definition names, what becomes of its disks, and what speaks against that."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree as tree
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from pvc.core.errors import PvcError
from pvc.core.model import Vm
from pvc.core.storage import Disk, Pool
from pvc.plugins.storage.decide.names import why_no_name
from pvc.plugins.storage.records import COPIES, GOES, TaskKind, Volume, VolumeState
from pvc.plugins.storage.schema import SECTION

VOLUME = "volume:"
"""Before POOL/VOLUME, among what a VM needs of this role."""
FAULT = "fault:"
"""Before why a disk in a definition makes no sense, in the same place: a VM that needs this can run nowhere."""
QEMU = "http://libvirt.org/schemas/domain/qemu/1.0"


class VolumeUnusable(PvcError):
    """A VM cannot have one of its disks; the message says which, why, and what to do."""


@dataclass(frozen=True, slots=True, order=True)
class VolumeName:
    """Which volume of the cluster."""

    pool: str
    volume: str

    def __str__(self) -> str:
        return f"{self.pool}/{self.volume}"


@dataclass(frozen=True, slots=True)
class Attached:
    """One disk of a definition."""

    target: str
    """What the definition calls it, such as vda; empty: it does not."""
    bus: str
    volume: VolumeName | None = None
    """None: it is none of the cluster's volumes."""
    file: str = ""
    """The file that it is instead; empty: none."""


@dataclass(frozen=True, slots=True)
class Found:
    """What the tree says of a volume."""

    pool: Pool | None
    """None: there is none, or its record cannot be read."""
    volume: Volume | None = None
    """None: the same."""
    stilled_by: TaskKind | None = None
    """The task because of which no VM may start with it now."""
    user: str = ""
    """Another VM that has it; empty: none."""


def disks_of(xml: str) -> tuple[Attached, ...]:
    """The disks of a definition, in its order; none if it cannot be read."""
    root = _parsed(xml)
    return tuple(_attached(disk) for disk in ([] if root is None else root.findall("devices/disk")))


def volumes_of(xml: str) -> tuple[VolumeName, ...]:
    """The volumes that a definition names, each once."""
    if "pool=" not in xml:  # nothing to parse: listings ask this of every VM
        return ()
    return tuple(sorted({disk.volume for disk in disks_of(xml) if disk.volume is not None}))


def needed(xml: str) -> tuple[str, ...]:
    """What a VM's record keeps of its volumes, and of disks that make no sense."""
    named = (f"{VOLUME}{name}" for name in volumes_of(xml))
    return (*named, *(f"{FAULT}{fault}" for fault in faults_of(xml)))


def needed_volumes(needs: Iterable[str]) -> tuple[VolumeName, ...]:
    """The volumes among what a VM needs of this role."""
    named = (need.removeprefix(VOLUME).partition("/") for need in needs if need.startswith(VOLUME))
    return tuple(VolumeName(pool, volume) for pool, _, volume in named)


def needed_files(needs: Iterable[str]) -> tuple[str, ...]:
    """The files of shared directories among it."""
    return tuple(need for need in needs if need.startswith("/"))


def faults_in(needs: Iterable[str]) -> str:
    """Why a VM that needs this has disks that make no sense; empty: they do."""
    return "; ".join(need.removeprefix(FAULT) for need in needs if need.startswith(FAULT))


def users_of(name: VolumeName, vms: Iterable[Vm]) -> list[Vm]:
    """The VMs whose definition names a volume, or that still have it though it does not any more."""
    return [vm for vm in vms if name in needed_volumes(vm.needs.get(SECTION, ()))]


def faults_of(xml: str) -> list[str]:
    """What makes no sense about the volumes in a definition, each with what to write instead."""
    root = _parsed(xml)
    found, seen = [], set[VolumeName]()
    for disk in [] if root is None else root.findall("devices/disk[@type='volume']"):
        fault = _fault(disk)
        name = _named(disk)
        if not fault and name in seen:
            fault = f"volume {name} is more than one of its disks; a volume can be one"
        if fault:
            found.append(fault)
        elif name is not None:
            seen.add(name)
    return found


def why_never(name: VolumeName, found: Found) -> str:
    """Why no VM can be defined with a volume; empty: one can."""
    if found.pool is None:
        return f"there is no pool {name.pool}; `pvc storage pool list` shows them all"
    if found.volume is None:
        return f"there is no such volume; `pvc storage volume list {name.pool}` shows them all"
    if found.volume.state is VolumeState.REMOVING:
        return f"it is being removed; see `pvc storage volume list {name.pool}`"
    if found.stilled_by in GOES:
        return f"{_in_words(found.stilled_by)} was asked for; `pvc storage task list` shows how far it is"
    if found.user:
        return f"it is a disk of VM {found.user}, and a volume can be of one; clone it, or take it from {found.user}"
    return ""


def why_not_now(name: VolumeName, found: Found) -> str:
    """Why a VM cannot start with a volume at this moment; empty: it can."""
    if why := why_never(name, found):
        return why
    if found.volume is not None and found.volume.state is VolumeState.MAKING:
        return "it is still being made; `pvc storage task list` shows how far it is"
    if found.stilled_by is not None:
        end = ", and `pvc storage task cancel` ends it" if found.stilled_by in COPIES else ""
        return f"{_in_words(found.stilled_by)} is under way; `pvc storage task list` shows how far it is{end}"
    return ""


def with_sources(xml: str, disk_of: Callable[[VolumeName], Disk]) -> str | None:
    """The definition with each of its volumes as what the hypervisor reaches it by; None if it names none.

    What a definition says itself of a disk's driver is kept. Raises VolumeUnusable, and what `disk_of` raises.
    """
    root = _parsed(xml)
    disks = [] if root is None else root.findall("devices/disk[@type='volume']")
    if root is None or not disks:
        return None
    if faults := faults_of(xml):
        raise VolumeUnusable("; ".join(faults))
    for disk in disks:
        name = _named(disk)
        assert name is not None
        _rewrite(disk, name, disk_of(name))
    tree.register_namespace("qemu", QEMU)  # else the writer invents a prefix, which people do not like to read
    return tree.tostring(root, encoding="unicode")


def has_scsi_controller(xml: str) -> bool:
    """Whether a definition has one."""
    root = _parsed(xml)
    return root is not None and root.find("devices/controller[@type='scsi']") is not None


def device(name: VolumeName, target: str, bus: str, serial: str | None) -> str:
    """The element that gives a VM a volume. All parts have been checked: none has a quote in it."""
    number = "" if serial is None else f"<serial>{serial}</serial>"
    return (
        f"<disk type='volume' device='disk'><source pool='{name.pool}' volume='{name.volume}'/>"
        f"<target dev='{target}' bus='{bus}'/>{number}</disk>"
    )


def chosen(vm: str, disks: Sequence[Attached], what: str) -> Attached | str:
    """The disk of a VM that a target or the name of a volume, with or without its pool, means; or why not one."""
    of_it = [disk for disk in disks if what == disk.target]
    of_it = of_it or [disk for disk in disks if disk.volume and what in (str(disk.volume), disk.volume.volume)]
    if not of_it:
        has = ", ".join(_called(disk) for disk in disks) or "none"
        return f"{vm} has no disk {what}; it has {has}"
    if len(of_it) > 1:
        return f"{vm} has {len(of_it)} disks {what}; name the target: {', '.join(disk.target for disk in of_it)}"
    if not of_it[0].target:
        return f"the disk {what} of {vm} has no target in the definition; undefine the VM and define it with one"
    return of_it[0]


def _called(disk: Attached) -> str:
    return f"{disk.target} ({disk.volume})" if disk.volume else disk.target or disk.file


def _attached(disk: Element) -> Attached:
    target, source = disk.find("target"), disk.find("source")
    dev, bus = ("", "") if target is None else (target.get("dev", "").strip(), target.get("bus", "").strip())
    if disk.get("type") == "volume":
        return Attached(dev, bus, None if _fault(disk) else _named(disk))
    return Attached(dev, bus, file="" if source is None else source.get("file", "").strip())


def _named(disk: Element) -> VolumeName | None:
    source = disk.find("source")
    if source is None:
        return None
    return VolumeName(source.get("pool", "").strip(), source.get("volume", "").strip())


def _fault(disk: Element) -> str:
    target, name = disk.find("target"), _named(disk)
    dev = "" if target is None else target.get("dev", "").strip()
    if not dev:
        return "a disk of it has no name; write <target dev='vda' bus='virtio'/>"
    if name is None or not name.pool or not name.volume or len(disk.findall("source")) > 1:
        return f"disk {dev} does not name one volume; write <source pool='POOL' volume='VOLUME'/> in it, once"
    for part in (name.pool, name.volume):
        if why := why_no_name("pool or volume", part):
            return f"disk {dev}: {why}"
    if disk.find("shareable") is not None:
        return f"disk {dev} is <shareable/>: only one VM may write to a volume; take that element out"
    return ""


def _rewrite(element: Element, name: VolumeName, disk: Disk) -> None:
    element.set("type", disk.type)
    driver = element.find("driver")
    if driver is None:
        driver = Element("driver")
        element.insert(0, driver)
    if driver.get("type", disk.format) != disk.format:
        # A guest that gets a qcow2 image as raw reads its header for data, and may write what QEMU then trusts.
        raise VolumeUnusable(
            f"the definition says that volume {name} is {driver.get('type')}, and it is {disk.format}; take that out"
        )
    for key, value in {"name": "qemu", "type": disk.format, **disk.driver}.items():
        if key not in driver.attrib:
            driver.set(key, value)
    old = element.find("source")
    assert old is not None
    new: Element = fromstring(disk.source, forbid_dtd=True)
    new.extend(child for child in old if new.find(child.tag) is None)
    for auth in element.findall("auth"):  # as of libvirt's own pools: the backend says how it is reached
        element.remove(auth)
    element[list(element).index(old)] = new


def _in_words(task: TaskKind) -> str:
    return {
        TaskKind.REMOVE: "its removal",
        TaskKind.RENAME: "its renaming",
        TaskKind.ROLL_BACK: "a roll-back to one of its snapshots",
        TaskKind.RESIZE: "a change of its size",
        TaskKind.SNAPSHOT: "a snapshot of it",
        TaskKind.UNSNAPSHOT: "the removal of one of its snapshots",
        TaskKind.CLONE: "a copy of it",
        TaskKind.EXPORT: "its export",
    }.get(task, "a change of it")


def _parsed(xml: str) -> Element | None:
    try:
        root: Element = fromstring(xml, forbid_dtd=True)
    except (DefusedXmlException, ParseError, ValueError):  # refused where it is defined, in words
        return None
    return root
