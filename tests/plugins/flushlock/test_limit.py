"""How many nodes may be out of service: the decision as a table, and gates of several nodes on one tree."""

from dataclasses import dataclass, replace
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pvc.core import keys
from pvc.core.coordination import Conflict, Create, Put
from pvc.core.mirror import Mirror
from pvc.core.model import (
    Cancel,
    Finding,
    Node,
    NodeFacts,
    NodeState,
    Operation,
    OperationKind,
    Phase,
    Severity,
)
from pvc.core.records import encode
from pvc.core.tree import tree_ops
from pvc.core.turns import Entered, Waiting
from pvc.plugins.flushlock.decide.limit import Neighbour, flush_that_waits
from pvc.plugins.flushlock.limit import FlushLimit
from pvc.testing.coordinator import FakeCoordinator, FakeEnsemble
from pvc.testing.runtime import World

MINE = Operation("m", OperationKind.FLUSH, "hv1", "root", requested=50.0)
READY = Neighbour("hv2", NodeState.READY, True)
EARLIER = replace(MINE, id="z", node="hv2", requested=49.0)


def flushed(name: str) -> Neighbour:
    return Neighbour(name, NodeState.FLUSHED, True)


def asked(operation: Operation, **how: object) -> Neighbour:
    return replace(READY, operation=replace(operation, **how))  # type: ignore[arg-type]  # fields of Operation


COUNTED = [
    ("a node in service does not count", READY, None),
    ("a node being flushed", replace(READY, state=NodeState.FLUSHING), "hv2 is flushing"),
    ("a flushed node", replace(READY, state=NodeState.FLUSHED), "hv2 is flushed"),
    ("a node on its way back", replace(READY, state=NodeState.UNFLUSHING), "hv2 is unflushing"),
    ("a node whose daemon is silent", replace(READY, answers=False), "hv2 does not answer"),
    ("a node that is not well", replace(READY, critical="no libvirt"), "hv2 is not healthy (no libvirt)"),
    ("a node with an unreadable record", replace(READY, state=None), "the record of hv2 cannot be read"),
    ("a flush asked for earlier", asked(EARLIER), "the flush of hv2 was asked for earlier"),
    ("at the same time, of a smaller id", asked(EARLIER, requested=50.0, id="a"), "the flush of hv2 was asked for"),
    ("at the same time, of a greater id", asked(EARLIER, requested=50.0), None),
    ("a flush asked for later", asked(EARLIER, requested=51.0), None),
    ("an earlier flush that is cancelled", asked(EARLIER, cancel=Cancel.NOW), None),
    ("an earlier flush that has ended", asked(EARLIER, phase=Phase.FAILED), None),
    ("an earlier unflush", asked(EARLIER, kind=OperationKind.UNFLUSH), None),
]


@pytest.mark.parametrize(("other", "text"), [row[1:] for row in COUNTED], ids=[row[0] for row in COUNTED])
def test_what_counts_as_out_of_service(other: Neighbour, text: str | None) -> None:
    waiting = flush_that_waits(MINE, NodeState.READY, [other], 1)
    assert (waiting is None) if text is None else (waiting is not None and waiting.text.startswith(text))


def test_a_node_counts_once_whatever_is_wrong_with_it() -> None:
    bad = replace(asked(EARLIER), state=NodeState.FLUSHED, answers=False, critical="no libvirt")
    assert flush_that_waits(MINE, NodeState.READY, [bad], 2) is None


def test_who_waits_is_told_who_is_out_and_what_to_do() -> None:
    silent = Neighbour("hv3", NodeState.READY, False)
    waiting = flush_that_waits(MINE, NodeState.READY, [flushed("hv2"), silent], 2)
    assert waiting == Waiting(
        "hv2 is flushed and hv3 does not answer: 2 nodes are out of service, and at most 2 may be (max_flushed); "
        "when the work on it is done, `pvc node unflush hv2` makes room",
        0,
    )
    alone = flush_that_waits(MINE, NodeState.READY, [silent], 1)
    assert alone is not None and "bring hv3 back, or `pvc node forget` it" in alone.text
    behind = flush_that_waits(MINE, NodeState.READY, [asked(EARLIER)], 1)
    assert behind is not None and behind.place == 1 and behind.text.endswith("wait for it, or cancel it")


@pytest.mark.parametrize(
    ("operation", "state"),
    [
        (replace(MINE, kind=OperationKind.UNFLUSH), NodeState.READY),
        (replace(MINE, began=51.0), NodeState.READY),
        (MINE, NodeState.FLUSHED),
        (MINE, NodeState.FLUSHING),
    ],
    ids=["an unflush", "a flush that has begun", "of a flushed node", "of a node that was flushed incompletely"],
)
def test_what_takes_no_further_node_out_of_service_never_waits(operation: Operation, state: NodeState) -> None:
    assert flush_that_waits(operation, state, [flushed("hv2"), flushed("hv3")], 1) is None


requests = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), min_size=1, max_size=6, unique_by=lambda r: r[1])


@given(requests=requests, most=st.integers(1, 3))
def test_of_flushes_that_all_wait_exactly_the_first_ones_go(requests: list[tuple[int, int]], most: int) -> None:
    waiting = [
        replace(MINE, id=str(number), node=f"hv{number}", requested=float(requested)) for requested, number in requests
    ]
    nodes = {op.node: Neighbour(op.node, NodeState.READY, True, operation=op) for op in waiting}
    go = [
        op.node
        for op in waiting
        if flush_that_waits(op, NodeState.READY, [n for name, n in nodes.items() if name != op.node], most) is None
    ]
    first = sorted(waiting, key=lambda op: (op.requested, op.id))[:most]
    assert sorted(go) == sorted(op.node for op in first)


@dataclass
class Daemon:
    """One node's session, its gate and its flush."""

    session: FakeCoordinator
    gate: FlushLimit
    operation: Operation

    def enters(self) -> bool:
        return isinstance(self.gate.enter(self.operation), Entered)

    def begin(self) -> None:
        """What core commits when the flush has its turn."""
        node = encode(Node(self.operation.node, NodeState.FLUSHING))
        self.session.commit([*self.gate.guard(self.operation), Put(keys.node(self.operation.node), node)])


class Site:
    """Three nodes that serve."""

    def __init__(self, most: int = 1) -> None:
        self.world = World()
        self.ensemble = FakeEnsemble(self.world.process("servers"), expire_after=10.0)
        self.admin = self.ensemble.connect("admin")
        self.admin.commit(tree_ops())
        self.daemons = [self._daemon(f"hv{number}", most) for number in (1, 2, 3)]

    def _daemon(self, node: str, most: int) -> Daemon:
        session = self.ensemble.connect(node)
        self.admin.commit([Create(keys.node(node), encode(Node(node)))])
        session.commit([Create(keys.node_session(node), ephemeral=True)])
        process = self.world.process(node)
        wanted = replace(MINE, id=f"op-{node}", node=node)
        return Daemon(session, FlushLimit(Mirror(session, process, process.signal()), lambda: most), wanted)

    def mark(self, node: str, state: NodeState) -> None:
        self.admin.commit([Put(keys.node(node), encode(Node(node, state)))])


@pytest.fixture
def site() -> Site:
    return Site()


@pytest.mark.parametrize("pair", list(combinations(range(3), 2)))
def test_two_flushes_that_saw_the_same_free_place_do_not_both_take_it(site: Site, pair: tuple[int, int]) -> None:
    one, other = (site.daemons[number] for number in pair)
    assert one.enters() and other.enters()
    one.begin()
    with pytest.raises(Conflict):
        other.begin()
    assert not other.enters()


def test_a_flush_does_not_begin_if_a_node_falls_silent_at_the_last_moment(site: Site) -> None:
    one, other = site.daemons[:2]
    assert one.enters()
    other.session.close()
    with pytest.raises(Conflict):
        one.begin()
    assert not one.enters()


def test_what_was_demanded_in_vain_is_looked_at_again_though_the_news_got_lost(site: Site) -> None:
    one = site.daemons[0]
    assert one.enters()
    one.session.lose_events(100)
    site.mark("hv2", NodeState.FLUSHED)
    assert one.enters()
    with pytest.raises(Conflict):
        one.begin()
    assert not one.enters()


def test_an_outdated_belief_that_the_own_node_is_out_of_service_does_not_let_it_begin(site: Site) -> None:
    one = site.daemons[0]
    site.mark("hv1", NodeState.FLUSHED)
    site.mark("hv2", NodeState.FLUSHED)
    assert one.enters()
    one.session.lose_events(100)
    site.mark("hv1", NodeState.READY)
    assert one.enters()
    with pytest.raises(Conflict):
        one.begin()
    assert not one.enters()


def test_an_operation_that_has_begun_demands_nothing_and_never_waits(site: Site) -> None:
    one, other = site.daemons[:2]
    assert one.enters()
    one.operation = replace(one.operation, began=60.0)
    site.mark("hv2", NodeState.FLUSHED)
    other.session.close()
    assert one.enters()
    assert one.gate.guard(one.operation) == []


def test_a_critical_finding_of_another_node_counts_until_it_is_gone(site: Site) -> None:
    facts = NodeFacts(findings=(Finding("x", Severity.WARNING, "w"), Finding("x", Severity.CRITICAL, "no libvirt")))
    site.admin.commit([Create(keys.node_facts("hv2"), encode(facts))])
    answer = site.daemons[0].gate.enter(MINE)
    assert isinstance(answer, Waiting) and answer.text.startswith("hv2 is not healthy (no libvirt)")
    site.admin.commit([Put(keys.node_facts("hv2"), encode(NodeFacts()))])
    assert site.daemons[0].enters()


def test_the_gate_wakes_the_operation_when_the_node_it_waits_for_is_back(site: Site) -> None:
    session, process = site.ensemble.connect("hv1"), site.world.process("hv1")
    wake = process.signal()
    gate = FlushLimit(Mirror(session, process, wake), lambda: 1)
    site.mark("hv2", NodeState.FLUSHED)
    assert isinstance(gate.enter(MINE), Waiting)
    site.mark("hv2", NodeState.READY)
    assert wake.wait(0) is True
