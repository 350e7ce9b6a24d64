"""Follows one task from any machine to its end, and says how it ended by words and exit code.

A bar on a terminal, lines elsewhere. Judged by the task's own record and nothing else.
"""

import sys
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from types import TracebackType
from typing import Annotated, Protocol

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from pvc.core import keys as core
from pvc.core.commands import CommandLine
from pvc.core.coordination import Coordinator, Disconnected
from pvc.core.errors import PvcError
from pvc.core.mirror import Mirror
from pvc.core.records import Garbage, decode
from pvc.core.runtime import Runtime
from pvc.plugins.storage import keys
from pvc.plugins.storage.decide.tasktexts import described, standing, tenths
from pvc.plugins.storage.records import ENDED, Task, TaskPhase

LOOK_AFRESH = 5.0
"""Seconds between looks when nothing changes, and between lines when much does."""
EXITS = {TaskPhase.DONE: 0, TaskPhase.CANCELLED: 4, TaskPhase.FAILED: 5}
"""The same codes as for operations."""
TIMED_OUT = 6
DETACHED = 130

Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Follow it to its end; the exit code tells how it ended.")]
Timeout = Annotated[
    float | None, typer.Option(min=0, metavar="SECONDS", help="How long to follow it; it goes on after that.")
]


@dataclass(frozen=True, slots=True)
class View:
    """A task as a watcher sees it at one moment."""

    task: Task
    alive: bool
    """Whether the daemon of its node answers."""
    connected: bool = True


class TimedOut(Exception):
    """The task goes on, but the watcher's time is over."""


def follow(cli: CommandLine, task: Task, *, wait: bool = True, timeout: float | None = None) -> None:
    """Show a task to its end and say how it ended; ends the command unless it is done.

    Without `wait` only says how it can be followed.
    """
    what = described(task)
    if not wait:
        cli.say(f"{what} is asked of {task.node}; `pvc storage task watch {task.id}` follows it")
        return
    again = f"it goes on; `pvc storage task watch {task.id}` follows it, `pvc storage task cancel {task.id}` ends it"
    try:
        task = _shown_to_end(cli, task, timeout)
    except TimedOut:
        cli.fail(f"{what} has not ended after {timeout:g} s; {again}", TIMED_OUT)
    except KeyboardInterrupt:
        cli.fail(f"detached from {what}; {again}", DETACHED)
    if task.phase is not TaskPhase.DONE:
        cli.fail(f"{what}: {task.phase.value}: {task.message}", EXITS[task.phase])
    cli.say(f"{what}: {task.message or 'done'}")


def watch(coordinator: Coordinator, runtime: Runtime, task: Task, timeout: float | None) -> Iterator[View]:
    """Views of a task, whenever it changes and now and then, until it has ended. Raises TimedOut, PvcError."""
    wake = runtime.signal()
    mirror = Mirror(coordinator, runtime, wake)
    deadline = None if timeout is None else runtime.monotonic() + timeout
    alive, likely_over = True, False
    while True:
        try:
            task, alive = _look(coordinator, mirror, task, likely_over=likely_over)
            yield View(task, alive)
        except Disconnected:
            yield View(task, alive, connected=False)
        if task.phase in ENDED:
            return
        left = LOOK_AFRESH if deadline is None else min(LOOK_AFRESH, deadline - runtime.monotonic())
        if left <= 0:
            raise TimedOut
        woken = wake.wait(left)
        likely_over = woken and task.phase is TaskPhase.RUNNING
        if not woken:
            mirror.forget()


def _look(coordinator: Coordinator, mirror: Mirror, task: Task, *, likely_over: bool) -> tuple[Task, bool]:
    path, over, session = keys.task(task.id), keys.ended_task(task.id), core.node_session(task.node)
    znode = coordinator.get(over) if likely_over else None
    if znode is None:
        mirror.prefetch([path, session])
        znode = mirror.get(path) or coordinator.get(over)
    if znode is None:
        raise PvcError(
            f"task {task.id} is kept no longer: how it ended is not known; look at `pvc storage volume list`"
        )
    try:
        task = decode(Task, znode.data, path)
    except Garbage as error:
        raise PvcError(f"{error}; how the task stands is not known") from error
    return task, mirror.get(core.node_session(task.node)) is not None


class Display(Protocol):
    """Shows views as they come."""

    def show(self, view: View) -> None: ...


class Lines:
    """A line for each tenth that is done and each trouble, and one now and then: for pipes and logs."""

    def __init__(self, cli: CommandLine) -> None:
        self._cli = cli
        self._last: tuple[object, ...] = ()
        self._said = cli.runtime.monotonic()

    def show(self, view: View) -> None:
        news = (view.connected, view.alive, view.task.node, tenths(view.task))
        now = self._cli.runtime.monotonic()
        quiet = not self._last and not _in_trouble(view)  # most tasks end before there is anything to tell
        if view.task.phase not in ENDED and ((news != self._last and not quiet) or now - self._said >= LOOK_AFRESH):
            self._cli.say(f"{described(view.task)}: {_told(view)}")
            self._said = now
        self._last = news


class Bar:
    """A bar that is drawn over and over in place; use as a context manager."""

    def __init__(self, console: Console | None = None) -> None:
        what, told = TextColumn("{task.description}"), TextColumn("{task.fields[told]}")
        self._progress = Progress(
            what, BarColumn(), told, console=console or Console(), auto_refresh=False, transient=True
        )
        self._row = self._progress.add_task("", total=None, told="")

    def __enter__(self) -> "Bar":
        self._progress.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.__exit__(kind, error, trace)

    def show(self, view: View) -> None:
        task = view.task
        self._progress.update(
            self._row, description=described(task), total=task.total, completed=task.done or 0, told=_told(view)
        )
        self._progress.refresh()


def _shown_to_end(cli: CommandLine, task: Task, timeout: float | None) -> Task:
    bar = Bar() if sys.stdout.isatty() else None
    with bar or nullcontext():
        display: Display = bar or Lines(cli)
        for view in watch(cli.connect(), cli.runtime, task, timeout):
            display.show(view)
            task = view.task
    return task


def _in_trouble(view: View) -> bool:
    return not view.connected or not view.alive


def _told(view: View) -> str:
    task = view.task
    if not view.connected:
        return "the connection to ZooKeeper is lost; waiting for it"
    if not view.alive:
        then = "it goes on when it is back" if task.bound else "another node takes over, or it goes on when it is back"
        return f"the daemon of {task.node} does not answer; {then}"
    return standing(task)
