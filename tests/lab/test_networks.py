"""A real VM on a network of the cluster: plugged in by libvirt, and told of when it has moved."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pvc.lab.cluster import Lab
from pvc.lab.shape import Shape
from pvc.plugins.networking.decide.ports import device_of
from tests.lab.cluster import UNHURRIED, RealCluster
from tests.nftables import packets_counted, rules_met

pytestmark = pytest.mark.lab

MACS = {"vm1": "52:54:00:00:00:01", "vm2": "52:54:00:00:00:02"}
PLUGGED = "<interface type='network'><mac address='{mac}'/><source network='lan'/><model type='virtio'/></interface>"


@pytest.fixture(scope="module")
def site(labs_directory: Path) -> Iterator[RealCluster]:
    """Two nodes with networking, each with a VM that is on no network."""
    lab = Lab("nets", Shape(nodes=2, vms=2, networking=True, session_timeout=UNHURRIED), directory=labs_directory)
    try:
        lab.up()
        cluster = RealCluster(lab)
        cluster.wait_alive("hv1", "hv2")
        yield cluster
    finally:
        lab.down()


def told(site: RealCluster, node: str) -> str:
    """The forwarding entries of a node's tunnel."""
    return site.lab.run(["bridge", "fdb", "show", "dev", "pvx-lan"], node).stdout


def table(site: RealCluster, node: str) -> str:
    """The cluster's rules on a node, as nftables lists them."""
    return site.lab.run(["nft", "--json", "list", "table", "bridge", "pvc"], node).stdout


def filtered(site: RealCluster, node: str, name: str) -> bool:
    """Whether a VM's device is among the rules in force on a node."""
    return device_of(MACS[name]) in str(rules_met(table(site, node)))


def dropped(site: RealCluster, node: str) -> int | None:
    """How many packets the network's first rule has dropped on a node; None: it is not in force there."""
    return packets_counted(table(site, node), "lan in 1")


def knock(site: RealCluster, node: str, name: str) -> None:
    """Send one ping to a VM from a device of the node's in the network's bridge."""
    made = "ip link add k0 type veth peer name k1; ip link set k0 master pvb-lan up; ip link set k1 up"
    address = f"ip addr add 172.16.9.9/24 dev k1; ip neigh replace 172.16.9.1 lladdr {MACS[name]} dev k1"
    lets_through = "bridge link show dev k0 | grep -q forwarding && ip link show k1 | grep -q 'state UP'"
    ping = f"until {lets_through}; do sleep 0.05; done; busybox ping -c 1 -W 1 172.16.9.1"
    site.lab.run(["sh", "-c", f"{made}; {address}; {ping}; ip link del k0"], node)


def test_real_vms_are_plugged_in_and_a_move_is_told_to_the_other_node(site: RealCluster) -> None:
    site.ok("network", "add", "lan")
    site.wait("lan is up", lambda: site.ask("network", "info", "lan")["up"] == ["hv1", "hv2"])
    for name, node in site.lab.shape.placement().items():
        xml = site.ok("vm", "dump", name).replace("</devices>", PLUGGED.format(mac=MACS[name]) + "</devices>")
        site.ok("vm", "undefine", name, "--yes")
        script = f"cat > /tmp/{name}.xml <<'END'\n{xml}\nEND\npvc vm define /tmp/{name}.xml --node {node}"
        done = site.lab.run(["sh", "-c", script])
        assert done.code == 0, done.stderr
        site.ok("vm", "start", name)
    for node in ("hv1", "hv2"):
        ports = site.lab.run(["ip", "-oneline", "link", "show", "master", "pvb-lan"], node).stdout
        assert "pvt525400" in ports and "vnet" not in ports and "mtu 1450" in ports, ports
    site.wait("hv1 knows vm2", lambda: f"{MACS['vm2']} dst 10.77.2.2" in told(site, "hv1"))
    site.wait("hv2 knows vm1", lambda: f"{MACS['vm1']} dst 10.77.2.1" in told(site, "hv2"))

    site.ok("vm", "move", "vm2", "hv1")
    site.wait("hv2 hears of it", lambda: MACS["vm2"] not in told(site, "hv1"))
    assert site.copies() == {"vm1": ["hv1"], "vm2": ["hv1"]}
    ports = site.lab.run(["ip", "-oneline", "link", "show", "master", "pvb-lan"], "hv1").stdout
    assert all(device_of(mac) in ports for mac in MACS.values()), ports
    site.ok("network", "acl", "add", "lan", "in", "--action", "drop", "--protocol", "icmp", "--comment", "no ping")
    site.wait("the rule is in force", lambda: dropped(site, "hv1") == 0 and filtered(site, "hv1", "vm2"))
    knock(site, "hv1", "vm2")
    assert dropped(site, "hv1"), table(site, "hv1")
    site.ok("vm", "move", "vm2", "hv2")
    site.wait("hv1 knows vm2 again", lambda: f"{MACS['vm2']} dst 10.77.2.2" in told(site, "hv1"))
    site.wait("hv1 has forgotten it", lambda: not filtered(site, "hv1", "vm2"))
    site.wait("hv2's rule is in force", lambda: dropped(site, "hv2") == 0 and filtered(site, "hv2", "vm2"))
    knock(site, "hv2", "vm2")
    assert dropped(site, "hv2"), table(site, "hv2")
    assert [row["problem"] for row in site.ask("network", "info", "lan")["nodes"]] == [None, None]
