"""`pvc console`: the person's terminal on a VM's serial console, through virsh and the libvirt of the VM's node.

Imports no libvirt: whoever only reads logs needs none.
"""

import shutil
import sys
from dataclasses import dataclass

from pvc.core import keys as core_keys
from pvc.core.coordination import Coordinator
from pvc.core.errors import PvcError
from pvc.core.lookup import find_node
from pvc.core.model import ActualState, Node, Vm, VmActual
from pvc.core.records import decode
from pvc.plugins.consolelog.decide.absence import no_console
from pvc.plugins.consolelog.definition import has_console

VIRSH = "virsh"
ATTACHABLE = (ActualState.RUNNING, ActualState.MIGRATING, ActualState.STOPPING)


class CannotAttach(PvcError):
    """The console of a VM cannot be reached from here."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a VM's console is."""

    vm: Vm
    node: Node


def find_console(coordinator: Coordinator, vm: Vm) -> Place:
    """Where a VM runs. Raises CannotAttach if it does not, or has no console; Disconnected, Garbage."""
    path = core_keys.vm_actual(vm.uuid)
    znode, xml = coordinator.get_many([path, core_keys.vm_xml(vm.uuid)])
    if xml is not None and not has_console(xml.data.decode(errors="replace")):
        raise CannotAttach(no_console(vm.name))
    actual = VmActual() if znode is None else decode(VmActual, znode.data, path)
    if actual.node is None or actual.state not in ATTACHABLE:
        raise CannotAttach(
            f"{vm.name} does not run: it is {actual.state.value}; start it with `pvc vm start {vm.name}`, or read "
            f"what it printed with `pvc vm log {vm.name}`"
        )
    return Place(vm, find_node(coordinator, actual.node))


def uri_of(template: str, node: Node) -> str:
    """The libvirt URI of a node."""
    address = node.address or node.name
    return template.format(address=f"[{address}]" if ":" in address else address, node=node.name)


def attach_command(place: Place, uri: str, *, force: bool) -> list[str]:
    """The command that attaches this terminal. Raises CannotAttach if it cannot work here."""
    name = place.vm.name
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise CannotAttach(f"a console needs a terminal; to read only, use `pvc vm log -f {name}`")
    if shutil.which(VIRSH) is None:
        raise CannotAttach(
            f"{VIRSH} is not installed here; install libvirt-clients, or run `virsh console {name}` on "
            f"{place.node.name}"
        )
    return [VIRSH, "--connect", uri, "console", place.vm.uuid, *(["--force"] if force else [])]
