"""Carries out this node's flush or unflush: through the gates, step by step, to a true end.

The only writer of an operation's progress. Knows neither what the gates are nor what the steps move. Every transaction
after the gates carries their guards, so an operation whose turn is over cannot commit anything more.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from pvc.core import keys
from pvc.core.coordination import Check, Conflict, CoordinationError, Coordinator, Create, Delete, Op, Put
from pvc.core.decide.operation import Begin, End, Wait, admission, during, ending, state_after
from pvc.core.forecast import Forecast, Objection, joined
from pvc.core.forecasting import ForecastDesk
from pvc.core.mirror import Mirror
from pvc.core.model import (
    FINAL,
    NODE_MOVES,
    PHASE_MOVES,
    Cancel,
    Node,
    NodeState,
    Operation,
    OperationKind,
    Outcome,
    Phase,
)
from pvc.core.records import Garbage, decode, encode
from pvc.core.runtime import Runtime, Signal
from pvc.core.states import move
from pvc.core.turns import Entered, FlushStep, Gate, Progress, Refused, Turn, TurnLost, Waiting

IDLE = 30.0
"""Seconds between looks when there is no operation."""
QUEUED = 5.0
"""Seconds between looks at closed gates; their watches come first."""
GIVEN_UP = 60.0
"""Seconds for which a step may fail in an operation that is to end, before it ends without that step."""
HISTORY_KEPT = 500
"""Finished operations that the cluster remembers."""


@dataclass(frozen=True, slots=True)
class _Record:
    """The operation as last read, and the version to compare with when writing it."""

    operation: Operation
    version: int


class OperationService:
    """Service: steps the operation of this node."""

    name = "operations"
    after = ("liveness",)

    def __init__(
        self,
        node: str,
        coordinator: Coordinator,
        runtime: Runtime,
        log: logging.Logger,
        registered: Callable[[], bool],
        gates: Sequence[Gate],
        steps: Sequence[FlushStep],
        wake: Signal,
    ) -> None:
        """`wake` is made by the caller, because gates and steps set it too."""
        self.wake = wake
        self._node = node
        self._coordinator = coordinator
        self._mirror = Mirror(coordinator, runtime, wake)
        self._runtime = runtime
        self._log = log
        self._registered = registered
        self._gates = tuple(sorted(gates, key=lambda gate: gate.exclusive))
        self._steps = tuple(steps)
        self._forecasts = ForecastDesk(node, coordinator, self._mirror, log)
        self._at_gates: Operation | None = None
        self._tried = 0
        """How many gates the operation at them may have entered, counted from the first."""
        self._last_look = 0.0
        self._failing_since: float | None = None
        """Since when a step fails in an operation that is to end, in monotonic seconds."""

    def step(self) -> float:
        if not self._registered():
            return 1.0
        self._look_afresh_sometimes()
        try:
            record = self._read()
        except Garbage:  # whatever it was has no turn any more: others need not wait for a repair
            self._leave_gates(None)
            raise
        self._leave_gates(record)
        self._forecasts.answer(self._foresee)
        if record is None or record.operation.phase in FINAL:
            return IDLE
        try:
            return self._queue(record) if record.operation.phase is Phase.QUEUED else self._proceed(record)
        except TurnLost as lost:
            self._requeue(record, str(lost))
            return 0.0

    def stop(self) -> None:
        """The operation stays as it is recorded: the next daemon resumes it."""

    def _foresee(self, operation: Operation) -> Forecast:
        parts = self._steps if operation.kind is OperationKind.FLUSH else reversed(self._steps)
        answers = [gate.foresee(operation) for gate in self._gates]
        at_gates = Forecast(
            obstacles=tuple(Objection(answer.why) for answer in answers if isinstance(answer, Refused)),
            waits=tuple(answer.text for answer in answers if isinstance(answer, Waiting)),
        )
        return joined([at_gates, *(part.foresee(operation) for part in parts)])

    def _read(self) -> _Record | None:
        path = keys.node_operation(self._node)
        znode = self._mirror.get(path)
        return None if znode is None else _Record(decode(Operation, znode.data, path), znode.version)

    def _look_afresh_sometimes(self) -> None:
        now = self._runtime.monotonic()
        if now - self._last_look > IDLE:
            self._last_look = now
            self._mirror.forget()

    def _queue(self, record: _Record) -> float:
        operation = record.operation
        answer = Entered() if operation.cancel is not Cancel.NO else self._enter(operation)
        match admission(operation, self._runtime.now(), answer):
            case Wait(Waiting(text, place, since)):
                new = replace(operation, waiting=text, waiting_since=since, place=place)
                if new != operation:
                    self._log.info("%s: waits, %d before it (%s)", self._thing(operation), place, text)
                    self._write(record, new, [])
                return QUEUED
            case Begin():
                self._begin(record)
            case End(phase, message):
                state = state_after(operation, phase) if operation.began is not None else None
                node_ops = [] if state is None else self._node_ops(state, message)
                self._end(record, phase, message, operation.outcomes, (), node_ops)
        return 0.0

    def _enter(self, operation: Operation) -> Entered | Waiting | Refused:
        """The answer of the first gate that is not open; those behind it are left, so that they are open to others."""
        if self._at_gates is None or self._at_gates.id != operation.id:
            self._tried = len(self._gates)  # by an earlier daemon of this node, for all we know
        self._at_gates = operation
        for number, gate in enumerate(self._gates, 1):
            self._tried = max(self._tried, number)
            answer = gate.enter(operation)
            if not isinstance(answer, Entered):
                for behind in reversed(self._gates[number : self._tried]):
                    behind.leave(operation)
                self._tried = number
                return answer
        return Entered()

    def _guards(self, operation: Operation) -> tuple[Check, ...]:
        return tuple(check for gate in self._gates for check in gate.guard(operation))

    def _begin(self, record: _Record) -> None:
        operation = record.operation
        began = operation.began if operation.began is not None else self._runtime.now()
        new = replace(operation, phase=Phase.PLANNING, waiting="", waiting_since=None, place=None, began=began)
        move(self._log, self._thing(operation), operation.phase, new.phase, PHASE_MOVES, "has its turn")
        node_ops = self._node_ops(during(operation.kind), f"{operation.kind.value} by {operation.by}")
        self._guarded(self._guards(operation), [*node_ops, self._put(record, new)])

    def _proceed(self, record: _Record) -> float:
        operation = record.operation
        answer = self._enter(operation)
        if not isinstance(answer, Entered):
            raise TurnLost(answer.text if isinstance(answer, Waiting) else answer.why)
        guards = self._guards(operation)
        late = operation.deadline is not None and self._runtime.now() >= operation.deadline
        turn = Turn(
            operation=operation,
            guards=guards,
            commit=lambda ops: self._guarded(guards, ops),
            stopping=late or operation.cancel is not Cancel.NO,
            abort=operation.cancel is Cancel.NOW,
        )
        progress = self._run_or_give_up(turn)
        if progress.finished:
            end = ending(operation, self._runtime.now(), progress.outcomes, progress.left)
            self._finish(record, end, progress, guards)
            return 0.0
        warnings = operation.warnings or progress.warnings
        new = replace(operation, outcomes=progress.outcomes, warnings=warnings, phase=Phase.MOVING)
        if new != operation:
            if new.phase is not operation.phase:
                move(self._log, self._thing(operation), operation.phase, new.phase, PHASE_MOVES, "planned")
            self._write(record, new, guards)
        return progress.pause

    def _run_or_give_up(self, turn: Turn) -> Progress:
        """As `_run_steps`. A step that fails is tried again, but not for ever once the operation is to end."""
        now = self._runtime.monotonic()
        try:
            progress = self._run_steps(turn)
        except CoordinationError:
            raise
        except Exception as error:  # the step boundary: a step may be a third party's
            if not turn.stopping:
                self._failing_since = None
                raise
            since = self._failing_since = now if self._failing_since is None else self._failing_since
            if now - since < GIVEN_UP:
                raise
            self._log.exception("%s: a step fails again and again", self._thing(turn.operation))
            progress = Progress(dict(turn.operation.outcomes), finished=True, left=(str(error),))
        self._failing_since = None
        return progress

    def _run_steps(self, turn: Turn) -> Progress:
        """Step the first part that has not finished; the whole is finished when all parts are, in one look."""
        flush = turn.operation.kind is OperationKind.FLUSH
        outcomes = dict(turn.operation.outcomes)
        left: list[str] = []
        warnings: list[str] = []
        for part in self._steps if flush else reversed(self._steps):
            progress = part.vacate(turn) if flush else part.restore(turn)
            outcomes.update(progress.outcomes)
            warnings.extend(progress.warnings)
            if not progress.finished:
                return Progress(outcomes, warnings=tuple(warnings), pause=progress.pause)
            left.extend(progress.left)
        return Progress(outcomes, finished=True, left=tuple(left), warnings=tuple(warnings))

    def _finish(self, record: _Record, end: End, progress: Progress, guards: tuple[Check, ...]) -> None:
        operation = record.operation
        if operation.phase is Phase.PLANNING:
            move(self._log, self._thing(operation), operation.phase, Phase.MOVING, PHASE_MOVES, "nothing to move")
            moving = replace(operation, phase=Phase.MOVING, warnings=progress.warnings)
            record = self._write(record, moving, guards)
        state = state_after(record.operation, end.phase)
        node_ops = [] if state is None else self._node_ops(state, end.message)
        self._end(record, end.phase, end.message, progress.outcomes, guards, node_ops)

    def _end(
        self,
        record: _Record,
        phase: Phase,
        message: str,
        outcomes: Mapping[str, Outcome],
        guards: tuple[Check, ...],
        node_ops: list[Op],
    ) -> None:
        operation = record.operation
        new = replace(
            operation,
            phase=phase,
            message=message,
            outcomes=outcomes,
            finished=self._runtime.now(),
            waiting="",
            waiting_since=None,
            place=None,
        )
        move(self._log, self._thing(operation), operation.phase, phase, PHASE_MOVES, message)
        history = Create(keys.history_prefix(), encode(new), sequence=True)
        self._at_gates = operation
        self._failing_since = None
        self._guarded(guards, [*node_ops, self._put(record, new), history])
        self._leave_gates(None)
        self._prune_history()

    def _requeue(self, record: _Record, why: str) -> None:
        """The turn is over though the operation is not: wait for another one."""
        self._mirror.forget()
        fresh = self._read()
        if fresh is None or fresh.operation.id != record.operation.id or fresh.operation.phase in FINAL:
            return
        operation = fresh.operation
        if operation.phase is not Phase.QUEUED:
            move(self._log, self._thing(operation), operation.phase, Phase.QUEUED, PHASE_MOVES, f"lost its turn: {why}")
            self._write(fresh, replace(operation, phase=Phase.QUEUED), ())

    def _leave_gates(self, record: _Record | None) -> None:
        """Leave the gates unless the operation that went to them still is at it. What counts is the record: the answer
        to the write that ended it may have been lost."""
        gone = self._at_gates
        if gone is None:
            return
        if record is not None and record.operation.id == gone.id and record.operation.phase not in FINAL:
            return
        for gate in reversed(self._gates):
            gate.leave(gone)
        self._at_gates = None

    def _node_ops(self, state: NodeState, why: str) -> list[Op]:
        path = keys.node(self._node)
        znode = self._coordinator.get(path)
        if znode is None:
            raise LookupError(f"{path} has vanished")
        node = decode(Node, znode.data, path)
        if node.state is state:
            return [Check(path, znode.version)]
        move(self._log, f"node {self._node}", node.state, state, NODE_MOVES, why)
        return [Put(path, encode(replace(node, state=state)), znode.version)]

    def _put(self, record: _Record, new: Operation) -> Put:
        return Put(keys.node_operation(self._node), encode(new), record.version)

    def _write(self, record: _Record, new: Operation, guards: Sequence[Check]) -> _Record:
        with self._mirror.own_write({keys.node_operation(self._node): record.version + 1}):
            self._guarded(guards, [self._put(record, new)])
        return _Record(new, record.version + 1)

    def _guarded(self, guards: Sequence[Check], ops: Sequence[Op]) -> tuple[str, ...]:
        try:
            return self._coordinator.commit([*guards, *ops])
        except Conflict as conflict:
            if any(conflict.op is guard for guard in guards):
                raise TurnLost(f"{conflict.op.path} is gone") from conflict
            raise
        finally:
            self._mirror.drop(keys.node_operation(self._node))

    def _prune_history(self) -> None:
        names = self._coordinator.children(keys.HISTORY) or ()
        for name in names[: max(0, len(names) - HISTORY_KEPT)]:
            try:
                self._coordinator.commit([Delete(f"{keys.HISTORY}/{name}")])
            except Conflict:  # another daemon was faster
                continue

    def _thing(self, operation: Operation) -> str:
        return f"{operation.kind.value} {self._node}"
