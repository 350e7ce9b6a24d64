"""Something dies or is cut off at several points of a flush of six VMs: each runs once at the end, and the end is true.

The points are read from the log of the flushed node's daemon, so that a fault of ZooKeeper does not delay them. A
daemon that is killed is started again at once, as systemd would do, unless the fault says otherwise.
"""

import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest

from pvc.core.process import Running
from pvc.lab.cluster import Lab
from pvc.lab.shape import Shape
from tests.lab.cluster import NODES, RealCluster

pytestmark = pytest.mark.lab

VMS = [f"vm{number}" for number in range(1, 7)]
END = 300.0
"""Seconds within which a flush must end whatever happens."""
QUICKLY = 0.01
"""Seconds between looks for a point of a flush."""


@dataclass(frozen=True)
class Flush:
    """A flush of hv1 under way."""

    cluster: RealCluster
    command: Running
    output: Path
    log_before: int
    """Bytes that the log of hv1's daemon had when the flush was asked for."""

    def said(self) -> str:
        """What `pvc node flush --wait` has printed."""
        return self.output.read_text()

    def logged(self) -> str:
        """What hv1's daemon has logged meanwhile."""
        log = self.cluster.lab.log("hv1", "pvcd")
        return log.read_bytes()[self.log_before :].decode(errors="replace")

    def moves(self) -> dict[str, str]:
        """Each VM whose move has begun, in that order, and the target of its latest one."""
        return dict(re.findall(r"vm (vm\d): \w+ => migrating \(to (hv\d)\)", self.logged()))

    def target(self) -> str:
        """The target of the latest move; before the first, where it will go."""
        begun = re.findall(r"=> migrating \(to (hv\d)\)", self.logged())
        return str(begun[-1]) if begun else "hv2"

    def is_over(self) -> bool:
        return self.command.poll() is not None

    def reach(self, point: "Point") -> None:
        """Wait for a point; only the last one may be missed, as the end comes right after it."""
        self.cluster.wait("the next point", lambda: point(self) or self.is_over(), END, pause=QUICKLY)
        assert point is empty or point(self), "the flush was over before"

    def hear(self, words: str) -> None:
        """Wait until the command says so once more than it has, or the flush is over."""
        before = self.said().count(words)
        self.cluster.wait(words, lambda: self.said().count(words) > before or self.is_over(), pause=QUICKLY)


Point = Callable[[Flush], bool]
Fault = Callable[[Flush], None]


def planning(flush: Flush) -> bool:
    """It has its turn, and has ordered nothing yet."""
    return "flush hv1: queued => planning" in flush.logged()


def move(number: int) -> Point:
    """So many VMs have been handed to libvirt to move."""
    return lambda flush: len(flush.moves()) >= number


def empty(flush: Flush) -> bool:
    """The last QEMU process has left, and nobody has looked yet."""
    return len(flush.moves()) == len(VMS) and not flush.cluster.emulators("hv1")


def kill_and_restart(what: str, of: Callable[[Flush], str]) -> Fault:
    def fault(flush: Flush) -> None:
        node = of(flush)
        flush.cluster.lab.kill(what, node, signal.SIGKILL)
        flush.cluster.lab.start(what, node, wait=False)

    return fault


def kill_for_good(what: str) -> Fault:
    """Kill what the target runs; it is not back before the flush is over."""
    return lambda flush: flush.cluster.lab.kill(what, flush.target(), signal.SIGKILL)


def kill_until_its_session_has_ended(flush: Flush) -> None:
    flush.cluster.lab.kill("pvcd", "hv1", signal.SIGKILL)
    flush.hear("the daemon of hv1 does not answer")
    flush.cluster.lab.start("pvcd", "hv1", wait=False)


def kill_zookeeper_until_all_sessions_have_ended(flush: Flush) -> None:
    """Servers that are away end no session, so it comes back first where nobody can reach it."""
    lab = flush.cluster.lab
    lab.kill("zookeeper", "zk1", signal.SIGKILL)
    lab.partition("zk1")
    lab.start("zookeeper", "zk1")
    dump = ["sh", "-c", "echo dump | busybox nc $(hostname) 2181"]
    flush.cluster.wait("no session is left", lambda: "Sessions with Ephemerals (0)" in lab.run(dump, "zk1").stdout)
    lab.heal("zk1")


def cut_off_for_a_moment(flush: Flush) -> None:
    """Until its daemon notices, which is before its session ends."""
    noticed = re.compile(r"ZooKeeper session of hv1/daemon: connected => suspended")
    before = len(noticed.findall(flush.logged()))
    flush.cluster.lab.partition("hv1")
    flush.cluster.wait("hv1 notices", lambda: len(noticed.findall(flush.logged())) > before, pause=QUICKLY)
    flush.cluster.lab.heal("hv1")


def cut_off_until_its_session_has_ended(flush: Flush) -> None:
    flush.cluster.lab.partition("hv1")
    flush.hear("the daemon of hv1 does not answer")
    flush.cluster.lab.heal("hv1")


def hv1(_flush: Flush) -> str:
    return "hv1"


def zk1(_flush: Flush) -> str:
    return "zk1"


EVERYWHERE = (planning, move(1), move(3), move(6), empty)
FAULTS: dict[str, tuple[Fault, tuple[Point, ...]]] = {
    "its-pvcd-dies": (kill_and_restart("pvcd", hv1), EVERYWHERE),
    "its-pvcd-stays-away": (kill_until_its_session_has_ended, (planning, move(3), empty)),
    "pvcd-of-the-target-dies": (kill_and_restart("pvcd", Flush.target), EVERYWHERE),
    "pvcd-of-the-target-stays-away": (kill_for_good("pvcd"), (move(2),)),
    "its-libvirtd-dies": (kill_and_restart("libvirtd", hv1), EVERYWHERE),
    "zookeeper-dies": (kill_and_restart("zookeeper", zk1), EVERYWHERE),
    "zookeeper-stays-away": (kill_zookeeper_until_all_sessions_have_ended, (move(4), empty)),
    "it-is-cut-off": (cut_off_for_a_moment, (planning, move(3), move(6), empty)),
    "it-stays-cut-off": (cut_off_until_its_session_has_ended, (move(3), empty)),
    # The last ones: libvirt may keep remains of a VM that was arriving, and it cannot move there any more.
    "libvirtd-of-the-target-dies-early": (kill_and_restart("libvirtd", Flush.target), (planning, move(4))),
    "libvirtd-of-the-target-dies-late": (kill_and_restart("libvirtd", Flush.target), (move(1), move(6), empty)),
    "libvirtd-of-the-target-stays-away": (kill_for_good("libvirtd"), (move(2),)),
}


@pytest.fixture(scope="module")
def the_lab(labs_directory: Path) -> Iterator[RealCluster]:
    lab = Lab("faults", Shape(nodes=3, vms=6, vm_memory=96, vm_args="rate=20 fill=64"), directory=labs_directory)
    try:
        lab.up()
        yield RealCluster(lab)
    finally:
        lab.down()


@pytest.fixture
def cluster(the_lab: RealCluster) -> RealCluster:
    """All nodes ready and all VMs at home on hv1."""
    for row in the_lab.ask("vm", "list"):
        if row["node"] != "hv1" or row["home"]:
            the_lab.ok("vm", "move", row["name"], "hv1", "--no-wait")
    the_lab.wait("all are on hv1", partial(all_run_once, the_lab, "hv1"))
    return the_lab


@pytest.mark.parametrize("name", FAULTS)
def test_a_flush_comes_to_a_true_end_and_each_vm_runs_once_whatever_dies(
    cluster: RealCluster, tmp_path: Path, name: str
) -> None:
    fault, points = FAULTS[name]
    ages = {vm: last_number(cluster, vm) for vm in VMS}
    with flushing(cluster, tmp_path / "flush") as flush:
        for point in points:
            flush.reach(point)
            fault(flush)
        assert_true_end(flush)
        assert_never_twice(cluster)
        moved = [vm for vm in VMS if vm not in cluster.emulators("hv1")]
        cluster.ok("node", "unflush", "hv1", "--wait", "--parallel", "2", "--timeout", "280", timeout=END)
        cluster.wait("each VM is home", partial(all_run_once, cluster, "hv1"))
        assert_never_twice(cluster)
        cluster.wait("each VM speaks there", lambda: all(last_number(cluster, vm) for vm in VMS))
        assert [vm for vm in moved if has_started_on_hv1(cluster, vm)] == [], "these have not arrived, but begun anew"
        assert all(last_number(cluster, vm) > ages[vm] for vm in VMS), "somebody was started anew"
        assert cluster.ask("node", "queue") == []


@contextmanager
def flushing(cluster: RealCluster, output: Path) -> Iterator[Flush]:
    """Flush hv1; if something goes wrong then, everything is told, and the lab is mended for the next test."""
    log_before = cluster.lab.log("hv1", "pvcd").stat().st_size
    flush = Flush(cluster, cluster.begin(output, "node", "flush", "hv1", "--wait"), output, log_before)
    try:
        yield flush
    except BaseException:
        print(flush.said(), flush.logged(), {name: cluster.emulators(name) for name in NODES}, sep="\n")
        flush.command.signal(signal.SIGKILL)
        flush.command.wait(END)
        cluster.lab.up()
        cluster.go_home([])
        raise


def assert_true_end(flush: Flush) -> None:
    """What the operation says last is what is so at that moment; and it has left the queue."""
    cluster = flush.cluster
    code = flush.command.wait(END)
    here = cluster.emulators("hv1")
    last = flush.said().splitlines()[-1]
    if code == 0:
        assert "done: hv1 is flushed: 6 VMs moved, none left" in last, flush.said()
        assert here == [], flush.said()
    else:
        assert code == 3, flush.said()
        assert sorted(re.findall(r"(vm\d): ", last.partition(" left: ")[2])) == here, flush.said()
    for node in NODES:
        cluster.lab.start("libvirtd", node, wait=False)
        cluster.lab.start("pvcd", node, wait=False)
    cluster.wait("all nodes answer", lambda: all(row["alive"] for row in cluster.ask("node", "list")))
    cluster.wait("each VM runs once", partial(all_run_once, cluster))
    info = cluster.node("hv1")
    assert info["state"] == ("flushed" if code == 0 else "flushing")
    assert cluster.emulators("hv1") == here
    for outcome in info["outcomes"]:
        assert (outcome["state"] == "moved") == (outcome["vm"] not in here), outcome
        assert outcome["vm"] in cluster.emulators(outcome["to"] or "hv1"), outcome
    cluster.wait("it has left the queue", lambda: cluster.ask("node", "queue") == [])


def all_run_once(cluster: RealCluster, node: str | None = None) -> bool:
    """Whether there is one QEMU process of each VM, where the records say; and all on one node, if one is given."""
    where = {name: cluster.emulators(name) for name in NODES}
    if sorted(vm for vms in where.values() for vm in vms) != VMS or (node and where[node] != VMS):
        return False
    return all(row["state"] == "running" and row["name"] in where[row["node"]] for row in cluster.ask("vm", "list"))


def assert_never_twice(cluster: RealCluster) -> None:
    """VMs number their lines, and the number moves with them: two copies of one would print the same.

    To be looked at before a VM comes back: a file begins anew with each QEMU.
    """
    for vm in VMS:
        everything = sorted(number for some in cluster.console_numbers(vm).values() for number in some)
        twice = [a for a, b in pairwise(everything) if a == b]
        assert not twice, f"{vm} has printed these on two nodes: {twice}"


def has_started_on_hv1(cluster: RealCluster, vm: str) -> bool:
    """Whether the QEMU that a VM has on hv1 booted it; one that takes a VM over does not see that."""
    return f"{vm} starts: " in (cluster.lab.console_directory("hv1") / f"{vm}-console.log").read_text(errors="replace")


def last_number(cluster: RealCluster, vm: str) -> int:
    """The highest number that a VM has printed on hv1."""
    return max(cluster.console_numbers(vm)["hv1"], default=0)
