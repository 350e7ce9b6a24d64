"""Pools, volumes and tasks as listings show them."""

from collections.abc import Mapping, Sequence
from typing import Any

from pvc.core import keys as core
from pvc.core.commands import Moment, Size
from pvc.core.coordination import Coordinator
from pvc.core.model import Vm, VmActual
from pvc.core.records import Garbage, decode
from pvc.core.storage import Pool
from pvc.plugins.storage import keys
from pvc.plugins.storage.decide.tasktexts import described, standing
from pvc.plugins.storage.decide.workers import Worker, why_not
from pvc.plugins.storage.records import ENDED, Task, Volume, in_hand, read_pools, read_volumes
from pvc.plugins.storage.requests.ledger import all_users, clones, read_nodes, read_workers, users
from pvc.plugins.storage.schema import SECTION

POOL_COLUMNS = ("name", "backend", "total", "free", "used_percent", "volumes", "usable_on", "not_on")
VOLUME_COLUMNS = ("pool", "name", "size", "format", "state", "snapshots", "parent", "vms", "task")
TASK_COLUMNS = ("id", "what", "node", "phase", "standing", "by", "requested")


def pool_rows(coordinator: Coordinator) -> tuple[list[dict[str, Any]], list[str]]:
    """All pools, and the names of those whose record cannot be read. Raises Disconnected."""
    pools = read_pools(coordinator)
    workers = read_workers(coordinator, ())
    rows = [_pool_row(coordinator, pool, workers) for pool in pools.values() if pool is not None]
    return rows, [name for name, pool in pools.items() if pool is None]


def pool_fields(coordinator: Coordinator, pool: Pool) -> dict[str, Any]:
    """Everything about one pool. Raises Disconnected."""
    workers = read_workers(coordinator, ())
    row = _pool_row(coordinator, pool, workers)
    sizes = [one.size for one in read_volumes(coordinator, pool.name).values() if one is not None]
    return {
        **{key: value for key, value in row.items() if key not in ("usable_on", "not_on")},
        "promised": Size(sum(sizes)),
        "options": dict(pool.options),
        "created": Moment(pool.created),
        "by": pool.by or None,
        "tasks": [_brief(task) for task in in_hand(coordinator) if task.pool == pool.name],
        "nodes": [{"node": worker.name, **_seen(worker, pool.name)} for worker in workers],
    }


def volume_rows(coordinator: Coordinator, pool: str | None) -> tuple[list[dict[str, Any]], list[str]]:
    """The volumes of one pool (None: of all), and those whose record cannot be read. Raises Disconnected."""
    rows: list[dict[str, Any]] = []
    lost: list[str] = []
    used_by = all_users(coordinator)
    for name in coordinator.children(keys.POOLS) or () if pool is None else (pool,):
        for volume_name, volume in read_volumes(coordinator, name).items():
            if volume is None:
                lost.append(f"{name}/{volume_name}")
                continue
            rows.append(_volume_row(name, volume, used_by.get((name, volume_name), ())))
    return rows, lost


def volume_fields(coordinator: Coordinator, pool: str, volume: Volume) -> dict[str, Any]:
    """Everything about one volume. Raises Disconnected."""
    row = _volume_row(pool, volume, ())
    vms = users(coordinator, pool, volume.name)
    snapshots = [
        {"name": one.name, "created": Moment(one.created), "size": Size(one.size), "protected": one.protected}
        for one in volume.snapshots
    ]
    return {
        **{key: value for key, value in row.items() if key not in ("vms", "snapshots", "task")},
        "created": Moment(volume.created),
        "by": volume.by or None,
        "clones": clones(coordinator, pool, volume.name),
        "tasks": [
            _brief(task)
            for task in in_hand(coordinator)
            if task.pool == pool and volume.name in (task.volume, task.new)
        ],
        "snapshots": snapshots,
        "vms": [{"vm": vm.name, **_whereabouts(coordinator, vm)} for vm in vms],
    }


def task_fields(task: Task) -> dict[str, Any]:
    """One task."""
    return {
        "id": task.id,
        "what": described(task),
        "kind": task.kind,
        "pool": task.pool or None,
        "volume": task.volume or None,
        "node": task.node,
        "bound": task.bound,
        "phase": task.phase,
        "standing": (task.message if task.phase in ENDED else standing(task)) or None,
        "done": task.done,
        "total": task.total,
        "by": task.by,
        "requested": Moment(task.requested),
        "began": None if task.began is None else Moment(task.began),
        "finished": None if task.finished is None else Moment(task.finished),
    }


def finding_rows(coordinator: Coordinator) -> list[dict[str, Any]]:
    """What nodes that are alive report of the storage. Raises Disconnected."""
    return [
        {"node": node.name, "severity": finding.severity, "text": finding.text}
        for node, facts in read_nodes(coordinator)
        for finding in (() if facts is None else facts.findings)
        if finding.source == SECTION
    ]


def _pool_row(coordinator: Coordinator, pool: Pool, workers: Sequence[Worker]) -> dict[str, Any]:
    able = [worker for worker in workers if not why_not(worker, pool.name)]
    state = able[0].pools[pool.name] if able else None
    known = state is not None and state.total
    return {
        "name": pool.name,
        "backend": pool.backend,
        "total": Size(state.total) if state is not None and known else None,
        "free": Size(state.free) if state is not None and known else None,
        "used_percent": 100 * (state.total - state.free) // state.total if state is not None and known else None,
        "volumes": len(coordinator.children(keys.volumes(pool.name)) or ()),
        "usable_on": [worker.name for worker in able],
        "not_on": [f"{worker.name}: {why}" for worker in workers if (why := why_not(worker, pool.name))],
    }


def _seen(worker: Worker, pool: str) -> Mapping[str, Any]:
    state = worker.pools.get(pool)
    return {
        "total": Size(state.total) if state is not None and state.total else None,
        "free": Size(state.free) if state is not None and state.total else None,
        "warning": (state.warning if state is not None else "") or None,
        "problem": why_not(worker, pool) or None,
    }


def _volume_row(pool: str, volume: Volume, vms: Sequence[Vm]) -> dict[str, Any]:
    return {
        "pool": pool,
        "name": volume.name,
        "size": Size(volume.size) if volume.size else None,
        "format": volume.format,
        "state": volume.state,
        "snapshots": len(volume.snapshots),
        "parent": volume.parent or None,
        "vms": [vm.name for vm in vms],
        "task": volume.task,
    }


def _brief(task: Task) -> dict[str, Any]:
    return {"id": task.id, "what": described(task), "node": task.node, "standing": standing(task)}


def _whereabouts(coordinator: Coordinator, vm: Vm) -> dict[str, Any]:
    path = core.vm_actual(vm.uuid)
    znode = coordinator.get(path)
    try:
        actual = VmActual() if znode is None else decode(VmActual, znode.data, path)
    except Garbage:
        return {"state": None, "node": None}
    return {"state": actual.state, "node": actual.node}
