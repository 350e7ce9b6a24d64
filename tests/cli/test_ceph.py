"""`pvc storage osd`, `pvc storage flag`, and what `pvc storage status` says of Ceph."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from pvc.cli.watching import waiting_line
from pvc.core.model import NodeState, Operation, OperationKind
from pvc.plugins.storage.ceph.cluster import NOOUT
from pvc.plugins.storage.ceph.osdhost import Device
from pvc.testing.ceph import TERABYTE
from pvc.testing.cluster import SimCluster
from tests.cli.conftest import Keyboard, Terminal, streams_put_back

STORAGE = {"roles": {"storage": True}}


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Keyboard]:
    """Four storage nodes with an OSD each, and one node without the role."""
    nodes = ("hv1", "hv2", "hv3", "hv4")
    with SimCluster({**dict.fromkeys(nodes, STORAGE), "bare1": {}}) as cluster:
        for name in nodes:
            cluster.osd_host(name).add_osd("/dev/sdb")
        cluster.start()
        cluster.run(35)
        streams_put_back(monkeypatch)
        yield Keyboard(cluster, Terminal())


def test_osds_are_listed_with_their_nodes(typed: Keyboard) -> None:
    typed.cluster.ceph.change(2, up=False)
    typed.cluster.run(35)
    rows = typed.type("storage", "osd", "list", "--format", "json").rows
    assert [(row["osd"], row["node"], row["state"]) for row in rows] == [
        (0, "hv1", "up, in"),
        (1, "hv2", "up, in"),
        (2, "hv3", "down, in"),
        (3, "hv4", "up, in"),
    ]
    assert rows[0]["size"] == TERABYTE


def test_an_osd_of_a_dead_node_is_shown_as_the_others_see_it(typed: Keyboard) -> None:
    typed.cluster.power_off("hv2")
    typed.cluster.ceph.change(1, up=False)
    typed.cluster.run(60)
    rows = typed.type("storage", "osd", "list", "--format", "json").rows
    assert rows[1]["state"] == "down, in"


def test_an_osd_on_no_node_of_the_cluster_is_listed_too(typed: Keyboard) -> None:
    typed.cluster.ceph.add_osd("elsewhere")
    typed.cluster.run(35)
    rows = typed.type("storage", "osd", "list", "--format", "json").rows
    assert (rows[4]["osd"], rows[4]["node"], rows[4]["state"]) == (4, None, "up, in")
    said = typed.type("storage", "osd", "remove", "4", "--yes")
    assert said.code == 1 and "osd.4 is on no node with the storage role" in said.err
    assert typed.type("storage", "osd", "out", "4").code == 0


def test_status_tells_of_ceph(typed: Keyboard) -> None:
    row = typed.type("storage", "status", "--format", "json").rows["ceph"][0]
    assert (row["health"], row["osds_up"], row["monitors"]) == ("HEALTH_OK", 4, "1 of 1")
    typed.cluster.ceph.unusable |= dict.fromkeys(("hv1", "hv2", "hv3", "hv4"), "Ceph does not answer within 15 s")
    typed.cluster.run(60)
    row = typed.type("storage", "status", "--format", "json").rows["ceph"][0]
    assert row["health"] is None and "hv3: Ceph does not answer within 15 s" in row["problems"]


def test_an_osd_is_added_and_removed(typed: Keyboard) -> None:
    cluster = typed.cluster
    cluster.osd_host("hv1").add(Device("/dev/sdc", block=True, size=TERABYTE))
    added = typed.type("storage", "osd", "add", "hv1", "/dev/sdc", "--yes")
    assert (added.code, added.err) == (0, "")
    assert "osd.4 is up on /dev/sdc of hv1" in added.out
    cluster.run(35)
    removed = typed.type("storage", "osd", "remove", "osd.4", "--yes")
    assert removed.code == 0, removed
    assert "moving its data" in removed.out and "osd.4 is removed, and /dev/sdc of hv1 is empty" in removed.out
    assert 4 not in cluster.ceph.osds and cluster.osd_host("hv1").devices["/dev/sdc"].osds == ()


def test_a_device_in_use_is_refused_with_the_reason_and_untouched(typed: Keyboard) -> None:
    cluster = typed.cluster
    cluster.osd_host("hv1").add(Device("/dev/sda", block=True, size=TERABYTE, mounts=("/",)))
    said = typed.type("storage", "osd", "add", "hv1", "/dev/sda", "--yes")
    assert said.code == 5 and "/dev/sda is in use: mounted at /" in said.err
    assert len(cluster.ceph.osds) == 4


def test_an_osd_whose_data_has_no_other_place_is_taken_back_in(typed: Keyboard) -> None:
    cluster = typed.cluster
    cluster.ceph.change(3, inside=False)
    cluster.run(60)
    said = typed.type("storage", "osd", "remove", "0", "--yes")
    assert said.code == 5 and "add an OSD first" in said.err
    assert cluster.ceph.osds[0].inside and cluster.ceph.osds[0].up


def test_a_removal_that_is_cancelled_before_its_end_takes_the_osd_back_in(typed: Keyboard) -> None:
    said = typed.begin("storage", "osd", "remove", "0", "--yes")
    assert typed.cluster.run_until(lambda: not typed.cluster.ceph.osds[0].inside, 30)
    task = typed.type("storage", "task", "list", "--format", "json").rows[0]["id"]
    assert typed.type("storage", "task", "cancel", task).code == 0
    assert typed.cluster.run_until(said.has_ended, 60)
    assert said.code == 4
    assert typed.cluster.ceph.osds[0].inside


def test_a_removal_that_is_cancelled_while_its_daemon_is_away_takes_the_osd_back_in(typed: Keyboard) -> None:
    cluster = typed.cluster
    said = typed.begin("storage", "osd", "remove", "0", "--yes")
    assert cluster.run_until(lambda: not cluster.ceph.osds[0].inside, 30)
    cluster.kill_daemon("hv1")
    task = typed.type("storage", "task", "list", "--format", "json").rows[0]["id"]
    assert typed.type("storage", "task", "cancel", task).code == 0
    cluster.start_daemon("hv1")
    assert cluster.run_until(said.has_ended, 200)
    assert said.code == 4
    assert cluster.ceph.osds[0].inside


@pytest.mark.parametrize("away", [False, True])
def test_a_removal_whose_osd_is_empty_is_not_broken_off(typed: Keyboard, away: bool) -> None:
    cluster = typed.cluster
    said = typed.begin("storage", "osd", "remove", "0", "--yes")
    assert cluster.run_until(lambda: not cluster.ceph.osds[0].up, 200)
    if away:
        cluster.kill_daemon("hv1")
    task = typed.type("storage", "task", "list", "--format", "json").rows[0]["id"]
    assert typed.type("storage", "task", "cancel", task).code == 0
    if away:
        cluster.start_daemon("hv1")
    assert cluster.run_until(said.has_ended, 200)
    assert said.code == 0 and 0 not in cluster.ceph.osds


def test_a_removal_goes_on_where_it_was_when_its_daemon_is_back(typed: Keyboard) -> None:
    cluster = typed.cluster
    said = typed.begin("storage", "osd", "remove", "0", "--yes")
    assert cluster.run_until(lambda: not cluster.ceph.osds[0].inside, 30)
    cluster.kill_daemon("hv1")
    cluster.run(30)
    cluster.start_daemon("hv1")
    assert cluster.run_until(said.has_ended, 200)
    assert said.code == 0, said
    assert 0 not in cluster.ceph.osds and cluster.osd_host("hv1").devices["/dev/sdb"].osds == ()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("osd", "remove", "7", "--yes"), "there is no osd.7; did you mean 3 or 2 or 1?"),
        (("osd", "out", "x7"), "'x7' is no OSD; write its number, as 3 or osd.3"),
        (("osd", "add", "hv1", "sdc", "--yes"), "'sdc' is no device; write its path on hv1, as /dev/sdb"),
        (("osd", "add", "hv1", "/dev/../etc/x", "--yes"), "'/dev/../etc/x' is no device"),
        (("osd", "add", "hv1", "/dev/\udcff", "--yes"), r"'/dev/\udcff' is no device"),
        (("osd", "add", "hv9", "/dev/sdc", "--yes"), "there is no node 'hv9'"),
        (("osd", "add", "bare1", "/dev/sdc", "--yes"), "bare1 does not have the storage role"),
        (("flag", "set", "nout"), "Ceph has no flag 'nout'; did you mean noout"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_asked(
    typed: Keyboard, words: tuple[str, ...], why: str
) -> None:
    said = typed.type("storage", *words)
    assert said.code == 1 and why in said.err
    assert typed.type("storage", "task", "list", "--all", "--format", "json").rows == []


def test_nothing_is_removed_without_a_yes(typed: Keyboard) -> None:
    assert typed.type("storage", "osd", "remove", "0").code == 1
    assert typed.type("storage", "osd", "add", "hv1", "/dev/sdc").code == 1
    assert typed.type("storage", "task", "list", "--all", "--format", "json").rows == []


def test_an_osd_of_a_node_that_does_not_answer_is_not_removed(typed: Keyboard) -> None:
    typed.cluster.kill_daemon("hv1")
    typed.cluster.run(30)
    said = typed.type("storage", "osd", "remove", "0", "--yes")
    assert said.code == 1 and "node hv1 does not answer" in said.err


def test_an_osd_goes_out_and_in(typed: Keyboard) -> None:
    assert typed.type("storage", "osd", "out", "2").code == 0
    assert not typed.cluster.ceph.osds[2].inside
    assert typed.type("storage", "osd", "in", "osd.2").code == 0
    assert typed.cluster.ceph.osds[2].inside


def test_flags_are_set_and_listed(typed: Keyboard) -> None:
    assert typed.type("storage", "flag", "set", "noscrub").code == 0
    assert typed.cluster.ceph.flags == {"noscrub"}
    typed.cluster.run(35)
    rows = typed.type("storage", "flag", "list", "--format", "json").rows
    assert [row["flag"] for row in rows if row["set"]] == ["noscrub"]
    assert typed.type("storage", "flag", "unset", "noscrub").code == 0
    assert typed.cluster.ceph.flags == set()


def test_a_roll_waits_until_the_osds_of_a_node_are_up_and_ceph_has_recovered(typed: Keyboard) -> None:
    cluster, ceph = typed.cluster, typed.cluster.ceph
    for id in (1, 2, 3):
        ceph.osds[id] = replace(ceph.osds[id], host=f"hv{id + 1}")
    ceph.osds.pop(3)  # three OSDs of three copies: no two may be away
    rebooted: list[str] = []
    wrong: list[str] = []

    def reboot(name: str) -> None:
        id = int(name[2]) - 1
        if not all(osd.up for osd in ceph.osds.values()) or ceph.outdated:
            wrong.append(f"{name} was emptied too early")
        ceph.change(id, up=False)
        cluster.client_process.sleep(40)
        ceph.change(id, up=True)
        ceph.outdated.add(id)
        cluster.client_process.sleep(40)
        ceph.outdated.clear()
        rebooted.append(name)

    def reboots() -> None:
        for name in ("hv1", "hv2", "hv3"):
            while cluster.node(name).state is not NodeState.FLUSHED:
                cluster.client_process.sleep(0.2)
            reboot(name)

    cluster.client_process.spawn("reboots", reboots)
    said = typed.type("cluster", "roll", "--nodes", "hv1,hv2,hv3", "--run", "true", "--yes")
    assert said.code == 0, said
    cluster.run(60)
    assert (rebooted, wrong) == (["hv1", "hv2", "hv3"], [])
    assert ceph.flags == set()


def test_a_flag_that_an_administrator_sets_is_not_unset_by_an_unflush(typed: Keyboard) -> None:
    cluster = typed.cluster
    assert typed.type("node", "flush", "hv1", "--wait").code == 0
    cluster.run(35)
    rows = typed.type("storage", "flag", "list", "--format", "json").rows
    assert [(row["flag"], row["by"]) for row in rows if row["set"]] == [("noout", "flush of hv1")]
    assert typed.type("storage", "flag", "set", NOOUT).code == 0
    assert typed.type("node", "unflush", "hv1", "--wait").code == 0
    assert cluster.ceph.flags == {NOOUT}


def test_a_wait_that_nobody_is_before_in_tells_of_no_place_in_a_queue() -> None:
    waits = Operation("o", OperationKind.FLUSH, "hv1", "root@here", 1.0, waiting="Ceph is being asked", place=0)
    assert waiting_line(waits) == "waiting: Ceph is being asked"
    assert waiting_line(replace(waits, place=2)).endswith("; place 2 in the queue")
