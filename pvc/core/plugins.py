"""The plugins that are switched on, and the calling of their hooks: the only user of pluggy's manager.

A plugin is an entry point in the group `pvc.plugins`: a module, or a class that is instantiated once per daemon. Each
plugin is called by itself, so that one that fails is logged, counted and left out, and the others still answer. A third
party's is trusted with less than a built-in: it is given so many seconds, and whatever it raises ends here.
"""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from graphlib import TopologicalSorter
from typing import Any, Protocol, TypeVar

import pluggy

from pvc.core import hookspecs
from pvc.core.commands import CommandLine
from pvc.core.context import Context, Verdict
from pvc.core.coordination import Disconnected
from pvc.core.deadline import within
from pvc.core.declaration import Declaration
from pvc.core.lifecycle import ServiceStatus
from pvc.core.loading import (
    Origin,
    PluginProblem,
    contained,
    demand_known_api,
    find,
    in_words,
    installed,
    kept_quiet,
    load,
    origin_given,
    origin_of,
)
from pvc.core.model import Finding, NodeFacts, Vm
from pvc.core.observers import VmEvent, VmObserver
from pvc.core.pluginstatus import PluginReport, PluginState, PluginStatus
from pvc.core.runtime import Ended, Runtime
from pvc.core.service import Service
from pvc.core.shapes import shaped
from pvc.core.sinks import ConsoleSink
from pvc.core.storage import HypervisorSecret, OpenBackend
from pvc.core.turns import FlushStep, Gate
from pvc.core.watchedparts import ClosedGate, PluginFailed, Told, WatchedGate, WatchedStep

__all__ = ["PluginFailed", "PluginProblem", "PluginStatus", "Plugins", "installed", "ordered"]

ANSWERS_WITHIN = 10.0
"""Seconds that a third party's hook may take: it answers from memory, so this is long even for a host that swaps, and
short enough for the node's facts to be up to date again soon."""
STARTS_WITHIN = 30.0
"""Seconds for the hooks that are called once, when the daemon starts: they import what the plugin needs. systemd gives
a service 90 s to start."""
_AT_START = frozenset(
    {
        "pvc_services",
        "pvc_flush_gates",
        "pvc_flush_steps",
        "pvc_vm_observers",
        "pvc_console_sinks",
        "pvc_storage_backends",
    }
)


class Ordered(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def after(self) -> tuple[str, ...]: ...


OrderedThing = TypeVar("OrderedThing", bound=Ordered)
T = TypeVar("T")


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
    """The plugins. `bind` gives them a context; before that only declarations, schemas and commands can be asked for.

    `attended`: in the client, a person's program: an interrupt is the person's, what a plugin prints while it is loaded
    does not get into the command's output, and failures are told without their origin in the source.
    """

    def __init__(self, log: logging.Logger, *, attended: bool = False) -> None:
        self.calling = ""
        """The plugin that is adding its commands at this moment; empty: none is."""
        self._log = log
        self._attended = attended
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

        A third party's plugin that cannot be loaded is left out, and `findings` tells of it. Raises PluginProblem for a
        built-in one, and for a name that nothing installed has.
        """
        points = installed() if set(names) - set(ready or ()) else {}
        for name in names:
            if ready and name in ready:
                self._admit(name, origin_given(ready[name]), partial(_itself, ready[name]))
                continue
            point = find(name, points)
            self._admit(name, origin_of(point), partial(load, point, attended=self._attended))

    def status(self) -> list[PluginStatus]:
        """Every loaded plugin, in the order of loading."""
        return [status for status in self._status.values() if status.state is not PluginState.LEFT_OUT]

    def left_out(self) -> list[PluginStatus]:
        """The plugins that are switched on and could not be loaded."""
        return [status for status in self._status.values() if status.state is PluginState.LEFT_OUT]

    def reports(self, services: Sequence[ServiceStatus]) -> list[PluginReport]:
        """What there is to tell of each plugin; `services` are all of the daemon's."""
        return [status.report(services) for status in self._status.values()]

    def findings(self) -> list[Finding]:
        """What a person should know of each plugin that fails, is stuck, or was left out."""
        return [finding for status in self._status.values() for finding in status.findings()]

    def schemas(self) -> dict[str, Mapping[str, Any]]:
        """The schema of each plugin that has one, by section name. A third party's that cannot be used has the whole
        plugin left out: nothing could vouch for its settings. Raises PluginFailed, PluginSchemaError for a built-in."""
        from pvc.core.config.schema import check_schema  # only now: commands that read no settings need no cerberus

        found: dict[str, Mapping[str, Any]] = {}
        for status in self.status():
            try:
                for schema in self._call(status, "pvc_config_schema", required=True):
                    if not status.built_in:
                        check_schema(status.name, schema)
                    found[status.name] = schema
            except Exception as error:  # a schema is data that cerberus runs through: it may fail anyhow
                if status.built_in:
                    raise
                self._leave_out(status, str(error))
        return found

    def declarations(self) -> dict[str, Declaration]:
        """What each loaded plugin declares of itself, by name."""
        return {status.name: status.declaration for status in self.status()}

    def commands(self, cli: CommandLine) -> None:
        """Let each plugin add its commands; one that fails is reported and left out."""
        for status in self.status():
            self.calling = status.name
            self._call(status, "pvc_commands", cli=cli)
        self.calling = ""

    def bind(self, context: Context) -> None:
        """Give the plugins their surroundings; from now on everything can be asked for."""
        self._context = context
        for status in self.left_out():
            status.last_error_at = context.runtime.now()
        self._observers = [(name, o) for name, found in self._ask("pvc_vm_observers", context=context) for o in found]

    def services(self, others: Sequence[Service] = ()) -> list[Service]:
        """The services of all plugins, ordered by `after`; `others` run beside them."""
        parts = self._fitting("pvc_services", self._ask("pvc_services", context=self._bound), others)
        for name, service in parts:
            self._status[name].services += (service.name,)
        return ordered([service for _, service in parts])

    def gates(self) -> tuple[Gate, ...]:
        """The gates of all plugins, after core's own, which is shut while a third party's gate or step may be missing.

        Raises PluginFailed if a built-in cannot say its gates.
        """
        parts = self._fitting("pvc_flush_gates", self._ask_strictly("pvc_flush_gates"), (), WatchedGate)
        closed: list[Gate] = [] if all(s.built_in for s in self._status.values()) else [ClosedGate(self._unguarded)]
        return (*closed, *(gate for _, gate in parts))

    def steps(self) -> tuple[FlushStep, ...]:
        """The flush steps of all plugins, ordered by `after`. Raises PluginFailed if a built-in cannot say its own."""
        parts = self._fitting("pvc_flush_steps", self._ask_strictly("pvc_flush_steps"), (), WatchedStep)
        return tuple(ordered([step for _, step in parts]))

    def vm_changed(self, event: VmEvent) -> None:
        for name, observer in self._observers:
            status = self._status[name]
            try:
                self._timed(status, "vm_changed", partial(observer.vm_changed, event))
            except PluginFailed:  # told already; a VM's life does not depend on who listens
                continue

    def vm_definition(self, vm: Vm, xml: str) -> str:
        for status in self.status():
            for changed in self._call(status, "pvc_vm_definition", required=True, context=self._bound, vm=vm, xml=xml):
                xml = changed
        return xml

    def vm_needs(self, role: str, xml: str, nodes: Mapping[str, NodeFacts]) -> tuple[str, ...]:
        """What a VM of this definition uses of a role. Raises PluginFailed: a VM must not go where it cannot run."""
        status = self._status.get(role)
        answers = self._call(status, "pvc_vm_needs", required=True, xml=xml, nodes=nodes) if status else []
        return tuple(thing for answer in answers for thing in answer)

    def placement(self, vm: Vm, nodes: tuple[str, ...]) -> dict[str, Verdict]:
        return _merged(self._ask("pvc_placement", context=self._bound, vm=vm, nodes=nodes))

    def placement_by_roles(self, context: Context, vm: Vm, nodes: tuple[str, ...]) -> dict[str, Verdict]:
        """As `placement`, of the roles that the VM needs alone: these can be asked without a daemon too."""
        asked = {"context": context, "vm": vm, "nodes": nodes}
        roles = [self._status[role] for role in vm.needs if role in self._status]
        return _merged(
            [(s.name, answer) for s in roles for answer in self._call(s, "pvc_placement", required=True, **asked)]
        )

    def console_sinks(self) -> tuple[ConsoleSink, ...]:
        return tuple(sink for _, found in self._ask("pvc_console_sinks", context=self._bound) for sink in found)

    def storage_backends(self) -> dict[str, OpenBackend]:
        found: dict[str, OpenBackend] = {}
        for name, kinds in self._ask("pvc_storage_backends", context=self._bound):
            for kind, open_backend in kinds.items():
                if kind in found:
                    self._log.error("plugin %s brings a storage backend %s, which there is already", name, kind)
                found.setdefault(kind, open_backend)
        return found

    def hypervisor_secrets(self) -> tuple[HypervisorSecret, ...]:
        return tuple(one for _, found in self._ask("pvc_hypervisor_secrets", context=self._bound) for one in found)

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

    # Loading.

    def _admit(self, name: str, origin: Origin, make: Callable[[], object]) -> None:
        status = PluginStatus(name, origin.version, origin.entry_point, origin.distribution, origin.built_in)
        self._status[name] = status
        try:
            self._register(status, make())
        except PluginProblem as problem:
            if status.built_in:
                del self._status[name]
                raise
            self._leave_out(status, str(problem), problem)

    def _register(self, status: PluginStatus, plugin: object) -> None:
        self._manager.register(plugin, name=status.name)
        try:
            self._manager.check_pending()
        except pluggy.PluginValidationError as error:
            raise PluginProblem(f"plugin {status.name} implements a hook that does not exist: {error}") from error
        status.hooks = tuple(sorted(caller.name for caller in self._manager.get_hookcallers(plugin) or ()))
        answers = contained(
            "pvc_declaration", partial(self._answers, status, "pvc_declaration"), attended=self._attended
        )
        for declaration in answers:
            status.declaration = demand_known_api(declaration)

    def _leave_out(self, status: PluginStatus, why: str, error: BaseException | None = None) -> None:
        if self._manager.has_plugin(status.name):
            self._manager.unregister(name=status.name)
        status.hooks = ()
        status.leave_out(why)
        status.failed("loading", why, None)
        shown = None if self._attended else error
        self._log.error("plugin %s is left out: %s; %s", status.name, why, status.remedy, exc_info=shown)

    # Parts: a plugin whose part does not fit beside those that are there already loses them.

    def _fitting(
        self,
        hook: str,
        answers: Sequence[tuple[str, Sequence[Any]]],
        others: Sequence[Any],
        watched: Callable[[str, Any, Told], Any] | None = None,
    ) -> list[tuple[str, Any]]:
        owners = {other.name: "pvc itself" for other in others}
        accepted: list[tuple[str, Any]] = []
        for name, found in answers:
            status = self._status[name]
            try:
                for part in found:
                    if part.name in owners:
                        raise PluginProblem(f"the name {part.name} of a part of it is taken by {owners[part.name]}")
                if hook != "pvc_flush_gates":
                    ordered([*others, *(part for _, part in accepted), *found])
                if watched is not None and not status.built_in:
                    found = [watched(name, part, partial(self._told, status)) for part in found]
            except Exception as error:  # what a third party calls a name or an order may be anything
                if status.built_in:
                    raise
                self._lacks_part(status, hook, error)
                continue
            owners |= {part.name: f"plugin {name}" for part in found}
            accepted += [(name, part) for part in found]
        return accepted

    def _lacks_part(self, status: PluginStatus, hook: str, error: BaseException) -> None:
        self._failed(status, hook, error)
        if hook in ("pvc_flush_gates", "pvc_flush_steps"):
            status.unguarded = status.last_error

    def _unguarded(self) -> list[str]:
        """Why no flush may run: what could forbid it, or must take part in it, may be missing."""
        return [
            f"plugin {status.name} is switched on and cannot take part: {status.unguarded}; {status.remedy}"
            for status in self._status.values()
            if status.unguarded
        ]

    # Calling.

    def _ask(self, hook: str, **arguments: Any) -> list[tuple[str, Any]]:
        return [(s.name, answer) for s in self.status() for answer in self._call(s, hook, **arguments)]

    def _ask_strictly(self, hook: str) -> list[tuple[str, Any]]:
        """As `_ask`, for what flushes depend on: a built-in's failure is raised, a third party's closes the gate."""
        found: list[tuple[str, Any]] = []
        for status in self.status():
            try:
                found += [(status.name, a) for a in self._call(status, hook, required=True, context=self._bound)]
            except PluginFailed:
                if status.built_in:
                    raise
                status.unguarded = status.last_error
        return found

    def _call(self, status: PluginStatus, hook: str, *, required: bool = False, **arguments: Any) -> list[Any]:
        """One plugin's answer to a hook, as a list of none or one. Raises PluginFailed only if `required`."""
        if hook not in status.hooks:
            return []
        try:
            return self._timed(status, hook, lambda: self._answers(status, hook, **arguments))
        except PluginFailed:
            if required:
                raise
            return []

    def _answers(self, status: PluginStatus, hook: str, **arguments: Any) -> list[Any]:
        if hook not in status.hooks:
            return []
        others = [plugin for other, plugin in self._manager.list_name_plugin() if other != status.name]
        with kept_quiet(self._attended):
            return [shaped(hook, answer) for answer in self._manager.subset_hook_caller(hook, others)(**arguments)]

    def _timed(self, status: PluginStatus, hook: str, work: Callable[[], T]) -> T:
        """What the plugin's code answers. Raises PluginFailed, having told of it."""
        context = self._context
        if status.stuck:
            waits = ", ".join(sorted(set(status.stuck.values())))
            raise PluginFailed(f"plugin {status.name} is not asked for {hook}: it does not return from {waits}")
        started = context.runtime.monotonic() if context else 0.0
        try:
            if context is None or status.built_in:
                answer = work()
            else:
                answer = self._in_time(context.runtime, status, hook, work)
        except (Ended, Disconnected):  # the second is no fault of the plugin: whoever asks waits it out
            raise
        except BaseException as error:  # contained: this is what a plugin's failure looks like from core
            if self._attended and isinstance(error, KeyboardInterrupt):
                raise
            self._failed(status, hook, error)
            raise PluginFailed(f"plugin {status.name} failed in {hook}: {in_words(error)}") from error
        finally:
            if context:
                status.took(hook, context.runtime.monotonic() - started)
        status.failing.pop(hook, None)
        return answer

    def _in_time(self, runtime: Runtime, status: PluginStatus, hook: str, work: Callable[[], T]) -> T:
        call, began = object(), runtime.monotonic()

        def late() -> None:
            status.stuck.pop(call, None)
            took = runtime.monotonic() - began
            self._log.warning("plugin %s has returned from %s, too late: after %.0f s", status.name, hook, took)

        def given_up() -> None:
            status.stuck[call] = hook

        seconds = STARTS_WITHIN if hook in _AT_START else ANSWERS_WITHIN
        return within(runtime, seconds, f"{hook} of plugin {status.name}", work, given_up, late)

    def _told(self, status: PluginStatus, what: str, error: BaseException | None) -> None:
        if error is None:
            status.failing.pop(what, None)
        else:
            self._failed(status, what, error)

    def _failed(self, status: PluginStatus, hook: str, error: BaseException) -> None:
        known = status.failing.get(hook)
        status.failed(hook, in_words(error), self._context.runtime.now() if self._context else None)
        if status.failing[hook] == known:  # the same again: told once, counted each time
            return
        shown = None if self._attended else error
        self._log.error("plugin %s failed in %s: %s", status.name, hook, in_words(error), exc_info=shown)


def _merged(answers: Sequence[tuple[str, Mapping[str, Verdict]]]) -> dict[str, Verdict]:
    """The verdicts of several plugins on each node: the first veto, with its plugin, and the sum of the scores."""
    merged: dict[str, Verdict] = {}
    for name, verdicts in answers:
        for node, verdict in verdicts.items():
            before = merged.get(node, Verdict())
            veto = before.veto or (f"{verdict.veto} ({name})" if verdict.veto else "")
            everywhere = before.everywhere or (verdict.everywhere and bool(verdict.veto))
            merged[node] = Verdict(veto, before.score + verdict.score, everywhere)
    return merged


def _itself(plugin: object) -> object:
    return plugin
