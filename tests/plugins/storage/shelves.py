"""A simulated cluster whose nodes share a storage in memory, with pools and volumes that are there from the start."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pvc.core import keys as core
from pvc.core.context import Context, Verdict
from pvc.core.coordination import Create, Delete, Put
from pvc.core.hookspecs import hookimpl
from pvc.core.model import Vm
from pvc.core.records import decode, encode
from pvc.core.service import Service
from pvc.core.storage import Disk, HypervisorSecret, OpenBackend, Pool, StorageError
from pvc.plugins.storage import keys
from pvc.plugins.storage.attachments import Attachments
from pvc.plugins.storage.backends import Backends
from pvc.plugins.storage.decide.pools import PoolState, published
from pvc.plugins.storage.records import Task, TaskKind, Volume, VolumeState
from pvc.testing.cluster import SimCluster
from pvc.testing.storage import FakeBackend, FakeContents, FakeImage, FakeStorage

KEY = HypervisorSecret("11111111-2222-3333-4444-555555555555", "ceph", "pvc client.libvirt", b"QVFCd29uZGVyZnVs")
GIB = 1 << 30


class LockedBackend(FakeBackend):
    """Its disks are reached by a secret, where there is one."""

    def __init__(self, shelf: "Shelf", pool: Pool) -> None:
        super().__init__(shelf.storage, shelf.node, shelf.node, pool)
        self._shelf = shelf

    def secret(self) -> HypervisorSecret | None:
        if self._shelf.keyless:
            raise StorageError(self._shelf.keyless)
        return FakeBackend.secret(self)

    def disk(self, image: str, format: str) -> Disk:
        secret = self.secret()
        if secret is None:
            return FakeBackend.disk(self, image, format)
        auth = f"<auth username='libvirt'><secret type='ceph' uuid='{secret.uuid}'/></auth>"
        return Disk("network", format, f"<source protocol='rbd' name='fast/{image}'>{auth}</source>")


class Shelf:
    """Brings pools of the kind `shelf`, and says of each how the node sees it."""

    def __init__(self, storage: FakeStorage, node: str) -> None:
        self.storage, self.node = storage, node
        self.keyless = ""
        """Why there is no key for its pools; empty: there is, where one is needed."""
        self.pools: dict[str, PoolState] = {"fast": PoolState(GIB, GIB)}

    @hookimpl
    def pvc_services(self, context: Context) -> Sequence[Service]:
        self.context = context
        return []

    @hookimpl
    def pvc_storage_backends(self, context: Context) -> Mapping[str, OpenBackend]:
        return {"shelf": lambda pool: LockedBackend(self, pool)}

    @hookimpl
    def pvc_node_facts(self, context: Context) -> Mapping[str, Any]:
        return published(self.pools)


class Site(SimCluster):
    """Nodes hv1 and hv2 with the role, hv3 without; pool fast with volumes a and b."""

    def __init__(self, **how: Any) -> None:
        self.shelves: dict[str, Shelf] = {}
        self._stock: FakeStorage | None = None
        role = {"roles": {"storage": True}, "storage": {}}
        nodes = {name: {**role, "address": f"10.0.0.{name[2:]}"} for name in ("hv1", "hv2")}
        super().__init__(
            {**nodes, "hv3": {}}, plugins=("shelf",), ready=lambda node: {"shelf": self.shelf(node)}, **how
        )
        self.client.commit([Create(path) for path in (keys.STORAGE, keys.POOLS, keys.TASKS, keys.ENDED_TASKS)])
        self.client.commit([Create(keys.pool("fast"), encode(Pool("fast", "shelf"))), Create(keys.volumes("fast"))])
        for name in ("a", "b"):
            self.add_volume(name)
        self.start()
        self.run(5)

    @property
    def stock(self) -> FakeStorage:
        if self._stock is None:
            self._stock = FakeStorage(self.world.process("storage"))
        return self._stock

    def shelf(self, node: str) -> Shelf:
        """What a node knows of pools; the same after its daemon was started anew."""
        if node not in self.shelves:
            self.shelves[node] = Shelf(self.stock, node)
        return self.shelves[node]

    def add_volume(self, name: str, state: VolumeState = VolumeState.READY) -> None:
        """A volume that there has always been."""
        self.stock.images["fast", name] = FakeImage(FakeContents(GIB))
        self.client.commit([Create(keys.volume("fast", name), encode(Volume(name, GIB, state)))])

    def change_volume(self, name: str, **fields: Any) -> None:
        """Somebody writes a volume's record."""
        path = keys.volume("fast", name)
        znode = self.client.get(path)
        assert znode is not None
        self.client.commit([Put(path, encode(replace(decode(Volume, znode.data, path), **fields)))])

    def remove_volume(self, name: str) -> None:
        """A volume is gone."""
        self.client.commit([Delete(keys.volume("fast", name))])

    def volume_version(self, name: str) -> int:
        """Of a volume's record."""
        znode = self.client.get(keys.volume("fast", name))
        assert znode is not None
        return znode.version

    def begin_task(self, name: str, kind: TaskKind, *, node: str = "hv1", snapshot: str = "") -> None:
        """A task of one node only is about a volume, or a snapshot of it, from now on."""
        about = {"bound": True, "pool": "fast", "volume": name, "snapshot": snapshot}
        task = Task(f"t-{name}", kind, node, "tester", 0.0, **about)  # type: ignore[arg-type]
        self.client.commit([Create(keys.task(task.id), encode(task))])
        self.change_volume(name, task=task.id)

    def judge(self, vm: Vm, nodes: tuple[str, ...]) -> Mapping[str, Verdict]:
        """What the role says of nodes as the place of a VM, as a client asks it."""
        context = replace(self.shelves["hv1"].context, coordinator=self.client)
        backends = Backends(context.runtime, context.plugins.storage_backends)
        return Attachments(context, backends).verdicts(vm, nodes)

    def definition(self, name: str) -> str:
        """The definition of a VM as the cluster keeps it."""
        znode = self.client.get(core.vm_xml(self.vm(name).uuid))
        assert znode is not None
        return znode.data.decode()

    def live(self, name: str) -> str:
        """The definition of a VM as it runs."""
        vm = self.vm(name)
        (host,) = self.fabric.running(vm.uuid)
        return self.nodes[host].host.xml(vm.uuid)

    def dump(self) -> str:
        """Everything in the tree."""
        return _below(self, core.ROOT)


def _below(site: Site, path: str) -> str:
    znode = site.client.get(path)
    names = site.client.children(path) or ()
    text = "" if znode is None else f"{path} {znode.data!r}\n"
    return text + "".join(_below(site, f"{path.rstrip('/')}/{name}") for name in names)
