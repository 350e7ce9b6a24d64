"""Rolling maintenance on real VMs: the command meets an empty node, and a client that is killed is resumed."""

import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from pvc.lab.cluster import Lab
from pvc.lab.shape import Shape
from tests.lab.cluster import RealCluster

pytestmark = pytest.mark.lab

VMS = ["vm1", "vm2", "vm3"]
EMPTY = 'test -z "$(virsh -c qemu+tcp://$PVC_NODE_ADDRESS/system list --name)"'
"""Asks libvirt itself, from the client's machine."""


@pytest.fixture(scope="module")
def the_lab(labs_directory: Path) -> Iterator[RealCluster]:
    lab = Lab("roll", Shape(nodes=3, vms=3, vm_memory=96, vm_args="rate=20 fill=32"), directory=labs_directory)
    try:
        lab.up()
        yield RealCluster(lab)
    finally:
        lab.down()


@pytest.fixture
def cluster(the_lab: RealCluster) -> Iterator[RealCluster]:
    """All nodes ready, every VM at home and running, before and after."""
    yield the_lab
    the_lab.go_home(VMS)
    assert the_lab.all_once(VMS), the_lab.copies()


def test_a_roll_runs_its_command_while_no_vm_is_on_the_node(cluster: RealCluster, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    before = cluster.lab.vm_processes("hv3")
    command = f"{EMPTY} && echo $PVC_NODE >> {notes}"
    said = cluster.ok("cluster", "roll", "--nodes", "hv1,hv2", "--run", command, "--yes", "--settle", "1")
    assert notes.read_text().split() == ["hv1", "hv2"]
    assert said.splitlines()[-1].startswith("the roll is done: 2 nodes in ")
    assert cluster.all_once(VMS)
    assert cluster.copies() == {"vm1": ["hv1"], "vm2": ["hv2"], "vm3": ["hv3"]}
    assert cluster.lab.vm_processes("hv3") == before  # it was never touched
    assert cluster.ask("status")["roll"] is None


def test_a_client_that_is_killed_is_resumed_and_flushes_nothing_twice(cluster: RealCluster, tmp_path: Path) -> None:
    notes, output = tmp_path / "notes", tmp_path / "output"
    command = f"{EMPTY} && echo $PVC_NODE >> {notes}"
    options = ("--nodes", "hv1,hv2", "--run", command, "--yes", "--settle", "10")
    roll = cluster.begin(output, "cluster", "roll", *options)
    cluster.wait("it drives", lambda: "hv1 (1 of 2): flush" in output.read_text())
    driver = re.search(r"driven by \S+ process (\d+)", cluster.refused("cluster", "roll", "--run", "true"))
    assert driver is not None
    cluster.wait("hv2 is to settle", lambda: "hv2 (2 of 2): wait until" in output.read_text(), 180)
    assert cluster.lab.run(["kill", "-KILL", driver[1]]).code == 0
    assert roll.wait(10)
    assert cluster.ask("status")["roll"].startswith("hv2 (2 of 2): still flushed")
    said = cluster.ok("cluster", "roll", "--resume")
    assert "hv1 (1 of 2)" not in said
    assert "hv2 (2 of 2): flush" not in said
    assert notes.read_text().split() == ["hv1", "hv2"]
    assert cluster.all_once(VMS)


def test_a_daemon_that_stops_during_the_command_is_waited_for(cluster: RealCluster, tmp_path: Path) -> None:
    output = tmp_path / "output"
    roll = cluster.begin(output, "cluster", "roll", "--nodes", "hv1", "--run", "true", "--yes", "--settle", "10")
    cluster.wait("the command has run", lambda: "hv1 (1 of 1): wait until" in output.read_text())
    cluster.lab.kill("pvcd", "hv1", signal.SIGTERM)
    cluster.wait("it is missed", lambda: "the daemon of hv1 does not answer" in output.read_text())
    assert cluster.node("hv1")["state"] == "flushed"
    cluster.lab.start("pvcd", "hv1")
    assert roll.wait(90) == 0, output.read_text()
    assert cluster.node("hv1")["state"] == "ready"
