"""How long planning takes in a large cluster."""

import random
from collections.abc import Sequence

from bench.report import Result, result
from pvc.core.model import ActualState, NodeState, Vm, VmActual, VmState
from pvc.core.runtime import Runtime
from pvc.plugins.hypervisor.decide import foresight
from pvc.plugins.hypervisor.decide.evacuation import Item
from pvc.plugins.hypervisor.decide.placement import Candidate
from pvc.plugins.hypervisor.decide.planner import Layout, Wanted, lay_out
from pvc.plugins.hypervisor.host import Guest, GuestState

NODES, VMS = 100, 5000
SIZES = (1024, 2048, 4096, 8192)
MEMORY = 384 * 1024
"""MiB of each node: about half of it is used."""


def measure(runtime: Runtime, rounds: int) -> list[Result]:
    """A flush of one node, and, harder than any flush, places for all VMs at once."""
    chance = random.Random(1)
    vms = [Vm(f"u{n}", f"vm{n}", VmState.RUNNING, _name(n % NODES), chance.choice(SIZES), 2) for n in range(VMS)]
    nodes = [_node(_name(n), [vm for vm in vms if vm.node == _name(n)]) for n in range(NODES)]
    empty = [_node(_name(n), []) for n in range(NODES)]
    flushes, everything = [], []
    for _round in range(rounds):
        began = runtime.monotonic()
        _foresee(nodes, vms)
        flushes.append(runtime.monotonic() - began)
        began = runtime.monotonic()
        lay_out([Wanted(vm) for vm in vms], empty)
        everything.append(runtime.monotonic() - began)
    size = f"{NODES} nodes, {VMS} VMs"
    return [
        result(f"plan of a flush with its warnings: {size}", flushes, "s", target=1.0),
        result(f"places for all VMs at once: {size}", everything, "s", target=1.0),
    ]


def _foresee(nodes: list[Candidate], vms: list[Vm]) -> None:
    """What `pvc node flush --dry-run` has the first node's daemon compute."""
    me, *targets = nodes
    items = [
        Item(vm.uuid, vm, VmActual(ActualState.RUNNING, me.name), Guest(vm.uuid, vm.name, GuestState.RUNNING, False))
        for vm in vms
        if vm.node == me.name
    ]

    def lay(wanted: Sequence[Wanted]) -> Layout:
        return lay_out(wanted, targets)

    foresight.of_flush(me.name, items, (), lay, targets, 0)


def _name(number: int) -> str:
    return f"hv{number:03}"


def _node(name: str, vms: list[Vm]) -> Candidate:
    return Candidate(
        name=name,
        alive=True,
        state=NodeState.READY,
        roles=("hypervisor",),
        memory=MEMORY,
        cpus=64,
        load=1.0,
        vms={vm.uuid: vm.memory for vm in vms},
        vcpus={vm.uuid: vm.vcpus for vm in vms},
    )
