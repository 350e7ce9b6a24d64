"""The next step of a flush or unflush: before its turn, and at its end."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pvc.core.model import Cancel, NodeState, Operation, OperationKind, Outcome, OutcomeState, Phase
from pvc.core.turns import Entered, Refused, Waiting


@dataclass(frozen=True, slots=True)
class Wait:
    """Not yet its turn."""

    answer: Waiting


@dataclass(frozen=True, slots=True)
class Begin:
    """Every gate is open: mark the node and go."""


@dataclass(frozen=True, slots=True)
class End:
    """The operation is over."""

    phase: Phase
    message: str


def admission(operation: Operation, now: float, answer: Entered | Waiting | Refused) -> Wait | Begin | End:
    """What a queued operation does, given the answer of the first gate that is not open (or Entered for all)."""
    did = _did(operation.outcomes)
    if operation.cancel is not Cancel.NO:
        return End(Phase.CANCELLED, f"cancelled by {operation.cancelled_by}; {did}")
    if isinstance(answer, Refused):
        return End(Phase.FAILED, f"not allowed now: {answer.why}; {did}")
    if operation.deadline is not None and now >= operation.deadline:
        waited = f"; it was waiting: {answer.text}" if isinstance(answer, Waiting) else ""
        return End(Phase.FAILED, f"its deadline passed before its turn came{waited}; {did}")
    if isinstance(answer, Waiting):
        if not operation.queue and operation.began is None:
            return End(Phase.FAILED, f"did not want to queue: {answer.text}; {did}")
        return Wait(answer)
    return Begin()


def during(kind: OperationKind) -> NodeState:
    """The node's state while an operation has its turn."""
    return NodeState.FLUSHING if kind is OperationKind.FLUSH else NodeState.UNFLUSHING


def ending(operation: Operation, now: float, outcomes: Mapping[str, Outcome], left: Sequence[str]) -> End:
    """How an operation that has nothing in flight any more ends, given what a fresh look still found in the way."""
    did = _did(outcomes)
    if operation.cancel is not Cancel.NO:
        return End(Phase.CANCELLED, f"cancelled by {operation.cancelled_by}; {did}")
    if left:
        late = " before its deadline" if operation.deadline is not None and now >= operation.deadline else ""
        return End(Phase.INCOMPLETE, f"{did}{late}, {len(left)} left: {'; '.join(left)}")
    if operation.kind is OperationKind.FLUSH:
        return End(Phase.DONE, f"{operation.node} is flushed: {did}, none left")
    away = {key: outcome for key, outcome in outcomes.items() if outcome.source == operation.node}
    home = _did({key: outcome for key, outcome in outcomes.items() if key not in away})
    room = f", {_did(away)} away to make room" if away else ""
    return End(Phase.DONE, f"{operation.node} is ready: {home} home{room}")


def _did(outcomes: Mapping[str, Outcome]) -> str:
    moved = Counter(outcome.what for outcome in outcomes.values() if outcome.state is OutcomeState.MOVED)
    counted = {"VM": 0, **moved}
    return " and ".join(f"{number} {what}{'' if number == 1 else 's'}" for what, number in counted.items()) + " moved"


def state_after(operation: Operation, phase: Phase) -> NodeState | None:
    """The node's state once an operation that had its turn ends so; None: as it is.

    An incomplete flush leaves the node FLUSHING: it takes nothing in, and is not called flushed.
    """
    if operation.kind is OperationKind.UNFLUSH:
        return NodeState.READY
    if phase is Phase.DONE:
        return NodeState.FLUSHED
    return None if phase is Phase.INCOMPLETE else NodeState.READY
