"""Which node takes a VM: the reasons against each as a table, and what holds for every choice."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pvc.core.context import Verdict
from pvc.core.model import NodeState
from pvc.plugins.hypervisor.decide.placement import (
    Candidate,
    choose_node,
    free_memory,
    lack_of_memory,
    refusal,
)
from tests.plugins.hypervisor.vms import UUID, candidate, vm

REFUSALS: list[tuple[str, dict[str, Any], dict[str, Any], dict[str, int], Verdict | None, str]] = [
    ("a node that takes it", {}, {}, {}, None, ""),
    ("no role", {}, {"roles": ("networking",)}, {}, None, "has no hypervisor role"),
    ("dead", {}, {"alive": False}, {}, None, "its daemon does not answer"),
    ("flushing", {}, {"state": NodeState.FLUSHING}, {}, None, "is flushing"),
    ("flushed", {}, {"state": NodeState.FLUSHED}, {}, None, "is flushed"),
    ("unflushing", {}, {"state": NodeState.UNFLUSHING}, {}, None, "is unflushing"),
    ("queued for a flush", {}, {"flush_asked": True}, {}, None, "is waiting to be flushed"),
    ("not one of its nodes", {"nodes": ("hv8", "hv9")}, {}, {}, None, "the VM is limited to hv8, hv9"),
    ("one of its nodes", {"nodes": ("hv2",)}, {}, {}, None, ""),
    ("its spread group is there", {"spread": "db"}, {"spread": {"x": "db"}}, {}, None, "another VM of spread group db"),
    ("only itself is there", {"spread": "db"}, {"spread": {UUID: "db"}}, {}, None, ""),
    ("another group is there", {"spread": "db"}, {"spread": {"x": "web"}}, {}, None, ""),
    ("a plugin's veto", {}, {}, {}, Verdict("no such network (net)"), "no such network (net)"),
    ("a plugin's score alone", {}, {}, {}, Verdict(score=-1e9), ""),
    ("memory unknown", {}, {"memory": None}, {}, None, "has not published its memory"),
    ("exactly enough", {"memory": 1024}, {}, {}, None, ""),
    ("too little", {"memory": 1025}, {}, {}, None, "has 1024 MiB free of 1024, it needs 1025"),
    ("used", {}, {"vms": {"x": 900}}, {}, None, "has 124 MiB free of 1024, it needs 128"),
    ("promised", {}, {}, {"x": 900}, None, "has 124 MiB free of 1024, it needs 128"),
    ("promised and already there count once", {}, {"vms": {"x": 800}}, {"x": 800}, None, ""),
    ("its own claim does not count against it", {"memory": 1000}, {"vms": {UUID: 1000}}, {UUID: 1000}, None, ""),
    ("over-committed already", {}, {"vms": {"x": 5000}}, {}, None, "has 0 MiB free of 1024, it needs 128"),
]


@pytest.mark.parametrize(
    ("wanted", "node", "reserved", "verdict", "why"), [row[1:] for row in REFUSALS], ids=[row[0] for row in REFUSALS]
)
def test_refusal(
    wanted: dict[str, Any], node: dict[str, Any], reserved: dict[str, int], verdict: Verdict | None, why: str
) -> None:
    said = refusal(vm(**wanted), candidate("hv2", **node), reserved, verdict)
    assert (why in said) if why else (said == "")


def choose(nodes: list[Candidate], **how: Any) -> str | None:
    arguments: dict[str, Any] = {"reserved": {}, "verdicts": {}, "excluded": {}, **how}
    return choose_node(vm(), nodes, **arguments).node


def test_the_node_with_most_room_is_chosen_and_among_equals_the_first_by_name() -> None:
    assert choose([candidate("hv2"), candidate("hv3", memory=2048)]) == "hv3"
    assert choose([candidate("hv3"), candidate("hv2")]) == "hv2"


def test_a_plugins_score_outweighs_room() -> None:
    nodes = [candidate("hv2"), candidate("hv3", memory=2048)]
    assert choose(nodes, verdicts={"hv2": Verdict(score=2000.0)}) == "hv2"


def test_an_excluded_node_is_not_chosen_and_every_reason_is_told() -> None:
    nodes = [candidate("hv2"), candidate("hv3", alive=False), candidate("hv4", memory=100)]
    choice = choose_node(vm(), nodes, reserved={}, verdicts={}, excluded={"hv2": "was tried and failed"})
    assert choice.node is None
    assert choice.reasons == {
        "hv2": "was tried and failed",
        "hv3": "its daemon does not answer",
        "hv4": "has 100 MiB free of 100, it needs 128",
    }


def test_without_nodes_there_is_no_choice() -> None:
    assert choose([]) is None


UUIDS = [UUID, "a", "b", "c"]
claims = st.dictionaries(st.sampled_from(UUIDS), st.integers(0, 2000), max_size=3)
candidates = st.lists(
    st.builds(
        candidate,
        name=st.sampled_from(["hv1", "hv2", "hv3", "hv4"]),
        alive=st.booleans(),
        state=st.sampled_from(NodeState),
        roles=st.sampled_from([(), ("hypervisor",)]),
        memory=st.none() | st.integers(0, 4000),
        flush_asked=st.booleans(),
        vms=claims,
        spread=st.dictionaries(st.sampled_from(UUIDS), st.sampled_from(["db", "web"]), max_size=2),
    ),
    max_size=4,
    unique_by=lambda node: node.name,
)
several = settings(max_examples=60, deadline=None)


@several
@given(
    nodes=candidates,
    memory=st.integers(1, 3000),
    reserved=st.dictionaries(st.sampled_from(["hv1", "hv2"]), claims, max_size=2),
    excluded=st.dictionaries(st.sampled_from(["hv1", "hv3"]), st.just("no"), max_size=1),
    veto=st.sampled_from([{}, {"hv2": Verdict("veto", 1e9)}]),
    seed=st.randoms(use_true_random=False),
)
def test_a_choice_is_never_refused_never_overcommits_and_does_not_depend_on_the_order(
    nodes: list[Candidate],
    memory: int,
    reserved: Mapping[str, Mapping[str, int]],
    excluded: Mapping[str, str],
    veto: Mapping[str, Verdict],
    seed: Any,
) -> None:
    wanted = vm(memory=memory, spread="db")
    choice = choose_node(wanted, nodes, reserved=reserved, verdicts=veto, excluded=excluded)
    for node in nodes:
        if node.name == choice.node:
            promised = reserved.get(node.name, {})
            assert refusal(wanted, node, promised, veto.get(node.name)) == ""
            assert node.name not in excluded and node.name not in choice.reasons
            claimed = {**node.vms, **promised, UUID: memory}
            assert node.memory is not None and sum(claimed.values()) <= node.memory
    if choice.node is None:
        assert set(choice.reasons) == {node.name for node in nodes}
    shuffled = list(nodes)
    seed.shuffle(shuffled)
    assert choose_node(wanted, shuffled, reserved=reserved, verdicts=veto, excluded=excluded) == choice


@several
@given(st.lists(st.integers(1, 700), max_size=12))
def test_placing_one_after_the_other_with_reservations_never_overcommits(sizes: list[int]) -> None:
    nodes = [candidate("hv2", memory=1000), candidate("hv3", memory=1500)]
    reserved: dict[str, dict[str, int]] = {}
    for number, size in enumerate(sizes):
        choice = choose_node(vm(uuid=f"u{number}", memory=size), nodes, reserved=reserved, verdicts={}, excluded={})
        if choice.node is not None:
            reserved.setdefault(choice.node, {})[f"u{number}"] = size
    for node in nodes:
        assert sum(reserved.get(node.name, {}).values()) <= (node.memory or 0)
        assert free_memory(node, reserved.get(node.name, {})) >= 0


def test_room_alone_can_be_asked_for() -> None:
    assert lack_of_memory(vm(), candidate("hv2", state=NodeState.UNFLUSHING), {}) == ""
