"""The networking role: which bridges a VM uses, what is published and found wrong, and where it says no."""

import pytest

from pvc.core.lookup import read_facts
from pvc.core.model import Finding, Severity
from pvc.plugins.networking.decide.bridges import bridges_of, findings, lacking, why_not
from pvc.plugins.networking.keys import LACKING, UP
from pvc.testing.cluster import SimCluster

NET = {"roles": {"networking": True}, "networking": {"bridges": ["br0"], "interval": 5}}


@pytest.mark.parametrize(
    ("xml", "bridges"),
    [
        ("<domain/>", ()),
        ("not xml", ()),
        ("<!DOCTYPE d [<!ENTITY a SYSTEM 'file:///etc/passwd'>]><domain>&a;</domain>", ()),
        ("<domain><devices><interface type='bridge'><source bridge='br0'/></interface></devices></domain>", ("br0",)),
        ("<domain><devices><interface type='network'><source bridge='br0'/></interface></devices></domain>", ()),
        ("<domain><devices><interface type='bridge'/></devices></domain>", ()),
        ("<domain><metadata><interface type='bridge'><source bridge='no'/></interface></metadata></domain>", ()),
        (
            "<domain><devices><interface type='bridge'><source bridge='b'/></interface>"
            "<interface type='bridge'><source bridge='a'/></interface>"
            "<interface type='bridge'><source bridge='b'/></interface></devices></domain>",
            ("a", "b"),
        ),
    ],
)
def test_bridges_of_a_definition(xml: str, bridges: tuple[str, ...]) -> None:
    assert bridges_of(xml) == bridges


@pytest.mark.parametrize(
    ("needed", "published", "why"),
    [
        ((), None, ""),
        (("br0",), None, "has not published its bridges"),
        (("br0",), "", "has no bridge br0 that is up"),
        (("br0",), "br00 xbr0", "has no bridge br0 that is up"),
        (("br0",), "br1 br0", ""),
        (("br0", "br1", "br2"), "br1", "has no bridge br0 and no bridge br2 that is up"),
    ],
)
def test_a_node_will_do_if_all_bridges_are_up(needed: tuple[str, ...], published: str | None, why: str) -> None:
    assert why_not(needed, published) == why


def test_missing_and_down_are_told_apart_and_both_say_what_to_do() -> None:
    seen = {"br0": False, "br1": True}
    assert lacking(["br0", "br1", "br2"], seen) == ("br0", "br2")
    down, missing = findings(["br0", "br1", "br2"], seen)
    assert down == Finding(
        "networking",
        Severity.CRITICAL,
        "bridge br0 is down: no VM that uses it comes here; switch it on with `ip link set br0 up`",
    )
    assert "bridge br2 does not exist" in missing.text and "networking.bridges" in missing.text


def extra(cluster: SimCluster, node: str) -> dict[str, str]:
    published = read_facts(cluster.client, node).extra
    return {name: published[name] for name in (UP, LACKING) if name in published}


def test_a_node_publishes_its_bridges_as_they_come_and_go() -> None:
    with SimCluster({"hv1": NET, "hv2": {}}) as cluster:
        cluster.start()
        assert extra(cluster, "hv1") == {UP: "br0", LACKING: ""}
        assert extra(cluster, "hv2") == {}
        bridges = cluster.nodes["hv1"].bridges
        bridges.add("br1")
        cluster.run(6)
        assert extra(cluster, "hv1") == {UP: "br0", LACKING: ""}
        bridges.switch("br1", True)
        bridges.remove("br0")
        cluster.run(6)
        assert extra(cluster, "hv1") == {UP: "br1", LACKING: "br0"}
        assert "bridge br0 does not exist" in read_facts(cluster.client, "hv1").findings[0].text


def test_a_machine_that_does_not_tell_its_bridges_is_a_finding_and_what_was_known_stays() -> None:
    with SimCluster({"hv1": NET}) as cluster:
        cluster.start()
        cluster.nodes["hv1"].bridges.unreadable = "is /sys mounted?"
        cluster.run(30)
        (finding,) = read_facts(cluster.client, "hv1").findings
        assert finding.source == "service networking" and "is /sys mounted?" in finding.text
        assert extra(cluster, "hv1") == {UP: "br0", LACKING: ""}


def test_a_vm_needs_its_bridges_only_where_a_hypervisor_has_the_role() -> None:
    none = {"roles": {"hypervisor": False, "networking": True}}
    with SimCluster({"hv1": {}, "net1": none}) as cluster:
        cluster.start()
        assert cluster.define("early", "hv1", bridges=["br0"]).needs == {}
        cluster.kill_daemon("hv1")
        cluster.configure("hv1", NET)
        cluster.run(15)
        cluster.start_daemon("hv1")
        cluster.run(15)
        assert cluster.define("late", "hv1", bridges=["br0", "br1"]).needs == {"networking": ("br0", "br1")}
        assert cluster.define("plain", "hv1").needs == {}
