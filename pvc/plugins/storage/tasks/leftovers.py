"""Looks now and then for tasks that wait for a dead node, and for volumes that were left unfinished, and tells of them.

The first live node with the role, by name, does it for the cluster. Changes nothing.
"""

from collections.abc import Mapping

from pvc.core import keys as core
from pvc.core.context import Context
from pvc.core.mirror import Mirror
from pvc.core.model import Finding
from pvc.core.runtime import Signal
from pvc.plugins.storage import keys
from pvc.plugins.storage.decide.leftovers import findings, stranded, unfinished
from pvc.plugins.storage.neighbours import serves
from pvc.plugins.storage.records import Task, Volume, VolumeState, decoded, in_hand, read_pools, read_volumes

LATE = 1.0
"""Seconds to the next try while this daemon does not hold its node's name."""
LOOK = 20.0
"""Seconds between looks."""
LOOK_AFRESH = 300.0
"""Seconds after which all volumes are asked for again though no watch has fired: they are many."""


class Leftovers:
    """Service `storage-leftovers`."""

    name = "storage-leftovers"
    after: tuple[str, ...] = ("liveness",)

    def __init__(self, context: Context) -> None:
        self.wake: Signal = context.runtime.signal()
        self._context = context
        self._coordinator = context.coordinator
        idle = context.runtime.signal()  # nothing here is so urgent that a change of a record should wake it
        self._mirror = Mirror(context.coordinator, context.runtime, idle, look_afresh=LOOK_AFRESH)
        self._away_since: dict[str, float] = {}
        self._findings: tuple[Finding, ...] = ()

    def step(self) -> float:
        if not self._context.registered():
            return LATE
        found = tuple(self._look()) if self._is_first() else ()
        if found != self._findings:
            self._findings = found
            self._context.refresh_facts()
        return LOOK

    def stop(self) -> None:
        """Nothing is under way."""

    def findings(self) -> list[Finding]:
        """What somebody has to see to."""
        return list(self._findings)

    def _is_first(self) -> bool:
        names = [name for name in self._mirror.children(core.NODES) or () if name < self._context.node]
        return not any(serves(self._mirror, name) for name in names)

    def _look(self) -> list[Finding]:
        tasks = in_hand(self._mirror)
        return findings(stranded(tasks, self._away(tasks)), unfinished(*self._halves()))

    def _away(self, tasks: list[Task]) -> list[str]:
        """The nodes that have tasks, and have carried out none for longer than it takes a session to end."""
        now, patience = self._context.runtime.monotonic(), self._context.config.zookeeper.session_timeout
        gone = sorted({task.node for task in tasks if not serves(self._mirror, task.node)})
        self._away_since = {node: self._away_since.get(node, now) for node in gone}
        return [node for node, since in self._away_since.items() if now - since >= patience]

    def _halves(self) -> tuple[Mapping[tuple[str, str], Volume], Mapping[str, Task | None]]:
        """The volumes that are not whole, and then what becomes of the tasks that they name.

        From the cluster itself: tasks first, as the end of a task and the record of its volume are one transaction.
        """
        seen = {
            (pool, name): volume
            for pool in read_pools(self._mirror)
            for name, volume in read_volumes(self._mirror, pool).items()
            if volume is not None and volume.state is not VolumeState.READY
        }
        ids = sorted({volume.task for volume in seen.values() if volume.task})
        tasks = dict(zip(ids, self._coordinator.get_many([keys.task(id) for id in ids]), strict=True))
        known = {id: decoded(Task, znode.data, id) if znode else None for id, znode in tasks.items()}
        paths = {about: keys.volume(*about) for about in seen}
        now = dict(zip(paths, self._coordinator.get_many(list(paths.values())), strict=True))
        volumes = {about: decoded(Volume, znode.data, paths[about]) for about, znode in now.items() if znode}
        return {about: volume for about, volume in volumes.items() if volume is not None}, known
