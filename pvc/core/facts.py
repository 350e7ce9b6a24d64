"""Publishes what the node's plugins report: facts and findings. Slow work is theirs, in services of their own."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any

from pvc.core import keys
from pvc.core.coordination import Clash, Conflict, Coordinator, Create, Put
from pvc.core.model import Finding, NodeFacts
from pvc.core.records import encode
from pvc.core.runtime import Runtime, Signal

INTERVAL = 10.0
"""Seconds between looks when nobody asks for one."""
SETTLE = 0.1
"""Seconds from the first request to the look: what changes together is published together, and what hurries, such as
the next move of a flush, is not disturbed."""

_KNOWN = frozenset(field.name for field in fields(NodeFacts)) - {"at", "findings", "extra"}


class FactsPublisher:
    """Service: writes `nodes/<node>/facts` when it changes."""

    name = "facts"
    after = ("liveness",)

    def __init__(
        self,
        node: str,
        coordinator: Coordinator,
        runtime: Runtime,
        log: logging.Logger,
        registered: Callable[[], bool],
        gather: Callable[[], Mapping[str, Any]],
        findings: Callable[[], list[Finding]],
    ) -> None:
        self.wake: Signal = runtime.signal()
        self._path = keys.node_facts(node)
        self._coordinator = coordinator
        self._runtime = runtime
        self._log = log
        self._registered = registered
        self._gather = gather
        self._findings = findings
        self._published: NodeFacts | None = None
        self._due: float | None = None

    def refresh(self) -> None:
        """Have the facts looked at soon. Returns at once; safe from any thread."""
        if self._due is None:
            self._due = self._runtime.monotonic() + SETTLE
            self.wake.set()

    def step(self) -> float:
        if not self._registered():
            self._published = None
            return 1.0
        if self._due is not None and (left := self._due - self._runtime.monotonic()) > 0:
            return left
        self._due = None
        facts = _facts(self._gather(), self._findings())
        if facts != self._published:
            self._published = None  # until the answer comes, what was written is not known
            self._publish(replace(facts, at=self._runtime.now()))
            self._published = facts
        return INTERVAL

    def stop(self) -> None:
        """Facts stay readable; the missing session tells that they are old."""

    def _publish(self, facts: NodeFacts) -> None:
        try:
            self._coordinator.commit([Put(self._path, encode(facts))])
        except Conflict as conflict:
            if conflict.clash is not Clash.MISSING:
                raise
            self._coordinator.commit([Create(self._path, encode(facts))])


def _facts(gathered: Mapping[str, Any], findings: list[Finding]) -> NodeFacts:
    known = {name: value for name, value in gathered.items() if name in _KNOWN}
    extra = {name: str(value) for name, value in gathered.items() if name not in _KNOWN}
    return NodeFacts(findings=tuple(findings), extra=extra, **known)
