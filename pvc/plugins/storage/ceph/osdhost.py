"""What pvc needs of the machine whose disks OSDs are made of. Values and a Protocol, no I/O."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Device:
    """A file of a machine that an OSD is to be made of, as it was found."""

    path: str
    """With symbolic links followed."""
    block: bool
    """It is a block device; if not, nothing else is known of it."""
    size: int = 0
    """Bytes."""
    read_only: bool = False
    mounts: tuple[str, ...] = ()
    """Where it, or a part of it, is mounted; `[SWAP]`: used as swap."""
    parts: tuple[str, ...] = ()
    """Partitions and whatever else lies upon it."""
    holders: tuple[str, ...] = ()
    """Other devices that use it, such as dm-0."""
    signatures: tuple[str, ...] = ()
    """What is recognised on it: file systems, partition tables, volume groups."""
    osd: int | None = None
    """The OSD whose data it holds."""


class OsdHost(Protocol):
    """OSDs as one machine has them. Calls may take minutes; all raise StorageError. `pvc.testing.ceph` has a fake."""

    def local(self) -> bool:
        """Whether this machine has OSDs of any cluster, as its directories say. Quick, and asks nobody."""

    def device(self, path: str) -> Device:
        """How a device is. Changes nothing."""

    def prepare(self, path: str) -> None:
        """Write an OSD's beginnings to a device, and register the OSD with the monitors."""

    def start(self, id: int, path: str) -> None:
        """Have the OSD run whose data a device holds; nothing changes if it runs."""

    def path_of(self, id: int) -> str | None:
        """The device that holds an OSD's data; None: this machine has none for it."""

    def stop(self, id: int) -> None:
        """Have an OSD's daemon end, and not come back with the machine; nothing changes if it does not run."""

    def wipe(self, id: int, path: str) -> None:
        """Destroy what an OSD that was purged has left on a device."""
