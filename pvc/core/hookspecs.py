"""The hooks: the whole contract between core and plugins, built-in and third-party alike.

Hooks declare, core runs. A hook returns values at once and does no work: order, start, retry and stop are core's. Every
hook may be left out. A plugin is a module or object with functions marked `hookimpl`; it ships an entry point in the
group `pvc.plugins` whose name is also the name of its configuration section.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pluggy

from pvc.core.commands import CommandLine
from pvc.core.context import Context, Verdict
from pvc.core.declaration import Declaration
from pvc.core.model import Finding, NodeFacts, Vm
from pvc.core.observers import VmObserver
from pvc.core.service import Service
from pvc.core.sinks import ConsoleSink
from pvc.core.storage import HypervisorSecret, OpenBackend
from pvc.core.turns import FlushStep, Gate

PROJECT = "pvc"
GROUP = "pvc.plugins"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class Hooks:
    """Signatures of all hooks; implement any of them with `hookimpl`."""

    @hookspec
    def pvc_declaration(self) -> Declaration:
        """The version of the hooks that the plugin was written for, and the plugins that it needs or cannot bear."""
        raise NotImplementedError

    @hookspec
    def pvc_config_schema(self) -> Mapping[str, Any]:
        """The cerberus schema of the plugin's section of pvc.yaml, each key with its default and `meta`."""
        raise NotImplementedError

    @hookspec
    def pvc_services(self, context: Context) -> Sequence[Service]:
        """Services to run on this node. Called once, when the daemon starts."""
        raise NotImplementedError

    @hookspec
    def pvc_flush_gates(self, context: Context) -> Sequence[Gate]:
        """Gates that every flush and unflush of this node must pass before anything moves."""
        raise NotImplementedError

    @hookspec
    def pvc_flush_steps(self, context: Context) -> Sequence[FlushStep]:
        """What this role vacates on a flush and takes back on an unflush."""
        raise NotImplementedError

    @hookspec
    def pvc_vm_observers(self, context: Context) -> Sequence[VmObserver]:
        """Told when a VM is here or gone."""
        raise NotImplementedError

    @hookspec
    def pvc_vm_definition(self, context: Context, vm: Vm, xml: str) -> str | None:
        """The libvirt XML to start this VM with, changed; None: no change. Sees the changes of plugins before it.
        Asked again when a device is plugged in while the VM runs: then only that device is taken from the answer."""
        raise NotImplementedError

    @hookspec
    def pvc_vm_needs(self, xml: str, nodes: Mapping[str, NodeFacts]) -> Sequence[str]:
        """What a VM of this definition uses of your role, by name: it then only goes to nodes with the role. Asked by
        the client when a VM is defined or modified; `nodes` is what the nodes with the role publish. Do no I/O."""
        raise NotImplementedError

    @hookspec
    def pvc_placement(self, context: Context, vm: Vm, nodes: Sequence[str]) -> Mapping[str, Verdict]:
        """Vetoes and scores for nodes as targets of a VM; leave out the nodes you have no opinion on."""
        raise NotImplementedError

    @hookspec
    def pvc_node_facts(self, context: Context) -> Mapping[str, Any]:
        """Facts to publish with the node: fields of `NodeFacts`, or text under other keys. Must be quick: gather slow
        things in a service and return the last result."""
        raise NotImplementedError

    @hookspec
    def pvc_health(self, context: Context) -> Sequence[Finding]:
        """Findings about this node: ok, warning or critical, each with what to do. Must be quick."""
        raise NotImplementedError

    @hookspec
    def pvc_console_sinks(self, context: Context) -> Sequence[ConsoleSink]:
        """Takers of what this node publishes of its VMs' consoles. Asked for once, when the console log starts."""
        raise NotImplementedError

    @hookspec
    def pvc_storage_backends(self, context: Context) -> Mapping[str, OpenBackend]:
        """Kinds of storage that pools can be made of, by the name that pools call them by. Asked for
        once, when the storage role starts."""
        raise NotImplementedError

    @hookspec
    def pvc_hypervisor_secrets(self, context: Context) -> Sequence[HypervisorSecret]:
        """What the hypervisor of this node must know in order to reach disks: the hypervisor role keeps it there, in
        memory. Must be quick; asked again every few seconds and before a VM starts or a device is plugged in."""
        raise NotImplementedError

    @hookspec
    def pvc_commands(self, cli: CommandLine) -> None:
        """Add commands to the groups that `cli` hands out."""
        raise NotImplementedError
