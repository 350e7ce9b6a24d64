"""What pvc needs of a Ceph cluster beside its images: how it is, its OSDs, its flags. Values and a Protocol, no I/O."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from pvc.core.storage import StorageUnusable

FLAGS = (
    "full",
    "pause",
    "noup",
    "nodown",
    "noout",
    "noin",
    "nobackfill",
    "norebalance",
    "norecover",
    "noscrub",
    "nodeep-scrub",
    "notieragent",
    "nosnaptrim",
)
"""The flags that an administrator may set and unset, as `ceph osd set` of Ceph 16 names them; `pglog_hardlimit`, which
can never be unset again, is left out."""

NOOUT = "noout"
"""OSDs that are down are not marked out, so that Ceph does not begin to copy what they hold."""


class NoCeph(StorageUnusable):
    """This machine has no configuration of Ceph: it is no client of any cluster."""


@dataclass(frozen=True, slots=True)
class Check:
    """One of Ceph's own health checks that has something to say."""

    code: str
    """Ceph's name for it, such as OSD_DOWN."""
    error: bool
    """Ceph calls it an error, not a warning."""
    text: str
    count: int = 0
    """Of what the check counts: OSDs, objects, operations."""


@dataclass(frozen=True, slots=True)
class Osd:
    """One OSD as the monitors know it."""

    id: int
    host: str
    """Its host in the CRUSH tree; empty: it is in no host of it."""
    up: bool
    inside: bool
    """It is in: data is placed on it."""
    kind: str = ""
    """Its device class: hdd, ssd, nvme."""
    weight: float = 0.0
    """In the CRUSH tree; by default its size in TiB."""
    addresses: tuple[str, ...] = ()
    """IP addresses at which it is, or was last; none: it was never up."""
    uuid: str = ""
    """Its own, which no other OSD ever has. A number is given away again once an OSD is purged."""


@dataclass(frozen=True, slots=True)
class Use:
    """How full an OSD is. Bytes."""

    size: int
    used: int


@dataclass(frozen=True, slots=True)
class Survey:
    """A Ceph cluster at one moment, as its monitors see it."""

    health: str = "HEALTH_OK"
    checks: tuple[Check, ...] = ()
    total: int = 0
    """Bytes of all OSDs."""
    free: int = 0
    degraded: int = 0
    """Copies of objects that are missing."""
    misplaced: int = 0
    """Copies that are not where they belong."""
    copies: int = 0
    """Of all objects, as they should be; 0: nothing is degraded or misplaced, and Ceph does not tell."""
    rate: int = 0
    """Objects recovered in a second."""
    states: Mapping[str, int] = field(default_factory=dict)
    """How many placement groups are in which state."""
    monitors: tuple[str, ...] = ()
    quorum: tuple[str, ...] = ()
    """Those monitors that take part."""
    mgr: bool = True
    """A manager daemon is active: sizes, progress and what may be stopped can be asked for."""
    osds: tuple[Osd, ...] = ()
    flags: frozenset[str] = frozenset()
    pools: Mapping[int, str] = field(default_factory=dict)
    fsid: str = ""
    """The UUID of the cluster."""

    @property
    def recovering(self) -> bool:
        """Whether Ceph is at work on copies, so that what is so now may soon be better."""
        return self.rate > 0 or any(
            word in state for state in self.states for word in ("peering", "activating", "recover", "backfill")
        )

    @property
    def slow_operations(self) -> int:
        """Operations that OSDs have not finished for longer than Ceph finds right."""
        return sum(check.count for check in self.checks if check.code == "SLOW_OPS")


@dataclass(frozen=True, slots=True)
class Stoppable:
    """Whether OSDs may be stopped now."""

    safe: bool
    reason: str = ""
    """What Ceph says against it."""
    groups: tuple[str, ...] = ()
    """The placement groups that would not serve any more, such as `1.0`: pool and number."""


class CephCluster(Protocol):
    """A Ceph cluster, spoken to from one node. Every call may hang for a bounded time; all raise StorageUnusable (Ceph
    cannot be asked) and StorageError (it refuses). `pvc.testing.ceph` has a fake."""

    def survey(self) -> Survey:
        """How the cluster is, as the monitors say. Raises NoCeph where this machine knows of no Ceph."""

    def usage(self) -> Mapping[int, Use]:
        """How full each OSD is. Answered by the manager daemon: hangs where there is none."""

    def ok_to_stop(self, ids: Sequence[int]) -> Stoppable:
        """Whether all data stays available when these OSDs stop. Answered by the manager daemon."""

    def safe_to_destroy(self, id: int) -> str:
        """Why an OSD still holds what Ceph needs; empty: it can be destroyed. Answered by the manager daemon."""

    def set_flag(self, flag: str, on: bool) -> None:
        """Set or unset a flag of the cluster; nothing changes if it is so already."""

    def mark(self, id: int, inside: bool) -> None:
        """Mark an OSD in or out; nothing changes if it is so already."""

    def purge(self, id: int) -> None:
        """Take an OSD that is down out of the cluster's maps, with its key; nothing changes if it is not there."""
