"""The program pvcd itself on a real ZooKeeper: with no role, with every role, and with one less than its VMs need."""

import json
import logging
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pvc.core import keys
from pvc.core.config.settings import ZooKeeperSettings
from pvc.core.coordination import Coordinator, Create, Op
from pvc.core.model import ActualState, Node, Vm, VmActual, VmState
from pvc.core.process import Running, SystemProcesses
from pvc.core.pvcd import BAD_CONFIGURATION
from pvc.core.records import decode, encode
from pvc.core.threads import ThreadRuntime
from pvc.core.tree import tree_ops
from pvc.core.zookeeper import connect, initialise
from pvc.testing.zookeeper import ZooKeeperServer

pytestmark = pytest.mark.zookeeper

RUNTIME = ThreadRuntime()
LOG = logging.getLogger("test.pvcd")
PATIENCE = 60.0

WITHOUT = """
import sys
for library in {blocked}:
    sys.modules[library] = None
from pvc.core.pvcd import main
main()
"""


class Host:
    """One host on which a test starts pvcd, and a client."""

    def __init__(self, server: ZooKeeperServer, directory: Path) -> None:
        self._settings = ZooKeeperSettings(hosts=(server.host,), root=f"/test-{RUNTIME.new_id()}", session_timeout=4.0)
        self._directory = directory
        self._running: list[Running] = []
        initialise(self._settings, tree_ops(), runtime=RUNTIME, name="test", log=LOG)
        self.client: Coordinator = connect(self._settings, runtime=RUNTIME, name="test", log=LOG)

    def start(self, roles: str, blocked: tuple[str, ...] = ()) -> Running:
        """Start pvcd with these roles; `blocked` libraries are not installed for it."""
        path = self._directory / "pvc.yaml"
        path.write_text(
            f"node: n1\nroles: {roles}\n"
            f"zookeeper: {{hosts: ['{self._settings.hosts[0]}'], root: {self._settings.root}, session_timeout: 4}}\n"
        )
        command = [sys.executable, "-c", WITHOUT.format(blocked=blocked), "--config", str(path)]
        running = SystemProcesses().start(command, output=self._directory / "log")
        self._running.append(running)
        return running

    def log(self) -> str:
        return (self._directory / "log").read_text()

    def node(self) -> Node:
        znode = self.client.get(keys.node("n1"))
        assert znode is not None, self.log()
        return decode(Node, znode.data, "node")

    def await_facts(self, running: Running) -> dict[str, str]:
        """What it publishes beside the fields that every node has."""
        until = RUNTIME.monotonic() + PATIENCE
        while (znode := self.client.get(keys.node_facts("n1"))) is None:
            assert running.poll() is None and RUNTIME.monotonic() < until, self.log()
            RUNTIME.sleep(0.1)
        extra: dict[str, str] = json.loads(znode.data)["extra"]
        return extra

    def stop(self, running: Running) -> int | None:
        running.signal(signal.SIGTERM)
        return running.wait(PATIENCE)

    def close(self) -> None:
        for running in self._running:
            running.signal(signal.SIGKILL)
            running.wait(PATIENCE)
        self.client.close()


@pytest.fixture
def host(zookeeper_server: ZooKeeperServer, tmp_path: Path) -> Iterator[Host]:
    made = Host(zookeeper_server, tmp_path)
    yield made
    made.close()


def test_a_node_without_any_role_is_a_member_and_needs_no_library_of_a_role(host: Host) -> None:
    off = "{hypervisor: false, networking: false, storage: false}"
    running = host.start(off, blocked=("libvirt", "inotify_simple"))
    extra = host.await_facts(running)
    assert (host.node().roles, host.node().plugins) == ((), ("flushlock",))
    assert {name.partition(".")[0] for name in extra} == {"flushlock"}
    assert host.stop(running) == 0, host.log()


def test_a_node_with_every_role_is_a_member(host: Host) -> None:
    running = host.start("{hypervisor: true, networking: true, storage: true}")
    host.await_facts(running)
    assert host.node().roles == ("hypervisor", "networking", "storage")
    assert host.node().plugins == ("flushlock", "consolelog")
    assert host.stop(running) == 0, host.log()


def test_pvcd_ends_without_a_trace_if_vms_need_a_role_that_is_off(host: Host) -> None:
    running = host.start("{hypervisor: false, networking: true, storage: true}")
    host.await_facts(running)
    assert host.stop(running) == 0, host.log()
    vm = Vm("u1", "web", VmState.RUNNING, "n1", 64, 1, needs={"networking": ("br0",)})
    actual = VmActual(ActualState.RUNNING, "n1")
    records: list[Op] = [Create(keys.vm("u1"), encode(vm)), Create(keys.vm_actual("u1"), encode(actual))]
    host.client.commit([*records, Create(keys.node_vm("n1", "u1"))])
    before = host.client.get(keys.node("n1"))

    refused = host.start("{hypervisor: false, networking: false, storage: true}")
    assert refused.wait(PATIENCE) == BAD_CONFIGURATION, host.log()
    assert "networking is needed by web (br0)" in host.log()
    assert host.client.get(keys.node("n1")) == before
    assert host.client.get(keys.node_session("n1")) is None

    without = host.start("{hypervisor: false, networking: true, storage: false}")
    until = RUNTIME.monotonic() + PATIENCE
    while host.client.get(keys.node_session("n1")) is None:
        assert without.poll() is None and RUNTIME.monotonic() < until, host.log()
        RUNTIME.sleep(0.1)
    assert host.node().roles == ("networking",)
    assert "roles networking, storage => networking" in host.log()
    assert host.stop(without) == 0, host.log()
