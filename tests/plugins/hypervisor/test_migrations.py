"""Migrations that take long, in a simulated cluster: the ladder, what is published of it, and restarts on it."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import pytest

from pvc.core import keys
from pvc.core.coordination import Op, Put
from pvc.core.model import FINAL, ActualState, NodeFacts, OutcomeState, Phase
from pvc.core.records import decode, encode
from pvc.plugins.hypervisor import requests
from pvc.plugins.hypervisor.decide.vm import CONFIRMED_AFTER
from pvc.plugins.hypervisor.migrations import TEND
from pvc.plugins.hypervisor.records import MoveReport
from pvc.testing.cluster import SimCluster

LARGEST_REPORT = 1024
DEADLINE = 30.0
POST_COPY = {"hypervisor.migration.post_copy": True}


class Site(SimCluster):
    """Two nodes, and every report of a migration with its time."""

    def __init__(self) -> None:
        how = {"hypervisor": {"migration": {"deadline_per_gib": DEADLINE, "retries": 0}}}
        super().__init__({"hv1": how, "hv2": how})
        self.reports: list[tuple[float, bytes]] = []
        self.on_commit(self._committed)
        self.start()

    def _committed(self, _session: str, ops: Sequence[Op], _created: tuple[str, ...]) -> None:
        for op in ops:
            if isinstance(op, Put) and op.path.startswith(f"{keys.node_vms('hv1')}/"):
                self.reports.append((self.world.time, op.data))

    def stubborn(self, name: str = "vm1", **how: Any) -> str:
        """Define a VM that never converges, have it run on hv1; its UUID."""
        vm = self.define(name, "hv1", **how)
        self.fabric.never_converges(vm.uuid)
        self.settle()
        return vm.uuid

    def rungs(self) -> list[str]:
        """The rungs as published, each once."""
        words = [decode(MoveReport, data, "report").rung for _, data in self.reports]
        return [word for word, before in zip(words, ["", *words], strict=False) if word != before]

    def logged(self, text: str) -> int:
        return sum(text in line for line in self.log.lines)

    def why(self, node: str, uuid: str) -> str:
        return self.operation(node).outcomes[uuid].why


@pytest.fixture
def site() -> Iterator[Site]:
    cluster = Site()
    yield cluster
    cluster.close()


def test_every_rung_is_logged_and_published(site: Site) -> None:
    uuid = site.stubborn()
    site.ask("flush", "hv1")
    operation = site.finish("hv1")
    assert operation.phase is Phase.INCOMPLETE and site.where() == {"vm1": "hv1"}
    assert site.rungs() == ["downtime 0.3 s", "downtime 0.6 s", "downtime 1.2 s", "aborting"]
    assert [site.logged(f"allowing a downtime of {seconds} s") for seconds in ("0.6", "1.2")] == [1, 1]
    assert site.logged("migration aborted: it did not end within 30 s (30 s per GiB)") == 1
    assert site.why("hv1", uuid) == (
        "did not end within 30 s (30 s per GiB); allow post_copy, a longer deadline or more bandwidth: "
        "`pvc vm set vm1 hypervisor.migration.post_copy=true`"
    )
    last = decode(MoveReport, site.reports[-1][1], "report")
    assert last.remaining > 0 and last.rate > 0 and last.dirty_rate and last.throttle
    assert site.logged(f"auto-converge slows it down by {last.throttle} %") == 1


def test_the_vm_says_that_it_did_not_converge_until_it_moves_again(site: Site) -> None:
    uuid = site.stubborn()
    site.ask("flush", "hv1")
    site.finish("hv1")
    assert site.actual("vm1").unconverged
    site.fabric.set_copy_seconds(uuid, 1.0)
    site.ask("flush", "hv1")
    assert site.finish("hv1").phase is Phase.DONE
    assert not site.actual("vm1").unconverged and not site.actual("vm1").failed_move


def test_a_move_that_fails_for_another_reason_is_not_said_to_have_not_converged(site: Site) -> None:
    site.define("vm1", "hv1")
    site.settle()
    site.fabric.fail_migration(site.vm("vm1").uuid, "cable unplugged")
    site.ask("flush", "hv1")
    site.finish("hv1")
    assert "cable unplugged" in site.actual("vm1").failed_move and not site.actual("vm1").unconverged


def test_more_downtime_lets_a_vm_through(site: Site) -> None:
    uuid = site.stubborn()
    site.fabric.never_converges(uuid, enough_downtime=0.6)
    site.ask("flush", "hv1")
    assert site.finish("hv1").phase is Phase.DONE
    assert site.rungs() == ["downtime 0.3 s", "downtime 0.6 s"] and site.where() == {"vm1": "hv2"}


def test_a_report_is_small_and_comes_at_most_once_a_second_however_often_the_service_is_woken(site: Site) -> None:
    uuid = site.stubborn()
    site.ask("flush", "hv1")
    assert site.run_until(lambda: len(site.reports) > 0)
    for number in range(100):
        requests.set_options(site.client, site.vm("vm1"), {"elsewhere.number": number})
        site.run(0.1)
    times = [time for time, _ in site.reports]
    assert len(times) >= 8
    assert min(later - sooner for sooner, later in pairwise(times)) >= TEND
    most = 2**63 - 1
    largest = MoveReport("downtime 0.123456 s", 1e9, most, most, most, most, 1e9, 99, 2**31)
    assert max(len(encode(largest)), *(len(data) for _, data in site.reports)) < LARGEST_REPORT
    assert uuid in site.operation("hv1").outcomes


def test_one_vm_may_go_over_to_post_copy_and_another_of_the_same_flush_may_not(site: Site) -> None:
    allowed, other = site.stubborn("vm1", options=POST_COPY), site.stubborn("vm2")
    site.ask("flush", "hv1")
    operation = site.finish("hv1")
    assert operation.phase is Phase.INCOMPLETE
    assert {uuid: operation.outcomes[uuid].state for uuid in (allowed, other)} == {
        allowed: OutcomeState.MOVED,
        other: OutcomeState.KEPT,
    }
    assert site.where() == {"vm1": "hv2", "vm2": "hv1"}
    assert site.logged("vm vm1: migration does not converge, switching to post-copy") == 1
    assert "post-copy" in site.rungs()


@pytest.mark.parametrize(
    ("options", "rungs", "within"),
    [
        ({"hypervisor.migration.deadline_per_gib": 10}, ["downtime 0.3 s", "downtime 0.6 s", "downtime 1.2 s"], 10),
        ({"hypervisor.migration.downtime": [0.05]}, ["downtime 0.05 s"], 30),
        ({"hypervisor.migration.downtime": [0.05, 2]}, ["downtime 0.05 s", "downtime 2 s"], 30),
    ],
)
def test_a_vm_climbs_the_ladder_of_its_own(
    site: Site, options: Mapping[str, Any], rungs: list[str], within: int
) -> None:
    uuid = site.stubborn(options=options)
    site.ask("flush", "hv1")
    site.finish("hv1")
    assert site.rungs() == [*rungs, "aborting"]
    assert f"did not end within {within} s ({within} s per GiB)" in site.why("hv1", uuid)


def test_settings_changed_during_a_move_hold_for_the_next_one(site: Site) -> None:
    uuid = site.stubborn()
    site.ask("flush", "hv1")
    site.run(5.0)
    requests.set_options(site.client, site.vm("vm1"), {**POST_COPY, "hypervisor.migration.deadline_per_gib": 5})
    site.finish("hv1")
    assert "did not end within 30 s" in site.why("hv1", uuid)
    site.ask("flush", "hv1")
    assert site.finish("hv1").phase is Phase.DONE


@pytest.mark.parametrize("stored", ["maybe", 0, None, {"a": [1]}])
def test_a_stored_setting_that_makes_no_sense_is_reported_and_that_of_the_node_holds(site: Site, stored: Any) -> None:
    site.define("vm1", "hv1", options={**POST_COPY, "hypervisor.migration.deadline_per_gib": stored, "x.y": stored})
    site.settle()
    site.fabric.never_converges(site.vm("vm1").uuid)
    site.run(30.0)
    facts = site.client.get(keys.node_facts("hv1"))
    assert facts is not None
    texts = [finding.text for finding in decode(NodeFacts, facts.data, "facts").findings]
    assert len(texts) == 1 and texts[0].startswith("VM vm1: hypervisor.migration.deadline_per_gib")
    assert site.logged(texts[0]) == 1
    site.ask("flush", "hv1")
    assert site.finish("hv1").phase is Phase.DONE
    assert site.rungs() == ["downtime 0.3 s", "downtime 0.6 s", "downtime 1.2 s", "post-copy"]


def test_a_restarted_daemon_goes_on_where_the_ladder_would_be(site: Site) -> None:
    uuid = site.stubborn()
    site.ask("flush", "hv1")
    site.run(2.0)
    began = site.world.time
    site.kill_daemon("hv1")
    site.run(10.0)
    site.start_daemon("hv1")
    site.run(4.0)
    assert site.rungs() == ["downtime 0.3 s", "downtime 1.2 s"]
    assert site.logged("allowing a downtime of 0.6 s") == 0
    operation = site.finish("hv1")
    assert operation.phase is Phase.INCOMPLETE and site.where() == {"vm1": "hv1"}
    assert "did not end within 30 s" in site.why("hv1", uuid)
    assert site.world.time - began < DEADLINE + 2 * TEND


def test_a_daemon_restarted_after_the_switch_to_post_copy_does_not_ask_for_it_again(site: Site) -> None:
    site.fabric.copy_seconds = 20.0
    site.stubborn(options=POST_COPY)
    site.ask("flush", "hv1")
    assert site.run_until(lambda: site.logged("switching to post-copy") == 1)
    site.run(3.0)
    site.restart_daemon("hv1")
    site.run(10.0)
    assert site.rungs()[-1] == "post-copy" and site.operation("hv1").phase not in FINAL
    assert site.finish("hv1").phase is Phase.DONE
    assert site.nodes["hv1"].host.calls["switch_to_post_copy"] == 1
    assert site.where() == {"vm1": "hv2"} and site.vm_runs("vm1")


def test_a_node_is_not_flushed_while_memory_is_still_fetched_from_it(site: Site) -> None:
    site.fabric.copy_seconds = 60.0
    uuid = site.stubborn(options=POST_COPY)
    site.ask("flush", "hv1")
    assert site.run_until(lambda: site.fabric.running(uuid) == ["hv2"])
    site.run(2 * CONFIRMED_AFTER)
    assert (site.actual("vm1").node, site.actual("vm1").state) == ("hv1", ActualState.MIGRATING)
    assert site.operation("hv1").phase is Phase.MOVING
    assert site.finish("hv1").phase is Phase.DONE
    assert site.fabric.migrating(uuid) is None


def test_post_copy_that_was_not_allowed_when_the_move_began_leads_to_the_abort(site: Site) -> None:
    uuid = site.stubborn()
    site.ask("flush", "hv1")
    site.run(5.0)
    site.kill_daemon("hv1")
    requests.set_options(site.client, site.vm("vm1"), POST_COPY)
    site.start_daemon("hv1")
    assert site.finish("hv1").phase is Phase.INCOMPLETE
    assert "post-copy was not possible" in site.why("hv1", uuid)
    assert site.vm_runs("vm1") and site.where() == {"vm1": "hv1"}
