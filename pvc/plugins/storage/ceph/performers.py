"""Carries out tasks about OSDs and flags on the node that they are for. Each may be begun anew at any point: it looks
where it stands. Runs in jobs."""

from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Protocol

from pvc.core.context import Context
from pvc.core.storage import StorageError
from pvc.plugins.storage.ceph.cluster import FLAGS, NOOUT, CephCluster, Osd
from pvc.plugins.storage.ceph.decide.devices import why_not_device
from pvc.plugins.storage.ceph.decide.remains import made_on
from pvc.plugins.storage.ceph.decide.removal import Drain, Next, next_of
from pvc.plugins.storage.ceph.noout import NooutKeeper
from pvc.plugins.storage.ceph.osdhost import OsdHost
from pvc.plugins.storage.ceph.watch import CephEyes, CephWatch
from pvc.plugins.storage.ceph.wiping import Remains
from pvc.plugins.storage.records import Task, TaskKind

LOOK = 2.0
"""Seconds between looks at how far Ceph is with what is slow."""
CHANGE = 120.0
"""Seconds that an OSD may take to come up, or to be seen down."""
EMPTYING = "moving its data to other OSDs"


class Attempt(Protocol):
    """One attempt at a task: told how far it is, and at what. It raises where the work is to stop."""

    def __call__(self, done: int, total: int) -> None: ...

    def see_it_through(self) -> None:
        """From now on the work is not broken off, whoever asks."""

    def stage(self, doing: str, *, osd_uuid: str = "") -> None:
        """Note, before it begins, what is done now, and to which OSD; later attempts find that in the task."""

    @property
    def cancelled(self) -> bool:
        """Whether somebody has asked for its end."""


Performer = Callable[[Task, Attempt], str]


class OsdWork:
    """What one node can do about Ceph."""

    def __init__(self, context: Context, eyes: CephEyes, watch: CephWatch, host: OsdHost, keeper: NooutKeeper) -> None:
        self._node = context.node
        self._runtime = context.runtime
        self._eyes = eyes
        self._watch = watch
        self._ceph: CephCluster = eyes.cluster
        self._host = host
        self._keeper = keeper

    def performers(self) -> Mapping[TaskKind, Performer]:
        """What carries out each kind of task."""
        work = {
            TaskKind.ADD_OSD: self.add,
            TaskKind.REMOVE_OSD: self.remove,
            TaskKind.MARK_OSD: self.mark,
            TaskKind.SET_FLAG: self.set_flag,
        }
        return {kind: partial(self._seen, do) for kind, do in work.items()}

    def able(self) -> Collection[TaskKind]:
        """What this node can go on with for others: nothing where Ceph cannot be asked."""
        return () if self._watch.look() is None else tuple(self.performers())

    def add(self, task: Task, attempt: Attempt) -> str:
        """Make an OSD of a device that holds nothing, and have it run. Raises StorageError."""
        device = self._host.device(task.path)
        begun = task.attempts > 1 and bool(task.doing)
        if not (begun and device.osds) and (why := why_not_device(device)):
            raise StorageError(why)
        cluster = self._ceph.survey().fsid  # without a cluster that answers nothing is written to the device
        if not device.osds:
            attempt.stage("preparing the device")
            self._host.prepare(device.path)
            device = self._host.device(device.path)
        if (osd := made_on(device, cluster)) is None:
            raise StorageError(f"ceph-volume has left no OSD on {device.path}; see its log in /var/log/ceph")
        attempt.stage(f"starting osd.{osd.id}")
        self._host.start(osd.id, device.path)
        self._wait(osd.id, up=True)
        return f"osd.{osd.id} is up on {device.path} of {self._node}"

    def remove(self, task: Task, attempt: Attempt) -> str:
        """Have Ceph move what an OSD holds elsewhere, take the OSD out of the cluster, and wipe its device.

        Cancelled as long as it still holds data it is taken back in; also by another node, which cannot do more than
        that, once its own is dead. Raises StorageError.
        """
        if (id := task.osd) is None:
            raise StorageError("the task names no OSD; ask for it again with this version of pvc")
        uuid = self._noted(task) if task.attempts > 1 and task.doing else self._begin(id, attempt)
        if attempt.cancelled and self._is_elsewhere(uuid):
            self._ceph.mark(id, True)
            attempt(0, 1)  # which ends it
        remains = self._remains(id, uuid)
        drain = Drain(0, -1, self._runtime.monotonic())
        while True:
            holder = self._find(id)
            osd = holder if holder is not None and holder.uuid == uuid else None
            match next_of(osd, self._ceph.safe_to_destroy(id) if osd is not None and not osd.inside else ""):
                case Next.MARK_OUT:
                    attempt.stage(EMPTYING)
                    self._ceph.mark(id, False)
                case Next.DRAIN:
                    drain = self._drain(id, drain, attempt)
                case Next.STOP:
                    attempt.see_it_through()  # its data are elsewhere by now, and it would come back empty
                    attempt.stage("stopping its daemon")
                    self._host.stop(id)
                    self._wait(id, up=False)
                case Next.PURGE:
                    attempt.see_it_through()
                    attempt.stage("removing it from the cluster")
                    self._ceph.purge(id)
                case Next.WIPE:
                    return remains.wipe(holder.uuid if holder else "")

    def mark(self, task: Task, attempt: Attempt) -> str:
        """Mark an OSD in or out. Raises StorageError."""
        if task.osd is None or self._find(task.osd) is None:
            raise StorageError(f"Ceph has no osd.{task.osd}; `pvc storage osd list` shows them all")
        self._ceph.mark(task.osd, task.on)
        moving = "Ceph moves data to it" if task.on else "Ceph moves its data to other OSDs"
        return f"osd.{task.osd} is {'in' if task.on else 'out'}: {moving}; `pvc storage status` shows how far it is"

    def set_flag(self, task: Task, attempt: Attempt) -> str:
        """Set or unset a flag. Raises StorageError."""
        if task.flag not in FLAGS:
            raise StorageError(f"there is no flag {task.flag!r}; Ceph has {', '.join(FLAGS)}")
        self._ceph.set_flag(task.flag, task.on)
        if task.flag == NOOUT:  # it is the administrator's now, not a flush's
            self._keeper.forget()
        return f"{task.flag} is {'set' if task.on else 'unset'}"

    def _seen(self, do: Performer, task: Task, attempt: Attempt) -> str:
        """Do it, and have the node publish what has become of Ceph."""
        try:
            return do(task, attempt)
        finally:
            self._watch.hurry()

    def _begin(self, id: int, attempt: Attempt) -> str:
        """The UUID of the OSD of this node with that number, once it is noted. Raises StorageError."""
        osd = next((osd for osd in self._eyes.look().own if osd.id == id), None)
        if osd is None:
            raise StorageError(f"osd.{id} is not on {self._node}; `pvc storage osd list` shows where it is")
        if why := self._remains(id, osd.uuid).why_not():
            raise StorageError(
                f"osd.{id} is left as it is, for its device could not be wiped: {why};"
                " see to that first, or remove it with Ceph's own tools"
            )
        attempt.stage(EMPTYING, osd_uuid=osd.uuid)
        return osd.uuid

    def _is_elsewhere(self, uuid: str) -> bool:
        """Whether Ceph has that OSD, and not on this node."""
        look = self._eyes.look()
        return uuid in {osd.uuid for osd in look.survey.osds} - {osd.uuid for osd in look.own}

    def _noted(self, task: Task) -> str:
        """The UUID of the OSD that an earlier attempt has begun with: its number may be another one's by now.

        Raises StorageError.
        """
        if not task.osd_uuid and task.osd is not None and self._find(task.osd) is not None:
            raise StorageError(
                f"an earlier version of pvc has begun with this, and has not noted which OSD was osd.{task.osd} then;"
                f" see whether that of now shall go, and ask again: `pvc storage osd remove {task.osd}`"
            )
        return task.osd_uuid

    def _remains(self, id: int, uuid: str) -> Remains:
        return Remains(self._host, self._node, self._ceph.survey().fsid, id, uuid)

    def _drain(self, id: int, drain: Drain, attempt: Attempt) -> Drain:
        now = self._runtime.monotonic()
        drain = drain.after(self._ceph.survey(), now)
        if attempt.cancelled or drain.stalled(now):
            self._ceph.mark(id, True)
        attempt(*drain.done)
        if drain.stalled(now):
            raise StorageError(
                f"Ceph does not find where to put what osd.{id} holds: {self._ceph.safe_to_destroy(id)};"
                " it was taken back in; add an OSD first, best on a host that has none"
            )
        self._runtime.sleep(LOOK)
        return drain

    def _wait(self, id: int, *, up: bool) -> None:
        """Wait until Ceph sees an OSD up or down. Raises StorageError."""
        until = self._runtime.monotonic() + CHANGE
        while (osd := self._find(id)) is None or osd.up is not up:
            if self._runtime.monotonic() > until:
                what = f"up; see /var/log/ceph/ceph-osd.{id}.log" if up else "down; end its daemon, and try again"
                raise StorageError(f"osd.{id} is not {what} within {CHANGE:g} s")
            self._runtime.sleep(LOOK)

    def _find(self, id: int) -> Osd | None:
        return next((osd for osd in self._ceph.survey().osds if osd.id == id), None)
