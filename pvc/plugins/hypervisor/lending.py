"""Things that several threads use at the same time: one that is retired is put away when its last user is done.

libvirt frees a connection that is closed, also under a call that another thread has not returned from yet.
"""

from collections.abc import Callable
from typing import Generic, TypeVar

from pvc.core.runtime import Runtime

T = TypeVar("T")


class Lending(Generic[T]):
    """Counts the users of each thing."""

    def __init__(self, runtime: Runtime, put_away: Callable[[T], None]) -> None:
        """`put_away(thing)` is called once for each retired thing, by a user that gives one back or by `clear`."""
        self._lock = runtime.mutex()
        self._put_away = put_away
        self._users: dict[T, int] = {}
        self._retired: set[T] = set()

    def offer(self, thing: T) -> None:
        """From now on it may be lent."""
        with self._lock:
            self._users[thing] = 0

    def lend(self, thing: T) -> bool:
        """Count one more user; False if it is not to be used any more."""
        with self._lock:
            if thing not in self._users or thing in self._retired:
                return False
            self._users[thing] += 1
            return True

    def give_back(self, thing: T) -> None:
        """One user is done."""
        with self._lock:
            self._users[thing] -= 1
        self.clear()

    def retire(self, thing: T) -> None:
        """Lend it no more. Puts nothing away, so that the thing itself may call this."""
        with self._lock:
            self._retired.add(thing)

    def clear(self) -> None:
        """Put away what is retired and not in use."""
        with self._lock:
            idle = [thing for thing in self._retired if self._users[thing] == 0]
            for thing in idle:
                self._retired.discard(thing)
                del self._users[thing]
        for thing in idle:
            self._put_away(thing)
