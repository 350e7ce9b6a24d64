"""`pvc node`: the hosts, and flushing them."""

import sys
from contextlib import nullcontext
from enum import StrEnum
from typing import Annotated, Any

import typer

from pvc.cli.application import Application
from pvc.cli.exits import DETACHED, OF_PHASE, TIMED_OUT
from pvc.cli.history import outcome_rows
from pvc.cli.liveview import LiveRows
from pvc.cli.watching import JsonLines, PlainLines, TimedOut, watch
from pvc.core import keys
from pvc.core.commands import Moment
from pvc.core.coordination import Conflict, Coordinator, Delete
from pvc.core.decide.pace import moves_at_a_time, seconds_left
from pvc.core.history import read_history
from pvc.core.lookup import all_nodes, find_node
from pvc.core.model import FINAL, Cancel, Node, NodeFacts, Operation, OperationKind
from pvc.core.records import Garbage, decode
from pvc.core.requests import OppositeRunning, cancel, read_operation, request


class WaitFormat(StrEnum):
    """How an operation is followed."""

    TEXT = "text"
    JSONL = "jsonl"


DEADLINE = 86400.0
"""Seconds that an operation may take unless it is told otherwise: nothing waits for ever."""

COLUMNS = ("name", "state", "alive", "operation", "roles", "vms", "memory", "memory_used", "load", "problems")


def add_commands(cli: Application) -> None:
    """Add the group `node`."""
    _add_listing(cli)
    _add_operations(cli)


def _add_listing(cli: Application) -> None:
    group = cli.group("node", help="The hosts of the cluster.")
    Name = Annotated[str, typer.Argument(metavar="NODE", help="The node.", autocompletion=cli.complete_nodes)]

    @group.command("list", listing=True)
    def list_nodes() -> None:
        """Show all nodes."""
        cli.show(node_rows(cli.connect(), cli), COLUMNS)

    @group.command("info", listing=True)
    def info(name: Name) -> None:
        """Show everything about one node."""
        coordinator = cli.connect()
        node = find_node(coordinator, name)
        row = _row(coordinator, node)
        operation = _operation(coordinator, name)
        row["outcomes"] = outcome_rows(operation) if operation else []
        cli.show([row], list(row), one=True)

    @group.command("forget")
    def forget(name: Name, yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False) -> None:
        """Remove a node that is gone for good. Refused while it answers or VMs are assigned to it."""
        coordinator = cli.connect()
        find_node(coordinator, name)
        if coordinator.get(keys.node_session(name)) is not None:
            cli.fail(f"the daemon of {name} answers; stop it first")
        if coordinator.children(keys.node_vms(name)):
            cli.fail(f"VMs are assigned to {name}; move or undefine them first (`pvc vm list`)")
        cli.confirm(f"Forget the node {name}?", yes=yes)
        _forget(coordinator, name)
        cli.say(f"{name} is forgotten")


def _add_operations(cli: Application) -> None:
    group = cli.group("node")
    Name = Annotated[str, typer.Argument(metavar="NODE", help="The node.", autocompletion=cli.complete_nodes)]
    Wait = Annotated[bool, typer.Option("--wait", help="Follow it to its end; the exit code tells how it ended.")]
    Timeout = Annotated[
        float | None, typer.Option(min=0, help="With --wait: seconds to follow it; it goes on after that.")
    ]
    Deadline = Annotated[
        float, typer.Option(min=1, help="Seconds after which the operation itself gives up, in the queue too.")
    ]
    Reason = Annotated[str, typer.Option(help="Why; stored and shown to others.")]
    NoQueue = Annotated[bool, typer.Option("--no-queue", help="Fail at once if it would have to wait its turn.")]
    Parallel = Annotated[int | None, typer.Option(min=1, help="Moves at a time; default: as the node is configured.")]
    Form = Annotated[WaitFormat, typer.Option("--format", help="How to follow it.")]

    def add(kind: OperationKind, text: str) -> None:
        @group.command(kind.value, help=text)
        def operate(
            name: Name,
            wait: Wait = False,
            timeout: Timeout = None,
            deadline: Deadline = DEADLINE,
            reason: Reason = "",
            no_queue: NoQueue = False,
            parallel: Parallel = None,
            form: Form = WaitFormat.TEXT,
        ) -> None:
            operation = _ask(cli, kind, name, reason, deadline, no_queue, parallel)
            _follow_or_say(cli, operation, wait, timeout, form)

    add(
        OperationKind.FLUSH,
        "Move every VM away, so that the host can be serviced. Powers no VM off unless its own policy says so.",
    )
    add(OperationKind.UNFLUSH, "Take the node back into service and bring its VMs home.")

    @group.command("watch")
    def watch_node(name: Name, timeout: Timeout = None, form: Form = WaitFormat.TEXT) -> None:
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


def _ask(
    cli: Application,
    kind: OperationKind,
    name: str,
    reason: str,
    deadline: float,
    no_queue: bool,
    parallel: int | None,
) -> Operation:
    """Ask for the operation; the opposite one is cancelled first and waited for."""
    coordinator = cli.connect()
    find_node(coordinator, name)
    now = cli.runtime.now()
    wanted = Operation(
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
    while True:
        try:
            asked = request(coordinator, wanted)
        except OppositeRunning as opposite:
            cli.note(f"{name} has a running {opposite.operation.kind.value}: it is cancelled first")
            if cancel(coordinator, name, Cancel.AFTER_CURRENT, cli.user) is not None:
                for _view in watch(coordinator, cli.runtime, opposite.operation, None):
                    continue
            continue
        if asked.attached:
            since = "is running" if asked.operation.began else "is waiting its turn"
            cli.note(f"a {kind.value} of {name} by {asked.operation.by} {since} already; this is the same one")
        return asked.operation


def _follow_or_say(cli: Application, operation: Operation, wait: bool, timeout: float | None, form: WaitFormat) -> None:
    if wait:
        _follow(cli, operation, timeout, form)
        return
    cli.say(
        f"the {operation.kind.value} of {operation.node} is asked for; follow it with `pvc node watch {operation.node}`"
    )


def _follow(cli: Application, operation: Operation, timeout: float | None, form: WaitFormat) -> None:
    """Show the operation to its end and exit with the code that tells how it ended."""
    live = _live_rows(cli) if form is WaitFormat.TEXT and sys.stdout.isatty() else None
    what = f"the {operation.kind.value} of {operation.node}"
    again = f"it goes on; `pvc node watch {operation.node}` follows it, `pvc node cancel {operation.node}` ends it"
    try:
        with live or nullcontext():
            display = live or (JsonLines(_print) if form is WaitFormat.JSONL else PlainLines(_print))
            for view in watch(cli.connect(), cli.runtime, operation, timeout):
                display.show(view)
                operation = view.operation
    except TimedOut:
        cli.fail(f"{what} has not ended after {timeout:g} s; {again}", TIMED_OUT)
    except KeyboardInterrupt:
        cli.fail(f"detached from {what}; {again}", DETACHED)
    if OF_PHASE[operation.phase]:
        raise typer.Exit(OF_PHASE[operation.phase])


def _live_rows(cli: Application) -> LiveRows:
    """Live rows that judge by the moves made so far how long those to come take."""
    past = read_history(cli.connect())[0]
    return LiveRows(lambda operation: seconds_left(operation, past, cli.runtime.now(), moves_at_a_time(operation)))


def _print(line: str) -> None:
    print(line, flush=True)


def node_rows(coordinator: Coordinator, cli: Application | None = None) -> list[dict[str, Any]]:
    """A row for every node; records that cannot be read are reported and left out."""
    nodes, garbage = all_nodes(coordinator)
    for error in garbage:
        if cli is not None:
            cli.note(f"pvc: {error}")
    return [_row(coordinator, node) for node in nodes]


def _row(coordinator: Coordinator, node: Node) -> dict[str, Any]:
    facts = _facts(coordinator, node.name)
    operation = _operation(coordinator, node.name)
    active = operation is not None and operation.phase not in FINAL
    used = sum(facts.vms.values())
    return {
        "name": node.name,
        "state": node.state,
        "alive": coordinator.get(keys.node_session(node.name)) is not None,
        "active": active,
        "operation": f"{operation.kind.value} {operation.phase.value}" if operation else None,
        "operation_by": operation.by if operation else None,
        "operation_reason": operation.reason if operation else None,
        "operation_since": Moment(operation.requested) if operation else None,
        "operation_message": (operation.message or operation.waiting) if operation else None,
        "roles": list(node.roles),
        "plugins": list(node.plugins),
        "address": node.address,
        "version": node.version,
        "vms": len(facts.vms),
        "memory": facts.memory,
        "memory_used": used,
        "cpus": facts.cpus,
        "load": facts.load,
        "facts_at": Moment(facts.at) if facts.at else None,
        "problems": sum(finding.severity.value != "ok" for finding in facts.findings),
        "findings": [
            {"node": node.name, "source": f.source, "severity": f.severity, "text": f.text} for f in facts.findings
        ],
    }


def _facts(coordinator: Coordinator, name: str) -> NodeFacts:
    znode = coordinator.get(keys.node_facts(name))
    try:
        return NodeFacts() if znode is None else decode(NodeFacts, znode.data, keys.node_facts(name))
    except Garbage:
        return NodeFacts()


def _operation(coordinator: Coordinator, name: str) -> Operation | None:
    try:
        found = read_operation(coordinator, name)
    except Garbage:
        return None
    return None if found is None else found[0]


def _forget(coordinator: Coordinator, name: str) -> None:
    paths = [keys.node_operation(name), keys.node_facts(name), keys.node_vms(name)]
    known = [path for path, znode in zip(paths, coordinator.get_many(paths), strict=True) if znode is not None]
    try:
        coordinator.commit([*(Delete(path) for path in known), Delete(keys.node(name))])
    except Conflict as conflict:
        raise typer.BadParameter(f"{name} has changed meanwhile ({conflict}); look again") from conflict
