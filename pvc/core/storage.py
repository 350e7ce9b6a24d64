"""The contract of those who keep VMs' disks: one backend for each pool on each node. Third parties may bring their own.

The storage role calls a backend from jobs only: every call may take long, and may hang where the storage does.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from pvc.core.errors import PvcError


class StorageError(PvcError):
    """The storage refused or failed to do something; the message says what it said, and what to do."""


class StorageUnusable(StorageError):
    """The pool cannot be reached or used from this node now; nothing is known about its volumes."""


class BadPool(StorageError):
    """The pool's options make no sense to its backend; the message names the option and what it may be."""


class NoSuchImage(StorageError):
    """The pool has no image, or the image no snapshot, of that name."""


class DamagedImage(StorageError):
    """The pool has the image, and it cannot be read: nothing can be done with it but to remove it."""


class ImageExists(StorageError):
    """The pool has an image, or the image a snapshot, of that name already."""


class ImageInUse(StorageError):
    """A program has the image open, or something depends on it; the message says who or what, as far as is known."""


class Unsupported(StorageError):
    """This backend cannot do that at all; the message says what it can do instead."""


class Feature(Enum):
    """What not every backend can do."""

    SNAPSHOTS = "snapshots"
    """Of an image that no VM has open."""
    LIVE_SNAPSHOTS = "live snapshots"
    """While a VM runs on it as well."""
    LINKED_CLONES = "linked clones"
    """A clone of a snapshot shares its data, takes no time to make, and needs the snapshot as long as it lives."""
    LIVE_RESIZE = "live resize"
    """The image can grow while a VM has it open."""
    CUTS_OFF = "cuts off"
    """`cut_off` is enforced by the storage itself."""
    DATED = "dated"
    """Its images are raw, and each says when it and its snapshots were made (`Image.made`). That tells what a task has
    made from what was there before, so that the storage need not be asked before and after each making."""


@dataclass(frozen=True, slots=True)
class Pool:
    """A place for volumes, as the cluster's tree keeps it."""

    name: str
    backend: str
    """The name that a backend goes by: `directory`, `ceph`, or one that a plugin brings."""
    options: Mapping[str, str] = field(default_factory=dict)
    """For the backend; see `OpenBackend`."""
    created: float = 0.0
    """Seconds since the epoch."""
    by: str = ""


@dataclass(frozen=True, slots=True)
class Room:
    """How full a pool is. Bytes; of what the backend may fill, not of what is behind it (a copy three times over)."""

    total: int
    free: int
    warning: str = ""
    """What is not as it should be though the pool can be used."""


@dataclass(frozen=True, slots=True)
class Image:
    """One image as the storage has it."""

    size: int
    """Bytes that a VM sees."""
    format: str
    """As libvirt's <driver type=...> calls it: raw, qcow2."""
    used: int | None = None
    """Bytes that it takes; None: not known cheaply."""
    snapshots: tuple[str, ...] = ()
    parent: str = ""
    """The image and snapshot whose data it shares, as `image@snapshot`; empty: none."""
    made: float | None = None
    """When, in seconds since the epoch by the storage's clock; None: it does not tell."""
    snapshots_made: tuple[float, ...] = ()
    """Likewise of each of its snapshots, in the same order; empty: it does not tell."""


@dataclass(frozen=True, slots=True)
class Disk:
    """How a hypervisor reaches an image: the parts of libvirt's <disk> element that the backend decides."""

    type: str
    """`file`, `block` or `network`."""
    format: str
    source: str
    """The element <source .../>, as XML; with <auth> in it where one is needed."""
    driver: Mapping[str, str] = field(default_factory=dict)
    """Further attributes of <driver>, such as cache and discard; what the definition says itself wins."""


@dataclass(frozen=True, slots=True)
class HypervisorSecret:
    """What a hypervisor must know in order to reach a disk. Kept in its memory only, shown and logged nowhere."""

    uuid: str
    usage: str
    """libvirt's kind of secret: `ceph`, `iscsi`, `volume`."""
    name: str
    """libvirt's name for its use, unique among secrets of that usage."""
    value: bytes = field(repr=False)


Report = Callable[[int, int], None]
"""Told how many bytes of how many are done. It may raise, in order to have the work stopped: let it through."""


class Backend(Protocol):
    """One pool as one node reaches it. An image has the name of its volume.

    Every call may raise StorageUnusable and StorageError. A call that fails, or is stopped, leaves no half image behind
    that goes by the name it was asked for; calls that make something say ImageExists rather than overwrite.
    """

    @property
    def features(self) -> frozenset[Feature]: ...

    def look(self) -> Room:
        """How full the pool is, which also tells whether it can be used. Quick where the storage is well."""

    def images(self) -> Sequence[str]:
        """The names of all images in the pool, those that pvc knows nothing of included."""

    def inspect(self, image: str) -> Image:
        """One image. Raises NoSuchImage, DamagedImage."""

    def create(self, image: str, size: int) -> None:
        """Make an empty image of `size` bytes. Raises ImageExists."""

    def remove(self, image: str) -> None:
        """Destroy an image and its snapshots, a damaged one too. Raises NoSuchImage, ImageInUse."""

    def resize(self, image: str, size: int) -> None:
        """Give an image another size; what lies beyond a smaller one is lost. Raises NoSuchImage, ImageInUse."""

    def rename(self, image: str, new: str) -> None:
        """Raises NoSuchImage, ImageExists, ImageInUse."""

    def clone(self, image: str, snapshot: str | None, new: str, report: Report) -> None:
        """Make an image with the contents of another, or of a snapshot of it: as large as that was, too.

        Raises NoSuchImage, ImageExists; ImageInUse where the storage can read only what no program has open;
        Unsupported where it cannot read all of a snapshot that is larger than the image is now.
        """

    def load(self, path: str, image: str, report: Report) -> None:
        """Make an image with the contents of a file on this node, raw or qcow2, whatever it is found to be.

        Raises ImageExists, StorageError if the file is no image or depends on others.
        """

    def save(self, image: str, snapshot: str | None, path: str, format: str, report: Report) -> None:
        """Write an image, or a snapshot of it, to a new file on this node, `raw` or `qcow2`.

        `report` is told something once it is known that there is no such file, and before there is: that tells a later
        attempt whether a file that it meets may be of the one before.
        Raises NoSuchImage, ImageExists if the file is there, ImageInUse and Unsupported as `clone` does.
        """

    def add_snapshot(self, image: str, snapshot: str) -> None:
        """Raises NoSuchImage, ImageExists, ImageInUse, Unsupported."""

    def remove_snapshot(self, image: str, snapshot: str) -> None:
        """Raises NoSuchImage, ImageInUse if clones need it."""

    def protect_snapshot(self, image: str, snapshot: str, on: bool) -> None:
        """Have the storage itself refuse to remove a snapshot, if it can; nothing happens where it cannot."""

    def roll_back(self, image: str, snapshot: str, report: Report) -> None:
        """Make the image what it was at a snapshot; all later data is lost. Raises NoSuchImage, ImageInUse."""

    def disk(self, image: str, format: str) -> Disk:
        """How the hypervisor of this node reaches an image. Does no I/O on the storage."""

    def secret(self) -> HypervisorSecret | None:
        """What that takes beside; None: nothing. Does no I/O on the storage. Raises StorageError if it is not there."""

    def addresses(self) -> Sequence[str]:
        """Addresses as which the storage sees this machine, for others to name in `cut_off`; none where nothing can be
        cut off. Does no I/O on the storage."""

    def writers(self, image: str) -> Sequence[str] | None:
        """Addresses of the machines that have the image open and may write; None: the storage cannot tell."""

    def cut_off(self, addresses: Sequence[str]) -> None:
        """See to it that nothing on the machines of these addresses writes to this pool from now on, until `readmit`.

        For a machine that is taken for dead. Raises Unsupported where the storage cannot enforce it.
        """

    def readmit(self, addresses: Sequence[str]) -> None:
        """Undo `cut_off`, also one that never was: the machine has been off since."""


class OpenBackend(Protocol):
    """Makes pools' backends on this node."""

    def __call__(self, pool: Pool, /) -> Backend:
        """The backend of a pool, made without asking the storage anything. Raises BadPool."""
