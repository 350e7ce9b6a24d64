"""Follows one operation from any machine: a stream of views, and the two ways to show it.

Judged by the operation's own record and nothing else: other nodes' flushes do not matter here.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from pvc.core import keys
from pvc.core.commands import when
from pvc.core.coordination import Coordinator, Disconnected
from pvc.core.mirror import Mirror
from pvc.core.model import FINAL, Operation, Outcome, OutcomeState, Phase
from pvc.core.records import decode
from pvc.core.runtime import Runtime

LOOK_AFRESH = 30.0
"""Seconds between looks when nothing changes."""


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


def watch(coordinator: Coordinator, runtime: Runtime, operation: Operation, timeout: float | None) -> Iterator[View]:
    """Views of the operation, whenever it changes, until it has ended. Raises TimedOut after `timeout` seconds."""
    wake = runtime.signal()
    mirror = Mirror(coordinator, runtime, wake)
    deadline = None if timeout is None else runtime.monotonic() + timeout
    last: View | None = None
    while True:
        view = _look(mirror, operation, last)
        if view != last:
            yield view
            last = view
            operation = view.operation
        if operation.phase in FINAL:
            return
        left = LOOK_AFRESH if deadline is None else min(LOOK_AFRESH, deadline - runtime.monotonic())
        if left <= 0:
            raise TimedOut
        if not wake.wait(left):
            mirror.forget()


def _look(mirror: Mirror, operation: Operation, last: View | None) -> View:
    path = keys.node_operation(operation.node)
    try:
        znode = mirror.get(path)
        alive = mirror.get(keys.node_session(operation.node)) is not None
        current = decode(Operation, znode.data, path) if znode is not None else operation
        if current.id != operation.id:  # ended, and another was asked for since: its own end is in the history
            return View(_from_history(mirror, operation), alive)
        return View(current, alive, _progress(mirror, current))
    except Disconnected:
        return View(operation, last.daemon_alive if last else True, connected=False)


def _from_history(mirror: Mirror, operation: Operation) -> Operation:
    for name in reversed(mirror.children(keys.HISTORY) or ()):
        path = f"{keys.HISTORY}/{name}"
        znode = mirror.get(path)
        if znode is not None:
            found = decode(Operation, znode.data, path)
            if found.id == operation.id:
                return found
    return operation


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
