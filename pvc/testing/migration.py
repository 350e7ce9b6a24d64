"""Live migrations as the hypervisors carry them out among themselves: phases, faults and pauses.

A migration goes on without whoever asked for it. It changes the guests of the two hosts only through `MigrationHosts`
and takes time only through the Runtime.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from pvc.core.runtime import Runtime
from pvc.plugins.hypervisor.host import HypervisorError, MigrationOptions, MigrationProgress

GLANCE = 5.0
"""Seconds after which a waiting migration looks again even if nobody woke it."""


class MigrationPhase(Enum):
    """How far a simulated migration is. BEGIN -> COPYING -> SWITCHED -> CONFIRMED; a fault ends it in any."""

    BEGIN = "begin"
    """Accepted by the source; the target knows nothing of it yet."""
    COPYING = "copying"
    """The guest is INCOMING on the target and executes on the source."""
    SWITCHED = "switched"
    """It executes on the target and is LEAVING on the source."""
    CONFIRMED = "confirmed"
    """It is gone from the source; the caller of `migrate` has not been told yet."""


@dataclass(slots=True)
class CopyPace:
    """How long the copying of one guest takes."""

    seconds: float
    converges: bool = True
    """False: it never ends by itself, only by abort or post-copy, or as `enough_downtime` says."""
    enough_downtime: float | None = None
    """With `converges` False: a longest pause of so many seconds lets it end after all."""


class MigrationHosts(Protocol):
    """What a migration does to the two hosts; each call is made with the fabric's lock held."""

    def changing(self) -> AbstractContextManager[None]:
        """The fabric's lock; events go out when it is released."""

    def appear(self, migration: "SimulatedMigration") -> None:
        """Make the guest INCOMING on the target. Raises HypervisorError if the target has it already."""

    def switch(self, migration: "SimulatedMigration") -> None:
        """Source LEAVING, target RUNNING, in one instant."""

    def confirm(self, migration: "SimulatedMigration") -> None:
        """Remove the guest from the source."""

    def roll_back(self, migration: "SimulatedMigration") -> None:
        """Undo what a migration that failed before the switch did."""


class Pause:
    """A point at which a migration stands still until the test lets it go on, or a fault ends it."""

    def __init__(self, runtime: Runtime) -> None:
        self._arrival = runtime.signal()
        self.reached = False
        self.open = False
        self._migration: SimulatedMigration | None = None

    def wait(self, timeout: float) -> bool:
        """Wait at most `timeout` seconds until the migration gets here; True if it did. On simulated time a test
        that drives the clock looks at `reached` instead."""
        return self.reached or self._arrival.wait(timeout)

    def go_on(self) -> None:
        """Let the migration go on."""
        self.open = True
        if self._migration is not None:
            self._migration.wake.set()

    def hold(self, migration: "SimulatedMigration") -> None:
        """Called by the migration: stand still."""
        self._migration = migration
        self.reached = True
        self._arrival.set()
        while not self.open and not migration.over:
            migration.wake.wait(GLANCE)


Action = Callable[["SimulatedMigration"], None]


class SimulatedMigration:
    """One migration in flight."""

    def __init__(
        self,
        runtime: Runtime,
        hosts: MigrationHosts,
        uuid: str,
        source: str,
        target: str,
        options: MigrationOptions,
        memory: int,
        pace: CopyPace,
        actions: Callable[[str, MigrationPhase], list[Action]],
    ) -> None:
        self.uuid = uuid
        self.source = source
        self.target = target
        self.phase = MigrationPhase.BEGIN
        self.over = False
        self.error: HypervisorError | None = None
        self.post_copy = False
        self.wake = runtime.signal()
        self._runtime = runtime
        self._hosts = hosts
        self._options = options
        self._memory = memory
        self._pace = pace
        self._actions = actions
        self._downtime = options.downtime
        self._ended = runtime.signal()
        self._started = runtime.monotonic()

    @property
    def options(self) -> MigrationOptions:
        """How it was asked for."""
        return self._options

    def run(self, moment: float) -> None:
        """From the first to the last phase; `moment` seconds lie between switch and confirmation."""
        if not self._reach(MigrationPhase.BEGIN, None):
            return
        if not self._reach(MigrationPhase.COPYING, self._hosts.appear) or not self._copy():
            return
        if not self._reach(MigrationPhase.SWITCHED, self._hosts.switch):
            return
        self._runtime.sleep(self._pace.seconds if self.post_copy else moment)
        if self._reach(MigrationPhase.CONFIRMED, self._hosts.confirm):
            with self._hosts.changing():
                self._end(None)

    def wait(self) -> None:
        """Wait for the end; raises what ended it early."""
        while not self.over:
            self._ended.wait(GLANCE)
        if self.error is not None:
            raise self.error

    def fail(self, error: HypervisorError) -> None:
        """End it now, with the lock held: before the switch the guest stays on the source, after it on the target."""
        if self.over:
            return
        if self.phase in (MigrationPhase.BEGIN, MigrationPhase.COPYING):
            self._hosts.roll_back(self)
        self._end(error)

    def allow_downtime(self, seconds: float) -> None:
        """Change the longest pause."""
        self._downtime = seconds
        self.wake.set()

    def start_post_copy(self) -> None:
        """Switch over as soon as the copying has begun; refused without the option."""
        if not self._options.post_copy:
            raise HypervisorError(f"guest {self.uuid}: post-copy was not allowed when its migration began")
        self.post_copy = True
        self.wake.set()

    def progress(self) -> MigrationProgress:
        """How far it is; what does not converge keeps a tenth of its memory to copy for ever."""
        elapsed = self._runtime.monotonic() - self._started
        left = max(0.0, 1 - elapsed / self._pace.seconds) if self._pace.seconds else 0.0
        rate = int(self._memory / self._pace.seconds) if self._pace.seconds else self._memory
        if not self._pace.converges:
            left = max(left, 0.1)
        return MigrationProgress(
            elapsed=elapsed,
            total=self._memory,
            remaining=int(self._memory * left),
            rate=rate,
            dirty_rate=None if self._pace.converges else rate,
            downtime=self._downtime,
            iteration=1 + int(elapsed / max(self._pace.seconds, 0.1)),
            throttle=None if self._pace.converges or not self._options.auto_converge else 20,
            post_copy=self.post_copy and self.phase is MigrationPhase.SWITCHED,
        )

    def _reach(self, phase: MigrationPhase, act: Callable[["SimulatedMigration"], None] | None) -> bool:
        """Enter a phase and do what the tests planned for it; whether the migration goes on."""
        with self._hosts.changing():
            if self.over:
                return False
            try:
                if act is not None:
                    act(self)
            except HypervisorError as error:
                self.fail(error)
                return False
            self.phase = phase
            actions = self._actions(self.uuid, phase)
        for action in actions:
            action(self)
        return not self.over

    def _copy(self) -> bool:
        begun = self._runtime.monotonic()
        while not self.over and not self.post_copy:
            left = begun + self._pace.seconds - self._runtime.monotonic()
            if left <= 0 and self._converged():
                break
            self.wake.wait(left if left > 0 else GLANCE)
        return not self.over

    def _converged(self) -> bool:
        enough = self._pace.enough_downtime
        return self._pace.converges or (enough is not None and (self._downtime or 0.0) >= enough)

    def _end(self, error: HypervisorError | None) -> None:
        self.error = error
        self.over = True
        self._ended.set()
        self.wake.set()
