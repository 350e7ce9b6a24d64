"""What a flush or unflush of a node would do with each VM, and what an administrator should know before."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from pvc.core.forecast import Forecast, Objection, Prospect
from pvc.core.model import Outcome, OutcomeState, Policy, Vm, VmState
from pvc.plugins.hypervisor.decide.evacuation import Item, LayOut, Limits, Stage, stage
from pvc.plugins.hypervisor.decide.homecoming import UNSETTLED, Wishes, plan_unflush
from pvc.plugins.hypervisor.decide.placement import Candidate, Room
from pvc.plugins.hypervisor.decide.planner import Wanted
from pvc.plugins.hypervisor.decide.survival import losses

MOST_NAMED = 3
"""Nodes that a warning names."""


def of_flush(
    me: str,
    items: Sequence[Item],
    unreadable: Sequence[str],
    lay_out: LayOut,
    targets: Sequence[Candidate],
    head_room: int,
) -> Forecast:
    """What a flush of node `me` would do with what is there now; `targets` are the other nodes."""
    here = [item for item in items if stage(me, item) is not Stage.AWAY and item.uuid not in _stopped(me, items)]
    leaving = [item for item in here if item.vm.node != me]
    staying = (Stage.HERE, Stage.CHANGING)  # with its policy, what starts here will be kept once it runs
    kept = [
        item for item in here if item.vm.policy is Policy.KEEP and stage(me, item) in staying and item not in leaving
    ]
    layout = lay_out([Wanted(item.vm) for item in here if item not in kept and item not in leaving])
    by_uuid = {item.uuid: item for item in here}
    prospects = [
        replace(_prospect(me, by_uuid[placed.vm.uuid]), target=placed.node, free_after=placed.free_after)
        for placed in layout.placed
    ]
    prospects += [replace(_prospect(me, item), target=item.vm.node) for item in leaving]
    prospects += [_stranded(me, by_uuid[uuid], objections) for uuid, objections in layout.unplaced.items()]
    prospects += [_kept(me, item) for item in kept]
    return Forecast(
        prospects=tuple(prospects),
        obstacles=tuple(Objection(text, "look at it with `virsh list` on the node") for text in unreadable),
        warnings=warnings(me, items, targets, head_room, going={p.vm.uuid: p.node for p in layout.placed}),
    )


def of_unflush(me: str, items: Sequence[Item], home: Room, lay_out: LayOut, wishes: Wishes) -> Forecast:
    """What an unflush of node `me` would do: its own first look, with any number of moves at a time."""
    limits = Limits(parallel=len(items) + 1, retries=0, patience=0.0)
    plan = plan_unflush(me, items, {}, home, lay_out, wishes, limits, 0.0, stopping=False)
    by_uuid = {item.uuid: item for item in items}
    going = {order.uuid: order.target for order in plan.orders}
    prospects = [
        _of_homecomer(me, by_uuid[uuid], outcome, going.get(uuid), wishes) for uuid, outcome in plan.outcomes.items()
    ]
    free = home.free
    for prospect in prospects:
        if prospect.target == me and prospect.key not in home.vms:
            free -= by_uuid[prospect.key].vm.memory
        elif prospect.target not in (None, me):
            free += home.vms.get(prospect.key, 0)
    prospects = [replace(one, free_after=free) if one.target == me else one for one in prospects]
    prospects.sort(key=lambda one: (one.target != me, one.target is None, -(one.memory or 0), one.name))
    return Forecast(prospects=tuple(prospects))


def _of_homecomer(me: str, item: Item, outcome: Outcome, target: str | None, wishes: Wishes) -> Prospect:
    """One VM of an unflush; `target`: where it is sent at once, if anywhere."""
    prospect = replace(_prospect(me, item), source=outcome.source, target=target)
    if target is not None:
        return prospect
    if outcome.state is OutcomeState.KEPT:
        return replace(prospect, why=outcome.why, stays=True, advice=_advice_for_home(item, wishes))
    if outcome.state is not OutcomeState.WAITING:
        return replace(prospect, why=outcome.why)
    unsettled = f"is {item.actual.state.value}: that must end first" if item.actual.state in UNSETTLED else ""
    return replace(prospect, target=me, why=unsettled or "as soon as there is room")


def warnings(
    me: str,
    items: Sequence[Item],
    targets: Sequence[Candidate],
    head_room: int,
    going: Mapping[str, str],
) -> tuple[str, ...]:
    """Whether the other nodes, with the VMs that go there, would survive the loss of one more.

    `going` says where each VM will go, by UUID; what is under way already needs no word there.
    """
    after = [_with(node, [item.vm for item in items if _goes(me, item, going) == node.name]) for node in targets]
    lost = losses(after, head_room)
    if not lost:
        return ()
    named = "; ".join(f"{one.node}: {one.vms} VMs of {one.memory} MiB" for one in lost[:MOST_NAMED])
    more = f"; and {len(lost) - MOST_NAMED} more nodes" if len(lost) > MOST_NAMED else ""
    return (f"with {me} empty the loss of one more node would leave VMs without room ({named}{more})",)


def _goes(me: str, item: Item, going: Mapping[str, str]) -> str | None:
    if item.uuid in going:
        return going[item.uuid]
    return item.vm.node if item.vm.node != me and item.vm.state is VmState.RUNNING else None


def _with(node: Candidate, vms: Sequence[Vm]) -> Candidate:
    """The node as it would be with these VMs."""
    return replace(
        node,
        vms={**node.vms, **{vm.uuid: vm.memory for vm in vms}},
        vcpus={**node.vcpus, **{vm.uuid: vm.vcpus for vm in vms}},
        spread={**node.spread, **{vm.uuid: vm.spread for vm in vms if vm.spread}},
        limits={**node.limits, **{vm.uuid: vm.nodes for vm in vms if vm.nodes}},
    )


def _stopped(me: str, items: Sequence[Item]) -> set[str]:
    """VMs that a flush would not move: they are being stopped, or their move here would be stopped."""
    return {
        item.uuid
        for item in items
        if stage(me, item) is Stage.CHANGING
        and (item.vm.state is VmState.STOPPED or (item.actual.target == me and item.actual.node not in (None, me)))
    }


def _prospect(me: str, item: Item) -> Prospect:
    changing = stage(me, item) is Stage.CHANGING
    return Prospect(
        key=item.uuid,
        name=item.vm.name,
        policy=item.vm.policy.value,
        source=me,
        target=None,
        memory=item.vm.memory,
        why=f"is {item.actual.state.value}: that must end first" if changing else "",
    )


def _stranded(me: str, item: Item, objections: Mapping[str, Objection]) -> Prospect:
    why = "no node can take it" if objections else "there is no other node"
    return replace(_prospect(me, item), why=why, objections=dict(objections), stays=True)


def _kept(me: str, item: Item) -> Prospect:
    advice = f"move it with `pvc vm move {item.vm.name}`, or give it another policy with `pvc vm modify {item.vm.name}`"
    return replace(_prospect(me, item), why="its policy is keep", advice=advice, stays=True)


def _advice_for_home(item: Item, wishes: Wishes) -> str:
    if not item.source_alive:
        return f"start pvcd on {item.actual.node}"
    return "free memory there" if wishes.make_room else "free memory there, or unflush with --make-room"
