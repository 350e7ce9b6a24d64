"""`pvc vm network`: plugging VMs into networks as they run, in a simulated cluster."""

from collections.abc import Iterator

import pytest

from pvc.plugins.hypervisor.devices import LETS_GO_WITHIN
from pvc.plugins.networking.records import read_ports
from pvc.testing.cluster import SimCluster
from tests.cli.conftest import Keyboard, Terminal, streams_put_back

MAC = "52:54:00:00:00:0a"


@pytest.fixture
def keyboard(monkeypatch: pytest.MonkeyPatch) -> Iterator[Keyboard]:
    """Two nodes with the role, on which network lan is up, and one without; VM guest runs on hv1."""
    nodes = {f"hv{number}": {"address": f"10.0.0.{number}", "roles": {"networking": True}} for number in (1, 2)}
    with SimCluster({**nodes, "hv3": {}}) as cluster:
        cluster.start()
        streams_put_back(monkeypatch)
        keyboard = Keyboard(cluster, Terminal())
        keyboard.type("network", "add", "lan")
        cluster.define("guest", "hv1")
        cluster.settle()
        cluster.run(5)
        yield keyboard


def live(keyboard: Keyboard, node: str = "hv1") -> str:
    return keyboard.cluster.nodes[node].host.xml(keyboard.cluster.vm("guest").uuid)


def definition(keyboard: Keyboard) -> str:
    return keyboard.type("vm", "dump", "guest").out


def rows(keyboard: Keyboard) -> list[dict[str, str | None]]:
    found: list[dict[str, str | None]] = keyboard.type("vm", "network", "list", "guest", "--format", "json").rows
    return found


def claimed(keyboard: Keyboard) -> dict[str, set[str]]:
    return {node: set(ports.macs) for node, ports in read_ports(keyboard.cluster.client, "lan").items()}


def test_a_running_vm_is_plugged_in_and_out_and_the_other_nodes_hear_of_it(keyboard: Keyboard) -> None:
    said = keyboard.type("vm", "network", "add", "guest", "lan", "--mac", MAC.upper())
    assert (said.code, said.out) == (0, f"guest is plugged into lan as {MAC}\n"), said.err
    assert MAC in live(keyboard) and 'bridge="pvb-lan"' in live(keyboard) and '<mtu size="1450"' in live(keyboard)
    assert 'network="lan"' in definition(keyboard)
    vm = keyboard.cluster.vm("guest")
    assert (vm.needs, vm.device_changes) == ({"networking": ("network:lan",)}, ())
    keyboard.cluster.run(1)
    assert claimed(keyboard) == {"hv1": {MAC}}
    assert rows(keyboard) == [{"network": "lan", "mac": MAC, "model": "virtio", "state": None, "reason": None}]

    said = keyboard.type("vm", "network", "remove", "guest", "lan")
    assert (said.code, said.out) == (0, f"guest is unplugged from lan as {MAC}\n"), said.err
    assert MAC not in live(keyboard) and MAC not in definition(keyboard)
    vm = keyboard.cluster.vm("guest")
    assert (vm.needs, vm.device_changes) == ({}, ())
    keyboard.cluster.run(1)
    assert claimed(keyboard) == {} and rows(keyboard) == []


def test_macs_are_made_stable_and_no_two_alike(keyboard: Keyboard) -> None:
    for _ in range(2):
        assert keyboard.type("vm", "network", "add", "guest", "lan").code == 0
    macs = [row["mac"] for row in rows(keyboard)]
    assert len(set(macs)) == 2 and all(str(mac).startswith("52:54:00:") for mac in macs)
    said = keyboard.type("vm", "network", "remove", "guest", "lan")
    assert said.code == 1 and f"name the MAC address: {macs[0]}, {macs[1]}" in said.err
    assert keyboard.type("vm", "network", "remove", "guest", str(macs[0])).code == 0
    assert keyboard.type("vm", "network", "add", "guest", "lan").code == 0
    assert [row["mac"] for row in rows(keyboard)] == [macs[1], macs[0]]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("add nobody lan", "there is no VM 'nobody'"),
        ("add guest wan", "there is no network 'wan'"),
        ("add guest lan --mac 01:00:00:00:00:01", "is a multicast address"),
        ("add guest lan --mac 5254", "is no MAC address"),
        ("add guest lan --model vir'tio", "is no model of a network card"),
        ("remove guest lan", "guest has no interface on network lan, nor one of that MAC address; it is on none"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_stored(keyboard: Keyboard, words: str, why: str) -> None:
    before = definition(keyboard)
    said = keyboard.type("vm", "network", *words.split())
    assert (said.code, why in said.err) == (1, True), said.err
    assert definition(keyboard) == before and not keyboard.cluster.vm("guest").device_changes


def test_the_mac_of_another_vm_on_the_network_is_refused(keyboard: Keyboard) -> None:
    keyboard.cluster.define("other", "hv2", networks={"lan": MAC}, run=False)
    said = keyboard.type("vm", "network", "add", "guest", "lan", "--mac", MAC)
    assert said.code == 1 and f"MAC address {MAC} is that of other on network lan; choose another one" in said.err
    assert keyboard.type("network", "add", "dmz", "--vni", "7").code == 0
    keyboard.cluster.run(15)
    assert keyboard.type("vm", "network", "add", "guest", "dmz", "--mac", MAC).code == 0
    said = keyboard.type("vm", "network", "add", "guest", "lan", "--mac", MAC)
    assert said.code == 1 and "guest has an interface with MAC address" in said.err


def test_a_vm_on_a_node_that_cannot_have_the_network_is_to_be_moved_first(keyboard: Keyboard) -> None:
    assert keyboard.type("vm", "move", "guest", "hv3").code == 0
    said = keyboard.type("vm", "network", "add", "guest", "lan")
    assert said.code == 1 and "guest is on hv3, and hv3 does not have the networking role" in said.err
    assert "`pvc vm move guest NODE`" in said.err and rows(keyboard) == []
    assert keyboard.type("vm", "move", "guest", "hv2").code == 0
    keyboard.cluster.nodes["hv2"].dataplane.refusing = "no more devices"
    assert keyboard.type("network", "add", "dmz").code == 0
    keyboard.cluster.run(15)
    said = keyboard.type("vm", "network", "add", "guest", "dmz")
    assert said.code == 1 and "hv2 cannot use network dmz: no more devices" in said.err and rows(keyboard) == []
    assert keyboard.type("vm", "network", "add", "guest", "lan").code == 0


def test_a_stopped_vm_has_it_from_its_next_start_on_wherever_it_belongs(keyboard: Keyboard) -> None:
    assert keyboard.type("vm", "move", "guest", "hv3").code == 0
    assert keyboard.type("vm", "stop", "guest", "--yes").code == 0
    said = keyboard.type("vm", "network", "add", "guest", "lan", "--mac", MAC)
    assert (said.code, said.out) == (0, f"guest is plugged into lan as {MAC} from its next start on\n"), said.err
    assert keyboard.cluster.vm("guest").device_changes == ()
    assert keyboard.type("vm", "start", "guest").code == 0
    node = keyboard.cluster.actual("guest").node
    assert node in ("hv1", "hv2") and MAC in live(keyboard, node)


def test_a_device_that_the_hypervisor_refuses_is_told_and_the_definition_put_back(keyboard: Keyboard) -> None:
    before = definition(keyboard)
    keyboard.cluster.fabric.fail_plug(keyboard.cluster.vm("guest").uuid, "no more PCI slots")
    said = keyboard.type("vm", "network", "add", "guest", "lan", "--mac", MAC)
    assert said.code == 1 and "guest is to be plugged into lan" in said.err and "no more PCI slots" in said.err
    assert MAC not in definition(keyboard) and MAC not in live(keyboard)
    assert "<interface" not in before and keyboard.cluster.vm("guest").needs == {}
    (row,) = rows(keyboard)
    assert (row["state"], row["reason"]) == ("could not be plugged in", "no more PCI slots")
    assert keyboard.type("vm", "network", "add", "guest", "lan", "--mac", MAC).code == 0
    assert MAC in live(keyboard)


def test_a_guest_that_does_not_let_go_keeps_the_device_and_so_does_its_definition(keyboard: Keyboard) -> None:
    assert keyboard.type("vm", "network", "add", "guest", "lan", "--mac", MAC).code == 0
    uuid = keyboard.cluster.vm("guest").uuid
    keyboard.cluster.fabric.keeps_devices(uuid)
    begun = keyboard.cluster.world.time
    removal = keyboard.begin("vm", "network", "remove", "guest", MAC)
    keyboard.cluster.run(10)
    assert [row["state"] for row in rows(keyboard)] == ["is being unplugged"]
    assert keyboard.cluster.vm("guest").needs == {"networking": ("network:lan",)}
    again = keyboard.type("vm", "network", "add", "guest", "lan", "--mac", MAC)
    assert again.code == 1 and "is not made yet; wait for that" in again.err
    assert keyboard.cluster.run_until(removal.has_ended, 100)
    assert keyboard.cluster.world.time - begun >= LETS_GO_WITHIN
    assert removal.code == 1 and "its guest has not let go of it within 30 s" in removal.err
    assert MAC in live(keyboard) and MAC in definition(keyboard)
    assert keyboard.cluster.nodes["hv1"].host.calls["unplug"] > 2
    keyboard.cluster.fabric.keeps_devices(uuid, False)
    assert keyboard.type("vm", "network", "remove", "guest", MAC).code == 0
    assert MAC not in live(keyboard) and keyboard.cluster.vm("guest").needs == {}


def test_a_command_that_need_not_or_cannot_wait_says_so(keyboard: Keyboard) -> None:
    keyboard.cluster.nodes["hv1"].host.down()
    said = keyboard.type("vm", "network", "add", "guest", "lan", "--mac", MAC, "--timeout", "5")
    assert said.code == 6 and "and is not after 5 s; see `pvc vm network list guest`" in said.err
    assert [row["state"] for row in rows(keyboard)] == ["is being plugged in"]
    waits = keyboard.begin("vm", "network", "add", "guest", "lan", "--mac", "52:54:00:00:00:0b")
    keyboard.cluster.run(2)
    keyboard.interrupt(waits)
    keyboard.cluster.run(1)
    assert waits.code == 130 and "detached; guest is to be plugged into lan" in waits.err
    said = keyboard.type("vm", "network", "add", "guest", "lan", "--no-wait")
    assert said.code == 0 and "guest is to be plugged into lan" in said.out
    keyboard.cluster.nodes["hv1"].host.up()
    keyboard.cluster.run(15)
    assert live(keyboard).count("<interface") == 3
    keyboard.cluster.kill_daemon("hv1")
    keyboard.cluster.run(15)
    said = keyboard.type("vm", "network", "remove", "guest", MAC)
    assert said.code == 1 and "the daemon of hv1, where it was last, does not answer" in said.err
