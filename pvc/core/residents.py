"""Finds the VMs that are on a node or are to run there, to judge whether it may give up a role. Reads only."""

from pvc.core import keys
from pvc.core.config.settings import Config
from pvc.core.coordination import Coordinator
from pvc.core.decide.roles import Resident, in_use, refusal
from pvc.core.errors import PvcError
from pvc.core.lookup import NotFound, find_node
from pvc.core.model import Vm, VmActual
from pvc.core.records import Garbage, decode


class RolesNeeded(PvcError):
    """The configuration takes roles from a node that VMs there need."""


def demand_unneeded(coordinator: Coordinator, node: str, old: tuple[str, ...], new: tuple[str, ...]) -> None:
    """Raise RolesNeeded if VMs on the node need a role that it had and is to have no longer. Raises Disconnected."""
    dropped = [role for role in old if role not in new]
    needed = in_use(dropped, residents(coordinator, node)) if dropped else {}
    if needed:
        raise RolesNeeded(refusal(node, needed))


def residents(coordinator: Coordinator, node: str) -> list[Resident]:
    """The VMs that hold a lease of the node, move to it or are assigned to it, by name. Raises Disconnected."""
    uuids = coordinator.children(keys.node_vms(node)) or ()
    found = [resident for uuid in uuids if (resident := _resident(coordinator, uuid, node)) is not None]
    return sorted(found, key=lambda one: one.name)


def role_warnings(coordinator: Coordinator, config: Config) -> list[str]:
    """What would keep a daemon with this configuration from starting on its node, as far as the cluster knows.

    For `pvc config check`. Raises Garbage, Disconnected.
    """
    try:
        known = find_node(coordinator, config.node)
    except NotFound:
        return []
    try:
        demand_unneeded(coordinator, config.node, known.roles, config.roles_on())
    except RolesNeeded as needed:
        return [str(needed)]
    return []


def _resident(coordinator: Coordinator, uuid: str, node: str) -> Resident | None:
    """None: the node only remembers it."""
    wanted, actual = coordinator.get_many([keys.vm(uuid), keys.vm_actual(uuid)])
    if wanted is None or actual is None:
        return None
    try:
        vm, lease = decode(Vm, wanted.data, keys.vm(uuid)), decode(VmActual, actual.data, keys.vm_actual(uuid))
    except Garbage:
        return Resident(uuid, {}, readable=False)
    return Resident(vm.name, vm.needs) if node in (vm.node, lease.node, lease.target) else None
