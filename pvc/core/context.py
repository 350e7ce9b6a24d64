"""What a plugin gets from core to build its parts with."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from pvc.core.config.settings import Config
from pvc.core.coordination import Coordinator
from pvc.core.model import NodeFacts, Vm
from pvc.core.observers import VmEvent
from pvc.core.runtime import Runtime, Signal
from pvc.core.sinks import ConsoleSink
from pvc.core.storage import HypervisorSecret, OpenBackend
from pvc.core.turns import FlushStep, Gate


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a plugin says of one node as a target for one VM."""

    veto: str = ""
    """Why the node cannot take it; empty: it can."""
    score: float = 0.0
    """Of the nodes that can take the VM those with the best sum of plugins' scores are preferred; 0: no opinion."""
    everywhere: bool = False
    """With a veto: no node can ever take the VM, because its definition asks for what does not exist. It is not even
    defined then."""


class PluginCalls(Protocol):
    """What a role may ask of all loaded plugins. A plugin that fails is logged, counted and left out of the answer."""

    def gates(self) -> tuple[Gate, ...]:
        """The gates of all plugins, in the order of their loading."""

    def steps(self) -> tuple[FlushStep, ...]:
        """The flush steps of all plugins, ordered by `after`."""

    def vm_changed(self, event: VmEvent) -> None:
        """Tell every VM observer."""

    def vm_definition(self, vm: Vm, xml: str) -> str:
        """The XML after every plugin's changes. Raises PluginFailed if one fails: a VM must not start half prepared."""

    def vm_needs(self, role: str, xml: str, nodes: Mapping[str, NodeFacts]) -> tuple[str, ...]:
        """What a VM of this definition uses of a role of this node; `nodes`: the facts of those that have it, too.
        Raises PluginFailed."""

    def placement(self, vm: Vm, nodes: tuple[str, ...]) -> dict[str, Verdict]:
        """What plugins say of nodes as targets for a VM; nodes nobody has an opinion on are left out.

        Raises Disconnected."""

    def console_sinks(self) -> tuple[ConsoleSink, ...]:
        """The takers of console output of all plugins."""

    def storage_backends(self) -> dict[str, OpenBackend]:
        """The kinds of storage that plugins bring, by name; of two of one name the first."""

    def hypervisor_secrets(self) -> tuple[HypervisorSecret, ...]:
        """What the hypervisor of this node must know, as all plugins say."""


@dataclass(frozen=True, slots=True)
class Context:
    """A plugin's surroundings in the daemon of one node."""

    node: str
    config_now: Callable[[], Config]
    """The configuration in force; `config` is the short way to it."""
    runtime: Runtime
    coordinator: Coordinator
    """The daemon's own session: the node's liveness hangs on it, so nothing heavy may use it."""
    connect: Callable[[str], Coordinator]
    """Open another session of that name, for heavy traffic. Core closes it when the daemon stops."""
    log: logging.Logger
    plugins: PluginCalls
    operations_wake: Signal
    """Set it to have the node's operation looked at again: gates and flush steps do, when what they watch changes."""
    registered: Callable[[], bool]
    """Whether this daemon holds its node's name at this moment. If not: start nothing new."""
    refresh_facts: Callable[[], None]
    """Have the node's facts gathered and published soon. Returns at once."""

    @property
    def config(self) -> Config:
        """The configuration in force at this moment. A reload replaces it: ask again rather than keep a value whose key
        the schema calls `live`."""
        return self.config_now()
