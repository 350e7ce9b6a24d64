"""What a VM's definition needs beside a hypervisor: asked of the roles when it is defined or modified.

A role counts only while some node that runs VMs has it: in a cluster where nobody looks after bridges, a VM with a
bridge may go anywhere, as it could before there was such a role.
"""

from collections.abc import Callable, Mapping

from pvc.core.config.switches import ROLES
from pvc.core.coordination import Coordinator
from pvc.core.decide.roles import HYPERVISOR
from pvc.core.lookup import all_nodes, read_facts
from pvc.core.model import NodeFacts

Ask = Callable[[str, str, Mapping[str, NodeFacts]], tuple[str, ...]]
"""Role, definition, facts of the nodes with the role: what the definition uses of it. See `Plugins.vm_needs`."""


def needs_of(coordinator: Coordinator, ask: Ask, xml: str) -> dict[str, tuple[str, ...]]:
    """The `needs` of a VM of this definition. Raises PluginFailed, Disconnected."""
    nodes = [node for node in all_nodes(coordinator)[0] if HYPERVISOR in node.roles]
    found: dict[str, tuple[str, ...]] = {}
    for role in ROLES:
        having = [node.name for node in nodes if role in node.roles]
        if having and role != HYPERVISOR:
            found[role] = ask(role, xml, {name: read_facts(coordinator, name) for name in having})
    return {role: things for role, things in found.items() if things}


def needs_with(
    coordinator: Coordinator, ask: Ask, role: str, xml: str, old: Mapping[str, tuple[str, ...]]
) -> dict[str, tuple[str, ...]]:
    """The `needs` of a VM when its definition has become this, and only what it uses of one role has changed.

    For a daemon, which knows no more roles than its node has. Raises PluginFailed, Disconnected.
    """
    nodes = [node.name for node in all_nodes(coordinator)[0] if {HYPERVISOR, role} <= set(node.roles)]
    things = ask(role, xml, {name: read_facts(coordinator, name) for name in nodes}) if nodes else ()
    return {name: used for name, used in {**old, role: things}.items() if used}
