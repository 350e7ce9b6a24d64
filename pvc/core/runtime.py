"""What a part of the system may ask of time, threads and chance.

`core/threads.py` is the real thing, `pvc.testing` has one on simulated time. Nothing else imports time, threading or
makes identifiers.
"""

from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")


class Ended(BaseException):
    """Thrown by a runtime into a task whose process is at its end: whoever contains all else lets this one pass."""


class Signal(Protocol):
    """A flag that one party waits for and anybody may set; setting it twice is the same as once."""

    def set(self) -> None:
        """Let the waiting party go on. Safe to call from any thread and from watch callbacks."""

    def wait(self, timeout: float | None) -> bool:
        """Wait at most `timeout` seconds (None: for ever) and clear the flag; True if it had been set."""


class Task(Protocol):
    """Work going on beside its starter."""

    @property
    def name(self) -> str: ...

    def alive(self) -> bool:
        """Whether the work has not ended yet."""

    def join(self, timeout: float) -> bool:
        """Wait at most `timeout` seconds for the end; True if it came."""


class Runtime(Protocol):
    """Clock, sleep, tasks, locks and identifiers behind one seam."""

    def now(self) -> float:
        """Seconds since the epoch: for records that people and other nodes read, never for deadlines."""

    def monotonic(self) -> float:
        """Seconds on a clock that never jumps: for deadlines and pauses."""

    def sleep(self, seconds: float) -> None:
        """Do nothing for so many seconds."""

    def signal(self) -> Signal:
        """A new signal, not set."""

    def mutex(self) -> AbstractContextManager[object]:
        """A new lock for short critical sections; not re-entrant, never held over a wait."""

    def spawn(self, name: str, work: Callable[[], None]) -> Task:
        """Start `work` beside the caller. An exception that leaves it is logged and ends only it."""

    def new_id(self) -> str:
        """A new UUID in its usual text form."""


class Inbox(Generic[T]):
    """Events for one service: anybody puts, the service drains; every put wakes it."""

    def __init__(self, signal: Signal) -> None:
        self._events: deque[T] = deque()
        self._signal = signal

    def put(self, event: T) -> None:
        """Add an event and wake the service. Returns at once; safe from any thread."""
        self._events.append(event)
        self._signal.set()

    def drain(self) -> list[T]:
        """Take all events that have arrived, oldest first."""
        taken: list[T] = []
        while self._events:
            taken.append(self._events.popleft())
        return taken
