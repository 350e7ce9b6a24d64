"""Simulated hypervisors: `FakeFabric` is all hosts of a cluster, `FakeHypervisor` one of them and its fault switches.

Guests, shutdowns and migrations belong to the fabric and go on when a daemon dies, as they do under libvirt. Nothing
here looks at a real clock: time passes as the Runtime says.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from urllib.parse import urlsplit

from pvc.core.decide.devices import BadDevice, key_of, keys_of, with_device, without_device
from pvc.core.runtime import Runtime
from pvc.core.storage import HypervisorSecret
from pvc.plugins.hypervisor.host import (
    Capacity,
    EndReason,
    Guest,
    GuestEvent,
    GuestState,
    HypervisorError,
    HypervisorGone,
    MigrationOptions,
    MigrationProgress,
    NoSuchGuest,
)
from pvc.plugins.hypervisor.secretxml import demand_free, demand_known
from pvc.testing.guests import FakeGuest, parsed_guest, secrets_in
from pvc.testing.migration import MigrationPhase, SimulatedMigration
from pvc.testing.plans import Plans

EXECUTING = frozenset({GuestState.RUNNING, GuestState.SHUTTING_DOWN})

Listener = Callable[[GuestEvent | None], None]


class FakeFabric(Plans):
    """All simulated hosts, the networks between them, and what tests plan to go wrong.

    `copy_seconds` is how long copying a guest's memory takes, `shutdown_seconds` how long a guest needs to power
    itself off, `moment` the time between two steps that follow each other at once.
    """

    def __init__(
        self, runtime: Runtime, copy_seconds: float = 1.0, shutdown_seconds: float = 1.0, moment: float = 0.05
    ) -> None:
        super().__init__(runtime, copy_seconds)
        self.shutdown_seconds = shutdown_seconds
        self.moment = moment
        self.twice: list[str] = []
        """Every instant at which a guest executed on two hosts: must stay empty."""
        self.warned: set[str] = set()
        """Guests, by UUID, of which somebody was told that they may, and went on."""
        self.most_at_once = 0
        """The most migrations that were ever in flight together."""
        self._hosts: dict[str, FakeHypervisor] = {}
        self._addresses: dict[str, str] = {}
        self._cuts: set[frozenset[str]] = set()
        self._migrations: list[SimulatedMigration] = []
        self.event_delay = 0.0
        """Seconds by which an event comes later than the change that it tells of."""
        self._lock = runtime.mutex()
        self._due: list[tuple[FakeHypervisor, GuestEvent | None]] = []

    def host(self, name: str) -> "FakeHypervisor":
        """The host of that name; it exists, powered on, from the first time it is asked for."""
        if name not in self._hosts:
            self._hosts[name] = FakeHypervisor(self, name)
        return self._hosts[name]

    def register_address(self, address: str, host: str) -> None:
        """Let migration URIs name `host` by that address too."""
        self._addresses[address] = host

    def running(self, uuid: str) -> list[str]:
        """Names of the hosts on which that guest executes at this moment."""
        return sorted(host.name for host in self._hosts.values() if host.executes(uuid))

    def migrating(self, uuid: str, source: str | None = None) -> SimulatedMigration | None:
        """That guest's migration in flight, away from `source` or, with None, from anywhere."""
        flights = (each for each in self._migrations if each.uuid == uuid and not each.over)
        return next((each for each in flights if source in (None, each.source)), None)

    def fills(self, uuid: str, target: str) -> bool:
        """Whether that guest executes on `target` and still fetches memory from where it was."""
        flights = (each for each in self._migrations if each.uuid == uuid and each.target == target and not each.over)
        return any(each.post_copy and each.phase is MigrationPhase.SWITCHED for each in flights)

    def cut(self, host: str, other: str) -> None:
        """Cut the network between two hosts; migrations between them fail."""
        with self.changing():
            self._cuts.add(frozenset({host, other}))
            for each in self._between(host, other):
                each.fail(HypervisorError(f"cannot reach {each.target}: the connection was lost"))

    def heal(self, host: str, other: str) -> None:
        """Undo `cut`."""
        self._cuts.discard(frozenset({host, other}))

    def guest_powers_off(self, uuid: str) -> None:
        """The guest powers itself off, wherever it executes."""
        self._guest_ends(uuid, EndReason.SHUTDOWN)

    def guest_crashes(self, uuid: str) -> None:
        """The guest, or the emulator under it, dies wherever it executes."""
        self._guest_ends(uuid, EndReason.CRASHED)

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Hold the lock; events go out after it is released."""
        due: list[tuple[FakeHypervisor, GuestEvent | None]] = []
        try:
            with self._lock:
                try:
                    yield
                finally:
                    self._look_for_doubles()
                    due, self._due = self._due, []
        finally:
            for host, event in due:
                host.deliver(event)

    def tell(self, host: "FakeHypervisor", event: GuestEvent | None) -> None:
        """Queue an event for the host's listeners; with the lock held."""
        self._due.append((host, event))

    def begin_migration(self, guest: FakeGuest, source: str, options: MigrationOptions) -> SimulatedMigration:
        """Start a migration beside the caller; with the lock held. Raises HypervisorError if the source refuses."""
        if self.migrating(guest.uuid, source) is not None:
            raise HypervisorError(f"guest {guest.name}: another migration of it is in progress")
        target = self._reach_target(guest.uuid, source, options)
        pace = self.pace(guest.uuid)
        migration = SimulatedMigration(
            self.runtime, self, guest.uuid, source, target, options, guest.memory, pace, self.take_actions
        )
        self._migrations = [*(each for each in self._migrations if not each.over), migration]
        self.most_at_once = max(self.most_at_once, len(self._migrations))
        self.runtime.spawn(f"migration of {guest.name}", partial(migration.run, self.moment))
        return migration

    def appear(self, migration: SimulatedMigration) -> None:
        """The guest becomes INCOMING on the target."""
        self._reach_host(migration.source, migration.target)
        self.host(migration.target).demand_secrets(self.host(migration.source).guest(migration.uuid).xml)
        guest = self.host(migration.source).guest(migration.uuid)
        self.host(migration.target).add(replace(guest, state=GuestState.INCOMING))
        self.fail_as_planned((migration.uuid, migration.target), MigrationPhase.COPYING)

    def switch(self, migration: SimulatedMigration) -> None:
        """Source LEAVING, target RUNNING."""
        self.host(migration.source).set_state(migration.uuid, GuestState.LEAVING)
        self.host(migration.target).set_state(migration.uuid, GuestState.RUNNING)
        migration.phase = MigrationPhase.SWITCHED
        self.fail_as_planned((migration.uuid, migration.target), MigrationPhase.SWITCHED)

    def confirm(self, migration: SimulatedMigration) -> None:
        """The guest is gone from the source."""
        self.fail_as_planned((migration.uuid, migration.target), MigrationPhase.CONFIRMED)
        self.host(migration.source).remove(migration.uuid, EndReason.MIGRATED)

    def roll_back(self, migration: SimulatedMigration) -> None:
        """The INCOMING guest is given up."""
        self.host(migration.target).remove(migration.uuid, EndReason.FAILED, only=GuestState.INCOMING)

    def guest_gone(self, uuid: str, host: str) -> None:
        """A guest ended on a host by another cause than a migration: its migration, if any, fails."""
        for each in self._migrations:
            if each.uuid == uuid and host in (each.source, each.target):
                each.fail(HypervisorError(f"guest {uuid} ended on {host} while it was migrated"))

    def host_gone(self, host: str, lost: bool) -> None:
        """A hypervisor does not answer any more; `lost`: its guests are gone as well."""
        for each in self._migrations:
            if each.over or host not in (each.source, each.target):
                continue
            switched = each.phase is MigrationPhase.SWITCHED  # once CONFIRMED the source has nothing to resume
            if host == each.source:
                each.fail(HypervisorGone(f"the hypervisor of {host} went away"))
            elif lost and switched and not each.post_copy:
                # The target died before it said that the guest runs: a source in that position resumes it.
                self.host(each.source).set_state(each.uuid, GuestState.RUNNING)
                each.fail(HypervisorError(f"{host} was lost while it took over guest {each.uuid}"))
            else:
                each.fail(HypervisorError(f"cannot reach {host}: the connection was lost"))

    def _guest_ends(self, uuid: str, reason: EndReason) -> None:
        with self.changing():
            for host in self._hosts.values():
                if host.executes(uuid):
                    host.remove(uuid, reason)
                    self.guest_gone(uuid, host.name)

    def _reach_target(self, uuid: str, source: str, options: MigrationOptions) -> str:
        named = urlsplit(options.uri).hostname or ""
        target = self._addresses.get(named, named)
        self._reach_host(source, target)
        if options.address and self._addresses.get(options.address, target) != target:
            raise HypervisorError(f"migration address {options.address} is not one of {target}")
        if target == source:
            raise HypervisorError(f"cannot migrate a guest of {source} to {source} itself")
        self.fail_as_planned((uuid, target), MigrationPhase.BEGIN)
        return target

    def _reach_host(self, source: str, target: str) -> None:
        known = self._hosts.get(target)
        if known is None or not known.answers or frozenset({source, target}) in self._cuts:
            raise HypervisorError(f"cannot reach the hypervisor of {target!r} from {source}: no answer")

    def _between(self, host: str, other: str) -> list[SimulatedMigration]:
        return [each for each in self._migrations if {each.source, each.target} == {host, other}]

    def _look_for_doubles(self) -> None:
        seen = Counter(guest.uuid for host in self._hosts.values() for guest in host.executing())
        for uuid, count in seen.items():
            if count > 1 and uuid not in self.warned:
                where = ", ".join(self.running(uuid))
                self.twice.append(f"{self.runtime.monotonic():.3f} {uuid} executes on {where}")


class FakeHypervisor:
    """One simulated host: a `Hypervisor`, and below it the switches for its faults.

    Like a real connection it is made by the first call, and made anew by the first call after `up`; listeners hear
    nothing in between. `close` drops the listeners, also for a daemon that was killed.
    """

    def __init__(self, fabric: FakeFabric, name: str) -> None:
        self.name = name
        self.answers = True
        self.calls: Counter[str] = Counter()
        """How often each method was called."""
        self._fabric = fabric
        self._guests: dict[str, FakeGuest] = {}
        self._listeners: list[Listener] = []
        self._connected = False
        self.known_secrets: dict[str, HypervisorSecret] = {}
        """By UUID; gone when the hypervisor's daemon dies."""
        self._capacity = Capacity(memory=64 * 1024, cpus=16)
        self._load = 0.0

    def listen(self, listener: Listener) -> None:
        """See Hypervisor."""
        self._listeners.append(listener)

    def guests(self) -> Mapping[str, Guest]:
        """See Hypervisor."""
        with self._call("guests"):
            return {guest.uuid: self._view(guest) for guest in self._guests.values()}

    def look(self, uuid: str) -> Guest | None:
        """See Hypervisor."""
        with self._call("look"):
            return self._view(self._guests[uuid]) if uuid in self._guests else None

    def xml(self, uuid: str) -> str:
        """See Hypervisor."""
        with self._call("xml"):
            return self.guest(uuid).xml

    def start(self, xml: str) -> None:
        """See Hypervisor."""
        with self._call("start"):
            guest = parsed_guest(xml)
            self.demand_secrets(xml)
            self._fabric.fail_start_as_planned(guest.uuid, self.name)
            self.add(guest)

    def shutdown(self, uuid: str) -> None:
        """See Hypervisor."""
        with self._call("shutdown"):
            guest = self.guest(uuid)
            if self._fabric.migrating(uuid, self.name) is not None:
                raise HypervisorError(f"guest {guest.name}: cannot be shut down while it is migrated")
            if not self._fabric.is_deaf(uuid):
                self._fabric.runtime.spawn(f"shutdown of {guest.name}", partial(self._power_down, guest))

    def destroy(self, uuid: str) -> None:
        """See Hypervisor."""
        with self._call("destroy"):
            self.guest(uuid)
            self.remove(uuid, EndReason.DESTROYED)
            self._fabric.guest_gone(uuid, self.name)

    def plug(self, uuid: str, device: str) -> None:
        """See Hypervisor."""
        with self._call("plug"):
            guest = self._steady(uuid)
            if _known(device) in keys_of(guest.xml):
                raise HypervisorError(f"guest {guest.name} has this device already")
            self.demand_secrets(device)
            self._fabric.fail_plug_as_planned(uuid, self.name, done=False)
            guest.xml = with_device(guest.xml, device)
            self._fabric.fail_plug_as_planned(uuid, self.name, done=True)

    def unplug(self, uuid: str, device: str) -> None:
        """See Hypervisor. The guest lets go of it at once, or never (`keeps_devices`)."""
        with self._call("unplug"):
            guest = self._steady(uuid)
            if (key := _known(device)) not in keys_of(guest.xml):
                raise HypervisorError(f"guest {guest.name} has no such device")
            if not self._fabric.keeps_its_devices(uuid):
                guest.xml = without_device(guest.xml, key)

    def resize_disk(self, uuid: str, target: str, size: int) -> None:
        """See Hypervisor. What guests see is in `disk_sizes`; nothing looks at an image."""
        with self._call("resize_disk"):
            guest = self._steady(uuid)
            if f"disk {target}" not in keys_of(guest.xml):
                raise HypervisorError(f"guest {guest.name} has no disk {target}")
            self._fabric.fail_plug_as_planned(uuid, self.name, done=False)
            guest.disk_sizes[target] = size
            self._fabric.fail_plug_as_planned(uuid, self.name, done=True)

    def define_secret(self, secret: HypervisorSecret) -> None:
        """See Hypervisor."""
        with self._call("define_secret"):
            demand_known(secret)
            holders = [uuid for uuid, one in self.known_secrets.items() if _use(one) == _use(secret)]
            demand_free(secret, next(iter(holders), None))
            self.known_secrets[secret.uuid] = secret

    def secrets(self) -> frozenset[str]:
        """See Hypervisor."""
        with self._call("secrets"):
            return frozenset(self.known_secrets)

    def migrate(self, uuid: str, options: MigrationOptions) -> None:
        """See Hypervisor."""
        with self._call("migrate"):
            guest = self.guest(uuid)
            if guest.state is not GuestState.RUNNING:
                raise HypervisorError(f"guest {guest.name} cannot be migrated: it is {guest.state.value}")
            migration = self._fabric.begin_migration(guest, self.name, options)
        migration.wait()

    def progress(self, uuid: str) -> MigrationProgress | None:
        """See Hypervisor."""
        with self._call("progress"):
            migration = self._outgoing(uuid)
            return None if migration is None else migration.progress()

    def set_downtime(self, uuid: str, seconds: float) -> None:
        """See Hypervisor."""
        with self._call("set_downtime"):
            migration = self._outgoing(uuid)
            if migration is not None:
                migration.allow_downtime(seconds)

    def switch_to_post_copy(self, uuid: str) -> None:
        """See Hypervisor."""
        with self._call("switch_to_post_copy"):
            migration = self._outgoing(uuid)
            if migration is None:
                raise HypervisorError(f"guest {uuid}: no migration is in progress")
            migration.start_post_copy()

    def abort_migration(self, uuid: str) -> None:
        """See Hypervisor."""
        with self._call("abort_migration"):
            migration = self._outgoing(uuid)
            if migration is None:
                return
            if migration.phase in (MigrationPhase.SWITCHED, MigrationPhase.CONFIRMED):
                raise HypervisorError(f"guest {uuid}: too late to abort its migration, it runs on {migration.target}")
            migration.fail(HypervisorError(f"guest {uuid}: migration cancelled on request"))

    def capacity(self) -> Capacity:
        """See Hypervisor."""
        with self._call("capacity"):
            return self._capacity

    def load(self) -> float:
        """See Hypervisor."""
        with self._call("load"):
            return self._load

    def close(self) -> None:
        """See Hypervisor."""
        self._connected = False
        self._listeners.clear()

    def set_capacity(self, memory: int, cpus: int) -> None:
        """What the host offers: MiB and processors."""
        self._capacity = Capacity(memory, cpus)

    def set_load(self, load: float) -> None:
        """What `load` answers."""
        self._load = load

    def down(self) -> None:
        """The hypervisor's daemon dies; guests run on, migrations fail."""
        with self._fabric.changing():
            self._fall_silent(lost=False)

    def up(self) -> None:
        """The hypervisor's daemon answers again."""
        self.answers = True

    def power_off(self) -> None:
        """The host loses power: its guests are gone, and nobody is told."""
        with self._fabric.changing():
            self._guests.clear()
            self._fall_silent(lost=True)

    def power_on(self) -> None:
        """The host has booted: no guests."""
        self.up()

    def guest(self, uuid: str) -> FakeGuest:
        """The guest's record; with the lock held. Raises NoSuchGuest."""
        guest = self._guests.get(uuid)
        if guest is None:
            raise NoSuchGuest(f"{self.name} has no guest {uuid}")
        return guest

    def state_of(self, uuid: str) -> GuestState | None:
        """The guest's true state here, even while nothing answers; None: it is not here."""
        guest = self._guests.get(uuid)
        return None if guest is None else guest.state

    def executes(self, uuid: str) -> bool:
        """Whether that guest executes here at this moment."""
        return self.state_of(uuid) in EXECUTING

    def executing(self) -> list[FakeGuest]:
        """All guests that execute here."""
        return [guest for guest in list(self._guests.values()) if guest.state in EXECUTING]

    def add(self, guest: FakeGuest) -> None:
        """Have one more guest; with the lock held. Raises HypervisorError if its UUID or name is taken."""
        for other in self._guests.values():
            if other.uuid == guest.uuid or other.name == guest.name:
                raise HypervisorError(f"{self.name} has a guest {other.name} with UUID {other.uuid} already")
        self._guests[guest.uuid] = guest
        self._fabric.tell(self, GuestEvent(guest.uuid, None))

    def demand_secrets(self, xml: str) -> None:
        """Raise HypervisorError if a definition refers to a secret that is not known here."""
        for uuid in secrets_in(xml):
            if uuid not in self.known_secrets:
                raise HypervisorError(f"{self.name} has no secret {uuid}; define it")

    def set_state(self, uuid: str, state: GuestState) -> None:
        """Change a guest's state; with the lock held."""
        self.guest(uuid).state = state
        self._fabric.tell(self, GuestEvent(uuid, None))

    def halt(self, uuid: str, halted: bool = True) -> None:
        """A disk of the guest has no room, and it stands still; or somebody has resumed it."""
        with self._fabric.changing():
            self.guest(uuid).halted = halted
            self._fabric.tell(self, GuestEvent(uuid, None))

    def remove(self, uuid: str, reason: EndReason, only: GuestState | None = None) -> None:
        """Have the guest no more, if it is here (and in the state `only`); with the lock held."""
        guest = self._guests.get(uuid)
        if guest is not None and only in (None, guest.state):
            del self._guests[uuid]
            self._fabric.tell(self, GuestEvent(uuid, reason))

    def deliver(self, event: GuestEvent | None) -> None:
        """Call the listeners, without the lock."""
        delay = self._fabric.event_delay
        if delay and event is not None:
            self._fabric.runtime.spawn("late event", lambda: self._deliver_late(event, delay))
        elif self._connected or event is None:
            for listener in tuple(self._listeners):
                listener(event)

    def _deliver_late(self, event: GuestEvent, delay: float) -> None:
        self._fabric.runtime.sleep(delay)
        if self._connected:
            for listener in tuple(self._listeners):
                listener(event)

    @contextmanager
    def _call(self, method: str) -> Iterator[None]:
        self.calls[method] += 1
        with self._fabric.changing():
            if not self.answers:
                raise HypervisorGone(f"the hypervisor of {self.name} does not answer; is its daemon running?")
            if not self._connected:
                self._connected = True
                self._fabric.tell(self, None)
            yield

    def _fall_silent(self, lost: bool) -> None:
        self.answers = False
        self.known_secrets.clear()
        self._fabric.host_gone(self.name, lost)
        if self._connected:
            self._connected = False
            self._fabric.tell(self, None)

    def _view(self, guest: FakeGuest) -> Guest:
        moving = self._outgoing(guest.uuid) is not None
        filling = self._fabric.fills(guest.uuid, self.name)
        return Guest(guest.uuid, guest.name, guest.state, moving, filling, guest.halted)

    def _steady(self, uuid: str) -> FakeGuest:
        guest = self.guest(uuid)
        if self._fabric.migrating(uuid) is not None:
            raise HypervisorError(f"guest {guest.name}: its devices cannot be changed while it is migrated")
        return guest

    def _outgoing(self, uuid: str) -> SimulatedMigration | None:
        self.guest(uuid)
        return self._fabric.migrating(uuid, self.name)

    def _power_down(self, guest: FakeGuest) -> None:
        self._fabric.runtime.sleep(self._fabric.shutdown_seconds)
        with self._fabric.changing():
            if self._guests.get(guest.uuid) is not guest:
                return
            self.set_state(guest.uuid, GuestState.SHUTTING_DOWN)
        self._fabric.runtime.sleep(self._fabric.moment)
        with self._fabric.changing():
            if self._guests.get(guest.uuid) is guest:
                self.remove(guest.uuid, EndReason.SHUTDOWN)
                self._fabric.guest_gone(guest.uuid, self.name)


def _use(secret: HypervisorSecret) -> tuple[str, str]:
    return secret.usage, secret.name


def _known(device: str) -> str:
    """What tells the device from others. Raises HypervisorError."""
    try:
        return key_of(device)
    except BadDevice as error:
        raise HypervisorError(f"the device cannot be used: {error}") from error
