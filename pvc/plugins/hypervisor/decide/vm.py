"""What one node does next about one VM: the heart of "never twice, never lost".

The lease is `actual.node`. Only its holder starts the VM, stops it, moves it, or gives the lease away; once the holder
has said DEPARTED, only the target does. Nothing is concluded from an error: always from what the hypervisor has now.
"""

from dataclasses import dataclass, replace

from pvc.core.devices import waiting
from pvc.core.model import ActualState, DeviceChange, NodeState, Policy, Vm, VmActual, VmDoubt, VmState
from pvc.core.observers import VmChange
from pvc.plugins.hypervisor.host import EndReason, Guest, GuestState

STARTS_IN_A_ROW = 5
"""Failed starts after which a VM waits for an administrator."""
REASON_WITHIN = 2.0
"""Seconds that the hypervisor gets to say why a guest is gone: the guest leaves its list before the event comes."""
CONFIRMED_AFTER = 5.0
"""Seconds of running here after which a migration counts as confirmed though the source's daemon has not said so. Until
then the source's hypervisor resumes its own copy should this host die, and must not find its lease given away."""
ARRIVES_WITHIN = 60.0
"""Seconds after which an arrival that no record speaks of is reported."""
HEALTHY_AFTER = 600.0
"""Seconds of running after which earlier failures are forgotten."""


@dataclass(frozen=True, slots=True)
class VmView:
    """Everything the decision depends on."""

    me: str
    node_state: NodeState
    """This node's."""
    fenced: bool
    """This node was declared dead and is not back in service yet."""
    vm: Vm | None
    """None: the cluster knows no such VM."""
    actual: VmActual
    guest: Guest | None
    """What this node's hypervisor has."""
    doubt: VmDoubt | None
    """Some node runs the VM though it does not hold the lease, and asks who does."""
    ended: EndReason | None
    """If the hypervisor has told: why the guest is gone."""
    missing_for: float | None
    """Seconds for which this daemon, having seen the guest here, has missed it; None: it has never seen it."""
    here_for: float
    """Seconds for which the guest has been seen running here while another node holds its lease."""
    arriving_for: float
    """Seconds for which the guest has been waiting here for a migration that no record speaks of."""
    busy: bool
    """A job for this VM runs on this node."""
    error: str
    """Why the last job for it failed; empty: it did not."""
    given_up: str
    """Why this daemon aborted its last migration, which did not converge; empty: it did not."""
    now: float
    shutdown_timeout: float


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do now."""

    why: str = ""


@dataclass(frozen=True, slots=True)
class Start:
    """Claim the lease (or keep it) and start the guest."""


@dataclass(frozen=True, slots=True)
class PressPowerButton:
    """Ask the guest to shut down."""


@dataclass(frozen=True, slots=True)
class PowerOff:
    """Power the guest off: an administrator said so."""


@dataclass(frozen=True, slots=True)
class Discard:
    """Remove the copy that a migration has left here: the VM runs, or ran, elsewhere, and its lease says where."""

    why: str


@dataclass(frozen=True, slots=True)
class Doubt:
    """Ask the holder of the lease, who alone can tell, whether the guest here is the VM or a copy."""

    text: str


@dataclass(frozen=True, slots=True)
class Retract:
    """The question is settled."""


@dataclass(frozen=True, slots=True)
class Move:
    """Migrate the running guest."""

    target: str


@dataclass(frozen=True, slots=True)
class ChangeDevice:
    """Give the running guest a device, or take one from it."""

    change: DeviceChange


@dataclass(frozen=True, slots=True)
class AbortMove:
    """The move in flight is no longer wanted."""


@dataclass(frozen=True, slots=True)
class Settle:
    """Nothing has to be done, but the records must say what is so."""

    actual: VmActual
    why: str
    vm: Vm | None = None
    """The new wanted state, if it changes with it."""
    change: VmChange | None = None
    """What observers are told."""
    peer: str | None = None
    under_guards: bool = False
    """Only while the turn lasts that ordered it."""


@dataclass(frozen=True, slots=True)
class Forget:
    """This node has no business with the VM any more."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something that only a person can put right; nothing is touched."""

    text: str


Action = (
    Wait
    | Start
    | PressPowerButton
    | PowerOff
    | Discard
    | Doubt
    | Retract
    | Move
    | ChangeDevice
    | AbortMove
    | Settle
    | Forget
    | Alarm
)


_MAY_BE_ASTRAY = frozenset({ActualState.RUNNING, ActualState.STOPPING, ActualState.FAILED})
"""States of a VM without a guest here that may turn out to run elsewhere."""


def next_action(view: VmView) -> Action:
    """The one next thing to do."""
    action = _next_action(view)
    if view.fenced and isinstance(action, Start):
        return Wait("this node was declared dead and is not back in service yet")
    return action


def _next_action(view: VmView) -> Action:
    if view.vm is None:
        return Alarm("runs here but the cluster does not know it; left alone") if view.guest else Forget()
    if _is_mine(view.doubt, view) and (view.guest is None or view.actual.node == view.me):
        return Retract()
    if view.busy:
        return AbortMove() if _move_withdrawn(view, view.vm) else Wait("at work")
    if view.actual.node == view.me:
        return _with_guest(view, view.vm, view.guest) if view.guest else _without_guest(view, view.vm)
    if view.actual.target == view.me:
        return _receive(view, view.vm)
    return _without_lease(view, view.vm)


def now_on(vm: Vm, node: str) -> Vm:
    """The wanted state of a VM that is on `node` for good: nothing moves it, and at home it has no other home."""
    at_home = vm.home == node
    return replace(
        vm,
        node=node,
        guards=(),
        home=None if at_home else vm.home,
        displaced_by=None if at_home else vm.displaced_by,
    )


def failures_after(failures: int, *, put_off: bool) -> int:
    """The failures in a row after another one; never the last if what put the start off ends by itself."""
    return failures + 1 if not put_off else max(failures, min(failures + 1, STARTS_IN_A_ROW - 1))


def pause_before_start(failures: int) -> float:
    """Seconds to wait before another start, growing with the failures in a row."""
    return 0.0 if failures == 0 else min(300.0, 5.0 * 2.0 ** (failures - 1))


def leaves_cold(vm: Vm, me: str) -> bool:
    """Whether the VM is to leave by being shut down here and started there: only its own policy can say so."""
    return vm.node != me and vm.policy is Policy.SHUTDOWN


def _move_withdrawn(view: VmView, vm: Vm) -> bool:
    return view.actual.state is ActualState.MIGRATING and view.actual.node == view.me and vm.node == view.me


def _with_guest(view: VmView, vm: Vm, guest: Guest) -> Action:
    """The lease is ours and the guest is here."""
    if _is_left_over(guest) and view.actual.state is ActualState.MIGRATING:
        departed = replace(view.actual, state=ActualState.DEPARTED, since=view.now)
        return Settle(departed, "was handed over without confirmation", change=VmChange.DEPARTED, peer=departed.target)
    if guest.state in (GuestState.LEAVING, GuestState.INCOMING):
        return Wait("between two nodes")
    if guest.moving:
        return AbortMove() if _move_withdrawn(view, vm) else Wait("a migration begun earlier goes on")
    match view.actual.state:
        case ActualState.MIGRATING | ActualState.DEPARTED:
            stay = _stay(view, vm, view.given_up or view.error or "the migration did not take place")
            return replace(stay, actual=replace(stay.actual, unconverged=bool(view.given_up)))
        case ActualState.STOPPING:
            return _go_down(view, vm)
        case ActualState.RUNNING:
            return _run(view, vm, guest)
        case _:
            running = _running(view, vm, "runs here")
            return Settle(running, "found running here", change=VmChange.ADOPTED)


def _run(view: VmView, vm: Vm, guest: Guest) -> Action:
    asked = view.doubt.id if view.doubt else None
    if view.actual.evicts != asked:
        why = f"runs here; the copy on {view.doubt.node} is to end" if view.doubt else "runs here alone"
        return Settle(replace(view.actual, evicts=asked), why)
    if vm.state is VmState.STOPPED:
        if vm.stop_now:
            return PowerOff()
        return Settle(replace(view.actual, state=ActualState.STOPPING, since=view.now), "asked to stop")
    if vm.restart > view.actual.restart:
        return Settle(replace(view.actual, state=ActualState.STOPPING, since=view.now), "asked to restart")
    if leaves_cold(vm, view.me):
        stopping = replace(view.actual, state=ActualState.STOPPING, since=view.now, failed_move="", unconverged=False)
        return Settle(stopping, f"its policy: shut down here, start on {vm.node}", under_guards=True)
    if vm.node != view.me:
        return Move(vm.node)
    if vm.home == view.me or vm.guards:
        return Settle(view.actual, "is at home", vm=now_on(vm, view.me))
    alive = guest.state is GuestState.RUNNING and view.ended is None  # else it has only not left the list yet
    changes = waiting(vm)
    return ChangeDevice(changes[0]) if alive and changes else Wait()


def _go_down(view: VmView, vm: Vm) -> Action:
    if vm.state is VmState.STOPPED:
        return PowerOff() if vm.stop_now else PressPowerButton()
    if vm.restart > view.actual.restart:
        return PressPowerButton()
    if leaves_cold(vm, view.me):
        if view.now - view.actual.since > view.shutdown_timeout:
            stay = _stay(view, vm, f"its guest did not shut down within {view.shutdown_timeout:g} s")
            return replace(stay, actual=replace(stay.actual, reprieved=view.now))
        return PressPowerButton()
    return Settle(replace(view.actual, state=ActualState.RUNNING, reprieved=view.now), "is to go on running")


def _stay(view: VmView, vm: Vm, why: str) -> Settle:
    """The move did not happen: the guest runs here and stays."""
    actual = replace(
        view.actual,
        state=ActualState.RUNNING,
        target=None,
        reason="",
        failed_move=why,
        unconverged=False,
        evicts=None,
    )
    return Settle(actual, f"stays: {why}", vm=now_on(vm, view.me))


def _without_guest(view: VmView, vm: Vm) -> Action:
    """The lease is ours and no guest is here."""
    actual = view.actual
    if view.doubt is not None and actual.state in _MAY_BE_ASTRAY:
        return _astray(view, vm)
    match actual.state:
        case ActualState.MIGRATING:
            departed = replace(actual, state=ActualState.DEPARTED, since=view.now)
            return Settle(departed, "is not here any more", change=VmChange.DEPARTED, peer=actual.target)
        case ActualState.DEPARTED:
            return Wait(f"{actual.target} must say whether it has it")
        case ActualState.STARTING:
            return Start() if _wanted_here(view, vm) else _release(view, "no longer wanted here")
        case ActualState.FAILED:
            return _retry(view, vm)
        case ActualState.ASTRAY:
            asked_since = _wanted_here(view, vm) and vm.generation > actual.generation
            return Start() if asked_since and view.doubt is None else Wait(actual.reason)
        case ActualState.STOPPED:
            return _release(view, "is stopped")
        case _:
            return _ended(view, vm)


def _ended(view: VmView, vm: Vm) -> Action:
    """It was running here and is gone."""
    actual = view.actual
    if view.ended is None and view.missing_for is not None and view.missing_for < REASON_WITHIN:
        return Wait("the hypervisor has not said yet why it is gone")
    if view.ended is EndReason.MIGRATED:
        return _astray(view, vm)
    if vm.state is VmState.STOPPED:
        return _release(view, "stopped", change=VmChange.STOPPED)
    late = view.ended is EndReason.SHUTDOWN and view.now - actual.reprieved <= view.shutdown_timeout
    if vm.restart > actual.restart or (vm.node == view.me and (late or actual.state is ActualState.STOPPING)):
        starting = replace(actual, state=ActualState.STARTING, since=view.now, restart=vm.restart, reprieved=0.0)
        return Settle(starting, "is down, starts again", change=VmChange.STOPPED)
    if vm.node != view.me:
        return _release(view, f"is down, {vm.node} starts it", change=VmChange.STOPPED)
    if view.ended is EndReason.SHUTDOWN and actual.state is ActualState.RUNNING:
        why = "its guest powered itself off"
        return Settle(_released(view, why), why, vm=replace(vm, state=VmState.STOPPED), change=VmChange.STOPPED)
    return _crashed(view)


def _astray(view: VmView, vm: Vm) -> Settle:
    """It is not here, and has not ended: whoever has it may take the lease. A request to start it that was made before
    this was known does not count."""
    why = "was migrated away by other means than pvc; the node that has it takes it over, if it is one of ours"
    astray = replace(
        view.actual, state=ActualState.ASTRAY, since=view.now, reason=why, generation=vm.generation, evicts=None
    )
    return Settle(astray, why, change=VmChange.DEPARTED)


def _crashed(view: VmView) -> Settle:
    """Gone without anybody having asked: try again, after a pause that grows with failures in a row."""
    actual = view.actual
    healthy = view.now - actual.since > HEALTHY_AFTER
    if view.ended is None and view.missing_for is None:
        why, failures = "was gone when looked for (did the host restart?)", 0
    else:
        why = f"ended: {view.ended.value}" if view.ended else "is gone, and the hypervisor does not say why"
        failures = 1 if healthy else actual.failures + 1
    failed = replace(actual, state=ActualState.FAILED, target=None, since=view.now, failures=failures, reason=why)
    return Settle(failed, why, change=VmChange.CRASHED)


def _retry(view: VmView, vm: Vm) -> Action:
    actual = view.actual
    if vm.state is VmState.STOPPED:
        return _release(view, "stopped")
    if vm.node != view.me:
        return _release(view, f"{vm.node} is to start it")
    if vm.generation > actual.generation:
        return Start()
    if actual.failures < STARTS_IN_A_ROW and view.now >= actual.since + pause_before_start(actual.failures):
        return Start()
    return Wait(actual.reason)


def _receive(view: VmView, vm: Vm) -> Action:
    """The lease is another's, and the VM is on its way to us."""
    guest, actual = view.guest, view.actual
    if guest is not None:
        if guest.state in (GuestState.INCOMING, GuestState.LEAVING):
            return Wait("arriving")
        if guest.filling:
            return Wait("its memory still comes from the source")
        if actual.state is not ActualState.DEPARTED and view.here_for < CONFIRMED_AFTER:
            return Wait("the source has not confirmed that it has left")
        running = _running(view, vm, f"arrived from {actual.node}")
        return Settle(
            running, f"arrived from {actual.node}", vm=now_on(vm, view.me), change=VmChange.ARRIVED, peer=actual.node
        )
    if actual.state is ActualState.DEPARTED:
        return _release(view, f"was lost on its way from {actual.node}: neither node has it")
    return Wait("has not arrived")


def _without_lease(view: VmView, vm: Vm) -> Action:
    """The lease is free, or another's."""
    guest, holder = view.guest, view.actual.node
    if guest is not None and guest.state is GuestState.RUNNING:
        if holder is not None and _is_answered(view):
            return Discard(f"{holder} holds its lease and runs it too")
        if holder is not None and view.actual.state is ActualState.ASTRAY:
            moved = replace(now_on(vm, view.me), home=None, displaced_by=None)
            why = f"found here after it was migrated away from {holder} by other means"
            return Settle(_running(view, vm, why), why, vm=moved, change=VmChange.ARRIVED, peer=holder)
        if holder is not None:
            return Doubt(f"runs here though {holder} holds its lease; {holder} is asked which of the two goes on")
        if view.fenced and view.actual.freed != view.me:
            return Discard("this node was declared dead, and the VM has run elsewhere since")
        adopted = replace(vm, state=VmState.RUNNING, node=view.me, stop_now=False)
        return Settle(_running(view, vm, "adopted"), "found running here", vm=adopted, change=VmChange.ADOPTED)
    if guest is not None:
        if _is_left_over(guest) and view.actual.state in (ActualState.RUNNING, ActualState.STOPPED):
            return Discard(f"it runs on {holder}" if holder else "neither node could go on with it")
        if guest.state is GuestState.INCOMING and view.arriving_for >= ARRIVES_WITHIN:
            return Alarm(
                "is said to arrive here, and pvc does not bring it: somebody migrates it by hand, or the hypervisor "
                "keeps what was left when it died itself (the administrator's guide says how to remove that)"
            )
        return Wait("between two nodes")
    if holder is None and _wanted_here(view, vm):
        if view.node_state is NodeState.READY or (view.node_state is NodeState.UNFLUSHING and vm.home == view.me):
            return Start()
        return Wait(f"this node is {view.node_state.value}")
    if vm.node != view.me and vm.home != view.me:
        return Forget()
    return Wait()


def _is_mine(doubt: VmDoubt | None, view: VmView) -> bool:
    return doubt is not None and doubt.node == view.me


def _is_answered(view: VmView) -> bool:
    """Whether the holder has seen its own guest run after our question: only then the guest here is the copy."""
    if view.doubt is None or view.doubt.node != view.me:
        return False
    return view.actual.state is ActualState.RUNNING and view.actual.evicts == view.doubt.id


def _is_left_over(guest: Guest) -> bool:
    """Whether a migration that is over has left the guest here, handed over and never confirmed: nobody resumes it."""
    return guest.state is GuestState.LEAVING and not guest.moving


def _wanted_here(view: VmView, vm: Vm) -> bool:
    return vm.state is VmState.RUNNING and vm.node == view.me


def _running(view: VmView, vm: Vm, why: str) -> VmActual:
    return VmActual(
        ActualState.RUNNING,
        node=view.me,
        since=view.now,
        reason=why,
        generation=vm.generation,
        restart=view.actual.restart,
        failures=view.actual.failures,
        reprieved=view.actual.reprieved,
    )


def _released(view: VmView, why: str) -> VmActual:
    return VmActual(
        ActualState.STOPPED,
        since=view.now,
        reason=why,
        generation=view.actual.generation,
        restart=view.actual.restart,
    )


def _release(view: VmView, why: str, change: VmChange | None = None) -> Settle:
    return Settle(_released(view, why), why, change=change)
