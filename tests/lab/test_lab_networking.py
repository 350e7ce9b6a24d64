"""The lab's networking: the role, the world outside, and VMs that use a network, with nothing else built on it."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from pvc.core.threads import ThreadRuntime
from tests.lab.guests import Guest, Pings, pinging
from tests.lab.site import Site, site

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def lab_site(labs_directory: Path) -> Iterator[Site]:
    """Two nodes with the role and one without, a bridged network that leads outside, and a managed one."""
    with site(labs_directory, "wires", nodes=3, hypervisor_only=("hv3",)) as made:
        made.add_network("outside", "--device", "eth1")
        made.add_network("lan")
        yield made


@pytest.fixture(scope="module")
def dhcp(lab_site: Site) -> Iterator[None]:
    """A DHCP and name server in the outside world."""
    options = (
        "--user=root --conf-file=/dev/null --interface=eth1 --bind-interfaces --dhcp-authoritative --no-resolv "
        "--no-hosts --dhcp-range=192.0.2.100,192.0.2.110,2m --dhcp-leasefile=/run/leases --pid-file=/run/dnsmasq.pid "
        "--no-ping --dhcp-option=option:mtu,1400 --domain=example.org --local=/example.org/ "
        "--host-record=far.example.org,192.0.2.1"
    )
    started = lab_site.upstream.run(f"dnsmasq {options}")
    assert started.code == 0, started.stdout
    yield
    lab_site.upstream.run("kill $(cat /run/dnsmasq.pid)")


@pytest.fixture(scope="module")
def web(lab_site: Site, dhcp: None) -> Guest:
    """A VM that the world outside sees."""
    return lab_site.add_guest("web", "hv1", "outside")


def test_nodes_have_the_role_and_a_hypervisor_only_one_has_not(lab_site: Site) -> None:
    roles = {row["name"]: row["roles"] for row in lab_site.ask("node", "list")}
    both = ["hypervisor", "networking"]
    assert roles == {"hv1": both, "hv2": both, "hv3": ["hypervisor"]}
    shown = {row["host"]: row["roles"] for row in lab_site.lab.status() if row["process"] == "host"}
    assert shown["hv1"] == "hypervisor networking" and shown["hv3"] == "hypervisor" and shown["upstream"] == ""


def test_the_world_outside_is_reached_through_the_second_cable_and_passes_nothing_on(lab_site: Site) -> None:
    hv3 = lab_site.host("hv3")
    try:
        assert hv3.run("ip address add 192.0.2.7/24 dev eth1; ip address add 2001:db8::7/64 dev eth1 nodad").code == 0
        lab_site.reaches(hv3, "192.0.2.1")
        lab_site.reaches(hv3, "2001:db8::1")
        assert hv3.run("busybox ping -c 1 -W 1 10.77.2.1").code == 0
        assert lab_site.upstream.run("busybox ping -c 1 -W 1 10.77.2.1").code != 0
        assert lab_site.upstream.run("cat /proc/sys/net/ipv4/ip_forward").stdout.strip() == "0"

        lab_site.lab.partition("hv3", "upstream")
        assert hv3.run("busybox ping -c 1 -W 1 192.0.2.1").code != 0
        assert hv3.run("busybox ping -c 1 -W 1 10.77.2.1").code == 0
        assert {row["cut_from"] for row in lab_site.lab.status() if row["host"] == "hv3"} == {"upstream", ""}
        lab_site.lab.partition("hv3")
        assert hv3.run("busybox ping -c 1 -W 1 10.77.2.1").code != 0
        lab_site.lab.heal("hv3")
        lab_site.reaches(hv3, "192.0.2.1")
        lab_site.reaches(hv3, "10.77.2.1")

        lab_site.lab.partition("hv3")
        assert hv3.run("busybox ping -c 1 -W 1 192.0.2.1").code != 0, "a host that is cut off has no outside either"
    finally:
        lab_site.lab.heal()
        hv3.run("ip address flush dev eth1 scope global")


def test_a_host_that_dies_loses_both_cables_and_boots_without_what_was_made_on_it(lab_site: Site) -> None:
    hv3 = lab_site.host("hv3")
    assert hv3.run("ip address add 192.0.2.8/24 dev eth1; ip link add br9 type bridge; nft add table inet t").code == 0
    lab_site.reaches(lab_site.upstream, "192.0.2.8")
    lab_site.lab.kill("node", "hv3")
    assert lab_site.upstream.run("busybox ping -c 1 -W 1 192.0.2.8").code != 0
    lab_site.lab.start("node", "hv3")
    assert hv3.run("ip link show br9").code != 0
    assert hv3.run("nft list ruleset; ip -4 -oneline address show dev eth1").stdout == ""
    assert hv3.run("busybox ping -c 1 -W 1 hv1").code == 0


def test_a_vm_gets_address_mtu_names_and_a_way_by_dhcp(lab_site: Site, web: Guest) -> None:
    address = web.address()
    assert f"web eth0 {address}/24 via 192.0.2.1" in lab_site.ok("vm", "log", "web")
    assert "mtu 1400" in web.ok("ip link show eth0")
    assert "192.0.2.1" in web.ok("nslookup far.example.org")
    web.ok("ping -c 1 -W 20 far.example.org")
    assert lab_site.upstream.run(f"echo hello | busybox nc -w 20 {address} 7").stdout == "hello\n"


def test_what_a_command_in_a_vm_says_is_whole(web: Guest) -> None:
    done = web.run("echo said; ls /missing; exit 7")
    assert (done.code, done.stdout.splitlines()[0]) == (7, "said")
    assert "/missing" in done.stdout
    assert web.run("true").stdout == ""
    assert web.ok("seq 5000") == "".join(f"{n}\n" for n in range(1, 5001))


def test_a_vm_uses_a_network_that_is_plugged_in_while_it_runs(lab_site: Site, web: Guest) -> None:
    node, mac = lab_site.host(lab_site.vm("web")["node"]), "52:54:00:00:00:99"
    plug = f"virsh attach-interface web bridge pvb-outside --model virtio --live --mac {mac}"
    assert node.run(plug).code == 0
    assert web.address("eth1") != web.address("eth0")
    assert node.run(f"virsh detach-interface web bridge --live --mac {mac}").code == 0
    lab_site.wait("it lets go", lambda: web.run("test -e /run/lease.eth1 || test -e /run/using.eth1").code != 0)
    assert web.address("eth0")


def test_a_vm_keeps_answering_while_it_is_moved(lab_site: Site, web: Guest) -> None:
    address = web.address()
    target = other(lab_site.vm("web")["node"])
    with pinging(lab_site.upstream, address) as from_outside, pinging(web, "192.0.2.1") as from_inside:
        lab_site.ok("vm", "move", "web", target)
        lab_site.reaches(lab_site.upstream, address)
    print(f"\nmoved, seen from outside: {from_outside}\nmoved, seen from inside: {from_inside}")
    assert_answered_before_and_after(from_outside)
    assert_answered_before_and_after(from_inside)


def test_a_command_in_a_vm_is_run_once_and_answered_though_the_vm_moves_meanwhile(lab_site: Site, web: Guest) -> None:
    address = web.address()
    said: list[str] = []
    listens = "grep -q ' 0*:0009 ' /proc/net/tcp*"
    command = (
        "echo once >> /run/times; nc -l -p 9 > /run/heard & "
        f"until {listens}; do sleep 0.1; done; echo at it > /dev/console; wait $!; cat /run/heard /run/times"
    )
    work = partial(web.ok, command, timeout=120)
    task = ThreadRuntime().spawn("command in a VM", lambda: said.append(work()))
    lab_site.wait("it is at it", lambda: "at it" in lab_site.ok("vm", "log", "web"))
    lab_site.ok("vm", "move", "web", other(lab_site.vm("web")["node"]))
    lab_site.reaches(lab_site.upstream, address)
    assert lab_site.upstream.run(f"echo go | busybox nc -w 20 {address} 9").code == 0
    assert task.join(120)
    assert said == ["go\nonce\n"]


def test_two_vms_on_two_nodes_reach_each_other_on_a_managed_network(lab_site: Site) -> None:
    one = lab_site.add_guest("one", "hv1", "lan", arguments="address=10.1.0.5/24 ipv6.disable=1")
    two = lab_site.add_guest("two", "hv2", "lan", arguments="address=10.1.0.6/24 ipv6.disable=1")
    try:
        assert (one.address(), two.address()) == ("10.1.0.5", "10.1.0.6")
        lab_site.reaches(one, "10.1.0.6")
        lab_site.reaches(two, "10.1.0.5")
        assert one.ok("echo over | nc -w 20 10.1.0.6 7") == "over\n"
        assert "mtu 1450" in one.ok("ip link show eth0")
        with pinging(one, "10.1.0.6") as pings:
            lab_site.ok("vm", "move", "two", "hv1")
            lab_site.ok("vm", "move", "two", "hv2")
            lab_site.reaches(two, "10.1.0.5")
        print(f"\nmoved there and back: {pings}")
        assert_answered_before_and_after(pings)
    finally:
        lab_site.remove_guest(one)
        lab_site.remove_guest(two)


def other(node: str) -> str:
    """Where a VM is moved from there."""
    return "hv2" if node == "hv1" else "hv1"


def assert_answered_before_and_after(pings: Pings) -> None:
    """How many were lost is a matter of the machine; that they came through before and after is not."""
    assert len(pings.all) > 50, pings
    assert pings.all[0].round is not None and pings.all[-1].round is not None, pings
    assert len(pings.lost) < len(pings.all) / 2, pings
