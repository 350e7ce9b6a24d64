"""Loading plugins and calling their hooks: the only user of pluggy's manager.

A plugin is an entry point in the group `pvc.plugins`: a module, or a class that is instantiated once per daemon. Each
plugin is called by itself, so that one that fails is logged, counted and left out, and the others still answer.
"""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Protocol, TypeVar

import pluggy

from pvc.core import hookspecs
from pvc.core.commands import CommandLine
from pvc.core.context import Context, Verdict
from pvc.core.coordination import Disconnected
from pvc.core.declaration import Declaration
from pvc.core.errors import PvcError
from pvc.core.model import Finding, NodeFacts, Severity, Vm
from pvc.core.observers import VmEvent, VmObserver
from pvc.core.service import Service
from pvc.core.sinks import ConsoleSink
from pvc.core.turns import FlushStep, Gate


class PluginProblem(PvcError):
    """A plugin cannot be loaded: it is missing, broken, or not in this version."""


class PluginFailed(PvcError):
    """A plugin failed in a hook whose answer cannot be left out."""


class Ordered(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def after(self) -> tuple[str, ...]: ...


OrderedThing = TypeVar("OrderedThing", bound=Ordered)

_SHAPES: Mapping[str, Callable[[Any], Any]] = {
    "pvc_config_schema": dict,
    "pvc_services": list,
    "pvc_flush_gates": list,
    "pvc_flush_steps": list,
    "pvc_vm_observers": list,
    "pvc_vm_needs": tuple,
    "pvc_placement": dict,
    "pvc_node_facts": dict,
    "pvc_health": list,
    "pvc_console_sinks": list,
}
"""What core makes of each answer while it still can blame the plugin; an answer of another kind is a failure."""


@dataclass(slots=True)
class PluginStatus:
    """A loaded plugin and how it has behaved."""

    name: str
    version: str
    origin: str
    hooks: tuple[str, ...] = ()
    failures: int = 0
    last_error: str = ""


def installed() -> dict[str, EntryPoint]:
    """Every plugin that is installed, by name."""
    return {point.name: point for point in entry_points(group=hookspecs.GROUP)}


def ordered(things: Sequence[OrderedThing]) -> list[OrderedThing]:
    """The things so that each comes after those it names in `after`; names that are not there do not count.

    Raises PluginProblem for a circle, and for two of one name: one of them would silently be left out.
    """
    by_name = {thing.name: thing for thing in things}
    if len(by_name) < len(things):
        names = sorted({thing.name for thing in things if sum(other.name == thing.name for other in things) > 1})
        raise PluginProblem(f"two plugins use the same name for a part of theirs ({', '.join(names)}); switch one off")
    sorter = TopologicalSorter({name: [a for a in thing.after if a in by_name] for name, thing in by_name.items()})
    try:
        return [by_name[name] for name in sorter.static_order()]
    except ValueError as error:
        raise PluginProblem(f"plugins wait for each other in a circle: {error.args[1]}") from error


class Plugins:
    """The loaded plugins. `bind` gives them a context; before that only schemas and commands can be asked for."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs.Hooks)
        self._status: dict[str, PluginStatus] = {}
        self._context: Context | None = None
        self._observers: list[tuple[str, VmObserver]] = []
        if os.environ.get("PVC_TRACE_HOOKS") == "1":
            self._manager.trace.root.setwriter(lambda line: log.info("hook %s", line.strip()))
            self._manager.enable_tracing()

    def load(self, names: Sequence[str], ready: Mapping[str, object] | None = None) -> None:
        """Load plugins by entry-point name; `ready` gives objects to use in place of what is installed.

        Raises PluginProblem.
        """
        points = installed() if set(names) - set(ready or ()) else {}
        for name in names:
            if ready and name in ready:
                self._register(name, ready[name], "given", "")
                continue
            if name not in points:
                raise PluginProblem(_why_missing(name, points))
            point = points[name]
            try:
                loaded = point.load()
                plugin = loaded() if isinstance(loaded, type) else loaded
            except Exception as error:  # whatever a third party's import does: it becomes a message
                raise PluginProblem(f"plugin {name} cannot be loaded ({point.value}): {error}") from error
            self._register(name, plugin, point.value, point.dist.version if point.dist else "")

    def status(self) -> list[PluginStatus]:
        """Every loaded plugin, in the order of loading."""
        return list(self._status.values())

    def findings(self) -> list[Finding]:
        """A warning for each plugin that has failed."""
        return [
            Finding(f"plugin {s.name}", Severity.WARNING, f"failed {s.failures} times, last: {s.last_error}")
            for s in self._status.values()
            if s.failures
        ]

    def schemas(self) -> dict[str, Mapping[str, Any]]:
        """The schema of each plugin that has one, by section name."""
        found = self._ask("pvc_config_schema", required=True)
        return {name: dict(schema) for name, schema in found}

    def declarations(self) -> dict[str, Declaration]:
        """What each loaded plugin declares of itself, by name."""
        declared = dict(self._ask("pvc_declaration", required=True))
        return {name: declared.get(name, Declaration()) for name in self._status}

    def commands(self, cli: CommandLine) -> None:
        """Let each plugin add its commands; one that fails is reported and left out."""
        self._ask("pvc_commands", cli=cli)

    def bind(self, context: Context) -> None:
        """Give the plugins their surroundings; from now on everything can be asked for."""
        self._context = context
        self._observers = [(name, o) for name, found in self._ask("pvc_vm_observers", context=context) for o in found]

    def services(self) -> list[Service]:
        """The services of all plugins, ordered by `after`."""
        return ordered([s for _, found in self._ask("pvc_services", context=self._bound) for s in found])

    def gates(self) -> tuple[Gate, ...]:
        return tuple(g for _, found in self._ask("pvc_flush_gates", required=True, context=self._bound) for g in found)

    def steps(self) -> tuple[FlushStep, ...]:
        found = self._ask("pvc_flush_steps", required=True, context=self._bound)
        return tuple(ordered([step for _, steps in found for step in steps]))

    def vm_changed(self, event: VmEvent) -> None:
        for name, observer in self._observers:
            try:
                observer.vm_changed(event)
            except Exception as error:  # contained: a VM's life does not depend on who listens
                self._failed(name, "vm_changed", error)

    def vm_definition(self, vm: Vm, xml: str) -> str:
        for name in self._status:
            for changed in self._call(name, "pvc_vm_definition", required=True, context=self._bound, vm=vm, xml=xml):
                xml = changed if changed is not None else xml
        return xml

    def vm_needs(self, role: str, xml: str, nodes: Mapping[str, NodeFacts]) -> tuple[str, ...]:
        """What a VM of this definition uses of a role. Raises PluginFailed: a VM must not go where it cannot run."""
        answers = self._call(role, "pvc_vm_needs", required=True, xml=xml, nodes=nodes) if role in self._status else []
        return tuple(thing for answer in answers for thing in answer)

    def placement(self, vm: Vm, nodes: tuple[str, ...]) -> dict[str, Verdict]:
        return _merged(self._ask("pvc_placement", context=self._bound, vm=vm, nodes=nodes))

    def placement_by_roles(self, context: Context, vm: Vm, nodes: tuple[str, ...]) -> dict[str, Verdict]:
        """As `placement`, of the roles that the VM needs alone: these can be asked without a daemon too."""
        asked = {"context": context, "vm": vm, "nodes": nodes}
        roles = [role for role in vm.needs if role in self._status]
        return _merged(
            [(role, answer) for role in roles for answer in self._call(role, "pvc_placement", required=True, **asked)]
        )

    def console_sinks(self) -> tuple[ConsoleSink, ...]:
        return tuple(sink for _, found in self._ask("pvc_console_sinks", context=self._bound) for sink in found)

    def facts(self) -> dict[str, Any]:
        """All plugins' facts, merged; a later plugin wins."""
        merged: dict[str, Any] = {}
        for _, facts in self._ask("pvc_node_facts", context=self._bound):
            merged.update(facts)
        return merged

    def health(self) -> list[Finding]:
        """All plugins' findings, and one for each plugin that has failed."""
        found = [f for _, findings in self._ask("pvc_health", context=self._bound) for f in findings]
        return found + self.findings()

    @property
    def _bound(self) -> Context:
        if self._context is None:
            raise RuntimeError("bind() comes before this call")
        return self._context

    def _register(self, name: str, plugin: object, origin: str, version: str) -> None:
        self._manager.register(plugin, name=name)
        try:
            self._manager.check_pending()
        except pluggy.PluginValidationError as error:
            raise PluginProblem(f"plugin {name} implements a hook that does not exist: {error}") from error
        hooks = tuple(sorted(c.name for c in self._manager.get_hookcallers(plugin) or ()))
        self._status[name] = PluginStatus(name, version, origin, hooks)

    def _ask(self, hook: str, *, required: bool = False, **arguments: Any) -> list[tuple[str, Any]]:
        return [
            (name, answer)
            for name in self._status
            for answer in self._call(name, hook, required=required, **arguments)
            if answer is not None
        ]

    def _call(self, name: str, hook: str, *, required: bool, **arguments: Any) -> list[Any]:
        """One plugin's answer to a hook, as a list of none or one. Raises PluginFailed only if `required`."""
        if hook not in self._status[name].hooks:
            return []
        others = [plugin for other, plugin in self._manager.list_name_plugin() if other != name]
        try:
            shape = _SHAPES.get(hook, _as_it_is)
            return [shape(answer) for answer in self._manager.subset_hook_caller(hook, others)(**arguments)]
        except Disconnected:  # no fault of the plugin: whoever asks waits it out
            raise
        except Exception as error:  # contained: this is what a plugin's failure looks like from core
            self._failed(name, hook, error)
            if required:
                raise PluginFailed(f"plugin {name} failed in {hook}: {error}") from error
            return []

    def _failed(self, name: str, hook: str, error: Exception) -> None:
        status = self._status[name]
        status.failures += 1
        status.last_error = f"{hook}: {error}"
        self._log.error("plugin %s failed in %s: %s", name, hook, error, exc_info=error)


def _merged(answers: Sequence[tuple[str, Mapping[str, Verdict]]]) -> dict[str, Verdict]:
    """The verdicts of several plugins on each node: the first veto, with its plugin, and the sum of the scores."""
    merged: dict[str, Verdict] = {}
    for name, verdicts in answers:
        for node, verdict in verdicts.items():
            before = merged.get(node, Verdict())
            veto = before.veto or (f"{verdict.veto} ({name})" if verdict.veto else "")
            merged[node] = Verdict(veto, before.score + verdict.score)
    return merged


def _as_it_is(answer: Any) -> Any:
    return answer


def _why_missing(name: str, points: Mapping[str, EntryPoint]) -> str:
    return f"plugin {name} is not installed; installed are: {', '.join(sorted(points))}"
