"""Refuses flushes outside of the windows. Holds nothing, so it keeps nobody out."""

from collections.abc import Sequence

from pvc.core.coordination import Check
from pvc.core.model import Operation, OperationKind
from pvc.core.runtime import Runtime
from pvc.core.turns import Entered, Refused

from pvc_webhook.windows import Windows


class WindowGate:
    """The gate of one node's daemon."""

    name = "window"
    exclusive = False

    def __init__(self, windows: Windows, runtime: Runtime) -> None:
        self._windows = windows
        self._runtime = runtime

    def enter(self, operation: Operation) -> Entered | Refused:
        """A flush that has begun goes on, whatever the time: half a flush helps nobody."""
        now = self._runtime.now()
        if operation.kind is OperationKind.UNFLUSH or operation.began is not None or self._windows.are_open(now):
            return Entered()
        return Refused(self._windows.in_words(now))

    def foresee(self, operation: Operation) -> Entered | Refused:
        return self.enter(operation)

    def guard(self, operation: Operation) -> Sequence[Check]:
        return []

    def leave(self, operation: Operation) -> None:
        """It keeps nothing."""
