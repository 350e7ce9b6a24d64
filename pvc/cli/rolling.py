"""Drives a roll: one node after the other, each step decided by `core/decide/roll.py` and recorded before it is done.

Never touches a node that is not in the roll. Whatever ends this client, `--resume` goes on from the record.
"""

import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import TypeVar

import typer

from pvc.cli.application import Application
from pvc.cli.exits import FAILED, OF_PHASE, OPERATION_FAILED, TIMED_OUT
from pvc.cli.operation import WaitFormat, show_to_end
from pvc.cli.recovery import feel, others_out, see, wait_until_well
from pvc.cli.watching import OVERDUE, TimedOut
from pvc.core.commands import when
from pvc.core.coordination import Conflict
from pvc.core.decide.roll import Ask, Doubt, Finished, Follow, Mark, Recover, RunCommand, Stop, next_step
from pvc.core.errors import PvcError
from pvc.core.model import FINAL, Node, Operation, OperationKind, Phase
from pvc.core.process import Attended
from pvc.core.requests import read_operation, request_ops
from pvc.core.rolls import HeldRoll, RollNode, RollState, patiently

T = TypeVar("T")

SHELL = ("/bin/sh", "-c")

_ASKED = {OperationKind.FLUSH: RollState.FLUSHING, OperationKind.UNFLUSH: RollState.UNFLUSHING}
_ENDED = {OperationKind.FLUSH: RollState.FLUSHED, OperationKind.UNFLUSH: RollState.DONE}


class Stopped(Exception):
    """The roll goes no further now: why, and the exit code that tells it."""

    def __init__(self, why: str, code: int) -> None:
        super().__init__(why)
        self.code = code


class Rolling:
    """One client at work on the roll that it holds."""

    def __init__(self, cli: Application, held: HeldRoll, processes: Attended, *, yes: bool) -> None:
        """`yes`: repeat a command that is in doubt without asking."""
        self._cli = cli
        self._held = held
        self._processes = processes
        self._yes = yes

    def run(self) -> None:
        """Go on to the end of the last node. Raises Stopped (which is recorded), KeyboardInterrupt, PvcError."""
        for name in [entry.name for entry in self._held.roll.nodes]:
            try:
                while self._advance(self._held.entry(name)):
                    continue
            except Stopped as stopped:
                with suppress(PvcError):  # the reason is said in any case
                    self._held.put(replace(self._held.entry(name), why=str(stopped)))
                raise
        self._held.end()

    def _advance(self, entry: RollNode) -> bool:
        """Take one step with a node; False if nothing is left to do with it."""
        sight = self._patient(lambda: see(self._cli.connect(), entry.name))
        match next_step(entry, sight, self._others_out(entry)):
            case Finished():
                return False
            case Stop(why):
                raise Stopped(why, OPERATION_FAILED)
            case Ask(kind):
                self._ask(entry, kind)
            case Follow(operation):
                self._follow(entry, operation)
            case Mark(state):
                self._head(entry, f"is {state.value}")
                self._held.put(self._come(entry, state))
            case RunCommand():
                self._serve(entry, sight.node)
            case Doubt():
                self._resolve(entry)
            case Recover():
                self._recover(entry)
                self._ask(entry, OperationKind.UNFLUSH)
        return True

    def _others_out(self, entry: RollNode) -> list[str]:
        """Looked at before a node is begun: a roll must not take one node more out of service than it thinks."""
        if self._held.roll.options.force or entry.state is not RollState.WAITING:
            return []
        return self._patient(lambda: others_out(self._cli.connect(), {entry.name}))

    def _ask(self, entry: RollNode, kind: OperationKind) -> None:
        """Ask for an operation and record that, in one transaction."""
        coordinator = self._cli.connect()
        current = self._patient(lambda: read_operation(coordinator, entry.name))
        if current is not None and current[0].phase not in FINAL:
            return  # somebody was faster: look again
        wanted = self._operation(entry.name, kind)
        ops = self._patient(lambda: request_ops(coordinator, wanted, current[1] if current else None))
        try:
            self._held.put(replace(self._come(entry, _ASKED[kind]), operation=wanted.id), ops)
        except Conflict:  # the node's own record changed meanwhile: look again
            return
        self._head(entry, kind.value)

    def _operation(self, node: str, kind: OperationKind) -> Operation:
        options, now = self._held.roll.options, self._cli.runtime.now()
        return Operation(
            id=self._cli.runtime.new_id(),
            kind=kind,
            node=node,
            by=self._cli.user,
            requested=now,
            reason=options.reason or "rolling maintenance",
            deadline=now + options.deadline,
            parallel=options.parallel,
        )

    def _follow(self, entry: RollNode, operation: Operation) -> None:
        if operation.id != entry.operation:
            self._cli.note(
                f"the {operation.kind.value} of {operation.node} by {operation.by} is the one that is followed"
            )
            self._held.put(replace(self._come(entry, _ASKED[operation.kind]), operation=operation.id))
        now = self._cli.runtime.now()
        left = self._held.roll.options.deadline if operation.deadline is None else operation.deadline - now
        try:
            ended = show_to_end(self._cli, operation, max(0.0, left) + OVERDUE, WaitFormat.TEXT)
        except TimedOut as late:
            raise Stopped(f"its {operation.kind.value} is overdue and has not ended", TIMED_OUT) from late
        if ended.phase is not Phase.DONE:
            why = f"its {ended.kind.value} ended {ended.phase.value}: {ended.message}"
            raise Stopped(why, OF_PHASE[ended.phase])
        self._held.put(self._come(self._held.entry(entry.name), _ENDED[ended.kind]))

    def _serve(self, entry: RollNode, node: Node) -> None:
        """Run the command, or wait for the person, and record how that ended."""
        command = self._held.roll.options.command
        before = self._patient(lambda: feel(self._cli.connect(), entry.name).pulse.session)
        running = replace(self._come(entry, RollState.RUNNING), before=before)
        self._held.put(running)
        if command is None:
            self._head(entry, f"is flushed ({node.address or 'no address'}): do your work, then press Enter")
            if not sys.stdin.readline():
                raise Stopped("nobody is there to press Enter", FAILED)
        else:
            self._head(entry, f"run {command}")
            environment = {"PVC_NODE": entry.name, "PVC_NODE_ADDRESS": node.address}
            code = self._processes.attend([*SHELL, command], env=environment)
            if code:
                self._held.put(replace(running, code=code))
                raise Stopped(f"the command ended with code {code}", OPERATION_FAILED)
        self._held.put(self._come(running, RollState.RAN))

    def _resolve(self, entry: RollNode) -> None:
        """Have a person say what to do about a command of which it is not known that it was done."""
        ended = "how it ended is not recorded" if entry.code is None else f"it ended with code {entry.code}"
        self._cli.note(f"{entry.name}: the command was begun at {when(entry.since)}; {ended}")
        match "again" if self._yes else _answer(entry.name):
            case "again":
                self._held.put(self._come(entry, RollState.FLUSHED))
            case "done":
                self._held.put(self._come(entry, RollState.RAN))
            case _:
                raise Stopped(f"the command was begun, and {ended}", FAILED)

    def _recover(self, entry: RollNode) -> None:
        self._head(entry, "wait until it is well")
        options = self._held.roll.options
        if ill := wait_until_well(self._cli.connect(), self._cli.runtime, entry, options, self._cli.say):
            raise Stopped(f"not well {options.health_timeout:g} s after the command: {ill}", TIMED_OUT)

    def _come(self, entry: RollNode, state: RollState) -> RollNode:
        """The entry once the node has come to a state."""
        return replace(entry, state=state, since=self._cli.runtime.now(), code=None, why="")

    def _patient(self, read: Callable[[], T]) -> T:
        return patiently(self._cli.connect(), self._cli.runtime, read)

    def _head(self, entry: RollNode, what: str) -> None:
        names = [node.name for node in self._held.roll.nodes]
        self._cli.say(f"{entry.name} ({names.index(entry.name) + 1} of {len(names)}): {what}")


def _answer(name: str) -> str:
    if not sys.stdin.isatty():
        return "stop"
    answer = ""
    while answer not in ("again", "done", "stop"):
        try:
            answer = typer.prompt(f"Run it again on {name}, take it as done, or stop? (again, done, stop)")
        except typer.Abort:
            return "stop"
    return answer
