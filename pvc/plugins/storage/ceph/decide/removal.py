"""The way of an OSD out of its cluster, by where it stands: it may have been begun before."""

from dataclasses import dataclass
from enum import Enum

from pvc.plugins.storage.ceph.cluster import Osd, Survey

STALL = 120.0
"""Seconds without any progress after which an OSD counts as one that cannot be emptied."""


class Next(Enum):
    """What is to be done next."""

    MARK_OUT = "mark out"
    DRAIN = "drain"
    """Wait until it holds nothing that Ceph needs."""
    STOP = "stop"
    PURGE = "purge"
    WIPE = "wipe"
    """It is out of Ceph's maps: what it has left on the device can go."""


def next_of(osd: Osd | None, why_not: str) -> Next:
    """What is next for an OSD; None: it is not in Ceph's maps any more. `why_not`: why it must not be destroyed."""
    if osd is None:
        return Next.WIPE
    if osd.inside:
        return Next.MARK_OUT
    if why_not:
        return Next.DRAIN
    return Next.STOP if osd.up else Next.PURGE


@dataclass(frozen=True, slots=True)
class Drain:
    """How far an OSD is emptied, as looks one after another tell."""

    most: int
    """Copies of objects to move, when there were most."""
    left: int
    since: float
    """When it last went on, in monotonic seconds."""

    def after(self, survey: Survey, now: float) -> "Drain":
        """As a further look has found it."""
        left = survey.misplaced + survey.degraded
        moved = left != self.left or survey.recovering
        return Drain(max(self.most, left), left, now if moved else self.since)

    def stalled(self, now: float) -> bool:
        """Whether waiting longer does not help."""
        return now - self.since >= STALL

    @property
    def done(self) -> tuple[int, int]:
        """So many copies of so many."""
        return self.most - self.left, max(1, self.most)
