"""A pool as a client sees it in the tree before it asks for something: what there is, and what is under way.

Versions are read before the tasks, so that whoever asked in between is either seen or makes the transaction fail.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from pvc.core import keys as core
from pvc.core.coordination import Check, Coordinator, Op, Put, Znode
from pvc.core.errors import PvcError
from pvc.core.lookup import NotFound, nearest
from pvc.core.model import ActualState, Node, NodeFacts, NodeState, Vm, VmActual, VmState
from pvc.core.records import Garbage, decode, encode
from pvc.core.storage import Pool
from pvc.plugins.storage import keys
from pvc.plugins.storage.decide.attachment import needed_volumes, volumes_of
from pvc.plugins.storage.decide.leftovers import why_not_whole
from pvc.plugins.storage.decide.names import is_text
from pvc.plugins.storage.decide.pools import published_in
from pvc.plugins.storage.decide.workers import Worker, suits
from pvc.plugins.storage.records import Snapshot, Task, Volume, decoded, read_volumes
from pvc.plugins.storage.schema import SECTION

IDLE = frozenset({ActualState.STOPPED, ActualState.FAILED})
"""A VM in these states has no disk open, and has to change its record before it has."""


class Refused(PvcError):
    """The request makes no sense beside what there is; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Found:
    """A volume as it was read."""

    volume: Volume
    version: int

    def busy_with(self, task: str, pool: str) -> Op:
        """What notes in its record that a task changes it."""
        return Put(keys.volume(pool, self.volume.name), encode(replace(self.volume, task=task)), self.version)


@dataclass(frozen=True, slots=True)
class Sight:
    """What a request about volumes of a pool has to know, as it was read."""

    pool: Pool
    index: int
    """Version of what all who add or remove volumes of the pool rewrite."""
    volumes: Mapping[str, Znode | None]
    tasks: Sequence[Task]
    """Those in hand, read after all versions."""
    unreadable: Collection[str]
    """Ids of the others in hand: this version of pvc does not know what they are about."""
    workers: Sequence[Worker]
    """Those that can be asked and the others; one alone if it is the node to ask first, and can do it."""


def read_sight(coordinator: Coordinator, pool: str, volumes: Sequence[str], first: str) -> Sight:
    """Read all in one trip, or two where more must be known; `first`: the node to ask first, or no node's name.

    Raises NotFound if there is no such pool, Garbage, Disconnected.
    """
    if not _is_plain(pool):
        raise _no_pool(coordinator, pool)
    plain = [name for name in volumes if _is_plain(name)]
    paths = [keys.pool(pool), keys.volumes(pool), *(keys.volume(pool, name) for name in plain)]
    own = [first] if _is_plain(first) else []
    (znode, index, *rest), (ids, names) = coordinator.look([*paths, *node_paths(own)], [keys.TASKS, core.NODES])
    found, nodes = rest[: len(plain)], storage_nodes(own, rest[len(plain) :])
    known = _found_pool(coordinator, pool, znode)
    if index is None:
        raise NotFound(f"pool {pool!r} is being removed; `pvc storage pool list` shows those that there are")
    enough = any(suits(one, pool) for one in workers_of(nodes, ()))
    others = () if enough else names or ()
    tasks = [(id, keys.task(id)) for id in ids or ()]
    read = coordinator.get_many([*(path for _, path in tasks), *node_paths(others)])
    records = {id: decoded(Task, one.data, path) for (id, path), one in zip(tasks, read, strict=False) if one}
    in_hand = [task for task in records.values() if task is not None]
    unreadable = [id for id, task in records.items() if task is None]
    workers = workers_of(nodes if enough else storage_nodes(others, read[len(tasks) :]), in_hand)
    return Sight(known, index.version, dict(zip(plain, found, strict=True)), in_hand, unreadable, workers)


def find_pool(coordinator: Coordinator, name: str) -> Pool:
    """A pool. Raises NotFound with the nearest names, Garbage, Disconnected."""
    return _found_pool(coordinator, name, coordinator.get(keys.pool(name)) if _is_plain(name) else None)


def _found_pool(coordinator: Coordinator, name: str, znode: Znode | None) -> Pool:
    if znode is None:
        raise _no_pool(coordinator, name)
    return decode(Pool, znode.data, keys.pool(name))


def _no_pool(coordinator: Coordinator, name: str) -> NotFound:
    known = coordinator.children(keys.POOLS) or ()
    return NotFound(_missing(f"pool {name!r}", name, known, "pvc storage pool list"))


def find_volume(coordinator: Coordinator, pool: str, name: str) -> Found:
    """A volume of a pool that there is. Raises NotFound with the nearest names, Garbage, Disconnected."""
    znode = coordinator.get(keys.volume(pool, name)) if _is_plain(name) else None
    return found_volume(coordinator, pool, name, znode)


def found_volume(coordinator: Coordinator, pool: str, name: str, znode: Znode | None) -> Found:
    """The volume that was read. Raises as `find_volume`."""
    if znode is None:
        known = coordinator.children(keys.volumes(pool)) or ()
        raise NotFound(_missing(f"volume {name!r} in pool {pool}", name, known, f"pvc storage volume list {pool}"))
    return Found(decode(Volume, znode.data, keys.volume(pool, name)), znode.version)


def find_snapshot(volume: Volume, pool: str, name: str) -> Snapshot:
    """A snapshot of a volume. Raises NotFound with the nearest names."""
    for snapshot in volume.snapshots:
        if snapshot.name == name:
            return snapshot
    known = [snapshot.name for snapshot in volume.snapshots]
    listing = f"pvc storage snapshot list {pool} {volume.name}"
    raise NotFound(_missing(f"snapshot {name!r} of volume {pool}/{volume.name}", name, known, listing))


def about(task: Task, pool: str, volume: str) -> bool:
    """Whether a task is about this volume, or makes one of this name."""
    return task.pool == pool and volume in (task.volume, task.new)


def demand_idle(tasks: Iterable[Task], pool: str, volume: str) -> None:
    """Raise Refused if a task is about this volume, or makes one of this name."""
    for task in tasks:
        if about(task, pool, volume):
            raise Refused(
                f"volume {pool}/{volume} is busy: {task.kind.value} by {task.by} on {task.node} is {task.phase.value};"
                f" `pvc storage task watch {task.id}` follows it, `pvc storage task cancel {task.id}` ends it"
            )


def demand_known(volume: Volume, sight: Sight) -> None:
    """Raise Refused if a task has a volume that nobody here knows more of than its id."""
    if volume.task in sight.unreadable:
        raise Refused(
            f"volume {sight.pool.name}/{volume.name} is busy with task {volume.task}, whose record this version of pvc"
            " cannot read; update pvc here, or repair that record with zkCli.sh"
        )


def demand_ready(volume: Volume, pool: str) -> None:
    """Raise Refused if a volume is not whole."""
    if why := why_not_whole(volume, pool):
        raise Refused(why)


def all_users(coordinator: Coordinator) -> dict[tuple[str, str], list[Vm]]:
    """The VMs that have volumes, by pool and volume: their definitions name them, or they still run with what their
    definitions have lost. Raises Disconnected."""
    uuids = coordinator.children(core.VMS) or ()
    read = coordinator.get_many([*map(core.vm, uuids), *map(core.vm_xml, uuids)])
    known = [
        (decoded(Vm, record.data, core.vm(uuid)) or _unreadable(uuid), xml)
        for uuid, record, xml in zip(uuids, read, read[len(uuids) :], strict=False)
        if record is not None
    ]
    found: dict[tuple[str, str], list[Vm]] = {}
    for vm, xml in sorted(known, key=lambda one: one[0].name):
        named = set(() if xml is None else volumes_of(xml.data.decode(errors="replace")))
        lost = set(needed_volumes(vm.needs.get(SECTION, ()))) - named
        for one in named | (lost if lost and not _is_stopped(coordinator, vm) else set()):
            found.setdefault((one.pool, one.volume), []).append(vm)
    return found


def unattended(coordinator: Coordinator, *, for_good: bool) -> list[Op]:
    """What makes the transaction fail if a VM gets a volume meanwhile; to be read before the VMs. `for_good`: no VM is
    to get it later: who is just giving it to one has to look again, too. Raises Disconnected."""
    index = coordinator.get(core.VMS)  # rewritten by who defines a VM that needs a role, or gives one a disk
    if index is None:
        return []
    return [Put(core.VMS, index.data, index.version) if for_good else Check(core.VMS, index.version)]


def _unreadable(uuid: str) -> Vm:
    """Stands for a VM of which only the definition can be read: it has its volumes all the same."""
    return Vm(uuid, f"{uuid} (whose record cannot be read)", VmState.STOPPED, "", 0, 0)


def _is_stopped(coordinator: Coordinator, vm: Vm) -> bool:
    """Whether nothing of a VM is left of when it last ran. Raises Garbage, Disconnected."""
    path = core.vm_actual(vm.uuid)
    znode = coordinator.get(path)
    return znode is None or decode(VmActual, znode.data, path).state is ActualState.STOPPED


def users(coordinator: Coordinator, pool: str, volume: str) -> list[Vm]:
    """The VMs that have a volume. Raises Disconnected."""
    return all_users(coordinator).get((pool, volume), [])


def demand_still(coordinator: Coordinator, vms: Iterable[Vm], what: str) -> list[Op]:
    """Raise Refused if one of the VMs runs or may run; what makes the transaction fail if one starts meanwhile.

    Raises Garbage, Disconnected.
    """
    guards: list[Op] = []
    for vm in vms:
        path = core.vm_actual(vm.uuid)
        znode = coordinator.get(path)
        if znode is None:
            continue
        actual = decode(VmActual, znode.data, path)
        if actual.state not in IDLE:
            where = f" on {actual.node}" if actual.node else ""
            raise Refused(f"{what} while VM {vm.name} uses it, which is {actual.state.value}{where}; stop it first")
        guards.append(Check(path, znode.version))
    return guards


def clones(coordinator: Coordinator, pool: str, volume: str, snapshot: str | None = None) -> list[str]:
    """The volumes that share data with a volume, or with one snapshot of it. Raises Disconnected."""
    known: Mapping[str, Volume | None] = read_volumes(coordinator, pool)
    begins, ends = f"{volume}@", f"{volume}@{snapshot}"
    return [
        name
        for name, one in known.items()
        if one is not None and (one.parent == ends if snapshot is not None else one.parent.startswith(begins))
    ]


def read_workers(coordinator: Coordinator, tasks: Iterable[Task]) -> list[Worker]:
    """The nodes with the storage role, and how busy they are with these tasks. Raises Disconnected."""
    return workers_of(read_nodes(coordinator), tasks)


def workers_of(nodes: Iterable[tuple[Node, NodeFacts | None]], tasks: Iterable[Task]) -> list[Worker]:
    """The nodes that were read, and how busy they are with these tasks."""
    at_work = [task.node for task in tasks]
    return [
        Worker(
            name=node.name,
            alive=facts is not None,
            ready=node.state is NodeState.READY,
            busy=at_work.count(node.name),
            pools={} if facts is None else published_in(facts),
        )
        for node, facts in nodes
    ]


def read_nodes(coordinator: Coordinator) -> list[tuple[Node, NodeFacts | None]]:
    """The nodes with the storage role, and what they publish; None: they are dead. Raises Disconnected."""
    names = coordinator.children(core.NODES) or ()
    return storage_nodes(names, coordinator.get_many(node_paths(names)))


def node_paths(names: Iterable[str]) -> list[str]:
    """What `storage_nodes` is made of."""
    return [part(name) for name in names for part in (core.node, core.node_session, core.node_facts)]


def storage_nodes(names: Iterable[str], znodes: Iterable[Znode | None]) -> list[tuple[Node, NodeFacts | None]]:
    """As `read_nodes`, of what was read of `node_paths`."""
    known, found = [], iter(znodes)
    for name, record, session, facts in zip(names, found, found, found, strict=True):
        node = None if record is None else decoded(Node, record.data, core.node(name))
        if node is not None and SECTION in node.roles:
            known.append((node, None if session is None else _facts(name, facts)))
    return known


def _facts(name: str, znode: Znode | None) -> NodeFacts:
    try:
        return NodeFacts() if znode is None else decode(NodeFacts, znode.data, core.node_facts(name))
    except Garbage:
        return NodeFacts()


def _is_plain(name: str) -> bool:
    return bool(name) and is_text(name) and "/" not in name and "\0" not in name and name not in (".", "..")


def _missing(what: str, name: str, known: Iterable[str], listing: str) -> str:
    close = nearest(name, known)
    hint = f"did you mean {' or '.join(close)}?" if close else f"`{listing}` shows them all"
    return f"there is no {what}; {hint}"
