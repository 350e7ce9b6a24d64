"""`pvc node` on a simulated cluster: what is said, and the exit codes that scripts rely on."""

import json
from dataclasses import replace

import pytest
import yaml

from pvc.cli.exits import CANCELLED, INCOMPLETE, OPERATION_FAILED, TIMED_OUT
from pvc.cli.watching import LOOK_AFRESH, OVERDUE, Overdue, TimedOut, watch
from pvc.core import keys
from pvc.core.coordination import Create, Put
from pvc.core.model import OperationKind, Phase
from pvc.core.records import encode
from tests.cli.conftest import Keyboard


def test_a_flush_that_empties_its_node_ends_with_0_and_says_what_moved(keyboard: Keyboard) -> None:
    said = keyboard.type("node", "flush", "hv1", "--wait", "--reason", "new fan")
    assert said.code == 0, said
    lines = said.out.splitlines()
    assert lines[-1] == "flush hv1: done: hv1 is flushed: 2 VMs moved, none left"
    assert sum("moved to" in line for line in lines) == 2
    assert keyboard.cluster.operation("hv1").reason == "new fan"


def test_a_waiting_flush_is_told_for_whom_since_when_and_its_place_and_then_follows_its_own(keyboard: Keyboard) -> None:
    first = keyboard.begin("node", "flush", "hv1", "--wait")
    keyboard.cluster.run(0.3)
    second = keyboard.type("node", "flush", "hv2", "--wait")
    lines = second.out.splitlines()
    assert "waiting: the flush lock is held by the flush of hv1 by" in lines[0]
    assert "since 20" in lines[0] and lines[0].endswith("place 1 in the queue")
    assert first.code == 0 and second.code == 0
    assert lines[-1].startswith("flush hv2: done: hv2 is flushed")
    assert not any("hv1: done" in line for line in lines)


def test_an_incomplete_flush_ends_with_its_own_code_and_names_each_vm_and_why(keyboard: Keyboard) -> None:
    keyboard.cluster.define("stuck", "hv1", policy="keep")
    keyboard.cluster.settle()
    said = keyboard.type("node", "flush", "hv1", "--wait")
    assert said.code == INCOMPLETE
    assert "stuck: its policy is keep" in said.out


def test_a_cancelled_flush_ends_with_its_own_code(keyboard: Keyboard) -> None:
    flush = keyboard.begin("node", "flush", "hv1", "--wait")
    keyboard.cluster.run(0.5)
    assert keyboard.type("node", "cancel", "hv1").code == 0
    keyboard.cluster.run_until(lambda: flush.code is not None)
    assert flush.code == CANCELLED
    assert "cancelled by" in flush.out


def test_without_a_queue_a_held_lock_fails_at_once(keyboard: Keyboard) -> None:
    keyboard.begin("node", "flush", "hv1", "--wait")
    keyboard.cluster.run(0.3)
    said = keyboard.type("node", "flush", "hv2", "--wait", "--no-queue")
    assert said.code == OPERATION_FAILED
    assert "did not want to queue" in said.out


def test_a_wait_that_is_over_before_the_flush_has_its_own_code_and_says_how_to_go_on(keyboard: Keyboard) -> None:
    said = keyboard.type("node", "flush", "hv1", "--wait", "--timeout", "0.5")
    assert said.code == TIMED_OUT
    assert "pvc node watch hv1" in said.err and "pvc node cancel hv1" in said.err
    assert keyboard.type("node", "watch", "hv1").code == 0


def test_a_watcher_is_told_when_the_daemon_does_not_answer(keyboard: Keyboard) -> None:
    flush = keyboard.begin("node", "flush", "hv1", "--wait")
    keyboard.cluster.run(0.3)
    keyboard.cluster.kill_daemon("hv1")
    keyboard.cluster.run(30.0)
    assert "done" not in flush.out
    keyboard.cluster.start_daemon("hv1")
    assert keyboard.cluster.run_until(lambda: flush.code == 0)
    assert "the daemon of hv1 does not answer" in flush.out


def test_a_watcher_does_not_wait_for_ever_for_a_daemon_that_does_not_come_back(keyboard: Keyboard) -> None:
    flush = keyboard.begin("node", "flush", "hv1", "--wait", "--deadline", "60")
    keyboard.cluster.run(0.3)
    begun = keyboard.cluster.world.time
    keyboard.cluster.kill_daemon("hv1")
    assert keyboard.cluster.run_until(flush.has_ended, 60.0 + OVERDUE + LOOK_AFRESH)
    assert flush.code == TIMED_OUT
    assert keyboard.cluster.world.time - begun > OVERDUE, "it may have been back soon"
    assert "the flush of hv1 should have ended by" in flush.err and "the daemon of hv1 does not answer" in flush.err
    unflush = keyboard.type("node", "unflush", "hv1")
    assert unflush.code == TIMED_OUT
    assert "the flush of hv1 was asked to end and has not, so nothing else was asked for" in unflush.err


def test_a_daemon_that_answers_is_given_all_the_time_that_it_takes(limited: Keyboard) -> None:
    limited.type("node", "flush", "hv1", "--wait")
    limited.type("node", "flush", "hv2")
    late = replace(limited.cluster.operation("hv2"), deadline=limited.cluster.world.start)
    with pytest.raises(TimedOut) as end:
        list(watch(limited.cluster.client, limited.cluster.world.process("watch"), late, OVERDUE + 100.0))
    assert not isinstance(end.value, Overdue)


@pytest.mark.parametrize("after", ["forgotten", "asked anew"])
def test_a_watcher_is_told_that_the_record_of_an_operation_is_gone(keyboard: Keyboard, after: str) -> None:
    keyboard.type("node", "flush", "hv1", "--wait")
    keyboard.cluster.kill_daemon("hv1")
    keyboard.cluster.run(20.0)
    keyboard.type("node", "unflush", "hv1")
    follower = keyboard.begin("node", "watch", "hv1")
    keyboard.cluster.run(1.0)
    assert not follower.has_ended()
    if after == "forgotten":
        assert keyboard.type("node", "forget", "hv1", "--yes").code == 0
    else:  # it ended, another one followed, and the history has gone on since
        other = replace(keyboard.cluster.operation("hv1"), id="another")
        keyboard.cluster.client.commit([Put(keys.node_operation("hv1"), encode(other))])
    assert keyboard.cluster.run_until(follower.has_ended, 10.0)
    assert follower.code == 1
    assert "the record of the unflush of hv1 is gone, so how it ended is not known" in follower.err


def test_a_watcher_finds_the_end_of_its_operation_in_a_history_that_cannot_all_be_read(keyboard: Keyboard) -> None:
    keyboard.type("node", "flush", "hv1")
    operation = keyboard.cluster.operation("hv1")
    keyboard.cluster.finish("hv1")
    keyboard.type("node", "unflush", "hv1", "--wait")
    keyboard.cluster.client.commit([Create(keys.history_prefix(), b"{", sequence=True)])
    views = list(watch(keyboard.cluster.client, keyboard.cluster.world.process("watch"), operation, None))
    assert [view.operation.phase for view in views] == [Phase.DONE]


def test_asking_again_attaches_to_the_running_operation(keyboard: Keyboard) -> None:
    keyboard.type("node", "flush", "hv1")
    keyboard.cluster.run(0.3)
    again = keyboard.type("node", "flush", "hv1", "--wait")
    assert again.code == 0
    assert "already; this is the same one" in again.err


def test_the_opposite_request_cancels_the_running_operation_first(keyboard: Keyboard) -> None:
    keyboard.type("node", "flush", "hv1")
    keyboard.cluster.run(0.5)
    said = keyboard.type("node", "unflush", "hv1", "--wait")
    assert said.code == 0, said
    assert "it is cancelled first" in said.err
    assert keyboard.cluster.node("hv1").state.value == "ready"
    keyboard.cluster.settle()
    assert keyboard.cluster.where()["vm1"] == keyboard.cluster.where()["vm4"] == "hv1"


def test_the_wait_for_the_opposite_operation_ends_when_its_time_is_over(keyboard: Keyboard) -> None:
    keyboard.type("node", "flush", "hv1")
    keyboard.cluster.run(0.5)
    keyboard.cluster.kill_daemon("hv1")
    keyboard.cluster.run(20.0)
    before = keyboard.cluster.world.time
    said = keyboard.type("node", "unflush", "hv1", "--timeout", "1")
    assert said.code == TIMED_OUT
    assert keyboard.cluster.world.time - before < 2.0
    assert "the daemon of hv1 does not answer; the flush ends when it is back" in said.err
    assert "the flush of hv1 was asked to end and has not after 1 s, so nothing else was asked for" in said.err
    keyboard.cluster.start_daemon("hv1")
    assert keyboard.type("node", "watch", "hv1").code == CANCELLED
    assert keyboard.cluster.operation("hv1").kind is OperationKind.FLUSH


def test_the_time_for_the_opposite_operation_and_for_its_own_is_one(keyboard: Keyboard) -> None:
    keyboard.type("node", "flush", "hv1")
    keyboard.cluster.run(0.5)
    said = keyboard.type("node", "unflush", "hv1", "--wait", "--timeout", "1.4")  # more than either takes
    assert said.code == TIMED_OUT
    assert "the unflush of hv1 has not ended after 1.4 s" in said.err


def test_json_lines_are_whole_operations(keyboard: Keyboard) -> None:
    said = keyboard.type("node", "flush", "hv1", "--wait", "--format", "jsonl")
    records = [json.loads(line) for line in said.out.splitlines()]
    assert records[-1]["phase"] == "done"
    assert {o["state"] for o in records[-1]["outcomes"].values()} == {"moved"}


def test_listings_have_the_same_fields_in_json_and_yaml(keyboard: Keyboard) -> None:
    as_json = keyboard.type("node", "list", "--format", "json").rows
    as_yaml = yaml.safe_load(keyboard.type("node", "list", "--format", "yaml").out)
    assert as_json == as_yaml
    assert [row["name"] for row in as_json] == ["hv1", "hv2", "hv3"]
    assert [row["vms"] for row in as_json] == [2, 2, 2]
    table = keyboard.type("node", "list").out.splitlines()
    assert table[0].split()[:3] == ["NAME", "STATE", "ALIVE"] and len(table) == 4


def test_an_unknown_node_is_met_with_the_nearest_names(keyboard: Keyboard) -> None:
    said = keyboard.type("node", "flush", "hv9")
    assert said.code == 1
    assert "there is no node 'hv9'; did you mean hv" in said.err


def test_the_queue_shows_the_holder_first(keyboard: Keyboard) -> None:
    keyboard.begin("node", "flush", "hv1", "--wait")
    keyboard.cluster.run(0.3)
    keyboard.begin("node", "unflush", "hv2", "--wait")
    keyboard.cluster.run(0.1)
    rows = keyboard.type("node", "queue", "--format", "json").rows
    assert [(row["place"], row["node"], row["kind"]) for row in rows] == [(0, "hv1", "flush"), (1, "hv2", "unflush")]
    assert "moved, moving" in rows[0]["doing"]


def test_a_garbage_record_is_reported_and_left_out(keyboard: Keyboard) -> None:
    keyboard.cluster.client.commit([Put(keys.node("hv2"), b"\xff{")])
    said = keyboard.type("node", "list", "--format", "json")
    assert [row["name"] for row in said.rows] == ["hv1", "hv3"]
    assert "/nodes/hv2 holds no valid record" in said.err


def forgotten(keyboard: Keyboard) -> str:
    return keyboard.type("node", "forget", "hv3", "--yes").err


def test_a_node_that_answers_or_has_vms_is_not_forgotten(keyboard: Keyboard) -> None:
    assert "stop it first" in forgotten(keyboard)
    keyboard.cluster.kill_daemon("hv3")
    keyboard.cluster.run(20.0)
    assert "VMs are assigned to hv3; move or undefine them first: vm3, vm6" in forgotten(keyboard)
    assert keyboard.cluster.client.get(keys.node("hv3")) is not None


def test_an_empty_dead_node_is_forgotten_and_vms_with_their_home_there_keep_running(keyboard: Keyboard) -> None:
    keyboard.type("node", "flush", "hv3", "--wait")
    keyboard.cluster.kill_daemon("hv3")
    keyboard.cluster.run(20.0)
    said = keyboard.type("node", "forget", "hv3", "--yes")
    assert said.code == 0, said
    assert keyboard.cluster.client.get(keys.node("hv3")) is None
    keyboard.cluster.settle()
    assert keyboard.cluster.vm("vm3").home == "hv3"


def test_a_dead_node_is_forgotten_though_it_remembers_vms_that_were_moved_for_good(keyboard: Keyboard) -> None:
    keyboard.type("node", "flush", "hv3", "--wait")
    keyboard.cluster.kill_daemon("hv3")
    for name in ("vm3", "vm6"):
        assert keyboard.type("vm", "move", name, keyboard.cluster.where()[name]).code == 0
    keyboard.cluster.run(20.0)
    assert keyboard.cluster.client.children(keys.node_vms("hv3"))
    assert keyboard.type("node", "forget", "hv3", "--yes").code == 0


def test_status_counts_what_there_is(keyboard: Keyboard) -> None:
    row = keyboard.type("status", "--format", "json").rows
    assert (row["nodes"], row["nodes_alive"], row["vms"]) == (3, 3, 6)
    assert row["nodes_out_of_service"] == []
    keyboard.type("node", "flush", "hv2", "--wait")
    assert keyboard.type("status", "--format", "json").rows["nodes_out_of_service"] == ["hv2"]
