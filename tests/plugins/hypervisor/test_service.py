"""The service that looks after one node's VMs, in a simulated cluster."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from pvc.core import keys
from pvc.core.coordination import Disconnected, Op, Put
from pvc.core.hookspecs import hookimpl
from pvc.core.model import ActualState, NodeFacts, Severity, VmActual, VmState
from pvc.core.observers import VmChange, VmEvent
from pvc.core.records import decode
from pvc.plugins.hypervisor import requests
from pvc.plugins.hypervisor.decide.vm import STARTS_IN_A_ROW, pause_before_start
from pvc.plugins.hypervisor.host import Guest, GuestState, HypervisorError
from pvc.plugins.hypervisor.plugin import HypervisorPlugin
from pvc.testing.cluster import XML, SimCluster
from pvc.testing.guests import parsed_guest
from pvc.testing.hypervisor import FakeHypervisor

STRANGER = "ffffffff-0000-4000-8000-000000000001"


class Watching:
    """A plugin that keeps what observers are told."""

    def __init__(self) -> None:
        self.events: list[VmEvent] = []

    @hookimpl
    def pvc_vm_observers(self) -> "list[Watching]":
        return [self]

    def vm_changed(self, event: VmEvent) -> None:
        self.events.append(event)

    def changes(self) -> list[VmChange]:
        return [event.change for event in self.events]


class Site(SimCluster):
    """Two nodes and a plugin that watches the first."""

    def __init__(self) -> None:
        self.watching = Watching()
        super().__init__(2, plugins=("watching",), ready=self._plugin)

    def _plugin(self, node: str) -> dict[str, object]:
        return {"watching": self.watching if node == "hv1" else Watching()}

    def findings(self, node: str = "hv1") -> list[str]:
        znode = self.client.get(keys.node_facts(node))
        assert znode is not None
        facts = decode(NodeFacts, znode.data, "facts")
        return [f"{finding.severity.value}: {finding.text}" for finding in facts.findings]

    def logged(self, text: str) -> int:
        return sum(text in line for line in self.log.lines)


@pytest.fixture
def site() -> Iterator[Site]:
    cluster = Site()
    cluster.start()
    yield cluster
    cluster.close()


def test_a_vm_that_should_run_is_started_once_and_observers_are_told(site: Site) -> None:
    site.define("vm1", "hv1")
    site.settle()
    site.run(60)
    assert site.nodes["hv1"].host.calls["start"] == 1
    assert site.watching.changes() == [VmChange.STARTED]
    assert "<name>vm1</name>" in site.watching.events[0].xml


def test_a_guest_that_the_cluster_does_not_know_is_reported_once_and_left_alone(site: Site) -> None:
    site.nodes["hv1"].host.start(XML.format(name="stranger", uuid=STRANGER, memory=128))
    site.run(100)
    assert site.findings() == ["warning: VM stranger runs here but the cluster does not know it; left alone"]
    assert site.fabric.running(STRANGER) == ["hv1"]
    assert site.logged("does not know it") == 1
    site.nodes["hv1"].host.destroy(STRANGER)
    site.run(30)
    assert site.findings() == []


def test_a_running_vm_is_adopted_when_the_daemon_starts(site: Site) -> None:
    vm = site.define("vm1", "hv1")
    site.settle()
    site.run(1)  # observers are told a moment after the record says so
    site.restart_daemon("hv1")
    site.run(30)
    assert site.watching.changes() == [VmChange.STARTED, VmChange.ADOPTED]
    assert site.nodes["hv1"].host.calls["start"] == 1
    assert site.fabric.running(vm.uuid) == ["hv1"]


def test_a_vm_that_was_started_by_hand_is_adopted_and_wanted(site: Site) -> None:
    vm = site.define("vm1", "hv1", run=False)
    site.nodes["hv2"].host.start(XML.format(name="vm1", uuid=vm.uuid, memory=128))
    site.run(20)
    assert (site.vm("vm1").state, site.vm("vm1").node) == (VmState.RUNNING, "hv2")
    assert site.actual("vm1").node == "hv2"


def test_a_vm_that_stands_still_because_of_its_disk_is_a_finding_until_it_is_resumed(site: Site) -> None:
    vm = site.define("vm1", "hv1")
    site.settle()
    site.nodes["hv1"].host.halt(vm.uuid)
    site.run(10)
    (finding,) = site.findings()
    assert finding.startswith("critical: VM vm1 stands still") and "`virsh resume vm1`" in finding
    assert site.actual("vm1").state is ActualState.RUNNING, "it lives here, and nobody else may have it"
    site.nodes["hv1"].host.halt(vm.uuid, False)
    site.run(10)
    assert site.findings() == []


def test_a_hypervisor_that_does_not_answer_is_a_finding_and_nothing_is_concluded(site: Site) -> None:
    vm = site.define("vm1", "hv1")
    site.settle()
    before = site.actual("vm1")
    site.nodes["hv1"].host.down()
    site.run(100)
    assert site.actual("vm1") == before
    (finding,) = site.findings()
    assert finding.startswith("critical: the hypervisor of hv1 does not answer")
    site.nodes["hv1"].host.up()
    site.run(30)
    assert site.findings() == [] and site.fabric.running(vm.uuid) == ["hv1"]
    assert site.watching.changes() == [VmChange.STARTED]


@pytest.mark.parametrize("part", [keys.vm, keys.vm_actual], ids=["wanted", "actual"])
def test_a_vm_whose_records_are_junk_is_reported_and_skipped_and_the_others_are_not(
    site: Site, part: Callable[[str], str]
) -> None:
    vm = site.define("vm1", "hv1")
    site.settle()
    znode = site.client.get(part(vm.uuid))
    assert znode is not None
    site.client.commit([Put(part(vm.uuid), b"junk")])
    site.fabric.guest_powers_off(vm.uuid)
    site.define("vm2", "hv1")
    site.run(100)
    assert site.vm_runs("vm2")
    assert site.findings()[0].startswith(f"critical: {part(vm.uuid)} holds no valid record")
    assert site.nodes["hv1"].host.calls["start"] == 2
    site.client.commit([Put(part(vm.uuid), znode.data)])
    site.run(70)
    assert site.findings() == []


def test_failed_starts_are_repeated_after_growing_pauses_and_then_given_up(site: Site) -> None:
    vm = site.define("vm1", "hv1", run=False)
    host = site.nodes["hv1"].host
    site.fabric.fail_start(vm.uuid, "no such disk", times=None)
    requests.start(site.client, vm)
    pauses = sum(pause_before_start(failures) for failures in range(STARTS_IN_A_ROW))
    site.run(pauses + 30)
    assert host.calls["start"] == STARTS_IN_A_ROW
    actual = site.actual("vm1")
    assert (actual.state, actual.node, actual.failures) == (ActualState.FAILED, "hv1", STARTS_IN_A_ROW)
    assert actual.reason == "did not start: no such disk"
    site.run(1000)
    assert host.calls["start"] == STARTS_IN_A_ROW
    site.fabric.fail_start(vm.uuid, times=0)
    requests.start(site.client, site.vm("vm1"))
    site.settle()
    assert site.actual("vm1").failures == 0


def test_a_vm_that_was_given_up_costs_no_more_looks_than_any_other(site: Site) -> None:
    vm = site.define("vm1", "hv1", run=False)
    site.fabric.fail_start(vm.uuid, times=None)
    requests.start(site.client, vm)
    site.run(1000)
    host = site.nodes["hv1"].host
    before = host.calls["guests"]
    site.run(100)
    assert host.calls["guests"] - before <= 20


def test_a_guest_that_powers_itself_off_is_stopped_and_stays_so(site: Site) -> None:
    vm = site.define("vm1", "hv1")
    site.settle()
    site.fabric.guest_powers_off(vm.uuid)
    site.run(60)
    assert (site.vm("vm1").state, site.actual("vm1").node) == (VmState.STOPPED, None)
    assert site.nodes["hv1"].host.calls["start"] == 1
    assert site.watching.changes() == [VmChange.STARTED, VmChange.STOPPED]


def test_a_guest_that_crashes_is_started_again(site: Site) -> None:
    vm = site.define("vm1", "hv1")
    site.settle()
    site.fabric.guest_crashes(vm.uuid)
    site.run(60)
    assert site.vm_runs("vm1")
    assert site.watching.changes() == [VmChange.STARTED, VmChange.CRASHED, VmChange.STARTED]


def test_a_stop_asks_the_guest_again_and_again_until_it_obeys(site: Site) -> None:
    vm = site.define("vm1", "hv1")
    site.settle()
    site.fabric.ignores_shutdown(vm.uuid)
    requests.stop(site.client, vm, now=False)
    site.run(100)
    assert site.nodes["hv1"].host.calls["shutdown"] >= 3
    assert site.fabric.running(vm.uuid) == ["hv1"]
    site.fabric.ignores_shutdown(vm.uuid, False)
    site.run(30)
    assert site.actual("vm1").state is ActualState.STOPPED


def test_stop_now_powers_off_a_guest_that_does_not_obey(site: Site) -> None:
    vm = site.define("vm1", "hv1")
    site.settle()
    site.fabric.ignores_shutdown(vm.uuid)
    requests.stop(site.client, vm, now=False)
    site.run(20)
    requests.stop(site.client, vm, now=True)
    site.run(5)
    assert site.fabric.running(vm.uuid) == []
    assert site.actual("vm1").state is ActualState.STOPPED


def test_a_restart_is_carried_out_once(site: Site) -> None:
    vm = site.define("vm1", "hv1")
    site.settle()
    requests.restart(site.client, vm)
    site.run(60)
    assert site.vm_runs("vm1") and site.actual("vm1").restart == 1
    assert site.nodes["hv1"].host.calls["start"] == 2
    assert site.watching.changes() == [VmChange.STARTED, VmChange.STOPPED, VmChange.STARTED]


def test_a_vm_that_is_started_again_while_its_guest_goes_down_runs_in_the_end(site: Site) -> None:
    site.fabric.shutdown_seconds = 20.0
    vm = site.define("vm1", "hv1")
    site.settle()
    requests.stop(site.client, vm, now=False)
    site.run(5)
    requests.start(site.client, vm)
    site.run(60)
    assert site.vm_runs("vm1")


def test_cancelling_a_flush_while_a_guest_goes_down_for_it_does_not_lose_the_vm(site: Site) -> None:
    site.fabric.shutdown_seconds = 20.0
    site.define("vm1", "hv1", policy="shutdown")
    site.settle()
    site.ask("flush", "hv1")
    assert site.run_until(lambda: site.actual("vm1").state is ActualState.STOPPING)
    site.run(2)
    site.cancel("hv1", "now")
    assert site.finish("hv1").phase.value == "cancelled"
    site.run(60)
    assert site.vm_runs("vm1") and site.where() == {"vm1": "hv1"}


def test_the_hypervisors_trouble_with_one_vm_does_not_keep_it_from_the_others(site: Site) -> None:
    vms = [site.define(name, "hv1") for name in ("vm1", "vm2", "vm3")]
    site.settle()
    host = site.nodes["hv1"].host
    unlucky = min(vm.uuid for vm in vms)
    shutdown = host.shutdown

    def locked(uuid: str) -> None:
        if uuid == unlucky:
            raise HypervisorError("cannot acquire the state change lock")
        shutdown(uuid)

    host.shutdown = locked  # type: ignore[method-assign]
    for vm in vms:
        requests.stop(site.client, vm, now=False)
    site.run(1.5)
    assert [len(site.fabric.running(vm.uuid)) for vm in sorted(vms, key=lambda vm: vm.uuid)] == [1, 0, 0]
    assert site.logged("service vms") == 0
    assert site.logged("cannot acquire the state change lock") == 1


def test_a_move_does_not_fail_for_the_reason_of_the_one_before_it(site: Site) -> None:
    """The first fails while a step is under way: it has heard of no end yet, and finds no job any more."""
    vm = site.define("vm1", "hv1")
    site.settle()
    site.fabric.set_copy_seconds(vm.uuid, 5.0)
    node = site.nodes["hv1"]
    guests, calls = node.host.guests, node.host.calls

    def guests_later() -> Mapping[str, Guest]:
        migration = site.fabric.migrating(vm.uuid, "hv1")
        if migration is not None and calls["migrate"] == 1:
            migration.fail(HypervisorError("the first move failed"))
            assert node.process is not None
            node.process.sleep(0.5)
        return guests()

    node.host.guests = guests_later  # type: ignore[method-assign]
    requests.send(site.client, vm, "hv2", keep_home=False)
    assert site.run_until(lambda: bool(site.actual("vm1").failed_move))
    assert site.actual("vm1").failed_move == "the first move failed"
    requests.send(site.client, site.vm("vm1"), "hv2", keep_home=False)
    site.run(20)
    assert (site.actual("vm1").failed_move, site.where()) == ("", {"vm1": "hv2"})


def test_a_move_does_not_fail_because_an_earlier_one_that_went_well_was_not_heard_of(site: Site) -> None:
    """The answer to the write that says where the VM has arrived is lost; it comes home, and goes again."""
    vm = site.define("vm1", "hv1")
    site.settle()
    session = site.nodes["hv1"].sessions[0]
    commit, lost = session.commit, [True]

    def commit_unheard(ops: Sequence[Op]) -> tuple[str, ...]:
        answer = commit(ops)
        arrived = [op for op in ops if isinstance(op, Put) and op.path == keys.vm_actual(vm.uuid)]
        if lost and arrived and decode(VmActual, arrived[0].data, "actual").node == "hv2":
            lost.pop()
            raise Disconnected("no answer")
        return answer

    session.commit = commit_unheard  # type: ignore[method-assign]
    for target in ("hv2", "hv1", "hv2"):
        requests.send(site.client, site.vm("vm1"), target, keep_home=False)
        assert site.run_until(lambda target=target: site.actual("vm1").node == target, 60)  # type: ignore[misc]
        site.settle()
        assert (site.actual("vm1").failed_move, site.where()) == ("", {"vm1": target})
    assert not lost


def test_a_guest_that_is_to_arrive_for_ever_is_reported_and_left_alone(site: Site) -> None:
    vm = site.define("vm1", "hv1")
    site.settle()
    remains = replace(parsed_guest(XML.format(name="vm1", uuid=vm.uuid, memory=128)), state=GuestState.INCOMING)
    site.nodes["hv2"].host.add(remains)
    site.run(40)
    assert site.findings("hv2") == []
    site.run(40)
    assert "vm1 is said to arrive here" in str(site.findings("hv2"))
    assert site.where() == {"vm1": "hv1"} and site.nodes["hv2"].host.calls["destroy"] == 0


def test_memory_is_claimed_for_what_runs_arrives_or_is_about_to_start_and_not_for_what_is_stopped(site: Site) -> None:
    vm = site.define("vm1", "hv1", memory=300)
    idle = site.define("vm2", "hv1", memory=200, run=False)
    site.settle()
    site.run(20)

    def claims(node: str) -> dict[str, int]:
        znode = site.client.get(keys.node_facts(node))
        assert znode is not None
        return dict(decode(NodeFacts, znode.data, "facts").vms)

    assert claims("hv1") == {vm.uuid: 300} and idle.uuid not in claims("hv1")
    site.fabric.set_copy_seconds(vm.uuid, 30.0)
    requests.send(site.client, vm, "hv2", keep_home=False)
    site.run(5)
    assert claims("hv2") == {vm.uuid: 300}
    site.run(60)
    assert (claims("hv1"), claims("hv2")) == ({}, {vm.uuid: 300})


def test_a_daemon_that_does_not_hold_its_name_touches_nothing(site: Site) -> None:
    vm = site.define("vm1", "hv1")
    site.settle()
    host = site.nodes["hv1"].host
    site.nodes["hv1"].sessions[0].suspend()
    site.run(5)
    before = dict(host.calls)
    requests.stop(site.client, vm, now=True)
    site.run(60)
    assert site.fabric.running(vm.uuid) == ["hv1"]
    assert host.calls["destroy"] == before.get("destroy", 0)
    site.nodes["hv1"].sessions[0].resume()
    site.run(30)
    assert site.fabric.running(vm.uuid) == []


def test_every_finding_is_a_warning_at_least(site: Site) -> None:
    site.nodes["hv1"].host.start(XML.format(name="stranger", uuid=STRANGER, memory=128))
    site.run(20)
    daemon = site.nodes["hv1"].daemon
    assert daemon is not None
    assert {finding.severity for finding in daemon.findings()} == {Severity.WARNING}


def test_a_guest_that_powers_itself_off_stays_off_also_when_the_event_comes_late() -> None:
    with SimCluster(1) as cluster:
        cluster.start()
        cluster.define("vm1", "hv1")
        cluster.settle()
        cluster.fabric.event_delay = 0.7
        cluster.fabric.guest_powers_off(cluster.vm("vm1").uuid)
        cluster.run(60.0)
        assert cluster.where() == {"vm1": ""}
        assert cluster.vm("vm1").state is VmState.STOPPED


class OutdatedOnce:
    """A hypervisor whose next list of guests is one of an earlier moment, as when records were read after it."""

    def __init__(self, host: FakeHypervisor) -> None:
        self._host = host
        self.earlier: Mapping[str, Guest] | None = None
        self.outdated_answers = 0

    def guests(self) -> Mapping[str, Guest]:
        answer, self.earlier = self.earlier, None
        self.outdated_answers += answer is not None
        return self._host.guests() if answer is None else answer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._host, name)


def test_a_guest_that_was_listed_before_it_ended_is_not_adopted_and_started_again() -> None:
    doors: list[OutdatedOnce] = []

    def connect(_context: object) -> Any:
        doors.append(OutdatedOnce(cluster.nodes["hv1"].host))
        return doors[-1]

    with SimCluster(1, ready=lambda _node: {"hypervisor": HypervisorPlugin(connect)}) as cluster:
        cluster.start()
        vm = cluster.define("vm1", "hv1")
        cluster.settle()
        earlier = dict(cluster.nodes["hv1"].host.guests())
        requests.stop(cluster.client, vm, now=True)
        assert cluster.run_until(lambda: cluster.actual("vm1").state is ActualState.STOPPED)
        cluster.run(1.0)
        doors[-1].earlier = earlier
        cluster.run(30.0)
        assert doors[-1].outdated_answers == 1
        assert cluster.vm("vm1").state is VmState.STOPPED
        assert cluster.where() == {"vm1": ""}
