"""`pvc node flush|unflush|watch|cancel`: asks for operations, foretells them, follows them to their end."""

import sys
from contextlib import nullcontext
from dataclasses import replace
from enum import StrEnum
from typing import Annotated

import typer

from pvc.cli.application import Application
from pvc.cli.exits import DETACHED, OF_PHASE, TIMED_OUT, USAGE
from pvc.cli.foretelling import show_check, show_plan
from pvc.cli.liveview import LiveRows
from pvc.cli.output import Format
from pvc.cli.watching import Display, JsonLines, JsonRecord, Overdue, PlainLines, TimedOut, watch
from pvc.core.commands import when
from pvc.core.decide.pace import moves_at_a_time, seconds_left
from pvc.core.history import read_history
from pvc.core.lookup import find_node, find_vm
from pvc.core.model import Cancel, Operation, OperationKind
from pvc.core.requests import OppositeRunning, cancel, read_operation, request


class WaitFormat(StrEnum):
    """How an operation is shown."""

    TEXT = "text"
    """For people: live rows on a terminal, plain lines in a pipe."""
    JSONL = "jsonl"
    """The whole operation in a line, each time it changes."""
    JSON = "json"
    """One record: the plan, or the operation once it has ended."""


DEADLINE = 86400.0
"""Seconds that an operation may take unless it is told otherwise: nothing waits for ever."""

Wait = Annotated[bool, typer.Option("--wait", help="Follow it to its end; the exit code tells how it ended.")]
Timeout = Annotated[
    float | None,
    typer.Option(
        min=0,
        metavar="SECONDS",
        help="How long to wait for the end of the opposite one and, with --wait, of this; both go on after that.",
    ),
]
WatchTimeout = Annotated[
    float | None, typer.Option("--timeout", min=0, metavar="SECONDS", help="How long to follow it; it goes on after.")
]
Deadline = Annotated[
    float, typer.Option(min=1, metavar="SECONDS", help="When the operation itself gives up, in the queue too.")
]
Reason = Annotated[str, typer.Option(help="Why; stored and shown to others.")]
NoQueue = Annotated[bool, typer.Option("--no-queue", help="Fail at once if it would have to wait its turn.")]
Parallel = Annotated[int | None, typer.Option(min=1, help="Moves at a time; default: as the node is configured.")]
Form = Annotated[WaitFormat, typer.Option("--format", help="How to show it.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only print the plan; the exit code tells if all would move.")]
Check = Annotated[bool, typer.Option("--check", help="Only print what would stop it, and what to do about that.")]


def add_commands(cli: Application) -> None:
    """Add to the group `node`."""
    _add_flush(cli)
    _add_unflush(cli)
    _add_following(cli)


def _add_flush(cli: Application) -> None:
    Name = Annotated[str, typer.Argument(metavar="NODE", help="The node.", autocompletion=cli.complete_nodes)]

    @cli.group("node").command("flush")
    def flush(
        name: Name,
        wait: Wait = False,
        timeout: Timeout = None,
        deadline: Deadline = DEADLINE,
        reason: Reason = "",
        no_queue: NoQueue = False,
        parallel: Parallel = None,
        dry_run: DryRun = False,
        check: Check = False,
        form: Form = WaitFormat.TEXT,
    ) -> None:
        """Move every VM away, so that the host can be serviced. Powers no VM off unless its own policy says so."""
        wanted = _wanted(cli, OperationKind.FLUSH, name, reason, deadline, no_queue, parallel)
        _carry_out(cli, wanted, wait, timeout, form, dry_run=dry_run, check=check)


def _add_unflush(cli: Application) -> None:
    Name = Annotated[str, typer.Argument(metavar="NODE", help="The node.", autocompletion=cli.complete_nodes)]
    Skip = Annotated[bool, typer.Option("--skip", help="Take it back into service without moving anything.")]
    Only = Annotated[
        list[str] | None,
        typer.Option(
            "--only", metavar="VM", help="Bring only this VM home; repeatable.", autocompletion=cli.complete_vms
        ),
    ]
    MakeRoom = Annotated[
        bool, typer.Option("--make-room", help="If it is full, move VMs away that have their home elsewhere.")
    ]

    @cli.group("node").command("unflush")
    def unflush(
        name: Name,
        wait: Wait = False,
        timeout: Timeout = None,
        deadline: Deadline = DEADLINE,
        reason: Reason = "",
        no_queue: NoQueue = False,
        parallel: Parallel = None,
        skip: Skip = False,
        only: Only = None,
        make_room: MakeRoom = False,
        dry_run: DryRun = False,
        check: Check = False,
        form: Form = WaitFormat.TEXT,
    ) -> None:
        """Take the node back into service and bring its VMs home."""
        if skip and (only or make_room):
            cli.fail("--skip moves nothing; leave --only and --make-room out", USAGE)
        wanted = _wanted(cli, OperationKind.UNFLUSH, name, reason, deadline, no_queue, parallel)
        vms = [find_vm(cli.connect(), vm) for vm in only or ()]
        for vm in vms:
            if vm.home != name:
                cli.fail(f"{vm.name} has its home on {vm.home or vm.node}, not on {name}; `pvc vm list` shows homes")
        wanted = replace(wanted, skip=skip, only=tuple(vm.uuid for vm in vms), make_room=make_room)
        _carry_out(cli, wanted, wait, timeout, form, dry_run=dry_run, check=check)


def _add_following(cli: Application) -> None:
    group = cli.group("node")
    Name = Annotated[str, typer.Argument(metavar="NODE", help="The node.", autocompletion=cli.complete_nodes)]

    @group.command("watch")
    def watch_node(name: Name, timeout: WatchTimeout = None, form: Form = WaitFormat.TEXT) -> None:
        """Follow the operation that a node has in hand, or show how the last one ended."""
        coordinator = cli.connect()
        find_node(coordinator, name)
        current = read_operation(coordinator, name)
        if current is None:
            cli.fail(f"{name} has never been flushed")
        _follow(cli, current[0], timeout, form)

    @group.command("cancel")
    def cancel_operation(
        name: Name,
        now: Annotated[bool, typer.Option("--now", help="Abort the move in flight too; its VM stays put.")] = False,
    ) -> None:
        """End the flush or unflush of a node, after the VM in flight."""
        coordinator = cli.connect()
        find_node(coordinator, name)
        how = Cancel.NOW if now else Cancel.AFTER_CURRENT
        operation = cancel(coordinator, name, how, cli.user)
        if operation is None:
            cli.fail(f"{name} has no flush or unflush to cancel")
        cli.say(f"the {operation.kind.value} of {name} will end; follow it with `pvc node watch {name}`")


def _wanted(
    cli: Application,
    kind: OperationKind,
    name: str,
    reason: str,
    deadline: float,
    no_queue: bool,
    parallel: int | None,
) -> Operation:
    find_node(cli.connect(), name)
    now = cli.runtime.now()
    return Operation(
        id=cli.runtime.new_id(),
        kind=kind,
        node=name,
        by=cli.user,
        requested=now,
        reason=reason,
        deadline=now + deadline,
        queue=not no_queue,
        parallel=parallel,
    )


def _carry_out(
    cli: Application,
    wanted: Operation,
    wait: bool,
    timeout: float | None,
    form: WaitFormat,
    *,
    dry_run: bool,
    check: bool,
) -> None:
    """Foretell the operation, or ask for it and follow it if that is wanted; ends with the code that tells how."""
    if dry_run and check:
        cli.fail("--dry-run prints the plan, --check what would stop it: take one of them", USAGE)
    if dry_run or check:
        show = show_plan if dry_run else show_check
        raise typer.Exit(show(cli, wanted, as_json=form is not WaitFormat.TEXT or cli.format is Format.JSON))
    begun = cli.runtime.monotonic()
    operation = _ask(cli, wanted, timeout)
    if wait:
        _follow(cli, operation, timeout, form, waited=cli.runtime.monotonic() - begun)
        return
    name = operation.node
    cli.say(f"the {operation.kind.value} of {name} is asked for; follow it with `pvc node watch {name}`")


def _ask(cli: Application, wanted: Operation, timeout: float | None) -> Operation:
    """Ask for the operation; the opposite one is cancelled first and waited for, at most `timeout` seconds."""
    coordinator, name = cli.connect(), wanted.node
    begun = cli.runtime.monotonic()
    while True:
        try:
            asked = request(coordinator, wanted)
        except OppositeRunning as opposite:
            cli.note(f"{name} has a running {opposite.operation.kind.value}: it is cancelled first")
            if cancel(coordinator, name, Cancel.AFTER_CURRENT, cli.user) is not None:
                _await_opposite(cli, opposite.operation, timeout, cli.runtime.monotonic() - begun)
            continue
        if asked.attached:
            since = "is running" if asked.operation.began else "is waiting its turn"
            cli.note(f"a {wanted.kind.value} of {name} by {asked.operation.by} {since} already; this is the same one")
            if _differs(asked.operation, wanted):
                cli.note("it was asked for with other options, and they hold; cancel it first to have yours")
        return asked.operation


def _await_opposite(cli: Application, operation: Operation, timeout: float | None, waited: float) -> None:
    """Wait for the end of an operation that was cancelled; `waited`: seconds of `timeout` that are over already."""
    name, what, silent = operation.node, operation.kind.value, False
    try:
        for view in watch(cli.connect(), cli.runtime, operation, _rest(timeout, waited)):
            if not view.daemon_alive and not silent:
                cli.note(f"the daemon of {name} does not answer; the {what} ends when it is back")
            silent = not view.daemon_alive
    except TimedOut as end:
        after = "" if isinstance(end, Overdue) else f" after {timeout:g} s"
        cli.fail(
            f"the {what} of {name} was asked to end and has not{after}, so nothing else was asked for; "
            f"`pvc node watch {name}` follows it",
            TIMED_OUT,
        )


def _rest(timeout: float | None, waited: float) -> float | None:
    return None if timeout is None else max(0.0, timeout - waited)


def _differs(running: Operation, wanted: Operation) -> bool:
    """Whether the operation that goes on does something else than what was asked for."""
    mine = (wanted.skip, wanted.only, wanted.make_room, wanted.parallel or running.parallel)
    return mine != (running.skip, running.only, running.make_room, running.parallel)


def _follow(
    cli: Application, operation: Operation, timeout: float | None, form: WaitFormat, *, waited: float = 0.0
) -> None:
    """Show the operation to its end and exit with the code that tells how it ended.

    `waited`: seconds of `timeout` that are over already.
    """
    what = f"the {operation.kind.value} of {operation.node}"
    again = f"it goes on; `pvc node watch {operation.node}` follows it, `pvc node cancel {operation.node}` ends it"
    try:
        phase = show_to_end(cli, operation, _rest(timeout, waited), form).phase
    except Overdue:
        by = when(operation.deadline or 0.0)
        silent = f"but the daemon of {operation.node} does not answer"
        cli.fail(f"{what} should have ended by {by}, {silent}; {again}", TIMED_OUT)
    except TimedOut:
        cli.fail(f"{what} has not ended after {timeout:g} s; {again}", TIMED_OUT)
    except KeyboardInterrupt:
        cli.fail(f"detached from {what}; {again}", DETACHED)
    if OF_PHASE[phase]:
        raise typer.Exit(OF_PHASE[phase])


def show_to_end(cli: Application, operation: Operation, timeout: float | None, form: WaitFormat) -> Operation:
    """Show the operation until it has ended; the operation as it ended. Raises TimedOut, RecordGone as `watch` does."""
    live = _live_rows(cli) if form is WaitFormat.TEXT and sys.stdout.isatty() else None
    with live or nullcontext():
        display = live or _display(form)
        for view in watch(cli.connect(), cli.runtime, operation, timeout):
            display.show(view)
            operation = view.operation
    return operation


def _live_rows(cli: Application) -> LiveRows:
    """Live rows that judge by the moves made so far how long those to come take."""
    past = read_history(cli.connect())[0]
    return LiveRows(lambda operation: seconds_left(operation, past, cli.runtime.now(), moves_at_a_time(operation)))


def _display(form: WaitFormat) -> Display:
    match form:
        case WaitFormat.JSONL:
            return JsonLines(_print)
        case WaitFormat.JSON:
            return JsonRecord(_print)
        case _:
            return PlainLines(_print)


def _print(line: str) -> None:
    print(line, flush=True)
