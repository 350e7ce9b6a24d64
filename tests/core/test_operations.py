"""The service that carries out an operation, on gates and steps that the test scripts."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import pytest

from pvc.core import keys, operations
from pvc.core.coordination import Check, Create, Delete, Disconnected, Put
from pvc.core.forecast import Forecast
from pvc.core.forecasting import Question
from pvc.core.model import FINAL, Cancel, Node, NodeState, Operation, OperationKind, Outcome, OutcomeState, Phase
from pvc.core.operations import OperationService
from pvc.core.records import Garbage, decode, encode
from pvc.core.requests import cancel, read_operation, request
from pvc.core.tree import tree_ops
from pvc.core.turns import Entered, FlushStep, Gate, Progress, Refused, Turn, Waiting
from pvc.testing.coordinator import FakeCoordinator, FakeEnsemble
from pvc.testing.runtime import World

FLUSH = Operation(id="op1", kind=OperationKind.FLUSH, node="hv1", by="root", requested=0.0)
UNFLUSH = replace(FLUSH, kind=OperationKind.UNFLUSH)
MOVING = {"a": Outcome("vm1", OutcomeState.MOVING, "hv1", "hv2")}
MOVED = {"a": Outcome("vm1", OutcomeState.MOVED, "hv1", "hv2")}


@dataclass
class ScriptedGate:
    """Answers what the test says; its guard is one node of the tree."""

    name: str
    journal: list[str]
    answer: Entered | Waiting | Refused = field(default_factory=Entered)
    ticket: str = ""
    exclusive: bool = False

    def enter(self, operation: Operation) -> Entered | Waiting | Refused:
        self.journal.append(f"enter {self.name}")
        return self.answer

    def foresee(self, operation: Operation) -> Entered | Waiting | Refused:
        return self.answer

    def guard(self, operation: Operation) -> Sequence[Check]:
        return [Check(self.ticket)] if self.ticket else []

    def leave(self, operation: Operation) -> None:
        self.journal.append(f"leave {self.name}")


class ScriptedStep:
    """Answers one prepared progress after the other; the last one again and again."""

    def __init__(self, name: str, journal: list[str], *script: Progress) -> None:
        self.name = name
        self.after: tuple[str, ...] = ()
        self.journal = journal
        self.script = list(script) or [Progress(finished=True)]
        self.turns: list[Turn] = []
        self.meanwhile: Callable[[Turn], object] = lambda _turn: None

    def vacate(self, turn: Turn) -> Progress:
        self.journal.append(f"vacate {self.name}")
        return self._next(turn)

    def restore(self, turn: Turn) -> Progress:
        self.journal.append(f"restore {self.name}")
        return self._next(turn)

    def foresee(self, operation: Operation) -> Forecast:
        self.journal.append(f"foresee {self.name}")
        return Forecast(warnings=(f"{operation.kind.value} by {self.name}",))

    def _next(self, turn: Turn) -> Progress:
        self.turns.append(turn)
        self.meanwhile(turn)
        return self.script.pop(0) if len(self.script) > 1 else self.script[0]


class Site:
    """One node's service, its gates and steps, and a client."""

    def __init__(self) -> None:
        self.world = World()
        self.ensemble = FakeEnsemble(self.world.process("servers"))
        self.client = self.ensemble.connect("client")
        self.client.commit([*tree_ops(), Create(keys.node("hv1"), encode(Node("hv1")))])
        self.journal: list[str] = []
        self.registered = True
        self.session: FakeCoordinator

    def service(self, gates: Sequence[Gate] = (), steps: Sequence[FlushStep] = ()) -> OperationService:
        self.session = self.ensemble.connect("hv1")
        process = self.world.process("hv1")
        return OperationService(
            "hv1",
            self.session,
            process,
            logging.getLogger("test.operations"),
            lambda: self.registered,
            gates,
            steps,
            process.signal(),
        )

    def gate(self, name: str = "gate") -> ScriptedGate:
        return ScriptedGate(name, self.journal)

    def guarded(self, name: str = "gate") -> ScriptedGate:
        """A gate whose guard is a node that exists for now."""
        gate = ScriptedGate(name, self.journal, ticket=f"/locks/{name}")
        self.client.commit([Create(gate.ticket)])
        return gate

    def steps(self, *script: Progress, name: str = "vms") -> ScriptedStep:
        return ScriptedStep(name, self.journal, *script)

    def ask(self, operation: Operation = FLUSH) -> None:
        request(self.client, operation)

    def operation(self) -> Operation:
        found = read_operation(self.client, "hv1")
        assert found is not None
        return found[0]

    def state(self) -> NodeState:
        znode = self.client.get(keys.node("hv1"))
        assert znode is not None
        return decode(Node, znode.data, "node").state

    def run(self, service: OperationService, most: int = 20) -> Operation:
        """Step until the operation has ended."""
        for _ in range(most):
            service.step()
            if self.operation().phase in FINAL:
                return self.operation()
        raise AssertionError(f"{self.operation()} has not ended after {most} steps")


@pytest.fixture
def site() -> Site:
    return Site()


def test_without_an_operation_there_is_nothing_to_do(site: Site) -> None:
    service = site.service([site.gate()], [site.steps()])
    assert service.step() >= 10
    assert site.journal == []


def test_nothing_is_done_while_the_name_is_not_ours(site: Site) -> None:
    service = site.service([site.gate()], [site.steps()])
    site.ask()
    site.registered = False
    service.step()
    assert site.journal == [] and site.operation().phase is Phase.QUEUED


def test_gates_are_entered_in_order_and_left_in_the_opposite_order(site: Site) -> None:
    service = site.service([site.gate("a"), site.gate("b")], [site.steps()])
    site.ask()
    assert site.run(service).phase is Phase.DONE
    assert site.journal[:2] == ["enter a", "enter b"]
    assert site.journal[-2:] == ["leave b", "leave a"]
    assert site.state() is NodeState.FLUSHED


def test_the_second_gate_is_not_tried_while_the_first_is_closed(site: Site) -> None:
    first = site.gate("a")
    first.answer = Waiting("hv2 is first", 1)
    service = site.service([first, site.gate("b")], [site.steps()])
    site.ask()
    service.step()
    service.step()
    assert "enter b" not in site.journal
    assert site.journal.count("enter a") == 2


def test_gates_that_keep_others_out_are_entered_after_all_that_do_not(site: Site) -> None:
    gates = [site.gate("lock"), site.gate("a"), site.gate("other lock"), site.gate("b")]
    gates[0].exclusive = gates[2].exclusive = True
    service = site.service(gates, [site.steps()])
    site.ask()
    site.run(service)
    assert site.journal[:4] == ["enter a", "enter b", "enter lock", "enter other lock"]


@pytest.mark.parametrize("answer", [Waiting("hv2 is first", 1), Refused("freeze")], ids=["waiting", "refused"])
def test_an_operation_that_one_gate_stops_holds_none_of_those_behind_it(site: Site, answer: Waiting | Refused) -> None:
    gates = [site.gate("a"), site.gate("b"), site.gate("c")]
    service = site.service(gates, [site.steps()])
    site.ask()
    service.step()
    gates[0].answer = answer
    site.journal.clear()
    service.step()
    assert site.journal == ["enter a", "leave c", "leave b"]


def test_gates_are_left_once_however_long_it_waits_at_one_before_them(site: Site) -> None:
    gates = [site.gate("a"), site.gate("b")]
    service = site.service(gates, [site.steps(Progress(MOVING))])
    site.ask()
    service.step()
    gates[0].answer = Waiting("hv2 is first", 1)
    for _ in range(4):
        service.step()
    assert site.journal.count("leave b") == 1
    gates[0].answer = Entered()
    service.step()
    gates[0].answer = Waiting("hv2 is first", 1)
    service.step()
    service.step()
    assert site.journal.count("leave b") == 2


def test_what_an_earlier_daemon_may_have_entered_is_left_too(site: Site) -> None:
    gates = [site.gate("a"), site.gate("b")]
    gates[1].answer = Waiting("hv3 is first", 1)
    site.ask()
    site.service(gates, [site.steps()]).step()
    gates[0].answer = Waiting("hv2 is first", 1)
    site.journal.clear()
    again = site.service(gates, [site.steps()])
    again.step()
    again.step()
    assert site.journal == ["enter a", "leave b", "enter a"]


def test_steps_are_vacated_in_order_and_restored_in_the_opposite_order(site: Site) -> None:
    service = site.service([], [site.steps(name="a"), site.steps(name="b")])
    site.ask()
    site.run(service)
    assert site.journal == ["vacate a", "vacate b"]
    site.journal.clear()
    site.ask(replace(UNFLUSH, id="op2"))
    site.run(service)
    assert site.journal == ["restore b", "restore a"]
    assert site.state() is NodeState.READY


def test_a_step_is_not_begun_before_the_one_before_it_has_finished(site: Site) -> None:
    first = site.steps(Progress(MOVING, pause=7.0), name="a")
    service = site.service([], [first, site.steps(name="b")])
    site.ask()
    service.step()
    assert service.step() == 7.0
    assert site.journal == ["vacate a"]
    assert (site.operation().phase, site.operation().outcomes) == (Phase.MOVING, MOVING)


def test_a_refusal_ends_the_operation_and_leaves_the_node_as_it_was(site: Site) -> None:
    gate = site.gate()
    gate.answer = Refused("change freeze until Monday")
    service = site.service([gate], [site.steps()])
    site.ask()
    ended = site.run(service)
    assert (ended.phase, ended.message) == (Phase.FAILED, "not allowed now: change freeze until Monday; 0 VMs moved")
    assert site.state() is NodeState.READY
    assert site.journal == ["enter gate", "leave gate"]


def test_what_it_waits_for_is_written_once_per_change(site: Site) -> None:
    gate = site.gate()
    gate.answer = Waiting("hv2 is first", 2, 5.0)
    service = site.service([gate], [site.steps()])
    site.ask()
    service.step()
    commits = site.ensemble.commits
    operation = site.operation()
    assert (operation.waiting, operation.place, operation.waiting_since) == ("hv2 is first", 2, 5.0)
    for _ in range(5):
        service.step()
    assert site.ensemble.commits == commits
    gate.answer = Waiting("hv3 is first", 1)
    service.step()
    assert site.ensemble.commits == commits + 1
    gate.answer = Entered()
    service.step()
    assert (site.operation().waiting, site.operation().place, site.operation().waiting_since) == ("", None, None)


def test_the_node_is_marked_in_the_transaction_that_begins_the_operation(site: Site) -> None:
    gate = site.guarded()
    service = site.service([gate], [site.steps(Progress(MOVING))])
    site.ask()
    seen: list[list[str]] = []
    site.ensemble.on_commit.append(lambda _name, ops, _created: seen.append([op.path for op in ops]))
    service.step()
    assert seen == [[gate.ticket, keys.node("hv1"), keys.node_operation("hv1")]]
    assert (site.operation().phase, site.state()) == (Phase.PLANNING, NodeState.FLUSHING)


def test_every_write_after_the_gates_carries_their_guards(site: Site) -> None:
    gate = site.guarded()
    service = site.service([gate], [site.steps(Progress(MOVING), Progress(MOVED, finished=True))])
    site.ask()
    seen: list[str] = []
    site.ensemble.on_commit.append(lambda name, ops, _c: seen.append(ops[0].path) if name == "hv1" else None)
    site.run(service)
    assert len(seen) >= 3
    assert set(seen) == {gate.ticket}


def test_a_step_that_lost_its_turn_commits_nothing_and_queues_again(site: Site) -> None:
    gate = site.guarded()
    step = site.steps(Progress(MOVING))
    service = site.service([gate], [step])
    site.ask()
    service.step()

    def lose(turn: Turn) -> None:
        site.client.commit([Delete(gate.ticket)])
        turn.commit([Create("/vms/moved")])

    step.meanwhile = lose
    service.step()
    assert site.client.get("/vms/moved") is None
    assert site.operation().phase is Phase.QUEUED
    assert site.state() is NodeState.FLUSHING


def test_an_operation_that_lost_its_turn_waits_for_another_and_goes_on(site: Site) -> None:
    gate = site.gate()
    step = site.steps(Progress(MOVING), Progress(MOVED, finished=True))
    service = site.service([gate], [step])
    site.ask(replace(FLUSH, queue=False))
    service.step()
    service.step()
    gate.answer = Waiting("hv2 is first", 1)
    service.step()
    assert site.operation().phase is Phase.QUEUED
    service.step()
    assert site.operation().waiting == "hv2 is first"
    assert site.journal.count("vacate vms") == 1
    gate.answer = Entered()
    ended = site.run(service)
    assert (ended.phase, ended.outcomes) == (Phase.DONE, MOVED)


def test_a_turn_lost_at_the_very_end_is_no_end(site: Site) -> None:
    gate = site.guarded()
    step = site.steps(Progress(finished=True))
    service = site.service([gate], [step])
    site.ask()
    service.step()
    step.meanwhile = lambda _turn: site.client.commit([Delete(gate.ticket)])
    service.step()
    assert site.operation().phase is Phase.QUEUED
    assert site.state() is NodeState.FLUSHING
    assert site.client.children(keys.HISTORY) == ()


@pytest.mark.parametrize("stepped", [0, 1, 2])
def test_a_restarted_daemon_goes_on_where_the_record_says(site: Site, stepped: int) -> None:
    script = [Progress(MOVING), Progress(MOVED, finished=True)]
    step = site.steps(*script)
    service = site.service([site.gate()], [step])
    site.ask()
    for _ in range(stepped):
        service.step()
    began = site.operation().began
    site.world.run_for(100)
    ended = site.run(site.service([site.gate()], [step]))
    assert (ended.phase, ended.outcomes) == (Phase.DONE, MOVED)
    assert ended.began == (began if began is not None else site.world.start + 100)
    assert site.state() is NodeState.FLUSHED


def test_a_cancelled_queued_operation_ends_without_having_touched_anything(site: Site) -> None:
    gate = site.gate()
    gate.answer = Waiting("hv2 is first", 1)
    service = site.service([gate], [site.steps()])
    site.ask()
    service.step()
    cancel(site.client, "hv1", Cancel.AFTER_CURRENT, "eve")
    ended = site.run(service)
    assert (ended.phase, ended.message) == (Phase.CANCELLED, "cancelled by eve; 0 VMs moved")
    assert site.state() is NodeState.READY
    assert site.journal[-1] == "leave gate"
    assert "vacate vms" not in site.journal


@pytest.mark.parametrize(("how", "abort"), [(Cancel.AFTER_CURRENT, False), (Cancel.NOW, True)])
def test_a_cancelled_running_operation_lets_the_step_end_and_says_so(site: Site, how: Cancel, abort: bool) -> None:
    step = site.steps(Progress(MOVING), Progress(MOVING), Progress(MOVED, finished=True, left=("vm2: x",)))
    service = site.service([site.gate()], [step])
    site.ask()
    service.step()
    service.step()
    cancel(site.client, "hv1", how, "eve")
    ended = site.run(service)
    assert [(turn.stopping, turn.abort) for turn in step.turns] == [(False, False), (True, abort), (True, abort)]
    assert (ended.phase, ended.message) == (Phase.CANCELLED, "cancelled by eve; 1 VM moved")
    assert site.state() is NodeState.READY


def test_a_deadline_stops_new_moves_and_ends_incomplete(site: Site) -> None:
    step = site.steps(Progress(MOVING), Progress(MOVED, finished=True, left=("vm2: its turn did not come",)))
    service = site.service([], [step])
    site.ask(replace(FLUSH, deadline=site.world.start + 50))
    service.step()
    service.step()
    site.world.run_for(60)
    ended = site.run(service)
    assert [turn.stopping for turn in step.turns] == [False, True]
    assert ended.phase is Phase.INCOMPLETE
    assert "before its deadline" in ended.message


@pytest.mark.parametrize("late", [False, True])
def test_a_step_that_fails_again_and_again_does_not_keep_an_operation_from_its_end(site: Site, late: bool) -> None:
    def fail(_turn: Turn) -> None:
        raise RuntimeError("the step is broken")

    def step_fails() -> None:
        with pytest.raises(RuntimeError):
            service.step()

    step, gate = site.steps(Progress(MOVING)), site.gate()
    service = site.service([gate], [step])
    site.ask(replace(FLUSH, deadline=site.world.start + 500))
    service.step()
    service.step()
    step.meanwhile = fail
    step_fails()
    site.world.run_for(300)
    step_fails()  # it is to go on, so it is tried again
    if late:
        site.world.run_for(300)
    else:
        cancel(site.client, "hv1", Cancel.NOW, "eve")
    step_fails()
    site.world.run_for(30)
    step_fails()
    site.world.run_for(31)
    ended = site.run(service)
    assert ended.phase is (Phase.INCOMPLETE if late else Phase.CANCELLED)
    assert not late or "the step is broken" in ended.message
    assert site.journal[-1] == "leave gate"


def test_a_step_that_recovers_is_not_given_up(site: Site) -> None:
    def fail(_turn: Turn) -> None:
        raise RuntimeError("not now")

    step = site.steps(Progress(MOVING))
    service = site.service([], [step])
    site.ask()
    service.step()
    service.step()
    cancel(site.client, "hv1", Cancel.NOW, "eve")
    for _ in range(3):
        step.meanwhile = fail
        with pytest.raises(RuntimeError):
            service.step()
        site.world.run_for(45)
        step.meanwhile = lambda _turn: None
        service.step()
    assert site.operation().phase is Phase.MOVING


def test_a_deadline_that_passes_at_a_gate_fails_the_operation(site: Site) -> None:
    gate = site.gate()
    gate.answer = Waiting("hv2 is first", 1)
    service = site.service([gate], [site.steps()])
    site.ask(replace(FLUSH, deadline=site.world.start + 50))
    service.step()
    site.world.run_for(60)
    ended = site.run(service)
    assert ended.phase is Phase.FAILED
    assert "hv2 is first" in ended.message
    assert site.journal[-1] == "leave gate"


def test_an_incomplete_flush_names_what_is_left_and_keeps_the_node_flushing(site: Site) -> None:
    service = site.service([], [site.steps(Progress(finished=True, left=("vm1: no room", "vm2: policy")))])
    site.ask()
    ended = site.run(service)
    assert (ended.phase, ended.message) == (Phase.INCOMPLETE, "0 VMs moved, 2 left: vm1: no room; vm2: policy")
    assert site.state() is NodeState.FLUSHING


def test_what_any_step_leaves_makes_it_incomplete(site: Site) -> None:
    steps = [site.steps(Progress(finished=True, left=("gateway: busy",)), name="a"), site.steps(name="b")]
    service = site.service([], steps)
    site.ask()
    assert site.run(service).phase is Phase.INCOMPLETE


def test_an_incomplete_unflush_leaves_the_node_ready(site: Site) -> None:
    service = site.service([], [site.steps(Progress(finished=True, left=("vm1: no room",)))])
    site.ask(UNFLUSH)
    assert site.run(service).phase is Phase.INCOMPLETE
    assert site.state() is NodeState.READY


def test_a_finished_operation_goes_to_the_history_which_is_bounded(site: Site) -> None:
    for number in range(operations.HISTORY_KEPT + 3):
        site.client.commit([Create(keys.history_prefix(), str(number).encode(), sequence=True)])
    service = site.service([], [site.steps()])
    site.ask()
    ended = site.run(service)
    names = site.client.children(keys.HISTORY) or ()
    assert len(names) == operations.HISTORY_KEPT
    last = site.client.get(f"{keys.HISTORY}/{names[-1]}")
    assert last is not None and decode(Operation, last.data, "history") == ended


def test_a_finished_operation_is_not_looked_at_again(site: Site) -> None:
    service = site.service([site.gate()], [site.steps()])
    site.ask()
    site.run(service)
    site.journal.clear()
    commits = site.ensemble.commits
    for _ in range(3):
        site.world.run_for(100)
        service.step()
    assert (site.journal, site.ensemble.commits) == ([], commits)


@pytest.mark.parametrize("applied", [True, False])
def test_the_gates_are_left_even_if_the_answer_to_the_last_write_was_lost(site: Site, applied: bool) -> None:
    step = site.steps(Progress(MOVING), Progress(finished=True))
    service = site.service([site.gate()], [step])
    site.ask()
    service.step()
    service.step()
    site.session.lose_next_commit(applied=applied)
    with pytest.raises(Disconnected):
        service.step()
    assert ("leave gate" in site.journal) is False
    for _ in range(3):
        service.step()
    assert site.operation().phase is Phase.DONE
    assert site.journal.count("leave gate") == 1


def test_a_gate_that_could_not_be_left_is_left_later(site: Site) -> None:
    class Stubborn(ScriptedGate):
        tries = 0

        def leave(self, operation: Operation) -> None:
            self.tries += 1
            if self.tries == 1:
                raise Disconnected("away")
            super().leave(operation)

    gate = Stubborn("gate", site.journal)
    service = site.service([gate], [site.steps()])
    site.ask()
    service.step()
    with pytest.raises(Disconnected):
        service.step()
    assert site.operation().phase is Phase.DONE
    service.step()
    assert gate.tries == 2


def test_a_new_operation_means_that_the_gates_of_the_old_one_are_left(site: Site) -> None:
    left: list[str] = []

    class Noting(ScriptedGate):
        def leave(self, operation: Operation) -> None:
            left.append(operation.id)

    gate = Noting("gate", site.journal, Waiting("hv2 is first", 1))
    service = site.service([gate], [site.steps()])
    site.ask()
    service.step()
    site.client.commit([Put(keys.node_operation("hv1"), encode(replace(FLUSH, id="op2")))])
    service.step()
    assert left == ["op1"]


def test_the_gates_are_left_if_the_operation_cannot_be_read_any_more(site: Site) -> None:
    gate = site.gate()
    service = site.service([gate], [site.steps(Progress(pause=1.0))])
    site.ask()
    service.step()
    service.step()
    assert "leave gate" not in site.journal
    site.client.commit([Put(keys.node_operation("hv1"), b"{}")])
    with pytest.raises(Garbage):
        service.step()
    assert site.journal[-1] == "leave gate"


def test_a_restarted_daemon_leaves_gates_that_only_its_predecessor_went_to(site: Site) -> None:
    gate = site.gate()
    gate.answer = Waiting("hv2 is first", 1)
    before = site.service([gate], [site.steps()])
    site.ask()
    before.step()
    cancel(site.client, "hv1", Cancel.NOW, "eve")
    site.journal.clear()
    assert site.run(site.service([gate], [site.steps()])).phase is Phase.CANCELLED
    assert site.journal == ["leave gate"]


def test_a_cancel_that_comes_during_a_step_is_not_overwritten(site: Site) -> None:
    step = site.steps(Progress(MOVING))
    service = site.service([], [step])
    site.ask()
    service.step()
    step.meanwhile = lambda _turn: cancel(site.client, "hv1", Cancel.NOW, "eve")
    with pytest.raises(Exception, match="changed"):
        service.step()
    assert site.operation().cancel is Cancel.NOW


def test_the_wake_of_the_service_is_set_when_an_operation_is_asked_for(site: Site) -> None:
    service = site.service([], [site.steps()])
    service.step()
    site.ask()
    assert service.wake.wait(0) is True


def test_warnings_are_stored_once_as_it_begins_to_move(site: Site) -> None:
    steps = site.steps(
        Progress(MOVING, warnings=("no further loss",)), Progress(MOVED, warnings=("another",)), Progress(finished=True)
    )
    service = site.service([], [steps])
    site.ask()
    ended = site.run(service)
    assert ended.warnings == ("no further loss",)


def test_warnings_of_all_steps_are_stored_even_if_there_is_nothing_to_move(site: Site) -> None:
    parts = [site.steps(Progress(finished=True, warnings=(name,)), name=name) for name in ("a", "b")]
    service = site.service([], parts)
    site.ask()
    assert site.run(service).warnings == ("a", "b")


def test_a_forecast_asks_the_steps_in_the_order_of_the_operation(site: Site) -> None:
    service = site.service([], [site.steps(name="a"), site.steps(name="b")])
    for kind, order in ((FLUSH, ["foresee a", "foresee b"]), (UNFLUSH, ["foresee b", "foresee a"])):
        site.journal.clear()
        question = Question(kind.kind.value, kind)
        path = keys.node_forecast("hv1")
        site.client.commit([Delete(path)] if site.client.get(path) else [])
        site.client.commit([Create(path, encode(question))])
        service.step()
        assert site.journal == order
        znode = site.client.get(path)
        assert znode is not None
        answered = decode(Question, znode.data, path)
        assert answered.answer is not None
        assert answered.answer.warnings == tuple(f"{kind.kind.value} by {one[-1]}" for one in order)
