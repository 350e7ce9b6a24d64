"""Hooks of the hypervisor role, and nothing else."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from pvc.core.commands import CommandLine
from pvc.core.context import Context
from pvc.core.declaration import Declaration
from pvc.core.hookspecs import hookimpl
from pvc.core.model import Finding
from pvc.core.service import Service
from pvc.core.turns import FlushStep

if TYPE_CHECKING:
    from pvc.plugins.hypervisor.host import Hypervisor
    from pvc.plugins.hypervisor.parts import Parts


COMMANDS = (
    *("define", "undefine", "set", "unset", "modify", "list", "info", "dump", "start", "shutdown", "stop", "restart"),
    *("move", "migrate", "unmigrate"),
)
"""Those of `pvc vm` that are made when one of them is asked for."""


class HypervisorPlugin:
    """Runs VMs. `connect` opens the hypervisor; None: the libvirt that the configuration names."""

    def __init__(self, connect: "Callable[[Context], Hypervisor] | None" = None) -> None:
        self._connect = connect
        self._parts: Parts | None = None

    @hookimpl
    def pvc_declaration(self) -> Declaration:
        return Declaration(summary="Runs virtual machines and moves them from node to node")

    @hookimpl
    def pvc_config_schema(self) -> Mapping[str, Any]:
        from pvc.plugins.hypervisor.schema import SCHEMA

        return SCHEMA

    @hookimpl
    def pvc_services(self, context: Context) -> Sequence[Service]:
        parts = self._made(context)
        return [parts.service, parts.secrets]

    @hookimpl
    def pvc_flush_steps(self, context: Context) -> Sequence[FlushStep]:
        return [self._made(context).evacuation]

    @hookimpl
    def pvc_node_facts(self, context: Context) -> Mapping[str, Any]:
        return self._made(context).facts()

    @hookimpl
    def pvc_health(self, context: Context) -> Sequence[Finding]:
        parts = self._made(context)
        return [*parts.service.findings(), *parts.secrets.findings()]

    @hookimpl
    def pvc_commands(self, cli: CommandLine) -> None:
        cli.group("vm", help="Virtual machines.").later(COMMANDS, partial(_add_commands, cli))
        cli.group("node").later(("fence",), partial(_add_fence, cli))

    def _made(self, context: Context) -> "Parts":
        """The parts of this daemon, made once."""
        if self._parts is None:
            from pvc.plugins.hypervisor.parts import make_parts

            self._parts = make_parts(context, self._connect)
        return self._parts


def _add_commands(cli: CommandLine) -> None:
    from pvc.plugins.hypervisor.cli import add_commands

    add_commands(cli)


def _add_fence(cli: CommandLine) -> None:
    from pvc.plugins.hypervisor.fencecli import add_commands

    add_commands(cli)
