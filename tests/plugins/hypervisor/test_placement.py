"""Why a node takes a VM or not: the objections as a table, and what is counted."""

from typing import Any

import pytest

from pvc.core.context import Verdict
from pvc.core.forecast import Objection
from pvc.core.model import NodeState, Vm
from pvc.plugins.hypervisor.decide.placement import Room, refusal
from tests.plugins.hypervisor.vms import UUID, candidate, vm

CLOSED: list[tuple[str, dict[str, Any], Objection]] = [
    ("no role", {"roles": ("networking",)}, Objection("has no hypervisor role")),
    ("dead", {"alive": False}, Objection("its daemon does not answer", "start pvcd on hv2")),
    (
        "flushing",
        {"state": NodeState.FLUSHING},
        Objection("is flushing", "take it back into service with `pvc node unflush hv2`"),
    ),
    (
        "flushed",
        {"state": NodeState.FLUSHED},
        Objection("is flushed", "take it back into service with `pvc node unflush hv2`"),
    ),
    ("unflushing", {"state": NodeState.UNFLUSHING}, Objection("is unflushing", "wait until it is ready")),
    (
        "queued for a flush",
        {"flush_asked": True},
        Objection("is waiting to be flushed", "cancel that with `pvc node cancel hv2`"),
    ),
]
LIMITED: list[tuple[str, dict[str, Any], dict[str, Any], Objection | None]] = [
    (
        "not one of its nodes",
        {"nodes": ("hv8", "hv9")},
        {},
        Objection("is not one of its nodes (hv8, hv9)", "widen its limit with `pvc vm modify vm1 --limit`"),
    ),
    ("one of its nodes", {"nodes": ("hv2",)}, {}, None),
    (
        "its spread group is there",
        {"spread": "db"},
        {"spread": {"x": "db"}},
        Objection(
            "runs another VM of spread group db",
            "move that one, or take vm1 out of the group with `pvc vm modify vm1 --no-spread`",
        ),
    ),
    ("only itself is there", {"spread": "db"}, {"spread": {UUID: "db"}}, None),
    ("another group is there", {"spread": "db"}, {"spread": {"x": "web"}}, None),
    (
        "memory unknown",
        {},
        {"memory": None},
        Objection("has not published its memory", "look at its daemon's log"),
    ),
    ("exactly enough", {"memory": 1024}, {}, None),
    (
        "too little",
        {"memory": 1025},
        {},
        Objection("has 1024 MiB free of 1024, it needs 1025", "free 1 MiB there"),
    ),
    (
        "used",
        {},
        {"vms": {"x": 900}},
        Objection("has 124 MiB free of 1024, it needs 128", "free 4 MiB there"),
    ),
    ("its own claim does not count against it", {"memory": 1000}, {"vms": {UUID: 1000}}, None),
    (
        "over-committed already",
        {},
        {"vms": {"x": 5000}},
        Objection("has 0 MiB free of 1024, it needs 128", "free 4104 MiB there"),
    ),
    ("a node that takes it", {}, {}, None),
]


@pytest.mark.parametrize(("node", "objection"), [row[1:] for row in CLOSED], ids=[row[0] for row in CLOSED])
def test_a_node_out_of_service_takes_nothing_and_says_what_to_do(node: dict[str, Any], objection: Objection) -> None:
    assert refusal(vm(), candidate("hv2", **node)) == objection


@pytest.mark.parametrize(("wanted", "node", "objection"), [row[1:] for row in LIMITED], ids=[row[0] for row in LIMITED])
def test_what_speaks_against_a_vm_on_a_node_and_what_to_do(
    wanted: dict[str, Any], node: dict[str, Any], objection: Objection | None
) -> None:
    assert refusal(vm(**wanted), candidate("hv2", **node)) == objection


def test_out_of_service_goes_before_every_other_reason() -> None:
    said = refusal(vm(nodes=("hv9",), memory=9999), candidate("hv2", alive=False), verdict=Verdict("no net"))
    assert said is not None and said.why == "its daemon does not answer"


def test_a_plugins_veto_is_an_objection_and_its_score_alone_is_none() -> None:
    assert refusal(vm(), candidate("hv2"), verdict=Verdict("no such network (net)")) == Objection(
        "no such network (net)"
    )
    assert refusal(vm(), candidate("hv2"), verdict=Verdict(score=-1e9)) is None


def test_head_room_stays_free_and_is_named() -> None:
    assert refusal(vm(memory=824), candidate("hv2"), head_room=200) is None
    assert refusal(vm(memory=825), candidate("hv2"), head_room=200) == Objection(
        "has 824 MiB free of 1024 (200 kept as head-room), it needs 825", "free 1 MiB there"
    )


def other(**how: Any) -> Vm:
    return vm(**{"uuid": "x", "name": "vmx", **how})


def test_what_is_promised_counts_and_what_is_there_already_counts_once() -> None:
    assert refusal(vm(), candidate("hv2"), promised=(other(memory=900),)) == Objection(
        "has 124 MiB free of 1024, it needs 128", "free 4 MiB there"
    )
    assert refusal(vm(), candidate("hv2", vms={"x": 800}), promised=(other(memory=800),)) is None


def test_a_promised_vm_of_the_spread_group_is_in_the_way() -> None:
    said = refusal(vm(spread="db"), candidate("hv2"), promised=(other(spread="db"),))
    assert said is not None and said.why == "runs another VM of spread group db"


def test_a_room_counts_what_it_takes() -> None:
    room = Room(candidate("hv2", vms={"x": 100}, vcpus={"x": 2}), head_room=24)
    assert (room.free, room.free_for(vm()), room.vcpus, room.coming) == (924, 900, 2, 0)
    room.take(other(memory=300, vcpus=2))  # has grown since it was published
    assert (room.free, room.vcpus, room.coming) == (724, 2, 0)
    room.take(vm(memory=128, vcpus=3))
    room.take(vm(memory=128, vcpus=3))
    assert (room.free, room.free_for(vm()), room.vcpus, room.coming) == (596, 700, 5, 3)
    assert room.vms == {"x": 300, UUID: 128}


def test_what_a_copy_takes_the_room_does_not_have() -> None:
    room = Room(candidate("hv2"))
    room.take(other(spread="web"))
    room.copy().take(vm(spread="db", vcpus=4))
    assert (room.free, room.vcpus, room.coming, set(room.vms)) == (896, 1, 1, {"x"})
    assert room.objection(vm(uuid="y", spread="db")) is None


def test_room_alone_can_be_asked_for() -> None:
    room = Room(candidate("hv2", state=NodeState.UNFLUSHING))
    assert room.lack(vm()) is None
    assert room.objection(vm()) is not None
