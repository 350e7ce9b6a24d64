"""A tree with pools, volumes and nodes, written by hand: for tests of what clients ask, without any daemon."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from pvc.core import keys as core
from pvc.core.coordination import ANY_VERSION, Create, Op, Put
from pvc.core.model import ActualState, Node, NodeFacts, NodeState, Vm, VmActual, VmState
from pvc.core.records import decode, encode
from pvc.core.storage import Pool
from pvc.core.tree import tree_ops
from pvc.plugins.storage import keys
from pvc.plugins.storage.decide.pools import PoolState, published
from pvc.plugins.storage.records import Task, TaskPhase, Volume, VolumeState, read_volumes
from pvc.plugins.storage.requests.asking import Client
from pvc.plugins.storage.tasks.history import ending
from pvc.testing.coordinator import FakeCoordinator, FakeEnsemble
from pvc.testing.runtime import World

GIB = 1024**3
UUID = "11111111-2222-4333-8444-{:012d}"


class Ledger:
    """A tree, and one who asks. Begins with node stor1, pool vms of qcow2 files, and no volume."""

    def __init__(self, ensemble: FakeEnsemble | None = None) -> None:
        world = World()
        self.ensemble = ensemble or FakeEnsemble(world.process("ensemble"), expire_after=10)
        self.tree = self.ensemble.connect("hand")
        self._asker = world.process("client")
        self.sessions: dict[str, FakeCoordinator] = {}
        if ensemble is None:
            self.tree.commit(tree_ops())
        places = (keys.STORAGE, keys.POOLS, keys.TASKS, keys.ASKED, keys.ENDED_TASKS)
        self.tree.commit([Create(path) for path in places])
        self.node("stor1")
        self.pool("vms", path="/srv/vms")

    def client(self, own: str = "laptop", tree: Any = None) -> Client:
        """One who asks at a machine that would be a node of that name."""
        return Client(tree or self.tree, self._asker, "root@laptop", own)

    def node(self, name: str, *, alive: bool = True, ready: bool = True, roles: tuple[str, ...] = ("storage",)) -> None:
        """A node that has looked at no pool yet."""
        state = NodeState.READY if ready else NodeState.FLUSHED
        self.tree.commit([Create(core.node(name), encode(Node(name, state, roles)))])
        self.tree.commit([Create(core.node_facts(name), encode(NodeFacts()))])
        if alive:
            self.sessions[name] = self.ensemble.connect(name)
            self.sessions[name].commit([Create(core.node_session(name), ephemeral=True)])

    def pool(self, name: str, backend: str = "directory", *, on: Sequence[str] = ("stor1",), **options: str) -> None:
        """A pool, and the nodes that can use it."""
        ops = [Create(keys.pool(name), encode(Pool(name, backend, options))), Create(keys.volumes(name))]
        self.tree.commit(ops)
        for node in on:
            self.sees(node, **{name: PoolState(100 * GIB, 40 * GIB)})

    def sees(self, node: str, **states: PoolState) -> None:
        """What a node publishes of more pools."""
        path = core.node_facts(node)
        znode = self.tree.get(path)
        facts = NodeFacts() if znode is None else decode(NodeFacts, znode.data, path)
        self.tree.commit([Put(path, encode(replace(facts, extra={**facts.extra, **published(states)})))])

    def volume(self, name: str, pool: str = "vms", size: int = 10 * GIB, **fields: Any) -> Volume:
        """A volume that is ready."""
        volume = replace(Volume(name, size, VolumeState.READY, "qcow2"), **fields)
        self.tree.commit([Create(keys.volume(pool, name), encode(volume))])
        return volume

    def vm(self, name: str, *volumes: str, state: ActualState = ActualState.STOPPED, needs: Sequence[str] = ()) -> None:
        """A VM whose definition names volumes of pool vms; `needs` are what its record says beside."""
        uuid = UUID.format(len(self.tree.children(core.VMS) or ()))
        disks = "".join(
            f"<disk type='volume'><source pool='vms' volume='{one}'/><target dev='v{one}'/></disk>" for one in volumes
        )
        vm = Vm(uuid, name, VmState.STOPPED, "stor1", 64, 1, needs={"storage": tuple(needs)})
        node = None if state is ActualState.STOPPED else "stor1"
        self.tree.commit(
            [
                Create(core.vm(uuid), encode(vm)),
                Create(core.vm_xml(uuid), f"<domain><devices>{disks}</devices></domain>".encode()),
                Create(core.vm_actual(uuid), encode(VmActual(state, node))),
            ]
        )

    def read(self, name: str, pool: str = "vms") -> Volume | None:
        """The record of a volume; None: there is none."""
        return read_volumes(self.tree, pool).get(name)

    def task(self, id: str) -> Task:
        """The record of a task, in hand or not."""
        znode = self.tree.get(keys.task(id)) or self.tree.get(keys.ended_task(id))
        assert znode is not None
        return decode(Task, znode.data, keys.task(id))

    def end(self, task: Task, phase: TaskPhase = TaskPhase.DONE, message: str = "") -> None:
        """A task ends as if its node had done it; the record of its volume becomes free, or goes."""
        ops: list[Op] = [*ending(replace(task, phase=phase, message=message), ANY_VERSION)]
        for name in {task.volume, task.new} - {""}:
            volume = self.read(name, task.pool)
            if volume is not None:
                made = replace(volume, task=None, state=VolumeState.READY)
                ops.append(Put(keys.volume(task.pool, name), encode(made)))
        self.tree.commit(ops)


class Overtaken:
    """A client's tree where somebody else does something just before the first transaction that asks for a task."""

    def __init__(self, tree: FakeCoordinator, first: Callable[[], object]) -> None:
        self._tree = tree
        self._first: list[Callable[[], object]] = [first]
        self.tries = 0

    def commit(self, ops: Sequence[Op]) -> tuple[str, ...]:
        self.tries += 1
        if self._first:
            self._first.pop()()
        return self._tree.commit(ops)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tree, name)
