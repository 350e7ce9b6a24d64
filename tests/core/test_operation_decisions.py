"""Before its turn and at its end: what an operation does, as tables."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pvc.core.decide.operation import Begin, End, Wait, admission, during, ending, state_after
from pvc.core.model import (
    NODE_MOVES,
    Cancel,
    NodeState,
    Operation,
    OperationKind,
    Outcome,
    OutcomeState,
    Phase,
)
from pvc.core.turns import Entered, Refused, Waiting

FLUSH = Operation(id="op1", kind=OperationKind.FLUSH, node="hv1", by="root", requested=0.0)
UNFLUSH = replace(FLUSH, kind=OperationKind.UNFLUSH)
WAITING = Waiting("hv2 is being flushed", 2)
MOVED = {"a": Outcome("vm1", OutcomeState.MOVED), "b": Outcome("vm2", OutcomeState.KEPT)}
NOW = 100.0

ADMISSIONS = [
    ("gates open", FLUSH, Entered(), Begin()),
    ("a gate is closed", FLUSH, WAITING, Wait(WAITING)),
    ("refused", FLUSH, Refused("freeze"), End(Phase.FAILED, "not allowed now: freeze; 0 VMs moved")),
    (
        "cancelled",
        replace(FLUSH, cancel=Cancel.AFTER_CURRENT, cancelled_by="eve"),
        Entered(),
        End(Phase.CANCELLED, "cancelled by eve; 0 VMs moved"),
    ),
    (
        "cancelled beats refused",
        replace(FLUSH, cancel=Cancel.NOW, cancelled_by="eve"),
        Refused("freeze"),
        End(Phase.CANCELLED, "cancelled by eve; 0 VMs moved"),
    ),
    ("before its deadline", replace(FLUSH, deadline=100.5), WAITING, Wait(WAITING)),
    (
        "deadline passed while waiting",
        replace(FLUSH, deadline=100.0),
        WAITING,
        End(
            Phase.FAILED,
            "its deadline passed before its turn came; it was waiting: hv2 is being flushed; 0 VMs moved",
        ),
    ),
    (
        "deadline passed just as the gates open",
        replace(FLUSH, deadline=99.0),
        Entered(),
        End(Phase.FAILED, "its deadline passed before its turn came; 0 VMs moved"),
    ),
    (
        "did not want to queue",
        replace(FLUSH, queue=False),
        WAITING,
        End(Phase.FAILED, "did not want to queue: hv2 is being flushed; 0 VMs moved"),
    ),
    ("did not want to queue and need not", replace(FLUSH, queue=False), Entered(), Begin()),
    (
        "lost its turn half-way, and then queues whatever it said",
        replace(FLUSH, queue=False, began=50.0, outcomes=MOVED),
        WAITING,
        Wait(WAITING),
    ),
    (
        "lost its turn and was refused: what it did is told",
        replace(FLUSH, began=50.0, outcomes=MOVED),
        Refused("freeze"),
        End(Phase.FAILED, "not allowed now: freeze; 1 VM moved"),
    ),
]


@pytest.mark.parametrize(
    ("operation", "answer", "expected"), [row[1:] for row in ADMISSIONS], ids=[r[0] for r in ADMISSIONS]
)
def test_admission(operation: Operation, answer: Entered | Waiting | Refused, expected: Wait | Begin | End) -> None:
    assert admission(operation, NOW, answer) == expected


@given(
    cancel=st.sampled_from(Cancel),
    deadline=st.none() | st.floats(0, 200),
    queue=st.booleans(),
    began=st.none() | st.just(1.0),
    answer=st.sampled_from([Entered(), WAITING, Refused("x")]),
)
def test_nothing_begins_unless_every_gate_is_open_and_nobody_said_stop(
    cancel: Cancel, deadline: float | None, queue: bool, began: float | None, answer: Entered | Waiting | Refused
) -> None:
    operation = replace(FLUSH, cancel=cancel, deadline=deadline, queue=queue, began=began)
    if isinstance(admission(operation, NOW, answer), Begin):
        assert answer == Entered() and cancel is Cancel.NO
        assert deadline is None or deadline > NOW


def test_an_unflush_counts_those_that_made_room_apart() -> None:
    made = {f"m{n}": Outcome(f"m{n}", OutcomeState.MOVED, source="hv1", target="hv2") for n in range(2)}
    ended = ending(UNFLUSH, NOW, {**MOVED, **made}, ())
    assert ended.message == "hv1 is ready: 1 VM moved home, 2 VMs moved away to make room"


ENDINGS = [
    ("flush, nothing left", FLUSH, (), End(Phase.DONE, "hv1 is flushed: 1 VM moved, none left")),
    ("unflush, nothing left", UNFLUSH, (), End(Phase.DONE, "hv1 is ready: 1 VM moved home")),
    ("something left", FLUSH, ("vm2: no room",), End(Phase.INCOMPLETE, "1 VM moved, 1 left: vm2: no room")),
    (
        "two left",
        UNFLUSH,
        ("vm2: a", "vm3: b"),
        End(Phase.INCOMPLETE, "1 VM moved, 2 left: vm2: a; vm3: b"),
    ),
    (
        "deadline",
        replace(FLUSH, deadline=NOW),
        ("vm2: its turn did not come",),
        End(Phase.INCOMPLETE, "1 VM moved before its deadline, 1 left: vm2: its turn did not come"),
    ),
    (
        "deadline passed, but everything had gone",
        replace(FLUSH, deadline=NOW),
        (),
        End(Phase.DONE, "hv1 is flushed: 1 VM moved, none left"),
    ),
    (
        "cancelled",
        replace(FLUSH, cancel=Cancel.NOW, cancelled_by="eve"),
        ("vm2: x",),
        End(Phase.CANCELLED, "cancelled by eve; 1 VM moved"),
    ),
]


@pytest.mark.parametrize(("operation", "left", "expected"), [row[1:] for row in ENDINGS], ids=[r[0] for r in ENDINGS])
def test_ending(operation: Operation, left: tuple[str, ...], expected: End) -> None:
    assert ending(operation, NOW, MOVED, left) == expected


@given(
    operation=st.sampled_from([FLUSH, UNFLUSH]),
    cancel=st.sampled_from(Cancel),
    deadline=st.none() | st.floats(0, 200),
    left=st.lists(st.text(), max_size=3),
)
def test_done_is_said_only_when_nothing_is_left(
    operation: Operation, cancel: Cancel, deadline: float | None, left: list[str]
) -> None:
    end = ending(replace(operation, cancel=cancel, deadline=deadline), NOW, {}, left)
    if end.phase is Phase.DONE:
        assert not left and cancel is Cancel.NO


@pytest.mark.parametrize(
    ("kind", "phase", "state"),
    [
        (OperationKind.FLUSH, Phase.DONE, NodeState.FLUSHED),
        (OperationKind.FLUSH, Phase.INCOMPLETE, None),
        (OperationKind.FLUSH, Phase.CANCELLED, NodeState.READY),
        (OperationKind.FLUSH, Phase.FAILED, NodeState.READY),
        (OperationKind.UNFLUSH, Phase.DONE, NodeState.READY),
        (OperationKind.UNFLUSH, Phase.INCOMPLETE, NodeState.READY),
        (OperationKind.UNFLUSH, Phase.CANCELLED, NodeState.READY),
        (OperationKind.UNFLUSH, Phase.FAILED, NodeState.READY),
    ],
)
def test_the_nodes_state_after_an_operation(kind: OperationKind, phase: Phase, state: NodeState | None) -> None:
    assert state_after(replace(FLUSH, kind=kind), phase) is state
    assert state in {None, *NODE_MOVES[during(kind)]}


@pytest.mark.parametrize("kind", OperationKind)
def test_an_operation_can_begin_in_every_state_but_those_it_makes_no_sense_in(kind: OperationKind) -> None:
    impossible = {state for state in NodeState if during(kind) not in {state, *NODE_MOVES[state]}}
    assert impossible == set()
