"""The door to libvirt: the only module that imports it, and the only one that knows its word for a guest, domain.

Translates calls, states, events and errors, and decides nothing. Untyped values of libvirt end here.
"""

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import libvirt

from pvc.core.runtime import Runtime, Task
from pvc.core.storage import HypervisorSecret
from pvc.plugins.hypervisor.domains import (
    DomainEvent,
    Job,
    StartDetail,
    end_reason,
    guest_state,
    is_filling,
    is_halted,
    is_in_post_copy,
    job_of,
    migration_flags,
    migration_parameters,
    migration_progress,
)
from pvc.plugins.hypervisor.host import (
    Capacity,
    Guest,
    GuestEvent,
    GuestState,
    HypervisorError,
    HypervisorGone,
    MigrationOptions,
    MigrationProgress,
    NoSuchGuest,
)
from pvc.plugins.hypervisor.lending import Lending
from pvc.plugins.hypervisor.secretxml import USAGES, demand_free, demand_known, element

CONNECT_SECONDS = 10.0
"""How long a connection may take to come about: a libvirtd that hangs accepts it and never answers."""
MOST_ATTEMPTS = 4
"""Attempts to connect that may hang at a time; each occupies a thread until libvirtd answers or dies."""
KEEPALIVE_SECONDS, KEEPALIVE_COUNT = 5, 3
"""A libvirtd that answers no probe for (count + 1) x seconds is taken for gone."""
DEFAULT_DOWNTIME = 0.3
"""QEMU's own longest pause. It is set each time: the value of an earlier, failed migration would stay in force."""
STOP_SECONDS = 5.0

Connection = Any
Domain = Any
Listener = Callable[[GuestEvent | None], None]


class EventLoop:
    """Runs libvirt's event loop on a task of its own: events and keepalive come from there.

    The loop below is one per process, but several tasks may take turns at running it, so that each owner can start
    and stop its own.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._lock = runtime.mutex()
        self._task: Task | None = None
        self._timer = -1
        self._stopping = False

    def start(self) -> None:
        """Run from now on; must precede the first connection. Nothing happens if it runs."""
        with self._lock:
            if self._task is None:
                libvirt.virEventRegisterDefaultImpl()
                self._timer = libvirt.virEventAddTimeout(-1, _ignore, None)
                self._task = self._runtime.spawn("libvirt events", self._run)

    def stop(self) -> None:
        """Run no more. Connections must have been closed."""
        with self._lock:
            task, self._task, self._stopping = self._task, None, True
        if task is not None:
            libvirt.virEventUpdateTimeout(self._timer, 0)  # fires at once and so ends the wait inside the loop
            task.join(STOP_SECONDS)
            libvirt.virEventRemoveTimeout(self._timer)

    def _run(self) -> None:
        while not self._stopping:
            libvirt.virEventRunDefaultImpl()


class LibvirtHypervisor:
    """One host's libvirt, as a `Hypervisor`.

    Short calls share one connection, which also brings the events. Calls that last (start, destroy, migrate) make one
    of their own: in libvirt before 10.0 the thread that waits for the longest call also does the sending for all
    others, and a wake-up that it overlooks delays them until the next keepalive, seconds later.
    """

    def __init__(
        self, uri: str, runtime: Runtime, log: logging.Logger, connect_seconds: float = CONNECT_SECONDS
    ) -> None:
        self._uri = uri
        self._connect_seconds = connect_seconds
        self._runtime = runtime
        self._log = log
        self._lock = runtime.mutex()
        self._events = EventLoop(runtime)
        self._listeners: list[Listener] = []
        self._shared: Connection | None = None
        self._subscriptions: dict[Connection, int] = {}
        self._lending: Lending[Connection] = Lending(runtime, self._put_away)
        self._attempts = 0
        self._closed = False
        self._incoming: set[str] = set()
        libvirt.registerErrorHandler(_ignore, None)  # else libvirt prints every error to stderr as well

    def listen(self, listener: Listener) -> None:
        """See Hypervisor."""
        self._listeners.append(listener)

    def guests(self) -> Mapping[str, Guest]:
        """See Hypervisor. libvirt holds a guest back for a second or two while it ends or is handed over."""
        with self._call() as connection:
            states = connection.getAllDomainStats(
                libvirt.VIR_DOMAIN_STATS_STATE, libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_ACTIVE
            )
            found = [guest for domain, state in states if (guest := self._guest(domain, state)) is not None]
        with self._lock:
            self._incoming |= {guest.uuid for guest in found if guest.state is GuestState.INCOMING}
        return {guest.uuid: guest for guest in found}

    def look(self, uuid: str) -> Guest | None:
        """See Hypervisor."""
        try:
            with self._call() as connection:
                return self._guest(_domain(connection, uuid))
        except NoSuchGuest:
            return None

    def xml(self, uuid: str) -> str:
        """See Hypervisor."""
        with self._call() as connection:
            return str(_domain(connection, uuid).XMLDesc(0))

    def start(self, xml: str) -> None:
        """See Hypervisor."""
        with self._long_call() as connection:
            connection.createXML(xml, 0)

    def shutdown(self, uuid: str) -> None:
        """See Hypervisor."""
        with self._call() as connection:
            _domain(connection, uuid).shutdown()

    def destroy(self, uuid: str) -> None:
        """See Hypervisor."""
        with self._long_call() as connection:
            _domain(connection, uuid).destroy()

    def plug(self, uuid: str, device: str) -> None:
        """See Hypervisor."""
        with self._long_call() as connection:
            _domain(connection, uuid).attachDeviceFlags(device, libvirt.VIR_DOMAIN_AFFECT_LIVE)

    def unplug(self, uuid: str, device: str) -> None:
        """See Hypervisor. libvirt itself gives the guest five seconds before this returns."""
        with self._long_call() as connection:
            _domain(connection, uuid).detachDeviceFlags(device, libvirt.VIR_DOMAIN_AFFECT_LIVE)

    def resize_disk(self, uuid: str, target: str, size: int) -> None:
        """See Hypervisor."""
        with self._long_call() as connection:
            _domain(connection, uuid).blockResize(target, size, libvirt.VIR_DOMAIN_BLOCK_RESIZE_BYTES)

    def define_secret(self, secret: HypervisorSecret) -> None:
        """See Hypervisor."""
        with self._call() as connection:
            demand_known(secret)
            demand_free(secret, _uuid_of_use(connection, secret))
            connection.secretDefineXML(element(secret), 0).setValue(secret.value, 0)

    def secrets(self) -> frozenset[str]:
        """See Hypervisor."""
        with self._call() as connection:
            return frozenset(one.UUIDString() for one in connection.listAllSecrets(0))

    def migrate(self, uuid: str, options: MigrationOptions) -> None:
        """See Hypervisor.

        One instant is beyond libvirt: when the target's libvirtd dies after it let the guest run and before it said
        so (milliseconds), libvirt here resumes the guest as well (seen with 9.0). Only a lock manager keeps such
        twins from writing to one disk; who looks after guests must end one of them.
        """
        with self._long_call() as connection:
            domain = _domain(connection, uuid)
            downtime = DEFAULT_DOWNTIME if options.downtime is None else options.downtime
            domain.migrateSetMaxDowntime(round(downtime * 1000))
            domain.migrateToURI3(options.uri, migration_parameters(options), migration_flags(options))

    def progress(self, uuid: str) -> MigrationProgress | None:
        """See Hypervisor."""
        with self._call() as connection:
            domain = _domain(connection, uuid)
            return migration_progress(_job_statistics(domain), is_in_post_copy(*domain.state()))

    def set_downtime(self, uuid: str, seconds: float) -> None:
        """See Hypervisor."""
        with self._call() as connection:
            _domain(connection, uuid).migrateSetMaxDowntime(round(seconds * 1000))

    def switch_to_post_copy(self, uuid: str) -> None:
        """See Hypervisor."""
        with self._call() as connection:
            _domain(connection, uuid).migrateStartPostCopy()

    def abort_migration(self, uuid: str) -> None:
        """See Hypervisor."""
        with self._call() as connection:
            domain = _domain(connection, uuid)
            if job_of(_job_statistics(domain)) is not Job.OUTGOING:
                return
            try:
                domain.abortJob()
            except libvirt.libvirtError:
                if job_of(_job_statistics(domain)) is Job.OUTGOING:
                    raise

    def capacity(self) -> Capacity:
        """See Hypervisor."""
        with self._call() as connection:
            memory = connection.getMemoryStats(libvirt.VIR_NODE_MEMORY_STATS_ALL_CELLS)
            return Capacity(memory=int(memory["total"]) // 1024, cpus=int(connection.getInfo()[2]))

    def load(self) -> float:
        """See Hypervisor."""
        return os.getloadavg()[0]

    def close(self) -> None:
        """See Hypervisor. Every later call raises HypervisorGone."""
        with self._lock:
            self._closed = True
            shared, self._shared = self._shared, None
        if shared is not None:
            self._lending.retire(shared)
        self._lending.clear()
        self._events.stop()

    @contextmanager
    def _call(self) -> Iterator[Connection]:
        """The shared connection, and the translation of what it raises."""
        connection = self._connected()
        while not self._lending.lend(connection):  # it broke at this very moment
            connection = self._connected()
        try:
            yield connection
        except libvirt.libvirtError as error:
            raise self._translated(error, connection) from error
        finally:
            self._lending.give_back(connection)

    @contextmanager
    def _long_call(self) -> Iterator[Connection]:
        """A connection for one call that lasts."""
        self._connected()  # events are wanted meanwhile
        connection = self._open()
        try:
            yield connection
        except libvirt.libvirtError as error:
            raise self._translated(error, connection) from error
        finally:
            with suppress(libvirt.libvirtError):
                connection.close()

    def _connected(self) -> Connection:
        with self._lock:
            if self._shared is not None:
                return self._shared
        self._lending.clear()
        return self._share(self._open())

    def _share(self, connection: Connection) -> Connection:
        """Make this the shared connection, unless another thread was faster."""
        try:
            subscription = connection.domainEventRegisterAny(
                None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._happened, None
            )
            connection.registerCloseCallback(self._connection_closed, None)
        except libvirt.libvirtError as error:
            raise self._translated(error, connection) from error
        self._lending.offer(connection)
        with self._lock:
            self._subscriptions[connection] = subscription
            winner, closed = self._shared, self._closed
            if winner is None and not closed:
                self._shared = connection
        if winner is not None or closed:
            self._lending.retire(connection)
        if closed:
            self._lending.clear()
            raise HypervisorGone("the connection to libvirt was closed")
        if winner is None:
            self._log.info("libvirt: connected to %s", self._uri)
            self._tell(None)
        return winner or connection

    def _open(self) -> Connection:
        """A new connection, made in time; one that comes later is closed again."""
        with self._lock:
            if self._closed:
                raise HypervisorGone("the connection to libvirt was closed")
            if self._attempts >= MOST_ATTEMPTS:
                raise HypervisorGone(f"libvirt at {self._uri} hangs; restart libvirtd on this node")
            self._attempts += 1
        self._events.start()
        attempt = _Attempt(self._uri, self._runtime)
        self._runtime.spawn("libvirt connect", partial(self._attempt, attempt))
        return attempt.wait(self._connect_seconds)

    def _attempt(self, attempt: "_Attempt") -> None:
        try:
            attempt.run()
        finally:
            with self._lock:
                self._attempts -= 1

    def _translated(self, error: libvirt.libvirtError, connection: Connection) -> HypervisorError:
        said = error.get_error_message() or str(error)
        if not connection.isAlive():
            self._lost(connection)
            return HypervisorGone(f"the connection to libvirt at {self._uri} broke: {said}; is libvirtd running?")
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return NoSuchGuest(f"libvirt has no such guest: {said}")
        return HypervisorError(f"libvirt: {said}; the log of libvirtd on this node may say more")

    def _connection_closed(self, connection: Connection, reason: int, _: object) -> None:
        self._lost(connection)

    def _lost(self, connection: Connection) -> None:
        """Take the shared connection out of use; it is freed later, as this may run inside its own callback."""
        with self._lock:
            if self._shared is not connection:
                return
            self._shared = None
        self._lending.retire(connection)
        self._log.warning("libvirt: lost the connection to %s", self._uri)
        self._tell(None)

    def _put_away(self, connection: Connection) -> None:
        with self._lock:
            subscription = self._subscriptions.pop(connection)
        for release in (
            connection.unregisterCloseCallback,
            partial(connection.domainEventDeregisterAny, subscription),
            connection.close,
        ):
            with suppress(libvirt.libvirtError):
                release()

    def _guest(self, domain: Domain, known: Mapping[str, int] | None = None) -> Guest | None:
        """What the domain is like; None if it has ended meanwhile. `known`: its state, just asked for."""
        try:
            state, reason = (known["state.state"], known["state.reason"]) if known else domain.state()
            job = job_of(_job_statistics(domain))
        except libvirt.libvirtError as error:
            if error.get_error_code() in (libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_OPERATION_INVALID):
                return None
            if error.get_error_code() != libvirt.VIR_ERR_OPERATION_TIMEOUT:
                raise
            job = Job.NONE  # somebody else's long job on it, such as a start that fills memory
        seen = guest_state(state, reason, job)
        if seen is None:
            return None
        return Guest(
            domain.UUIDString(),
            domain.name(),
            seen,
            moving=job is Job.OUTGOING,
            filling=is_filling(state, reason),
            halted=is_halted(state, reason),
        )

    def _happened(self, connection: Connection, domain: Domain, event: int, detail: int, _: object) -> None:
        uuid = domain.UUIDString()
        with self._lock:
            arriving = uuid in self._incoming
            if (event, detail) == (DomainEvent.STARTED, StartDetail.MIGRATED):
                self._incoming.add(uuid)
            elif event in (DomainEvent.RESUMED, DomainEvent.STOPPED):
                self._incoming.discard(uuid)
        self._tell(GuestEvent(uuid, end_reason(event, detail, arriving)))

    def _tell(self, event: GuestEvent | None) -> None:
        for listener in tuple(self._listeners):
            listener(event)


class _Attempt:
    """One attempt to connect, on a task of its own because nothing can interrupt it."""

    def __init__(self, uri: str, runtime: Runtime) -> None:
        self._uri = uri
        self._lock = runtime.mutex()
        self._done = runtime.signal()
        self._connection: Connection | None = None
        self._said = "no answer in time"
        self._given_up = False

    def run(self) -> None:
        try:
            connection = libvirt.open(self._uri)
            connection.setKeepAlive(KEEPALIVE_SECONDS, KEEPALIVE_COUNT)
        except libvirt.libvirtError as error:
            self._said = error.get_error_message() or str(error)
            self._done.set()
            return
        with self._lock:
            self._connection = connection
            late = self._given_up
        if late:
            connection.close()
        self._done.set()

    def wait(self, timeout: float) -> Connection:
        """The connection. Raises HypervisorGone if there is none in time."""
        self._done.wait(timeout)
        with self._lock:
            self._given_up = self._connection is None
        if self._connection is None:
            raise HypervisorGone(f"cannot connect to libvirt at {self._uri}: {self._said}; is libvirtd running?")
        return self._connection


def _job_statistics(domain: Domain) -> Mapping[str, int] | None:
    """libvirt's statistics of the job on a domain; None: it is the receiving side of a migration, which has none."""
    try:
        statistics: Mapping[str, int] = domain.jobStats()
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_OPERATION_UNSUPPORTED:
            return None
        raise
    return statistics


def _domain(connection: Connection, uuid: str) -> Domain:
    """The domain, if it is active. Raises libvirtError otherwise."""
    return connection.lookupByUUIDString(uuid)


def _uuid_of_use(connection: Connection, secret: HypervisorSecret) -> str | None:
    """The secret that libvirt knows for the same use; None: there is none. Raises libvirtError."""
    try:
        return str(connection.secretLookupByUsage(USAGES[secret.usage].number, secret.name).UUIDString())
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_SECRET:
            return None
        raise


def _ignore(*_: object) -> None:
    """Takes whatever libvirt calls back with."""
