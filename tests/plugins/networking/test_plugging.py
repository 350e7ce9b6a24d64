"""Plugging VMs in while something else happens, between reading and writing, or between looking and doing."""

from collections.abc import Callable, Iterator, Mapping

import pytest

from pvc.core.devices import Refused, ending, request_change
from pvc.core.hookspecs import hookimpl
from pvc.core.model import DeviceChange
from pvc.core.observers import VmChange, VmEvent
from pvc.plugins.hypervisor.requests import no_opinion, send, start, stop
from pvc.plugins.networking import requests
from pvc.plugins.networking.decide.attachment import Attached, macs_in
from pvc.plugins.networking.decide.plugging import chosen, free_mac, interface, why_no_mac
from pvc.plugins.networking.plugging import PlugIn, Unplug
from pvc.plugins.networking.records import Network, NetworkKind
from pvc.testing.cluster import SimCluster

MAC, OTHER = "52:54:00:00:00:0a", "52:54:00:00:00:0b"
NODES = {f"hv{number}": {"address": f"10.0.0.{number}", "roles": {"networking": True}} for number in (1, 2)}


class Meddling:
    """A plugin that does something while a definition is made ready, and keeps what observers are told."""

    def __init__(self) -> None:
        self.do: Callable[[], None] = lambda: None
        self.events: list[VmEvent] = []

    @hookimpl
    def pvc_vm_definition(self, xml: str) -> str | None:
        self.do()
        return None

    @hookimpl
    def pvc_vm_observers(self) -> "list[Meddling]":
        return [self]

    def vm_changed(self, event: VmEvent) -> None:
        self.events.append(event)


class Site(SimCluster):
    """Two nodes with network lan, VM guest on the first."""

    def __init__(self) -> None:
        self.meddling = Meddling()
        super().__init__(NODES, plugins=("meddling",), ready=lambda node: {"meddling": self._plugin(node)})
        self.start()
        requests.add(self.client, Network("lan", NetworkKind.MANAGED))
        self.guest = self.define("guest", "hv1")
        self.settle()

    def _plugin(self, node: str) -> Meddling:
        return self.meddling if node == "hv1" else Meddling()

    def wish(self, propose: PlugIn | Unplug, meanwhile: Callable[[], object] = lambda: None) -> DeviceChange:
        """Request a change; `meanwhile` is done once, after everything was read and before anything is written."""
        left = [meanwhile]

        def needs(xml: str) -> Mapping[str, tuple[str, ...]]:
            if left:
                left.pop()()
            return self.needs(xml)

        return request_change(self.client, propose.vm, propose, needs, no_opinion)

    def plug(self, name: str = "guest", mac: str = MAC) -> PlugIn:
        return PlugIn(self.client, self.client_process, "tester", self.vm(name), "lan", mac)

    def unplug(self, what: str = MAC) -> Unplug:
        return Unplug(self.client_process, "tester", self.vm("guest"), what)

    def live(self) -> frozenset[str]:
        (host,) = self.fabric.running(self.guest.uuid)
        return macs_in(self.nodes[host].host.xml(self.guest.uuid))

    def calls(self, method: str) -> int:
        return self.nodes["hv1"].host.calls[method]


@pytest.fixture
def site() -> Iterator[Site]:
    cluster = Site()
    yield cluster
    cluster.close()


def test_of_two_who_want_one_mac_on_one_network_at_the_same_moment_one_is_refused(site: Site) -> None:
    site.define("other", "hv2")
    with pytest.raises(Refused, match=f"MAC address {MAC} is that of other on network lan"):
        site.wish(site.plug(), meanwhile=lambda: site.wish(site.plug("other")))
    assert site.vm("guest").needs == {} and site.vm("other").needs != {}


def test_a_network_that_is_removed_at_the_same_moment_gets_no_vm(site: Site) -> None:
    with pytest.raises(Exception, match="there is no network 'lan'"):
        site.wish(site.plug(), meanwhile=lambda: requests.remove(site.client, "lan"))
    assert site.vm("guest").needs == {} and site.vm("guest").device_changes == ()


def test_a_vm_that_starts_at_the_same_moment_gets_its_device_all_the_same(site: Site) -> None:
    stop(site.client, site.guest, now=True)
    assert site.run_until(lambda: site.actual("guest").node is None, 10)

    site.nodes["hv1"].host.down()
    start(site.client, site.guest)

    def starts() -> None:
        site.nodes["hv1"].host.up()
        site.settle()

    change = site.wish(site.plug(), meanwhile=starts)
    assert site.run_until(lambda: ending(site.client, site.guest, change) is not None, 10)
    assert site.live() == {MAC} and site.vm("guest").device_changes == ()


def test_a_device_that_is_there_already_is_not_plugged_in_again(site: Site) -> None:
    site.nodes["hv1"].host.down()
    site.wish(site.plug())
    site.nodes["hv1"].host.up()
    plugged = interface("lan", MAC, "virtio")
    site.nodes["hv1"].host.plug(site.guest.uuid, plugged)  # as by a daemon that has died before it could say so
    assert site.run_until(lambda: site.vm("guest").device_changes == (), 20)
    assert site.calls("plug") == 1 and site.live() == {MAC}


def test_an_error_counts_only_if_the_device_is_not_there(site: Site) -> None:
    site.fabric.fail_plug(site.guest.uuid, "timed out", done=True)
    change = site.wish(site.plug())
    assert site.run_until(lambda: site.vm("guest").device_changes == (), 20)
    end = ending(site.client, site.guest, change)
    assert end is not None and not end.why and site.live() == {MAC}


def test_a_hypervisor_that_goes_away_in_the_middle_is_waited_for(site: Site) -> None:
    site.meddling.do = site.nodes["hv1"].host.down
    change = site.wish(site.plug())
    site.run(20)
    assert ending(site.client, site.guest, change) is None
    site.meddling.do = lambda: None
    site.nodes["hv1"].host.up()
    assert site.run_until(lambda: site.vm("guest").device_changes == (), 20)
    assert site.live() == {MAC}


def test_a_vm_that_ends_in_the_middle_has_the_device_when_it_starts_again(site: Site) -> None:
    site.meddling.do = lambda: site.fabric.guest_crashes(site.guest.uuid)
    site.wish(site.plug())
    site.run(1)
    site.meddling.do = lambda: None
    assert site.run_until(lambda: site.vm_runs("guest"), 60)
    assert site.run_until(lambda: site.vm("guest").device_changes == (), 20)
    assert site.live() == {MAC}
    assert [event.change for event in site.meddling.events][:2] == [VmChange.STARTED, VmChange.CRASHED]


def test_a_plugin_that_refuses_is_the_reason_and_a_later_move_is_not_held_up_by_it(site: Site) -> None:
    def refuses() -> None:
        raise RuntimeError("not today")

    site.meddling.do = refuses
    change = site.wish(site.plug())
    assert site.run_until(lambda: ending(site.client, site.guest, change) is not None, 20)
    end = ending(site.client, site.guest, change)
    assert end is not None and "not today" in end.why and site.vm("guest").needs == {}
    send(site.client, site.vm("guest"), "hv2", keep_home=False)
    assert site.run_until(lambda: site.actual("guest").node == "hv2", 30)
    assert site.actual("guest").failed_move == ""


def test_observers_are_told_anew_with_the_live_definition(site: Site) -> None:
    site.wish(site.plug())
    assert site.run_until(lambda: site.vm("guest").device_changes == (), 10)
    site.wish(site.unplug())
    assert site.run_until(lambda: site.vm("guest").device_changes == (), 10)
    assert [(event.change, macs_in(event.xml)) for event in site.meddling.events] == [
        (VmChange.STARTED, frozenset()),
        (VmChange.ADOPTED, {MAC}),
        (VmChange.ADOPTED, frozenset()),
    ]


def test_a_mac_address_is_the_same_as_long_as_the_same_are_taken() -> None:
    first = free_mac("u", "lan", ())
    assert first == free_mac("u", "lan", {OTHER}) and why_no_mac(first) == ""
    assert len({first, free_mac("u", "lan", {first}), free_mac("u", "dmz", ()), free_mac("v", "lan", ())}) == 4


@pytest.mark.parametrize("mac", ["", "52:54:00:00:00", "52-54-00-00-00-01", "00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff"])
def test_what_no_interface_can_have_is_no_mac_address(mac: str) -> None:
    assert why_no_mac(mac)


def test_an_interface_is_named_by_its_network_or_by_its_mac_address() -> None:
    one, two, bare = Attached("lan", MAC, ""), Attached("dmz", OTHER, ""), Attached("old", "", "")
    assert chosen("a", [one, two], "lan") == one and chosen("a", [one, two], OTHER.upper()) == two
    assert "it is on lan, dmz" in str(chosen("a", [one, two], "wan"))
    assert "name the MAC address" in str(chosen("a", [one, Attached("lan", OTHER, "")], "lan"))
    assert "has no MAC address in the definition" in str(chosen("a", [bare], "old"))
