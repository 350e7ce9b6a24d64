"""What clients ask of a node: asking twice is asking once, and nobody's answer is overwritten."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from pvc.core import keys
from pvc.core.coordination import Conflict, Coordinator, Create, Op, Put
from pvc.core.errors import PvcError
from pvc.core.model import FINAL, Cancel, Node, NodeState, Operation, OperationKind, Phase
from pvc.core.records import Garbage, decode, encode
from pvc.core.requests import OppositeRunning, cancel, read_operation, request
from pvc.core.tree import tree_ops
from pvc.testing.coordinator import FakeCoordinator, FakeEnsemble
from pvc.testing.runtime import World

FLUSH = Operation(id="op1", kind=OperationKind.FLUSH, node="hv1", by="root", requested=0.0)


class Site:
    def __init__(self) -> None:
        self.ensemble = FakeEnsemble(World().process("servers"))
        self.client = self.ensemble.connect("client")
        self.daemon = self.ensemble.connect("hv1")
        self.client.commit([*tree_ops(), Create(keys.node("hv1"), encode(Node("hv1", NodeState.FLUSHED)))])

    def write(self, operation: Operation) -> None:
        self.daemon.commit([Put(keys.node_operation("hv1"), encode(operation))])

    def operation(self) -> Operation:
        found = read_operation(self.client, "hv1")
        assert found is not None
        return found[0]

    def node(self) -> tuple[Node, int]:
        znode = self.client.get(keys.node("hv1"))
        assert znode is not None
        return decode(Node, znode.data, "node"), znode.version


@pytest.fixture
def site() -> Site:
    return Site()


class Interrupted(FakeCoordinator):
    """A session before each of whose first commits somebody else writes."""

    def __init__(self, site: Site, times: int, what: Sequence[Op]) -> None:
        super().__init__(site.ensemble, "interrupted")
        self._times = times
        self._what = what
        self._other = site.daemon

    def commit(self, ops: Sequence[Op]) -> tuple[str, ...]:
        if self._times:
            self._times -= 1
            self._other.commit(self._what)
        return super().commit(ops)


def test_the_first_request_is_written_and_rewrites_the_nodes_record(site: Site) -> None:
    _, before = site.node()
    asked = request(site.client, FLUSH)
    assert (asked.operation, asked.attached) == (FLUSH, False)
    assert site.operation() == FLUSH
    assert site.node() == (Node("hv1", NodeState.FLUSHED, operation="op1"), before + 1)


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase not in FINAL])
def test_asking_again_attaches_to_the_one_that_is_active(site: Site, phase: Phase) -> None:
    request(site.client, FLUSH)
    site.write(replace(FLUSH, phase=phase))
    commits = site.ensemble.commits
    asked = request(site.client, replace(FLUSH, id="op2"))
    assert (asked.operation.id, asked.attached) == ("op1", True)
    assert site.ensemble.commits == commits


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase in FINAL])
def test_after_the_end_a_new_one_begins(site: Site, phase: Phase) -> None:
    request(site.client, FLUSH)
    site.write(replace(FLUSH, phase=phase))
    asked = request(site.client, replace(FLUSH, id="op2"))
    assert not asked.attached
    assert site.operation().id == "op2"


def test_the_opposite_must_end_first_and_the_message_says_how(site: Site) -> None:
    request(site.client, FLUSH)
    with pytest.raises(OppositeRunning, match=r"hv1 has a running flush; cancel it with `pvc node cancel hv1`") as info:
        request(site.client, replace(FLUSH, id="op2", kind=OperationKind.UNFLUSH))
    assert info.value.operation == FLUSH
    assert site.operation() == FLUSH


def test_a_node_that_is_not_there_is_an_error_that_says_where_to_look(site: Site) -> None:
    with pytest.raises(PvcError, match="there is no node hv9"):
        request(site.client, replace(FLUSH, node="hv9"))


def test_two_clients_at_the_same_moment_get_the_same_operation(site: Site) -> None:
    rival = replace(FLUSH, id="rival")
    slow = Interrupted(site, 1, [Create(keys.node_operation("hv1"), encode(rival))])
    asked = request(slow, FLUSH)
    assert (asked.operation.id, asked.attached) == ("rival", True)


def test_a_request_survives_that_the_daemon_writes_at_the_same_moment(site: Site) -> None:
    busy = Interrupted(site, 3, [Put(keys.node("hv1"), encode(Node("hv1", NodeState.READY)))])
    assert request(busy, FLUSH).operation == FLUSH


def test_a_record_that_never_rests_is_an_error_in_the_end(site: Site) -> None:
    busy = Interrupted(site, 1000, [Put(keys.node("hv1"), encode(Node("hv1")))])
    with pytest.raises(Conflict):
        request(busy, FLUSH)


@pytest.mark.parametrize("how", [Cancel.AFTER_CURRENT, Cancel.NOW])
def test_a_cancel_is_written_into_the_active_operation(site: Site, how: Cancel) -> None:
    request(site.client, FLUSH)
    assert cancel(site.client, "hv1", how, "eve") == replace(FLUSH, cancel=how, cancelled_by="eve")
    assert site.operation() == replace(FLUSH, cancel=how, cancelled_by="eve")


def test_a_cancel_that_asks_for_less_does_not_take_back_one_that_asked_for_more(site: Site) -> None:
    request(site.client, FLUSH)
    cancel(site.client, "hv1", Cancel.AFTER_CURRENT, "eve")
    now = cancel(site.client, "hv1", Cancel.NOW, "eve")
    assert cancel(site.client, "hv1", Cancel.AFTER_CURRENT, "adam") == now == site.operation()
    assert site.operation().cancel is Cancel.NOW


def test_there_is_nothing_to_cancel_before_and_after_an_operation(site: Site) -> None:
    assert cancel(site.client, "hv1", Cancel.NOW, "eve") is None
    request(site.client, FLUSH)
    site.write(replace(FLUSH, phase=Phase.DONE))
    assert cancel(site.client, "hv1", Cancel.NOW, "eve") is None
    assert site.operation().cancel is Cancel.NO


def test_a_cancel_does_not_overwrite_the_daemons_progress(site: Site) -> None:
    request(site.client, FLUSH)
    busy = Interrupted(site, 1, [Put(keys.node_operation("hv1"), encode(replace(FLUSH, phase=Phase.PLANNING)))])
    cancel(busy, "hv1", Cancel.NOW, "eve")
    assert (site.operation().phase, site.operation().cancel) == (Phase.PLANNING, Cancel.NOW)


def test_a_cancel_that_comes_as_the_operation_ends_changes_nothing(site: Site) -> None:
    request(site.client, FLUSH)
    busy = Interrupted(site, 1, [Put(keys.node_operation("hv1"), encode(replace(FLUSH, phase=Phase.DONE)))])
    assert cancel(busy, "hv1", Cancel.NOW, "eve") is None
    assert site.operation().phase is Phase.DONE


def test_an_operation_that_is_junk_is_reported_and_not_overwritten(site: Site) -> None:
    site.daemon.commit([Create(keys.node_operation("hv1"), b"junk")])
    client: Coordinator = site.client
    for ask in (lambda: request(client, FLUSH), lambda: cancel(client, "hv1", Cancel.NOW, "eve")):
        with pytest.raises(Garbage, match="/nodes/hv1/operation"):
            ask()
