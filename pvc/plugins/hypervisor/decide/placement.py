"""Which node a VM may run on, and which is best. The daemon and the client both ask here, so they never disagree."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pvc.core.context import Verdict
from pvc.core.model import NodeState, Vm

ROLE = "hypervisor"


@dataclass(frozen=True, slots=True)
class Candidate:
    """One node as a possible target."""

    name: str
    alive: bool
    state: NodeState
    roles: tuple[str, ...]
    memory: int | None
    """MiB that VMs may use; None: not published yet."""
    flush_asked: bool = False
    """A flush of it was asked for and has not ended."""
    vms: Mapping[str, int] = field(default_factory=dict)
    """MiB set aside for each VM there, by UUID."""
    spread: Mapping[str, str] = field(default_factory=dict)
    """Spread group of each VM there that has one."""
    version: int = 0
    """Of the node's record when this was read: a move checks it, so that nothing said since is overlooked."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Where a VM goes: a node, or for each node the reason why not."""

    node: str | None
    reasons: Mapping[str, str]


def refusal(vm: Vm, node: Candidate, reserved: Mapping[str, int], verdict: Verdict | None = None) -> str:
    """Why the node cannot take the VM now; empty: it can.

    `reserved`: MiB by UUID of VMs that are promised to the node already, whether or not it knows of them.
    """
    if ROLE not in node.roles:
        return f"has no {ROLE} role"
    if not node.alive:
        return "its daemon does not answer"
    if node.state is not NodeState.READY:
        return f"is {node.state.value}"
    if node.flush_asked:
        return "is waiting to be flushed"
    if vm.nodes and node.name not in vm.nodes:
        return f"the VM is limited to {', '.join(vm.nodes)}"
    if vm.spread and vm.spread in (group for uuid, group in node.spread.items() if uuid != vm.uuid):
        return f"runs another VM of spread group {vm.spread}"
    if verdict is not None and verdict.veto:
        return verdict.veto
    return lack_of_memory(vm, node, reserved)


def lack_of_memory(vm: Vm, node: Candidate, reserved: Mapping[str, int]) -> str:
    """Why the VM does not fit into the node's memory; empty: it does."""
    if node.memory is None:
        return "has not published its memory"
    free = free_memory(node, reserved, without=vm.uuid)
    return "" if vm.memory <= free else f"has {max(0, free)} MiB free of {node.memory}, it needs {vm.memory}"


def free_memory(node: Candidate, reserved: Mapping[str, int], without: str = "") -> int:
    """MiB that are neither used nor promised; the VM `without` does not count."""
    claims = {**node.vms, **reserved}
    claims.pop(without, None)
    return (node.memory or 0) - sum(claims.values())


def choose_node(
    vm: Vm,
    nodes: Sequence[Candidate],
    *,
    reserved: Mapping[str, Mapping[str, int]],
    verdicts: Mapping[str, Verdict],
    excluded: Mapping[str, str],
) -> Choice:
    """The node with most memory free after plugins' scores, by name among equals; `excluded` gives further reasons."""
    reasons: dict[str, str] = {}
    best: tuple[float, str] | None = None
    for node in sorted(nodes, key=lambda node: node.name):
        promised = reserved.get(node.name, {})
        verdict = verdicts.get(node.name)
        why = excluded.get(node.name) or refusal(vm, node, promised, verdict)
        if why:
            reasons[node.name] = why
            continue
        score = (verdict.score if verdict else 0.0) + free_memory(node, promised, without=vm.uuid) - vm.memory
        if best is None or score > best[0]:
            best = (score, node.name)
    return Choice(best[1] if best else None, reasons)
