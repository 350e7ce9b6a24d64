"""What clients ask of pools: each request is one transaction, repeated if somebody was faster."""

from collections.abc import Mapping, Sequence

from pvc.core.coordination import Coordinator, Delete, Op, Put
from pvc.core.errors import PvcError
from pvc.core.storage import Pool
from pvc.plugins.storage import keys
from pvc.plugins.storage.decide.pooloptions import same_place, why_no_pool
from pvc.plugins.storage.records import Task, TaskKind, in_hand, read_pools
from pvc.plugins.storage.requests.asking import Client, ask, committed, make_places, named_worker, worker
from pvc.plugins.storage.requests.changing import demand_name
from pvc.plugins.storage.requests.ledger import Refused, find_pool, read_workers


def add(client: Client, name: str, backend: str, options: Mapping[str, str], node: str | None = None) -> Task:
    """Make a pool, once a node (None: any) has seen that it can be used. Raises Refused, NotFound, Disconnected."""
    demand_name("pool", name)
    make_places(client.coordinator)
    proposed = Pool(name, backend, dict(options), client.runtime.now(), client.by)
    if why := why_no_pool(proposed):
        raise Refused(why)

    def attempt() -> tuple[Task, Sequence[Op]]:
        version = _pools_version(client.coordinator)
        tasks = in_hand(client.coordinator)
        _demand_new(client.coordinator, proposed, tasks)
        workers = read_workers(client.coordinator, tasks)
        whose = worker(client, workers, None) if node is None else named_worker(workers, node)
        task = client.new_task(TaskKind.ADD_POOL, whose, pool=name, proposed=proposed)
        return task, [Put(keys.POOLS, b"", version)]

    return ask(client, attempt)


def remove(client: Client, name: str) -> Pool:
    """Forget a pool that has no volume; its data stays where it is. Raises Refused, NotFound, Disconnected."""

    def attempt() -> tuple[Pool, Sequence[Op]]:
        version = _pools_version(client.coordinator)
        pool = demand_empty(client, name)
        doomed = _tree(client.coordinator, keys.pool(name))
        return pool, [Put(keys.POOLS, b"", version), *map(Delete, doomed)]

    return committed(client.coordinator, attempt)


def demand_empty(client: Client, name: str) -> Pool:
    """The pool. Raises Refused if it has volumes or something is under way in it, NotFound, Disconnected."""
    pool = find_pool(client.coordinator, name)
    if known := client.coordinator.children(keys.volumes(name)) or ():
        raise Refused(
            f"pool {name} has {len(known)} volumes, such as {known[0]}; remove them first,"
            f" `pvc storage volume list {name}` shows them"
        )
    if busy := [task for task in in_hand(client.coordinator) if task.pool == name]:
        raise Refused(f"pool {name} is busy: {busy[0].kind.value}; `pvc storage task watch {busy[0].id}` follows it")
    return pool


def _demand_new(coordinator: Coordinator, proposed: Pool, tasks: Sequence[Task]) -> None:
    known = read_pools(coordinator)
    if proposed.name in known:
        raise Refused(f"there is a pool {proposed.name} already; `pvc storage pool info {proposed.name}` shows it")
    coming = [task.proposed for task in tasks if task.proposed is not None]
    if any(one.name == proposed.name for one in coming):
        raise Refused(f"somebody makes a pool {proposed.name} already; `pvc storage task list` shows who")
    if lost := [name for name, pool in known.items() if pool is None]:
        raise Refused(f"the record of pool {', '.join(lost)} cannot be read: repair it with zkCli.sh first")
    other = same_place(proposed, [*[pool for pool in known.values() if pool is not None], *coming])
    if other is not None:
        raise Refused(f"pool {other.name} is at that place already; use that one, or say another place")


def _pools_version(coordinator: Coordinator) -> int:
    znode = coordinator.get(keys.POOLS)
    if znode is None:
        raise PvcError("there are no pools; `pvc storage pool add` makes the first one")
    return znode.version


def _tree(coordinator: Coordinator, path: str) -> list[str]:
    """A node of the tree and all below it, children first."""
    below = [part for name in coordinator.children(path) or () for part in _tree(coordinator, f"{path}/{name}")]
    return [*below, path]
