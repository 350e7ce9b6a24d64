"""Which node is asked to do something with a pool."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pvc.plugins.storage.decide.pools import PoolState, why_not_usable


@dataclass(frozen=True, slots=True)
class Worker:
    """A node with the storage role, as far as that matters here."""

    name: str
    alive: bool = True
    ready: bool = True
    """It is in service: nobody is about to switch it off."""
    busy: int = 0
    """How many tasks it has in hand."""
    pools: Mapping[str, PoolState] = field(default_factory=dict)
    """What it publishes of pools, by name."""


def why_not(worker: Worker, pool: str | None) -> str:
    """Why a node cannot work on a pool (None: on one that is yet to be made), as a phrase; empty: it can."""
    if not worker.alive:
        return "is dead"
    return "" if pool is None else why_not_usable(pool, worker.pools)


def suits(worker: Worker, pool: str | None) -> bool:
    """Whether a node is in service and can work on the pool: if it is somebody's own, the others do not matter."""
    return worker.ready and not why_not(worker, pool)


def choose(workers: Iterable[Worker], pool: str | None, own: str) -> Worker | None:
    """The node to ask: one in service, then `own`, then the least busy, then by name; None: there is none."""
    able = [worker for worker in workers if not why_not(worker, pool)]
    return min(able, key=lambda one: (not one.ready, one.name != own, one.busy, one.name), default=None)


def why_none(workers: Sequence[Worker], pool: str | None) -> str:
    """Why no node can be asked, each with its reason, and what to do."""
    if not workers:
        return "no node has the storage role; switch it on (`roles: {storage: true}` in pvc.yaml) where the storage is"
    reasons = "; ".join(f"{worker.name} {why_not(worker, pool)}" for worker in workers)
    what = "work on the storage" if pool is None else f"use pool {pool}"
    return f"no node can {what} now: {reasons}; mend one of them and ask again"
