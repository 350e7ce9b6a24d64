"""A simulated cluster with OSDs: what is published of Ceph, and what a flush does with it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from pvc.core.coordination import Create
from pvc.core.lookup import read_facts
from pvc.core.model import NodeState, Phase
from pvc.core.records import encode
from pvc.plugins.storage.ceph.cluster import NOOUT, CephCluster, Check
from pvc.plugins.storage.ceph.noout import Noout, NooutKeeper
from pvc.plugins.storage.ceph.published import OsdState, osds_in, state_in
from pvc.plugins.storage.keys import NOOUT as RECORD
from pvc.testing.cluster import SimCluster

STORAGE = {"roles": {"storage": True}}
NODES = {f"hv{number}": STORAGE for number in (1, 2, 3)}


def ceph_cluster(seed: int = 0, **further: Any) -> SimCluster:
    """Three nodes with an OSD each, up, and known to all; `further`: what else their configurations say."""
    cluster = SimCluster({name: {**config, **further} for name, config in NODES.items()}, seed=seed)
    for name in NODES:
        cluster.osd_host(name).add_osd("/dev/sdb")
    cluster.start()
    cluster.run(35)  # the first look was before all nodes were registered
    return cluster


def test_a_node_publishes_ceph_and_its_own_osds() -> None:
    with ceph_cluster() as cluster:
        facts = read_facts(cluster.client, "hv2")
        state = state_in(facts)
        assert state is not None and (state.health, state.osds, state.strangers) == ("HEALTH_OK", 3, ())
        assert osds_in(facts) == {1: OsdState(True, True, "hdd", 1.0, 1 << 40, 549_000_000_000)}
        assert facts.findings == ()


def test_without_ceph_a_node_publishes_nothing_of_it_and_is_flushed_at_once() -> None:
    with SimCluster({"hv1": STORAGE, "hv2": STORAGE}) as cluster:
        cluster.start()
        cluster.run(5)
        assert state_in(read_facts(cluster.client, "hv1")) is None
        cluster.ask("flush", "hv1", queue=False)
        assert cluster.finish("hv1", 5.0).phase is Phase.DONE
        assert cluster.ceph.asked == 0


def test_an_osd_that_is_down_is_critical_on_its_own_node_and_a_warning_elsewhere() -> None:
    with ceph_cluster() as cluster:
        cluster.ceph.change(0, up=False)
        cluster.run(35)
        own, other = cluster.health("hv1"), cluster.health("hv2")
        assert {finding.severity.value for finding in own} == {"critical", "warning"}
        assert any("osd.0 of this node is down" in finding.text for finding in own)
        assert [finding.severity.value for finding in other] == ["warning"]
        assert "1 osds down (OSD_DOWN)" in other[0].text


def test_slow_operations_and_errors_are_told_with_what_to_do() -> None:
    with ceph_cluster() as cluster:
        cluster.ceph.checks += [Check("SLOW_OPS", False, "3 slow ops", 3), Check("OSD_FULL", True, "1 full osd(s)", 1)]
        cluster.run(35)
        state = state_in(read_facts(cluster.client, "hv1"))
        assert state is not None and state.slow == 3
        told = {finding.text: finding.severity.value for finding in cluster.health("hv1")}
        assert told == {
            "Ceph: 1 full osd(s) (OSD_FULL): add OSDs at once: Ceph refuses every write": "critical",
            "Ceph: 3 slow ops (SLOW_OPS): look at the disks and the network of the OSDs named": "warning",
        }


def test_a_ceph_that_hangs_is_critical_after_the_deadline_and_delays_nothing_else() -> None:
    with ceph_cluster() as cluster:
        cluster.ceph.hanging.add("hv1")
        cluster.run(30 + 15 + 5)
        (finding,) = cluster.health("hv1")
        assert finding.severity.value == "critical" and "does not answer within" in finding.text
        asked = cluster.ceph.asked
        cluster.define("vm1", "hv1")
        cluster.settle()  # facts and VMs go on
        session = cluster.nodes["hv1"].sessions[0].session_id
        cluster.run(120)
        assert cluster.nodes["hv1"].sessions[0].session_id == session
        assert cluster.ceph.asked - asked <= 2 * 6  # the others, each half a minute or so; nobody asks beside who hangs
        cluster.ceph.hanging.clear()
        cluster.run(5)
        assert cluster.health("hv1") == ()


def test_a_flush_sets_noout_and_the_unflush_unsets_it() -> None:
    with ceph_cluster() as cluster:
        cluster.define("vm1", "hv1")
        cluster.settle()
        cluster.ask("flush", "hv1")
        assert cluster.finish("hv1").phase is Phase.DONE
        assert cluster.ceph.flags == {NOOUT}
        cluster.ask("unflush", "hv1")
        assert cluster.finish("hv1").phase is Phase.DONE
        assert cluster.ceph.flags == set()
        assert cluster.client.get(RECORD) is None


def test_noout_that_somebody_else_has_set_stays() -> None:
    with ceph_cluster() as cluster:
        cluster.ceph.flags.add(NOOUT)
        for kind in ("flush", "unflush"):
            cluster.ask(kind, "hv1")
            assert cluster.finish("hv1").phase is Phase.DONE
            assert cluster.ceph.flags == {NOOUT}


def test_noout_stays_until_the_last_of_several_nodes_is_back() -> None:
    with ceph_cluster() as cluster:
        cluster.osd_host("hv2").add_osd("/dev/sdc")
        cluster.ceph.osds.pop(0)  # so that two can be away: the copies are on hv2 and hv3, and 3 more hosts
        for host in ("a", "b", "c"):
            cluster.ceph.add_osd(host)
        cluster.osd_host("hv1").devices.clear()
        cluster.run(35)
        for node in ("hv2", "hv3"):
            cluster.ask("flush", node)
            assert cluster.finish(node).phase is Phase.DONE
        cluster.ask("unflush", "hv2")
        cluster.finish("hv2")
        assert cluster.ceph.flags == {NOOUT}
        cluster.ask("unflush", "hv3")
        cluster.finish("hv3")
        assert cluster.ceph.flags == set()


def test_a_flush_that_would_take_too_many_copies_is_refused_before_anything_moves() -> None:
    with ceph_cluster() as cluster:
        cluster.define("vm1", "hv1")
        cluster.settle()
        cluster.ceph.change(1, up=False)
        cluster.run(35)
        forecast = cluster.forecast("flush", "hv1")
        assert not forecast.clear and "placement groups 1.0 of pool vms" in str(forecast.obstacles[0])
        for queue in (True, False):
            cluster.ask("flush", "hv1", queue=queue)
            ended = cluster.finish("hv1")
            assert ended.phase is Phase.FAILED
            assert "without osd.0 too few copies" in ended.message and "pool vms" in ended.message
        assert cluster.where()["vm1"] == "hv1"
        assert cluster.ceph.flags == set()


@pytest.mark.parametrize("queue", [True, False])
def test_the_osds_of_a_flushed_node_count_as_gone_before_it_is_switched_off(queue: bool) -> None:
    with ceph_cluster() as cluster:
        cluster.ask("flush", "hv1")
        assert cluster.finish("hv1").phase is Phase.DONE
        cluster.run(35)
        cluster.ask("flush", "hv2", queue=queue)
        ended = cluster.finish("hv2")
        assert ended.phase is Phase.FAILED
        assert "without osd.1, and osd.0 of nodes that are flushed or being flushed, too few copies" in ended.message
        cluster.ask("unflush", "hv1")
        cluster.finish("hv1")
        cluster.run(35)
        cluster.ask("flush", "hv2", queue=queue)
        assert cluster.finish("hv2").phase is Phase.DONE


def test_of_two_nodes_that_are_flushed_at_once_not_both_are_said_to_be_free_to_be_switched_off() -> None:
    with ceph_cluster(flushlock={"concurrent": 2}) as cluster:
        for node in ("hv1", "hv2"):
            cluster.define(f"of-{node}", node)
        cluster.settle()
        for node in ("hv1", "hv2"):
            cluster.ask("flush", node)
        phases = [cluster.finish(node).phase for node in ("hv1", "hv2")]
        assert phases.count(Phase.DONE) < 2


def test_an_osd_counts_as_gone_although_the_manager_has_not_heard_of_it_yet() -> None:
    with ceph_cluster() as cluster:
        cluster.ceph.change(1, up=False)
        cluster.ceph.behind.add(1)
        cluster.ask("flush", "hv1")
        assert cluster.finish("hv1").phase is Phase.FAILED


def test_a_flush_waits_while_ceph_recovers() -> None:
    with ceph_cluster() as cluster:
        cluster.ceph.change(1, up=False)
        cluster.ceph.recovering = True
        cluster.ask("flush", "hv1")
        cluster.run(30)
        waiting = cluster.operation("hv1")
        assert waiting.phase is Phase.QUEUED and waiting.waiting.startswith("Ceph to recover: without osd.0")
        cluster.ceph.change(1, up=True)
        cluster.ceph.recovering = False
        assert cluster.finish("hv1", 30).phase is Phase.DONE


def test_a_flush_of_a_node_with_osds_is_refused_while_ceph_cannot_be_asked() -> None:
    with ceph_cluster() as cluster:
        cluster.ceph.unusable["hv1"] = "Ceph does not answer within 15 s"
        cluster.run(35)
        cluster.ask("flush", "hv1")
        ended = cluster.finish("hv1")
        assert ended.phase is Phase.FAILED and "does not answer" in ended.message and "roles.storage" in ended.message


def test_a_node_without_osds_is_flushed_while_ceph_hangs() -> None:
    with SimCluster({**NODES, "hv4": STORAGE}) as cluster:
        for name in NODES:
            cluster.osd_host(name).add_osd("/dev/sdb")
        cluster.ceph.hanging.add("hv4")
        cluster.start()
        cluster.ask("flush", "hv4")
        assert cluster.finish("hv4").phase is Phase.DONE
        assert cluster.ceph.flags == set()


def test_a_flush_ends_incomplete_when_ceph_stops_answering_on_the_way_and_the_node_is_repaired_by_the_unflush() -> None:
    with ceph_cluster() as cluster:
        cluster.define("vm1", "hv1")
        cluster.settle()
        cluster.ask("flush", "hv1")
        assert cluster.run_until(lambda: cluster.operation("hv1").phase is Phase.MOVING)
        cluster.ceph.hanging.add("hv1")
        ended = cluster.finish("hv1", 300)
        assert ended.phase is Phase.INCOMPLETE and "noout could not be set" in ended.message
        cluster.ceph.hanging.clear()
        cluster.ask("unflush", "hv1")
        assert cluster.finish("hv1").phase is Phase.DONE
        assert cluster.ceph.flags == set()


def test_a_cancelled_flush_leaves_no_noout() -> None:
    with ceph_cluster() as cluster:
        cluster.ask("flush", "hv1")
        cluster.finish("hv1")
        cluster.define("vm1", "hv2")
        cluster.settle()
        cluster.ask("unflush", "hv1")
        cluster.finish("hv1")
        cluster.ask("flush", "hv2")
        assert cluster.run_until(lambda: cluster.operation("hv2").phase is Phase.MOVING)
        cluster.cancel("hv2")
        assert cluster.finish("hv2").phase is Phase.CANCELLED
        assert cluster.ceph.flags == set()


def test_what_a_flush_has_left_is_tidied_up_once_the_node_is_in_service() -> None:
    with ceph_cluster() as cluster:
        cluster.client.commit([Create("/storage"), Create(RECORD, encode(Noout(("hv1",))))])
        cluster.ceph.flags.add(NOOUT)
        cluster.run(35)
        assert cluster.ceph.flags == set() and cluster.client.get(RECORD) is None


class Interrupted:
    """Ceph as one node asks it, where something happens once, just after a question or a change of a flag."""

    def __init__(self, cluster: CephCluster, call: str, meanwhile: Callable[[], None]) -> None:
        self._cluster, self._call, self._left = cluster, call, [meanwhile]

    def __getattr__(self, name: str) -> Any:
        def call(*words: Any) -> Any:
            answer = getattr(self._cluster, name)(*words)
            if name == self._call and self._left:
                self._left.pop()()
            return answer

        return call


def keeper(cluster: SimCluster, node: str, door: Any = None) -> NooutKeeper:
    """That of a node, in the hands of the test."""
    daemon = cluster.nodes[node].daemon
    assert daemon is not None
    return NooutKeeper(replace(daemon.context, coordinator=cluster.client), door or cluster.ceph.door(node))


def test_who_needs_noout_while_the_last_other_gives_it_up_has_it() -> None:
    with ceph_cluster() as cluster:
        commit = cluster.client.commit
        keeper(cluster, "hv1").take(commit)
        door: Any = Interrupted(cluster.ceph.door("hv2"), "survey", lambda: keeper(cluster, "hv1").release(commit))
        keeper(cluster, "hv2", door).take(commit)
        assert cluster.ceph.flags == {NOOUT} and keeper(cluster, "hv2").held()
        door = Interrupted(cluster.ceph.door("hv2"), "set_flag", lambda: keeper(cluster, "hv1").take(commit))
        keeper(cluster, "hv2", door).release(commit)
        assert cluster.ceph.flags == {NOOUT} and keeper(cluster, "hv1").held()
        assert not keeper(cluster, "hv2").held()


def test_who_dies_while_it_gives_noout_up_leaves_it_to_who_came_meanwhile() -> None:
    class Dead(Exception):
        pass

    def die() -> None:
        keeper(cluster, "hv2").take(cluster.client.commit)
        cluster.ceph.flags.discard(NOOUT)  # this was asked for before
        raise Dead

    with ceph_cluster() as cluster:
        keeper(cluster, "hv1").take(cluster.client.commit)
        door: Any = Interrupted(cluster.ceph.door("hv1"), "set_flag", die)
        with pytest.raises(Dead):
            keeper(cluster, "hv1", door).release(cluster.client.commit)
        keeper(cluster, "hv1").release(cluster.client.commit)
        assert cluster.ceph.flags == {NOOUT} and keeper(cluster, "hv2").held() and not keeper(cluster, "hv1").held()


def test_a_daemon_that_restarts_in_a_flush_sets_noout_once_more_and_nobody_is_left_with_it() -> None:
    with ceph_cluster() as cluster:
        cluster.define("vm1", "hv1")
        cluster.settle()
        cluster.ask("flush", "hv1")
        assert cluster.run_until(lambda: NOOUT in cluster.ceph.flags)
        cluster.restart_daemon("hv1")
        assert cluster.finish("hv1").phase is Phase.DONE
        assert cluster.node("hv1").state is NodeState.FLUSHED
        cluster.ask("unflush", "hv1")
        cluster.finish("hv1")
        assert cluster.ceph.flags == set()
