"""Watches its node's record and operation, and posts each change. Never blocks: posting is a job beside the service.

It looks at what is, so a repeated or lost event changes nothing, and a restart repeats what is still going on at most.
"""

import json
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from pvc.core import keys
from pvc.core.coordination import Coordinator
from pvc.core.mirror import Mirror
from pvc.core.model import FINAL, Finding, Node, Operation, Severity
from pvc.core.records import decode
from pvc.core.runtime import Runtime
from pvc.core.service import Jobs

QUEUE = 1000
"""Events that wait for the receiver; beyond that the oldest are dropped."""
SHORTEST_PAUSE = 1.0
LONGEST_PAUSE = 300.0
"""Seconds between tries with a receiver that does not take an event: doubled from the shortest each time."""
LOOK = 30.0
"""Seconds between looks; watches come first."""
_POST = "webhook"


class Reporter:
    """Service: reports about its own node only, so that each event is posted once."""

    name = "webhook"
    after = ("liveness",)

    def __init__(
        self,
        node: str,
        coordinator: Coordinator,
        runtime: Runtime,
        log: logging.Logger,
        post: Callable[[bytes], None],
        events: Sequence[str],
    ) -> None:
        self.wake = runtime.signal()
        self._node = node
        self._runtime = runtime
        self._log = log
        self._post = post
        self._events = frozenset(events)
        self._mirror = Mirror(coordinator, runtime, self.wake)
        self._jobs = Jobs(runtime, self.wake)
        self._queue: deque[dict[str, Any]] = deque()
        self._dropped = 0
        self._telling = 0
        """How many of the dropped the event that is being posted tells of."""
        self._seen_state: str | None = None
        self._seen_operation: tuple[str, str] | None = None
        self._pause = SHORTEST_PAUSE
        self._not_before = 0.0
        self._trouble = ""

    def step(self) -> float:
        self._take_answers()
        self._look()
        self._send()
        if not self._queue or self._jobs.running(_POST):
            return LOOK
        return max(0.0, self._not_before - self._runtime.monotonic())

    def stop(self) -> None:
        """What has not been posted is forgotten; a job that still posts does not hold the daemon up."""

    def findings(self) -> list[Finding]:
        """A warning while the receiver does not take events."""
        if not self._trouble:
            return []
        lost = "; the oldest events are dropped" if self._dropped else ""
        return [Finding("webhook", Severity.WARNING, f"events cannot be posted: {self._trouble}{lost}")]

    def _look(self) -> None:
        node, operation = (
            self._read(Node, keys.node(self._node)),
            self._read(Operation, keys.node_operation(self._node)),
        )
        if node is not None and node.state.value != self._seen_state:
            first, self._seen_state = self._seen_state is None, node.state.value
            if not first:
                self._report("node", f"{self._node}:{node.state.value}:{self._runtime.now()}", state=node.state.value)
        if operation is not None and (seen := (operation.id, operation.phase.value)) != self._seen_operation:
            first, self._seen_operation = self._seen_operation is None, seen
            if not first or operation.phase not in FINAL:  # one that had ended before was reported by then
                self._report_operation(operation)
        elif operation is None:
            self._seen_operation = ("", "")

    def _read(self, kind: type[Any], path: str) -> Any:
        znode = self._mirror.get(path)
        return None if znode is None else decode(kind, znode.data, path)

    def _report_operation(self, operation: Operation) -> None:
        self._report(
            "operation",
            f"{operation.id}:{operation.phase.value}",
            kind=operation.kind.value,
            phase=operation.phase.value,
            by=operation.by,
            reason=operation.reason,
            message=operation.message or operation.waiting,
        )

    def _report(self, event: str, identity: str, **details: Any) -> None:
        if event not in self._events:
            return
        if len(self._queue) >= QUEUE:
            self._queue.popleft()
            self._dropped += 1
        self._queue.append({"id": identity, "event": event, "node": self._node, "at": self._runtime.now(), **details})

    def _send(self) -> None:
        """Post the oldest event, one at a time: they arrive in order."""
        if not self._queue or self._jobs.running(_POST) or self._runtime.monotonic() < self._not_before:
            return
        event = self._queue.popleft()
        self._telling = self._dropped
        body = json.dumps({**event, "dropped": self._telling} if self._telling else event).encode()

        def post() -> None:
            try:
                self._post(body)
            except Exception:
                self._queue.appendleft(event)  # before the end is told: it stays the oldest
                raise

        self._jobs.start(_POST, post)

    def _take_answers(self) -> None:
        for end in self._jobs.ended():
            if end.error is None:
                self._trouble, self._pause = "", SHORTEST_PAUSE
                self._dropped -= self._telling
                continue
            if str(end.error) != self._trouble:
                self._log.warning("webhook: %s", end.error)
            self._trouble = str(end.error)
            self._not_before = self._runtime.monotonic() + self._pause
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
