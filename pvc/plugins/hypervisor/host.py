"""What the hypervisor role needs of the host it runs on: a Protocol with two implementations.

`libvirt.py` is the real one, `pvc.testing.hypervisor` the fake; tests/contract runs the same tests on both. A VM under
a hypervisor is called a guest here. Guests are transient: the hypervisor forgets one that ends.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from pvc.core.errors import PvcError
from pvc.core.storage import HypervisorSecret


class HypervisorError(PvcError):
    """The hypervisor refused or failed to do something; the message says what it said."""


class HypervisorGone(HypervisorError):
    """The hypervisor does not answer: nothing is known about its guests, which may well be running."""


class NoSuchGuest(HypervisorError):
    """There is no such guest here."""


class SecretTaken(HypervisorError):
    """The hypervisor has another secret for the same use, which is not ours to replace."""


class GuestState(Enum):
    """What the hypervisor says of a guest that it has."""

    RUNNING = "running"
    """Executes here (or is paused by an administrator or an I/O error: it lives here)."""
    INCOMING = "incoming"
    """Its memory is being received; it does not execute here yet."""
    LEAVING = "leaving"
    """Handed over to another host; only the confirmation is missing. It does not execute here any more."""
    SHUTTING_DOWN = "shutting down"
    """The guest is on its way down but still executes."""


@dataclass(frozen=True, slots=True)
class Guest:
    """One guest as it is at this moment."""

    uuid: str
    name: str
    state: GuestState
    moving: bool
    """A migration away from here is in progress, whoever asked for it."""
    filling: bool = False
    """It executes here while the rest of its memory still comes from another host (post-copy): it is lost if either
    host is."""
    halted: bool = False
    """It stands still since a disk of it gave an error, such as that there is no room. What it could not write is
    written once it is resumed."""


class EndReason(Enum):
    """Why a guest is no longer here."""

    SHUTDOWN = "shutdown"
    """The guest powered itself off, or followed a request to."""
    DESTROYED = "destroyed"
    """Powered off by a request to the hypervisor."""
    CRASHED = "crashed"
    """The guest, or the emulator under it, died."""
    MIGRATED = "migrated"
    """It runs on another host."""
    FAILED = "failed"
    """It could not be started, or an incoming migration was abandoned."""


@dataclass(frozen=True, slots=True)
class GuestEvent:
    """Something happened to a guest; `ended` tells why it is gone, None means it still is here."""

    uuid: str
    ended: EndReason | None


@dataclass(frozen=True, slots=True)
class MigrationOptions:
    """How to migrate. Sizes in MiB, rates in MiB/s, times in seconds."""

    uri: str
    """The target's hypervisor, as this host reaches it."""
    address: str = ""
    """Address on the target that receives the memory; empty: let the target choose."""
    bandwidth: int | None = None
    """Cap on the transfer; None: none."""
    downtime: float | None = None
    """Longest pause of the guest at the end; None: the hypervisor's default."""
    auto_converge: bool = False
    """Slow the guest down when it dirties memory faster than it is copied."""
    post_copy: bool = False
    """Allow `switch_to_post_copy`: the rest of the memory follows after the guest runs on the target."""
    connections: int = 1
    """Parallel connections for the memory; one where post-copy is allowed, as both together can lose the guest."""
    tls: bool = False
    """Encrypt the memory on its way."""


@dataclass(frozen=True, slots=True)
class MigrationProgress:
    """A migration in flight. Bytes, bytes per second, seconds."""

    elapsed: float
    total: int
    remaining: int
    rate: int
    dirty_rate: int | None
    """Bytes of memory the guest dirties per second; None: not known yet."""
    downtime: float | None
    """Expected pause at the end; None: not known yet."""
    iteration: int
    throttle: int | None = None
    """Percent of its time that auto-converge takes from the guest; None: none, or not said."""
    post_copy: bool = False
    """The guest executes on the target already; the rest of its memory follows."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """What the host offers."""

    memory: int
    """MiB, all of it."""
    cpus: int


class Hypervisor(Protocol):
    """One host's hypervisor. Every call raises HypervisorGone if it does not answer; the next call tries anew."""

    def listen(self, listener: Callable[[GuestEvent | None], None]) -> None:
        """Call `listener` on a foreign thread for every event, and with None when the connection came or went (then
        everything may have changed). It must return at once. The connection is made by a call, also after it was
        lost: until the next call there are no events."""

    def guests(self) -> Mapping[str, Guest]:
        """All guests that are here, by UUID."""

    def look(self, uuid: str) -> Guest | None:
        """One guest, as `guests` would show it; None if it is not here."""

    def xml(self, uuid: str) -> str:
        """The live definition, with what the hypervisor filled in. Raises NoSuchGuest."""

    def start(self, xml: str) -> None:
        """Start a guest from its definition; returns once it executes. Raises HypervisorError."""

    def shutdown(self, uuid: str) -> None:
        """Ask the guest to power itself off; returns at once. Raises NoSuchGuest."""

    def destroy(self, uuid: str) -> None:
        """Power the guest off without asking it. Raises NoSuchGuest."""

    def plug(self, uuid: str, device: str) -> None:
        """Give a running guest a device, an element of a definition. Raises HypervisorError, also while it migrates."""

    def unplug(self, uuid: str, device: str) -> None:
        """Ask a guest to let go of a device, an element of its live definition; it is gone once it is not in there.

        A guest may take seconds, and may never answer; it can be asked again. Raises HypervisorError.
        """

    def resize_disk(self, uuid: str, target: str, size: int) -> None:
        """Have a running guest see that the image behind its disk `target` has `size` bytes.

        Grows the image to that where it is smaller, and cuts it off where it is larger: say what it has. Raises
        HypervisorError, also while it migrates.
        """

    def define_secret(self, secret: HypervisorSecret) -> None:
        """Keep a secret in memory until the hypervisor's daemon ends, under its UUID, readable to nobody.

        One of the same UUID and use is replaced. Raises SecretTaken, HypervisorError.
        """

    def secrets(self) -> frozenset[str]:
        """The UUIDs of all secrets that the hypervisor knows, whoever defined them. Raises HypervisorError."""

    def migrate(self, uuid: str, options: MigrationOptions) -> None:
        """Move a running guest, live; returns when it executes on the target and is gone here.

        Raises HypervisorError otherwise, and then says nothing about where the guest is: look.
        """

    def progress(self, uuid: str) -> MigrationProgress | None:
        """The guest's outgoing migration, or None if there is none. Raises NoSuchGuest."""

    def set_downtime(self, uuid: str, seconds: float) -> None:
        """Change the longest allowed pause of the migration in flight; without one, nothing changes for the next."""

    def switch_to_post_copy(self, uuid: str) -> None:
        """Let the guest run on the target at once; needs `post_copy` in the options of the migration in flight."""

    def abort_migration(self, uuid: str) -> None:
        """Abort the outgoing migration in flight; the guest stays here. Nothing happens if there is none."""

    def capacity(self) -> Capacity:
        """What the host offers."""

    def load(self) -> float:
        """Load average of the host over one minute."""

    def close(self) -> None:
        """End the connection; guests keep running."""
