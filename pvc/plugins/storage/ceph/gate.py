"""Lets a flush begin only if Ceph can do without this node's OSDs: who flushes a node means to switch it off."""

from collections.abc import Sequence
from dataclasses import dataclass

from pvc.core.context import Context
from pvc.core.coordination import Check
from pvc.core.model import Operation, OperationKind
from pvc.core.storage import StorageError
from pvc.core.turns import Entered, Refused, Waiting
from pvc.plugins.storage.ceph.asking import Question
from pvc.plugins.storage.ceph.cluster import NoCeph
from pvc.plugins.storage.ceph.osdhost import OsdHost
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

    def __init__(self, context: Context, eyes: CephEyes, watch: CephWatch, host: OsdHost, settings: Settings) -> None:
        self._runtime = context.runtime
        self._eyes = eyes
        self._watch = watch
        self._host = host
        self._question = Question(
            context.runtime, context.operations_wake, "ask if OSDs may stop", 2 * time_limit(settings), self._judge
        )
        self._operation = ""
        self._since = 0.0

    def enter(self, operation: Operation) -> Entered | Waiting | Refused:
        if operation.kind is OperationKind.UNFLUSH or operation.began is not None or self._has_none():
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
        return _answered(answer.value)

    def foresee(self, operation: Operation) -> Entered | Waiting | Refused:
        if operation.kind is OperationKind.UNFLUSH or self._has_none():
            return Entered()
        if problem := self._watch.problem():
            return _answered(self._unknown(problem))
        look = self._watch.look()
        if look is None or not self._watch.complete():
            return Refused("it is not known yet whether Ceph can do without the OSDs of this node; ask again soon")
        why = self._watch.unstoppable()
        return _answered(Judgement(why, look.survey.recovering))

    def guard(self, operation: Operation) -> Sequence[Check]:
        return []

    def leave(self, operation: Operation) -> None:
        self._operation = ""

    def _has_none(self) -> bool:
        look = self._watch.look()
        return self._watch.absent() or (look is not None and not look.own)

    def _judge(self) -> Judgement:
        try:
            look = self._eyes.look()
            return Judgement(self._eyes.why_not_stop(look), look.survey.recovering)
        except NoCeph:
            return Judgement()
        except StorageError as error:
            return self._unknown(str(error))

    def _unknown(self, problem: str) -> Judgement:
        """Ceph does not say which OSDs are here: then what lies on this machine counts."""
        if not self._host.local() and not self._watch.had_osds():
            return Judgement()
        return Judgement(f"it cannot be found out whether Ceph can do without this node's OSDs: {problem}; {HOW_ON}")


def _answered(judgement: Judgement | Exception) -> Entered | Waiting | Refused:
    if isinstance(judgement, Exception):
        return Refused(f"it cannot be found out whether Ceph can do without this node's OSDs: {judgement}; {HOW_ON}")
    if not judgement.why:
        return Entered()
    return Waiting(f"Ceph to recover: {judgement.why}", 0) if judgement.passing else Refused(judgement.why)
