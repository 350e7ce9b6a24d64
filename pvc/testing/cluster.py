"""A whole cluster in one process on simulated time: real daemons on a fake ensemble and fake hosts.

Deterministic: the same calls with the same seed give the same log. `check` tells whether a promise was broken.
"""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from string import ascii_lowercase
from typing import Any, Self

from pvc.core import keys
from pvc.core.config.document import parse
from pvc.core.config.settings import Config
from pvc.core.config.switches import ROLES
from pvc.core.config.validation import validate
from pvc.core.coordination import Op
from pvc.core.daemon import Daemon
from pvc.core.errors import PvcError
from pvc.core.facts import SETTLE
from pvc.core.forecast import Forecast
from pvc.core.forecasting import ask_forecast
from pvc.core.liveconfig import Outcome
from pvc.core.lookup import find_vm
from pvc.core.model import (
    FINAL,
    Cancel,
    Finding,
    Node,
    NodeFacts,
    NodeSession,
    Operation,
    OperationKind,
    Policy,
    Vm,
    VmActual,
    VmState,
)
from pvc.core.needs import needs_of
from pvc.core.plugins import Plugins, installed
from pvc.core.records import decode
from pvc.core.requests import cancel, read_operation, request
from pvc.core.tree import tree_ops
from pvc.plugins.hypervisor import requests
from pvc.plugins.hypervisor.decide.definition import read_definition
from pvc.plugins.hypervisor.plugin import HypervisorPlugin
from pvc.plugins.networking.plugin import NetworkingPlugin
from pvc.plugins.storage.plugin import StoragePlugin
from pvc.testing.bridges import FakeBridges
from pvc.testing.ceph import FakeCeph, FakeOsdHost
from pvc.testing.coordinator import FakeCoordinator, FakeEnsemble
from pvc.testing.dataplane import FakeDataplane
from pvc.testing.directories import FakeDirectories
from pvc.testing.frr import FakeDaemons
from pvc.testing.gateways import GatewayWatch, WatchedRouters
from pvc.testing.hypervisor import FakeFabric, FakeHypervisor
from pvc.testing.packetfilter import FakePacketFilter
from pvc.testing.pools import PoolsWatch, opened_on
from pvc.testing.routers import FakeRouters
from pvc.testing.runtime import SimProcess, World
from pvc.testing.storage import FakeStorage

SESSION_TIMEOUT = 10.0
"""Simulated seconds after which a silent session ends."""

XML = """<domain type='qemu'><name>{name}</name><uuid>{uuid}</uuid><memory unit='MiB'>{memory}</memory>
<vcpu>1</vcpu><os><type>hvm</type></os></domain>"""


class SimMachine:
    """The identity of a simulated machine: each start of its daemon is a new process."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._pid = 0
        self.boots = 1
        self._alive = 0

    def start(self) -> None:
        """A new process begins."""
        self._pid += 1
        self._alive = self._pid

    def end(self) -> None:
        """The process is gone."""
        self._alive = 0

    def identity(self) -> str:
        return f"machine-of-{self._name}"

    def this_process(self) -> NodeSession:
        return NodeSession(self._name, self._pid, f"{self._name}/{self.boots}", str(self._pid))

    def is_gone(self, session: NodeSession) -> bool:
        return session.boot == f"{self._name}/{self.boots}" and session.pid != self._alive


@dataclass(slots=True)
class SimNode:
    """One simulated host and what runs on it now."""

    name: str
    machine: SimMachine
    host: FakeHypervisor
    bridges: FakeBridges
    directories: FakeDirectories
    config: Config
    dataplane: FakeDataplane = field(default_factory=FakeDataplane)
    packetfilter: FakePacketFilter = field(default_factory=FakePacketFilter)
    routers: FakeRouters = field(default_factory=lambda: FakeRouters(World().process("nobody")))
    frr: FakeDaemons = field(default_factory=FakeDaemons)
    process: SimProcess | None = None
    daemon: Daemon | None = None
    sessions: list[FakeCoordinator] = field(default_factory=list)


class Log(logging.Handler):
    """Collects what all daemons log, each line with its simulated time and node."""

    def __init__(self, world: World) -> None:
        super().__init__(logging.INFO)
        self._world = world
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        node = record.name.rpartition(".")[2]
        self.lines.append(f"{self._world.time:8.2f} {node:<6} {record.getMessage()}")


class SimCluster:
    """Simulated nodes, their daemons, and a client."""

    def __init__(
        self,
        nodes: int | Mapping[str, Mapping[str, Any]] = 3,
        *,
        seed: int = 0,
        latency: tuple[float, float] = (0.0005, 0.003),
        plugins: Sequence[str] = ("flushlock",),
        ready: Callable[[str], Mapping[str, object]] = lambda _node: {},
    ) -> None:
        """`nodes`: how many, or for each name further configuration (`{"hypervisor": {"memory": 1024}}`).

        `latency`: the shortest and longest time, in seconds, that a call to ZooKeeper takes, and news from there.
        `plugins`: the features to switch on; `ready(node)` gives plugin objects to use instead of the installed.
        """
        self.world = World(seed)
        self.ensemble = FakeEnsemble(self.world.process("ensemble"), expire_after=SESSION_TIMEOUT)
        self.fabric = FakeFabric(self.world.process("fabric"))
        self.gateways = GatewayWatch()
        self.storage = FakeStorage(self.world.process("storage"))
        """Pools with the backend `fake` are kept there, and every node with the storage role reaches it."""
        self.pools = PoolsWatch()
        self.ceph = FakeCeph(self.world.process("ceph"))
        """No node knows of it until it has an OSD."""
        self._osd_hosts: dict[str, FakeOsdHost] = {}
        self._features = tuple(plugins)
        self._ready = ready
        self._latency = latency
        self.log = Log(self.world)
        named = {f"hv{i + 1}": {} for i in range(nodes)} if isinstance(nodes, int) else nodes
        self.client_process = self.world.process("client")
        self.client = self.ensemble.connect("client")
        self.client.commit(tree_ops())
        self.nodes = {name: self._node(name, extra) for name, extra in named.items()}

    def close(self) -> None:
        """Take everything down, so that nothing is left behind."""
        for name in self.nodes:
            self.kill_daemon(name)
            self._logger(name).handlers.clear()  # loggers are never forgotten, and would keep all of this
        self.ensemble.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Start every node's daemon and let them register."""
        for name in self.nodes:
            self.start_daemon(name)
        self.run(2.0)

    def start_daemon(self, name: str) -> None:
        """Start a node's daemon, as its service manager would. Raises Disconnected while no server answers."""
        node = self.nodes[name]
        node.machine.start()
        process = self.world.process(name)
        log = self._logger(name)
        log.setLevel(logging.INFO)
        log.propagate = False
        log.handlers = [self.log]
        plugins = Plugins(log)
        doors = {
            "hypervisor": HypervisorPlugin(lambda _context: node.host),
            "networking": NetworkingPlugin(
                open_bridges=lambda: node.bridges,
                open_dataplane=lambda: node.dataplane,
                open_filter=lambda: node.packetfilter,
                open_routers=lambda: self._routers(node, process),
                open_daemons=lambda _: node.frr,
            ),
            "storage": StoragePlugin(
                lambda: node.directories,
                {"fake": opened_on(self.storage, self.pools, name, node.config.address)},
                open_ceph=lambda: (self.ceph.door(name), self.osd_host(name)),
            ),
        }
        plugins.load([*node.config.roles_on(), *self._features], {**doors, **self._objects(name)})
        plugins.schemas()  # as pvcd does: a plugin whose schema is faulty is left out
        node.sessions = []

        def connect(purpose: str) -> FakeCoordinator:
            session = self.ensemble.connect(f"{name}/{purpose}")
            node.sessions.append(session)
            session.latency = session.delay = lambda: self.world.random.uniform(*self._latency)
            return session

        session = connect("daemon")
        node.process = process
        node.daemon = Daemon(node.config, plugins, session, connect, process, node.machine, log)
        node.daemon.start()

    def osd_host(self, name: str) -> FakeOsdHost:
        """The disks of a node that OSDs are, or can be made, of."""
        return self._osd_hosts.setdefault(name, FakeOsdHost(self.ceph, name))

    def kill_daemon(self, name: str) -> None:
        """`kill -9` of a node's daemon: nothing is said to anybody, the sessions live on until they time out."""
        node = self.nodes[name]
        if node.process is None:
            return
        for session in node.sessions:
            session.crash()
        node.process.kill()
        node.host.close()
        node.machine.end()
        node.process = node.daemon = None

    def restart_daemon(self, name: str) -> None:
        """Kill a node's daemon and start it again at once."""
        self.kill_daemon(name)
        self.start_daemon(name)

    def reload(self, name: str, extra: Mapping[str, Any]) -> Outcome:
        """Have a node's daemon read its configuration again, which is `extra` now. It may be wrong."""
        node = self.nodes[name]
        assert node.daemon is not None, f"the daemon of {name} does not run"

        def read() -> Config:
            node.config = self._config(name, extra)
            return node.config

        return node.daemon.reload(read)

    def lose_session(self, name: str) -> None:
        """The daemon's own session expires; its connection comes back at once, as a new session."""
        session = self.nodes[name].sessions[0]
        session.expire()
        session.resume()

    def power_off(self, name: str) -> None:
        """The host loses power: daemon and guests are gone."""
        self.kill_daemon(name)
        node = self.nodes[name]
        node.machine.boots += 1
        node.host.power_off()
        node.frr.power_off()
        node.routers.boot()

    def power_on(self, name: str) -> None:
        """The host boots; its daemon starts."""
        self.nodes[name].host.power_on()
        self.start_daemon(name)

    def run(self, seconds: float) -> None:
        """Let so many simulated seconds pass."""
        self.world.run_for(seconds)
        self.check()

    def run_until(self, condition: Callable[[], bool], timeout: float = 600.0) -> bool:
        """Let time pass until the condition holds, at most `timeout` simulated seconds; whether it holds."""
        held = self.world.run_until(condition, timeout)
        self.check()
        return held

    def check(self) -> None:
        """Raise AssertionError if a VM has run twice, a network had two gateways, two attempts were at one volume
        together, or a task of the runtime has failed."""
        assert not self.fabric.twice, f"a VM ran twice: {self.fabric.twice}"
        assert not self.gateways.twice, f"a network had two gateways: {self.gateways.twice}"
        assert not self.pools.together, f"two attempts were at one volume: {self.pools.together}"
        assert not self.world.failures, f"a task failed: {self.world.failures}"

    def define(
        self,
        name: str,
        node: str | None,
        *,
        memory: int = 128,
        vcpus: int = 1,
        run: bool = True,
        bridges: Sequence[str] = (),
        networks: Mapping[str, str] | None = None,
        disks: Sequence[str] = (),
        volumes: Sequence[str] = (),
        **how: Any,
    ) -> Vm:
        """Define a VM on a node (None: on the best one), and have it run. `bridges`, `disks`: what it is plugged into,
        and the files that it has for disks; `networks`: those of the cluster, each with its MAC address there;
        `volumes`: its disks vda, vdb and so on, as POOL/VOLUME."""
        uuid = self.client_process.new_id()
        xml = XML.format(name=name, uuid=uuid, memory=memory).replace("<vcpu>1<", f"<vcpu>{vcpus}<")
        if bridges or disks or networks or volumes:
            xml = xml.replace("</domain>", f"{_devices(bridges, networks or {}, disks, volumes)}</domain>")
        definition = read_definition(xml)
        if "policy" in how:
            how["policy"] = Policy(how["policy"])
        needs = self.needs(definition.xml)
        vm = requests.define(self.client, definition, node, needs=needs, **how)
        return requests.start(self.client, vm) if run else vm

    def needs(self, xml: str) -> dict[str, tuple[str, ...]]:
        """What a VM of this definition needs of the roles that nodes have now."""
        if "<devices>" not in xml:
            return {}
        plugins = Plugins(logging.getLogger("pvc.simulated"))
        plugins.load(list(ROLES), {"hypervisor": HypervisorPlugin(), **_role_plugins()})
        return needs_of(self.client, plugins.vm_needs, xml)

    def configure(self, name: str, extra: Mapping[str, Any]) -> None:
        """Edit a node's configuration: all of it is what is given here. It counts from the next start on."""
        self.nodes[name].config = self._config(name, extra)

    def settle(self) -> None:
        """Let time pass until every VM that should run does, and its node has published that."""
        assert self.run_until(lambda: all(self.vm_runs(name) for name in self.wanted()), 120.0), self.where()
        self.run(2 * SETTLE)

    def wanted(self) -> list[str]:
        """Names of the VMs that should run."""
        return [name for name in self.client.children(keys.NAMES) or () if self.vm(name).state is VmState.RUNNING]

    def vm(self, name: str) -> Vm:
        """The wanted state of a VM."""
        return find_vm(self.client, name)

    def actual(self, name: str) -> VmActual:
        """The recorded state of a VM."""
        path = keys.vm_actual(self.vm(name).uuid)
        znode = self.client.get(path)
        assert znode is not None
        return decode(VmActual, znode.data, path)

    def vm_runs(self, name: str) -> bool:
        """Whether a VM runs on exactly one host, and its record says so."""
        actual = self.actual(name)
        return actual.state.value == "running" and self.fabric.running(self.vm(name).uuid) == [actual.node]

    def where(self) -> dict[str, str]:
        """For each VM the hosts on which it executes, joined by a comma."""
        names = self.client.children(keys.NAMES) or ()
        return {name: ",".join(self.fabric.running(self.vm(name).uuid)) for name in names}

    def node(self, name: str) -> Node:
        """A node's record."""
        znode = self.client.get(keys.node(name))
        assert znode is not None
        return decode(Node, znode.data, keys.node(name))

    def health(self, name: str) -> tuple[Finding, ...]:
        """What a node's daemon has published that a person should know."""
        znode = self.client.get(keys.node_facts(name))
        return () if znode is None else decode(NodeFacts, znode.data, keys.node_facts(name)).findings

    def ask(self, kind: str, node: str, **how: Any) -> Operation:
        """Ask for a flush or an unflush of a node; `only` names VMs."""
        return request(self.client, self._wish(kind, node, how)).operation

    def forecast(self, kind: str, node: str, **how: Any) -> Forecast:
        """What an operation would do. Raises NoForecast."""
        answers: list[Forecast | PvcError] = []
        self.begin_forecast(kind, node, answers.append, **how)
        self.run_until(lambda: bool(answers), 60.0)
        if isinstance(answers[0], PvcError):
            raise answers[0]
        return answers[0]

    def begin_forecast(self, kind: str, node: str, then: Callable[[Forecast | PvcError], object], **how: Any) -> None:
        """Ask what an operation would do, and go on; `then` is called with the answer."""
        operation = self._wish(kind, node, how)

        def ask() -> None:
            try:
                then(ask_forecast(self.client, self.client_process, operation))
            except PvcError as error:
                then(error)

        self.client_process.spawn("forecast", ask)

    def _wish(self, kind: str, node: str, how: Mapping[str, Any]) -> Operation:
        only = tuple(self.vm(name).uuid for name in how.get("only", ()))
        return Operation(
            id=self.client_process.new_id(),
            kind=OperationKind(kind),
            node=node,
            by="tester",
            requested=self.client_process.now(),
            **{**how, "only": only},
        )

    def cancel(self, node: str, how: str = "after-current") -> None:
        """Ask the operation of a node to end."""
        cancel(self.client, node, Cancel(how), "tester")

    def operation(self, node: str) -> Operation:
        """The operation that a node has in hand or had last."""
        found = read_operation(self.client, node)
        assert found is not None, f"{node} has never had an operation"
        return found[0]

    def finish(self, node: str, timeout: float = 600.0) -> Operation:
        """Let time pass until the operation of a node has ended."""
        ended = self.run_until(lambda: self.operation(node).phase in FINAL, timeout)
        assert ended, f"{self.operation(node)} has not ended after {timeout} s"
        return self.operation(node)

    def on_commit(self, observer: Callable[[str, Sequence[Op], tuple[str, ...]], None]) -> None:
        """Have `observer` told of every transaction: the session's name, the operations, what was created."""
        self.ensemble.on_commit.append(observer)

    def _node(self, name: str, extra: Mapping[str, Any]) -> SimNode:
        config = self._config(name, extra)
        bridges = FakeBridges(config.section("networking").get("bridges", ()))
        directories = FakeDirectories(self.world.process(f"disks of {name}"))
        for directory in config.section("storage").get("directories", {}).values():
            directories.add(directory["path"])
        dataplane = FakeDataplane(config.address or "")
        if config.address:
            self.fabric.register_address(config.address, name)
        routers = FakeRouters(self.world.process(f"kernel of {name}"))
        self.gateways.add(name, routers)
        machine, host = SimMachine(name), self.fabric.host(name)
        return SimNode(name, machine, host, bridges, directories, config, dataplane, routers=routers)

    def _routers(self, node: SimNode, process: SimProcess) -> WatchedRouters:
        """Its devices take the kernel a few times as long as ZooKeeper takes for an answer."""
        return WatchedRouters(
            node.routers, self.gateways, process, lambda: 10 * self.world.random.uniform(*self._latency)
        )

    def _logger(self, name: str) -> logging.Logger:
        return logging.getLogger(f"pvc.simulated.{id(self)}.{name}")

    def _config(self, name: str, extra: Mapping[str, Any]) -> Config:
        values = {"node": name, "plugins": dict.fromkeys(("flushlock", "consolelog"), False), **extra}
        values["plugins"] = {**values["plugins"], **dict.fromkeys(self._features, True)}
        values["zookeeper"] = {"session_timeout": SESSION_TIMEOUT}
        text = _as_yaml(values)
        if text in _VALID and not self._ready(name):
            return _VALID[text]
        document = parse(text, f"{name}.yaml")
        roles = {"hypervisor": True, **dict(extra.get("roles", {}))}
        plugins = Plugins(logging.getLogger("pvc.simulated"))
        plugins.load(
            [*(role for role, on in roles.items() if on), *self._features],
            {"hypervisor": HypervisorPlugin(), **_role_plugins(), **self._objects(name)},
        )
        config = validate(document, plugins.schemas(), sorted({*_known(), *self._features}), host_name=name)
        if not self._ready(name):
            _VALID[text] = config
        return config

    def _objects(self, name: str) -> dict[str, object]:
        """The features' plugin objects: those given, else new ones of what is installed."""
        given = dict(self._ready(name))
        loaded = {feature: _known()[feature]() for feature in self._features if feature in set(_known()) - set(given)}
        return {**given, **{feature: it() if isinstance(it, type) else it for feature, it in loaded.items()}}


_VALID: dict[str, Config] = {}
"""Configurations made of the installed plugins' schemas, by their text: thousands of clusters have a few of them."""


@cache
def _known() -> Mapping[str, Callable[[], Any]]:
    """What loads each installed plugin; looked up once, because a cluster starts many daemons."""
    return {name: cache(point.load) for name, point in installed().items()}


def _role_plugins() -> dict[str, object]:
    return {"networking": NetworkingPlugin(), "storage": StoragePlugin()}


def _devices(bridges: Sequence[str], networks: Mapping[str, str], disks: Sequence[str], volumes: Sequence[str]) -> str:
    plugged = "".join(
        f"<interface type='network'><mac address='{mac}'/><source network='{name}'/></interface>"
        for name, mac in networks.items()
    )
    plugged += "".join(f"<interface type='bridge'><source bridge='{bridge}'/></interface>" for bridge in bridges)
    stored = "".join(f"<disk type='file'><source file='{disk}'/></disk>" for disk in disks)
    for name, letter in zip(volumes, ascii_lowercase, strict=False):
        pool, _, volume = name.partition("/")
        source = f"<source pool='{pool}' volume='{volume}'/>"
        stored += f"<disk type='volume' device='disk'>{source}<target dev='vd{letter}' bus='virtio'/></disk>"
    return f"<devices>{stored}{plugged}</devices>"


def _as_yaml(values: Mapping[str, Any]) -> str:
    """The values as YAML: JSON is a subset of it."""
    return json.dumps(values)
