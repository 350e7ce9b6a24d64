"""Loading plugins and calling their hooks: what is missing is named, and what fails is contained."""

import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import pytest

from pvc.core import hookspecs
from pvc.core.commands import CommandLine
from pvc.core.config.settings import Config
from pvc.core.context import Context, Verdict
from pvc.core.coordination import Disconnected
from pvc.core.declaration import Declaration
from pvc.core.forecast import Forecast
from pvc.core.hookspecs import hookimpl
from pvc.core.model import Finding, NodeFacts, Operation, OperationKind, Severity, Vm, VmState
from pvc.core.observers import VmChange, VmEvent
from pvc.core.plugins import PluginFailed, PluginProblem, Plugins, installed, ordered
from pvc.core.storage import HypervisorSecret
from pvc.core.turns import Entered, Progress, Refused, Turn
from pvc.testing.coordinator import FakeEnsemble
from pvc.testing.runtime import World

log = logging.getLogger("test.plugins")

VM = Vm("8b1a5e0c-7a1f-4a54-9d0e-1f2f6f1b0a01", "web", VmState.RUNNING, "hv1", 128, 1)
EVENT = VmEvent(VmChange.STARTED, VM.uuid, VM.name)
OPERATION = Operation("o1", OperationKind.FLUSH, "hv1", "tester", 0.0)


def surroundings(plugins: Plugins) -> Context:
    """A node's context on simulated time."""
    process = World().process("hv1")
    ensemble = FakeEnsemble(process)
    return Context(
        node="hv1",
        config_now=lambda: Config(node="hv1"),
        runtime=process,
        coordinator=ensemble.connect("hv1"),
        connect=ensemble.connect,
        log=log,
        plugins=plugins,
        operations_wake=process.signal(),
        registered=lambda: True,
        refresh_facts=lambda: None,
    )


def loaded(**plugins: object) -> Plugins:
    """Plugins with these objects loaded and bound."""
    made = Plugins(log)
    made.load(list(plugins), plugins)
    made.bind(surroundings(made))
    return made


@dataclass
class Part:
    """A service, gate, step or sink: only name and order count here."""

    name: str
    after: tuple[str, ...] = ()
    wake: Any = None
    exclusive: bool = False

    def step(self) -> float:
        return 1.0

    def stop(self) -> None: ...

    def write(self, vm: object, records: object) -> None: ...

    def close(self) -> None: ...

    def enter(self, operation: Operation) -> Entered:
        return Entered()

    def foresee(self, operation: Operation) -> Any:
        return Forecast()

    def guard(self, operation: Operation) -> Sequence[Any]:
        return []

    def leave(self, operation: Operation) -> None: ...

    def vacate(self, turn: Turn) -> Progress:
        return Progress(finished=True)

    def restore(self, turn: Turn) -> Progress:
        return Progress(finished=True)


class Observer:
    def __init__(self, error: Exception | None = None) -> None:
        self.seen: list[VmEvent] = []
        self._error = error

    def vm_changed(self, event: VmEvent) -> None:
        self.seen.append(event)
        if self._error:
            raise self._error


class Everything:
    """Implements every hook; `fails` makes each of them raise, but for those that it is left out for."""

    def __init__(self, mark: str = "a", fails: bool = False, parts: Sequence[Part] = ()) -> None:
        self.mark = mark
        self.fails = fails
        self.parts = list(parts) or [Part(mark)]
        self.observer = Observer()
        self.commands: list[object] = []

    def _say(self, answer: Any) -> Any:
        if self.fails:
            raise ValueError(f"{self.mark} fails on purpose")
        return answer

    @hookimpl
    def pvc_declaration(self) -> Declaration:
        return Declaration(needs=(self.mark,))

    @hookimpl
    def pvc_config_schema(self) -> Mapping[str, Any]:
        return {self.mark: {"type": "string"}}

    @hookimpl
    def pvc_services(self, context: Context) -> Sequence[Any]:
        return cast(Sequence[Any], self._say(self.parts))

    @hookimpl
    def pvc_flush_gates(self, context: Context) -> Sequence[Any]:
        return cast(Sequence[Any], self._say(self.parts))

    @hookimpl
    def pvc_flush_steps(self, context: Context) -> Sequence[Any]:
        return cast(Sequence[Any], self._say(self.parts))

    @hookimpl
    def pvc_vm_observers(self, context: Context) -> Sequence[Any]:
        return cast(Sequence[Any], self._say([self.observer]))

    @hookimpl
    def pvc_vm_definition(self, context: Context, vm: Vm, xml: str) -> str | None:
        return cast(str, self._say(f"{xml}{self.mark}"))

    @hookimpl
    def pvc_vm_needs(self, xml: str, nodes: Mapping[str, NodeFacts]) -> Sequence[str]:
        return cast(Sequence[str], self._say([self.mark, *nodes]))

    @hookimpl
    def pvc_placement(self, context: Context, vm: Vm, nodes: Sequence[str]) -> Mapping[str, Verdict]:
        return cast(Mapping[str, Verdict], self._say({node: Verdict(score=1.0) for node in nodes}))

    @hookimpl
    def pvc_node_facts(self, context: Context) -> Mapping[str, Any]:
        return cast(Mapping[str, Any], self._say({self.mark: context.node, "shared": self.mark}))

    @hookimpl
    def pvc_health(self, context: Context) -> Sequence[Finding]:
        return cast(Sequence[Finding], self._say([Finding(self.mark, Severity.OK, "fine")]))

    @hookimpl
    def pvc_console_sinks(self, context: Context) -> Sequence[Any]:
        return cast(Sequence[Any], self._say(self.parts))

    @hookimpl
    def pvc_storage_backends(self, context: Context) -> Mapping[str, Any]:
        return cast(Mapping[str, Any], self._say({"tape": self.mark, self.mark: self.mark}))

    @hookimpl
    def pvc_hypervisor_secrets(self, context: Context) -> Sequence[HypervisorSecret]:
        return cast(Sequence[HypervisorSecret], self._say([HypervisorSecret(self.mark, "ceph", "", b"key")]))

    @hookimpl
    def pvc_commands(self, cli: CommandLine) -> None:
        self.commands.append(cli)
        self._say(None)


def names(things: Sequence[Any]) -> list[str]:
    return [thing.name for thing in things]


def saying(hook: str, answer: object) -> ModuleType:
    """A plugin with one hook that answers so; an exception is raised."""

    def implementation() -> object:
        if isinstance(answer, BaseException):
            raise answer
        return answer

    plugin = ModuleType("third_party")
    setattr(plugin, hook, hookimpl(implementation))
    return plugin


def refusal(gate: Any) -> str:
    answer = gate.enter(OPERATION)
    assert isinstance(answer, Refused)
    return answer.why


# One test for each hook: what it is called with, that all answers arrive, and what a plugin that fails does to them.


def test_hook_pvc_declaration() -> None:
    plugins = loaded(one=Everything("a"), silent=object())
    assert plugins.declarations() == {"one": Declaration(needs=("a",)), "silent": Declaration()}
    plugins = loaded(good=Everything("a"), bad=saying("pvc_declaration", ValueError("b fails on purpose")))
    assert plugins.declarations() == {"good": Declaration(needs=("a",))}
    assert [status.last_error for status in plugins.left_out()] == ["loading: pvc_declaration: b fails on purpose"]


def test_hook_pvc_config_schema() -> None:
    plugins = loaded(one=Everything("a"), two=Everything("b"))
    assert plugins.schemas() == {"one": {"a": {"type": "string"}}, "two": {"b": {"type": "string"}}}
    plugins = loaded(good=Everything("a"), bad=saying("pvc_config_schema", ValueError("b fails on purpose")))
    assert list(plugins.schemas()) == ["good"]
    assert ["b fails on purpose" in status.last_error for status in plugins.left_out()] == [True]


def test_hook_pvc_services() -> None:
    one = Everything(parts=[Part("late", after=("early",))])
    two = Everything(parts=[Part("early")])
    assert names(loaded(one=one, bad=Everything(fails=True), two=two).services()) == ["early", "late"]


def test_hook_pvc_flush_gates() -> None:
    closed, *gates = loaded(one=Everything("a"), two=Everything("b")).gates()
    assert (closed.enter(OPERATION), names(gates)) == (Entered(), ["a", "b"])
    closed, *gates = loaded(one=Everything("a"), bad=Everything("b", fails=True)).gates()
    assert names(gates) == ["a"]
    assert refusal(closed).startswith("plugin bad is switched on and cannot take part: pvc_flush_gates: b fails on pur")


def test_hook_pvc_flush_steps() -> None:
    one = Everything(parts=[Part("vms", after=("gateways",))])
    two = Everything(parts=[Part("gateways")])
    assert names(loaded(one=one, two=two).steps()) == ["gateways", "vms"]
    plugins = loaded(one=Everything("a"), bad=saying("pvc_flush_steps", ValueError("on purpose")))
    closed, *_ = plugins.gates()
    assert names(plugins.steps()) == ["a"]
    assert "pvc_flush_steps: on purpose" in refusal(closed)  # "flushed" must not be said without it


def test_hook_pvc_vm_observers() -> None:
    one, two = Everything("a"), Everything("b")
    one.observer = Observer(ValueError("on purpose"))
    plugins = loaded(one=one, bad=Everything(fails=True), two=two)
    plugins.vm_changed(EVENT)
    assert (one.observer.seen, two.observer.seen) == ([EVENT], [EVENT])
    assert [(status.name, status.failures) for status in plugins.status()] == [("one", 1), ("bad", 1), ("two", 0)]


def test_hook_pvc_vm_definition() -> None:
    assert loaded(one=Everything("a"), two=Everything("b")).vm_definition(VM, "<x/>") == "<x/>ab"
    with pytest.raises(PluginFailed, match="plugin bad failed in pvc_vm_definition"):
        loaded(one=Everything("a"), bad=Everything(fails=True)).vm_definition(VM, "<x/>")


def test_hook_pvc_vm_needs() -> None:
    plugins = Plugins(log)  # asked by the client, which has no context
    plugins.load(["one", "bad"], {"one": Everything("a"), "bad": Everything(fails=True)})
    assert plugins.vm_needs("one", "<domain/>", {"hv1": NodeFacts()}) == ("a", "hv1")
    assert plugins.vm_needs("absent", "<domain/>", {}) == ()
    with pytest.raises(PluginFailed, match="plugin bad failed in pvc_vm_needs"):
        plugins.vm_needs("bad", "<domain/>", {})


def test_a_plugin_that_cannot_reach_the_cluster_has_not_failed() -> None:
    class Asks:
        @hookimpl
        def pvc_placement(self) -> Mapping[str, Verdict]:
            raise Disconnected("no server answers")

    plugins = loaded(asks=Asks())
    with pytest.raises(Disconnected):
        plugins.placement(VM, ("hv1",))
    assert plugins.findings() == []


def test_hook_pvc_placement() -> None:
    class Veto:
        @hookimpl
        def pvc_placement(self, nodes: Sequence[str]) -> Mapping[str, Verdict]:
            return {"hv2": Verdict("no such network", -5.0)}

    plugins = loaded(one=Everything(), veto=Veto(), bad=Everything(fails=True), two=Everything())
    assert plugins.placement(VM, ("hv1", "hv2")) == {
        "hv1": Verdict("", 2.0),
        "hv2": Verdict("no such network (veto)", -3.0),
    }


def test_hook_pvc_node_facts() -> None:
    plugins = loaded(one=Everything("a"), bad=Everything(fails=True), two=Everything("b"))
    assert plugins.facts() == {"a": "hv1", "b": "hv1", "shared": "b"}


def test_hook_pvc_health() -> None:
    plugins = loaded(one=Everything("a"), bad=Everything("b", fails=True))
    findings = plugins.health()
    assert findings[0] == Finding("a", Severity.OK, "fine")
    assert (findings[1].source, findings[1].severity) == ("plugin bad", Severity.WARNING)
    assert "b fails on purpose" in findings[1].text


def test_hook_pvc_console_sinks() -> None:
    plugins = loaded(one=Everything("a"), bad=Everything(fails=True), two=Everything("b"))
    assert names(plugins.console_sinks()) == ["a", "b"]
    assert [finding.source for finding in plugins.findings()] == ["plugin bad"]


def test_hook_pvc_storage_backends() -> None:
    plugins = loaded(one=Everything("a"), bad=Everything(fails=True), two=Everything("b"))
    assert cast(Mapping[str, Any], plugins.storage_backends()) == {"tape": "a", "a": "a", "b": "b"}
    assert [finding.source for finding in plugins.findings()] == ["plugin bad"]


def test_hook_pvc_hypervisor_secrets() -> None:
    plugins = loaded(one=Everything("a"), bad=Everything(fails=True), two=Everything("b"))
    assert [secret.uuid for secret in plugins.hypervisor_secrets()] == ["a", "b"]
    assert [finding.source for finding in plugins.findings()] == ["plugin bad"]
    assert "key" not in repr(plugins.hypervisor_secrets())


def test_hook_pvc_commands() -> None:
    one, two = Everything("a"), Everything("b")
    cli = cast(CommandLine, object())
    plugins = loaded(one=one, bad=Everything(fails=True), two=two)
    plugins.commands(cli)
    assert (one.commands, two.commands) == ([cli], [cli])
    assert [finding.source for finding in plugins.findings()] == ["plugin bad"]


def test_every_hook_has_a_test_and_an_example() -> None:
    hooks = {name for name in vars(hookspecs.Hooks) if name.startswith("pvc_")}
    assert {f"test_hook_{hook}" for hook in hooks} <= set(globals())
    assert hooks <= set(vars(Everything))


# Failure is contained.


@pytest.mark.parametrize(
    ("hook", "ask", "answer"),
    [
        ("pvc_services", Plugins.services, Part("not a list")),
        ("pvc_services", Plugins.services, ["no service"]),
        ("pvc_flush_gates", Plugins.gates, [object()]),
        ("pvc_flush_steps", Plugins.steps, "text"),
        ("pvc_health", Plugins.health, 7),
        ("pvc_health", Plugins.health, ["all is well"]),
        ("pvc_node_facts", Plugins.facts, "text"),
        ("pvc_node_facts", Plugins.facts, {"memory": "much"}),
        ("pvc_node_facts", Plugins.facts, {7: "seven"}),
        ("pvc_placement", lambda plugins: plugins.placement(VM, ("hv1",)), ["hv1"]),
        ("pvc_placement", lambda plugins: plugins.placement(VM, ("hv1",)), {"hv1": 1.0}),
        ("pvc_vm_observers", Plugins.health, [print]),
        ("pvc_console_sinks", Plugins.console_sinks, [object()]),
        ("pvc_storage_backends", Plugins.storage_backends, [object()]),
        ("pvc_hypervisor_secrets", Plugins.hypervisor_secrets, ["open sesame"]),
    ],
)
def test_an_answer_of_the_wrong_kind_is_the_plugins_failure(
    hook: str, ask: Callable[[Plugins], object], answer: object
) -> None:
    plugins = loaded(wrong=saying(hook, answer), good=Everything("a"))
    assert ask(plugins)
    assert [(status.name, status.failures) for status in plugins.status()] == [("wrong", 1), ("good", 0)]


def test_failures_are_counted_and_logged_with_their_origin(caplog: pytest.LogCaptureFixture) -> None:
    plugins = loaded(bad=Everything("b", fails=True))
    for _ in range(3):
        plugins.facts()
    (status,) = plugins.status()
    assert status.failures == 4  # the observers were asked for by bind()
    assert status.last_error == "pvc_node_facts: b fails on purpose"
    assert "plugin bad failed in pvc_node_facts: b fails on purpose" in caplog.text


def test_nothing_but_schemas_and_commands_can_be_asked_for_before_bind() -> None:
    plugins = Plugins(log)
    plugins.load(["one"], {"one": Everything()})
    assert plugins.schemas()
    with pytest.raises(RuntimeError, match="bind"):
        plugins.services()


# Order.


def test_parts_are_ordered_by_after_and_absent_names_do_not_count() -> None:
    parts = [Part("c", ("b",)), Part("b", ("a", "nobody")), Part("a")]
    assert names(ordered(parts)) == ["a", "b", "c"]


def test_parts_that_wait_for_each_other_are_refused_by_name() -> None:
    with pytest.raises(PluginProblem, match=r"circle.*a"):
        ordered([Part("a", ("b",)), Part("b", ("a",))])


def test_two_parts_of_one_name_are_refused_rather_than_one_dropped() -> None:
    with pytest.raises(PluginProblem, match=r"same name.*vms"):
        ordered([Part("vms"), Part("other"), Part("vms")])


# Loading.


@pytest.mark.parametrize("name", ["hypervisor", "networking", "storage", "flushlock", "consolelog"])
def test_a_built_in_is_loaded_by_its_entry_point(name: str) -> None:
    plugins = Plugins(log)
    plugins.load([name])
    (status,) = plugins.status()
    assert status.origin.startswith(f"pvc.plugins.{name}.plugin:")
    assert "pvc_config_schema" in status.hooks
    assert list(plugins.schemas()) == [name]
    assert status.declaration.summary


def test_a_plugin_that_is_not_installed_is_an_error_that_lists_what_is() -> None:
    with pytest.raises(PluginProblem, match=r"plugin flushlok is not installed.*consolelog, flushlock, hypervisor"):
        Plugins(log).load(["flushlok"])


def test_a_plugin_with_a_hook_that_does_not_exist_is_left_out() -> None:
    class Misspelt:
        @hookimpl
        def pvc_flush_gate(self) -> None: ...

    (status,) = loaded(misspelt=Misspelt()).left_out()
    assert "plugin misspelt implements a hook that does not exist" in status.last_error
    assert "pvc_flush_gate" in status.last_error


@dataclass
class Shop:
    """Installs third-party plugins for one test."""

    directory: Path

    def install(self, name: str, source: str, what: str = "", plugin: str = "") -> None:
        module = f"third_party_{name}"
        (self.directory / f"{module}.py").write_text(source)
        info = self.directory / f"{module}-2.5.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 2.5\n")
        (info / "entry_points.txt").write_text(f"[{hookspecs.GROUP}]\n{plugin or name} = {module}{what}\n")


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    monkeypatch.syspath_prepend(str(tmp_path))
    return Shop(tmp_path)


FACTS = """
from pvc.core.hookspecs import hookimpl

@hookimpl
def pvc_node_facts():
    return {"colour": "green"}
"""

CLASS = """
from pvc.core.hookspecs import hookimpl

class Plugin:
    made = 0
    def __init__(self):
        Plugin.made += 1
        self.number = Plugin.made

    @hookimpl
    def pvc_node_facts(self):
        return {"number": self.number}
"""


def bound(*names: str) -> Plugins:
    plugins = Plugins(log)
    plugins.load(names)
    plugins.bind(surroundings(plugins))
    return plugins


def test_a_third_partys_module_is_loaded_with_its_version(shop: Shop) -> None:
    shop.install("lamp", FACTS)
    plugins = bound("lamp")
    assert plugins.facts() == {"colour": "green"}
    assert [(status.name, status.version, status.hooks) for status in plugins.status()] == [
        ("lamp", "2.5", ("pvc_node_facts",))
    ]


def test_a_class_is_made_anew_for_each_daemon(shop: Shop) -> None:
    shop.install("lamps", CLASS, ":Plugin")
    assert [bound("lamps").facts(), bound("lamps").facts()] == [{"number": "1"}, {"number": "2"}]


def test_an_installed_plugin_that_is_not_named_is_not_imported(shop: Shop) -> None:
    shop.install("dark", "raise SystemError('must not be imported')")
    bound("flushlock")
    assert "dark" in installed()
    assert "third_party_dark" not in sys.modules


@pytest.mark.parametrize(
    ("name", "source", "why"),
    [
        ("lacking", "import does_not_exist_at_all", "No module named 'does_not_exist_at_all'"),
        ("angry", "raise ValueError('on purpose')", "on purpose"),
        ("illiterate", "def broken(:", "invalid syntax"),
        ("leaving", "raise SystemExit(3)", "SystemExit(3)"),
        ("breaking", "raise KeyboardInterrupt", "KeyboardInterrupt()"),
    ],
)
def test_a_plugin_whose_import_fails_is_left_out_and_shown_and_closes_the_gate(
    shop: Shop, name: str, source: str, why: str
) -> None:
    shop.install(name, source)
    plugins = bound(name, "lab")
    assert [status.name for status in plugins.status()] == ["lab"]
    (status,) = plugins.left_out()
    assert (status.version, status.distribution) == ("2.5", f"third_party_{name}")
    (finding,) = plugins.findings()
    assert (finding.source, finding.severity) == (f"plugin {name}", Severity.CRITICAL)
    assert why in finding.text
    assert f"set plugins.{name}: false" in finding.text
    assert why in refusal(plugins.gates()[0])


def test_a_built_in_that_cannot_be_loaded_stops_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pvc.plugins.flushlock.plugin", None)
    with pytest.raises(PluginProblem, match="plugin flushlock cannot be loaded"):
        Plugins(log).load(["flushlock"])


def test_a_class_that_cannot_be_made_is_left_out(shop: Shop) -> None:
    shop.install("needy", "class Plugin:\n    def __init__(self, needs):\n        pass\n", ":Plugin")
    (status,) = bound("needy").left_out()
    assert "plugin needy cannot be loaded" in status.last_error


def test_a_name_that_two_distributions_offer_is_left_out_and_both_are_named(shop: Shop) -> None:
    shop.install("twin", FACTS)
    shop.install("other", FACTS, plugin="twin")
    (status,) = bound("twin").left_out()
    assert "third_party_other, third_party_twin" in status.last_error


def test_nobody_takes_the_place_of_a_built_in(shop: Shop) -> None:
    shop.install("usurper", FACTS, plugin="flushlock")
    (status,) = bound("flushlock").status()
    assert status.built_in
    assert status.origin.startswith("pvc.plugins.flushlock")


# Watching hook calls.


def test_every_hook_call_is_logged_if_asked_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PVC_TRACE_HOOKS", "1")
    with caplog.at_level(logging.INFO):
        loaded(one=Everything()).facts()
    assert any(message.startswith("hook pvc_node_facts") for message in caplog.messages)


def test_no_hook_call_is_logged_otherwise(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.delenv("PVC_TRACE_HOOKS", raising=False)
    with caplog.at_level(logging.INFO):
        loaded(one=Everything()).facts()
    assert caplog.messages == []
