"""How long moves will take, by those that were made: tables."""

from dataclasses import replace

import pytest

from pvc.core.decide.pace import LATEST, expected_end, moves_at_a_time, pace_of, seconds_left
from pvc.core.model import Operation, OperationKind, Outcome, OutcomeState, Phase

FLUSH = Operation(id="op1", kind=OperationKind.FLUSH, node="hv1", by="root", requested=0.0, phase=Phase.MOVING)
NOW = 1000.0


def moved(seconds: float | None, memory: int | None = None) -> Outcome:
    return Outcome("vm", OutcomeState.MOVED, "hv1", "hv2", seconds=seconds, memory=memory)


def past(**outcomes: Outcome) -> Operation:
    return replace(FLUSH, phase=Phase.DONE, outcomes=outcomes)


def waiting(memory: int | None = None) -> Outcome:
    return Outcome("vm", OutcomeState.WAITING, "hv1", memory=memory)


def moving(since: float | None, memory: int | None = None) -> Outcome:
    return Outcome("vm", OutcomeState.MOVING, "hv1", "hv2", since=since, memory=memory)


def test_a_vm_that_has_moved_before_takes_the_median_of_its_own_moves() -> None:
    pace = pace_of([past(a=moved(9.0)), past(a=moved(3.0), b=moved(100.0)), past(a=moved(4.0))])
    assert pace.move_seconds("a", None) == 4.0


def test_only_the_latest_moves_of_a_vm_count() -> None:
    history = [past(a=moved(2.0)) for _ in range(LATEST)] + [past(a=moved(500.0)) for _ in range(20)]
    assert pace_of(history).move_seconds("a", None) == 2.0


def test_a_vm_that_never_moved_takes_its_memory_by_the_median_rate() -> None:
    pace = pace_of([past(a=moved(1.0, 100), b=moved(1.0, 300), c=moved(1.0, 200), d=moved(0.0, 500), e=moved(7.0))])
    assert pace.move_seconds("x", 1000) == 5.0
    assert pace.move_seconds("x", None) is None


@pytest.mark.parametrize(
    "outcome",
    [
        moved(None, 100),
        replace(moved(5.0, 100), state=OutcomeState.KEPT),
        replace(moved(5.0, 100), state=OutcomeState.LEFT_ALONE),
    ],
    ids=["a move of unknown length", "a VM that stayed", "a VM that was left alone"],
)
def test_what_was_no_measured_move_tells_nothing(outcome: Outcome) -> None:
    pace = pace_of([past(a=outcome)])
    assert (pace.own, pace.rate) == ({}, None)


KNOWN = [past(a=moved(10.0), b=moved(4.0), c=moved(6.0))]

LEFT = [
    ("what waits adds up", {"a": waiting(), "b": waiting()}, 1, 14.0),
    ("side by side it takes less", {"a": waiting(), "b": waiting(), "c": waiting()}, 2, 10.0),
    ("but no less than the longest", {"a": waiting(), "b": waiting()}, 8, 10.0),
    ("of what moves, what is left of it", {"a": moving(NOW - 7), "b": waiting()}, 1, 7.0),
    ("a move that takes longer than expected ends any moment", {"a": moving(NOW - 50), "b": waiting()}, 1, 4.0),
    ("a move without a beginning counts whole", {"a": moving(None)}, 1, 10.0),
    ("what has ended takes no time", {"a": replace(waiting(), state=OutcomeState.KEPT)}, 1, 0.0),
    ("one VM that nobody knows makes it unknown", {"a": waiting(), "x": waiting(512)}, 1, None),
    ("its own moves count", {"a": moved(2.0), "y": moved(2.0, 100), "x": waiting(400)}, 1, 8.0),
    ("nothing left", {}, 1, 0.0),
]


@pytest.mark.parametrize(("outcomes", "parallel", "left"), [row[1:] for row in LEFT], ids=[row[0] for row in LEFT])
def test_what_is_left_of_an_operation(outcomes: dict[str, Outcome], parallel: int, left: float | None) -> None:
    operation = replace(FLUSH, outcomes=outcomes)
    assert seconds_left(operation, KNOWN, NOW, parallel) == left
    assert expected_end(operation, KNOWN, NOW, parallel) == (None if left is None else NOW + left)


@pytest.mark.parametrize("phase", [Phase.QUEUED, Phase.PLANNING])
def test_before_its_vms_are_counted_the_end_is_unknown(phase: Phase) -> None:
    assert seconds_left(replace(FLUSH, phase=phase), KNOWN, NOW, 1) is None


def test_moves_at_a_time_are_those_asked_for_or_else_those_seen() -> None:
    two = replace(FLUSH, outcomes={"a": moving(NOW), "b": moving(NOW), "c": waiting()})
    assert moves_at_a_time(two) == 2
    assert moves_at_a_time(replace(two, parallel=3)) == 3
    assert moves_at_a_time(FLUSH) == 1
