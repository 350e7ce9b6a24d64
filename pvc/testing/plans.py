"""What a test plans for the guests and hosts of a simulated fabric: paces, faults, actions at a phase."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pvc.core.runtime import Runtime
from pvc.plugins.hypervisor.host import HypervisorError
from pvc.testing.migration import Action, CopyPace, MigrationPhase, Pause

PLANNED = "internal error: planned by the test"


@dataclass(slots=True)
class Fault:
    """An error planned for the next `times` occasions; None: for all."""

    error: str
    phase: MigrationPhase
    times: int | None

    def take(self) -> bool:
        """Whether it happens now; counts."""
        if self.times is None:
            return True
        self.times -= 1
        return self.times >= 0


class Plans:
    """Everything planned; the fabric asks when the occasion comes."""

    def __init__(self, runtime: Runtime, copy_seconds: float) -> None:
        self.runtime = runtime
        self.copy_seconds = copy_seconds
        self._paces: dict[str, CopyPace] = {}
        self._deaf: set[str] = set()
        self._faults: dict[str, list[Fault]] = {}
        self._start_faults: dict[str, list[Fault]] = {}
        self._plug_faults: dict[str, list[Fault]] = {}
        self._clinging: set[str] = set()
        self._actions: dict[tuple[str, MigrationPhase], list[Action]] = {}

    def set_copy_seconds(self, uuid: str, seconds: float) -> None:
        """How long copying this guest takes."""
        self._paces[uuid] = CopyPace(seconds)

    def never_converges(self, uuid: str, enough_downtime: float | None = None) -> None:
        """Copying this guest ends only by abort, post-copy, or a longest pause of at least `enough_downtime` s."""
        self._paces[uuid] = CopyPace(self.copy_seconds, converges=False, enough_downtime=enough_downtime)

    def ignores_shutdown(self, uuid: str, ignores: bool = True) -> None:
        """This guest takes no notice of requests to power itself off."""
        (self._deaf.add if ignores else self._deaf.discard)(uuid)

    def fail_migration(
        self,
        what: str,
        error: str = PLANNED,
        times: int | None = 1,
        phase: MigrationPhase = MigrationPhase.COPYING,
    ) -> None:
        """Let the next `times` migrations (None: all) of guest `what`, or to host `what`, fail on entering `phase`.

        COPYING fails after the guest has appeared on the target; from SWITCHED on, it stays on the target and is
        never confirmed. `times` 0 takes the plans for `what` back.
        """
        _plan(self._faults, what, Fault(error, phase, times))

    def fail_start(self, what: str, error: str = PLANNED, times: int | None = 1) -> None:
        """Let the next `times` starts (None: all) of guest `what`, or on host `what`, fail; 0 takes it back."""
        _plan(self._start_faults, what, Fault(error, MigrationPhase.BEGIN, times))

    def fail_plug(self, what: str, error: str = PLANNED, times: int | None = 1, *, done: bool = False) -> None:
        """Let plugging the next `times` devices (None: all) into guest `what`, or on host `what`, fail; with `done` the
        device is there all the same. The same for having a guest see that a disk has grown. 0 takes it back."""
        phase = MigrationPhase.CONFIRMED if done else MigrationPhase.BEGIN
        _plan(self._plug_faults, what, Fault(error, phase, times))

    def keeps_devices(self, uuid: str, keeps: bool = True) -> None:
        """This guest takes no notice of requests to let go of a device."""
        (self._clinging.add if keeps else self._clinging.discard)(uuid)

    def call_at(self, uuid: str, phase: MigrationPhase, action: Callable[[], None]) -> None:
        """Call `action` once, when a migration of that guest reaches `phase`."""
        self._actions.setdefault((uuid, phase), []).append(lambda _: action())

    def pause_at(self, uuid: str, phase: MigrationPhase) -> Pause:
        """Let that guest's next migration stand still at `phase`: `wait` for it there, then let it `go_on`."""
        pause = Pause(self.runtime)
        self._actions.setdefault((uuid, phase), []).append(pause.hold)
        return pause

    def pace(self, uuid: str) -> CopyPace:
        """How long copying that guest takes."""
        return self._paces.get(uuid, CopyPace(self.copy_seconds))

    def is_deaf(self, uuid: str) -> bool:
        """Whether the guest ignores requests to power off."""
        return uuid in self._deaf

    def keeps_its_devices(self, uuid: str) -> bool:
        """Whether the guest ignores requests to let go of a device."""
        return uuid in self._clinging

    def take_actions(self, uuid: str, phase: MigrationPhase) -> list[Action]:
        """What was planned for this moment; it is planned no longer."""
        return self._actions.pop((uuid, phase), [])

    def fail_start_as_planned(self, uuid: str, host: str) -> None:
        """Raises HypervisorError if this start was planned to fail."""
        _raise_planned(self._start_faults, (uuid, host), MigrationPhase.BEGIN)

    def fail_plug_as_planned(self, uuid: str, host: str, *, done: bool) -> None:
        """Raises HypervisorError if plugging a device in was planned to fail before, or once, it is `done`."""
        _raise_planned(self._plug_faults, (uuid, host), MigrationPhase.CONFIRMED if done else MigrationPhase.BEGIN)

    def fail_as_planned(self, concerned: Iterable[str], phase: MigrationPhase) -> None:
        """Raises HypervisorError if a migration with one of `concerned` was planned to fail at this phase."""
        _raise_planned(self._faults, concerned, phase)


def _plan(faults: dict[str, list[Fault]], what: str, fault: Fault) -> None:
    if fault.times == 0:
        faults.pop(what, None)
    else:
        faults.setdefault(what, []).append(fault)


def _raise_planned(faults: dict[str, list[Fault]], concerned: Iterable[str], phase: MigrationPhase) -> None:
    for what in concerned:
        for fault in faults.get(what, ()):
            if fault.phase is phase and fault.take():
                raise HypervisorError(fault.error)
