"""Finds out why a VM has no console log: reads the records, `decide/absence.py` judges."""

from pvc.core import keys as core_keys
from pvc.core.coordination import Coordinator
from pvc.core.model import Node, Vm, VmActual
from pvc.core.records import Garbage, decode
from pvc.plugins.consolelog.decide import absence
from pvc.plugins.consolelog.definition import BadXml, has_console
from pvc.plugins.consolelog.schema import SECTION


def why_no_log(coordinator: Coordinator, vm: Vm) -> str:
    """Why nothing of a VM has been published, with what to do. Raises Disconnected."""
    try:
        return absence.why_no_log(_facts(coordinator, vm))
    except (BadXml, Garbage) as error:
        return f"nothing of {vm.name} has been published, and the cause cannot be told: {error}"


def _facts(coordinator: Coordinator, vm: Vm) -> absence.Facts:
    actual_path, xml_path = core_keys.vm_actual(vm.uuid), core_keys.vm_xml(vm.uuid)
    actual_znode, xml = coordinator.get_many([actual_path, xml_path])
    actual = VmActual() if actual_znode is None else decode(VmActual, actual_znode.data, actual_path)
    name = actual.node or vm.node
    znode = coordinator.get(core_keys.node(name))
    return absence.Facts(
        vm.name,
        has_console=xml is None or has_console(xml.data.decode(errors="replace")),
        runs=actual.node is not None,
        node=name,
        publishes=znode is None or SECTION in decode(Node, znode.data, core_keys.node(name)).plugins,
    )
