"""A real daemon on a real server while its VMs flood their consoles: the node's liveness does not notice."""

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from pvc.core import keys as core_keys
from pvc.core.config.document import parse
from pvc.core.config.settings import ZooKeeperSettings
from pvc.core.config.validation import validate
from pvc.core.coordination import Coordinator, Create, Op, Put, SessionState
from pvc.core.daemon import Daemon
from pvc.core.machine import LinuxMachine
from pvc.core.model import Vm, VmState
from pvc.core.observers import VmChange, VmEvent
from pvc.core.plugins import Plugins
from pvc.core.records import decode, encode
from pvc.core.threads import ThreadRuntime
from pvc.core.zookeeper import connect, initialise
from pvc.plugins.consolelog import keys
from pvc.plugins.consolelog.plugin import ConsoleLogPlugin
from pvc.plugins.consolelog.ring import Header
from pvc.testing.zookeeper import TICK, ZooKeeperServer

pytestmark = pytest.mark.zookeeper

LOG = logging.getLogger("test.flood")
RUNTIME = ThreadRuntime()
PATIENCE = 60.0
NODE = "hv1"
LONGEST = 20 * TICK
"""The longest session that the server gives: what else the machine does is not to interrupt it."""
CHATTY = 100
COMMITS = 200
"""What the liveness session has to get done while the flood goes on."""


class Noted:
    """A session that notes what it writes and every state that it has been in."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator
        self.paths: list[str] = []
        self.states: list[SessionState] = []
        self.get, self.get_many, self.children = coordinator.get, coordinator.get_many, coordinator.children
        self.look = coordinator.look
        self.listen, self.close = coordinator.listen, coordinator.close
        coordinator.listen(self.states.append)

    @property
    def state(self) -> SessionState:
        return self._coordinator.state

    @property
    def session_id(self) -> int:
        return self._coordinator.session_id

    def commit(self, ops: Sequence[Op]) -> tuple[str, ...]:
        done = self._coordinator.commit(ops)
        self.paths += [op.path for op in ops]
        return done


class Node:
    """The daemon, its sessions by name, and the console files of its VMs."""

    def __init__(self, server: ZooKeeperServer, directory: Path) -> None:
        self.directory = directory
        settings = ZooKeeperSettings(hosts=(server.host,), root=f"/test-{RUNTIME.new_id()}", session_timeout=LONGEST)
        initialise(settings, _tree(), runtime=RUNTIME, name="test", log=LOG)
        self.sessions: dict[str, Noted] = {}

        def opened(name: str) -> Noted:
            made = Noted(connect(settings, runtime=RUNTIME, name=name, log=LOG))
            self.sessions[name] = made
            return made

        plugins = Plugins(LOG)
        plugins.load(["consolelog"], {"consolelog": ConsoleLogPlugin()})
        # So often that the session which publishes has more to do than it can.
        section = f"consolelog: {{directory: {directory}, interval: 0.05, bytes: 262144}}"
        text = f"node: {NODE}\nroles: {{hypervisor: false}}\nplugins: {{flushlock: false}}\n{section}\n"
        config = validate(parse(text, "pvc.yaml"), plugins.schemas(), ["consolelog", "flushlock"], host_name=NODE)
        self.liveness = opened("daemon")
        self.daemon = Daemon(config, plugins, self.liveness, opened, RUNTIME, LinuxMachine(), LOG)
        self.daemon.start()
        self._plugins = plugins

    def bring(self, number: int) -> Path:
        """A VM is here, and has this file."""
        path = self.directory / f"vm{number}.log"
        path.touch()
        xml = f"<domain id='1'><devices><serial type='pty'><log file='{path}'/></serial></devices></domain>"
        self._plugins.vm_changed(VmEvent(VmChange.STARTED, _uuid(number), f"vm{number}", xml))
        return path

    def header(self, number: int) -> Header | None:
        znode = self.sessions["consolelog"].get(keys.console(_uuid(number)))
        return None if znode is None else decode(Header, znode.data, "")


@pytest.fixture
def node(zookeeper_server: ZooKeeperServer, tmp_path: Path) -> Iterator[Node]:
    made = Node(zookeeper_server, tmp_path)
    yield made
    made.daemon.stop()


def _uuid(number: int) -> str:
    return f"00000000-0000-0000-0000-{number:012d}"


def _tree() -> list[Op]:
    ops: list[Op] = [Create(branch) for branch in core_keys.BRANCHES]
    for number in range(CHATTY + 1):
        vm = Vm(_uuid(number), f"vm{number}", VmState.RUNNING, NODE, 64, 1)
        ops.append(Create(core_keys.vm(vm.uuid), encode(vm)))
    return [*ops, Create("/mark", b"0")]


def test_vms_that_flood_their_consoles_do_not_touch_the_session_that_the_nodes_life_hangs_on(node: Node) -> None:
    _wait(lambda: node.daemon.context.registered() and "consolelog" in node.sessions)
    identity = node.liveness.session_id
    flooding, *chatty = [node.bring(number) for number in range(CHATTY + 1)]
    over = False

    def flood() -> None:
        turn = 0
        with flooding.open("ab", buffering=0) as file:
            while not over:
                file.write(b"All work and no play makes Jack a dull boy.\n" * 3000)
                for path in chatty[turn % 5 :: 5]:
                    with path.open("ab") as other:
                        other.write(b"Another line of somebody who has much to say.\n" * 10)
                turn += 1
                RUNTIME.sleep(0.01)  # 13 MB/s: a hundred times what is let through

    flooder = RUNTIME.spawn("flood", flood)
    try:
        _wait(lambda: (node.header(0) or Header("")).skipped > 0 and node.header(CHATTY) is not None)
        for number in range(COMMITS):
            node.liveness.commit([Put("/mark", b"%d" % number)])
    finally:
        over = True
        flooder.join(PATIENCE)
    published = sum("/console/" in path for path in node.sessions["consolelog"].paths)
    assert published > CHATTY
    assert node.liveness.session_id == identity
    assert node.liveness.states == [], "the session was interrupted"
    assert node.daemon.context.registered()
    assert [path for path in node.liveness.paths if "/console" in path] == []
    assert node.sessions["consolelog"].session_id not in (0, identity)


def _wait(condition: Callable[[], bool]) -> None:
    deadline = RUNTIME.monotonic() + PATIENCE
    while not condition():
        assert RUNTIME.monotonic() < deadline, "waited in vain"
        RUNTIME.sleep(0.01)
