"""Looks at each pool of the tree in a job of its own: one whose storage hangs delays nothing else. Changes nothing."""

from collections.abc import Collection, Mapping
from functools import partial
from typing import Any

from pvc.core.context import Context
from pvc.core.mirror import Mirror
from pvc.core.model import Finding
from pvc.core.runtime import Signal
from pvc.core.service import Jobs
from pvc.core.storage import Pool, Room
from pvc.plugins.storage.backends import Backends
from pvc.plugins.storage.decide.pools import PoolState, findings, published, state_of
from pvc.plugins.storage.records import read_pools
from pvc.plugins.storage.schema import Settings

LATE = 1.0
"""Seconds to the next try while this daemon does not hold its node's name."""
GARBAGE = "its record cannot be read; look at it with zkCli.sh and repair or delete it"


class PoolWatch:
    """Service `storage-pools`."""

    name = "storage-pools"
    after: tuple[str, ...] = ("liveness",)

    def __init__(self, context: Context, backends: Backends, settings: Settings) -> None:
        self.wake: Signal = context.runtime.signal()
        self._context = context
        self._runtime = context.runtime
        self._backends = backends
        self._settings = settings
        self._mirror = Mirror(context.coordinator, context.runtime, self.wake)
        self._jobs = Jobs(context.runtime, self.wake)
        self._looking: dict[str, Pool] = {}
        """What the jobs look at, by their keys."""
        self._answers: dict[str, Room] = {}
        self._addresses: dict[str, tuple[str, ...]] = {}
        """As which the storage of a pool sees this node, by the names of pools. Just when a pool cannot be used this
        must be known to others, who may have to keep this node out of it."""
        self._begun: dict[str, float] = {}
        self._states: dict[str, PoolState] = {}
        self._followers: list[Signal] = []

    def follow(self, follower: Signal) -> None:
        """Set that signal whenever the state of a pool is another one."""
        self._followers.append(follower)

    def usable(self) -> Collection[str]:
        """The pools that this node can use. From any thread."""
        return {name for name, state in self._states.items() if not state.problem}

    def step(self) -> float:
        ended = {end.key: end.error for end in self._jobs.ended()}
        if not self._context.registered():
            return LATE
        pools = read_pools(self._mirror)
        states = {name: self._states[name] for name in pools if name in self._states}
        for key, error in ended.items():
            pool = self._looking.pop(key)
            if pools.get(pool.name) == pool:
                states[pool.name] = self._state(pool.name, self._answers[key] if error is None else str(error))
        now = self._runtime.monotonic()
        pauses = [self._attend(name, pool, now, states) for name, pool in pools.items()]
        if states != self._states:
            self._note(states)
            self._states = states
            self._context.refresh_facts()
            for follower in self._followers:
                follower.set()
        return min(pauses, default=60.0)

    def stop(self) -> None:
        """A look that hangs is left to itself: it holds nothing that anybody waits for."""

    def facts(self) -> Mapping[str, Any]:
        """What the node publishes; nothing of a pool before its first look has ended."""
        return published(self._states)

    def findings(self) -> list[Finding]:
        """What is wrong with the pools."""
        return findings(self._states, self._settings.nearly_full)

    def _attend(self, name: str, pool: Pool | None, now: float, states: dict[str, PoolState]) -> float:
        """Begin the next look at a pool if it is due; the seconds until something is due again."""
        if pool is None:
            states[name] = state_of(GARBAGE)
            return self._settings.interval
        key, deadline = f"look at pool {name} of {pool.created}", self._deadline(pool)
        if self._jobs.running(key):
            left = self._begun[key] + deadline - now
            if left > 0:
                return left
            why = f"it does not answer within {deadline:g} s; look at the storage and the way to it"
            states[name] = self._state(name, why)
            return self._settings.interval
        due = self._begun.get(key, now - self._settings.interval) + self._settings.interval
        if due > now:
            return due - now
        self._begun[key] = now
        self._looking[key] = pool
        self._jobs.start(key, partial(self._look, key, pool))
        return deadline

    def _deadline(self, pool: Pool) -> float:
        """Ceph is slower than a directory when it changes, and has a deadline of its own."""
        return self._settings.ceph.deadline if pool.backend == "ceph" else self._settings.deadline

    def _look(self, key: str, pool: Pool) -> None:
        backend = self._backends.get(pool)
        before = self._addresses.get(pool.name, ())
        now = tuple(backend.addresses())  # by the way that there is: while one is cut, another one
        self._addresses[pool.name] = tuple(dict.fromkeys([*before, *now]))
        self._answers[key] = backend.look()
        self._addresses[pool.name] = now

    def _state(self, name: str, look: Room | str) -> PoolState:
        return state_of(look, self._addresses.get(name, ()))

    def _note(self, states: Mapping[str, PoolState]) -> None:
        for name, state in states.items():
            before = self._states.get(name)
            if before is None or before.problem != state.problem:
                self._context.log.info("pool %s: %s", name, state.problem or "can be used")
