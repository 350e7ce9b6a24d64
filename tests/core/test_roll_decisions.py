"""What a roll does next with a node, when a node is well, and what a resumed roll does again."""

from dataclasses import replace

import pytest

from pvc.core.decide.roll import (
    Ask,
    Doubt,
    Finished,
    Follow,
    Mark,
    Pulse,
    Recover,
    RunCommand,
    Sight,
    Step,
    Stop,
    ailment,
    next_step,
    resumed,
    standing,
)
from pvc.core.model import Finding, Node, NodeFacts, NodeSession, NodeState, Operation, OperationKind, Phase, Severity
from pvc.core.rolls import Roll, RollNode, RollOptions, RollState

ROLL = Roll("r1", "root@a", 5.0, RollOptions("true"), (RollNode("hv1"), RollNode("hv2")))


def operation(kind: str, phase: Phase, id: str = "mine") -> Operation:
    return Operation(id=id, kind=OperationKind(kind), node="hv1", by="eve", requested=0.0, phase=phase)


def sight(state: str, last: Operation | None = None, *, alive: bool = True) -> Sight:
    return Sight(Node("hv1", NodeState(state)), alive, last)


FLUSH_DONE, FLUSH_RUNS = operation("flush", Phase.DONE), operation("flush", Phase.MOVING)
FLUSH_STUCK, ANOTHERS_FLUSH = operation("flush", Phase.INCOMPLETE), operation("flush", Phase.QUEUED, "other")
HOME, COMING, FAILED_HOME = (operation("unflush", phase) for phase in (Phase.DONE, Phase.MOVING, Phase.INCOMPLETE))
FLUSH, UNFLUSH = Ask(OperationKind.FLUSH), Ask(OperationKind.UNFLUSH)


@pytest.mark.parametrize(
    "state, seen, step",
    [
        ("waiting", sight("ready"), FLUSH),
        ("waiting", sight("ready", alive=False), Stop),
        ("waiting", sight("flushed", FLUSH_DONE), Stop),
        ("waiting", sight("ready", ANOTHERS_FLUSH), Stop),
        ("flushing", sight("flushing", FLUSH_RUNS), Follow(FLUSH_RUNS)),
        ("flushing", sight("flushing", FLUSH_RUNS, alive=False), Follow(FLUSH_RUNS)),
        ("flushing", sight("flushing", FLUSH_STUCK), Follow(FLUSH_STUCK)),
        ("flushing", sight("flushed", FLUSH_DONE), Mark(RollState.FLUSHED)),
        ("flushing", sight("flushed", operation("flush", Phase.DONE, "other")), Mark(RollState.FLUSHED)),
        ("flushing", sight("ready", ANOTHERS_FLUSH), Follow(ANOTHERS_FLUSH)),
        ("flushing", sight("unflushing", COMING), Stop),
        ("flushing", sight("ready", operation("flush", Phase.CANCELLED, "other")), FLUSH),
        ("flushing", sight("ready", operation("flush", Phase.CANCELLED, "other"), alive=False), Stop),
        ("flushed", sight("flushed", FLUSH_DONE), RunCommand()),
        ("flushed", sight("flushed", FLUSH_DONE, alive=False), RunCommand()),
        ("flushed", sight("flushed", COMING), Stop),
        ("flushed", sight("ready", HOME), FLUSH),
        ("flushed", sight("ready", FLUSH_DONE), FLUSH),
        ("running", sight("flushed", FLUSH_DONE), Doubt()),
        ("ran", sight("flushed", FLUSH_DONE, alive=False), Recover()),
        ("ran", sight("flushed", ANOTHERS_FLUSH), Stop),
        ("ran", sight("unflushing", COMING), Follow(COMING)),
        ("unflushing", sight("unflushing", COMING), Follow(COMING)),
        ("unflushing", sight("ready", HOME), Follow(HOME)),
        ("unflushing", sight("ready", FAILED_HOME), Follow(FAILED_HOME)),
        ("unflushing", sight("flushed", FLUSH_DONE), UNFLUSH),
        ("unflushing", sight("flushing", FLUSH_RUNS), Stop),
        ("done", sight("ready", HOME), Finished()),
    ],
)
def test_the_next_step_is_judged_by_the_cluster(state: str, seen: Sight, step: Step | type[Stop]) -> None:
    found = next_step(RollNode("hv1", RollState(state), operation="mine"), seen, [])
    assert found == step or (step is Stop and isinstance(found, Stop))


def test_no_node_is_begun_while_another_is_out_of_service_but_one_that_was_begun_is_finished() -> None:
    out = ["hv7 is flushed"]
    assert isinstance(next_step(RollNode("hv1"), sight("ready"), out), Stop)
    assert next_step(RollNode("hv1", RollState.RAN), sight("flushed"), out) == Recover()


OLD, NEW = NodeSession("hv1", 1, "boot1", "1"), NodeSession("hv1", 2, "boot2", "2")
RESTARTED = NodeSession("hv1", 3, "boot1", "3")
SICK = NodeFacts(findings=(Finding("hypervisor", Severity.CRITICAL, "libvirt is away"),))
POORLY = NodeFacts(findings=(Finding("hypervisor", Severity.WARNING, "a disk is slow"),))


@pytest.mark.parametrize(
    "pulse, reboots, words",
    [
        (Pulse(None), False, "does not answer"),
        (Pulse(OLD, 5.0, NodeFacts(), 1.0), False, ""),
        (Pulse(OLD, 5.0, NodeFacts(), 9.0), True, "has not rebooted"),
        (Pulse(RESTARTED, 5.0, NodeFacts(), 9.0), True, "has not rebooted"),
        (Pulse(NEW, 5.0, NodeFacts(), 9.0), True, ""),
        (Pulse(NEW, 5.0, NodeFacts(), 1.0), True, "has not said yet"),
        (Pulse(RESTARTED, 5.0, NodeFacts(), 1.0), False, "has not said yet"),
        (Pulse(OLD, 5.0, None), False, "has not said yet"),
        (Pulse(OLD, 5.0, SICK, 9.0), False, "libvirt is away"),
        (Pulse(OLD, 5.0, POORLY, 9.0), False, ""),
    ],
)
def test_a_node_is_well_once_its_daemon_says_so_itself(pulse: Pulse, reboots: bool, words: str) -> None:
    found = ailment("hv1", pulse, OLD, reboots)
    assert words in found if words else found == ""


def test_resuming_does_again_what_has_stopped_the_roll_and_follows_what_is_under_way() -> None:
    def after(entry: RollNode, command: str | None = "true") -> RollNode:
        return resumed(replace(ROLL, options=RollOptions(command), nodes=(entry,))).nodes[0]

    stopped = RollNode("hv1", RollState.FLUSHING, operation="op", why="incomplete")
    assert after(stopped) == RollNode("hv1", RollState.FLUSHING)
    assert after(replace(stopped, state=RollState.UNFLUSHING)).state is RollState.RAN
    assert after(replace(stopped, why="")) == replace(stopped, why="")
    failed = RollNode("hv1", RollState.RUNNING, code=3, why="code 3")
    assert after(failed) == replace(failed, why="")
    assert after(failed, None).state is RollState.FLUSHED


def test_where_a_roll_stands_is_told_by_its_first_unfinished_node() -> None:
    assert standing(ROLL) == "hv1 (1 of 2): waiting"
    done, failed = RollNode("hv1", RollState.DONE), RollNode("hv2", RollState.RUNNING, code=3, why="no disk")
    told = "hv2 (2 of 2): flushed, the command ended with 3, stopped: no disk"
    assert standing(replace(ROLL, nodes=(done, failed))) == told
