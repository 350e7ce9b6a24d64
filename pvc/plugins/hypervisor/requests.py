"""What clients ask of VMs: each request is one transaction on the wanted state, repeated if somebody was faster."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pvc.core import keys
from pvc.core.config.problems import near
from pvc.core.context import Verdict
from pvc.core.coordination import Check, Clash, Conflict, Coordinator, Create, Delete, Op, Put
from pvc.core.errors import PvcError
from pvc.core.forecast import Objection
from pvc.core.lookup import all_vms, demand_role, find_node
from pvc.core.model import ActualState, Policy, Vm, VmActual, VmState
from pvc.core.records import encode
from pvc.plugins.hypervisor.cluster import promise_op, read_candidate, read_candidates
from pvc.plugins.hypervisor.decide.definition import Definition, macs_on_networks
from pvc.plugins.hypervisor.decide.placement import ROLE, Candidate, refusal
from pvc.plugins.hypervisor.decide.planner import Selector, Wanted, lay_out, selector_of
from pvc.plugins.hypervisor.records import VmRecords, index_ops, read_vm
from pvc.plugins.hypervisor.settings import PlacementSettings

TRIES = 100
"""How often a request is repeated when others write at the same moment: of those that do, one is done each time."""
BATCH = 200
"""Nodes of the tree that one transaction deletes."""


ANY_ROOM = PlacementSettings(Selector.MEM, head_room=0)
"""The node with most memory free, down to the last MiB."""


Judge = Callable[[Vm, tuple[str, ...]], Mapping[str, Verdict]]
"""What plugins say of nodes as the place of a VM."""


def no_opinion(_vm: Vm, _nodes: tuple[str, ...]) -> Mapping[str, Verdict]:
    """The judge who has nothing to say of any node."""
    return {}


class Refused(PvcError):
    """The request makes no sense for this VM as it is; the message says why and what to do."""


def define(
    coordinator: Coordinator,
    definition: Definition,
    node: str | None,
    *,
    policy: Policy = Policy.LIVE,
    nodes: tuple[str, ...] = (),
    spread: str | None = None,
    options: Mapping[str, Any] | None = None,
    needs: Mapping[str, tuple[str, ...]] | None = None,
    placement: PlacementSettings = ANY_ROOM,
    judge: Judge = no_opinion,
) -> Vm:
    """Make a VM known to the cluster, stopped, on `node` or the best one. Raises Refused, NotFound, LacksRole.

    `options` have been checked; `needs` is what the definition needs beside a hypervisor, see core/needs.py.
    """
    _demand_sense(coordinator, nodes, spread)
    vm = Vm(
        uuid=definition.uuid,
        name=definition.name,
        state=VmState.STOPPED,
        node=node or "",
        memory=definition.memory,
        vcpus=definition.vcpus,
        policy=policy,
        nodes=nodes,
        spread=spread,
        options=options or {},
        needs=needs or {},
    )
    for left in reversed(range(TRIES)):
        guards = _definition_guards(coordinator, vm)
        _demand_own_macs(coordinator, definition)
        placed = _placed(coordinator, vm, node, placement, judge)
        try:
            coordinator.commit([*guards, *_definition_ops(placed, definition)])
            return placed
        except Conflict as conflict:
            if conflict.op in guards and left:
                continue
            if conflict.clash is not Clash.EXISTS:
                raise
            what = f"name {vm.name}" if conflict.op.path == keys.name(vm.name) else f"UUID {vm.uuid}"
            raise Refused(f"a VM with the {what} is defined already; `pvc vm list` shows it") from conflict
    raise AssertionError("unreachable")


def _definition_guards(coordinator: Coordinator, vm: Vm) -> list[Op]:
    """What makes one of two definitions that are made at the same moment be judged again: they may want the same thing,
    such as a volume, and neither would see the other. Must be read before anything else."""
    index = coordinator.get(keys.VMS) if vm.needs else None
    return [] if index is None else [Put(keys.VMS, index.data, index.version)]


def _placed(coordinator: Coordinator, vm: Vm, node: str | None, placement: PlacementSettings, judge: Judge) -> Vm:
    """The VM assigned to the node that was named, or to the best one. Raises Refused, NotFound, LacksRole."""
    if node is not None:
        verdict = judge(vm, (node,)).get(node)
        if verdict is not None and verdict.veto and verdict.everywhere:
            raise Refused(f"{vm.name} cannot run anywhere: a node {verdict.veto}")
    placed = replace(vm, node=node or _best(coordinator, vm, placement, judge).name)
    _demand_roles(coordinator, placed.node, vm.needs)
    return placed


def _definition_ops(vm: Vm, definition: Definition) -> list[Op]:
    return [
        Create(keys.name(vm.name), vm.uuid.encode()),
        Create(keys.vm(vm.uuid), encode(vm)),
        Create(keys.vm_xml(vm.uuid), definition.xml.encode()),
        Create(keys.vm_actual(vm.uuid), encode(VmActual())),
        Create(keys.node_vm(vm.node, vm.uuid)),
    ]


def undefine(coordinator: Coordinator, vm: Vm) -> None:
    """Make the cluster forget a stopped VM, with its definition and everything kept below it. Raises Refused."""

    def ops(records: VmRecords) -> list[Op]:
        if records.actual.state is not ActualState.STOPPED or records.vm.state is not VmState.STOPPED:
            raise Refused(f"{vm.name} is {records.actual.state.value}; stop it first")
        index = [keys.node_vm(node, vm.uuid) for node in coordinator.children(keys.NODES) or ()]
        known = [path for path, znode in zip(index, coordinator.get_many(index), strict=True) if znode is not None]
        return [
            Check(keys.vm(vm.uuid), records.vm_version),
            Delete(keys.vm_actual(vm.uuid), records.actual_version),
            Delete(keys.vm_xml(vm.uuid)),
            Delete(keys.name(records.vm.name)),
            *(Delete(path) for path in known),
            Delete(keys.vm(vm.uuid)),
        ]

    own = {keys.vm_actual(vm.uuid), keys.vm_xml(vm.uuid)}
    for child in coordinator.children(keys.vm(vm.uuid)) or ():
        path = f"{keys.vm(vm.uuid)}/{child}"
        if path not in own:
            _delete_below(coordinator, path)
    _repeat(coordinator, vm, lambda records: (ops(records), None))


def start(coordinator: Coordinator, vm: Vm, placement: PlacementSettings = ANY_ROOM, judge: Judge = no_opinion) -> Vm:
    """Have a VM run: where it is assigned, or, if that node takes none now, on the best one."""

    def ops(records: VmRecords) -> tuple[list[Op], Vm]:
        old = records.vm
        wanted = replace(old, state=VmState.RUNNING, stop_now=False, generation=old.generation + 1)
        promise: Sequence[Op] = ()
        if records.actual.node is None:
            wanted, promise = startable(coordinator, wanted, placement, judge)
        return [*promise, *records.put(vm=wanted), *index_ops(coordinator, wanted.node, vm.uuid)], wanted

    return _repeat(coordinator, vm, ops)


def stop(coordinator: Coordinator, vm: Vm, *, now: bool) -> Vm:
    """Have a VM shut down by its guest, or with `now` powered off."""
    return _rewrite(coordinator, vm, lambda old: replace(old, state=VmState.STOPPED, stop_now=now))


def restart(coordinator: Coordinator, vm: Vm) -> Vm:
    """Have a VM shut down and started again; one that is stopped is started."""
    return _rewrite(
        coordinator,
        vm,
        lambda old: replace(
            old, state=VmState.RUNNING, stop_now=False, restart=old.restart + 1, generation=old.generation + 1
        ),
    )


def modify(
    coordinator: Coordinator,
    vm: Vm,
    *,
    policy: Policy | None = None,
    nodes: tuple[str, ...] | None = None,
    spread: str | None = None,
    apart: bool = True,
    needs: Mapping[str, tuple[str, ...]] | None = None,
) -> Vm:
    """Change what holds for a VM from now on; None leaves a thing as it is. Raises Refused, NotFound, LacksRole.

    `nodes`: the only ones it may run on, () for any. `apart` False: it leaves its spread group. What runs is not moved.
    """
    _demand_sense(coordinator, nodes or (), spread)
    return _rewrite(
        coordinator,
        vm,
        lambda old: replace(
            old,
            policy=policy or old.policy,
            nodes=old.nodes if nodes is None else nodes,
            spread=(spread or old.spread) if apart else None,
            needs=old.needs if needs is None else needs,
        ),
    )


def set_options(coordinator: Coordinator, vm: Vm, options: Mapping[str, Any]) -> Vm:
    """Give a VM settings of its own; the values have been checked. The others that it has stay."""
    return _rewrite(coordinator, vm, lambda old: replace(old, options={**old.options, **options}))


def unset_options(coordinator: Coordinator, vm: Vm, names: Sequence[str]) -> Vm:
    """Take settings of its own from a VM: the node's hold again. Raises Refused for one that it does not have."""

    def change(old: Vm) -> Vm:
        missing = [name for name in names if name not in old.options]
        if missing:
            known = ", ".join(old.options) or "nothing"
            advice = near(missing[0], list(old.options)) or f"it has set: {known}"
            raise Refused(f"{old.name} has no {missing[0]} of its own; {advice}")
        return replace(old, options={name: value for name, value in old.options.items() if name not in names})

    return _rewrite(coordinator, vm, change)


def send(
    coordinator: Coordinator,
    vm: Vm,
    target: str | None,
    *,
    keep_home: bool,
    placement: PlacementSettings = ANY_ROOM,
    judge: Judge = no_opinion,
) -> Vm:
    """Have a VM go to `target`, or to the best node; `keep_home` remembers where it came from. Raises Refused."""

    def ops(records: VmRecords) -> tuple[list[Op], Vm]:
        old = records.vm
        node = target or _best(coordinator, old, placement, judge, excluded=records.actual.node or old.node).name
        where = records.actual.node or old.node
        if node == where and old.node == where and (keep_home or old.home is None):
            raise Refused(f"{old.name} is on {node} already")
        candidate = _target(coordinator, old, node, judge)
        home = (old.home or where) if keep_home else None
        wanted = replace(old, node=node, home=None if home == node else home, displaced_by=None, guards=())
        promise = _promise(candidate, old)
        return [*promise, *records.put(vm=wanted), *index_ops(coordinator, node, vm.uuid)], wanted

    return _repeat(coordinator, vm, ops)


def send_home(coordinator: Coordinator, vm: Vm, judge: Judge = no_opinion) -> Vm:
    """Have a VM go back to its home. Raises Refused."""
    if vm.home is None:
        raise Refused(f"{vm.name} is at home on {vm.node}")
    return send(coordinator, vm, vm.home, keep_home=True, judge=judge)


def _repeat(coordinator: Coordinator, vm: Vm, ops: "Callable[[VmRecords], tuple[Sequence[Op], Vm | None]]") -> Vm:
    """Commit what `ops` makes of the records as they are now; again if they change meanwhile."""
    for attempt in range(TRIES):
        records = read_vm(coordinator, vm.uuid)
        if records is None:
            raise Refused(f"{vm.name} is not defined any more")
        wanted, result = ops(records)
        try:
            coordinator.commit(wanted)
            return result or records.vm
        except Conflict:
            if attempt == TRIES - 1:
                raise
    raise AssertionError("unreachable")


def _rewrite(coordinator: Coordinator, vm: Vm, change: "Callable[[Vm], Vm]") -> Vm:
    def ops(records: VmRecords) -> tuple[list[Op], Vm]:
        wanted = change(records.vm)
        return records.put(vm=wanted), wanted

    return _repeat(coordinator, vm, ops)


def startable(coordinator: Coordinator, vm: Vm, placement: PlacementSettings, judge: Judge) -> tuple[Vm, Sequence[Op]]:
    """The VM assigned to a node that takes it now, its own if possible, and what promises it to that node: of two who
    start VMs at once, one looks again. Raises Refused."""
    own = read_candidate(coordinator, vm.node)
    if own is not None and refusal(vm, own, verdict=judge(vm, (own.name,)).get(own.name)) is None:
        return vm, _promise(own, vm)
    best = _best(coordinator, vm, placement, judge, verb="start")
    return replace(vm, node=best.name, home=vm.home or vm.node), _promise(best, vm)


def _promise(target: Candidate, vm: Vm) -> list[Op]:
    """What fails if the node is in another state than when it was read, or anything was promised to it since."""
    return [Check(keys.node(target.name), target.version), promise_op(target, vm)]


def _best(
    coordinator: Coordinator,
    vm: Vm,
    placement: PlacementSettings,
    judge: Judge,
    excluded: str | None = None,
    verb: str = "take",
) -> Candidate:
    """The node that a VM goes to when nobody names one. Raises Refused with what speaks against each."""
    against = {excluded: Objection("is where it is")} if excluded else {}
    candidates = read_candidates(coordinator)
    verdicts = judge(vm, tuple(candidate.name for candidate in candidates))
    wanted = Wanted(vm, selector_of(vm, placement.selector), against, verdicts)
    layout = lay_out([wanted], candidates, head_room=placement.head_room)
    if layout.placed:
        return next(candidate for candidate in candidates if candidate.name == layout.placed[0].node)
    reasons = "; ".join(f"{name} {objection}" for name, objection in sorted(layout.unplaced[vm.uuid].items()))
    raise Refused(f"no node can {verb} {vm.name}: {reasons or 'there is none'}")


def _target(coordinator: Coordinator, vm: Vm, node: str, judge: Judge) -> Candidate:
    _demand_roles(coordinator, node, vm.needs)
    candidate = read_candidate(coordinator, node)
    if candidate is None:  # forgotten at this moment
        raise Refused(f"there is no node {node}; `pvc node list` shows them all")
    objection = refusal(vm, candidate, verdict=judge(vm, (node,)).get(node))
    if objection is not None:
        advice = f"; {objection.advice}" if objection.advice else ""
        raise Refused(f"{vm.name} cannot go to {node}: it {objection}{advice}")
    return candidate


def _demand_own_macs(coordinator: Coordinator, definition: Definition) -> None:
    """Raise Refused if another VM has one of its MAC addresses on the same network: they would disturb each other."""
    own = macs_on_networks(definition.xml)
    vms = [vm for vm in all_vms(coordinator)[0] if vm.uuid != definition.uuid] if own else []
    for vm, znode in zip(vms, coordinator.get_many([keys.vm_xml(vm.uuid) for vm in vms]), strict=True):
        theirs = frozenset() if znode is None else macs_on_networks(znode.data.decode(errors="replace"))
        for mac, network in sorted(own & theirs):
            raise Refused(
                f"MAC address {mac} is that of {vm.name} on network {network}; give {definition.name} another"
            )


def _demand_sense(coordinator: Coordinator, nodes: Sequence[str], spread: str | None) -> None:
    """Raise Refused for a spread group without a name, and, for a limit to nodes that run no VMs, LacksRole."""
    for node in nodes:
        _demand_roles(coordinator, node, ())
    if spread is not None and not spread.strip():
        raise Refused("a spread group has a name; with --no-spread the VM belongs to none")


def _demand_roles(coordinator: Coordinator, name: str, further: Iterable[str]) -> None:
    """Raise NotFound, or LacksRole if the node runs no VMs or lacks one of the further roles."""
    node = find_node(coordinator, name)
    for role in (ROLE, *further):
        demand_role(coordinator, node, role)


def _delete_below(coordinator: Coordinator, path: str) -> None:
    """Delete a node of the tree and everything below it, in batches; what others delete meanwhile is fine."""
    names = coordinator.children(path)
    if names is None:
        return
    for name in names:
        if coordinator.children(f"{path}/{name}"):
            _delete_below(coordinator, f"{path}/{name}")
    for begin in range(0, len(names), BATCH):
        _delete_all(coordinator, [f"{path}/{name}" for name in names[begin : begin + BATCH]])
    _delete_all(coordinator, [path])


def _delete_all(coordinator: Coordinator, paths: Sequence[str]) -> None:
    try:
        coordinator.commit([Delete(path) for path in paths])
    except Conflict as conflict:
        if conflict.clash is not Clash.MISSING:
            raise
        rest = [path for path, znode in zip(paths, coordinator.get_many(paths), strict=True) if znode is not None]
        if rest:
            _delete_all(coordinator, rest)
