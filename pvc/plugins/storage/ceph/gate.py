"""Lets a flush begin only if Ceph can do without this node's OSDs: who flushes a node means to switch it off."""

from collections.abc import Sequence
from dataclasses import dataclass

from pvc.core.context import Context
from pvc.core.coordination import Check
from pvc.core.model import Operation, OperationKind
from pvc.core.storage import StorageUnusable
from pvc.core.turns import Entered, Refused, Waiting
from pvc.plugins.storage.ceph.asking import Question
from pvc.plugins.storage.ceph.cluster import NoCeph
from pvc.plugins.storage.ceph.schedule import time_limit
from pvc.plugins.storage.ceph.watch import CephEyes, CephWatch
from pvc.plugins.storage.schema import Settings

FRESH = 10.0
"""Seconds for which an answer counts; while it is asked again, the last one does."""
HOW_ON = "to flush it all the same, stop the storage role on it (roles.storage: false) first"


@dataclass(frozen=True, slots=True)
class Judgement:
    """What speaks against stopping this node's OSDs."""

    why: str = ""
    """Empty: nothing."""
    passing: bool = False
    """Ceph is at work on it: waiting may help."""


class StorageGate:
    """The gate `storage` of one node's daemon. It keeps nothing, so it keeps nobody else out."""

    name = "storage"
    exclusive = False

    def __init__(self, context: Context, eyes: CephEyes, watch: CephWatch, settings: Settings) -> None:
        self._runtime = context.runtime
        self._eyes = eyes
        self._watch = watch
        self._question = Question(
            context.runtime, context.operations_wake, "ask if OSDs may stop", 2 * time_limit(settings), self._judge
        )
        self._operation = ""
        self._since = 0.0

    def enter(self, operation: Operation) -> Entered | Waiting | Refused:
        if operation.kind is OperationKind.UNFLUSH or operation.began is not None or self._watch.none_here():
            return Entered()
        if not operation.queue:  # it would not wait for an answer either
            return self.foresee(operation)
        now = self._runtime.monotonic()
        if operation.id != self._operation:
            self._operation, self._since = operation.id, now
        answer = self._question.answer()
        if answer is None or answer.asked < max(self._since, now - FRESH):
            self._question.begin()
        if answer is None or answer.asked < self._since:
            return Waiting("whether Ceph can do without the OSDs of this node is being found out", 0)
        return Entered() if self._watch.none_here() else _answered(answer.value)

    def foresee(self, operation: Operation) -> Entered | Waiting | Refused:
        if operation.kind is OperationKind.UNFLUSH or self._watch.none_here():
            return Entered()
        if problem := self._watch.problem():
            return _answered(StorageUnusable(problem))
        look = self._watch.look()
        if look is None or not self._watch.complete():
            return Refused("it is not known yet whether Ceph can do without the OSDs of this node; ask again soon")
        why = self._watch.unstoppable()
        return _answered(Judgement(why, look.survey.recovering))

    def guard(self, operation: Operation) -> Sequence[Check]:
        return []

    def leave(self, operation: Operation) -> None:
        self._operation = ""

    def _judge(self) -> Judgement:
        try:
            look = self._eyes.look()
            return Judgement(self._eyes.why_not_stop(look), look.survey.recovering)
        except NoCeph:
            return Judgement()


def _answered(value: Judgement | Exception) -> Entered | Waiting | Refused:
    if isinstance(value, Exception):
        return Refused(f"it cannot be found out whether Ceph can do without this node's OSDs: {value}; {HOW_ON}")
    if not value.why:
        return Entered()
    return Waiting(f"Ceph to recover: {value.why}", 0) if value.passing else Refused(value.why)
