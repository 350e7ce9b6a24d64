"""A joint plan: what holds for each, that none is missed, and which node is the best."""

import itertools
import random
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pvc.core.context import Verdict
from pvc.core.forecast import Objection
from pvc.core.model import NodeState, Vm
from pvc.plugins.hypervisor.decide.placement import Candidate
from pvc.plugins.hypervisor.decide.planner import (
    SELECTOR_OPTION,
    Layout,
    Selector,
    Wanted,
    lay_out,
    selector_of,
)
from tests.plugins.hypervisor.vms import candidate, vm

several = settings(max_examples=150, deadline=None)
NODES = ("hv1", "hv2", "hv3", "hv4")
UUIDS = ("u0", "u1", "u2", "u3", "u4")
THERE = ("u0", "u1", "x", "y")
"""VMs that nodes may hold already: two of those that want a node, and two strangers."""


def wish(number: int, memory: int = 128, **how: Any) -> Wanted:
    known = {name: how.pop(name) for name in ("excluded", "verdicts", "selector", "preferred") if name in how}
    return Wanted(vm(uuid=f"u{number}", name=f"vm{number}", memory=memory, **how), **known)


def targets(layout: Layout) -> dict[str, str]:
    return {placed.vm.uuid: placed.node for placed in layout.placed}


# What holds for every plan.

candidates = st.lists(
    st.builds(
        candidate,
        name=st.sampled_from(NODES),
        alive=st.sampled_from([True] * 5 + [False]),
        state=st.sampled_from([NodeState.READY] * 6 + list(NodeState)),
        roles=st.sampled_from([("hypervisor",)] * 5 + [()]),
        memory=st.sampled_from([None, 300, 500, 1000, 2000]),
        flush_asked=st.sampled_from([False] * 5 + [True]),
        vms=st.dictionaries(st.sampled_from(THERE), st.integers(0, 700), max_size=2),
        spread=st.dictionaries(st.sampled_from(THERE), st.sampled_from(["db", "web"]), max_size=2),
    ),
    max_size=4,
    unique_by=lambda node: node.name,
)
wishes = st.lists(
    st.builds(
        wish,
        st.integers(0, 4),
        memory=st.integers(1, 900),
        nodes=st.sampled_from([()] * 4 + [("hv1",), ("hv2", "hv3")]),
        spread=st.sampled_from([None, None, "db", "web"]),
        excluded=st.sampled_from([{}, {}, {"hv1": Objection("was tried and failed")}]),
        verdicts=st.sampled_from([{}, {}, {"hv2": Verdict("veto", 1e9)}, {"hv3": Verdict(score=5.0)}]),
        selector=st.sampled_from(Selector),
        preferred=st.sampled_from([None, "hv2", "hv9"]),
    ),
    max_size=5,
    unique_by=lambda one: one.vm.uuid,
)
promises = st.dictionaries(
    st.sampled_from(NODES),
    st.lists(
        st.builds(
            lambda uuid, memory, spread: vm(uuid=uuid, name=uuid, memory=memory, spread=spread),
            st.sampled_from(["x", "z"]),
            st.integers(1, 500),
            st.sampled_from([None, "db"]),
        ),
        max_size=2,
        unique_by=lambda one: one.uuid,
    ),
    max_size=2,
)


@several
@given(wishes, candidates, promises, st.sampled_from([0, 0, 100]), st.randoms(use_true_random=False))
def test_a_plan_promises_nothing_that_a_node_cannot_keep(
    wanted: list[Wanted],
    nodes: list[Candidate],
    promised: Mapping[str, Sequence[Vm]],
    head_room: int,
    chance: random.Random,
) -> None:
    layout = lay_out(wanted, nodes, head_room=head_room, promised=promised)
    chosen, by_name = targets(layout), {node.name: node for node in nodes}
    assert {one.vm.uuid for one in wanted} == {*chosen, *layout.unplaced}
    assert len(chosen) == len(layout.placed) and not set(chosen) & set(layout.unplaced)
    for one in wanted:
        if one.vm.uuid in layout.unplaced:
            assert set(layout.unplaced[one.vm.uuid]) == set(by_name), "a node without an objection could take it"
        else:
            _demand_fit(one, by_name[chosen[one.vm.uuid]])
    for name, node in by_name.items():
        _demand_room(node, [one.vm for one in wanted if chosen.get(one.vm.uuid) == name], promised, head_room)
    shuffled, mixed = list(wanted), list(nodes)
    chance.shuffle(shuffled)
    chance.shuffle(mixed)
    assert lay_out(shuffled, mixed, head_room=head_room, promised=promised) == layout


def _demand_fit(one: Wanted, node: Candidate) -> None:
    """The node is in service, and nothing speaks against this VM on it."""
    assert node.alive and node.state is NodeState.READY and not node.flush_asked and "hypervisor" in node.roles
    assert not one.vm.nodes or node.name in one.vm.nodes
    assert node.name not in one.excluded
    assert node.name not in one.verdicts or not one.verdicts[node.name].veto


def _demand_room(node: Candidate, new: list[Vm], promised: Mapping[str, Sequence[Vm]], head_room: int) -> None:
    """All that is promised to the node fits beside what it has, each counted once, and no group is there twice."""
    if not new:
        return
    expected = promised.get(node.name, ())
    claims = {**node.vms, **{one.uuid: one.memory for one in (*expected, *new)}}
    assert node.memory is not None and sum(claims.values()) <= node.memory - head_room
    groups = {**node.spread, **{one.uuid: one.spread for one in (*expected, *new) if one.spread}}
    for one in new:
        assert not one.spread or list(groups.values()).count(one.spread) == 1


def test_placed_tells_what_is_left_as_they_come_and_the_largest_comes_first() -> None:
    layout = lay_out([wish(1, 100), wish(2, 600), wish(3, 100)], [candidate("hv2")])
    assert [(placed.vm.name, placed.free_after) for placed in layout.placed] == [
        ("vm2", 424),
        ("vm1", 324),
        ("vm3", 224),
    ]


def test_what_a_vm_needs_less_than_was_set_aside_for_it_is_there_for_others() -> None:
    shrunk, larger = wish(1, 100), wish(2, 300)
    node = candidate("hv2", memory=500, vms={"u1": 400})
    assert targets(lay_out([shrunk, larger], [node])) == {"u1": "hv2", "u2": "hv2"}


def test_two_of_a_spread_group_in_one_plan_are_kept_apart() -> None:
    both = [wish(1, spread="db"), wish(2, spread="db")]
    assert targets(lay_out(both, [candidate("hv2", memory=9000), candidate("hv3")])) == {"u1": "hv2", "u2": "hv3"}
    alone = lay_out(both, [candidate("hv2")])
    assert targets(alone) == {"u1": "hv2"}
    assert alone.unplaced["u2"]["hv2"].why == "runs another VM of spread group db"


def test_without_nodes_nothing_is_placed_and_there_is_nothing_to_object() -> None:
    assert lay_out([wish(1)], []) == Layout((), {"u1": {}})


# None is missed.

TIGHT: list[tuple[str, list[Wanted], list[Candidate]]] = [
    (
        "the largest takes the only node that another may go to",
        [wish(0, 800), wish(1, 700, nodes=("hv2",))],
        [candidate("hv2", memory=1000), candidate("hv3", memory=800)],
    ),
    (
        "3 3 2 2 2 into two of six",
        [wish(n, memory) for n, memory in enumerate((300, 300, 200, 200, 200))],
        [candidate("hv2", memory=600), candidate("hv3", memory=600)],
    ),
    (
        "a spread group wants the node that has most room",
        [wish(0, 400), wish(1, 300, spread="db", nodes=("hv2",))],
        [candidate("hv2", memory=500), candidate("hv3", memory=400)],
    ),
]


@pytest.mark.parametrize(("wanted", "nodes"), [row[1:] for row in TIGHT], ids=[row[0] for row in TIGHT])
def test_where_largest_first_fails_a_plan_is_found_all_the_same(wanted: list[Wanted], nodes: list[Candidate]) -> None:
    assert not lay_out(wanted, nodes).unplaced
    assert lay_out(wanted, nodes, effort=0).unplaced, "largest first would have done: the case is not tight"
    assert not lay_out(list(reversed(wanted)), list(reversed(nodes))).unplaced


tight = st.integers(0, 2**32 - 1).map(random.Random)
"""Cases cut out of full nodes, so that there is a plan and hardly any slack."""


def tight_case(chance: random.Random) -> tuple[list[Wanted], list[Candidate]]:
    """Up to five VMs and four nodes that have just room for them."""
    sizes: dict[str, list[int]] = {name: [] for name in NODES[: chance.randint(2, 4)]}
    for _ in range(chance.randint(2, 5)):
        sizes[chance.choice(list(sizes))].append(chance.randint(1, 9))
    nodes = [candidate(name, memory=sum(there) + chance.choice((0, 0, 0, 1))) for name, there in sizes.items()]
    wanted: list[Wanted] = []
    for name, there in sizes.items():
        for memory in there:
            nodes_of_it = (name,) if chance.random() < 0.1 else ()
            spread = "db" if chance.random() < 0.3 else None
            wanted.append(wish(len(wanted), memory, nodes=nodes_of_it, spread=spread))
    return wanted, nodes


def exhaustive(wanted: Sequence[Wanted], nodes: Sequence[Candidate]) -> bool:
    """Whether any way at all to distribute the VMs is a plan."""
    for choice in itertools.product(nodes, repeat=len(wanted)):
        if all(_fits(node, [one for one, its in zip(wanted, choice, strict=True) if its is node]) for node in nodes):
            return True
    return False


def _fits(node: Candidate, there: Sequence[Wanted]) -> bool:
    groups = [one.vm.spread for one in there if one.vm.spread]
    return (
        sum(one.vm.memory for one in there) <= (node.memory or 0)
        and len(groups) == len(set(groups))
        and all(not one.vm.nodes or node.name in one.vm.nodes for one in there)
    )


@several
@given(tight)
def test_a_plan_for_all_is_found_whenever_there_is_one(chance: random.Random) -> None:
    wanted, nodes = tight_case(chance)
    assert (not lay_out(wanted, nodes).unplaced) is exhaustive(wanted, nodes)


def test_such_cases_are_tight_often_enough() -> None:
    cases = [tight_case(random.Random(seed)) for seed in range(300)]
    missed = [case for case in cases if lay_out(*case, effort=0).unplaced and not lay_out(*case).unplaced]
    impossible = [case for case in cases if not exhaustive(*case)]
    assert len(missed) >= 10 and len(impossible) >= 10


def test_what_no_node_takes_does_not_keep_the_others_from_being_searched_for() -> None:
    wanted, nodes = TIGHT[1][1:]
    layout = lay_out([*wanted, wish(9, 5000)], nodes)
    assert set(layout.unplaced) == {"u9"}
    assert set(layout.unplaced["u9"]) == {"hv2", "hv3"}


def test_an_effort_that_is_used_up_leaves_the_plan_of_largest_first() -> None:
    wanted, nodes = TIGHT[1][1:]
    greedy = lay_out(wanted, nodes, effort=0)
    assert [placed.vm.memory for placed in greedy.placed] == [300, 300, 200, 200]
    assert lay_out(wanted, nodes, effort=10) == greedy


def test_a_large_question_without_an_answer_is_given_up() -> None:
    """Every pair but one fits, so nothing but the effort ends the search before the universe does."""
    wanted = [wish(n, 501, nodes=tuple(f"hv{m}" for m in range(40) if (n + m) % 7)) for n in range(41)]
    nodes = [candidate(f"hv{n}", memory=1000) for n in range(40)] + [candidate("hv99", memory=900)]
    layout = lay_out(wanted, nodes)
    assert len(layout.placed) == 40 and len(layout.unplaced) == 1


# The best node.


def best(selector: Selector, *nodes: Candidate, **how: Any) -> str:
    return lay_out([wish(1, selector=selector, **how)], nodes).placed[0].node


def test_mem_takes_the_node_with_most_memory_free() -> None:
    small, roomy = candidate("hv2", memory=1000), candidate("hv3", memory=2000, vms={"x": 900})
    assert best(Selector.MEM, small, roomy) == "hv3"
    assert best(Selector.MEM, small, candidate("hv3", memory=2000, vms={"x": 1001})) == "hv2"


def test_vcpus_takes_the_node_with_fewest_for_each_of_its_own() -> None:
    few = candidate("hv2", cpus=2, vms={"x": 1}, vcpus={"x": 2})
    many = candidate("hv3", cpus=16, vms={"y": 1}, vcpus={"y": 8})
    assert best(Selector.VCPUS, few, many) == "hv3"
    assert best(Selector.VCPUS, few, candidate("hv3", cpus=8, vms={"y": 1}, vcpus={"y": 9})) == "hv2"


def test_load_takes_the_node_with_the_lowest_for_each_processor() -> None:
    assert best(Selector.LOAD, candidate("hv2", cpus=2, load=1.0), candidate("hv3", cpus=16, load=4.0)) == "hv3"
    assert best(Selector.LOAD, candidate("hv2", cpus=2, load=0.4), candidate("hv3", cpus=16, load=4.0)) == "hv2"


def test_with_load_what_is_promised_counts_as_load_to_come() -> None:
    nodes = [candidate("hv2", cpus=4, load=0.0), candidate("hv3", cpus=4, load=1.0)]
    wanted = [wish(n, selector=Selector.LOAD, vcpus=2) for n in (1, 2)]
    assert targets(lay_out(wanted, nodes)) == {"u1": "hv2", "u2": "hv3"}


def test_vms_takes_the_node_with_fewest() -> None:
    nodes = (candidate("hv2", vms={"x": 1, "y": 1}), candidate("hv3", vms={"z": 800}))
    assert best(Selector.VMS, *nodes) == "hv3"


@pytest.mark.parametrize("selector", Selector)
def test_among_equals_the_first_by_name_is_taken(selector: Selector) -> None:
    assert best(selector, candidate("hv3"), candidate("hv2"), candidate("hv4")) == "hv2"


@pytest.mark.parametrize("selector", Selector)
def test_a_plugins_score_goes_before_a_preferred_node_and_that_before_the_selector(selector: Selector) -> None:
    worse = candidate("hv3", memory=500, cpus=1, load=9.0, vms={"x": 200}, vcpus={"x": 9})
    nodes = (candidate("hv2", cpus=4, load=0.0), worse)
    assert best(selector, *nodes) == "hv2"
    assert best(selector, *nodes, preferred="hv3") == "hv3"
    assert best(selector, *nodes, preferred="hv3", verdicts={"hv2": Verdict(score=0.1)}) == "hv2"
    assert best(selector, *nodes, verdicts={"hv3": Verdict(score=0.1)}) == "hv3"
    assert best(selector, *nodes, verdicts={"hv2": Verdict(score=-0.1)}) == "hv3"


def test_a_preferred_node_that_cannot_take_it_is_not_taken() -> None:
    assert best(Selector.MEM, candidate("hv2"), candidate("hv3", alive=False), preferred="hv3") == "hv2"


OWN: list[tuple[Any, Selector]] = [
    ("vms", Selector.VMS),
    ("load", Selector.LOAD),
    ("fastest", Selector.MEM),
    (3, Selector.MEM),
    (None, Selector.MEM),
]


@pytest.mark.parametrize(("named", "selector"), OWN)
def test_a_vms_own_selector_holds_if_it_is_known(named: Any, selector: Selector) -> None:
    assert selector_of(vm(options={SELECTOR_OPTION: named}), Selector.MEM) is selector


def test_a_vm_without_a_selector_of_its_own_has_the_nodes() -> None:
    assert selector_of(vm(), Selector.VCPUS) is Selector.VCPUS
