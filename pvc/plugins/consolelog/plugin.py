"""Hooks of the console log, and nothing else."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from pvc.core.commands import CommandLine
from pvc.core.context import Context
from pvc.core.declaration import Declaration
from pvc.core.hookspecs import hookimpl
from pvc.core.model import Finding, Severity, Vm
from pvc.core.observers import VmObserver
from pvc.core.service import Service
from pvc.core.sinks import ConsoleSink

if TYPE_CHECKING:
    from pvc.plugins.consolelog.service import ConsoleLog


class ConsoleLogPlugin:
    """Publishes serial consoles and shows them. One instance per daemon; command lines load no door of the daemon."""

    def __init__(self) -> None:
        self._service: ConsoleLog | None = None

    @hookimpl
    def pvc_declaration(self) -> Declaration:
        return Declaration(summary="Publishes the serial console of each VM to the cluster", needs=("hypervisor",))

    @hookimpl
    def pvc_config_schema(self) -> Mapping[str, Any]:
        from pvc.plugins.consolelog.schema import SCHEMA

        return SCHEMA

    @hookimpl
    def pvc_services(self, context: Context) -> Sequence[Service]:
        return [self._the_service(context)]

    @hookimpl
    def pvc_vm_observers(self, context: Context) -> Sequence[VmObserver]:
        return [self._the_service(context)]

    @hookimpl
    def pvc_vm_definition(self, context: Context, vm: Vm, xml: str) -> str | None:
        from pvc.plugins.consolelog.definition import log_path, with_log
        from pvc.plugins.consolelog.directory import unusable
        from pvc.plugins.consolelog.schema import SECTION, settings

        chosen = settings(context.config.section(SECTION))
        if unusable(chosen.directory):  # the health finding says so; the VM starts without a log rather than not at all
            return None
        return with_log(xml, log_path(chosen.directory, vm.name, vm.uuid), chosen.append)

    @hookimpl
    def pvc_health(self, context: Context) -> Sequence[Finding]:
        from pvc.plugins.consolelog.directory import unusable
        from pvc.plugins.consolelog.schema import SECTION, settings

        why = unusable(settings(context.config.section(SECTION)).directory)
        found = [Finding(SECTION, Severity.WARNING, why)] if why else []
        return found + self._the_service(context).findings()

    @hookimpl
    def pvc_console_sinks(self, context: Context) -> Sequence[ConsoleSink]:
        from pvc.plugins.consolelog.filesink import FileSink
        from pvc.plugins.consolelog.schema import SECTION, settings

        files = settings(context.config.section(SECTION)).files
        return [] if files.directory is None else [FileSink(files.directory, files.size, files.count)]

    @hookimpl
    def pvc_commands(self, cli: CommandLine) -> None:
        cli.group("vm").later(("log",), partial(_add_log, cli))
        about = "Sit at a VM's serial console; Ctrl-] leaves it. Goes through virsh to the libvirt of the VM's node."
        cli.group("").later({"console": about}, partial(_add_console, cli))

    def _the_service(self, context: Context) -> "ConsoleLog":
        if self._service is None:
            from pvc.plugins.consolelog.inotify import DirectoryFiles
            from pvc.plugins.consolelog.schema import SECTION, Settings, settings
            from pvc.plugins.consolelog.service import ConsoleLog

            def chosen() -> Settings:
                return settings(context.config.section(SECTION))

            directory = chosen().directory
            self._service = ConsoleLog(
                node=context.node,
                connect=lambda: context.connect("consolelog"),
                open_files=lambda wake: DirectoryFiles(
                    directory, context.runtime, wake, lambda: chosen().interval, context.log
                ),
                runtime=context.runtime,
                settings=chosen,
                log=context.log,
                open_sinks=context.plugins.console_sinks,
            )
        return self._service


def _add_log(cli: CommandLine) -> None:
    from pvc.plugins.consolelog.cli import add_log

    add_log(cli)


def _add_console(cli: CommandLine) -> None:
    from pvc.plugins.consolelog.cli import add_console

    add_console(cli)
