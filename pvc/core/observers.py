"""What a node tells plugins about its VMs, and the contract of those that listen."""

from dataclasses import dataclass
from enum import Enum
from typing import Protocol


class VmChange(Enum):
    """What happened to a VM on this node."""

    STARTED = "started"
    """It was started here, afresh."""
    ADOPTED = "adopted"
    """It was running here already when the daemon started; or its devices have changed since this was told."""
    ARRIVED = "arrived"
    """It came here by live migration and runs here now."""
    STOPPED = "stopped"
    """It ended here: its guest shut down, or it was stopped."""
    DEPARTED = "departed"
    """It left by live migration and no longer runs here."""
    CRASHED = "crashed"
    """It ended here without anybody having asked for it."""


HERE = frozenset({VmChange.STARTED, VmChange.ADOPTED, VmChange.ARRIVED})
"""Changes after which the VM runs on this node; after any other it does not."""


@dataclass(frozen=True, slots=True)
class VmEvent:
    """One change of one VM on this node."""

    change: VmChange
    uuid: str
    name: str
    xml: str = ""
    """For the changes in HERE: the live libvirt XML."""
    peer: str | None = None
    """ARRIVED: the node it came from. DEPARTED: the node it went to."""


class VmObserver(Protocol):
    """Told of every VmEvent of its node, in order for one VM. Repetitions happen (after a daemon restart)."""

    def vm_changed(self, event: VmEvent) -> None:
        """Take note and return at once: put the event into an inbox. Called from several threads."""
