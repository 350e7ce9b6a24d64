"""Reading finished operations: the newest first, as many as were asked for, whatever lies among them."""

from dataclasses import replace

import pytest

from pvc.core import keys
from pvc.core.coordination import Create, Delete
from pvc.core.history import TOGETHER, read_history
from pvc.core.model import Operation, OperationKind, Phase
from pvc.core.records import encode
from pvc.core.tree import tree_ops
from pvc.testing.coordinator import FakeCoordinator, FakeEnsemble
from pvc.testing.runtime import World

DONE = Operation(id="0", kind=OperationKind.FLUSH, node="hv1", by="root", requested=0.0, phase=Phase.DONE)
MANY = 2 * TOGETHER + 7


@pytest.fixture
def client() -> FakeCoordinator:
    session = FakeEnsemble(World().process("servers")).connect("client")
    session.commit(tree_ops())
    return session


def write(client: FakeCoordinator, operation: Operation | None) -> None:
    data = b"junk" if operation is None else encode(operation)
    client.commit([Create(keys.history_prefix(), data, sequence=True)])


def test_without_a_history_there_is_nothing(client: FakeCoordinator) -> None:
    assert read_history(client) == ([], [])


@pytest.mark.parametrize("most", [1, TOGETHER - 1, TOGETHER, TOGETHER + 1, MANY, MANY + 5])
def test_the_newest_come_first_and_no_more_than_asked_for(client: FakeCoordinator, most: int) -> None:
    for number in range(MANY):
        write(client, replace(DONE, id=str(number)))
    found, garbage = read_history(client, most)
    assert [operation.id for operation in found] == [str(number) for number in reversed(range(MANY))][:most]
    assert garbage == []


def test_what_is_not_wanted_does_not_count(client: FakeCoordinator) -> None:
    for number in range(MANY):
        write(client, replace(DONE, id=str(number), node=f"hv{number % 3}"))
    found, _ = read_history(client, 2, lambda operation: operation.node == "hv1")
    assert [int(operation.id) % 3 for operation in found] == [1, 1]


def test_what_cannot_be_read_is_reported_and_skipped(client: FakeCoordinator) -> None:
    for operation in (DONE, None, replace(DONE, id="1")):
        write(client, operation)
    found, (garbage,) = read_history(client, 2)
    assert [operation.id for operation in found] == ["1", "0"]
    assert garbage.path.startswith(keys.HISTORY + "/")


def test_what_makes_room_for_a_newer_one_meanwhile_is_skipped(client: FakeCoordinator) -> None:
    for number in range(3):
        write(client, replace(DONE, id=str(number)))
    calls = 0

    def prune() -> float:
        nonlocal calls
        calls += 1
        if calls == 2:
            client.latency = float
            client.commit([Delete(f"{keys.HISTORY}/{(client.children(keys.HISTORY) or ())[0]}")])
        return 0.0

    client.latency = prune
    assert [operation.id for operation in read_history(client)[0]] == ["2", "1"]
    assert calls == 2
