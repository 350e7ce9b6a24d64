"""How long moves take, judged by moves that have been made. Never a guess: what nobody has seen is unknown."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from pvc.core.model import FINAL, Operation, Outcome, OutcomeState, Phase

LATEST = 5
"""Moves of a VM that count, from the latest: a guest's pace changes with its work."""


@dataclass(frozen=True, slots=True)
class Pace:
    """What past moves tell about the next ones."""

    own: Mapping[str, float]
    """Seconds that a VM's moves take, by its key: the median of its latest ones."""
    rate: float | None
    """MiB/s of a VM that has never moved: the median of all moves; None: no move is known."""

    def move_seconds(self, key: str, memory: int | None) -> float | None:
        """Expected seconds of the next move of a VM of so much memory (MiB); None: unknown."""
        if key in self.own:
            return self.own[key]
        return memory / self.rate if memory and self.rate else None


def pace_of(history: Iterable[Operation]) -> Pace:
    """The pace of the moves in these operations, which come from the latest to the oldest."""
    seconds: dict[str, list[float]] = {}
    rates: list[float] = []
    for key, outcome in _moves(history):
        if outcome.seconds is not None:
            seconds.setdefault(key, []).append(outcome.seconds)
            if outcome.memory and outcome.seconds > 0:
                rates.append(outcome.memory / outcome.seconds)
    own = {key: median(latest[:LATEST]) for key, latest in seconds.items()}
    return Pace(own, median(rates) if rates else None)


def seconds_left(operation: Operation, history: Sequence[Operation], now: float, parallel: int) -> float | None:
    """Expected seconds to the end of an operation that has its turn, `parallel` moves at a time; None: unknown.

    What it has moved itself counts as well, as the latest. At least as long as the longest single move that is left.
    """
    if operation.phase in FINAL:
        return 0.0
    if operation.phase is not Phase.MOVING and not operation.outcomes:
        return None  # nobody has counted its VMs yet
    pace = pace_of([operation, *history])
    left = [_left(key, outcome, pace, now) for key, outcome in operation.outcomes.items() if _is_to_do(outcome)]
    known = [seconds for seconds in left if seconds is not None]
    if len(known) < len(left):
        return None
    return max(sum(known) / max(1, parallel), max(known, default=0.0))


def expected_end(operation: Operation, history: Sequence[Operation], now: float, parallel: int) -> float | None:
    """When an operation that has its turn is expected to end, in seconds since the epoch; None: unknown."""
    left = seconds_left(operation, history, now, parallel)
    return None if left is None else now + left


def moves_at_a_time(operation: Operation) -> int:
    """How many moves of the operation go on together: what was asked for, else what is seen."""
    moving = sum(outcome.state is OutcomeState.MOVING for outcome in operation.outcomes.values())
    return operation.parallel or max(1, moving)


def _moves(history: Iterable[Operation]) -> Iterator[tuple[str, Outcome]]:
    """Every move that was made, with its VM."""
    for operation in history:
        for key, outcome in operation.outcomes.items():
            if outcome.state is OutcomeState.MOVED:
                yield key, outcome


def _is_to_do(outcome: Outcome) -> bool:
    return outcome.state in (OutcomeState.WAITING, OutcomeState.MOVING)


def _left(key: str, outcome: Outcome, pace: Pace, now: float) -> float | None:
    whole = pace.move_seconds(key, outcome.memory)
    if whole is None or outcome.state is OutcomeState.WAITING or outcome.since is None:
        return whole
    return max(0.0, whole - (now - outcome.since))
