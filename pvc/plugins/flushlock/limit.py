"""The limit as a gate: a flush waits while as many nodes as are allowed are out of service.

It keeps nothing in the tree, so whoever waits at it keeps nobody out. What it has seen is demanded again by the
transaction that begins the flush: two flushes that saw the same free place cannot both take it.
"""

from collections.abc import Callable, Sequence

from pvc.core.coordination import Check
from pvc.core.mirror import Mirror
from pvc.core.model import Operation, OperationKind
from pvc.core.turns import Entered, Refused, Waiting
from pvc.plugins.flushlock.decide.limit import flush_that_waits
from pvc.plugins.flushlock.neighbours import look_around


class FlushLimit:
    """The gate of one node's daemon."""

    name = "flushlimit"
    exclusive = False

    def __init__(self, mirror: Mirror, most: Callable[[], int | None]) -> None:
        """`most`: how many nodes may be out of service together, asked for at each look; None: any number."""
        self._mirror = mirror
        self._most = most
        self._seen: tuple[Check, ...] = ()
        self._demanded = False

    def enter(self, operation: Operation) -> Entered | Waiting | Refused:
        most = self._most()
        if operation.began is not None or most is None:
            self._seen, self._demanded = (), False
            return Entered()
        if self._demanded:  # in vain, or it would have begun: what was seen is outdated
            self._mirror.forget()
            self._demanded = False
        look = look_around(self._mirror, operation.node)
        waiting = flush_that_waits(operation, look.state, look.others, most)
        self._seen = look.checks if waiting is None and operation.kind is OperationKind.FLUSH else ()
        return waiting or Entered()

    def foresee(self, operation: Operation) -> Entered | Waiting | Refused:
        if (most := self._most()) is None:
            return Entered()
        look = look_around(self._mirror, operation.node)
        return flush_that_waits(operation, look.state, look.others, most) or Entered()

    def guard(self, operation: Operation) -> Sequence[Check]:
        if operation.began is not None:
            return []
        self._demanded = bool(self._seen)
        return self._seen

    def leave(self, operation: Operation) -> None:
        self._seen = ()
