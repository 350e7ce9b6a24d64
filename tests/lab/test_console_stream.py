"""A console followed through moves, rotation by virtlogd, a killed daemon and a restarted ZooKeeper, all in one run."""

import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest

from pvc.core.process import Running, SystemProcesses
from pvc.core.threads import ThreadRuntime
from pvc.lab.cluster import Lab
from pvc.lab.deadline import wait_until
from pvc.lab.shape import Shape
from tests.lab.cluster import DEADLINE, UNHURRIED, RealCluster

pytestmark = pytest.mark.lab

NODES = ("hv1", "hv2")
RATE = 200
"""Lines a second that each VM prints."""
ROTATED_AT = 48 * 1024
"""Bytes at which virtlogd rotates: every few seconds, so that each kind of trouble meets a rotation."""


@dataclass
class Followed:
    """A follower of one VM, with what it said on both of its outputs."""

    name: str
    running: Running
    out: Path
    err: Path

    def numbers(self) -> list[int]:
        return [int(number) for number in re.findall(rf"^{self.name} (\d{{6,}}) ", self.text(), re.MULTILINE)]

    def text(self) -> str:
        return self.out.read_bytes().decode(errors="replace")

    def gaps(self) -> int:
        return self.err.read_text().count("missing here")

    def stop(self) -> None:
        self.running.signal(signal.SIGTERM)
        self.running.wait(10)


def keep_logs_with_virtlogd(lab: Lab, node: str, output: Path) -> Running:
    """Let a node's libvirtd write its consoles through a virtlogd of the node's own, as most hosts do."""
    rotation = f"max_size = {ROTATED_AT}\\nmax_backups = 3\\n"
    change = f"sed -i s/file/logd/ /etc/libvirt/qemu.conf && printf '{rotation}' > /etc/libvirt/virtlogd.conf"
    assert lab.run(["sh", "-c", change], node).code == 0
    daemon = SystemProcesses().start(
        lab.enter(["virtlogd", "--pid-file", "/run/libvirt/virtlogd.pid"], node), output=output
    )
    listens = ["test", "-S", "/run/libvirt/virtlogd-sock"]
    wait_until(ThreadRuntime(), DEADLINE, lambda: "no virtlogd" if lab.run(listens, node).code else None)
    lab.kill("libvirtd", node, signal.SIGTERM)
    lab.start("libvirtd", node)
    return daemon


@pytest.fixture
def cluster(labs_directory: Path, tmp_path: Path) -> Iterator[RealCluster]:
    """Two nodes with virtlogd; vm1 prints numbered lines, vm2 also lines that are all alike and blank ones."""
    lab = Lab("stream", Shape(nodes=2, vms=0, session_timeout=UNHURRIED), directory=labs_directory)
    loggers: list[Running] = []
    try:
        lab.up()
        loggers += [keep_logs_with_virtlogd(lab, node, tmp_path / f"virtlogd-{node}") for node in NODES]
        made = RealCluster(lab)
        for name, text in (("vm1", "numbered"), ("vm2", "mixed")):
            xml = lab.write_vm(name, arguments=f"rate={RATE} text={text}")
            made.ok("vm", "define", str(xml), "--node", "hv1")
            made.ok("vm", "start", name)
        yield made
    finally:
        lab.down()
        for logger in loggers:
            logger.signal(signal.SIGKILL)
            logger.wait(10)


def follow(cluster: RealCluster, name: str, directory: Path) -> Followed:
    out, err = directory / f"{name}.out", directory / f"{name}.err"
    out.touch()
    err.touch()
    command = ["sh", "-c", f"exec pvc vm log -f -n 1000000 {name} >{out} 2>{err}"]
    running = SystemProcesses().start(cluster.lab.enter(command), output=directory / f"{name}.shell")
    return Followed(name, running, out, err)


def rotations(cluster: RealCluster, name: str) -> int:
    """Rotated files that lie on the nodes."""
    return sum(len(list(cluster.lab.console_directory(node).glob(f"{name}-console.log.*"))) for node in NODES)


def test_a_follower_sees_each_line_once_whatever_happens_on_the_way(cluster: RealCluster, tmp_path: Path) -> None:
    followed = [follow(cluster, name, tmp_path) for name in ("vm1", "vm2")]
    try:
        cluster.wait("the consoles speak", lambda: all(len(each.numbers()) > 50 for each in followed))
        rotated = 0
        for turn in range(5):
            for target in ("hv2", "hv1"):
                for each in followed:
                    cluster.ok("vm", "move", each.name, target)
            if turn == 1:
                cluster.lab.kill("pvcd", "hv1", signal.SIGKILL)
                cluster.lab.start("pvcd", "hv1")
                cluster.wait_alive(*NODES)
            if turn == 3:
                cluster.lab.kill("zookeeper", "zk1", signal.SIGTERM)
                cluster.lab.start("zookeeper", "zk1")
                cluster.wait_alive(*NODES)
            for each in followed:
                seen = len(each.numbers())
                cluster.wait("it goes on", partial(lambda each, seen: len(each.numbers()) > seen + 200, each, seen))
            rotated += rotations(cluster, "vm1")
    finally:
        for each in followed:
            each.stop()
    numbered, mixed = followed
    assert rotated > 0, "virtlogd has rotated nothing"
    holes = [(a, b) for a, b in pairwise(numbered.numbers()) if b != a + 1]
    assert all(b > a for a, b in holes), f"repeated: {holes}"
    assert len(holes) <= numbered.gaps(), f"not explained: {holes}"
    blocks = whole_blocks(mixed)
    assert all(b >= a + 4 for a, b in pairwise(blocks)), "repeated"
    assert sum(b != a + 4 for a, b in pairwise(blocks)) <= mixed.gaps()
    assert len(numbered.numbers()) > 5 * RATE


def whole_blocks(followed: Followed) -> list[int]:
    """The number that begins each block of four lines: numbered, identical, blank, blank. Fails for any other."""
    _, *parts = re.split(rf"^{followed.name} (\d{{6,}}) hello from the tiny kernel$", followed.text(), flags=re.M)
    expected = f"\n{followed.name} hello from the tiny kernel\n\n\n"
    odd = [body for body in parts[1:-2:2] if body != expected]  # the last may not be complete
    assert len(odd) <= followed.gaps(), odd[:5]
    return [int(number) for number in parts[::2]]
