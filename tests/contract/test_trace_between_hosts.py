"""A trace asks real daemons, which look at real devices in network namespaces."""

from collections.abc import Iterator

import pytest

from pvc.core import keys as core
from pvc.core.coordination import Create
from pvc.core.model import ActualState, Vm, VmActual, VmState
from pvc.core.observers import VmChange, VmEvent
from pvc.core.records import encode
from pvc.plugins.networking.dataplane import Entry
from pvc.plugins.networking.records import Network, NetworkKind
from pvc.plugins.networking.requests import add
from pvc.plugins.networking.trace.decide.case import Case, Probe, Result
from pvc.plugins.networking.trace.decide.path import steps
from pvc.plugins.networking.trace.evidence import Wish, gather
from pvc.plugins.networking.trace.records import PortSeen
from tests.contract.test_networks_between_hosts import MACS, PATIENCE, Site, flood

pytestmark = pytest.mark.lab

UUIDS = {"ga": "11111111-2222-4333-8444-55555555555a", "gb": "11111111-2222-4333-8444-55555555555b"}


@pytest.fixture
def site() -> Iterator[Site]:
    """Guest ga on h1, gb on h2, both silent."""
    site = Site()
    try:
        for name in site.lan.names:
            site.start(name)
        add(site.admin, Network("lan", NetworkKind.MANAGED))
        for name, others in {"h1": (2, 3), "h2": (1, 3), "h3": (1, 2)}.items():
            site.until_up(name, "lan")
            site.until_forwarding(name, *flood(*others))
        for guest, host, number in (("ga", "h1", 1), ("gb", "h2", 2)):
            site.lan.guest(guest, host, "pvb-lan", MACS[guest], f"172.16.9.{number}/24")
            define(site, guest, host)
        site.until_forwarding("h1", *flood(2, 3), Entry(MACS["gb"], "10.99.0.2"))
        site.until_forwarding("h2", *flood(1, 3), Entry(MACS["ga"], "10.99.0.1"))
        yield site
    finally:
        site.close()


def define(site: Site, guest: str, host: str) -> None:
    """The guest is a VM of the cluster that runs there."""
    uuid, inside = UUIDS[guest], f"<mac address='{MACS[guest]}'/><target dev='{guest}'/>"
    wish = Vm(uuid, guest, VmState.RUNNING, host, 64, 1)
    defined = f"<interface type='network'>{inside}<source network='lan'/></interface>"
    live = f"<interface type='bridge'>{inside}<source bridge='pvb-lan'/></interface>"
    site.admin.commit(
        [
            Create(core.vm(uuid), encode(wish)),
            Create(core.vm_xml(uuid), f"<domain><devices>{defined}</devices></domain>".encode()),
            Create(core.vm_actual(uuid), encode(VmActual(ActualState.RUNNING, host))),
            Create(core.name(guest), uuid.encode()),
        ]
    )
    xml = f"<domain><devices>{live}</devices></domain>"
    site.hosts[host].plugins.vm_changed(VmEvent(VmChange.STARTED, uuid, guest, xml))


def trace(site: Site, wish: Wish) -> tuple[Case, list[tuple[str, str]]]:
    """The case, and what is broken in it."""
    case = gather(site.admin, site.runtime, wish, patience=PATIENCE)
    return case, [(step.what, step.node) for step in steps(case, Probe()) if step.result is Result.BROKEN]


def port(case: Case, host: str, guest: str) -> PortSeen:
    answer = case.answer(host)
    assert answer is not None
    return next(port for port in answer.ports if port.vm == guest)


def test_a_real_way_is_whole_until_somebody_breaks_it_by_hand(site: Site) -> None:
    assert not site.lan.spaces.answers("ga", "172.16.9.99")  # so ga has sent, gb got it and has not answered
    case, broken = trace(site, Wish("ga", to="gb"))
    assert broken == []
    ours, theirs = port(case, "h1", "ga").traffic, port(case, "h2", "gb").traffic
    assert ours is not None and ours.sent_packets > 0 and ours.sent_bytes > ours.sent_packets
    assert theirs is not None and theirs.sent_packets == 0 and theirs.received_bytes > theirs.received_packets > 0
    site.lan.spaces.ip("h2", "link set gb nomaster")
    assert trace(site, Wish("ga", to="gb"))[1] == [("port", "h2")]
    assert trace(site, Wish("ga"))[1] == []
    site.lan.spaces.ip("h1", "link set ga down")
    assert trace(site, Wish("ga"))[1] == [("port", "h1")]
