"""Real VMs, with Debian's kernel as guest, are plugged into a network and out of it while they run."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pvc.lab.cluster import Lab
from pvc.lab.shape import Shape
from tests.lab.cluster import UNHURRIED, RealCluster

pytestmark = pytest.mark.lab

MACS = {"vm1": "52:54:00:00:00:01", "vm2": "52:54:00:00:00:02"}


@pytest.fixture(scope="module")
def site(labs_directory: Path) -> Iterator[RealCluster]:
    """Two nodes with networking, each with a VM that is on no network."""
    shape = Shape(nodes=2, vms=2, vm_image="linux", networking=True, session_timeout=UNHURRIED)
    lab = Lab("plugs", shape, directory=labs_directory)
    try:
        lab.up()
        cluster = RealCluster(lab)
        cluster.wait_alive("hv1", "hv2")
        cluster.ok("network", "add", "lan")
        cluster.wait("lan is up", lambda: cluster.ask("network", "info", "lan")["up"] == ["hv1", "hv2"])
        yield cluster
    finally:
        lab.down()


def ports(site: RealCluster, node: str) -> int:
    """How many VMs are plugged into the network's bridge."""
    return site.lab.run(["ip", "-oneline", "link", "show", "master", "pvb-lan"], node).stdout.count(": pvt")


def told(site: RealCluster, node: str) -> str:
    """The forwarding entries of a node's tunnel."""
    return site.lab.run(["bridge", "fdb", "show", "dev", "pvx-lan"], node).stdout


def test_vms_that_run_are_plugged_in_and_reached_moved_with_it_and_unplugged(site: RealCluster) -> None:
    assert site.lab.shape.placement() == {"vm1": "hv1", "vm2": "hv2"}
    for name, mac in MACS.items():
        assert site.ok("vm", "network", "add", name, "lan", "--mac", mac) == f"{name} is plugged into lan as {mac}\n"
    assert (ports(site, "hv1"), ports(site, "hv2")) == (1, 1)
    site.wait("hv1 knows vm2", lambda: f"{MACS['vm2']} dst 10.77.2.2" in told(site, "hv1"))
    site.wait("hv2 knows vm1", lambda: f"{MACS['vm1']} dst 10.77.2.1" in told(site, "hv2"))

    site.ok("vm", "move", "vm2", "hv1")
    assert (ports(site, "hv1"), ports(site, "hv2")) == (2, 0)
    site.ok("vm", "move", "vm2", "hv2")
    site.wait("hv1 knows vm2 again", lambda: f"{MACS['vm2']} dst 10.77.2.2" in told(site, "hv1"))

    assert site.ok("vm", "network", "remove", "vm2", "lan") == f"vm2 is unplugged from lan as {MACS['vm2']}\n"
    assert (ports(site, "hv1"), ports(site, "hv2")) == (1, 0)
    site.wait("hv1 knows vm2 no more", lambda: MACS["vm2"] not in told(site, "hv1"))
    assert site.ask("vm", "network", "list", "vm2") == [] and not site.vm("vm2")["needs"]
    assert site.copies() == {"vm1": ["hv1"], "vm2": ["hv2"]}


def test_what_libvirt_refuses_leaves_the_definition_as_it_was(site: RealCluster) -> None:
    before = site.ok("vm", "dump", "vm2")
    said = site.refused("vm", "network", "add", "vm2", "lan", "--model", "teapot")
    assert "vm2 is to be plugged into lan" in said and "and is not: libvirt: " in said, said
    assert site.ok("vm", "dump", "vm2") == before
    assert ports(site, "hv2") == 0 and site.copies()["vm2"] == ["hv2"]
