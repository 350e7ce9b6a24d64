"""Follows one operation from any machine: a stream of views, and the two ways to show it.

Judged by the operation's own record and nothing else: other nodes' flushes do not matter here.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any, Protocol

import msgspec

from pvc.core import keys
from pvc.core.commands import when
from pvc.core.coordination import Coordinator, Disconnected
from pvc.core.errors import PvcError
from pvc.core.history import read_history
from pvc.core.mirror import Mirror
from pvc.core.model import FINAL, Operation, Outcome, OutcomeState, Phase
from pvc.core.records import decode
from pvc.core.runtime import Runtime

LOOK_AFRESH = 30.0
"""Seconds between looks when nothing changes."""
OVERDUE = 300.0
"""Seconds after its deadline in which an operation may still end before it is given up: its daemon may be dead."""


@dataclass(frozen=True, slots=True)
class View:
    """An operation as a watcher sees it at one moment."""

    operation: Operation
    daemon_alive: bool
    progress: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Of the moves in flight, by UUID: what their source publishes."""
    connected: bool = True


class TimedOut(Exception):
    """The operation goes on, but the watcher's time is over."""


class Overdue(TimedOut):
    """The operation should have ended by itself, and the daemon that would end it does not answer."""


class RecordGone(PvcError):
    """Nothing says any more how the operation ended."""

    def __init__(self, operation: Operation) -> None:
        super().__init__(
            f"the record of the {operation.kind.value} of {operation.node} is gone, so how it ended is not known; "
            "see `pvc node list` and `pvc node history`"
        )


def watch(coordinator: Coordinator, runtime: Runtime, operation: Operation, timeout: float | None) -> Iterator[View]:
    """Views of the operation, whenever it changes, until it has ended.

    Raises TimedOut after `timeout` seconds, Overdue, RecordGone.
    """
    wake = runtime.signal()
    mirror = Mirror(coordinator, runtime, wake)
    begun = runtime.monotonic()
    deadline = inf if timeout is None else begun + timeout
    given_up = inf if operation.deadline is None else begun + max(0.0, operation.deadline - runtime.now()) + OVERDUE
    last: View | None = None
    while True:
        view = _look(coordinator, mirror, operation, last)
        if view != last:
            yield view
            last = view
            operation = view.operation
        if operation.phase in FINAL:
            return
        now = runtime.monotonic()
        if now >= deadline:
            raise TimedOut
        if now >= given_up and view.connected and not view.daemon_alive:
            raise Overdue
        if not wake.wait(min(LOOK_AFRESH, deadline - now)):
            mirror.forget()


def _look(coordinator: Coordinator, mirror: Mirror, operation: Operation, last: View | None) -> View:
    path = keys.node_operation(operation.node)
    try:
        znode = mirror.get(path)
        alive = mirror.get(keys.node_session(operation.node)) is not None
        current = None if znode is None else decode(Operation, znode.data, path)
        if current is None or current.id != operation.id:  # ended, and its own end is in the history
            ended, _ = read_history(coordinator, 1, lambda each: each.id == operation.id)
            if not ended:
                raise RecordGone(operation)
            return View(ended[0], alive)
        return View(current, alive, _progress(mirror, current))
    except Disconnected:
        return View(operation, last.daemon_alive if last else True, connected=False)


def _progress(mirror: Mirror, operation: Operation) -> dict[str, Mapping[str, Any]]:
    found: dict[str, Mapping[str, Any]] = {}
    for key, outcome in operation.outcomes.items():
        if outcome.state is OutcomeState.MOVING and outcome.source:
            znode = mirror.get(keys.node_vm(outcome.source, key))
            if znode is not None and znode.data:
                found[key] = _record(znode.data)
    return found


def _record(data: bytes) -> Mapping[str, Any]:
    try:
        return msgspec.json.decode(data, type=dict[str, Any])
    except (msgspec.MsgspecError, ValueError):
        return {}


class Display(Protocol):
    """Shows views as they come."""

    def show(self, view: View) -> None: ...


class PlainLines:
    """One line for each thing that has changed: for pipes and logs."""

    def __init__(self, write: Any) -> None:
        self._write = write
        self._last: View | None = None

    def show(self, view: View) -> None:
        for line in changes(self._last, view):
            self._write(line)
        self._last = view


class JsonLines:
    """One JSON object a line: the whole operation, each time it changes."""

    def __init__(self, write: Any) -> None:
        self._write = write

    def show(self, view: View) -> None:
        self._write(json.dumps(_builtins(view), ensure_ascii=False))


class JsonRecord:
    """One JSON object: the operation as it ended."""

    def __init__(self, write: Any) -> None:
        self._write = write

    def show(self, view: View) -> None:
        if view.operation.phase in FINAL:
            self._write(json.dumps(_builtins(view), indent=2, ensure_ascii=False))


def _builtins(view: View) -> dict[str, Any]:
    record: dict[str, Any] = msgspec.to_builtins(view.operation)
    return {**record, "daemon_alive": view.daemon_alive, "progress": dict(view.progress)}


def changes(before: View | None, now: View) -> list[str]:
    """What is new since the view before, in lines."""
    operation = now.operation
    head = f"{operation.kind.value} {operation.node}:"
    old = before.operation if before else None
    lines: list[str] = []
    if not now.connected:
        return [f"{head} the connection to ZooKeeper is lost; waiting for it"]
    if before and not before.connected:
        lines.append(f"{head} connected again")
    if not now.daemon_alive and (before is None or before.daemon_alive) and operation.phase not in FINAL:
        lines.append(f"{head} the daemon of {operation.node} does not answer; it goes on when it is back")
    if operation.waiting and (old is None or (old.waiting, old.place) != (operation.waiting, operation.place)):
        lines.append(f"{head} {waiting_line(operation)}")
    if operation.phase is not (old.phase if old else Phase.QUEUED) and operation.phase not in FINAL:
        lines.append(f"{head} {operation.phase.value}")
    for warning in operation.warnings if old is None or old.warnings != operation.warnings else ():
        lines.append(f"{head} warning: {warning}")
    for key, outcome in operation.outcomes.items():
        line = outcome_line(outcome)
        if line and (old is None or key not in old.outcomes or outcome_line(old.outcomes[key]) != line):
            lines.append(f"{head} {line}")
    if operation.phase in FINAL:
        lines.append(f"{head} {operation.phase.value}: {operation.message}")
    return lines


def waiting_line(operation: Operation) -> str:
    """Who holds it, since when, and the place in the queue."""
    since = f" since {when(operation.waiting_since)}" if operation.waiting_since is not None else ""
    place = f"; place {operation.place} in the queue" if operation.place else ""
    return f"waiting: {operation.waiting}{since}{place}"


def outcome_line(outcome: Outcome) -> str:
    """What became of one VM; empty while nothing has."""
    match outcome.state:
        case OutcomeState.MOVING:
            return f"{outcome.name}: {outcome.source or '?'} -> {outcome.target}"
        case OutcomeState.MOVED:
            took = f" in {outcome.seconds:.1f} s" if outcome.seconds is not None else ""
            return f"{outcome.name}: moved to {outcome.target}{took}"
        case OutcomeState.KEPT:
            return f"{outcome.name}: stays on {outcome.source}: {outcome.why}"
        case OutcomeState.LEFT_ALONE:
            return f"{outcome.name}: left alone: {outcome.why}"
        case _:
            return f"{outcome.name}: will be tried again: {outcome.why}" if outcome.tries else ""
