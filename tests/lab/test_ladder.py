"""A real VM that changes its memory faster than the wire carries it: without post-copy it stays, with it it moves.

512 MiB of which 30,000 pages (117 MiB) are written each second, copied at 50 MiB/s, under QEMU without KVM.
"""

import re
import signal
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from pvc.lab.cluster import Lab
from pvc.lab.shape import Shape
from tests.lab.cluster import UNHURRIED, RealCluster

pytestmark = pytest.mark.lab

SETTINGS = "hypervisor.migration"


@pytest.fixture
def cluster(labs_directory: Path) -> Iterator[RealCluster]:
    """Two nodes as they are by default, and the VM on the first."""
    arguments = "rate=5 fill=480 dirty=30000"
    shape = Shape(nodes=2, vms=1, vm_memory=512, vm_args=arguments, session_timeout=UNHURRIED)
    lab = Lab("ladder", shape, directory=labs_directory)
    try:
        lab.up()
        yield RealCluster(lab)
    finally:
        lab.down()


def test_a_vm_that_does_not_converge_stays_unless_post_copy_is_allowed(cluster: RealCluster, tmp_path: Path) -> None:
    output = tmp_path / "console"
    console = cluster.follow(output, tmp_path / "notices", "vm1")
    try:
        cluster.wait("the console speaks", lambda: len(_numbers(output)) > 5)
        cluster.ok("vm", "set", "vm1", f"{SETTINGS}.bandwidth=50", f"{SETTINGS}.deadline_per_gib=10")

        first = cluster.pvc("node", "flush", "hv1", "--wait")
        assert first.code == 3, first.stdout + first.stderr
        assert "did not end within 10 s (10 s per GiB); allow post_copy" in first.stdout
        assert cluster.copies().get("vm1", [])[:1] == ["hv1"]
        cluster.wait("it runs on hv1 alone", lambda: cluster.copies() == {"vm1": ["hv1"]} and cluster.all_once(["vm1"]))
        assert cluster.node("hv1")["state"] == "flushing"
        before = len(_numbers(output))
        cluster.wait("it runs on", lambda: len(_numbers(output)) > before + 10)

        cluster.ok("vm", "set", "vm1", f"{SETTINGS}.post_copy=true")
        second = cluster.ok("node", "flush", "hv1", "--wait")
        assert "hv1 is flushed: 1 VM moved, none left" in second
        cluster.wait("it runs on hv2 alone", lambda: cluster.copies() == {"vm1": ["hv2"]} and cluster.all_once(["vm1"]))
        before = len(_numbers(output))
        cluster.wait("it runs there", lambda: len(_numbers(output)) > before + 10)
    finally:
        console.signal(signal.SIGTERM)
        console.wait(10)
    numbers = _numbers(output)
    assert all(later == sooner + 1 for sooner, later in pairwise(numbers)), numbers
    assert [rung for rung in _rungs(cluster) if rung != "allowing a downtime of 0.6 s"] == [  # a slow machine skips it
        "allowing a downtime of 1.2 s",
        "aborted: it did not end within 10 s (10 s per GiB)",
        "allowing a downtime of 1.2 s",
        "switching to post-copy",
    ]


def _numbers(path: Path) -> list[int]:
    """The counters of the lines that the VM printed."""
    return [int(number) for number in re.findall(r"^vm1 (\d{6}) ", path.read_text(errors="replace"), re.MULTILINE)]


def _rungs(cluster: RealCluster) -> list[str]:
    """What the daemon of the source did about the migrations, by its log."""
    log = cluster.lab.log("hv1", "pvcd").read_text()
    return re.findall(r"vm vm1: migration (?:does not converge, )?(allowing .*|switching .*|aborted: .*)", log)
