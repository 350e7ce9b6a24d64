"""A Ceph cluster in memory, and the machines of its OSDs: the public fakes of `CephCluster` and `OsdHost`.

All data is in one placement group of each pool, with a copy in each of `copies` hosts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from pvc.core.runtime import Runtime
from pvc.core.storage import StorageError, StorageUnusable
from pvc.plugins.storage.ceph.cluster import Check, NoCeph, Osd, Stoppable, Survey, Use
from pvc.plugins.storage.ceph.osdhost import Device, LocalOsd

GLANCE = 1.0
"""Seconds between looks of a call that hangs at whether it still does."""
FSID = "5f1c6c2e-0000-4000-8000-000000000000"
"""Of every cluster, unless it is changed."""
DRAIN = 20.0
"""Seconds until an OSD that is out holds nothing any more, if others can take what it held."""
TERABYTE = 1 << 40


class FakeCeph:
    """One cluster, which outlives the daemons that ask it. `door` gives what a node asks it through."""

    def __init__(self, runtime: Runtime, *, copies: int = 3, least: int = 2) -> None:
        """`least`: copies without which a placement group does not serve (min_size)."""
        self._runtime = runtime
        self._copies = copies
        self._least = least
        self.fsid = FSID
        self.there = False
        """Whether nodes have a configuration of it."""
        self.without: set[str] = set()
        """Nodes that have none."""
        self.osds: dict[int, Osd] = {}
        self.flags: set[str] = set()
        self.checks: list[Check] = []
        self.recovering = False
        self.mgr = True
        self.behind: set[int] = set()
        """OSDs that the manager takes for up: it is seconds behind the monitors."""
        self.hanging: set[str] = set()
        """Nodes that get no answer."""
        self.outdated: set[int] = set()
        """OSDs that are up and do not have all that was written while they were down: Ceph is at work on it."""
        self.unusable: dict[str, str] = {}
        """Nodes that are told why not."""
        self.asked = 0
        """How often somebody asked for a survey, calls that hang included."""
        self._out_since: dict[int, float] = {}
        self._made = 0

    def door(self, node: str) -> "FakeCephDoor":
        """The cluster as a node reaches it."""
        return FakeCephDoor(self, node, self._runtime)

    def add_osd(self, host: str, *, address: str = "") -> int:
        """A new OSD, up and in."""
        id = next(id for id in range(len(self.osds) + 1) if id not in self.osds)
        self._made += 1
        uuid = f"00000000-0000-4000-8000-{self._made:012x}"
        self.osds[id] = Osd(id, host, True, True, "hdd", 1.0, (address,) if address else (), uuid)
        self.there = True
        return id

    def change(self, id: int, *, up: bool | None = None, inside: bool | None = None) -> None:
        """An OSD goes up or down, in or out."""
        osd = self.osds[id]
        new = replace(osd, up=osd.up if up is None else up, inside=osd.inside if inside is None else inside)
        if osd.inside and not new.inside:
            self._out_since[id] = self._runtime.monotonic()
        self.osds[id] = new

    def survey(self) -> Survey:
        """How it is."""
        down = [osd for osd in self.osds.values() if not osd.up]
        told = [Check("OSD_DOWN", False, f"{len(down)} osds down", len(down))] if down else []
        if self.flags:
            told.append(Check("OSDMAP_FLAGS", False, f"{','.join(sorted(self.flags))} flag(s) set", len(self.flags)))
        checks = tuple(sorted([*self.checks, *told], key=lambda check: (not check.error, check.code)))
        draining = [id for id in self.osds if self.holds(id) and not self.osds[id].inside]
        worst = "HEALTH_ERR" if any(check.error for check in checks) else "HEALTH_WARN"
        return Survey(
            health=worst if checks else "HEALTH_OK",
            checks=checks,
            total=len(self.osds) * TERABYTE,
            free=len(self.osds) * TERABYTE // 2,
            misplaced=sum(self._left(id) for id in draining),
            copies=100 * len(self.osds),
            rate=5 if self.recovering or self.outdated or any(self._has_room(id) for id in draining) else 0,
            states={"active+clean": 1},
            monitors=("a",),
            quorum=("a",),
            mgr=self.mgr,
            osds=tuple(self.osds[id] for id in sorted(self.osds)),
            flags=frozenset(self.flags),
            pools={1: "vms"},
            fsid=self.fsid,
        )

    def stoppable(self, ids: Sequence[int]) -> Stoppable:
        """Whether so many hosts are left that a placement group has enough copies."""
        left = {osd.host for osd in self.osds.values() if self._serves(osd) and osd.id not in ids}
        if len(left) >= self._least:
            return Stoppable(True)
        return Stoppable(False, "unsafe to stop osd(s) at this time (1 PGs are or would become offline)", ("1.0",))

    def holds(self, id: int) -> bool:
        """Whether an OSD holds data that is needed."""
        osd = self.osds[id]
        return osd.inside or not self._has_room(id) or self._left(id) > 0

    def _serves(self, osd: Osd) -> bool:
        return (osd.up or osd.id in self.behind) and osd.id not in self.outdated

    def _left(self, id: int) -> int:
        if not self._has_room(id):
            return 100
        since = self._runtime.monotonic() - self._out_since.get(id, 0.0)
        return max(0, round(100 * (1 - since / DRAIN)))

    def _has_room(self, id: int) -> bool:
        """Whether the others can have all copies."""
        return len({osd.host for osd in self.osds.values() if osd.inside and osd.id != id}) >= self._copies


class FakeCephDoor:
    """The fake `CephCluster` of one node."""

    def __init__(self, ceph: FakeCeph, node: str, runtime: Runtime) -> None:
        self._ceph = ceph
        self._node = node
        self._runtime = runtime

    def survey(self) -> Survey:
        if not self._ceph.there or self._node in self._ceph.without:
            raise NoCeph("this machine has no /etc/ceph/ceph.conf; see storage.ceph.conf")
        self._ceph.asked += 1
        self._reach()
        return self._ceph.survey()

    def usage(self) -> Mapping[int, Use]:
        self._reach(mgr=True)
        return {id: Use(TERABYTE, TERABYTE // 2) for id in self._ceph.osds}

    def ok_to_stop(self, ids: Sequence[int]) -> Stoppable:
        self._reach(mgr=True)
        return self._ceph.stoppable(ids)

    def safe_to_destroy(self, id: int) -> str:
        self._reach(mgr=True)
        held = id in self._ceph.osds and self._ceph.holds(id)
        return f"osd.{id} is still in use by placement groups" if held else ""

    def set_flag(self, flag: str, on: bool) -> None:
        self._reach()
        (self._ceph.flags.add if on else self._ceph.flags.discard)(flag)

    def mark(self, id: int, inside: bool) -> None:
        self._reach()
        if id in self._ceph.osds:
            self._ceph.change(id, inside=inside)

    def purge(self, id: int) -> None:
        self._reach()
        if id in self._ceph.osds and self._ceph.osds[id].up:
            raise StorageError(f"ceph osd purge: osd.{id} is not `down`")
        self._ceph.osds.pop(id, None)

    def _reach(self, *, mgr: bool = False) -> None:
        while self._node in self._ceph.hanging or (mgr and not self._ceph.mgr):
            self._runtime.sleep(GLANCE)
        if self._node in self._ceph.unusable:
            raise StorageUnusable(self._ceph.unusable[self._node])


class FakeOsdHost:
    """The fake `OsdHost` of one machine; its disks outlive its daemon."""

    def __init__(self, ceph: FakeCeph, node: str) -> None:
        self._ceph = ceph
        self._node = node
        self.devices: dict[str, Device] = {}

    def add(self, device: Device) -> None:
        """A disk is there."""
        self.devices[device.path] = device

    def add_osd(self, path: str, *, lvm: bool = False) -> int:
        """An OSD is on a disk, up and in; `lvm`: on a logical volume, beside what else the disk holds."""
        id = self._ceph.add_osd(self._node)
        if not lvm or path not in self.devices:
            self.add(Device(path, block=True, size=TERABYTE))
        self._made_on(path, id, lvm)
        return id

    def local(self) -> bool:
        return any(device.osds for device in self.devices.values())

    def device(self, path: str) -> Device:
        return self.devices.get(path, Device(path, block=False))

    def prepare(self, path: str) -> None:
        id = self._ceph.add_osd(self._node)
        self._ceph.change(id, up=False)
        self._made_on(path, id, lvm=False)

    def start(self, id: int, path: str) -> None:
        self._ceph.change(id, up=True)

    def osds(self) -> Sequence[LocalOsd]:
        return tuple(dict.fromkeys(osd for device in self.devices.values() for osd in device.osds))

    def stop(self, id: int) -> None:
        if id in self._ceph.osds:
            self._ceph.change(id, up=False)

    def wipe(self, osd: LocalOsd) -> None:
        for path in osd.devices:
            device = self.devices[path]
            left = tuple(other for other in device.osds if other != osd) if osd.lvm else ()
            holders = tuple(f"osd-{other.uuid}" for other in left)
            self.devices[path] = Device(path, block=True, size=device.size, osds=left, holders=holders)

    def _made_on(self, path: str, id: int, lvm: bool) -> None:
        uuid, device = self._ceph.osds[id].uuid, self.devices[path]
        volumes = (f"/dev/ceph/osd-{uuid}",) if lvm else ()
        osd = LocalOsd(id, uuid, self._ceph.fsid, (path,), lvm=lvm, volumes=volumes)
        self.devices[path] = replace(device, osds=(*device.osds, osd))
