"""What a flush or unflush meets on its way: gates that it must pass, and steps that vacate and restore.

Plugins implement these; `core/operations.py` is the only one that calls them, from one thread.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from pvc.core.coordination import Check, CoordinationError, Op
from pvc.core.forecast import Forecast
from pvc.core.model import Operation, Outcome


@dataclass(frozen=True, slots=True)
class Entered:
    """The gate is open for this operation and stays so until `leave`."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Somebody else must go first."""

    text: str
    """For whom, in words: "hv1 is being flushed by root"."""
    place: int
    """How many are before this operation."""
    since: float | None = None
    """Since when the one in front has been at it, in seconds since the epoch; None: not known."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The operation may not run now; it ends as failed."""

    why: str


class Gate(Protocol):
    """Something that an operation must pass before it may move anything."""

    @property
    def name(self) -> str: ...

    @property
    def exclusive(self) -> bool:
        """Whether entering it keeps other operations out. Core enters such gates after all others, and leaves them
        when one before them closes: nobody is kept out by an operation that cannot go on."""

    def enter(self, operation: Operation) -> Entered | Waiting | Refused:
        """Try to pass. Called again and again until it answers Entered or Refused, and again after every interruption;
        it must recognise an operation that it has let in already."""

    def foresee(self, operation: Operation) -> Entered | Waiting | Refused:
        """What `enter` would answer to an operation that has not been asked for. Changes nothing."""

    def guard(self, operation: Operation) -> Sequence[Check]:
        """Operations that make a transaction fail once this operation's turn is over. Called after Entered."""

    def leave(self, operation: Operation) -> None:
        """Let the next one in: the operation is over, or waits at a gate before this one. Called also if it never
        entered."""


class TurnLost(CoordinationError):
    """A guard refused a transaction: the operation has no turn any more, and nothing was changed."""


@dataclass(frozen=True, slots=True)
class Turn:
    """An operation that has passed every gate, as a step sees it."""

    operation: Operation
    guards: tuple[Check, ...]
    """Checks that every transaction of the operation must carry, those made in jobs too."""
    commit: Callable[[Sequence[Op]], tuple[str, ...]]
    """Commit under the guards. Raises TurnLost, or what `Coordinator.commit` raises."""
    stopping: bool
    """Start nothing more: the operation was cancelled or its deadline has passed. Let what is in flight end."""
    abort: bool
    """As `stopping`, and abort what is in flight."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a step is, after a fresh look."""

    outcomes: Mapping[str, Outcome] = field(default_factory=dict)
    """Everything the step handles, by key."""
    finished: bool = False
    """Nothing is in flight and nothing more will be tried."""
    left: tuple[str, ...] = ()
    """With `finished`: what a fresh look still found in the way, in words; the operation is then incomplete."""
    warnings: tuple[str, ...] = ()
    """What an administrator should know though it stops nothing."""
    pause: float = 5.0
    """Seconds until it wants to be asked again even if nothing happens."""


class FlushStep(Protocol):
    """What one role moves. Steps are vacated in order of `after`, and restored in the opposite order."""

    @property
    def name(self) -> str: ...

    @property
    def after(self) -> tuple[str, ...]:
        """Steps that must have vacated before this one."""

    def vacate(self, turn: Turn) -> Progress:
        """Take the next steps to empty the node. Called until `finished`."""

    def restore(self, turn: Turn) -> Progress:
        """Take the next steps to bring back what a flush took away. Called until `finished`."""

    def foresee(self, operation: Operation) -> Forecast:
        """What `vacate` or `restore` would do for this operation now. Changes nothing."""
