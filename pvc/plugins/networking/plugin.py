"""Hooks of the networking role, and nothing else."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from pvc.core.commands import CommandLine
from pvc.core.context import Context, Verdict
from pvc.core.declaration import Declaration
from pvc.core.hookspecs import hookimpl
from pvc.core.mirror import Mirror
from pvc.core.model import Finding, NodeFacts, Vm
from pvc.core.service import Service

if TYPE_CHECKING:
    from pvc.plugins.networking.bridges import Bridges
    from pvc.plugins.networking.service import BridgeWatch


class NetworkingPlugin:
    """Knows the node's bridges. `open_bridges` opens the door to them; None: the kernel's."""

    def __init__(self, open_bridges: "Callable[[], Bridges] | None" = None) -> None:
        self._open_bridges = open_bridges
        self._service: BridgeWatch | None = None
        self._mirror: Mirror | None = None

    @hookimpl
    def pvc_declaration(self) -> Declaration:
        return Declaration(summary="Knows this node's bridges and keeps VMs from nodes that lack theirs")

    @hookimpl
    def pvc_config_schema(self) -> Mapping[str, Any]:
        from pvc.plugins.networking.schema import SCHEMA

        return SCHEMA

    @hookimpl
    def pvc_services(self, context: Context) -> Sequence[Service]:
        return [self._the_service(context)]

    @hookimpl
    def pvc_node_facts(self, context: Context) -> Mapping[str, Any]:
        return self._the_service(context).facts()

    @hookimpl
    def pvc_health(self, context: Context) -> Sequence[Finding]:
        return self._the_service(context).findings()

    @hookimpl
    def pvc_vm_needs(self, xml: str, nodes: Mapping[str, NodeFacts]) -> Sequence[str]:
        from pvc.plugins.networking.decide.bridges import bridges_of

        return bridges_of(xml)

    @hookimpl
    def pvc_placement(self, context: Context, vm: Vm, nodes: Sequence[str]) -> Mapping[str, Verdict]:
        from pvc.core.lookup import read_facts
        from pvc.plugins.networking.decide.bridges import why_not
        from pvc.plugins.networking.keys import UP
        from pvc.plugins.networking.schema import SECTION

        needed = vm.needs.get(SECTION, ())
        if not needed:
            return {}
        if self._mirror is None:
            self._mirror = Mirror(context.coordinator, context.runtime, context.operations_wake)
        found = {node: why_not(needed, read_facts(self._mirror, node).extra.get(UP)) for node in nodes}
        return {node: Verdict(why) for node, why in found.items() if why}

    @hookimpl
    def pvc_commands(self, cli: CommandLine) -> None:
        cli.group("bridge", help="Linux bridges of the nodes with the networking role.").later(
            ("list",), partial(_add_commands, cli)
        )

    def _the_service(self, context: Context) -> "BridgeWatch":
        if self._service is None:
            from pvc.plugins.networking.schema import SECTION, settings_from
            from pvc.plugins.networking.service import BridgeWatch

            settings = settings_from(context.config.section(SECTION))
            self._service = BridgeWatch(context, self._bridges(), settings)
        return self._service

    def _bridges(self) -> "Bridges":
        if self._open_bridges is not None:
            return self._open_bridges()
        from pvc.plugins.networking.sysfs import SysfsBridges

        return SysfsBridges()


def _add_commands(cli: CommandLine) -> None:
    from pvc.plugins.networking.cli import add_commands

    add_commands(cli)
