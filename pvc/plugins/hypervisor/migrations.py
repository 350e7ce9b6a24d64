"""Tends migrations in flight: publishes how far they are, and climbs the ladder of `decide/ladder.py`.

Nothing here must outlive the daemon: a successor finds its place on the ladder by the time that the migration has
taken, as the hypervisor tells it.
"""

from dataclasses import dataclass, replace

from pvc.core import keys
from pvc.core.context import Context
from pvc.core.coordination import Conflict, Put
from pvc.core.model import Vm
from pvc.core.records import encode
from pvc.plugins.hypervisor.decide.ladder import (
    AllowDowntime,
    GiveUp,
    SwitchToPostCopy,
    advice,
    next_rung,
    rung_in_words,
)
from pvc.plugins.hypervisor.host import Hypervisor, HypervisorError, MigrationProgress
from pvc.plugins.hypervisor.records import MoveReport, VmRecords
from pvc.plugins.hypervisor.settings import MigrationSettings, SettingsPerVm

TEND = 1.0
"""Seconds between looks at a migration, and so the shortest time between two reports of it."""


@dataclass(slots=True)
class _Flight:
    """One migration in flight."""

    settings: MigrationSettings
    """As they were when it began."""
    rung: int = 0
    post_copy: bool = False
    throttle: int | None = None
    refused: str = ""
    """Why post-copy, though allowed, could not be."""
    given_up: str = ""
    due: float = 0.0
    """When it is looked at next, on the monotonic clock."""


class Migrations:
    """All migrations away from this node."""

    def __init__(self, context: Context, hypervisor: Hypervisor, per_vm: SettingsPerVm) -> None:
        self._context = context
        self._hypervisor = hypervisor
        self._per_vm = per_vm
        self._log = context.log
        self._flights: dict[str, _Flight] = {}

    def begin(self, uuid: str, settings: MigrationSettings) -> None:
        """A new migration of that VM is about to begin."""
        self._flights[uuid] = _Flight(settings)

    def given_up(self, uuid: str) -> str:
        """Why the VM's last migration was aborted here, with what to do; empty: it was not."""
        flight = self._flights.get(uuid)
        return flight.given_up if flight is not None else ""

    def tend(self, records: VmRecords) -> float:
        """Look at one migration, report it, take the next rung if it is due; seconds until the next look."""
        flight = self._flight(records.vm)
        now = self._context.runtime.monotonic()
        if now < flight.due:
            return flight.due - now
        try:
            progress = self._hypervisor.progress(records.vm.uuid)
            if progress is not None:
                self._climb(records.vm, flight, progress)
                self._report(records.vm.uuid, flight, progress)
        except HypervisorError:  # it has just ended: the job knows how
            return TEND
        finally:
            flight.due = self._context.runtime.monotonic() + TEND
        return TEND

    def _flight(self, vm: Vm) -> _Flight:
        """The flight; one that an earlier daemon began is judged by the settings of today."""
        if vm.uuid not in self._flights:
            self.begin(vm.uuid, self._per_vm.of(vm).settings.migration)
        return self._flights[vm.uuid]

    def _climb(self, vm: Vm, flight: _Flight, progress: MigrationProgress) -> None:
        flight.post_copy = flight.post_copy or progress.post_copy
        if progress.throttle is not None and progress.throttle != flight.throttle:
            flight.throttle = progress.throttle
            self._log.info("vm %s: auto-converge slows it down by %d %%", vm.name, progress.throttle)
        match next_rung(progress, vm.memory, flight.rung, flight.settings, post_copy_begun=flight.post_copy):
            case AllowDowntime(seconds, number):
                self._log.info("vm %s: migration does not converge, allowing a downtime of %g s", vm.name, seconds)
                self._hypervisor.set_downtime(vm.uuid, seconds)
                flight.rung = number
            case SwitchToPostCopy():
                self._switch(vm, flight)
            case GiveUp(why):
                self._give_up(vm, flight, why)

    def _switch(self, vm: Vm, flight: _Flight) -> None:
        """Go over to post-copy. Where that cannot be, the deadline holds: a migration must not go on for ever."""
        self._log.info("vm %s: migration does not converge, switching to post-copy", vm.name)
        try:
            self._hypervisor.switch_to_post_copy(vm.uuid)
            flight.post_copy = True
        except HypervisorError as error:
            self._log.warning("vm %s: post-copy is not possible: %s", vm.name, error)
            flight.settings, flight.refused = replace(flight.settings, post_copy=False), str(error)

    def _give_up(self, vm: Vm, flight: _Flight, why: str) -> None:
        self._hypervisor.abort_migration(vm.uuid)
        if not flight.given_up:
            self._log.warning("vm %s: migration aborted: it %s", vm.name, why)
        flight.given_up = f"{why}; {advice(vm.name, flight.refused)}"

    def _report(self, uuid: str, flight: _Flight, progress: MigrationProgress) -> None:
        """Write progress where watchers look for it; it is news only, so a clash is nothing."""
        report = MoveReport(
            rung=rung_in_words(
                flight.settings, flight.rung, post_copy=flight.post_copy, given_up=bool(flight.given_up)
            ),
            elapsed=round(progress.elapsed, 1),
            total=progress.total,
            remaining=progress.remaining,
            rate=progress.rate,
            dirty_rate=progress.dirty_rate,
            downtime=progress.downtime,
            throttle=progress.throttle,
            iteration=progress.iteration,
        )
        try:
            self._context.coordinator.commit([Put(keys.node_vm(self._context.node, uuid), encode(report))])
        except Conflict:
            return
