"""Whether the loss of one more node could be made up for: as a table, and against an exhaustive search."""

import itertools
import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pvc.core.model import NodeState
from pvc.plugins.hypervisor.decide.placement import Candidate
from pvc.plugins.hypervisor.decide.survival import Loss, losses, vms_of
from tests.plugins.hypervisor.vms import candidate

FLUSHED = NodeState.FLUSHED

TABLE: list[tuple[str, list[Candidate], int, list[Loss]]] = [
    ("no node", [], 0, []),
    ("a node without VMs is no loss", [candidate("hv1")], 0, []),
    ("one node with a VM", [candidate("hv1", vms={"a": 100})], 0, [Loss("hv1", 1, 100)]),
    ("the other has room", [candidate("hv1", vms={"a": 1024}), candidate("hv2")], 0, []),
    (
        "each has too much for the other",
        [candidate("hv1", vms={"a": 600}), candidate("hv2", vms={"b": 500})],
        0,
        [Loss("hv1", 1, 600), Loss("hv2", 1, 500)],
    ),
    (
        "what fits is not counted",
        [
            candidate("hv1", vms={"a": 600, "b": 300, "c": 200}, memory=1200),
            candidate("hv2", vms={"d": 100}, memory=800),
        ],
        0,
        [Loss("hv1", 2, 500)],
    ),
    (
        "head-room is not used",
        [candidate("hv1", vms={"a": 1000}), candidate("hv2")],
        100,
        [Loss("hv1", 1, 1000)],
    ),
    (
        "a node out of service neither helps nor is lost",
        [candidate("hv1", vms={"a": 100}), candidate("hv2", state=FLUSHED, vms={"b": 100})],
        0,
        [Loss("hv1", 1, 100)],
    ),
    (
        "a limit keeps a VM from the node with room",
        [candidate("hv1", vms={"a": 100}, limits={"a": ("hv1", "hv3")}), candidate("hv2")],
        0,
        [Loss("hv1", 1, 100)],
    ),
    (
        "so does its spread group",
        [
            candidate("hv1", vms={"a": 100}, spread={"a": "db"}),
            candidate("hv2", vms={"b": 100}, spread={"b": "db"}),
        ],
        0,
        [Loss("hv1", 1, 100), Loss("hv2", 1, 100)],
    ),
    (
        "where largest first fails a plan is searched for",
        [
            candidate("hv1", vms={"a": 300, "b": 300, "c": 200, "d": 200, "e": 200}, memory=1200),
            candidate("hv2", memory=600),
            candidate("hv3", memory=600),
        ],
        0,
        [],
    ),
]


@pytest.mark.parametrize(("nodes", "head_room", "lost"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_losses(nodes: list[Candidate], head_room: int, lost: list[Loss]) -> None:
    assert losses(nodes, head_room) == lost
    assert losses(list(reversed(nodes)), head_room) == lost


def random_nodes(chance: random.Random) -> list[Candidate]:
    """Up to four nodes of up to four VMs, rather full."""
    names = [f"hv{n + 1}" for n in range(chance.randint(2, 4))]
    nodes = []
    for name in names:
        vms = {f"{name}-{n}": chance.randint(1, 6) for n in range(chance.randint(0, 4))}
        spread = {uuid: "db" for uuid in vms if chance.random() < 0.2}
        spread = dict(list(spread.items())[:1])
        limits = {uuid: (name, chance.choice(names)) for uuid in vms if chance.random() < 0.1}
        memory = sum(vms.values()) + chance.choice((0, 1, 3, 6, 10))
        nodes.append(candidate(name, memory=memory, vms=vms, spread=spread, limits=limits))
    return nodes


def survives(node: Candidate, rest: Sequence[Candidate]) -> bool:
    """Whether any way at all brings all the VMs of a node to the others."""
    vms = vms_of(node)
    for choice in itertools.product(rest, repeat=len(vms)):
        there = {one.name: [vm for vm, its in zip(vms, choice, strict=True) if its is one] for one in rest}
        if all(
            sum(vm.memory for vm in there[one.name]) + sum(one.vms.values()) <= (one.memory or 0)
            and all(not vm.nodes or one.name in vm.nodes for vm in there[one.name])
            and [*one.spread.values(), *(vm.spread for vm in there[one.name])].count("db") <= 1
            for one in rest
        ):
            return True
    return not vms


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_a_node_is_called_a_loss_exactly_if_no_way_brings_its_vms_to_the_others(seed: int) -> None:
    nodes = random_nodes(random.Random(seed))
    lost = {one.node for one in losses(nodes)}
    for node in nodes:
        assert (node.name not in lost) is survives(node, [other for other in nodes if other is not node])


def test_such_clusters_survive_some_losses_and_not_others() -> None:
    found = [bool(losses(random_nodes(random.Random(seed)))) for seed in range(50)]
    assert found.count(True) > 5 and found.count(False) > 5


def test_vms_of_a_node_are_as_it_published_them() -> None:
    node = candidate("hv1", vms={"a": 100, "b": 50}, vcpus={"a": 4}, spread={"b": "db"}, limits={"a": ("hv1",)})
    a, b = vms_of(node)
    assert (a.memory, a.vcpus, a.nodes, a.spread) == (100, 4, ("hv1",), None)
    assert (b.memory, b.vcpus, b.nodes, b.spread) == (50, 1, (), "db")
