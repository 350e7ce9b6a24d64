"""Three real daemons' networking in network namespaces: guests reach each other, also a silent one that has moved."""

import logging
from collections.abc import Callable, Iterator

import pytest

from pvc.core.config.document import parse
from pvc.core.config.validation import validate
from pvc.core.daemon import Daemon
from pvc.core.machine import LinuxMachine
from pvc.core.observers import VmChange, VmEvent
from pvc.core.plugins import Plugins, installed
from pvc.core.runtime import Runtime
from pvc.core.threads import ThreadRuntime
from pvc.core.tree import tree_ops
from pvc.plugins.networking.dataplane import FLOOD, Entry
from pvc.plugins.networking.evpn.daemons import Daemons
from pvc.plugins.networking.gateway.absent import AbsentRouters
from pvc.plugins.networking.keys import STATE
from pvc.plugins.networking.plugin import NetworkingPlugin
from pvc.plugins.networking.records import Network, NetworkKind
from pvc.plugins.networking.requests import add, remove
from pvc.testing.bridges import FakeBridges
from pvc.testing.coordinator import FakeCoordinator, FakeEnsemble
from pvc.testing.frr import FakeDaemons
from tests.contract.namespaces import DataplaneInside, FilterInside, Hosts

pytestmark = pytest.mark.lab

MACS = {"ga": "52:54:00:00:00:0a", "gb": "52:54:00:00:00:0b"}
PATIENCE = 60.0


class Host:
    """One host's daemon, with networking alone, in a namespace."""

    def __init__(
        self,
        name: str,
        address: str,
        hosts: Hosts,
        ensemble: FakeEnsemble,
        runtime: Runtime,
        networking: str,
        frr: Daemons,
    ) -> None:
        self.door = DataplaneInside(hosts.spaces, name)
        self.kernel = FilterInside(hosts.spaces, name)
        roles = "roles: {hypervisor: false, networking: true}\nplugins: {flushlock: false, consolelog: false}\n"
        section = f"networking: {networking}\n"
        document = parse(f"node: {name}\naddress: {address}\n{roles}{section}", "pvc.yaml")
        log = logging.getLogger(f"pvc.{name}")
        self.plugins = Plugins(log)
        own = NetworkingPlugin(
            *(FakeBridges, lambda: DataplaneInside(hosts.spaces, name), lambda: FilterInside(hosts.spaces, name)),
            open_routers=lambda: AbsentRouters("there are none in this test"),
            open_daemons=lambda _: frr,
        )
        self.plugins.load(["networking"], {"networking": own})
        config = validate(document, self.plugins.schemas(), sorted(installed()), host_name=name)
        session = ensemble.connect(name)
        self.daemon = Daemon(config, self.plugins, session, ensemble.connect, runtime, LinuxMachine(), log)
        self.daemon.start()

    def says(self, change: VmChange, guest: str) -> None:
        """The hypervisor role tells of a VM."""
        interface = f"<interface type='bridge'><mac address='{MACS[guest]}'/><source bridge='pvb-lan'/></interface>"
        self.plugins.vm_changed(VmEvent(change, guest, guest, f"<domain><devices>{interface}</devices></domain>"))

    def close(self) -> None:
        self.daemon.stop()
        self.door.close()


class Site:
    """The hosts, their daemons, and the tree between them."""

    def __init__(self, hosts: int = 3) -> None:
        self.runtime = ThreadRuntime()
        self.lan = Hosts(hosts)
        self.ensemble = FakeEnsemble(self.runtime)
        self.admin: FakeCoordinator = self.ensemble.connect("admin")
        self.admin.commit(tree_ops())
        self.hosts: dict[str, Host] = {}

    def start(self, name: str, networking: str = "{}", frr: Daemons | None = None) -> None:
        """Start a host's daemon; `networking` is that section of its configuration."""
        address = f"10.99.0.{name[1:]}"
        self.hosts[name] = Host(name, address, self.lan, self.ensemble, self.runtime, networking, frr or FakeDaemons())

    def until_forwarding(self, name: str, *entries: Entry) -> None:
        """Wait until a host's tunnel has exactly these entries."""
        until = self.runtime.monotonic() + PATIENCE
        has = None
        while has != set(entries):
            assert self.runtime.monotonic() < until, f"{name} has {has}"
            self.runtime.sleep(0.005)
            has = self.hosts[name].door.look().forwarding.get("pvx-lan")

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something is so."""
        until = self.runtime.monotonic() + PATIENCE
        while not condition():
            assert self.runtime.monotonic() < until
            self.runtime.sleep(0.01)

    def until_up(self, name: str, network: str) -> None:
        """Wait until a host's daemon says that a network is up."""
        facts = self.hosts[name].plugins.facts
        self.until(lambda: "mtu" in facts().get(f"{STATE}{network}", ""))

    def close(self) -> None:
        for host in self.hosts.values():
            host.close()
        self.ensemble.close()
        self.lan.close()


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    try:
        for name in site.lan.names:
            site.start(name)
        yield site
    finally:
        site.close()


def flood(*numbers: int) -> list[Entry]:
    return [Entry(FLOOD, f"10.99.0.{number}") for number in numbers]


def test_guests_on_three_hosts_reach_each_other_and_a_silent_one_that_moves_is_reached_at_once(site: Site) -> None:
    add(site.admin, Network("lan", NetworkKind.MANAGED))
    for name, others in {"h1": (2, 3), "h2": (1, 3), "h3": (1, 2)}.items():
        site.until_forwarding(name, *flood(*others))
    site.lan.guest("ga", "h1", "pvb-lan", MACS["ga"], "172.16.9.1/24")
    site.lan.guest("gb", "h2", "pvb-lan", MACS["gb"], "172.16.9.2/24")
    site.hosts["h1"].says(VmChange.STARTED, "ga")
    site.hosts["h2"].says(VmChange.STARTED, "gb")
    site.until_forwarding("h1", *flood(2, 3), Entry(MACS["gb"], "10.99.0.2"))
    site.until_forwarding("h2", *flood(1, 3), Entry(MACS["ga"], "10.99.0.1"))
    site.until_forwarding("h3", *flood(1, 2))  # nobody is there to send anything
    assert site.lan.spaces.answers("ga", "172.16.9.2")
    links = site.hosts["h1"].door.look().links
    assert (links["eth0"].mtu, links["pvx-lan"].mtu, links["pvb-lan"].mtu) == (1500, 1450, 1450)

    site.lan.migrate("gb", "h2", "h3", "pvb-lan")
    assert not site.lan.spaces.answers("ga", "172.16.9.2"), "it is not silent: this test could not fail"
    site.hosts["h2"].says(VmChange.DEPARTED, "gb")
    site.hosts["h3"].says(VmChange.ARRIVED, "gb")
    site.until_forwarding("h1", *flood(2, 3), Entry(MACS["gb"], "10.99.0.3"))
    assert site.lan.spaces.answers("ga", "172.16.9.2")


def test_a_daemon_that_stops_and_starts_disturbs_nothing(site: Site) -> None:
    add(site.admin, Network("lan", NetworkKind.MANAGED))
    site.until_forwarding("h1", *flood(2, 3))
    site.until_forwarding("h2", *flood(1, 3))
    site.lan.guest("ga", "h1", "pvb-lan", MACS["ga"], "172.16.9.1/24")
    site.lan.guest("gb", "h2", "pvb-lan", MACS["gb"], "172.16.9.2/24")
    site.hosts["h1"].says(VmChange.STARTED, "ga")
    site.hosts["h2"].says(VmChange.STARTED, "gb")
    entries = [*flood(2, 3), Entry(MACS["gb"], "10.99.0.2")]
    site.until_forwarding("h1", *entries)
    before = site.lan.spaces.ip("h1", "link")
    site.hosts.pop("h2").close()
    assert site.lan.spaces.answers("ga", "172.16.9.2")
    site.hosts.pop("h1").close()
    assert site.lan.spaces.answers("ga", "172.16.9.2")
    site.start("h1")
    site.start("h2")
    site.until_forwarding("h1", *entries)
    assert site.lan.spaces.ip("h1", "link") == before


def test_guests_on_a_bridged_network_are_on_the_network_behind_the_device(site: Site) -> None:
    for name in ("h1", "h2"):
        site.lan.add_device(name, "eth1")
    add(site.admin, Network("out", NetworkKind.BRIDGED, device="eth1"))
    for name in ("h1", "h2"):
        site.until_up(name, "out")
    site.lan.guest("ga", "h1", "pvb-out", MACS["ga"], "172.16.9.1/24")
    site.lan.guest("gb", "h2", "pvb-out", MACS["gb"], "172.16.9.2/24")
    assert site.lan.spaces.answers("ga", "172.16.9.2")
    site.until(lambda: any("this node has no device eth1" in one.text for one in site.hosts["h3"].plugins.health()))


def test_a_network_that_is_removed_leaves_no_device(site: Site) -> None:
    add(site.admin, Network("lan", NetworkKind.MANAGED))
    site.until_up("h1", "lan")
    site.until_forwarding("h1", *flood(2, 3))
    remove(site.admin, "lan")
    site.until(lambda: not any(link.owned for link in site.hosts["h1"].door.look().links.values()))
