"""What a flush or unflush would do: each kind of prospect, and that the operation then does just that."""

import random
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import pytest

from pvc.core.forecast import Forecast, Objection, Prospect
from pvc.core.model import ActualState, OutcomeState, Phase, Policy, Vm, VmActual, VmState
from pvc.plugins.hypervisor import requests
from pvc.plugins.hypervisor.decide.evacuation import Item
from pvc.plugins.hypervisor.decide.foresight import of_flush, of_unflush
from pvc.plugins.hypervisor.decide.homecoming import Wishes
from pvc.plugins.hypervisor.decide.placement import Candidate, Room
from pvc.plugins.hypervisor.decide.planner import Layout, Wanted, lay_out
from pvc.plugins.hypervisor.host import GuestState
from pvc.testing.cluster import SimCluster
from tests.plugins.hypervisor.vms import ME, OTHER, THIRD, candidate, guest, vm

STOPPED, STARTING, RUNNING, STOPPING, MIGRATING, DEPARTED, FAILED, ASTRAY = ActualState


def item(wanted: Vm, state: ActualState = RUNNING, node: str | None = ME, target: str | None = None) -> Item:
    there = guest(GuestState.RUNNING, uuid=wanted.uuid, name=wanted.name) if node == ME and state is RUNNING else None
    return Item(wanted.uuid, wanted, VmActual(state, node, target), there)


def one(name: str, **how: Any) -> Vm:
    return vm(uuid=f"u-{name}", name=name, **how)


TWO = (candidate(OTHER), candidate(THIRD, memory=2000))


def flush(items: Sequence[Item], nodes: Sequence[Candidate] = TWO, unreadable: Sequence[str] = ()) -> Forecast:
    def layout(wanted: Sequence[Wanted]) -> Layout:
        return lay_out(wanted, nodes)

    return of_flush(ME, items, unreadable, layout, nodes, 0)


def unflush(
    items: Sequence[Item], home: Candidate, wishes: Wishes | None = None, nodes: Sequence[Candidate] = TWO
) -> Forecast:
    def layout(wanted: Sequence[Wanted]) -> Layout:
        return lay_out(wanted, nodes)

    return of_unflush(ME, items, Room(home), layout, wishes or Wishes())


def test_a_vm_that_moves_goes_to_the_node_that_the_planner_says_largest_first() -> None:
    said = flush([item(one("small", memory=100)), item(one("large", memory=300))])
    assert said.prospects == (
        Prospect("u-large", "large", "live", ME, THIRD, 300, 1700),
        Prospect("u-small", "small", "live", ME, THIRD, 100, 1600),
    )
    assert said.clear


def test_nothing_there_is_nothing_to_do() -> None:
    assert flush([]) == Forecast()
    assert flush([item(one("gone", node=OTHER), node=OTHER)]) == Forecast()


def test_a_vm_that_no_node_takes_stays_with_what_speaks_against_each_and_advice() -> None:
    said = flush([item(one("vm1", memory=1500))], [candidate(OTHER), candidate(THIRD, alive=False)])
    assert said.prospects == (
        Prospect(
            "u-vm1",
            "vm1",
            "live",
            ME,
            None,
            1500,
            why="no node can take it",
            objections={
                OTHER: Objection("has 1024 MiB free of 1024, it needs 1500", "free 476 MiB there"),
                THIRD: Objection("its daemon does not answer", "start pvcd on hv3"),
            },
            stays=True,
        ),
    )
    assert not said.clear


def test_without_another_node_it_says_so() -> None:
    (said,) = flush([item(one("vm1"))], []).prospects
    assert (said.target, said.why, said.stays) == (None, "there is no other node", True)


KEPT: list[tuple[str, Item]] = [
    ("running", item(one("vm1", policy=Policy.KEEP))),
    ("starting: it will be kept once it runs", item(one("vm1", policy=Policy.KEEP), STARTING)),
]


@pytest.mark.parametrize("kept", [row[1] for row in KEPT], ids=[row[0] for row in KEPT])
def test_what_has_policy_keep_stays_and_how_to_change_that_is_told(kept: Item) -> None:
    said = flush([kept])
    (prospect,) = said.prospects
    assert (prospect.target, prospect.stays, prospect.why) == (None, True, "its policy is keep")
    assert "pvc vm move vm1" in prospect.advice and "pvc vm modify vm1" in prospect.advice
    assert not said.clear


def test_a_vm_of_policy_keep_that_does_not_run_is_sent_away() -> None:
    (said,) = flush([item(one("vm1", policy=Policy.KEEP), STOPPED, None)]).prospects
    assert (said.target, said.stays) == (THIRD, False)


CHANGING: list[tuple[str, Item, str]] = [
    ("starts", item(one("vm1"), STARTING), "is starting: that must end first"),
    ("restarts", item(one("vm1", restart=1), STOPPING), "is stopping: that must end first"),
]


@pytest.mark.parametrize(("changing", "why"), [row[1:] for row in CHANGING], ids=[row[0] for row in CHANGING])
def test_what_is_changing_moves_when_that_has_ended(changing: Item, why: str) -> None:
    (said,) = flush([changing]).prospects
    assert (said.target, said.why, said.stays) == (THIRD, why, False)


ABSENT: list[tuple[str, Item]] = [
    ("being stopped for good", item(one("vm1", state=VmState.STOPPED), STOPPING)),
    ("stopped", item(one("vm1", state=VmState.STOPPED), STOPPED, None)),
    ("on its way here", item(one("vm1"), MIGRATING, OTHER, ME)),
    ("ordered here, not yet begun", item(one("vm1"), RUNNING, OTHER)),
]


@pytest.mark.parametrize("absent", [row[1] for row in ABSENT], ids=[row[0] for row in ABSENT])
def test_what_a_flush_would_not_move_is_no_prospect(absent: Item) -> None:
    assert flush([absent]).prospects == ()


LEAVING: list[tuple[str, Item]] = [
    ("migrating", item(one("vm1", node=OTHER), MIGRATING, ME, OTHER)),
    ("ordered away", item(one("vm1", node=OTHER))),
    ("failed here, wanted elsewhere", item(one("vm1", node=OTHER), FAILED)),
]


@pytest.mark.parametrize("leaving", [row[1] for row in LEAVING], ids=[row[0] for row in LEAVING])
def test_what_leaves_already_goes_where_it_goes_and_is_told_once(leaving: Item) -> None:
    (said,) = flush([leaving]).prospects
    assert (said.target, said.stays) == (OTHER, False)


def test_what_cannot_be_read_is_an_obstacle() -> None:
    said = flush([], unreadable=["web: runs here but the cluster does not know it"])
    assert not said.clear
    assert str(said.obstacles[0]) == "web: runs here but the cluster does not know it"


def test_a_warning_tells_which_further_loss_could_not_be_made_up_for() -> None:
    nodes = [candidate(OTHER, vms={"x": 800}), candidate(THIRD, vms={"y": 800})]
    (said,) = flush([item(one("vm1"))], nodes).warnings
    assert said == (
        "with hv1 empty the loss of one more node would leave VMs without room "
        "(hv2: 1 VMs of 800 MiB; hv3: 1 VMs of 800 MiB)"
    )
    assert flush([item(one("vm1"))]).warnings == ()
    assert flush([item(one("vm1"))], nodes).clear, "a warning stops nothing"


def test_a_warning_names_three_nodes_and_counts_the_others() -> None:
    nodes = [candidate(f"hv{n}", vms={f"x{n}": 900}) for n in range(2, 8)]
    (said,) = flush([], nodes).warnings
    assert said.endswith("hv4: 1 VMs of 900 MiB; and 3 more nodes)")


# Home again.

HOME = candidate(ME, memory=1000)


def away(name: str, memory: int = 128, **how: Any) -> Item:
    state, node = how.pop("is_", RUNNING), how.pop("on", OTHER)
    return item(one(name, node=node, home=ME, displaced_by="op1", memory=memory, **how), state, node)


def test_what_a_flush_took_away_comes_home_largest_first() -> None:
    said = unflush([away("small", 100), away("large", 300)], HOME)
    assert [(p.name, p.source, p.target, p.free_after) for p in said.prospects] == [
        ("large", OTHER, ME, 600),
        ("small", OTHER, ME, 600),
    ]
    assert said.clear


def test_with_skip_nothing_moves_and_nothing_is_missing() -> None:
    said = unflush([away("vm1")], HOME, Wishes(skip=True))
    (prospect,) = said.prospects
    assert (prospect.target, prospect.stays, prospect.why) == (None, False, "was not to be moved")
    assert said.clear


def test_with_only_the_others_are_left_where_they_are() -> None:
    said = unflush([away("vm1"), away("vm2")], HOME, Wishes(only=("u-vm2",)))
    assert {p.name: (p.target, p.stays) for p in said.prospects} == {"vm2": (ME, False), "vm1": (None, False)}


def test_a_full_home_keeps_what_does_not_fit_and_says_how_to_make_room() -> None:
    said = unflush([away("vm1", 800), away("vm2", 300)], HOME)
    kept = said.prospects[-1]
    assert (kept.name, kept.target, kept.stays) == ("vm2", None, True)
    assert kept.why == "hv1 has 200 MiB free of 1000, it needs 300"
    assert kept.advice == "free memory there, or unflush with --make-room"
    assert not said.clear


FOREIGN = item(one("guest", memory=300, home=THIRD))
FULL = candidate(ME, memory=1000, vms={"u-guest": 300, "x": 500})


def test_with_make_room_what_has_another_home_goes_there_and_the_homecomer_follows() -> None:
    said = unflush([away("vm1", 400), FOREIGN], FULL, Wishes(make_room=True))
    assert [(p.name, p.source, p.target, p.why) for p in said.prospects] == [
        ("vm1", OTHER, ME, "as soon as there is room"),
        ("guest", ME, THIRD, ""),
    ]
    assert said.prospects[0].free_after == 100
    assert said.clear


def test_where_no_room_can_be_made_the_advice_is_another() -> None:
    said = unflush([away("vm1", 400)], FULL, Wishes(make_room=True))
    (kept,) = said.prospects
    assert kept.why == "hv1 has 200 MiB free of 1000, it needs 400, and no VM of another home can make that room"
    assert (kept.stays, kept.advice) == (True, "free memory there")


def test_a_vm_whose_node_does_not_answer_stays_and_the_advice_is_to_start_it() -> None:
    there = away("vm1")
    said = unflush([Item(there.uuid, there.vm, there.actual, None, source_alive=False)], HOME)
    (kept,) = said.prospects
    assert (kept.stays, kept.why) == (True, "the daemon of hv2, where it is, does not answer")
    assert kept.advice == "start pvcd on hv2"


def test_what_is_changing_elsewhere_comes_home_when_that_has_ended() -> None:
    (said,) = unflush([away("vm1", is_=STARTING)], HOME).prospects
    assert (said.target, said.why) == (ME, "is starting: that must end first")


LEFT_ALONE: list[tuple[str, Item, str]] = [
    (
        "stopped",
        item(one("vm1", node=OTHER, home=ME, displaced_by="op1", state=VmState.STOPPED), STOPPED, None),
        "was stopped",
    ),
    (
        "taken by an administrator",
        item(one("vm1", node=OTHER, home=ME), node=OTHER),
        "an administrator took it from home",
    ),
]


@pytest.mark.parametrize(("left", "why"), [row[1:] for row in LEFT_ALONE], ids=[row[0] for row in LEFT_ALONE])
def test_what_is_left_alone_does_not_stay_against_anybodys_will(left: Item, why: str) -> None:
    said = unflush([left], HOME)
    (prospect,) = said.prospects
    assert (prospect.target, prospect.why, prospect.stays) == (None, why, False)
    assert said.clear


# The operation then does what was foreseen.


def random_cluster(chance: random.Random) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Nodes and VMs of a small, rather full cluster."""
    placement = {
        "selector": chance.choice(("mem", "vcpus", "load", "vms")),
        "head_room": chance.choice((0, 0, 64, 200)),
    }
    migration = {"inbound": chance.choice((None, 1, 2, 3)), "parallel": chance.choice((1, 1, 2, 4))}
    nodes: dict[str, Any] = {
        f"hv{n + 1}": {
            "hypervisor": {
                "memory": chance.choice((700, 1000, 1500)),
                "placement": placement,
                "migration": migration,
            }
        }
        for n in range(chance.randint(2, 5))
    }
    vms: dict[str, dict[str, Any]] = {}
    for number in range(chance.randint(2, 9)):
        how: dict[str, Any] = {"node": chance.choice(("hv1", "hv1", *nodes)), "memory": chance.choice((100, 250, 400))}
        how["policy"] = chance.choice(("live",) * 6 + ("shutdown", "keep"))
        if chance.random() < 0.15:
            how["nodes"] = tuple({how["node"], chance.choice(list(nodes))})
        if chance.random() < 0.2:
            how["spread"] = "group"
        if chance.random() < 0.2:
            how["options"] = {"hypervisor.placement.selector": chance.choice(("vms", "load"))}
        vms[f"vm{number + 1}"] = how
    return nodes, vms


def foreseen(forecast: Forecast) -> dict[str, str | None]:
    return {prospect.name: prospect.target for prospect in forecast.prospects if prospect.target or prospect.stays}


def done(cluster: SimCluster, node: str) -> dict[str, str | None]:
    """What the operation of a node did, by the same rule: left alone is as good as not foreseen."""
    outcomes = cluster.operation(node).outcomes.values()
    moved = {each.name: each.target for each in outcomes if each.state is OutcomeState.MOVED}
    return {**moved, **{each.name: None for each in outcomes if each.state is OutcomeState.KEPT}}


def demand_agreement(cluster: SimCluster, kind: str, **how: Any) -> Mapping[str, str | None]:
    """Ask what the operation would do, then have it done and compare."""
    before = cluster.where()
    forecast = cluster.forecast(kind, "hv1", **how)
    assert cluster.where() == before
    cluster.ask(kind, "hv1", **how)
    ended = cluster.finish("hv1")
    assert done(cluster, "hv1") == foreseen(forecast)
    assert (ended.phase is Phase.DONE) is forecast.clear, ended.message
    assert ended.warnings == (forecast.warnings if kind == "flush" else ())
    assert all(cluster.vm_runs(name) for name in cluster.wanted())
    cluster.run(2.0)
    return foreseen(forecast)


def fill_home(cluster: SimCluster, chance: random.Random, vms: Sequence[str]) -> None:
    """Take hv1 back into service without its VMs, and have others of the cluster go there as guests."""
    cluster.ask("unflush", "hv1", skip=True)
    cluster.finish("hv1")
    for name in chance.sample(vms, len(vms)):
        if cluster.vm(name).home != "hv1" and cluster.vm(name).node != "hv1":
            try:
                requests.send(cluster.client, cluster.vm(name), "hv1", keep_home=True)
            except requests.Refused:
                continue
            assert cluster.run_until(lambda name=name: cluster.actual(name).node == "hv1")  # type: ignore[misc]
            cluster.settle()


def fill(cluster: SimCluster, vms: Mapping[str, dict[str, Any]]) -> None:
    """Define all, and have those run that find a place."""
    for name, how in vms.items():
        vm = cluster.define(name, run=False, **how)
        with suppress(requests.Refused):
            requests.start(cluster.client, vm)


@pytest.mark.parametrize("first", (150, 200))
def test_a_quiet_cluster_does_what_was_foreseen(first: int) -> None:
    moved = kept = home = room = full = 0
    for seed in range(first, first + 50):
        chance = random.Random(seed)
        nodes, vms = random_cluster(chance)
        with SimCluster(nodes, seed=seed) as cluster:
            cluster.start()
            fill(cluster, vms)
            cluster.run(5.0)
            targets = demand_agreement(cluster, "flush").values()
            moved += sum(target is not None for target in targets)
            kept += sum(target is None for target in targets)
            if cluster.operation("hv1").phase is not Phase.DONE:
                continue
            back: dict[str, Any] = {"make_room": chance.random() < 0.5}
            if chance.random() < 0.6:
                fill_home(cluster, chance, list(vms))
            if chance.random() < 0.2:
                back["skip"] = True
            elif vms and chance.random() < 0.3:
                back["only"] = [chance.choice(list(vms))]
            targets = demand_agreement(cluster, "unflush", **back).values()
            home += sum(target == "hv1" for target in targets)
            room += sum(target not in (None, "hv1") for target in targets)
            full += sum(target is None for target in targets)

    assert moved and kept and home and room and full, "something was never tried"


def test_such_clusters_keep_some_vms() -> None:
    """Or the comparison above would say little about them."""
    kept = 0
    for seed in range(10):
        nodes, vms = random_cluster(random.Random(seed))
        with SimCluster(nodes, seed=seed) as cluster:
            cluster.start()
            fill(cluster, vms)
            cluster.run(5.0)
            kept += not cluster.forecast("flush", "hv1").clear
    assert kept >= 2
