"""Hooks of the storage role, and nothing else."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from pvc.core.commands import CommandLine
from pvc.core.context import Context, Verdict
from pvc.core.declaration import Declaration
from pvc.core.hookspecs import hookimpl
from pvc.core.model import Finding, NodeFacts, Vm
from pvc.core.service import Service
from pvc.core.storage import HypervisorSecret

if TYPE_CHECKING:
    from pvc.plugins.storage.attachments import Attachments
    from pvc.plugins.storage.backends import Backends
    from pvc.plugins.storage.directories import Directories
    from pvc.plugins.storage.service import DirectoryWatch


class StoragePlugin:
    """Knows the node's shared directories. `open_directories` opens the door to them; None: the machine's."""

    def __init__(self, open_directories: "Callable[[], Directories] | None" = None) -> None:
        self._open_directories = open_directories
        self._service: DirectoryWatch | None = None
        self._attachments: Attachments | None = None
        self._backends: Backends | None = None

    @hookimpl
    def pvc_declaration(self) -> Declaration:
        return Declaration(summary="Knows this node's shared directories and keeps VMs from nodes that lack theirs")

    @hookimpl
    def pvc_config_schema(self) -> Mapping[str, Any]:
        from pvc.plugins.storage.schema import SCHEMA

        return SCHEMA

    @hookimpl
    def pvc_services(self, context: Context) -> Sequence[Service]:
        return [self._the_service(context)]

    @hookimpl
    def pvc_node_facts(self, context: Context) -> Mapping[str, Any]:
        return self._the_service(context).facts()

    @hookimpl
    def pvc_health(self, context: Context) -> Sequence[Finding]:
        return [*self._the_service(context).findings(), *self._the_attachments(context).findings()]

    @hookimpl
    def pvc_vm_needs(self, xml: str, nodes: Mapping[str, NodeFacts]) -> Sequence[str]:
        from pvc.plugins.storage.decide.attachment import needed
        from pvc.plugins.storage.decide.directories import files_of, kept_in
        from pvc.plugins.storage.neighbours import published_in

        published = [published_in(facts) for facts in nodes.values()]
        return (*kept_in(files_of(xml), [one for one in published if one is not None]), *needed(xml))

    @hookimpl
    def pvc_vm_definition(self, context: Context, vm: Vm, xml: str) -> str | None:
        return self._the_attachments(context).definition(vm, xml)

    @hookimpl
    def pvc_placement(self, context: Context, vm: Vm, nodes: Sequence[str]) -> Mapping[str, Verdict]:
        return self._the_attachments(context).verdicts(vm, nodes)

    @hookimpl
    def pvc_hypervisor_secrets(self, context: Context) -> Sequence[HypervisorSecret]:
        return self._the_attachments(context).secrets()

    @hookimpl
    def pvc_commands(self, cli: CommandLine) -> None:
        cli.group("directory", help="Shared directories of the nodes with the storage role.").later(
            ("list",), partial(_add_commands, cli)
        )
        cli.group("vm")
        cli.group("vm disk", help="The disks of a VM.").later(
            ("add", "remove", "list"), partial(_add_disk_commands, cli)
        )

    def _the_attachments(self, context: Context) -> "Attachments":
        if self._attachments is None:
            from pvc.plugins.storage.attachments import Attachments

            self._attachments = Attachments(context, self._the_backends(context))
        return self._attachments

    def _the_backends(self, context: Context) -> "Backends":
        """All that is done to pools on this node goes through these."""
        if self._backends is None:
            from pvc.plugins.storage.backends import Backends

            self._backends = Backends(context.runtime, context.plugins.storage_backends)
        return self._backends

    def _the_service(self, context: Context) -> "DirectoryWatch":
        if self._service is None:
            from pvc.plugins.storage.schema import SECTION, settings_from
            from pvc.plugins.storage.service import DirectoryWatch

            settings = settings_from(context.config.section(SECTION))
            self._service = DirectoryWatch(context, self._directories(), settings)
        return self._service

    def _directories(self) -> "Directories":
        if self._open_directories is not None:
            return self._open_directories()
        from pvc.plugins.storage.filesystem import SystemDirectories

        return SystemDirectories()


def _add_commands(cli: CommandLine) -> None:
    from pvc.plugins.storage.cli import add_commands

    add_commands(cli)


def _add_disk_commands(cli: CommandLine) -> None:
    from pvc.plugins.storage.vmcli import add_commands

    add_commands(cli)
