"""`pvc network trace`: what it prints and how it ends."""

from collections.abc import Iterator
from xml.etree.ElementTree import fromstring

import pytest

from pvc.cli import exits
from pvc.plugins.hypervisor import requests
from pvc.plugins.hypervisor.decide.definition import read_definition
from pvc.plugins.networking.dataplane import Entry, Withdraw
from pvc.plugins.networking.trace.cli import BROKEN
from pvc.testing.cluster import XML, SimCluster
from tests.cli.conftest import Keyboard, Terminal, streams_put_back

MAC = "52:54:00:00:00:0a"
UUID = "11111111-2222-4333-8444-555555555555"


@pytest.fixture
def keyboard(monkeypatch: pytest.MonkeyPatch) -> Iterator[Keyboard]:
    """Two nodes, and a VM on network lan that runs on hv1."""
    nodes = {f"hv{number}": {"address": f"10.0.0.{number}", "roles": {"networking": True}} for number in (1, 2)}
    with SimCluster(nodes) as cluster:
        cluster.start()
        streams_put_back(monkeypatch)
        keyboard = Keyboard(cluster, Terminal())
        keyboard.type("network", "add", "lan")
        keyboard.type("network", "add", "dmz")
        cluster.run(5)
        inside = f"<mac address='{MAC}'/><source network='lan'/><target dev='web0'/>"
        devices = f"<devices><interface type='network'>{inside}</interface></devices></domain>"
        xml = XML.format(name="web", uuid=UUID, memory=64).replace("</domain>", devices)
        requests.start(
            cluster.client, requests.define(cluster.client, read_definition(xml), "hv1", needs=cluster.needs(xml))
        )
        cluster.settle()
        cluster.nodes["hv1"].dataplane.add(device(cluster), kind="tun", mtu=1450, master="pvb-lan")
        cluster.run(5)
        yield keyboard


def device(cluster: SimCluster) -> str:
    """The VM's, by its live definition."""
    target = fromstring(cluster.nodes["hv1"].host.xml(UUID)).find("devices/interface/target")
    assert target is not None
    return target.get("dev", "")


WHOLE = """\
ok vm web hv1 it runs on hv1
ok interface web lan hv1 52:54:00:00:00:0a
ok network web lan hv1 up, MTU 1450
ok bridge web lan hv1 pvb-lan is up
ok tunnel web lan hv1 pvx-lan, VNI 100 from 10.0.0.1
ok port web lan hv1 DEVICE in pvb-lan, MTU 1450; the VM has sent 0 packets and got 0
ok published web lan hv1 52:54:00:00:00:0a is on hv1
ok flooding web lan hv1 frames for all go to 1 other node
ok forwarding web lan hv2 hv2 sends 52:54:00:00:00:0a to 10.0.0.1
ok mtu web lan hv1 1450 on hv1, hv2
ok firewall web lan hv1 there are no rules that keep anything out
"""


def test_a_way_that_is_whole_is_shown_step_by_step(keyboard: Keyboard) -> None:
    said = keyboard.type("network", "trace", "web", "--format", "json")
    assert (said.code, said.err) == (0, "")
    told = "".join(" ".join(str(value) for value in row.values() if value) + "\n" for row in said.rows)
    assert told == WHOLE.replace("DEVICE", device(keyboard.cluster))
    table = keyboard.type("network", "trace", "web", "--network", "lan")
    assert table.code == 0
    assert table.out.splitlines()[0].split() == ["RESULT", "STEP", "VM", "NETWORK", "NODE", "SEEN", "ADVICE"]


def test_what_is_broken_is_shown_with_what_to_do_and_ends_with_a_code_of_its_own(keyboard: Keyboard) -> None:
    keyboard.cluster.nodes["hv1"].dataplane.change(device(keyboard.cluster), up=False)
    said = keyboard.type("network", "trace", "web")
    assert said.code == exits.BROKEN == BROKEN
    assert "1 of 11 steps broken" in said.err
    assert any(line.split()[:2] == ["broken", "port"] for line in said.out.splitlines())
    assert "ip link set" in said.out


def test_what_is_not_known_breaks_nothing_and_is_counted(keyboard: Keyboard) -> None:
    keyboard.cluster.kill_daemon("hv2")
    keyboard.cluster.run(15)
    said = keyboard.type("network", "trace", "web")
    assert (said.code, said.err) == (0, "pvc: 1 of 11 steps not known\n")
    assert "its daemon is not alive; start pvcd there" in said.out


def test_with_another_end_the_rules_are_asked_about_a_packet(keyboard: Keyboard) -> None:
    keyboard.cluster.nodes["hv2"].dataplane.apply(Withdraw("pvx-lan", Entry("00:00:00:00:00:00", "10.0.0.1")))
    said = keyboard.type("network", "trace", "web", "--to", "192.0.2.1", "--protocol", "tcp", "--port", "80")
    assert said.code == BROKEN
    assert "the default lets tcp to port 80 from an unknown address to 192.0.2.1 pass" in " ".join(said.out.split())
    assert "hv2" in said.out and "sends nothing to 10.0.0.1" in " ".join(said.out.split())


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        ("nobody", 1, "there is no VM 'nobody'"),
        ("web --network dmz", 1, "web is not on network dmz; it is on lan"),
        ("web --to nobody", 1, "there is no VM 'nobody'"),
        ("web --to web", 1, "web is web itself"),
        ("web --protocol arp", 2, "'arp' is no protocol to ask rules about"),
        ("web --port 80", 2, "icmp has no ports"),
    ],
)
def test_what_makes_no_sense_is_refused(keyboard: Keyboard, words: str, code: int, why: str) -> None:
    said = keyboard.type("network", "trace", *words.split())
    assert (said.code, why in said.err) == (code, True), said.err
