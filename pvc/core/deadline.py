"""A call of somebody else's code that may never return: made beside the caller, who waits for it only so long.

Knows nothing of plugins. Whatever the code raises reaches the caller, an exit or an interrupt as well.
"""

from collections.abc import Callable
from typing import Generic, TypeVar

from pvc.core.errors import PvcError
from pvc.core.runtime import Ended, Runtime

T = TypeVar("T")


class Overdue(PvcError):
    """The call has not returned in time. It goes on, and nobody waits for its answer."""


class _Call(Generic[T]):
    """One call, and what became of it."""

    def __init__(self, runtime: Runtime, work: Callable[[], T], late: Callable[[], None]) -> None:
        self.returned = runtime.signal()
        self.lock = runtime.mutex()
        self.answers: list[T] = []
        self.error: BaseException | None = None
        self.over = False
        self.abandoned = False
        self._work = work
        self._late = late

    def run(self) -> None:
        try:
            self.answers.append(self._work())
        except Ended:
            raise
        except BaseException as error:
            self.error = error
        with self.lock:
            self.over = True
        if self.abandoned:
            self._late()
        else:
            self.returned.set()

    def abandon(self, given_up: Callable[[], None]) -> bool:
        """Give it up unless it has just returned; whether it was given up."""
        with self.lock:
            self.abandoned = not self.over
            if self.abandoned:
                given_up()
            return self.abandoned


def within(
    runtime: Runtime,
    seconds: float,
    name: str,
    work: Callable[[], T],
    given_up: Callable[[], None],
    late: Callable[[], None],
) -> T:
    """The answer of `work`, or what it raised. Raises Overdue after so many seconds.

    Then `given_up` has been called, and `late` will be, in the task that does the work, once it returns.
    """
    call = _Call(runtime, work, late)
    runtime.spawn(name, call.run)
    if not call.returned.wait(seconds) and call.abandon(given_up):
        raise Overdue(f"{name} has not returned within {seconds:g} s")
    if call.error is not None:
        raise call.error
    return call.answers[0]
