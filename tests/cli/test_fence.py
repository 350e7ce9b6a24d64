"""`pvc node fence` on a simulated cluster: a dead node's VMs run elsewhere, and what comes back does no harm."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from pvc.cli.exits import FAILED
from pvc.core import keys
from pvc.core.coordination import Create, Put
from pvc.core.decide.fencing import after_cut
from pvc.core.model import ActualState, Vm, VmState
from pvc.core.plugins import Plugins
from pvc.core.records import encode
from pvc.plugins.hypervisor.fencing import StillAlive, declare, free
from pvc.plugins.hypervisor.requests import ANY_ROOM, no_opinion
from tests.cli.conftest import Keyboard


def dead(keyboard: Keyboard, node: str = "hv1") -> None:
    """The node has lost power, and its session is gone."""
    keyboard.cluster.power_off(node)
    keyboard.cluster.run(30.0)


def runs_once_each(keyboard: Keyboard) -> bool:
    return all(keyboard.cluster.where().values()) and not keyboard.cluster.fabric.twice


def test_the_vms_of_a_dead_node_run_elsewhere_and_the_node_comes_back_empty(keyboard: Keyboard) -> None:
    dead(keyboard)
    said = keyboard.type("node", "fence", "hv1", "--reason", "its power supply burnt", "--yes")
    assert said.code == 0, said.err
    assert "vm1: is to start on hv" in said.out and "2 of 2 VMs run elsewhere" in said.out
    assert "hv1" not in keyboard.cluster.where().values() and runs_once_each(keyboard)
    (row,) = (keyboard.type("node", "info", "hv1", "--format", "json").rows,)
    assert (row["fenced"], row["fenced_reason"]) == ("declared dead", "its power supply burnt")

    keyboard.cluster.power_on("hv1")
    assert keyboard.cluster.run_until(lambda: keyboard.cluster.node("hv1").fence is None)
    assert runs_once_each(keyboard)
    assert keyboard.cluster.vm("vm1").home == "hv1"
    assert keyboard.type("vm", "unmigrate", "vm1").code == 0
    assert keyboard.cluster.where()["vm1"] == "hv1"


def test_a_node_that_answers_is_not_declared_dead(keyboard: Keyboard) -> None:
    said = keyboard.type("node", "fence", "hv1", "--yes")
    assert said.code == 1 and "the daemon of hv1 answers" in said.err
    assert keyboard.cluster.node("hv1").fence is None


def test_without_an_answer_nothing_is_declared_and_the_vms_are_named(keyboard: Keyboard) -> None:
    dead(keyboard)
    said = keyboard.type("node", "fence", "hv1")
    assert said.code == 1 and "vm1, vm4" in said.out + said.err
    assert keyboard.cluster.node("hv1").fence is None and not keyboard.cluster.where()["vm1"]


def test_a_host_that_was_not_off_after_all_loses_its_copies_when_it_is_seen_again(keyboard: Keyboard) -> None:
    keyboard.cluster.kill_daemon("hv1")
    keyboard.cluster.fabric.warned.update(keyboard.cluster.vm(name).uuid for name in ("vm1", "vm4"))
    keyboard.cluster.run(30.0)
    assert keyboard.type("node", "fence", "hv1", "--yes").code == 0
    assert len(keyboard.cluster.fabric.running(keyboard.cluster.vm("vm1").uuid)) == 2  # as the question warned
    keyboard.cluster.start_daemon("hv1")
    assert keyboard.cluster.run_until(lambda: keyboard.cluster.node("hv1").fence is None)
    for name in ("vm1", "vm4"):
        assert keyboard.cluster.fabric.running(keyboard.cluster.vm(name).uuid) == [keyboard.cluster.actual(name).node]
        assert keyboard.cluster.actual(name).node != "hv1"


def test_a_copy_of_a_vm_that_was_stopped_elsewhere_meanwhile_is_ended_and_not_adopted(keyboard: Keyboard) -> None:
    cluster = keyboard.cluster
    cluster.kill_daemon("hv1")
    cluster.fabric.warned.update(cluster.vm(name).uuid for name in ("vm1", "vm4"))
    cluster.run(30.0)
    assert keyboard.type("node", "fence", "hv1", "--yes").code == 0
    assert keyboard.type("vm", "stop", "vm1", "--yes").code == 0
    assert cluster.fabric.running(cluster.vm("vm1").uuid) == ["hv1"], "its disks are not its own any more"
    cluster.start_daemon("hv1")
    assert cluster.run_until(lambda: cluster.node("hv1").fence is None)
    assert cluster.fabric.running(cluster.vm("vm1").uuid) == []
    assert cluster.vm("vm1").state is VmState.STOPPED


def test_a_vm_that_found_no_place_and_lives_on_is_kept_when_its_host_is_seen_again(keyboard: Keyboard) -> None:
    cluster = keyboard.cluster
    assert keyboard.type("vm", "modify", "vm1", "--limit", "hv1").code == 0
    cluster.kill_daemon("hv1")
    cluster.fabric.warned.add(cluster.vm("vm4").uuid)
    cluster.run(30.0)
    assert keyboard.type("node", "fence", "hv1", "--yes").code == FAILED
    before = cluster.nodes["hv1"].host.calls["start"]
    cluster.start_daemon("hv1")
    assert cluster.run_until(lambda: cluster.node("hv1").fence is None)
    assert cluster.vm_runs("vm1") and cluster.where()["vm1"] == "hv1"
    assert cluster.nodes["hv1"].host.calls["start"] == before, "it was never off"


def test_a_node_that_some_storage_still_keeps_out_takes_no_vm_though_it_is_back(keyboard: Keyboard) -> None:
    cluster = keyboard.cluster
    dead(keyboard)
    keyboard.type("node", "fence", "hv1", "--yes")
    record = cluster.node("hv1")
    assert record.fence is not None
    cluster.client.commit(
        [Put(keys.node("hv1"), encode(replace(record, fence=after_cut(record.fence, "fast", ["192.0.2.1"]))))]
    )
    cluster.power_on("hv1")
    cluster.run(30.0)
    assert keyboard.type("node", "info", "hv1", "--format", "json").rows["fenced"] == (
        "is back; pools that still keep it out: fast"
    )
    assert "was declared dead" in keyboard.type("vm", "move", "vm2", "hv1").err
    assert keyboard.type("vm", "shutdown", "vm5").code == 0
    assert keyboard.type("vm", "start", "vm5").code == 0 and cluster.where()["vm5"] != "hv1"


def test_asked_again_it_goes_on_with_what_is_left(keyboard: Keyboard) -> None:
    dead(keyboard)
    first = keyboard.begin("node", "fence", "hv1", "--yes")
    keyboard.cluster.run_until(lambda: "is declared dead" in first.out)
    keyboard.kill(first)
    by = keyboard.cluster.node("hv1").fence
    said = keyboard.type("node", "fence", "hv1", "--yes")
    assert said.code == 0, said.err
    assert keyboard.cluster.node("hv1").fence == by
    assert keyboard.cluster.run_until(lambda: runs_once_each(keyboard))


def test_a_vm_that_finds_no_place_is_named_and_can_be_started_later(keyboard: Keyboard) -> None:
    assert keyboard.type("vm", "modify", "vm1", "--limit", "hv1").code == 0
    dead(keyboard)
    said = keyboard.type("node", "fence", "hv1", "--yes")
    assert said.code == FAILED and "stay down: vm1" in said.err
    assert keyboard.cluster.actual("vm1").state is ActualState.STOPPED and keyboard.cluster.actual("vm1").node is None
    assert keyboard.type("vm", "modify", "vm1", "--no-limit").code == 0
    assert keyboard.type("vm", "start", "vm1").code == 0
    assert keyboard.cluster.vm_runs("vm1")


def test_a_vm_whose_source_died_while_it_moved_is_the_business_of_its_target(keyboard: Keyboard) -> None:
    cluster = keyboard.cluster
    keyboard.begin("vm", "move", "vm1", "hv2")
    assert cluster.run_until(lambda: cluster.actual("vm1").state is ActualState.MIGRATING)
    dead(keyboard)
    assert keyboard.type("node", "fence", "hv1", "--yes").code == 0
    assert cluster.run_until(lambda: cluster.vm_runs("vm1"))
    assert cluster.where()["vm1"] == "hv2" and not cluster.fabric.twice


@pytest.mark.parametrize("called_back", [False, True])
def test_who_declares_a_node_dead_hears_whether_what_was_on_its_way_runs(keyboard: Keyboard, called_back: bool) -> None:
    cluster = keyboard.cluster
    keyboard.begin("vm", "move", "vm1", "hv2")
    assert cluster.run_until(lambda: cluster.actual("vm1").state is ActualState.MIGRATING)
    if called_back:
        cluster.client.commit([Put(keys.vm(cluster.vm("vm1").uuid), encode(replace(cluster.vm("vm1"), node="hv1")))])
    dead(keyboard)
    said = keyboard.type("node", "fence", "hv1", "--yes")
    assert said.code == 0 and "2 of 2 VMs run elsewhere" in said.out, said.err
    assert runs_once_each(keyboard) and cluster.vm_runs("vm1")


@pytest.mark.parametrize("record", [keys.vm_actual, keys.vm])
def test_a_vm_whose_record_cannot_be_read_keeps_no_other_down(keyboard: Keyboard, record: Callable[[str], str]) -> None:
    cluster = keyboard.cluster
    uuid = cluster.vm("vm1").uuid
    dead(keyboard)
    cluster.client.commit([Put(record(uuid), b"x")])
    said = keyboard.type("node", "fence", "hv1", "--yes")
    assert said.code == FAILED and uuid in said.err and "repair their records" in said.err
    assert cluster.vm_runs("vm4")


def test_a_vm_that_was_to_be_stopped_stays_stopped(keyboard: Keyboard) -> None:
    dead(keyboard)
    assert keyboard.type("vm", "shutdown", "vm1", "--no-wait").code == 0
    assert "vm1: was to be stopped, and is" in keyboard.type("node", "fence", "hv1", "--yes").out
    assert keyboard.cluster.where()["vm1"] == ""


def test_a_vm_is_not_taken_from_a_node_that_answers_at_that_moment(keyboard: Keyboard) -> None:
    cluster = keyboard.cluster
    dead(keyboard)
    runtime = cluster.world.process("client")
    declare(cluster.client, runtime, "hv1", "root@here", "")
    before = cluster.actual("vm1")
    cluster.client.commit([Create(keys.node_session("hv1"))])
    with pytest.raises(StillAlive):
        free(cluster.client, runtime, "hv1", cluster.vm("vm1"), ANY_ROOM, no_opinion)
    assert cluster.actual("vm1") == before


def test_a_start_that_is_still_prepared_when_its_node_is_declared_dead_begins_no_second_guest(
    keyboard: Keyboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = keyboard.cluster
    assert keyboard.type("vm", "shutdown", "vm2").code == 0
    assert cluster.run_until(lambda: cluster.actual("vm2").state is ActualState.STOPPED)
    slow, process, definition = [cluster.nodes["hv2"].daemon], cluster.nodes["hv2"].process, Plugins.vm_definition
    assert process is not None

    def slow_definition(self: Plugins, vm: Vm, xml: str) -> str:
        if slow and slow[0] is not None and self is slow[0].context.plugins:
            slow.clear()
            process.sleep(60.0)
        return definition(self, vm, xml)

    monkeypatch.setattr(Plugins, "vm_definition", slow_definition)
    keyboard.begin("vm", "start", "vm2")
    assert cluster.run_until(lambda: not slow)
    cluster.fabric.warned.add(cluster.vm("vm5").uuid)  # runs on hv2, which is not off
    cluster.nodes["hv2"].sessions[0].expire()
    cluster.run(1)
    keyboard.type("node", "fence", "hv2", "--yes", "--timeout", "5")
    assert cluster.run_until(lambda: cluster.actual("vm2").state is ActualState.RUNNING)
    elsewhere = cluster.actual("vm2").node
    assert elsewhere != "hv2"
    cluster.nodes["hv2"].sessions[0].resume()
    cluster.run(20)
    assert cluster.node("hv2").fence is not None, "it is not back as long as what it had begun may go on"
    assert cluster.run_until(lambda: cluster.node("hv2").fence is None, 120)
    assert cluster.fabric.running(cluster.vm("vm2").uuid) == [elsewhere]
    assert cluster.vm("vm2").uuid not in cluster.fabric.twice


def test_a_dead_node_is_forgotten_only_when_its_machine_is_said_to_be_off(keyboard: Keyboard) -> None:
    dead(keyboard)
    assert keyboard.type("node", "fence", "hv1", "--yes").code == 0
    fence = keyboard.cluster.node("hv1").fence
    assert fence is not None
    node = replace(keyboard.cluster.node("hv1"), fence=after_cut(fence, "fast", ["10.0.0.1"]))
    keyboard.cluster.client.commit([Put(keys.node("hv1"), encode(node))])
    said = keyboard.type("node", "forget", "hv1", "--yes")
    assert said.code == 1 and "pvc node forget hv1 --off" in said.err
    said = keyboard.type("node", "forget", "hv1", "--off", "--yes")
    assert said.code == 0, said.err
    assert "pool fast goes on to keep out 10.0.0.1" in said.out
