"""The record of a rolling maintenance, and how one client at a time writes it. Knows nothing of what a roll does.

`/roll` is persistent: it outlives every client. `/roll/driver` is ephemeral: it says which client drives the roll, and
dies with its session. Every write names the version read, so a client whose place was taken cannot write once more.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import TypeVar

from pvc.core import keys
from pvc.core.coordination import Check, Clash, Conflict, Coordinator, Create, Delete, Disconnected, Op, Put, Znode
from pvc.core.errors import PvcError
from pvc.core.model import NodeSession
from pvc.core.records import decode, encode
from pvc.core.runtime import Runtime
from pvc.core.waiting import wait_for

T = TypeVar("T")

PATIENCE = 600.0
"""Seconds that a roll waits for ZooKeeper: one of its servers may be on the node that has just been rebooted."""


class RollState(Enum):
    """How far a roll is with one node.

    WAITING -> FLUSHING -> FLUSHED -> RUNNING -> RAN -> UNFLUSHING -> DONE. Back only when somebody resumes a roll that
    has stopped: to what must be done again.
    """

    WAITING = "waiting"
    """Nothing has been done."""
    FLUSHING = "flushing"
    """Its flush was asked for."""
    FLUSHED = "flushed"
    """It is empty, and the command has not begun."""
    RUNNING = "running"
    """The command was begun (or the pause): unless it is known how it ended, nobody can tell how far it came."""
    RAN = "ran"
    """The command ended well; the node is still out of service."""
    UNFLUSHING = "unflushing"
    """Its unflush was asked for."""
    DONE = "done"
    """Back in service."""


@dataclass(frozen=True, slots=True)
class RollNode:
    """How far a roll is with one node, as far as is recorded."""

    name: str
    state: RollState = RollState.WAITING
    since: float = 0.0
    """When it came to this state, in seconds since the epoch."""
    operation: str | None = None
    """Id of the flush or unflush that was asked for."""
    before: NodeSession | None = None
    """The node's daemon when the command began; None: there was none."""
    code: int | None = None
    """While RUNNING: how the command ended, if it is known."""
    why: str = ""
    """Why the roll has stopped here; empty: it has not."""


@dataclass(frozen=True, slots=True)
class RollOptions:
    """What is done with each node of a roll, and how."""

    command: str | None = None
    """For `/bin/sh -c` on the client; None: wait for a person."""
    reason: str = ""
    parallel: int | None = None
    """Moves at a time; None: as the node is configured."""
    deadline: float = 86400.0
    """Seconds that one flush or unflush may take."""
    health_timeout: float = 1800.0
    """Seconds that a node may take to be well again after the command."""
    settle: float = 15.0
    """Seconds that a node must be well without a break before it is taken back."""
    reboots: bool = False
    """The command reboots the node: it is not well before it has."""
    force: bool = False
    """Go on although other nodes are out of service."""


@dataclass(frozen=True, slots=True)
class Roll:
    """A rolling maintenance from its beginning to its end."""

    id: str
    by: str
    began: float
    """Seconds since the epoch."""
    options: RollOptions
    nodes: tuple[RollNode, ...]
    """In their order."""


@dataclass(frozen=True, slots=True)
class Driver:
    """The client that drives a roll."""

    by: str
    pid: int


class RollExists(PvcError):
    """The cluster has an unfinished roll."""

    def __init__(self) -> None:
        super().__init__("another roll has just begun; `pvc status` shows it")


class RollTaken(PvcError):
    """This client does not drive the roll any more, or never did."""


def read_roll(coordinator: Coordinator) -> tuple[Roll, Znode] | None:
    """The unfinished roll, if there is one. Raises Garbage, Disconnected."""
    znode = coordinator.get(keys.roll())
    return None if znode is None else (decode(Roll, znode.data, keys.roll()), znode)


def read_driver(coordinator: Coordinator) -> tuple[Driver, Znode] | None:
    """The client that drives the roll, if one does. Raises Garbage, Disconnected."""
    znode = coordinator.get(keys.roll_driver())
    return None if znode is None else (decode(Driver, znode.data, keys.roll_driver()), znode)


def patiently(coordinator: Coordinator, runtime: Runtime, read: Callable[[], T]) -> T:
    """What `read` answers, waiting for ZooKeeper if need be. Raises Disconnected after PATIENCE seconds."""
    try:
        return read()
    except Disconnected:
        found = wait_for(coordinator, runtime, lambda _mirror: (read(),), PATIENCE)
    if found is None:
        raise Disconnected(f"no ZooKeeper server has answered for {PATIENCE:g} s; check that its servers run")
    return found[0]


def forget_roll(coordinator: Coordinator, znode: Znode) -> None:
    """Remove the roll that was read. Raises RollTaken if somebody drives it or has changed it since, Disconnected."""
    try:
        coordinator.commit([Delete(keys.roll(), znode.version)])
    except Conflict as conflict:
        raise RollTaken("somebody has changed the roll or goes on with it; look again with `pvc status`") from conflict


class HeldRoll:
    """The roll as this client drives it: good for nothing before `begin` or `take`."""

    def __init__(self, coordinator: Coordinator, runtime: Runtime, driver: Driver) -> None:
        self._coordinator = coordinator
        self._runtime = runtime
        self._driver = driver
        self._roll: Roll | None = None
        self._version = 0

    @property
    def roll(self) -> Roll:
        """As last written."""
        assert self._roll is not None
        return self._roll

    def begin(self, roll: Roll) -> None:
        """Make the record. Raises RollExists, Disconnected."""
        driver = Create(keys.roll_driver(), encode(self._driver), ephemeral=True)
        try:
            self._coordinator.commit([Create(keys.roll(), encode(roll)), driver])
        except Conflict as conflict:
            raise RollExists from conflict
        self._roll = roll

    def take(self, roll: Roll, version: int, new: Roll) -> None:
        """Drive a roll that was read at a version, and write it anew. Raises RollTaken, Disconnected."""
        self._roll, self._version = roll, version
        self.write(new)

    def write(self, new: Roll, along: Sequence[Op] = ()) -> None:
        """Write the roll and do `along` in the same transaction. An answer that is lost is found out, not guessed.

        Raises RollTaken if somebody else drives or has removed the roll, Conflict if one of `along` was refused,
        Disconnected if ZooKeeper stays away for PATIENCE seconds.
        """
        if not self._try(new, along):
            while not patiently(self._coordinator, self._runtime, lambda: self._is_written(new)):
                if self._try(new, along):
                    break
        self._roll = new
        self._version += 1

    def put(self, entry: RollNode, along: Sequence[Op] = ()) -> None:
        """Write one node's entry, and `along`; raises what `write` raises."""
        nodes = tuple(entry if known.name == entry.name else known for known in self.roll.nodes)
        self.write(replace(self.roll, nodes=nodes), along)

    def entry(self, name: str) -> RollNode:
        """A node's entry as last written."""
        return next(entry for entry in self.roll.nodes if entry.name == name)

    def end(self) -> None:
        """Remove the record: the roll is over. Raises RollTaken, Disconnected."""
        while True:
            try:
                self._coordinator.commit([Delete(keys.roll_driver()), Delete(keys.roll(), self._version)])
                return
            except Disconnected:
                found = patiently(self._coordinator, self._runtime, lambda: read_roll(self._coordinator))
                if found is None or found[0].id != self.roll.id:
                    return  # the answer was lost, the transaction was not
            except Conflict as conflict:
                if conflict.clash is not Clash.MISSING or conflict.op.path != keys.roll_driver():
                    raise RollTaken(_TAKEN) from conflict
            self.write(self.roll)  # the session was lost: drive it again

    def _try(self, new: Roll, along: Sequence[Op]) -> bool:
        """Whether it is written; False: find out."""
        try:
            self._coordinator.commit([self._claim(), Put(keys.roll(), encode(new), self._version), *along])
            return True
        except Disconnected:
            return False
        except Conflict as conflict:
            if any(conflict.op is op for op in along):
                raise
            if conflict.op.path == keys.roll_driver():
                return False  # it came or went between our look and our write: look again
            raise RollTaken(_TAKEN) from conflict

    def _claim(self) -> Op:
        """What makes a transaction ours: we drive, or nobody does and we begin to. Raises RollTaken."""
        found = read_driver(self._coordinator)
        if found is None:
            self._demand_same_roll()
            return Create(keys.roll_driver(), encode(self._driver), ephemeral=True)
        driver, znode = found
        if znode.owner != self._coordinator.session_id:
            raise RollTaken(f"the roll is driven by {driver.by}, process {driver.pid}; end that client first")
        return Check(keys.roll_driver(), znode.version)

    def _demand_same_roll(self) -> None:
        """Our session was lost: a later roll that has come to the same version must not be taken for ours."""
        found = read_roll(self._coordinator)
        if found is None or found[0].id != self.roll.id:
            raise RollTaken(_TAKEN)

    def _is_written(self, new: Roll) -> bool:
        """Whether a write whose answer was lost was done. Raises RollTaken if somebody else has written."""
        znode = self._coordinator.get(keys.roll())
        if znode is not None and znode.version == self._version:
            return False
        if znode is None or znode.version != self._version + 1 or znode.data != encode(new):
            raise RollTaken(_TAKEN)
        return True


_TAKEN = "somebody else goes on with this roll or has removed it; look at it with `pvc status`"
