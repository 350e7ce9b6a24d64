"""Third parties' gates and flush steps as operations see them: what fails is told of the plugin that brought it.

They run on the thread of the operations, so one that hangs holds up this node's operation and nothing else. A gate that
fails is closed, never open.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from pvc.core.coordination import Check, CoordinationError
from pvc.core.errors import PvcError
from pvc.core.forecast import Forecast
from pvc.core.loading import in_words
from pvc.core.model import Operation
from pvc.core.runtime import Ended
from pvc.core.turns import Entered, FlushStep, Gate, Progress, Refused, Turn, Waiting

T = TypeVar("T")

Told = Callable[[str, BaseException | None], None]
"""Told of each call: what was asked, in words, and how it failed; None: it did not."""


class PluginFailed(PvcError):
    """A plugin failed where its answer cannot be left out."""


class ClosedGate:
    """Core's own gate: shut while a plugin that may have had something to say about a flush cannot say it."""

    name = "plugins"
    exclusive = False

    def __init__(self, reasons: Callable[[], Sequence[str]]) -> None:
        self._reasons = reasons

    def enter(self, operation: Operation) -> Entered | Waiting | Refused:
        reasons = self._reasons()
        return Refused("; ".join(reasons)) if reasons else Entered()

    def foresee(self, operation: Operation) -> Entered | Waiting | Refused:
        return self.enter(operation)

    def guard(self, operation: Operation) -> Sequence[Check]:
        return []

    def leave(self, operation: Operation) -> None:
        """It keeps nothing."""


class WatchedGate:
    """A third party's gate."""

    def __init__(self, plugin: str, gate: Gate, told: Told) -> None:
        self.name = gate.name
        self.exclusive = bool(gate.exclusive)
        self._gate = gate
        self._plugin = plugin
        self._told = told

    def enter(self, operation: Operation) -> Entered | Waiting | Refused:
        """Its answer; what fails is waited for: it may get better, and the operation's deadline counts meanwhile."""
        try:
            return self._ask("enter", lambda: self._gate.enter(operation), (Entered, Waiting, Refused))
        except PluginFailed as failure:
            return Waiting(f"{failure}; it is asked again", 0)

    def foresee(self, operation: Operation) -> Entered | Waiting | Refused:
        try:
            return self._ask("foresee", lambda: self._gate.foresee(operation), (Entered, Waiting, Refused))
        except PluginFailed as failure:
            return Refused(str(failure))

    def guard(self, operation: Operation) -> Sequence[Check]:
        """Raises PluginFailed: nothing is committed without its checks."""

        def checks() -> list[Check]:
            found = list(self._gate.guard(operation))
            if not all(isinstance(check, Check) for check in found):
                raise TypeError("a guard is made of Check operations only")
            return found

        return self._ask("guard", checks, (list,))

    def leave(self, operation: Operation) -> None:
        """What fails stays with the plugin: the operation is over, and the gates before this one must be left too."""
        try:
            self._ask("leave", lambda: self._gate.leave(operation), (object,))
        except PluginFailed:
            return

    def _ask(self, what: str, work: Callable[[], T], kinds: tuple[type, ...]) -> T:
        return _asked(self._plugin, f"gate {self.name}", what, work, kinds, self._told)


class WatchedStep:
    """A third party's flush step."""

    def __init__(self, plugin: str, step: FlushStep, told: Told) -> None:
        self.name = step.name
        self.after = tuple(step.after)
        self._step = step
        self._plugin = plugin
        self._told = told

    def vacate(self, turn: Turn) -> Progress:
        return self._ask("vacate", lambda: self._step.vacate(turn), Progress)

    def restore(self, turn: Turn) -> Progress:
        return self._ask("restore", lambda: self._step.restore(turn), Progress)

    def foresee(self, operation: Operation) -> Forecast:
        return self._ask("foresee", lambda: self._step.foresee(operation), Forecast)

    def _ask(self, what: str, work: Callable[[], T], kind: type) -> T:
        return _asked(self._plugin, f"flush step {self.name}", what, work, (kind,), self._told)


def _asked(plugin: str, part: str, what: str, work: Callable[[], T], kinds: tuple[type[Any], ...], told: Told) -> T:
    """The part's answer. Raises PluginFailed, and CoordinationError as it came: the weather is nobody's failure."""
    try:
        answer = work()
        if not isinstance(answer, kinds):
            wanted = " or ".join(kind.__name__ for kind in kinds)
            raise TypeError(f"{wanted} is wanted, not {type(answer).__name__}")
    except (CoordinationError, Ended):
        raise
    except BaseException as error:
        told(f"{part}: {what}", error)
        raise PluginFailed(
            f"plugin {plugin} failed: its {part}, asked to {what}: {in_words(error)}; mend it, or set "
            f"plugins.{plugin}: false and restart pvcd"
        ) from error
    told(f"{part}: {what}", None)
    return answer
