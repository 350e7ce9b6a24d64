"""What clients ask of pools: each request is one transaction, repeated if somebody was faster."""

from collections.abc import Callable, Mapping, Sequence

from pvc.core.coordination import Coordinator, Delete, Op, Put
from pvc.core.errors import PvcError
from pvc.core.storage import Pool
from pvc.plugins.storage import keys
from pvc.plugins.storage.decide.pooloptions import same_place, why_no_pool
from pvc.plugins.storage.records import Task, TaskKind, in_hand, read_pools
from pvc.plugins.storage.requests.asking import Client, ask, committed, make_places, named_worker, worker
from pvc.plugins.storage.requests.changing import demand_name
from pvc.plugins.storage.requests.ledger import Refused, all_users, find_pool, read_workers, unattended

LostConsent = Callable[[str, Sequence[str]], None]
"""Asked before a pool of that backend goes with these volumes; raises if the answer is no."""


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


def remove_lost(client: Client, name: str, consent: LostConsent) -> None:
    """Forget a pool that no node can use, with all its volumes; tasks in it end as failed, as they find no volume.

    Raises Refused if a living node can use it or a VM has a volume of it, NotFound, Disconnected.
    """
    coordinator, volumes = client.coordinator, keys.volumes(name)

    def attempt() -> tuple[None, Sequence[Op]]:
        version, pool = _pools_version(coordinator), find_pool(coordinator, name)
        if why := _why_not_lost(coordinator, name):
            raise Refused(f"{why}; remove its volumes, then the pool")
        guards = _demand_unused(coordinator, name)
        doomed = _tree(coordinator, keys.pool(name))
        consent(pool.backend, [path.removeprefix(f"{volumes}/") for path in doomed if path.startswith(f"{volumes}/")])
        return None, [Put(keys.POOLS, b"", version), *guards, *map(Delete, doomed)]

    committed(coordinator, attempt)


def demand_empty(client: Client, name: str) -> Pool:
    """The pool. Raises Refused if it has volumes or something is under way in it, NotFound, Disconnected."""
    pool = find_pool(client.coordinator, name)
    if known := client.coordinator.children(keys.volumes(name)) or ():
        lost = not _why_not_lost(client.coordinator, name)
        raise Refused(
            f"pool {name} has {len(known)} volumes, such as {known[0]}; remove them first,"
            f" `pvc storage volume list {name}` shows them"
            + ("; no node can use it: if its storage is gone for good, --lost forgets them all" if lost else "")
        )
    if busy := [task for task in in_hand(client.coordinator) if task.pool == name]:
        raise Refused(f"pool {name} is busy: {busy[0].kind.value}; `pvc storage task watch {busy[0].id}` follows it")
    return pool


def _why_not_lost(coordinator: Coordinator, name: str) -> str:
    """Why the storage of a pool may not be gone; empty: every living node says that it cannot use it."""
    for one in read_workers(coordinator, ()):
        state = one.pools.get(name)
        if one.alive and state is None:
            return f"node {one.name} has not looked at pool {name} yet"
        if state is not None and not state.problem:
            return f"node {one.name} can use pool {name}"
    return ""


def _demand_unused(coordinator: Coordinator, name: str) -> Sequence[Op]:
    """Raise Refused if a VM has a volume of a pool; what makes the transaction fail if one gets it meanwhile."""
    guards = unattended(coordinator, for_good=True)
    for (pool, volume), vms in sorted(all_users(coordinator).items()):
        if pool == name:
            raise Refused(
                f"volume {name}/{volume} is a disk of VM {vms[0].name}; take it from there first, with `pvc vm disk"
                " remove`, or undefine the VM"
            )
    return guards


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
