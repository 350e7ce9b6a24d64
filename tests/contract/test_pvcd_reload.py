"""A real pvcd on a real server is told by SIGHUP to read its files again; systemd is told too."""

import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pvc.core import keys
from pvc.core.config.settings import ZooKeeperSettings
from pvc.core.model import NodeFacts
from pvc.core.process import Running, SystemProcesses
from pvc.core.pvcd import BAD_CONFIGURATION
from pvc.core.records import decode
from pvc.core.threads import ThreadRuntime
from pvc.core.tree import tree_ops
from pvc.core.zookeeper import connect, initialise
from pvc.testing.zookeeper import ZooKeeperServer

RUNTIME = ThreadRuntime()
LOG = logging.getLogger("test")
WITHIN = 60.0
"""Seconds that anything here may take on a busy machine."""


class Node:
    """A daemon without roles in a process of its own, and its files."""

    def __init__(self, directory: Path, server: ZooKeeperServer) -> None:
        self.file = directory / "pvc.yaml"
        self.beside = directory / "conf.d" / "10-more.yaml"
        self.beside.parent.mkdir()
        self.output = directory / "pvcd.log"
        self.zookeeper = ZooKeeperSettings(hosts=(server.host,), root=f"/{RUNTIME.new_id()}", session_timeout=4.0)
        self.write("")
        initialise(self.zookeeper, tree_ops(), runtime=RUNTIME, name="test", log=LOG)
        self.systemd = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.systemd.bind(str(directory / "notify"))
        self.systemd.settimeout(WITHIN)
        environment = {**os.environ, "NOTIFY_SOCKET": str(directory / "notify")}
        command = [sys.executable, "-c", "from pvc.core.pvcd import main; main()", "--config", str(self.file)]
        self.process: Running = SystemProcesses().start(command, output=self.output, env=environment)

    def write(self, more: str) -> None:
        """The main file is that text below what every configuration here has."""
        head = f"node: hv1\nzookeeper: {{hosts: ['{self.zookeeper.hosts[0]}'], root: {self.zookeeper.root}}}\n"
        self.file.write_text(f"{head}roles: {{hypervisor: false}}\nplugins: {{consolelog: false}}\n{more}")

    def told(self) -> str:
        """What systemd is told next."""
        return self.systemd.recv(1000).decode()

    def reload(self) -> list[str]:
        """Send SIGHUP; what systemd is told from its begin to its end."""
        self.process.signal(signal.SIGHUP)
        return [self.told(), self.told()]

    def close(self) -> int | None:
        """End it as its service manager would."""
        self.process.signal(signal.SIGTERM)
        code = self.process.wait(WITHIN)
        self.systemd.close()
        return code


@pytest.fixture
def node(tmp_path: Path, zookeeper_server: ZooKeeperServer) -> Iterator[Node]:
    made = Node(tmp_path, zookeeper_server)
    assert made.told() == "READY=1"
    yield made
    if made.process.poll() is None:
        made.close()


@pytest.mark.zookeeper
def test_sighup_applies_what_may_change_says_what_may_not_and_survives_a_bad_file(node: Node) -> None:
    node.beside.write_text("flushlock: {concurrent: 3}\nzookeeper: {connect_timeout: 7}\n")
    begin, end = node.reload()
    assert begin.startswith("RELOADING=1\nMONOTONIC_USEC=") and end.startswith("READY=1\nSTATUS=Reloaded")
    log = node.output.read_text()
    assert "configuration: flushlock.concurrent: 1 -> 3, applied" in log
    assert "configuration: zookeeper.connect_timeout: 15.0 -> 7.0, needs a restart of pvcd" in log

    node.beside.write_text("flushlock: {concurrent: none}\n\nnodes: hv1\n")
    assert node.reload()[1].startswith("READY=1\nSTATUS=Reload failed")
    log = node.output.read_text()
    assert f'{node.beside}:1: flushlock.concurrent: found "none" (text)' in log
    assert f"{node.beside}:3: nodes: unknown key; did you mean 'node'?" in log
    assert node.process.poll() is None

    node.beside.write_text("a: [\n")
    assert node.reload()[1].startswith("READY=1\nSTATUS=Reload failed")
    assert f"{node.beside}:2: not valid YAML" in node.output.read_text()

    node.beside.unlink()
    assert node.reload()[1].startswith("READY=1\nSTATUS=Reloaded")
    assert "configuration: flushlock.concurrent: 3 -> 1, applied" in node.output.read_text()
    assert "Traceback" not in node.output.read_text()


@pytest.mark.zookeeper
def test_the_outcome_stands_in_the_nodes_facts(node: Node) -> None:
    node.write("flushlock: {concurrent: 2}\naddress: 10.0.0.1\n")
    node.reload()
    cluster = connect(node.zookeeper, runtime=RUNTIME, name="test", log=LOG)
    expected = ["changed, but not in force before a restart of pvcd: address"]
    changed = RUNTIME.signal()
    deadline = RUNTIME.monotonic() + WITHIN
    while RUNTIME.monotonic() < deadline:
        znode = cluster.get(keys.node_facts("hv1"), changed.set)
        facts = decode(NodeFacts, znode.data, "facts") if znode else NodeFacts()
        if [f.text for f in facts.findings] == expected:  # it may have something else to say before
            break
        changed.wait(1.0)
    cluster.close()
    assert facts.extra["flushlock.concurrent"] == "2"
    assert [f.text for f in facts.findings] == expected


@pytest.mark.zookeeper
def test_many_signals_are_no_harm_and_sigterm_still_ends_it(node: Node) -> None:
    for _ in range(20):
        node.process.signal(signal.SIGHUP)
    assert node.close() == 0
    assert "Traceback" not in node.output.read_text()


def test_sighup_before_there_is_anything_to_reload_does_not_end_it(tmp_path: Path) -> None:
    pipe = tmp_path / "pvc.yaml"
    os.mkfifo(pipe)
    command = [sys.executable, "-c", "from pvc.core.pvcd import main; main()", "--config", str(pipe)]
    process = SystemProcesses().start(command, output=tmp_path / "log")
    with pipe.open("w") as file:  # it reads its configuration now
        process.signal(signal.SIGHUP)
        file.write("nod: hv1\n")
    assert process.wait(WITHIN) == BAD_CONFIGURATION
