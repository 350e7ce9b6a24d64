"""What a flush or unflush does about one gateway, and what becomes of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from pvc.core.model import Outcome, OutcomeState
from pvc.plugins.networking.records import Gateway

WHAT = "gateway"
"""Of the outcomes and in their keys."""
BEGUN_WITHIN = 60.0
"""Seconds after which a gateway that was handed over is left to the other nodes."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Where a gateway could go."""

    targets: Sequence[str]
    """Best first."""
    why_none: str = ""
    """What speaks against every other node."""


@dataclass(frozen=True, slots=True)
class Move:
    """What becomes of one gateway in an operation."""

    outcome: Outcome | None
    """None: it is not this operation's business."""
    order: str | None = None
    """The node that is to be asked now."""


def key_of(network: str) -> str:
    """Of the outcome of a network's gateway."""
    return f"{WHAT}/{network}"


def vacated(
    me: str,
    network: str,
    record: Gateway,
    before: Outcome | None,
    choose: Callable[[], Choice],
    now: float,
    *,
    stopping: bool,
) -> Move:
    """What a flush of node `me` does about a gateway: it goes to another node, one after the other is asked."""
    if record.node != me:
        return Move(_arrived(before, record, now))
    outcome = before or Outcome(f"{WHAT} {network}", OutcomeState.WAITING, source=me, what=WHAT)
    if record.next is not None:
        return Move(replace(outcome, state=OutcomeState.MOVING, target=record.next, since=outcome.since or now))
    if outcome.state is OutcomeState.KEPT:
        return Move(outcome)
    if outcome.state is OutcomeState.MOVING and outcome.target:
        outcome = replace(outcome, tries=(*outcome.tries, outcome.target))
    if stopping:
        return Move(replace(outcome, state=OutcomeState.KEPT, target=None, why="its turn had not come"))
    choice = choose()
    left = [target for target in choice.targets if target not in outcome.tries]
    if not left:
        why = f"{', '.join(outcome.tries)} could not take it over" if outcome.tries else choice.why_none
        return Move(replace(outcome, state=OutcomeState.KEPT, target=None, why=why))
    return Move(replace(outcome, state=OutcomeState.MOVING, target=left[0], since=now), left[0])


def restored(
    me: str, network: str, record: Gateway, before: Outcome | None, objection: str, now: float, *, stopping: bool
) -> Move:
    """What an unflush of node `me` does about a gateway: it comes back if its home is here. `objection`: why not."""
    if record.node == me:
        return Move(_arrived(before, record, now))
    if record.home != me or record.node is None:
        return Move(
            None if before is None else replace(before, state=OutcomeState.LEFT_ALONE, why="was given another home")
        )
    outcome = before or Outcome(f"{WHAT} {network}", OutcomeState.WAITING, source=record.node, target=me, what=WHAT)
    if record.next is not None:
        state = OutcomeState.MOVING if record.next == me else OutcomeState.WAITING
        return Move(replace(outcome, state=state, since=outcome.since or now))
    if outcome.state is OutcomeState.KEPT:
        return Move(outcome)
    if outcome.state is OutcomeState.MOVING:
        objection = objection or f"{record.node} did not hand it over in time"
    if stopping:
        objection = objection or "its turn had not come"
    if objection:
        return Move(replace(outcome, state=OutcomeState.KEPT, why=objection))
    return Move(replace(outcome, state=OutcomeState.MOVING, source=record.node, since=now), me)


def _arrived(before: Outcome | None, record: Gateway, now: float) -> Outcome | None:
    """It is where it should be; `before`: None if this operation has not moved it."""
    if before is None or before.state is OutcomeState.MOVED:
        return before
    if record.patience and before.since is not None and now - before.since < BEGUN_WITHIN:
        return before  # it was handed over, and the other has not begun yet
    seconds = None if before.since is None else max(0.0, now - before.since)
    return replace(before, state=OutcomeState.MOVED, target=record.node, seconds=seconds, why="")
