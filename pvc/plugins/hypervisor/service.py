"""Looks after every VM that this node has business with: reads, decides with `decide/vm.py`, acts."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from pvc.core import keys
from pvc.core.context import Context
from pvc.core.coordination import Check, Clash, Conflict, Create, Delete, Op, Put
from pvc.core.decide.fencing import after_return
from pvc.core.mirror import Mirror
from pvc.core.model import ActualState, DeviceChange, Finding, Node, NodeState, Severity, Vm, VmActual, VmDoubt, VmState
from pvc.core.observers import HERE, VmChange, VmEvent
from pvc.core.records import Garbage, decode, encode
from pvc.core.runtime import Inbox, Signal
from pvc.core.service import Jobs
from pvc.core.states import note
from pvc.plugins.hypervisor.cluster import prefetch_nodes, read_candidate
from pvc.plugins.hypervisor.decide import vm as decide
from pvc.plugins.hypervisor.decide.placement import ROLE, Candidate, lacks_role
from pvc.plugins.hypervisor.devices import DeviceChanges
from pvc.plugins.hypervisor.host import (
    EndReason,
    Guest,
    GuestEvent,
    GuestState,
    Hypervisor,
    HypervisorError,
    HypervisorGone,
    NoSuchGuest,
)
from pvc.plugins.hypervisor.jobs import VmJobs
from pvc.plugins.hypervisor.migrations import Migrations
from pvc.plugins.hypervisor.records import VmRecords, prefetch_vms, read_doubt, read_vm
from pvc.plugins.hypervisor.settings import Settings, SettingsPerVm
from pvc.plugins.hypervisor.spells import Spells

LOOK = 10.0
"""Seconds between looks when no event comes."""
LOOK_AFRESH = 60.0
"""Seconds between looks that trust nothing remembered: the safety net for a lost event."""
GOING = 0.2
"""Seconds between looks at a guest of which the hypervisor's list and its events do not agree yet."""
REMAINS_WITHIN = 30.0
"""Seconds that a move waits for what an earlier stay of the VM has left on its target to be gone."""
BUTTON_AGAIN = 15.0
"""Seconds after which a guest that did not react is asked to shut down again."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """One VM as one step found it."""

    uuid: str
    records: VmRecords | None
    guest: Guest | None
    doubt: VmDoubt | None


class VmService:
    """Service `vms`."""

    name = "vms"
    after = ("liveness",)

    def __init__(
        self, context: Context, hypervisor: Hypervisor, settings: Settings, demand_secrets: Callable[[str], None]
    ) -> None:
        """`demand_secrets(xml)` sees to it that the hypervisor knows what a definition refers to."""
        self.wake: Signal = context.runtime.signal()
        self._me = context.node
        self._context = context
        self._runtime = context.runtime
        self._log = context.log
        self._coordinator = context.coordinator
        self._hypervisor = hypervisor
        self._settings = settings
        self._mirror = Mirror(context.coordinator, context.runtime, self.wake)
        self._inbox: Inbox[GuestEvent | None] = Inbox(self.wake)
        self._jobs = Jobs(context.runtime, self.wake)
        self._per_vm = SettingsPerVm(settings)
        self._work = VmJobs(context, hypervisor, self._mirror, self._tell, demand_secrets)
        self._migrations = Migrations(context, hypervisor, self._per_vm)
        self._devices = DeviceChanges(context, hypervisor, self._mirror, self._tell, demand_secrets)
        self._ended: dict[str, EndReason] = {}
        self._errors: dict[str, str] = {}
        self._told: set[str] = set()
        self._missing = Spells(context.runtime)
        self._here = Spells(context.runtime)
        self._unannounced = Spells(context.runtime)
        self._obstructed = Spells(context.runtime)
        """For how long an order has waited for its target to clear away the VM's last stay there."""
        self._arriving: dict[str, str] = {}
        self._pressed: dict[str, float] = {}
        self._findings: dict[str, Finding] = {}
        self._found: dict[str, Finding] = {}
        self._claims: dict[str, Vm] = {}
        self._inbound: tuple[str, ...] = ()
        self._node = Node(context.node)
        self._node_version = 0
        self._looked_afresh = 0.0
        hypervisor.listen(self._inbox.put)

    def step(self) -> float:
        if not self._context.registered():
            return 1.0
        self._take_events()
        self._look_afresh_sometimes()
        self._found = {}
        try:
            pause = self._attend_all(self._hypervisor.guests())
        except HypervisorGone as gone:
            self._found = {"": Finding("hypervisor", Severity.CRITICAL, str(gone))}
            pause = 2.0
        if self._found != self._findings:
            self._findings = self._found
            self._context.refresh_facts()
        return pause

    def stop(self) -> None:
        """Guests keep running, and migrations in flight go on without us."""
        self._hypervisor.close()

    def findings(self) -> list[Finding]:
        """What a person should know about this node's VMs."""
        return [finding for _, finding in sorted(self._findings.items())]

    def claims(self) -> Mapping[str, Vm]:
        """The VMs that need memory on this node now: here, arriving, or about to start."""
        return self._claims

    def arriving(self) -> tuple[str, ...]:
        """Those of them that are migrating to this node, by UUID."""
        return self._inbound

    def _attend_all(self, guests: Mapping[str, Guest]) -> float:
        node_state = self._node_state()
        pause = LOOK
        uuids = self._uuids(guests)
        prefetch_vms(self._mirror, uuids)
        seen = [self._see(uuid, guests) for uuid in uuids]
        for one in seen:
            pause = min(pause, self._attend(one, node_state))
        self._publish_claims(seen)
        self._tell_returned(seen)
        return pause

    def _take_events(self) -> None:
        for event in self._inbox.drain():
            if event is not None and event.ended is not None:
                self._ended[event.uuid] = event.ended
            elif event is not None:
                self._ended.pop(event.uuid, None)
        for end in self._jobs.ended():
            self._pressed.pop(end.key, None)
            if end.error is None:
                self._errors.pop(end.key, None)
            elif isinstance(end.error, Conflict):
                self._mirror.forget()  # what the job was started on was old: read it again rather than try it again
            else:
                self._errors[end.key] = str(end.error)
                self._log.warning("vm %s: %s", self._name(end.key), end.error)

    def _look_afresh_sometimes(self) -> None:
        now = self._runtime.monotonic()
        if now - self._looked_afresh >= LOOK_AFRESH:
            self._looked_afresh = now
            self._mirror.forget()

    def _uuids(self, guests: Mapping[str, Guest]) -> list[str]:
        indexed = self._mirror.children(keys.node_vms(self._me)) or ()
        return sorted({*indexed, *guests})

    def _see(self, uuid: str, guests: Mapping[str, Guest]) -> _Seen:
        try:
            records, doubt = read_vm(self._mirror, uuid), read_doubt(self._mirror, uuid)
        except Garbage as garbage:
            records = doubt = None
            self._finding(uuid, Severity.CRITICAL, str(garbage))
        return _Seen(uuid, records, guests.get(uuid), doubt)

    def _attend(self, seen: _Seen, node_state: NodeState) -> float:
        """Take the next step for one VM; the seconds until it wants to be looked at again."""
        if seen.uuid in self._found:  # its records cannot be read: hands off
            return LOOK
        self._tell_unusable(seen)
        self._tell_halted(seen)
        if seen.records is None or seen.records.actual.node != self._me:
            self._errors.pop(seen.uuid, None)  # it was about a lease that is over: no later move fails by it
        try:
            action = decide.next_action(self._view(seen, node_state))
            if not isinstance(action, decide.Wait | decide.Forget) and self._is_outdated(seen):
                return 0.0
            return self._act(seen, action)
        except Conflict as conflict:  # what we read was old: look again
            self._log.debug("vm %s: %s; looking again", self._name(seen.uuid), conflict)
            self._forget_records(seen.uuid)
            self._mirror.drop(conflict.op.path)
            return 0.0
        except HypervisorGone:
            raise
        except HypervisorError as error:  # one VM's trouble: the others must be attended to all the same
            self._finding(seen.uuid, Severity.WARNING, f"VM {self._name(seen.uuid)}: {error}")
            return LOOK

    def _here_for(self, seen: _Seen) -> float:
        """See `VmView.here_for`; also remembers where an arriving guest comes from, until observers are told."""
        holder = seen.records.actual.node if seen.records else None
        elsewhere = holder if holder != self._me else None
        if seen.guest is None:
            self._arriving.pop(seen.uuid, None)
        elif elsewhere is not None:
            self._arriving[seen.uuid] = elsewhere
        runs = seen.guest is not None and seen.guest.state is GuestState.RUNNING
        return self._here.lasting(seen.uuid, runs and elsewhere is not None)

    def _arriving_for(self, seen: _Seen) -> float:
        """See `VmView.arriving_for`."""
        announced = seen.records is None or self._me in (seen.records.actual.node, seen.records.actual.target)
        incoming = seen.guest is not None and seen.guest.state is GuestState.INCOMING
        return self._unannounced.lasting(seen.uuid, incoming and not announced)

    def _missing_for(self, seen: _Seen) -> float | None:
        """See `VmView.missing_for`; what observers were told is what this daemon has seen."""
        missing = seen.guest is None and seen.uuid in self._told
        seconds = self._missing.lasting(seen.uuid, missing)
        return seconds if missing else None

    def _is_outdated(self, seen: _Seen) -> bool:
        """Whether the guest has changed since it was looked at: the records were read later and may know more."""
        return self._hypervisor.look(seen.uuid) != seen.guest

    def _view(self, seen: _Seen, node_state: NodeState) -> decide.VmView:
        records = seen.records
        return decide.VmView(
            me=self._me,
            node_state=node_state,
            fenced=self._node.fence is not None,
            vm=records.vm if records else None,
            actual=records.actual if records else VmActual(),
            guest=seen.guest,
            doubt=seen.doubt,
            ended=self._ended.get(seen.uuid),
            missing_for=self._missing_for(seen),
            here_for=self._here_for(seen),
            arriving_for=self._arriving_for(seen),
            busy=self._jobs.running(seen.uuid),
            error=self._errors.get(seen.uuid, ""),
            given_up=self._migrations.given_up(seen.uuid),
            now=self._runtime.now(),
            shutdown_timeout=self._settings.shutdown_timeout,
        )

    def _act(self, seen: _Seen, action: decide.Action) -> float:
        uuid, records = seen.uuid, seen.records
        match action:
            case decide.Alarm(text):
                name = seen.guest.name if seen.guest else self._name(uuid)
                self._finding(uuid, Severity.WARNING if records is None else Severity.CRITICAL, f"VM {name} {text}")
                return LOOK
            case decide.Forget():
                self._forget(seen)
                return LOOK
        if records is None:
            return LOOK
        match action:
            case decide.Doubt(text):
                self._finding(uuid, Severity.CRITICAL, f"VM {records.vm.name} {text}")
                self._ask(seen)
            case decide.Retract():
                self._coordinator.commit([Delete(keys.vm_doubt(uuid))])
                self._mirror.drop(keys.vm_doubt(uuid))
                return 0.0
            case decide.Start():
                self._start_job(uuid, partial(self._work.start, records, self._claim(records)))
            case decide.Move(target):
                return self._move(seen, records, target)
            case decide.ChangeDevice(change):
                self._announce(seen, records)
                return self._change_device(records, change)
            case decide.AbortMove():
                self._hypervisor.abort_migration(uuid)
                return 1.0
            case decide.PressPowerButton():
                return self._press(uuid)
            case decide.PowerOff():
                self._start_job(uuid, partial(self._power_off, uuid))
            case decide.Discard(why):
                self._log.info("vm %s: removing the copy that its migration left here: %s", records.vm.name, why)
                self._start_job(uuid, partial(self._work.discard, records))
            case decide.Settle():
                self._settle(records, action)
                return 0.0
            case decide.Wait():
                return self._wait(seen, records)
        return LOOK

    def _wait(self, seen: _Seen, records: VmRecords) -> float:
        """Nothing to decide; but a guest that is here must be known to observers, and a migration wants tending."""
        actual = records.actual
        if (seen.guest and seen.uuid in self._ended) or seen.uuid in self._missing:
            return GOING
        if seen.guest and actual.node == self._me and actual.state is ActualState.RUNNING:
            self._announce(seen, records)
            return LOOK
        if actual.state is ActualState.MIGRATING and actual.node == self._me:
            return self._migrations.tend(records)
        if actual.state is ActualState.FAILED and actual.node == self._me:
            due = actual.since + decide.pause_before_start(actual.failures) - self._runtime.now()
            return due if due > 0 else LOOK
        return LOOK if seen.guest is None else 1.0

    def _announce(self, seen: _Seen, records: VmRecords) -> None:
        """Tell observers of a guest that is here, if they have not been told."""
        if seen.uuid not in self._told:
            source = self._arriving.get(seen.uuid)
            self._tell(records.vm, VmChange.ARRIVED if source else VmChange.ADOPTED, source)

    def _change_device(self, records: VmRecords, change: DeviceChange) -> float:
        pause = self._devices.pause(records.vm.uuid, change)
        if not pause:
            self._jobs.start(records.vm.uuid, partial(self._devices.carry_out, records, change))
        return pause or LOOK

    def _claim(self, records: VmRecords) -> tuple[Op, ...]:
        """What a start demands besides the lease: that this node is still in the state that allowed it."""
        if records.actual.node == self._me:
            return ()
        return (Check(keys.node(self._me), self._node_version),)

    def _start_job(self, uuid: str, work: "partial[None]") -> None:
        self._ended.pop(uuid, None)
        self._errors.pop(uuid, None)
        self._jobs.start(uuid, work)

    def _move(self, seen: _Seen, records: VmRecords, target: str) -> float:
        error = self._errors.pop(seen.uuid, "")
        prefetch_nodes(self._mirror, [target])
        candidate = read_candidate(self._mirror, target)
        why = error or self._unfit(records.vm, candidate)
        if not why and candidate is not None and _is_left_on(candidate, seen.uuid):
            left = REMAINS_WITHIN - self._obstructed.lasting(seen.uuid, records)
            if left > 0:
                return min(left, LOOK)
            why = f"it has not got rid of an earlier stay of the VM; `pvc node info {target}` may say why"
        self._obstructed.end(seen.uuid)
        if why or candidate is None:
            actual = replace(records.actual, failed_move=f"cannot move to {target}: {why}")
            self._settle(records, decide.Settle(actual, actual.failed_move, vm=decide.now_on(records.vm, self._me)))
            return 0.0
        settings = self._per_vm.of(records.vm).settings.migration
        self._migrations.begin(seen.uuid, settings)
        self._start_job(seen.uuid, partial(self._work.migrate, records, target, candidate.version, settings))
        return 1.0

    def _unfit(self, vm: Vm, target: Candidate | None) -> str:
        """Why a node that was asked for cannot be the target now; room is the business of who asked."""
        if target is None:
            return "there is no such node"
        if ROLE not in target.roles:
            return f"it has no {ROLE} role"
        if lacking := lacks_role(vm, target.roles):
            return f"it {lacking}"
        if not target.alive:
            return "its daemon does not answer"
        if target.flush_asked:
            return "it is waiting to be flushed"
        if target.state is NodeState.READY or (target.state is NodeState.UNFLUSHING and vm.home == target.name):
            verdict = self._context.plugins.placement(vm, (target.name,)).get(target.name)
            return f"it {verdict.veto}" if verdict and verdict.veto else ""
        return f"it is {target.state.value}"

    def _press(self, uuid: str) -> float:
        now = self._runtime.monotonic()
        due = self._pressed.get(uuid, -BUTTON_AGAIN) + BUTTON_AGAIN
        if now >= due:
            self._pressed[uuid] = now
            self._hypervisor.shutdown(uuid)
            return BUTTON_AGAIN
        return due - now

    def _power_off(self, uuid: str) -> None:
        try:
            self._hypervisor.destroy(uuid)
        except NoSuchGuest:  # it was faster
            return

    def _settle(self, records: VmRecords, settle: decide.Settle) -> None:
        vm, old, new = records.vm, records.actual, settle.actual
        guards = [Check(path) for path in vm.guards] if settle.under_guards else []
        try:
            index = self._index_ops(vm.uuid) if new.node == self._me != old.node else []
            self._coordinator.commit([*guards, *records.put(vm=settle.vm, actual=new), *index])
        except Conflict as conflict:
            if conflict.op in guards and conflict.clash is Clash.MISSING:
                stays = replace(old, failed_move="the operation that ordered its move has lost its turn")
                self._coordinator.commit(records.put(vm=decide.now_on(vm, self._me), actual=stays))
            raise
        finally:
            self._forget_records(vm.uuid)
        self._ended.pop(vm.uuid, None)
        self._errors.pop(vm.uuid, None)
        if old.state is not new.state or old.node != new.node:
            note(self._log, f"vm {vm.name}", old.state.value, new.state.value, settle.why)
        if settle.change is not None:
            self._tell(vm, settle.change, settle.peer)

    def _ask(self, seen: _Seen) -> None:
        """Leave the question where the holder of the lease looks; it vanishes with this daemon's session."""
        if seen.doubt is None:
            doubt = encode(VmDoubt(self._runtime.new_id(), self._me))
            self._coordinator.commit([Create(keys.vm_doubt(seen.uuid), doubt, ephemeral=True)])
            self._mirror.drop(keys.vm_doubt(seen.uuid))

    def _index_ops(self, uuid: str) -> list[Op]:
        """What has this node look at the VM from now on: a VM found by chance is not in its index yet."""
        path = keys.node_vm(self._me, uuid)
        return [Create(path)] if self._mirror.get(path) is None else []

    def _tell(self, vm: Vm, change: VmChange, peer: str | None = None) -> None:
        xml = ""
        self._arriving.pop(vm.uuid, None)
        if change in HERE:
            try:
                xml = self._hypervisor.xml(vm.uuid)
            except NoSuchGuest:  # gone again already: the next look tells
                return
            self._told.add(vm.uuid)
        else:
            self._told.discard(vm.uuid)
        self._context.plugins.vm_changed(VmEvent(change, vm.uuid, vm.name, xml, peer))

    def _forget(self, seen: _Seen) -> None:
        """Drop the VM from this node's index, if nothing has changed since it was looked at."""
        path = keys.node_vm(self._me, seen.uuid)
        checks: list[Op] = seen.records.put() if seen.records else []
        if self._mirror.get(path) is not None:
            self._coordinator.commit([*checks, Delete(path)])
            self._mirror.drop(keys.node_vms(self._me))
        self._told.discard(seen.uuid)
        self._ended.pop(seen.uuid, None)

    def _forget_records(self, uuid: str) -> None:
        self._mirror.drop(keys.vm(uuid))
        self._mirror.drop(keys.vm_actual(uuid))

    def _publish_claims(self, seen: list[_Seen]) -> None:
        claims = {one.uuid: one.records.vm for one in seen if one.records and self._claims_memory(one, one.records)}
        inbound = tuple(sorted(one.uuid for one in seen if one.records and self._arrives(one.records.actual)))
        if (claims, inbound) != (self._claims, self._inbound):
            self._claims, self._inbound = claims, inbound
            self._context.refresh_facts()

    def _arrives(self, actual: VmActual) -> bool:
        return actual.state is ActualState.MIGRATING and actual.target == self._me

    def _claims_memory(self, seen: _Seen, records: VmRecords) -> bool:
        """Whether it needs memory here. What a migration has not yet cleared away does, and nothing can come back as
        long as it is there."""
        if seen.guest is not None:
            return True
        actual, vm = records.actual, records.vm
        if self._me in (actual.node, actual.target):
            return actual.state not in (ActualState.STOPPED, ActualState.ASTRAY)
        return actual.node is None and vm.node == self._me and vm.state is VmState.RUNNING

    def _node_state(self) -> NodeState:
        """This node's state; the version it was read at is what a start claims to be true still."""
        znode = self._mirror.get(keys.node(self._me))
        self._node_version = 0 if znode is None else znode.version
        self._node = Node(self._me) if znode is None else decode(Node, znode.data, keys.node(self._me))
        return self._node.state

    def _tell_returned(self, seen: list[_Seen]) -> None:
        """If this node was declared dead: say that nothing is left here of what went elsewhere since, nor is begun by
        what was at work then."""
        fence = self._node.fence
        if fence is None or fence.returned or self._jobs.count() or any(self._belongs_elsewhere(one) for one in seen):
            return
        returned = replace(self._node, fence=after_return(fence))
        try:
            self._coordinator.commit([Put(keys.node(self._me), encode(returned), self._node_version)])
            self._log.info("node %s: is back after it was declared dead", self._me)
        except Conflict as conflict:
            self._log.debug("node %s: %s; looking again", self._me, conflict)
        finally:
            self._mirror.drop(keys.node(self._me))
            self.wake.set()

    def _belongs_elsewhere(self, seen: _Seen) -> bool:
        """Whether a guest is here that is not known to be this node's. What cannot be read counts."""
        return seen.guest is not None and (seen.records is None or seen.records.actual.node != self._me)

    def _tell_unusable(self, seen: _Seen) -> None:
        """Say what a VM's own settings ask for that cannot be; the node's hold instead."""
        if seen.records is not None and seen.records.actual.node == self._me:
            vm = seen.records.vm
            if problems := self._per_vm.of(vm).problems:
                text = f"VM {vm.name}: {'; '.join(problems)}; this node's own holds; use `pvc vm set` or `pvc vm unset`"
                self._finding(f"{seen.uuid} settings", Severity.WARNING, text)

    def _tell_halted(self, seen: _Seen) -> None:
        """Say that a guest stands still. Only a person knows when its disk is well again."""
        if seen.guest is not None and seen.guest.halted:
            text = (
                f"VM {seen.guest.name} stands still: a disk of it gives errors, or has no room; see to its storage,"
                f" then `virsh resume {seen.guest.name}` on this node"
            )
            self._finding(f"{seen.uuid} disk", Severity.CRITICAL, text)

    def _finding(self, uuid: str, severity: Severity, text: str) -> None:
        finding = self._found[uuid] = Finding("hypervisor", severity, text)
        if self._findings.get(uuid) != finding:
            self._log.warning("%s", text)

    def _name(self, uuid: str) -> str:
        znode = self._mirror.get(keys.vm(uuid))
        try:
            return uuid if znode is None else decode(Vm, znode.data, keys.vm(uuid)).name
        except Garbage:
            return uuid


def _is_left_on(target: Candidate, uuid: str) -> bool:
    """Whether the node still has to do with an earlier stay of the VM; what was only promised to it is not there."""
    return uuid in target.vms and uuid not in target.promised
