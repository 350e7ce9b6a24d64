"""What pvc needs of the machine whose disks OSDs are made of. Values and a Protocol, no I/O."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class LocalOsd:
    """What a machine's devices hold of one OSD, of whichever cluster, as is written on them."""

    id: int
    uuid: str
    """Its own: another OSD may have its number, one of another cluster or one that came later."""
    cluster: str
    """The fsid of its cluster."""
    data: tuple[str, ...] = ()
    """The devices that its data are on. It has them to itself unless it is on logical volumes."""
    further: tuple[str, ...] = ()
    """Likewise the devices of its block.db and block.wal."""
    lvm: bool = False
    """It is on logical volumes: the same devices may hold those of others."""
    volumes: tuple[str, ...] = ()
    """Those logical volumes that say that they are its data: one, unless somebody has made copies."""

    @property
    def devices(self) -> tuple[str, ...]:
        """All its devices, each once."""
        return tuple(dict.fromkeys(self.data + self.further))


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
    osds: tuple[LocalOsd, ...] = ()
    """The OSDs, of whichever cluster, that have something on it."""


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

    def osds(self) -> Sequence[LocalOsd]:
        """The OSDs, of whichever cluster, that this machine's devices hold something of. Changes nothing."""

    def stop(self, id: int) -> None:
        """Have an OSD's daemon end, and not come back with the machine; nothing changes if it does not run."""

    def wipe(self, osd: LocalOsd) -> None:
        """Destroy what an OSD that was purged has left: its logical volumes and no others, or, where it is not on
        logical volumes, all that its devices hold."""
