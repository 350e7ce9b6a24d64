"""What the storage role needs of the machine it runs on."""

from dataclasses import dataclass
from typing import Protocol

from pvc.core.errors import PvcError


class DirectoryUnusable(PvcError):
    """The directory is missing or cannot be read; the message is a phrase that says why."""


@dataclass(frozen=True, slots=True)
class Look:
    """A directory as it was found."""

    total: int
    """MiB of the file system that it is on."""
    free: int
    """MiB of it that are free to those who write there."""
    mounted: bool
    """Whether something is mounted exactly there."""


class Directories(Protocol):
    """The directories of one machine. `pvc.testing.directories` has a fake."""

    def look(self, path: str) -> Look:
        """How a directory is. Raises DirectoryUnusable. May take for ever: its server may be gone."""
