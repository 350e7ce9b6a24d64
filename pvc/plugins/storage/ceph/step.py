"""The storage's part of a flush: once the VMs are gone, Ceph is told not to mark this node's OSDs out while it is away
(noout); an unflush takes that back first. Its last word is a fresh answer of Ceph's."""

from pvc.core.context import Context
from pvc.core.forecast import Forecast
from pvc.core.model import Operation, OperationKind
from pvc.core.storage import StorageError
from pvc.core.turns import Progress, Turn
from pvc.plugins.storage.ceph.asking import Question
from pvc.plugins.storage.ceph.cluster import NOOUT, NoCeph
from pvc.plugins.storage.ceph.noout import NooutKeeper
from pvc.plugins.storage.ceph.schedule import time_limit
from pvc.plugins.storage.ceph.watch import CephEyes, CephWatch
from pvc.plugins.storage.schema import Settings

LOOK = 2.0
"""Seconds between looks at whether Ceph has answered."""
FRESH = 30.0
"""Seconds for which what Ceph has answered counts."""


class StorageStep:
    """Flush step `storage`."""

    name = "storage"
    after: tuple[str, ...] = ("gateways", "vms")

    def __init__(
        self, context: Context, eyes: CephEyes, watch: CephWatch, keeper: NooutKeeper, settings: Settings
    ) -> None:
        self._runtime = context.runtime
        self._eyes = eyes
        self._watch = watch
        self._keeper = keeper
        self._question = Question(
            context.runtime, context.operations_wake, "set or unset noout", 4 * time_limit(settings), self._work
        )
        self._turn: Turn | None = None
        self._for = ("", False)
        self._since = 0.0

    def vacate(self, turn: Turn) -> Progress:
        return Progress(finished=True) if self._watch.none_here() else self._go_on(turn)

    def restore(self, turn: Turn) -> Progress:
        return self._go_on(turn) if self._keeper.held() else Progress(finished=True)

    def foresee(self, operation: Operation) -> Forecast:
        look = self._watch.look()
        if operation.kind is OperationKind.UNFLUSH or look is None or not look.own or NOOUT in look.survey.flags:
            return Forecast()
        return Forecast(warnings=("Ceph's flag noout is set until the node is unflushed",))

    def _go_on(self, turn: Turn) -> Progress:
        now, task = self._runtime.monotonic(), (turn.operation.id, turn.stopping)
        if task != self._for:
            self._for, self._since = task, now
        answer = self._question.answer()
        if answer is None or answer.asked < max(self._since, now - FRESH):
            self._turn = turn
            self._question.begin()
            return Progress(pause=LOOK)
        if isinstance(answer.value, Exception):
            if self._watch.none_here():
                return Progress(finished=True)
            what = "unset" if self._unsets(turn) else "set"
            return Progress(finished=True, left=(f"Ceph's flag noout could not be {what}: {answer.value}",))
        return Progress(finished=True, left=(answer.value,) if answer.value else ())

    def _work(self) -> str:
        """Do what the turn asks for; what is in the way of switching the node off, empty: nothing."""
        assert self._turn is not None, "set before the question was asked"
        try:
            return self._done(self._turn)
        finally:
            self._watch.hurry()  # with noout set it looks more often, and sees OSDs go down that are switched off

    def _done(self, turn: Turn) -> str:
        if self._unsets(turn):
            self._keeper.release(turn.commit)
            return ""
        try:
            look = self._eyes.look()
        except NoCeph:
            return ""
        if not look.own:
            return ""
        self._keeper.take(turn.commit)
        try:
            why = self._eyes.why_not_stop(look)
        except StorageError as error:
            return f"whether Ceph can do without this node's OSDs could not be found out: {error}"
        return f"this node must not be switched off: {why}" if why else ""

    def _unsets(self, turn: Turn) -> bool:
        """A flush that was cancelled leaves the node in service."""
        return turn.operation.kind is OperationKind.UNFLUSH or turn.stopping
