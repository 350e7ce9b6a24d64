"""Tends migrations in flight: publishes how far they are, and climbs the ladder of `decide/ladder.py`."""

from dataclasses import dataclass

from pvc.core import keys
from pvc.core.context import Context
from pvc.core.coordination import Conflict, Put
from pvc.core.records import encode
from pvc.plugins.hypervisor.decide.ladder import AllowDowntime, GiveUp, SwitchToPostCopy, next_rung
from pvc.plugins.hypervisor.host import Hypervisor, HypervisorError, MigrationProgress
from pvc.plugins.hypervisor.records import VmRecords
from pvc.plugins.hypervisor.settings import MigrationSettings

TEND = 1.0
"""Seconds between looks at a migration, and so the shortest time between two reports of it."""


@dataclass(slots=True)
class _Flight:
    """One migration in flight."""

    rung: int = 0
    post_copy: bool = False


class Migrations:
    """All migrations away from this node."""

    def __init__(self, context: Context, hypervisor: Hypervisor, settings: MigrationSettings) -> None:
        self._context = context
        self._hypervisor = hypervisor
        self._settings = settings
        self._log = context.log
        self._flights: dict[str, _Flight] = {}

    def begin(self, uuid: str) -> None:
        """A new migration of that VM is about to begin."""
        self._flights[uuid] = _Flight()

    def tend(self, records: VmRecords) -> float:
        """Look at one migration, report it, take the next rung if it is due; seconds until the next look."""
        vm = records.vm
        flight = self._flights.setdefault(vm.uuid, _Flight())
        try:
            progress = self._hypervisor.progress(vm.uuid)
            if progress is None:
                return TEND
            self._climb(vm.uuid, vm.name, vm.memory, flight, progress)
        except HypervisorError:  # it has just ended: the job knows how
            return TEND
        self._report(vm.uuid, progress)
        return TEND

    def _climb(self, uuid: str, name: str, memory: int, flight: _Flight, progress: MigrationProgress) -> None:
        rung = next_rung(progress, memory, flight.rung, self._settings, post_copy_begun=flight.post_copy)
        match rung:
            case AllowDowntime(seconds, number):
                self._log.info("vm %s: migration does not converge, allowing a downtime of %g s", name, seconds)
                self._hypervisor.set_downtime(uuid, seconds)
                flight.rung = number
            case SwitchToPostCopy():
                self._log.info("vm %s: migration does not converge, switching to post-copy", name)
                self._hypervisor.switch_to_post_copy(uuid)
                flight.post_copy = True
            case GiveUp(why):
                self._log.warning("vm %s: migration aborted: it %s", name, why)
                self._hypervisor.abort_migration(uuid)

    def _report(self, uuid: str, progress: MigrationProgress) -> None:
        """Write progress where watchers look for it; it is news only, so a clash is nothing."""
        try:
            self._context.coordinator.commit([Put(keys.node_vm(self._context.node, uuid), encode(progress))])
        except Conflict:
            return
