"""The contract of those who take elsewhere what VMs print on their consoles: files, a collector, an alarm."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class ConsoleVm:
    """The VM that printed."""

    uuid: str
    name: str
    node: str
    """Where it ran."""


@dataclass(frozen=True, slots=True)
class ConsoleRecord:
    """What a VM printed, or something told about it at this place; never both."""

    offset: int
    """Its place in everything that the VM has ever printed, in bytes; goes on across starts and nodes."""
    at: float
    """When it was published: seconds since the epoch."""
    data: bytes = b""
    """As the VM printed it; cut anywhere, even within a character. Empty: `event` tells something."""
    event: str = ""
    """"started", "stopped", "crashed", "moved" (then `node` and `target` say from where to where) or "missing"."""
    node: str = ""
    target: str = ""
    skipped: int | None = None
    """With "missing": how many bytes; None: not known."""
    why: str = ""
    """With "missing": "rate" (the VM's max_rate), "file" (its file was cut), "node" (the node that had it could not
    publish it) or "sink" (this sink was too slow or failed)."""


class ConsoleSink(Protocol):
    """Takes what one node publishes of its VMs' consoles. Each sink has a thread of its own, which alone calls it."""

    @property
    def name(self) -> str: ...

    def write(self, vm: ConsoleVm, records: Sequence[ConsoleRecord]) -> None:
        """Take the records, in order for each VM; may be slow. An exception gives them up: they count as missing."""

    def close(self) -> None:
        """Nothing comes any more. Called once the last `write` has returned."""
